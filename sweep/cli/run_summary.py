"""The summary that `sweep run` prints at its end: findings, a table of the levels, and where the files are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sweep import record
from sweep.cli.console import fill_lines, seconds_text, text_width
from sweep.text import quote_argument, truncate

if TYPE_CHECKING:
    from rich.table import Table

    from sweep.engine import RunSummary
    from sweep.study import MetricFacts, StudyJson

MAX_LINES: Final = 18  # of the table, so that the whole summary fits on a screen
MIN_LEVELS_SHOWN: Final = 3  # of one axis in the table, if there are many axes
MAX_POINTS_SUMMED: Final = 50_000  # of a run that gets this table
AXIS_WIDTH: Final = 24  # columns of an axis' name at most
NUMBER_WIDTH: Final = 5  # columns of a number at least
MIN_VALUE_WIDTH: Final = 12  # columns of a value at least
WIDE_TERMINAL: Final = 96  # columns from which there is room for a third metric


def headline_lines(summary: RunSummary, measuring_seconds: float = 0.0) -> list[str]:
    """Write how the run ended: `131 of 132 rendered in 2 min 51 s, measured in 8 s, 1 failed (…). …`."""
    done = f"{summary.completed:,} of {summary.points:,}"
    if not summary.rendered and summary.completed == summary.points:
        measured = f" Measured in {seconds_text(measuring_seconds)}." if measuring_seconds else ""
        return fill_lines(f"{done} done already; nothing to render.{measured}", rest="  ")
    now = "rendered" if summary.rendered == summary.completed else f"done, {summary.rendered:,} of them rendered"
    text = f"{done} {now} in {seconds_text(summary.seconds)}"
    if measuring_seconds:
        text += f", measured in {seconds_text(measuring_seconds)}"
    if summary.failed:
        them = "it" if summary.failed == 1 else "them"
        text += f", {summary.failed:,} failed{_most_common_error(summary)}. To try {them} again, add --retry-failed"
    if summary.ending in ("interrupted", "cancelled"):
        text += f"; {summary.ending}. Run the same command to resume"
    return fill_lines(text, rest="  ")


def ending_lines(summary: RunSummary, *, stale: bool = False) -> list[str]:
    """Return where the files are; with `stale`, add that the report is older than the run."""
    lines: list[str] = []
    if summary.former:
        count = "1 earlier image" if summary.former == 1 else f"{summary.former:,} earlier images"
        lines += fill_lines(
            f"{count} of another definition or model: kept, not shown. "
            f"sweep table {quote_argument(summary.folder)} --all lists them.",
            first="  ",
            rest="  ",
        )
    for kind, name in (("table", "results.csv"), ("", "results.parquet"), ("report", "report.html")):
        path = summary.folder / name
        if path.is_file():
            lines.append(f"  {kind:<7} {path}")
    if stale and (summary.folder / "report.html").is_file():
        lines.append(f"  The report is older than this run: sweep report {quote_argument(summary.folder)} updates it.")
    if summary.hint:
        lines += fill_lines(summary.hint, first="  ", rest="  ")
    return lines


def _most_common_error(summary: RunSummary) -> str:
    if summary.points > MAX_POINTS_SUMMED:
        return ""
    said = record.count_failures(record.RecordedResults.open(summary.folder).rows())
    if not said:
        return ""
    (commonest, _), *others = said.most_common()
    text = " ".join(commonest.split())
    return f" ({'mostly ' if others else ''}{truncate(text, 160).rstrip('.')})"


def finding_lines(study: StudyJson) -> list[str]:
    """Return the decision that a study supports and its other headlines, one paragraph each."""
    from sweep.study import select_headlines, write_decision

    headlines = select_headlines(study)
    if decision := write_decision(study):
        advice = {each["text"] for each in study["words"] if each["kind"] == "recommendation"}
        headlines = [decision, *(text for text in headlines if text not in advice)]
    return [line for text in headlines for line in fill_lines(text, rest="  ")]


def marginal_table(folder: Path, study: StudyJson | None) -> Table | None:
    """Build the table of counts, rendering times and a few mean metrics by axis value; None without axes."""
    from rich.table import Table

    from sweep.study import select_headline_metrics

    results = record.RecordedResults.open(folder)
    axes = [name for name, _ in results.axes]
    if not axes or results.counts().points > MAX_POINTS_SUMMED:
        return None
    known = {column.name for column in results.columns()}
    shown = select_headline_metrics(study, 3 if text_width() >= WIDE_TERMINAL else 2) if study else []
    metrics = [metric for metric in shown if metric["name"] in known]
    groups = record.count_marginals(results.rows(), axes, [metric["name"] for metric in metrics])
    headings = [metric["label"].replace(" ", "\n", 1) for metric in metrics]  # of two words, in two lines
    failed = any(entry.failed for group in groups.values() for entry in group)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("axis", no_wrap=True, overflow="ellipsis", max_width=AXIS_WIDTH)
    table.add_column("value", no_wrap=True, overflow="ellipsis", max_width=_value_width(axes, headings, failed))
    for heading in ("done", *(("failed",) if failed else ()), "s/image", *headings):
        table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
    seeds = {name for name, kind in results.axes if kind == "seed"}
    room = max(MIN_LEVELS_SHOWN, (MAX_LINES - len(seeds)) // max(1, len(axes) - len(seeds)))
    for axis, group in groups.items():
        for position, entry in enumerate(_shorten_axis(group, 1 if axis in seeds else room)):
            table.add_row(axis if position == 0 else "", *_cells(entry, metrics, failed))
    return table


def _value_width(axes: list[str], metrics: list[str], failed: bool) -> int:
    """Return the columns that remain for an axis value."""
    headings = ["done", *(["failed"] if failed else []), "s/image"]
    headings += [max(metric.split("\n"), key=len) for metric in metrics]
    taken = min(AXIS_WIDTH, max(map(len, axes))) + 2 + sum(2 + max(NUMBER_WIDTH, len(heading)) for heading in headings)
    return max(MIN_VALUE_WIDTH, text_width() - taken)


def _shorten_axis(group: list[record.Marginal], lines: int) -> list[record.Marginal | int]:
    """Shorten the values of an axis to this number of lines: both ends, and between them how many are left out.

    Seeds get one line in all: they are repetitions, so a single one says little.
    """
    if len(group) <= lines:
        return list(group)
    if lines == 1:
        return [record.merge_marginals(group)]
    first = lines // 2
    last = lines - first - 1
    return [*group[:first], len(group) - first - last, *group[len(group) - last :]]


def _cells(entry: record.Marginal | int, metrics: list[MetricFacts], failed: bool) -> list[str]:
    if isinstance(entry, int):
        return [f"… {entry:,} more"]
    counts = [f"{entry.done:,}", *([f"{entry.failed:,}" if entry.failed else ""] if failed else [])]
    means = [_mean_text(entry.metrics[metric["name"]]) for metric in metrics]
    return [" ".join(entry.value.split()), *counts, _mean_text(entry.seconds), *means]


def _mean_text(mean: record.Mean) -> str:
    value = mean.value
    if value is None:
        return ""
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
