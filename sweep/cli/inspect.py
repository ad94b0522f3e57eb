"""`sweep inspect` and `sweep init`: show the settings of a workflow, and write a first experiment for it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import anyio
import typer

from sweep import engine
from sweep import workflow as graphs
from sweep.cli.console import (
    choose_text_width,
    fill_lines,
    join_parts,
    label_lines,
    print_error,
    print_json,
    print_line,
)
from sweep.cli.shared_options import (
    EXPERIMENT_ENDINGS,
    UNASKED,
    Access,
    AnswerPrinter,
    FamilyOption,
    check_utf8,
    make_scratch_folder,
    output_option,
)
from sweep.errors import DefinitionError, UsageError
from sweep.role_table import TEMPLATE_NAMES, describe_missing
from sweep.text import format_count, quote_argument, truncate

if TYPE_CHECKING:
    from sweep.servers import Server
    from sweep.workflow import Description, Graph, InspectionRow, Model, Names, NodeSchemas, Workflow


_VALUE: Final = 48  # characters of a value
_LABEL: Final = 18  # columns of the name of a role


def write_description(description: Description, graph: Graph, file: str) -> Iterator[str]:
    """Write nodes, fields, roles and outputs as lines. Nodes have the names that an experiment may use."""
    names = graphs.Names(graph)
    count = len({row.address.node for row in description.rows})
    yield f"{description.name or file}  ({description.kind}, {format_count(count, 'node')})"
    for node, rows in groupby(description.rows, lambda row: row.address.node):
        yield ""
        yield from _write_node(names, node, list(rows), graph)
    yield ""
    for label, text in _write_summary(description):
        yield from _wrap_parts(label, graphs.make_readable(graph, text))


def _write_node(names: Names, node: str, rows: Sequence[InspectionRow], graph: Graph) -> Iterator[str]:
    called = names.name_node(node)
    own = [rows[0].node_type, rows[0].node_label, node]
    yield "  ".join([called, *(word for word in dict.fromkeys(own) if word and word != called)])
    width = max(len(row.address.field) for row in rows)
    values = [truncate(" ".join(graphs.make_readable(graph, row.shown).split()), _VALUE) for row in rows]
    room = max(map(len, values))
    for row, value in zip(rows, values, strict=True):
        about = " ".join(filter(None, (row.kind, row.range)))
        label = f'  "{row.field_label}"' if row.field_label else ""
        role = f"  [{', '.join(row.roles)}]" if row.roles else ""
        yield f"  {row.address.field:<{width}}  {value:<{room}}  {about}{label}{role}".rstrip()


def _write_summary(description: Description) -> Iterator[tuple[str, str]]:
    roles = description.roles
    for role in (*sorted(roles.targets), *sorted(roles.ambiguous)):
        for name, group in roles.numbered(role):
            yield (name, " · ".join(target.sets(name) for target in group))
    several = sorted(roles.ambiguous)
    if all_set := [role for role in several if role in graphs.STACKED]:
        yield ("", f"{', '.join(all_set)} without a number: all of them.")
    if unsettled := [role for role in several if role not in graphs.STACKED]:
        yield ("", f"{', '.join(unsettled)} without a number: choose which under roles: in the experiment.")
    yield ("outputs", ", ".join(description.outputs) or "none")
    for name, count in description.batches:
        yield ("batch", f"{name}: {count} values")
    if description.needs:
        set_by = {row.address: row for row in description.rows}
        rows = (set_by[address] for address in description.needs)
        kinds = {"ImageField": "an image"}
        needs = (f"{row.roles[0] if row.roles else row.address} ({kinds.get(row.kind, row.kind)})" for row in rows)
        yield ("needs", " · ".join(needs))
    for label, texts in (("note", description.notes), ("problem", description.problems)):
        yield from ((label, text) for text in texts)


def _wrap_parts(label: str, text: str) -> list[str]:
    """Wrap text beside a label: between its parts if it has several, or else between words."""
    parts, width = text.split(" · "), choose_text_width() - _LABEL - 3
    is_sentence = len(parts) == 1 and label in ("", "note", "problem")
    lines = fill_lines(text, width=width) if is_sentence else join_parts(parts, " · ", width)
    return label_lines(label, lines, _LABEL)


Base: TypeAlias = Annotated[
    str, typer.Option(help="Base of the main model, for portable workflows: sd-1, sdxl or flux.", metavar="BASE")
]


def inspect_command(
    workflow: Annotated[Path, typer.Argument(metavar="WORKFLOW")],
    access: Access,
    base: Base = "sd-1",
    family: FamilyOption = "",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Show which settings of a workflow an experiment can vary.

    Lists its nodes, fields, roles and outputs. With --server, uses the node types of that server; without, those
    packaged with sweep.

    Args:
        workflow: An editor export, an API graph, an image that contains one, or library:NAME with --server.
        as_json: Print one JSON object with nodes, roles and outputs.
    """
    loaded, has = _load(workflow, base, family, access.make_clients())
    description = graphs.describe(loaded, has.schemas)
    description = replace(description, problems=(*description.problems, *has.lacking))
    if as_json:
        print_json(description.to_json())
    else:
        for line in write_description(description, loaded.graph, workflow.name):
            print_line(line)
        if description.problems and not access.addresses:
            print_line(UNASKED)


def init(
    access: Access,
    printer: AnswerPrinter,
    workflow: Annotated[Path | None, typer.Argument(metavar="WORKFLOW")] = None,
    output: Annotated[Path, output_option()] = Path("experiment.yaml"),
    image: Annotated[str, typer.Option(metavar="FILE")] = "",
    base: Base = "sd-1",
    family: FamilyOption = "",
) -> None:
    """Write a first experiment file for a workflow.

    The file lists every role that was found, with its value in the workflow, and is ready to run. Without a workflow,
    or with a built-in one (txt2img, img2img …), asks a few questions in the terminal.

    Args:
        workflow: A built-in workflow, an editor export, an API graph, an image that contains one, or library:NAME with
            --server. Without it, sweep asks.
        output: The experiment file to write.
        image: The source image, if the workflow needs one.
    """
    if output.exists():
        raise UsageError(f"{output} exists already.", hint="Choose another --output.")
    check_utf8("--image", [image])
    if workflow is None or str(workflow) in TEMPLATE_NAMES:
        text, first = _ask_for_experiment(workflow, image, output), ""
    else:
        text = _write_starter(workflow, image, output, *_load(workflow, base, family, access.make_clients()))
        lines = enumerate(text.splitlines(), 1)
        found = [str(number) for number, line in lines if re.search(rf'[" ]{graphs.PLACEHOLDER}', line)]
        first = f" Write the path of your own image in line {' and line '.join(found)}." if found else ""
    output.write_text(text, encoding="utf-8")
    answer = {"schema": "sweep.init/1", "state": "incomplete" if first else "written", "file": output.as_posix()}
    printer.print(f"Wrote {output}.{first} sweep plan {quote_argument(output)} shows what it would do.", answer)


def _write_starter(workflow: Path, image: str, output: Path, loaded: Workflow, has: _ServerContents) -> str:
    from sweep.experiment import is_reference

    roles = graphs.find_roles(loaded.graph, has.schemas)
    there = is_reference(str(workflow))
    path = str(workflow) if there else Path(os.path.relpath(workflow, output.parent)).as_posix()
    folder = None if there else workflow.parent
    context = graphs.ScaffoldContext(path=path, folder=folder, image=image, models=has.models)
    return graphs.write_starter(loaded, roles, has.schemas, context)


_HEAD: Final = """\
# An experiment of sweep. sweep plan {file} shows its points, sweep run {file} renders them.
# After a change of this file, sweep run renders only the new points.
# inputs are the same for every image; axes vary, the first one slowest. Other axes to try:
#   variation: [oil painting, pencil drawing]     each text is appended to the prompt
#   cfg_scale: {{start: 2, stop: 14, num: 5}}
#   seed: {{start: 42, count: 4}}                   the same seeds for every combination
"""


def _ask_for_experiment(template: Path | None, image: str, output: Path) -> str:
    """Ask for a template, an image, a prompt and an axis, again if they are wrong, and return an experiment file.

    Raises UsageError without a terminal to ask in.
    """
    from sweep.experiment import Experiment, write_experiment

    if not sys.stdin.isatty():
        hint = (
            "Name a workflow file, or use sweep run img2img --image FILE --prompt TEXT --axis NAME=VALUES --save FILE."
        )
        raise UsageError("There is no terminal to ask in.", hint=hint)
    question, here = f"Workflow ({', '.join(TEMPLATE_NAMES)})", Path.cwd()
    while True:
        chosen = str(template) if template else typer.prompt(question, default="img2img")
        inputs = {"prompt": typer.prompt("Prompt")}
        if chosen != "txt2img":
            inputs["image"] = image or typer.prompt("Source image (a file)")
        first = "denoise_strength=0.2:0.8:0.2" if chosen == "img2img" else "cfg_scale=2:14:4"
        axis = typer.prompt("What to vary", default=first)
        seeds = typer.prompt("Seeds (more seeds, more certain results)", default="seed=1,2,3")
        write = partial(write_experiment, chosen, [axis, seeds], inputs, paths_from=here)
        try:
            Experiment.from_text(write(), here)
            return _HEAD.format(file=quote_argument(output)) + write(saved_in=output.parent)
        except DefinitionError as error:
            print_error(error)
            image = ""  # ask for it, too: the image may be what is wrong


def _load(path: Path, base: str, family: str, servers: Sequence[Server]) -> tuple[Workflow, _ServerContents]:
    """Load a workflow from a file or a server's library, and list the nodes and models of the server.

    Raises UsageError if the file does not exist or there is no server, WorkflowError if it is wrong.
    """
    from sweep.experiment import is_reference
    from sweep.sandbox import FAMILY

    if is_reference(reference := str(path)):
        if not servers or not reference.startswith("library:"):
            raise UsageError(f"{reference} is on a server.", hint="Write library:NAME, and --server URL.")
        path = anyio.run(engine.fetch_workflow, reference, servers[0], make_scratch_folder())
    if not path.exists():
        raise UsageError(describe_missing(str(path), path))
    if path.suffix.lower() in EXPERIMENT_ENDINGS:
        hint = f"If it is an experiment, sweep plan {quote_argument(path)} shows what it would do."
        raise UsageError(f"{path} is not a workflow.", hint=hint)
    loaded = graphs.load_workflow(path)
    schemas = None if servers else graphs.load_packaged_schemas(family or loaded.family or FAMILY)
    has = anyio.run(_ask, servers[0], loaded) if schemas is None else _ServerContents(schemas)
    return has.schemas.dialect.translate(loaded, has.schemas).for_base(base), has


@dataclass(frozen=True, slots=True)
class _ServerContents:
    """Node types and models of a server."""

    schemas: NodeSchemas
    models: Sequence[Model] = ()
    lacking: Sequence[str] = ()  # sentences about images that the workflow names and the server lacks


async def _ask(server: Server, loaded: Workflow) -> _ServerContents:
    await server.open()
    try:
        schemas = await server.schemas()
        graph = schemas.dialect.translate(loaded, schemas).graph
        lacking = await engine.list_lacking_images(server, graph, schemas.dialect)
        return _ServerContents(schemas, await server.models(), lacking)
    finally:
        await server.aclose()
