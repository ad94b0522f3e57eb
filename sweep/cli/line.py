"""The command line as a whole: every command, in the order a newcomer needs them."""

from __future__ import annotations

import re
from typing import Final

import typer
from typer.exceptions import TyperException

from sweep.cli import commands
from sweep.errors import UsageError
from sweep.version import VERSION

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
    for command in commands.ALL:
        line.command()(command)
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
