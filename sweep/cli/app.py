"""The command `sweep`: one small file a command, errors as a sentence on stderr, the documented exit codes."""

from __future__ import annotations

import os
import sys

import typer
from typer.exceptions import TyperException

from sweep.cli import commands
from sweep.cli.console import complain
from sweep.errors import SweepError, UsageError
from sweep.version import VERSION

INTERRUPTED = 130


def app() -> typer.Typer:
    """The command line with every command in the order a newcomer needs them."""
    line = typer.Typer(
        name="sweep",
        help="Run variation sweeps on image-generation servers, and see what each parameter does.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
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


def main() -> None:
    """The console script. Ends the process with the documented exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and give its exit code."""
    try:
        answer = app()(arguments, prog_name="sweep", standalone_mode=False)
    except SweepError as error:
        complain(error)
        return error.exit_code
    except typer.Exit as exit_:
        return exit_.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except TyperException as error:
        usage = _usage(error)
        complain(usage)
        return usage.exit_code
    return int(answer or 0)


def _usage(error: TyperException) -> UsageError:
    """What the command-line parser found wrong, as our own error."""
    context = getattr(error, "ctx", None)
    command = "sweep" if context is None or context.parent is None else f"sweep {context.info_name}"
    return UsageError(error.format_message(), hint=f"{command} --help tells what it takes.")
