"""Print to the terminal: results on stdout, everything else on stderr; colour only where it has a meaning.

Everything that a command prints goes through here, where control characters become escapes: a name or an error of a
server must not move the cursor, clear the screen or set a title.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Final, Self

from sweep.errors import SweepError
from sweep.text import escape_controls

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


WIDEST: Final = 110  # columns of text that people still read with ease


def configure_streams() -> None:
    """Make stdout and stderr accept every character, whatever their encoding.

    A terminal shows `?` for a character it does not have. A pipe or file gets UTF-8. If PYTHONIOENCODING names another
    encoding, characters that it lacks are written as escapes, so that nothing is lost.
    """
    chosen = os.environ.get("PYTHONIOENCODING")
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream.isatty():
            stream.reconfigure(errors="replace")
        elif chosen:
            stream.reconfigure(errors="backslashreplace")
        else:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def choose_text_width() -> int:
    """Return the width for text: the terminal's, from 40 to 110 columns; 110 in a pipe."""
    if not sys.stdout.isatty():
        return WIDEST
    return max(40, min(WIDEST, shutil.get_terminal_size().columns))


def fill_lines(text: str, *, first: str = "", rest: str = "", width: int | None = None) -> list[str]:
    """Wrap text at `width` columns; the first line starts with `first`, the others with `rest`."""
    lines = textwrap.wrap(
        text.replace(" %", "\xa0%"),
        width or choose_text_width(),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\xa0", " ") for line in lines] or [first.rstrip()]


def join_parts(parts: Sequence[str], between: str, width: int) -> list[str]:
    """Put parts side by side on lines of `width` columns; break lines only between parts."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(between) + len(part) <= width:
            lines[-1] += between + part
        else:
            lines.append(part)
    return lines


def label_lines(label: str, lines: Sequence[str], width: int) -> list[str]:
    """Put a label of `width` columns before the first of some lines, and as much room before the others."""
    return [f"  {label if at == 0 else '':<{width}} {line}".rstrip() for at, line in enumerate(lines)]


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Create a console for tables and progress; `width` overrides the terminal's. Text is not read as markup."""
    from rich.console import Console
    from rich.segment import Segment

    class SafeConsole(Console):
        def _render_buffer(self, buffer: Iterable[Segment]) -> str:
            """Escape control characters of texts; those of rich itself (colours, cursor) are no texts."""
            return super()._render_buffer(
                each if each.control else each._replace(text=escape_controls(each.text)) for each in buffer
            )

        def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002  rich asks to hide it
            """Leave the cursor: a command that is stopped (Ctrl-Z) or killed could not show it again."""
            return False

    return SafeConsole(stderr=stderr, width=width, highlight=False, markup=False, soft_wrap=True)


def print_error(error: SweepError) -> None:
    """Print an error and its hint on stderr, in red on a terminal."""
    screen = console(stderr=True)
    first, *rest = error.message.split("\n")
    screen.print(first, style="red")
    for line in rest:
        screen.print(line)
    if error.hint:
        screen.print(error.hint)


def print_line(text: str = "") -> None:
    """Print a line on stdout: a result. Whoever reads it through a pipe gets it at once."""
    sys.stdout.write(escape_controls(text) + "\n")
    sys.stdout.flush()


def print_json(value: object) -> None:
    """Print a value as one line of JSON on stdout; control characters in it are escaped as JSON has it."""
    text = json.dumps(value, ensure_ascii=False)
    print_line(text if text.isprintable() else json.dumps(value))


def print_table(table: Table) -> None:
    """Print a table on stdout."""
    console(width=choose_text_width()).print(table)


class SafeText(io.TextIOBase):
    """Passes text on to a stream; for a terminal, control characters in it become escapes."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()

    def write(self, text: str) -> int:
        """Write text; a pipe gets it unchanged."""
        return self._stream.write(escape_controls(text) if self._is_terminal else text)


def print_notice(text: str = "") -> None:
    """Print a line on stderr: a notice, not a result."""
    sys.stderr.write(escape_controls(text) + "\n")


def format_clock(seconds: float) -> str:
    """Format the time left: 1:22, 2:03:04."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


COUNT_EVERY: Final = 10.0  # seconds between lines where there is no terminal


class MeasuringBar:
    """Shows on stderr how many images are measured and the time left: a bar in a terminal, a line elsewhere."""

    def __enter__(self) -> Self:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        screen = console(stderr=True)
        columns = (BarColumn(36), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
        text = TextColumn("  {task.description}")
        self._bar = Progress(text, *columns, console=screen, transient=True, disable=not screen.is_terminal)
        self._bar.add_task("measuring", total=None, visible=False)
        self._bar.start()
        self._printed = time.monotonic()
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show `done` of `total` images; hide the bar when all are done. A line comes every ten seconds at most."""
        (task,) = self._bar.tasks
        self._bar.update(task.id, completed=done, total=total, visible=done < total)
        now = time.monotonic()
        if self._bar.disable and done < total and now - self._printed >= COUNT_EVERY:
            self._printed = now
            left = f"  {format_clock(task.time_remaining)} left" if task.time_remaining is not None else ""
            print_notice(f"  measuring {done:,}/{total:,}{left}")

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
