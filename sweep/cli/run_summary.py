"""The last thing a run prints: what each value of each axis came to, how it ended, and where things are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sweep.cli.console import columns, console, fill_lines, seconds_text
from sweep.text import truncate

if TYPE_CHECKING:
    from rich.table import Table

    from sweep.engine import RunSummary
    from sweep.record import Marginal, Mean
    from sweep.study import MetricFacts, StudyJson


MOST_LEVELS_SHOWN: Final = 12  # of one axis in the table; a longer axis is told by its ends
MOST_POINTS: Final = 50_000  # of a run whose table is summed up in the terminal
AXIS: Final = 24  # columns of an axis' name at most
FIGURE: Final = 5  # columns of a number at least
NARROW: Final = 12  # columns of a value at least
MANY: Final = 96  # columns from which there is room for a third metric


def ending_lines(summary: RunSummary, *, stale: bool = False) -> list[str]:
    """`131 of 132 done in 2 min 51 s, 1 failed (…); …`, then the paths. `stale`: the report is from before the run."""
    lines = fill_lines(_headline(summary), rest="  ")
    if summary.former:
        words = "1 earlier point is" if summary.former == 1 else f"{summary.former:,} earlier points are"
        lines += fill_lines(
            f"{words} kept that the experiment no longer has: sweep table {summary.folder} --all shows them.",
            first="  ",
            rest="  ",
        )
    for kind, name in (("table", "results.csv"), ("", "results.parquet"), ("report", "report.html")):
        path = summary.folder / name
        if path.is_file():
            lines.append(f"  {kind:<7} {path}")
    if stale and (summary.folder / "report.html").is_file():
        lines.append(f"  The report is from before this run: sweep report {summary.folder} renews it.")
    if summary.hint:
        lines += fill_lines(summary.hint, first="  ", rest="  ")
    return lines


def _headline(summary: RunSummary) -> str:
    done = f"{summary.completed:,} of {summary.points:,} done"
    if not summary.rendered and summary.completed == summary.points:
        return f"{done} before; nothing to render."
    text = f"{done} in {seconds_text(summary.seconds)}"
    if summary.failed:
        them = "it" if summary.failed == 1 else "them"
        text += f", {summary.failed:,} failed{_why(summary)} — the same command with --retry-failed tries {them} again"
    if summary.ending in ("interrupted", "cancelled"):
        text += f"; {summary.ending} — the same command goes on with the rest"
    return text


def _why(summary: RunSummary) -> str:
    """The commonest error of the failed rows."""
    from sweep.record import RecordedResults, failures

    if summary.points > MOST_POINTS:
        return ""
    said = failures(RecordedResults.open(summary.folder).rows())
    if not said:
        return ""
    (commonest, _), *others = said.most_common()
    text = " ".join(commonest.split())
    return f" ({'mostly ' if others else ''}{truncate(text, 160).rstrip('.')})"


def finding_lines(study: StudyJson) -> list[str]:
    """What the study says first, a paragraph a sentence."""
    from sweep.study import headline_sentences

    return [line for text in headline_sentences(study) for line in fill_lines(text, rest="  ")]


def marginal_table(folder: Path, study: StudyJson | None) -> Table | None:
    """Done, failed, rendering time and a few metrics' means by the values of each axis; None where nothing varies."""
    from rich.table import Table

    from sweep.record import RecordedResults, marginals
    from sweep.study import headline_metrics

    results = RecordedResults.open(folder)
    axes = [name for name, _ in results.axes]
    if not axes or results.counts().points > MOST_POINTS:
        return None
    known = {column.name for column in results.columns()}
    metrics = (
        [metric for metric in headline_metrics(study, 3 if columns() >= MANY else 2) if metric["name"] in known]
        if study
        else []
    )
    groups = marginals(results.rows(), axes, [metric["name"] for metric in metrics])
    failed = any(entry.failed for group in groups.values() for entry in group)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("axis", no_wrap=True, overflow="ellipsis", max_width=AXIS)
    table.add_column("value", no_wrap=True, overflow="ellipsis", max_width=_room(axes, metrics, failed))
    for heading in ("done", *(("failed",) if failed else ()), "s each", *map(_heading, metrics)):
        table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
    for axis, group in groups.items():
        for position, entry in enumerate(_shown(group)):
            table.add_row(axis if position == 0 else "", *_cells(entry, metrics, failed))
    return table


def show_table(table: Table) -> None:
    """On stdout."""
    sys.stdout.flush()
    console(width=columns()).print(table)


def _room(axes: list[str], metrics: list[MetricFacts], failed: bool) -> int:
    """Columns left for a value beside everything else."""
    headings = ["done", *(["failed"] if failed else []), "s each"]
    headings += [max(_heading(metric).split("\n"), key=len) for metric in metrics]
    taken = min(AXIS, max(map(len, axes))) + 2 + sum(2 + max(FIGURE, len(heading)) for heading in headings)
    return max(NARROW, columns() - taken)


def _heading(metric: MetricFacts) -> str:
    """The label over two lines where it has two words."""
    return metric["label"].replace(" ", "\n", 1)


def _shown(group: list[Marginal]) -> list[Marginal | int]:
    """The values of an axis; of a long one its ends, and between them how many are left out."""
    if len(group) <= MOST_LEVELS_SHOWN:
        return list(group)
    half = MOST_LEVELS_SHOWN // 2
    return [*group[:half], len(group) - 2 * half, *group[-half:]]


def _cells(entry: Marginal | int, metrics: list[MetricFacts], failed: bool) -> list[str]:
    if isinstance(entry, int):
        return [f"… {entry:,} more"]
    counts = [f"{entry.done:,}", *([f"{entry.failed:,}" if entry.failed else ""] if failed else [])]
    means = [_figure(entry.metrics[metric["name"]]) for metric in metrics]
    return [" ".join(entry.value.split()), *counts, _figure(entry.seconds), *means]


def _figure(mean: Mean) -> str:
    value = mean.value
    if value is None:
        return ""
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
