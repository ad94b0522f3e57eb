"""The state of a run as its events tell it: a pure account for every kind of display."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from sweep.engine import events

WINDOW: Final = 60.0  # seconds over which a rate is taken
FEW: Final = 10  # pictures that a rate is taken from at least


@dataclass(slots=True)
class ServerTally:
    """One server: what runs there now, and when its last pictures came, in monotonic seconds."""

    running: set[str] = field(default_factory=set)
    finished: deque[float] = field(default_factory=lambda: deque(maxlen=4096))
    done: int = 0
    left: str = ""

    def rate(self, now: float, began: float) -> float:
        """Pictures a second over the last minute; where few came in it, over the last few."""
        recent = sum(at >= now - WINDOW for at in self.finished)
        count = min(max(recent, FEW), len(self.finished))
        if count < len(self.finished):
            start = self.finished[-count - 1]
        elif self.done == len(self.finished):
            start = began
        else:  # older ones are forgotten
            start, count = self.finished[0], count - 1
        return count / (now - start) if now > start else 0.0


@dataclass(slots=True)
class Tally:
    """Numbers of a run. `done` counts earlier runs too; `failed` counts this run's and earlier failures."""

    points: int = 0
    before: int = 0
    done: int = 0
    failed: int = 0
    began: float = 0.0
    stage: int = 0
    servers: dict[str, ServerTally] = field(default_factory=dict)

    def take(self, event: events.Event, now: float) -> None:
        """Account for one event that happened at `now`, monotonic seconds."""
        if isinstance(event, events.RunStarted):
            self.points, self.before, self.done, self.began = event.points, event.done, event.done, now
            self.failed = event.failed
            for name in event.servers:
                self.servers.setdefault(name, ServerTally())
        elif isinstance(event, events.Submitted):
            self._server(event.server).running.add(event.key)
        elif isinstance(event, events.Completed):
            self.done += 1
            self._over(event.server, event.key, now)
        elif isinstance(event, events.Failed):
            self.failed += 1
            self._over(event.server, event.key, None)
        elif isinstance(event, events.Retrying):
            self._server(event.server).running.discard(event.key)
        elif isinstance(event, events.ServerChanged):
            self._server(event.server).left = event.reason or "left" if event.state == "left" else ""
        elif isinstance(event, events.Stopping):
            self.stage = event.stage

    def left_seconds(self, now: float) -> float | None:
        """Time left at the rate so far; None while nothing is known."""
        rate = sum(server.rate(now, self.began) for server in self.servers.values())
        open_points = self.points - self.done - self.failed
        return open_points / rate if rate > 0 and open_points >= 0 else None

    def _server(self, name: str) -> ServerTally:
        return self.servers.setdefault(name, ServerTally())

    def _over(self, name: str | None, key: str, finished: float | None) -> None:
        for server in self.servers.values():
            server.running.discard(key)
        if name is not None and finished is not None:
            self._server(name).done += 1
            self._server(name).finished.append(finished)
