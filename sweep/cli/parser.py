"""All commands, and the parser made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

from sweep.cli.change import clean, merge, rate, redo, rename, rm
from sweep.cli.inspect import init, inspect
from sweep.cli.plan import plan
from sweep.cli.report import compare, report_command, sheet, view
from sweep.cli.run import run_command
from sweep.cli.sandbox import sandbox
from sweep.cli.servers import worker, workers
from sweep.cli.status import cancel, status_command, stop
from sweep.cli.study import study_command
from sweep.cli.table import table
from sweep.cli.verify import check, verify
from sweep.errors import UsageError, did_you_mean
from sweep.text import escape_controls
from sweep.version import VERSION


def schema() -> None:
    """Print the JSON Schema of experiment files."""
    import json

    from sweep.cli.console import print_line
    from sweep.experiment import make_experiment_schema

    print_line(json.dumps(make_experiment_schema(), indent=2, ensure_ascii=False))


COMMANDS: Final[Mapping[str, Callable[..., Any]]] = {
    "run": run_command,
    "plan": plan,
    "status": status_command,
    "table": table,
    "study": study_command,
    "rate": rate,
    "report": report_command,
    "view": view,
    "compare": compare,
    "sheet": sheet,
    "stop": stop,
    "cancel": cancel,
    "redo": redo,
    "rename": rename,
    "rm": rm,
    "clean": clean,
    "check": check,
    "verify": verify,
    "merge": merge,
    "inspect": inspect,
    "init": init,
    "sandbox": sandbox,
    "worker": worker,
    "workers": workers,
    "schema": schema,
}


EXIT_CODES: Final = (
    "Exit codes: 0 everything completed; 1 some points failed; 2 the experiment or the command is wrong; "
    "3 no usable server; 4 the results could not be written; 130 interrupted."
)


class GroupedCommand(TyperCommand):
    """A command whose help lists options in groups: an option names its group with `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then options without a group, then each group."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if param.param_type_name == "argument" else "Options"
                groups.setdefault(getattr(param, "rich_help_panel", None) or kind, []).append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def command_line(typed: str | None = None) -> typer.Typer:
    """Build the parser of the command that was typed, or of all where it is none: each costs some milliseconds."""
    line = typer.Typer(
        name="sweep",
        help="Render a grid of settings on image-generation servers and measure what each setting changes.",
        epilog=EXIT_CODES,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, command in COMMANDS.items():
        if name == typed or typed not in COMMANDS:
            line.command(name, cls=GroupedCommand)(command)
    line.callback(invoke_without_command=True)(_version)
    return line


def _version(
    version: bool = typer.Option(False, "--version", is_eager=True, help="Print the version and exit."),
) -> None:
    if version:
        typer.echo(f"sweep {VERSION}")
        raise typer.Exit


def usage_error(error: TyperException) -> UsageError:
    """Turn the parser's error into ours."""
    context = getattr(error, "ctx", None)
    command = "sweep" if context is None or context.parent is None else f"sweep {context.info_name}"
    said = error.format_message().replace("Value error, ", "")
    unknown = getattr(error, "option_name", "") if said.startswith("No such option") else ""
    if unknown:
        known = [word for param in context.command.params for word in param.opts] if context is not None else ()
        said = f"There is no option {escape_controls(unknown)}.{did_you_mean(unknown, known)}"
    return UsageError(said, hint=f"See {command} --help.")
