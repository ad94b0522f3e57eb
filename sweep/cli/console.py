"""What is printed where: results on stdout, everything else on stderr; colour only where it carries meaning."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sweep.errors import DefinitionError, SweepError

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """A terminal to print tables and progress on. Text given to it is not read as markup."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)


def complain(error: SweepError) -> None:
    """Say what is wrong, and the hint, on stderr; red where it is a terminal."""
    screen = console(stderr=True)
    text = error.message if not isinstance(error, DefinitionError) or not error.problems else str(error)
    first, *rest = text.splitlines() or [""]
    screen.print(first, style="red")
    for line in rest:
        screen.print(line)
    if error.hint and error.hint not in text:
        screen.print(error.hint)


def say(text: str = "") -> None:
    """A line on stdout."""
    sys.stdout.write(text + "\n")


def tell(text: str = "") -> None:
    """A line on stderr: a notice, not a result."""
    sys.stderr.write(text + "\n")


def seconds_text(seconds: float) -> str:
    """A duration as people say it: 0.8 s, 12 s, 2 min 51 s, 3 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock_text(seconds: float) -> str:
    """Time left, as a clock shows it: 1:22, 2:03:04."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def bytes_text(size: float) -> str:
    """A size in decimal units: 61 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
