"""The parser of the command line: all commands, and groups of options."""

from __future__ import annotations

import functools
import inspect
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_origin, get_type_hints

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

from sweep.cli.console import print_line
from sweep.cli.housekeeping import cancel, clean, merge, redo, rename, rm, status_command, stop, verify
from sweep.cli.inspect import init, inspect_command
from sweep.cli.plan import plan
from sweep.cli.report import compare, report_command, sheet, view
from sweep.cli.run import run_command
from sweep.cli.servers import sandbox, worker, workers
from sweep.cli.study import rate, study_command
from sweep.cli.table import check, table
from sweep.errors import UsageError, did_you_mean
from sweep.text import escape_controls
from sweep.version import VERSION


def schema() -> None:
    """Print the JSON Schema of experiment files."""
    from sweep.experiment import make_experiment_schema

    print_line(json.dumps(make_experiment_schema(), indent=2, ensure_ascii=False))


_FUNCTIONS: Final[tuple[Callable[..., Any], ...]] = (
    *(run_command, plan, status_command, table, study_command, rate, report_command, view, compare, sheet),
    *(stop, cancel, redo, rename, rm, clean, check, verify, merge),
    *(inspect_command, init, sandbox, worker, workers, schema),
)
COMMANDS: Final = {function.__name__.removesuffix("_command"): function for function in _FUNCTIONS}


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
                record = (record[0].replace("<list[Path]>", "<path>"), record[1].replace("x>=", "at least "))
                groups.setdefault(getattr(param, "rich_help_panel", None) or kind, []).append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def expand_groups(command: Callable[..., Any]) -> Callable[..., Any]:
    """Replace each option group of a command by one parameter for each option, because typer knows no groups.

    A group is a parameter whose type is a dataclass. Its options are the fields that are annotated as such. An option
    that has no help of its own gets it from the docstring of its command or group.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}
    text, helps = split_docstring(command)
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _list_options(groups[name])
        else:
            parameters.append(_make_parameter(name, hints[name], parameter.default, helps))

    @functools.wraps(command)
    def call(**given: Any) -> Any:
        for name, group in groups.items():
            given[name] = group(**{option.name: given.pop(option.name) for option in _list_options(group)})
        return command(**given)

    call.__doc__ = text
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {}  # wraps copied them, and they name the groups
    return call


def _list_options(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    helps = {name: text for base in group.__mro__ for name, text in split_docstring(base)[1].items()}
    return [
        _make_parameter(
            field.name, hints[field.name], inspect.Parameter.empty if field.default is MISSING else field.default, helps
        )
        for field in fields(group)
        if get_origin(hints[field.name]) is Annotated
    ]


def _make_parameter(name: str, hint: Any, default: Any, helps: Mapping[str, str]) -> inspect.Parameter:
    (option,) = hint.__metadata__
    option.help = option.help or helps.get(name)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def split_docstring(command_or_group: object) -> tuple[str, dict[str, str]]:
    """Split a docstring in its text and the help of its options, which stands under Args or Attributes."""
    doc = command_or_group.__doc__ or ""
    text, *listed = re.split(r"\n\n(?:Args|Attributes):\n", inspect.cleandoc(doc))
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", "".join(listed), re.MULTILINE)
    return text, {name: re.sub(r"\s+", " ", entry) for name, entry in entries}


def command_line(typed: str | None = None) -> typer.Typer:
    """Build the parser of the typed command; of all commands if it is none of them. Each costs some milliseconds."""
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
            line.command(name, cls=GroupedCommand)(expand_groups(command))
    line.callback(invoke_without_command=True)(_version)
    return line


def _version(
    version: bool = typer.Option(False, "--version", is_eager=True, help="Print the version and exit."),
) -> None:
    if version:
        typer.echo(f"sweep {VERSION}")
        raise typer.Exit


_VALUE: Final = r"^Invalid value for '([^']+)'.*: Input should be "
_PLAIN: Final = (  # sentences of the parser, and ours
    (
        r"^Got unexpected extra argument.* \((.*)\)$",
        r'{called} does not take "\1": leave it out. (Put a text that contains spaces in quotes.)',
    ),
    (r"^sweep (?:report|study|table) does not take .*", r"\g<0> To compare two results folders, use sweep compare."),
    (r"^Missing (?:argument|option) '([^']+)'.*", r"{called} needs \1."),
    (r"^(sweep (?:run|plan)) needs FILE\.$", r"\1 needs a file. For example: \1 experiments/quickstart.yaml"),
    (r"^Option '([^']+)' requires an argument\.$", r"\1 needs a value."),
    (_VALUE + r"a valid integer.*", r"\1 must be a whole number"),
    (_VALUE + r"a valid number.*", r"\1 must be a number"),
    (_VALUE + r"greater than or equal to (\S+)$", r"\1 must be \2 or more"),
    (_VALUE + r"less than or equal to (\S+)$", r"\1 must be \2 or less"),
)


def usage_error(error: TyperException, words: Sequence[str]) -> UsageError:
    """Turn the parser's error about the typed words into ours."""
    from sweep.role_table import TEMPLATE_NAMES

    said = error.format_message().replace("Value error, ", "")
    called = f"sweep {words[0]}" if words[0] in COMMANDS else "sweep"
    hint = f"See {called} --help."
    for pattern, plain in _PLAIN:
        said = re.sub(pattern, plain.format(called=called), said)
    option, is_wrong, _ = said.partition(" must be ")
    if is_wrong and (refused := getattr(error.__cause__, "errors", None)):
        default = vars(error)["param"].default
        said += f', not "{refused()[0]["input"]}". For example: {option} {2 if default is None else default}'
    unknown = getattr(error, "option_name", "") if said.startswith("No such option") else ""
    if unknown:
        context = getattr(error, "ctx", None)
        known = [word for param in context.command.params for word in param.opts] if context is not None else ()
        said = f"{called} has no option {escape_controls(unknown)}.{did_you_mean(unknown, known)}"
        if words[0] not in COMMANDS and (command := next((word for word in words if word in COMMANDS), None)):
            hint = f"Write options after the command: sweep {command} {unknown} …"
    elif choice := re.search(r": '(.*)' is not one of (.*)\.$", said):
        said += did_you_mean(choice[1], re.findall("'(.*?)'", choice[2]))
    elif said.startswith("No such command"):
        said = f"sweep has no command named {escape_controls(words[0])}.{did_you_mean(words[0], COMMANDS)}"
        if words[0] in TEMPLATE_NAMES or Path(words[0]).is_file():
            hint = f"Did you mean sweep run {shlex.join(words)}?"
    return UsageError(said, hint=hint)
