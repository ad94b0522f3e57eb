"""The last thing a run prints: what each value of each axis came to, how it ended, and where things are."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.cli.console import console, seconds_text

if TYPE_CHECKING:
    from sweep.engine.summary import RunSummary
    from sweep.record.marginals import Marginal

MOST_LEVELS = 12  # of one axis in the table; a longer axis is told by its ends
MOST_POINTS = 50_000  # of a run whose table is summed up in the terminal


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
    if summary.hint:
        lines.append(f"  {summary.hint}")
    return lines


def _headline(summary: RunSummary, file: Path) -> str:
    done = f"{summary.completed} of {summary.points} done"
    if not summary.rendered and summary.completed == summary.points:
        return f"{done} before; nothing to render."
    text = f"{done} in {seconds_text(summary.seconds)}"
    if summary.failed:
        text += f", {summary.failed} failed — sweep run {file} --retry-failed tries {_them(summary.failed)} again"
    if summary.ending in ("interrupted", "cancelled"):
        text += f"; {summary.ending} — the same command goes on with the rest"
    return text


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


def marginal_table(folder: Path) -> None:
    """Done, failed and rendering time by the values of each axis, in the terminal."""
    from rich.table import Table

    from sweep.record.marginals import marginals
    from sweep.record.table import Results

    results = Results.open(folder)
    axes = [name for name, _ in results.axes]
    if not axes or results.counts().points > MOST_POINTS:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="dim")
    table.add_column("axis")
    table.add_column("value", overflow="ellipsis", no_wrap=True, max_width=48)
    for heading in ("done", "failed", "s each"):
        table.add_column(heading, justify="right")
    for axis, group in groupby(marginals(results.rows(), axes), lambda entry: entry.axis):
        for position, cells in enumerate(_cells(list(group))):
            table.add_row(axis if position == 0 else "", *cells)
    console().print(table)


def _cells(entries: list[Marginal]) -> list[tuple[str, str, str, str]]:
    shown = entries if len(entries) <= MOST_LEVELS else [*entries[: MOST_LEVELS // 2], *entries[-MOST_LEVELS // 2 :]]
    rows = []
    for position, entry in enumerate(shown):
        if len(shown) < len(entries) and position == MOST_LEVELS // 2:
            rows.append((f"… {len(entries) - len(shown)} more", "", "", ""))
        seconds = "" if entry.mean_seconds is None else f"{entry.mean_seconds:.2f}"
        rows.append((entry.value, str(entry.done), str(entry.failed or ""), seconds))
    return rows
