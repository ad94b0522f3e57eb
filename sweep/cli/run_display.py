"""A run in the terminal: progress as bars, lines or JSON while it goes on; at its end a summary with a table."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

from sweep import record
from sweep.cli.console import (
    COUNT_EVERY,
    choose_text_width,
    console,
    fill_lines,
    format_clock,
    print_json,
    print_notice,
)
from sweep.engine import RunProgress, ServerTally, events
from sweep.text import format_count, format_seconds, format_value, quote_argument, truncate, truncate_apart

if TYPE_CHECKING:
    from rich.table import Table

    from sweep.engine import RunSummary
    from sweep.study import MetricFacts, StudyJson


EVENT_VERSION: Final = 1  # changes when a reader of older lines would misread them
_MAX_VALUE = 40  # characters of one value in a line about a point


def describe_server(server: ServerTally, tally: RunProgress, now: float) -> str:
    """Return `2 running   31/min`, or the reason why the server is away."""
    if server.left:
        return f"away: {server.left}"
    a_minute = 60 * server.measure_rate(now, tally.began)
    rate = f"{a_minute:>4.0f}/min" if a_minute >= 1 else f"{a_minute * 60:>4.0f}/h" if a_minute else ""
    return f"{len(server.running)} running  {rate}"


def write_counts(tally: RunProgress, now: float) -> str:
    """Return `74/132  56 %  1 failed  1:22 left`."""
    parts = [f"{tally.done:,}/{tally.points:,}", f"{100 * tally.done // max(1, tally.points)} %"]
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    if tally.stage:
        parts.append("stopping")
    elif (left := tally.estimate_seconds_left(now)) is not None:
        parts.append(f"{format_clock(left)} left")
    return "  ".join(parts)


def describe_event(event: events.Event) -> str:
    """Write an event as one line for people; empty if the counts say enough."""
    if isinstance(event, events.RunStarted):
        points = format_count(event.points, "point")
        before = f" · {event.done:,} already done" if event.done else ""
        failed = f" · {event.failed:,} failed earlier" if event.failed else ""
        where = "  (sandbox: painted images, not diffusion)" if event.sandbox else ""
        return f"{event.experiment}  {points}{before}{failed}{where}"
    if isinstance(event, events.Failed):
        values = [f"{name} {truncate(format_value(value), _MAX_VALUE)}" for name, value in event.values.items()]
        return f"  failed  {' · '.join(values) or f'point {event.index}'}: {event.error}"
    if isinstance(event, events.Retrying):
        return f"  retrying point {event.index:,} in {event.delay:.1f} s ({event.server}: {event.error})"
    if isinstance(event, events.ServerChanged) and event.state != "joined":
        return f"  {event.server} {'is back' if event.state == 'back' else f'gets no more work: {event.reason}'}"
    if isinstance(event, events.Notice):
        return f"  {event.message}"
    if isinstance(event, events.Stopping) and event.stage == 1:
        return f"  stopping: waiting for {event.in_flight} in flight. Ctrl-C again cancels them"
    if isinstance(event, events.Stopping):
        return f"  cancelling {event.in_flight} in flight on the servers"
    return ""


_MAX_LINES: Final = 10  # lines about failures, and about retries, before they are only counted
MORE_FOLLOW: Final[Mapping[type[events.Event], str]] = {
    events.Failed: "  further failures are only counted here; the table lists each with its error",
    events.Retrying: "  further retries are not listed",
}
Style: TypeAlias = Literal["auto", "rich", "plain", "json", "none"]


def progress(style: Style) -> ProgressDisplay:
    """Create the display of a style; `auto` means bars in a terminal and plain lines elsewhere."""
    if style == "auto":
        style = "rich" if sys.stderr.isatty() else "plain"
    return {"rich": BarProgress, "plain": LineProgress, "json": JsonLines, "none": ProgressDisplay}[style]()


class ProgressDisplay:
    """Listens to a run between `__enter__` and `__exit__`. This one shows nothing; the others build on it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, event: events.Event) -> None:
        """Show one event. Never blocks for long and never raises: a broken display must not end a run."""


class JsonLines(ProgressDisplay):
    """Writes one JSON object per line to stdout: `event` names its kind, `time` is when it was written, in UTC."""

    def __call__(self, event: events.Event) -> None:
        """Write one event, unless the reader is gone."""
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        head = {"event": type(event).__name__, "version": EVENT_VERSION, "time": moment}
        with suppress(OSError):
            print_json({**head, **dataclasses.asdict(event)})


class LineProgress(ProgressDisplay):
    """Prints plain lines on stderr: what happened, and the count every ten seconds."""

    def __init__(self) -> None:
        self.tally = RunProgress()
        self._repeated: Counter[type[events.Event]] = Counter()
        self._counted = time.monotonic()

    def __call__(self, event: events.Event) -> None:
        """Count the event and print its line; of failures and retries only the first ten."""
        now = time.monotonic()
        self.tally.take(event, now)
        text, kind = describe_event(event), type(event)
        if kind in MORE_FOLLOW:
            self._repeated[kind] += 1
            if self._repeated[kind] > _MAX_LINES:
                text = MORE_FOLLOW[kind] if self._repeated[kind] == _MAX_LINES + 1 else ""
        if text:
            self.print_line(text, event)
        if isinstance(event, events.Completed) and now - self._counted >= COUNT_EVERY:
            self._counted = now
            self.print_line(f"  {write_counts(self.tally, now)}", event)

    def print_line(self, text: str, event: events.Event) -> None:  # noqa: ARG002  the bars ask for its kind
        """Print a line about an event, unless the terminal is gone."""
        with suppress(OSError):
            print_notice(text)


class BarProgress(LineProgress):
    """Shows one bar per server and one for the run, redrawn four times a second; lines scroll above them."""

    WIDTH = 36  # columns of a bar, where there is room

    def __init__(self) -> None:
        from rich.live import Live

        super().__init__()
        self._console = console(stderr=True)
        self._live = Live(
            console=self._console,
            refresh_per_second=4,
            get_renderable=self._make_table,
            redirect_stdout=False,
            transient=True,
        )

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._live.stop()

    def __call__(self, event: events.Event) -> None:
        """Count the event, print its line and start the bars with the run."""
        super().__call__(event)
        if isinstance(event, events.RunStarted) and event.done < event.points:
            with suppress(OSError):
                self._live.start()

    def print_line(self, text: str, event: events.Event) -> None:
        """Print failures in red, a retry on one line (if it fails in the end, the whole error follows), no counts."""
        if isinstance(event, events.Completed):
            return
        width = self._console.width
        is_retry, style = isinstance(event, events.Retrying), "red" if isinstance(event, events.Failed) else None
        with suppress(OSError):  # the terminal is gone
            for line in [truncate(text, width)] if is_retry else fill_lines(text, rest="    ", width=width):
                self._console.print(line, style=style)

    def _make_table(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        now = time.monotonic()
        tally = self.tally
        open_points = max(1, tally.points - tally.before)
        rows = [
            (name, open_points, server.done, describe_server(server, tally, now))
            for name, server in tally.servers.items()
        ]
        rows.append(("all", max(1, tally.points), tally.done + tally.failed, write_counts(tally, now)))
        room = self._console.width - 6 - max(len(row[0]) for row in rows) - max(len(row[3]) for row in rows)
        width = max(8, min(self.WIDTH, room))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(width=width)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for name, total, done, text in rows:
            table.add_row(f"  {name}", ProgressBar(total=total, completed=done, width=width), text)
        return table


MAX_LINES: Final = 18  # of the table, so that the whole summary fits on a screen
MIN_LEVELS_SHOWN: Final = 3  # of one axis in the table, if there are many axes
MAX_POINTS_SUMMED: Final = 50_000  # of a run that gets this table
AXIS_WIDTH: Final = 24  # columns of an axis' name at most, and a third of the terminal
NUMBER_WIDTH: Final = 5  # columns of a number at least
MIN_VALUE_WIDTH: Final = 10  # columns of a value at least, else a metric is left out
WIDE_TERMINAL: Final = 96  # columns from which there is room for a third metric


def write_headline(summary: RunSummary, measuring_seconds: float = 0.0) -> list[str]:
    """Write how the run ended: `131 of 132 rendered in 2 min 51 s, metrics computed in 8 s, 1 failed (…). …`."""
    done = f"{summary.completed:,} of {summary.points:,}"
    if not summary.rendered and summary.completed == summary.points:
        measured = f" Metrics computed in {format_seconds(measuring_seconds)}." if measuring_seconds else ""
        return fill_lines(f"{done} done already; nothing to render.{measured}", rest="  ")
    now = "rendered" if summary.rendered == summary.completed else f"done, {summary.rendered:,} of them rendered"
    text = f"{done} {now} in {format_seconds(summary.seconds)}"
    if measuring_seconds:
        text += f", metrics computed in {format_seconds(measuring_seconds)}"
    if summary.failed:
        them = "it" if summary.failed == 1 else "them"
        text += (
            f", {summary.failed:,} failed{_find_most_common_error(summary)}. To try {them} again, add --retry-failed"
        )
    if summary.ending in ("interrupted", "cancelled"):
        text += f"; {summary.ending}. Run the same command to resume"
    return fill_lines(text, rest="  ")


def write_ending(summary: RunSummary, *, stale: bool = False) -> list[str]:
    """Return where the files are; with `stale`, add that the report is older than the run."""
    lines: list[str] = []
    if summary.former:
        lines += fill_lines(
            f"{format_count(summary.former, 'earlier point')} of another definition or model: kept, not shown. "
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


def _find_most_common_error(summary: RunSummary) -> str:
    if summary.points > MAX_POINTS_SUMMED or summary.ending == "record-broken":
        return ""
    rows = record.RecordedResults.open(summary.folder).rows(where=lambda row: row["status"] == "failed")
    said = Counter(str(row["error"]) for row in rows)
    if not said:
        return ""
    (commonest, _), *others = said.most_common()
    text = " ".join(commonest.split())
    return f" ({'mostly ' if others else ''}{truncate(text, 160).rstrip('.')})"


def write_findings(study: StudyJson) -> list[str]:
    """Return the decision that a study supports and its other headlines, one paragraph each."""
    from sweep.study import select_headlines, write_decision

    headlines = select_headlines(study)
    if decision := write_decision(study):
        advice = {each["text"] for each in study["words"] if each["kind"] == "recommendation"}
        headlines = [decision, *(text for text in headlines if text not in advice)]
    return [line for text in headlines for line in fill_lines(text, rest="  ")]


def build_marginal_table(folder: Path, study: StudyJson | None) -> Table | None:
    """Build the table of counts, rendering times and a few mean metrics by axis value; None without axes."""
    from rich.table import Table

    from sweep.study import select_headline_metrics

    results = record.RecordedResults.open(folder)
    axes = [name for name, _ in results.axes]
    if not axes or results.counts().points > MAX_POINTS_SUMMED:
        return None
    known = {column.name for column in results.columns()}
    shown = select_headline_metrics(study, 3 if choose_text_width() >= WIDE_TERMINAL else 2) if study else []
    metrics = [metric for metric in shown if metric["name"] in known]
    groups = record.count_marginals(results.rows(), axes, ["render_seconds", *(metric["name"] for metric in metrics)])
    failed = any(entry.statuses["failed"] for group in groups.values() for entry in group)
    headings = ["done", *(["failed"] if failed else []), "s/image", *(_break_in_two(each["label"]) for each in metrics)]
    widths = [2 + max(NUMBER_WIDTH, *map(len, heading.split("\n"))) for heading in headings]
    axis_width = min(AXIS_WIDTH, choose_text_width() // 3, max(map(len, axes)))
    while (width := choose_text_width() - axis_width - 2 - sum(widths)) < MIN_VALUE_WIDTH and metrics:
        for columns in (metrics, headings, widths):
            columns.pop()
    width = max(4, width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("axis", no_wrap=True, overflow="ellipsis", max_width=axis_width)
    table.add_column("value", no_wrap=True, overflow="ellipsis", max_width=width)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
    seeds = {name for name, kind in results.axes if kind == "seed"}
    room = max(MIN_LEVELS_SHOWN, (MAX_LINES - len(seeds)) // max(1, len(axes) - len(seeds)))
    for axis, group in groups.items():
        rows = [_write_cells(entry, metrics, failed) for entry in _shorten_axis(group, 1 if axis in seeds else room)]
        labels = [value for value, *_ in rows]
        for position, (value, *cells) in enumerate(rows):
            table.add_row(axis if position == 0 else "", truncate_apart(value, labels, width), *cells)
    return table


def _break_in_two(label: str) -> str:
    """Break a label into two lines, the longer of them as short as can be."""
    words = label.split()
    ways = ["\n".join(filter(None, (" ".join(words[:at]), " ".join(words[at:])))) for at in range(len(words))]
    return min(ways, key=lambda way: max(map(len, way.split("\n"))), default=label)


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


def _write_cells(entry: record.Marginal | int, metrics: list[MetricFacts], failed: bool) -> list[str]:
    if isinstance(entry, int):
        return [f"… {entry:,} more"]
    done, bad = entry.statuses["completed"], entry.statuses["failed"]
    counts = [f"{done:,}", *([f"{bad:,}" if bad else ""] if failed else [])]
    means = [entry.mean(column) for column in ("render_seconds", *(metric["name"] for metric in metrics))]
    texts = ("" if mean is None else f"{mean:.2f}" if abs(mean) < 100 else f"{mean:,.0f}" for mean in means)
    return [" ".join(entry.value.split()), *counts, *texts]
