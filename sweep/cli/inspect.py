"""Sweep inspect, init."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from sweep.cli import options as shared
from sweep.cli.console import columns, fill_lines
from sweep.text import format_count, truncate

if TYPE_CHECKING:
    from sweep.servers import Server
    from sweep.workflow import Description, Graph, InspectionRow, Model, Names, NodeSchemas, Target, Workflow


_VALUE: Final = 48  # characters of a value
_LABEL: Final = 20  # columns before what a role or note is about
_SENTENCES: Final = ("", "note", "problem")


def description_lines(description: Description, graph: Graph, file: str) -> Iterator[str]:
    """The whole page; nodes are called as an experiment may call them."""
    from sweep.workflow import Names, readable

    names = Names(graph)
    count = len({row.address.node for row in description.rows})
    yield f"{description.name or file}  ({description.kind}, {format_count(count, 'node')})"
    for node, rows in groupby(description.rows, lambda row: row.address.node):
        yield ""
        yield from _node(names, node, list(rows), graph)
    yield ""
    for label, text in _summary(description):
        yield from _folded(label, readable(graph, text))


def _node(names: Names, node: str, rows: Sequence[InspectionRow], graph: Graph) -> Iterator[str]:
    from sweep.workflow import readable

    called = names.called(node)
    own = [rows[0].node_type, rows[0].node_label, node]
    yield "  ".join([called, *(word for word in dict.fromkeys(own) if word and word != called)])
    width = max(len(row.address.field) for row in rows)
    values = [truncate(" ".join(readable(graph, row.shown).split()), _VALUE) for row in rows]
    room = max(map(len, values))
    for row, value in zip(rows, values, strict=True):
        about = " ".join(filter(None, (row.kind, row.range)))
        label = f'  "{row.field_label}"' if row.field_label else ""
        role = f"  [{', '.join(row.roles)}]" if row.roles else ""
        yield f"  {row.address.field:<{width}}  {value:<{room}}  {about}{label}{role}".rstrip()


def _summary(description: Description) -> Iterator[tuple[str, str]]:
    from sweep.workflow import STACKED

    roles = description.roles
    for role, targets in sorted(roles.targets.items()):
        yield (role, " · ".join(target.sets(role) for target in targets))
    for role, groups in sorted(roles.ambiguous.items()):
        for number, group in enumerate(groups, start=1):
            yield (f"{role}_{number}", _group(f"{role}_{number}", group))
    several = sorted(roles.ambiguous)
    if all_set := [role for role in several if role in STACKED]:
        yield ("", f"{', '.join(all_set)} without a number: all of them.")
    if unsettled := [role for role in several if role not in STACKED]:
        yield ("", f"{', '.join(unsettled)} without a number: choose which under roles: in the experiment.")
    yield ("outputs", ", ".join(description.outputs) or "none")
    for name, count in description.batches:
        yield ("batch", f"{name}: {count} values")
    if description.needs:
        set_by = {row.address: row for row in description.rows}
        yield ("needs", " · ".join(_need(set_by[address]) for address in description.needs))
    for label, texts in (("note", description.notes), ("problem", description.problems)):
        yield from ((label, text) for text in texts)


def _group(role: str, group: Sequence[Target]) -> str:
    return " · ".join(target.sets(role) for target in group)


def _need(row: InspectionRow) -> str:
    """A field that has to be filled in: by its role, where it has one, and what it takes."""
    kind = {"ImageField": "an image"}.get(row.kind, row.kind)
    return f"{row.roles[0] if row.roles else row.address} ({kind})"


def _folded(label: str, text: str) -> Iterator[str]:
    """A label and its text; what is wider than the terminal is broken between its parts, or else between words."""
    first, *rest = text.split(" · ")
    head = f"  {label:<{_LABEL - 2}} "
    if not rest:
        yield from fill_lines(first, first=head, rest=" " * len(head)) if label in _SENTENCES else (head + first,)
        return
    line = head + first
    for part in rest:
        if len(line) + 3 + len(part) > columns():
            yield line
            line = " " * len(head) + part
        else:
            line += f" · {part}"
    yield line


WorkflowFile: TypeAlias = Annotated[
    Path,
    typer.Argument(
        help="An editor export, an API graph, or an image that holds one.", show_default=False, metavar="WORKFLOW"
    ),
]
Base: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Base of the main model, where the file does not name real node types: sd-1, sdxl, flux.", metavar="BASE"
    ),
]


def inspect(
    workflow: WorkflowFile,
    server: shared.Servers = None,
    base: Base = "sd-1",
    as_json: Annotated[bool, typer.Option("--json", help="One object with nodes, roles and outputs.")] = False,
    ca_file: shared.CaFile = None,
    credentials: shared.CredentialsOption = None,
) -> None:
    """Show what can be swept in a workflow.

    Its nodes, fields, roles and outputs. With --server its own node types are asked;
    without, those of InvokeAI 6.14.2 are taken.
    """
    from sweep.cli.console import say
    from sweep.cli.servers import Access
    from sweep.workflow import describe

    loaded = _loaded(workflow, base)
    description = describe(loaded, _has(Access.of(server, ca_file, credentials).clients()).schemas)
    if as_json:
        say(json.dumps(description.to_json(), ensure_ascii=False))
    else:
        for line in description_lines(description, loaded.graph, workflow.name):
            say(line)


def init(
    workflow: WorkflowFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The experiment file to write.", metavar="FILE")
    ] = Path("experiment.yaml"),
    image: Annotated[
        str,
        typer.Option(help="The image to start from, where the workflow wants one.", show_default=False, metavar="FILE"),
    ] = "",
    base: Base = "sd-1",
    server: shared.Servers = None,
    ca_file: shared.CaFile = None,
    credentials: shared.CredentialsOption = None,
) -> None:
    """Write a first experiment file for a workflow.

    With the roles that were found filled in, ready to run.
    """
    import os

    from sweep.cli.console import say
    from sweep.cli.servers import Access
    from sweep.errors import UsageError
    from sweep.workflow import PLACEHOLDER, ScaffoldContext, find_roles, starter

    if output.exists():
        raise UsageError(f"{output} is there already.", hint="Give another --output.")
    loaded = _loaded(workflow, base)
    has = _has(Access.of(server, ca_file, credentials).clients())
    roles = find_roles(loaded.graph, has.schemas)
    path = Path(os.path.relpath(workflow, output.parent)).as_posix()
    text = starter(loaded, roles, has.schemas, ScaffoldContext(path=path, image=image, models=has.models))
    output.write_text(text, encoding="utf-8")
    first = f" Put your own images in the place of {PLACEHOLDER} first." if PLACEHOLDER in text else ""
    say(f"{output} written.{first} sweep plan {output} shows what it would do.")


def _loaded(path: Path, base: str) -> Workflow:
    """The workflow in a file. Raises UsageError where there is none of that name, WorkflowError where it is wrong."""
    from sweep.errors import UsageError
    from sweep.experiment import did_you_mean_file
    from sweep.workflow import TEMPLATES, load_workflow

    if not path.exists():
        if str(path) in TEMPLATES:
            raise UsageError(f"{path} is a template, not a file.", hint=f"An experiment names it: workflow: {path}")
        raise UsageError(f"{path} does not exist.{did_you_mean_file(path)}")
    return load_workflow(path).for_base(base)


@dataclass(frozen=True, slots=True)
class _Has:
    """What there is to make images with."""

    schemas: NodeSchemas
    models: Sequence[Model] = ()


def _has(servers: Sequence[Server]) -> _Has:
    if not servers:
        from sweep.workflow import builtin_schemas

        return _Has(builtin_schemas())
    import anyio

    return anyio.run(_ask, servers[0])


async def _ask(server: Server) -> _Has:
    await server.open()
    try:
        return _Has(await server.schemas(), await server.models())
    finally:
        await server.aclose()
