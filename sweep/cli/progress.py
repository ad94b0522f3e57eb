"""What a person watches while a sweep runs: bars in a terminal, plain lines in a log, JSON lines for a program."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeAlias

from sweep.cli.console import clock_text, console
from sweep.cli.tally import ServerTally, Tally
from sweep.engine import events

if TYPE_CHECKING:
    from rich.table import Table

Style: TypeAlias = Literal["auto", "rich", "plain", "json", "none"]


class Progress(Protocol):
    """Listens to a run between `__enter__` and `__exit__`."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def __call__(self, event: events.Event) -> None:
        """One event; never blocks for long."""
        ...


def progress(style: Style) -> Progress:
    """The display for a style; `auto` is bars in a terminal and plain lines elsewhere."""
    if style == "auto":
        style = "rich" if sys.stderr.isatty() else "plain"
    return {"rich": Bars, "plain": Lines, "json": JsonLines, "none": Silence}[style]()


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, event: events.Event) -> None:
        """Ignored."""


class JsonLines(Silence):
    """One JSON object a line on stdout, `event` naming its kind."""

    def __call__(self, event: events.Event) -> None:
        """Written and flushed at once, so that a pipe sees it."""
        sys.stdout.write(json.dumps({"event": type(event).__name__, **dataclasses.asdict(event)}) + "\n")
        sys.stdout.flush()


class Lines(Silence):
    """Plain lines on stderr: what happened, and a count every so often."""

    EVERY = 10.0  # seconds between counts

    def __init__(self) -> None:
        self._tally = Tally()
        self._last = 0.0

    def __call__(self, event: events.Event) -> None:
        """Says what matters; counts at most every ten seconds."""
        now = time.monotonic()
        self._tally.take(event, now)
        if text := sentence(event):
            sys.stderr.write(text + "\n")
            self._last = now if isinstance(event, events.RunStarted) else self._last
        elif isinstance(event, events.Completed) and now - self._last >= self.EVERY:
            self._last = now
            sys.stderr.write(f"  {count_text(self._tally, now)}\n")
        sys.stderr.flush()


class Bars(Silence):
    """A bar a server and one for the whole, redrawn four times a second; notices scroll above them."""

    def __init__(self) -> None:
        from rich.live import Live

        self._tally = Tally()
        self._console = console(stderr=True)
        self._live = Live(
            console=self._console,
            refresh_per_second=4,
            get_renderable=self._table,
            redirect_stdout=False,
            transient=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: events.Event) -> None:
        """Takes the numbers; prints what a person should not miss."""
        self._tally.take(event, time.monotonic())
        if text := sentence(event):
            style = "red" if isinstance(event, events.Failed) else None
            self._console.print(text, style=style)
        if isinstance(event, events.RunStarted) and event.done < event.points:
            self._live.start()

    def _table(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        now = time.monotonic()
        tally = self._tally
        table = Table.grid(padding=(0, 2))
        for name, server in tally.servers.items():
            share = ProgressBar(total=max(1, tally.points - tally.before), completed=server.done, width=36)
            table.add_row(f"  {name}", share, server_text(server, tally, now))
        bar = ProgressBar(total=max(1, tally.points), completed=tally.done + tally.failed, width=36)
        table.add_row("  all", bar, count_text(tally, now))
        return table


def server_text(server: ServerTally, tally: Tally, now: float) -> str:
    """`2 running   31/min`, or why it does nothing."""
    if server.left:
        return f"away: {server.left}"
    rate = server.rate(now, tally.began) * 60
    return f"{len(server.running)} running   {rate:.0f}/min"


def count_text(tally: Tally, now: float) -> str:
    """`74/132  56 %  1 failed  1:22 left`."""
    parts = [f"{tally.done}/{tally.points}", f"{100 * tally.done // max(1, tally.points)} %"]
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    if tally.stage:
        parts.append("stopping")
    elif (left := tally.left_seconds(now)) is not None:
        parts.append(f"{clock_text(left)} left")
    return "  ".join(parts)


def sentence(event: events.Event) -> str:
    """What a person should read of an event; empty where the numbers say it all."""
    if isinstance(event, events.RunStarted):
        before = f" · {event.done} done before" if event.done else ""
        failed = f" · {event.failed} failed before" if event.failed else ""
        where = "  (sandbox: painted, not diffused)" if event.sandbox else ""
        return f"{event.experiment}  {event.points} points{before}{failed}{where}"
    if isinstance(event, events.Failed):
        return f"  failed  {values_text(event)}: {event.error}"
    if isinstance(event, events.Retrying):
        return f"  again in {event.delay:.1f} s  point {event.index} on {event.server}: {event.error}"
    if isinstance(event, events.ServerChanged) and event.state != "joined":
        return f"  {event.server} {'is back' if event.state == 'back' else f'takes no work: {event.reason}'}"
    if isinstance(event, events.Notice):
        return f"  {event.message}"
    if isinstance(event, events.Stopping) and event.stage == 1:
        return f"  stopping: {event.in_flight} in flight are finished first; Ctrl-C again cancels them"
    if isinstance(event, events.Stopping):
        return f"  cancelling {event.in_flight} in flight on the servers"
    return ""


def values_text(event: events.Failed) -> str:
    """`denoise_strength 0.4 · seed 42`."""
    return " · ".join(f"{name} {value}" for name, value in event.values.items())
