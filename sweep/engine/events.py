"""Typed events that a run reports, and the numbers of a run (`RunProgress`) computed from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from sweep.types import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run begins. Of the `points` of its definition `done` were rendered before, and `failed` are left alone."""

    experiment: str
    points: int
    done: int
    failed: int  # in earlier runs, and not tried again in this one
    former: int  # completed and failed points on record that the definition no longer has
    servers: tuple[str, ...]
    sandbox: bool
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PointEvent:
    """Something that happened to one point of the grid."""

    key: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted(PointEvent):
    server: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(PointEvent):
    server: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced(PointEvent):
    """A variation's node is done to `share` (0 to 1). Reported only with `RunOptions.tells_steps`."""

    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(PointEvent):
    """A variation is completed: its images are on disk and in the record. `seconds`: rendering time of the server.

    `server` is None, and `paths` empty, for a point that has the image of another one of the same key.
    """

    server: str | None
    values: Mapping[str, Scalar]
    paths: tuple[str, ...]
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(PointEvent):
    server: str | None
    values: Mapping[str, Scalar]
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying(PointEvent):
    server: str
    attempt: int
    delay: float  # seconds
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerChanged:
    """A server joined, left (with the reason), or came back."""

    server: str
    state: Literal["joined", "left", "back"]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A sentence for the user."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """A run is being stopped. Stage 1: items in flight are finished. Stage 2: our items are cancelled."""

    stage: Literal[1, 2]
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """A run is over. `ending` is one of the words of `RunSummary.ending`."""

    ending: str
    completed: int
    failed: int
    points: int
    rendered: int  # in this run
    seconds: float


Event: TypeAlias = (
    RunStarted
    | Submitted
    | Started
    | Advanced
    | Completed
    | Failed
    | Retrying
    | ServerChanged
    | Notice
    | Stopping
    | RunEnded
)
Listener: TypeAlias = Callable[[Event], None]


WINDOW: Final = 60.0  # seconds over which a rate is taken
_FEW: Final = 10  # images that a rate is taken from at least
MOST_RECENT: Final = 10_000  # images of a server whose time is kept: more than it renders in the window


@dataclass(slots=True)
class ServerTally:
    """Numbers of one server: what runs there now, and when its last images came, in monotonic seconds."""

    running: set[str] = field(default_factory=set)
    finished: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_RECENT))
    done: int = 0
    left: str = ""

    def measure_rate(self, now: float, began: float) -> float:
        """Return images a second over the last minute; where few came in it, over the last few."""
        recent = sum(at >= now - WINDOW for at in self.finished)
        count = min(max(recent, _FEW), len(self.finished))
        start = self.finished[-count - 1] if count < len(self.finished) else began
        return count / (now - start) if now > start else 0.0


@dataclass(slots=True)
class RunProgress:
    """Numbers of a run. `done` counts earlier runs too; `failed` counts this run's and earlier failures."""

    points: int = 0
    before: int = 0
    done: int = 0
    failed: int = 0
    began: float = 0.0
    stage: int = 0
    servers: dict[str, ServerTally] = field(default_factory=dict)

    def take(self, event: Event, now: float) -> None:
        """Account for one event that happened at `now`, monotonic seconds."""
        if isinstance(event, RunStarted):
            self.points, self.before, self.done, self.began = event.points, event.done, event.done, now
            self.failed = event.failed
            for name in event.servers:
                self._server(name)
        elif isinstance(event, Submitted | Completed | Failed | Retrying):
            for server in self.servers.values():  # it may have been at another one
                server.running.discard(event.key)
            self._take_step(event, now)
        elif isinstance(event, ServerChanged):
            self._server(event.server).left = event.reason or "left" if event.state == "left" else ""
        elif isinstance(event, Stopping):
            self.stage = event.stage

    def estimate_seconds_left(self, now: float) -> float | None:
        """Estimate the time left at the rate so far; None while nothing is known."""
        rate = sum(server.measure_rate(now, self.began) for server in self.servers.values())
        open_points = self.points - self.done - self.failed
        return open_points / rate if rate > 0 and open_points >= 0 else None

    def _server(self, name: str) -> ServerTally:
        return self.servers.setdefault(name, ServerTally())

    def _take_step(self, event: Submitted | Completed | Failed | Retrying, now: float) -> None:
        if isinstance(event, Submitted):
            self._server(event.server).running.add(event.key)
        elif isinstance(event, Failed):
            self.failed += 1
        elif isinstance(event, Completed):
            self.done += 1
            if event.server is not None:
                self._server(event.server).done += 1
                self._server(event.server).finished.append(now)
