"""The last thing a run prints: what each value of each axis came to, how it ended, and where things are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweep.cli.console import console, seconds_text

if TYPE_CHECKING:
    from sweep.engine.summary import RunSummary

MOST_LEVELS = 12  # of one axis in the table; a longer axis is told by its ends


def ending_lines(summary: RunSummary, file: Path) -> list[str]:
    """`131 of 132 done in 2 min 51 s, 1 failed — …`, then the paths."""
    lines = [_headline(summary, file)]
    if summary.former:
        lines.append(
            f"  {summary.former} earlier points are kept that the experiment no longer has: "
            f"sweep table {summary.folder} --all shows them."
        )
    for name in ("results.csv", "results.parquet", "report.html"):
        path = summary.folder / name
        if path.is_file():
            kind = "report" if name == "report.html" else "table"
            lines.append(f"  {kind:<7} {path}")
    lines.extend(f"  {hint}" for hint in summary.hints)
    return lines


def _headline(summary: RunSummary, file: Path) -> str:
    done = f"{summary.completed} of {summary.points} done"
    if not summary.rendered and summary.completed == summary.points:
        return f"{done} before; nothing to render."
    text = f"{done} in {seconds_text(summary.seconds)}"
    if summary.failed:
        text += f", {summary.failed} failed — sweep run {file} --retry-failed tries them again"
    if summary.ending in ("interrupted", "cancelled"):
        text += f"; {summary.ending} — the same command goes on with the rest"
    return text


def marginal_table(folder: Path) -> None:
    """Done, failed and rendering time by the values of each axis, in the terminal."""
    from rich.table import Table

    from sweep.record.table import Results

    rows = Results.open(folder).marginals(MOST_LEVELS)
    if not rows:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="dim")
    for heading, justify in (("axis", "left"), ("value", "left"), ("done", "right"), ("failed", "right"), ("s each", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    last = ""
    for row in rows:
        seconds = f"{row.seconds:.2f}" if row.seconds is not None else ""
        table.add_row(row.axis if row.axis != last else "", row.value, str(row.done), str(row.failed or ""), seconds)
        last = row.axis
    console().print(table)
