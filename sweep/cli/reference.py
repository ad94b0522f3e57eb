"""`python -m sweep.cli.reference`: every command's help as one Markdown page."""

from __future__ import annotations

import sys

from typer import Context
from typer.main import get_command

from sweep.cli.console import safe_streams
from sweep.cli.line import command_line

WIDTH = 80
HEAD = """# Commands

Written by `python -m sweep.cli.reference`; `sweep COMMAND --help` says the same.
"""


def command_reference() -> str:
    """The page, in the order of `sweep --help`."""
    line = get_command(command_line())
    whole = Context(
        line, info_name="sweep", terminal_width=WIDTH, max_content_width=WIDTH, help_option_names=["-h", "--help"]
    )
    parts = [HEAD, _block(line.get_help(whole))]
    for name in line.list_commands(whole):  # type: ignore[attr-defined]
        command = line.get_command(whole, name)  # type: ignore[attr-defined]
        context = Context(command, info_name=name, parent=whole, terminal_width=WIDTH, max_content_width=WIDTH)
        parts += [f"## sweep {name}\n", _block(command.get_help(context))]
    return "\n".join(parts)


def _block(text: str) -> str:
    lines = (line.rstrip() for line in text.strip().splitlines())
    return "```text\n" + "\n".join(lines) + "\n```\n"


if __name__ == "__main__":
    safe_streams()
    sys.stdout.write(command_reference())
