"""Events of a run as lines of text."""

from __future__ import annotations

from sweep.cli.console import clock_text, cut, number_text
from sweep.engine import events
from sweep.engine.tally import ServerTally, Tally

SHORT = 40  # characters of one value in a line about a point


def server_text(server: ServerTally, tally: Tally, now: float) -> str:
    """`2 running   31/min`, or why it does nothing."""
    if server.left:
        return f"away: {server.left}"
    return f"{len(server.running)} running  {_rate(server.rate(now, tally.began))}"


def _rate(a_second: float) -> str:
    if not a_second:
        return ""
    return f"{a_second * 60:>4.0f}/min" if a_second * 60 >= 1 else f"{a_second * 3600:>4.0f}/h"


def count_text(tally: Tally, now: float) -> str:
    """`74/132  56 %  1 failed  1:22 left`."""
    parts = [f"{tally.done:,}/{tally.points:,}", f"{100 * tally.done // max(1, tally.points)} %"]
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    if tally.stage:
        parts.append("stopping")
    elif (left := tally.left_seconds(now)) is not None:
        parts.append(f"{clock_text(left)} left")
    return "  ".join(parts)


def sentence(event: events.Event) -> str:
    """What a person should read of an event; empty where the numbers say it all."""
    if isinstance(event, events.RunStarted):
        return _header(event)
    if isinstance(event, events.Failed):
        return f"  failed  {_values(event)}: {event.error}"
    if isinstance(event, events.Retrying):
        return f"  again in {event.delay:.1f} s  point {event.index:,} on {event.server}: {event.error}"
    if isinstance(event, events.ServerChanged) and event.state != "joined":
        return f"  {event.server} {'is back' if event.state == 'back' else f'takes no work: {event.reason}'}"
    if isinstance(event, events.Notice):
        return f"  {event.message}"
    if isinstance(event, events.Stopping) and event.stage == 1:
        return f"  stopping: {event.in_flight} in flight are finished first; Ctrl-C again cancels them"
    if isinstance(event, events.Stopping):
        return f"  cancelling {event.in_flight} in flight on the servers"
    return ""


def _header(event: events.RunStarted) -> str:
    points = f"{event.points:,} point{'s' if event.points != 1 else ''}"
    before = f" · {event.done:,} done before" if event.done else ""
    failed = f" · {event.failed:,} failed before" if event.failed else ""
    where = "  (sandbox: painted, not diffused)" if event.sandbox else ""
    return f"{event.experiment}  {points}{before}{failed}{where}"


def _values(event: events.Failed) -> str:
    """`denoise_strength 0.4 · seed 42`; the point's number where nothing varies."""
    return " · ".join(f"{name} {_short(value)}" for name, value in event.values.items()) or f"point {event.index}"


def _short(value: events.Scalar) -> str:
    text = number_text(value) if isinstance(value, float) else " ".join(str(value).split())
    return cut(text, SHORT)
