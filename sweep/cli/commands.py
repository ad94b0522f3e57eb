"""The parser and all commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import typer
from typer.exceptions import TyperException

from sweep.cli.inspect import init, inspect
from sweep.cli.plan import plan
from sweep.cli.report import compare, report_command, view
from sweep.cli.run import run_command
from sweep.cli.sandbox import sandbox
from sweep.cli.sheet import sheet
from sweep.cli.status import status_command
from sweep.cli.stop import cancel, stop
from sweep.cli.study import study_command
from sweep.cli.table import table
from sweep.cli.verify import verify
from sweep.errors import UsageError
from sweep.version import VERSION


def schema() -> None:
    """Print the JSON Schema of experiment files."""
    import json

    from sweep.cli.console import say
    from sweep.experiment import experiment_schema

    say(json.dumps(experiment_schema(), indent=2, ensure_ascii=False))


COMMANDS: Final[Mapping[str, Callable[..., Any]]] = {
    "run": run_command,
    "plan": plan,
    "status": status_command,
    "table": table,
    "study": study_command,
    "report": report_command,
    "view": view,
    "compare": compare,
    "sheet": sheet,
    "stop": stop,
    "cancel": cancel,
    "verify": verify,
    "inspect": inspect,
    "init": init,
    "sandbox": sandbox,
    "schema": schema,
}


EXIT_CODES: Final = (
    "Exit codes: 0 all completed, 1 some variations failed, 2 bad definition or usage, 3 no usable server, "
    "4 the record could not be written, 130 interrupted."
)


def command_line() -> typer.Typer:
    """All of `sweep`."""
    line = typer.Typer(
        name="sweep",
        help="Run variation sweeps on image-generation servers, and see what each parameter does.",
        epilog=EXIT_CODES,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, command in COMMANDS.items():
        line.command(name)(command)
    line.callback(invoke_without_command=True)(_version)
    return line


def _version(
    version: bool = typer.Option(False, "--version", is_eager=True, help="Print the version and leave."),
) -> None:
    if version:
        typer.echo(f"sweep {VERSION}")
        raise typer.Exit


def misused(error: TyperException) -> UsageError:
    """What the parser found wrong, as our own error."""
    context = getattr(error, "ctx", None)
    command = "sweep" if context is None or context.parent is None else f"sweep {context.info_name}"
    said = error.format_message().replace("Value error, ", "")
    said = re.sub(r" \(Possible options: ([^,)]+).*\)", r". Did you mean \1?", said)
    return UsageError(said, hint=f"{command} --help tells what it takes.")
