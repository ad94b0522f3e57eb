"""`sweep inspect` and `sweep init`: what a workflow holds, and a first experiment for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from sweep.cli import options as shared

if TYPE_CHECKING:
    from sweep.servers.base import Server
    from sweep.workflow.loaded import Workflow
    from sweep.workflow.schemas import Model, NodeSchemas

WorkflowFile: TypeAlias = Annotated[
    Path,
    typer.Argument(
        help="An editor export, an API graph, or a picture that holds one.", show_default=False, metavar="WORKFLOW"
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
    credentials: shared.Credentials = None,
) -> None:
    """Show what can be swept in a workflow.

    Its nodes, fields, roles and outputs. With --server its own node types are asked;
    without, those of InvokeAI 6.14.2 are taken.
    """
    from sweep.cli.console import say
    from sweep.cli.serving import Access
    from sweep.workflow.inspection import describe

    loaded = _loaded(workflow, base)
    description = describe(loaded, _has(Access.of(server, ca_file, credentials).clients()).schemas)
    if as_json:
        say(json.dumps(description.to_json(), ensure_ascii=False))
    else:
        from sweep.cli.inspected import description_lines

        for line in description_lines(description, loaded.graph, workflow.name):
            say(line)


def init(
    workflow: WorkflowFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The experiment file to write.", metavar="FILE")
    ] = Path("experiment.yaml"),
    image: Annotated[
        str,
        typer.Option(
            help="The picture to start from, where the workflow wants one.", show_default=False, metavar="FILE"
        ),
    ] = "",
    base: Base = "sd-1",
    server: shared.Servers = None,
    ca_file: shared.CaFile = None,
    credentials: shared.Credentials = None,
) -> None:
    """Write a first experiment file for a workflow.

    With the roles that were found filled in, ready to run.
    """
    import os

    from sweep.cli.console import say
    from sweep.cli.serving import Access
    from sweep.errors import UsageError
    from sweep.workflow.roles import find_roles
    from sweep.workflow.starter import PLACEHOLDER, Around, starter

    if output.exists():
        raise UsageError(f"{output} is there already.", hint="Give another --output.")
    loaded = _loaded(workflow, base)
    has = _has(Access.of(server, ca_file, credentials).clients())
    roles = find_roles(loaded.graph, has.schemas)
    path = Path(os.path.relpath(workflow, output.parent)).as_posix()
    text = starter(loaded, roles, has.schemas, Around(path=path, image=image, models=has.models))
    output.write_text(text, encoding="utf-8")
    first = f" Put your own pictures in the place of {PLACEHOLDER} first." if PLACEHOLDER in text else ""
    say(f"{output} written.{first} sweep plan {output} shows what it would do.")


def _loaded(path: Path, base: str) -> Workflow:
    """The workflow in a file. Raises UsageError where there is none of that name, WorkflowError where it is wrong."""
    from sweep.errors import UsageError
    from sweep.experiment.files import did_you_mean_file
    from sweep.workflow.formats import load_workflow
    from sweep.workflow.templates import TEMPLATES

    if not path.exists():
        if str(path) in TEMPLATES:
            raise UsageError(f"{path} is a template, not a file.", hint=f"An experiment names it: workflow: {path}")
        raise UsageError(f"{path} does not exist.{did_you_mean_file(path)}")
    return load_workflow(path).for_base(base)


@dataclass(frozen=True, slots=True)
class _Has:
    """What there is to make pictures with."""

    schemas: NodeSchemas
    models: Sequence[Model] = ()


def _has(servers: Sequence[Server]) -> _Has:
    if not servers:
        from sweep.workflow.schemas import builtin_schemas

        return _Has(builtin_schemas())
    import anyio

    return anyio.run(_ask, servers[0])


async def _ask(server: Server) -> _Has:
    await server.open()
    try:
        return _Has(await server.schemas(), await server.models())
    finally:
        await server.aclose()
