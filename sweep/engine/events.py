"""What a run tells whoever watches it: progress bars, JSON lines, a live page. Plain values, sent by callback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """`points` of the definition, of which `done` were rendered before and `failed` are left alone."""

    experiment: str
    points: int
    done: int
    failed: int  # in earlier runs, and not tried again in this one
    former: int  # completed points on record that the definition no longer has
    servers: tuple[str, ...]
    sandbox: bool
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    key: str
    index: int
    server: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    key: str
    index: int
    server: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """Its pictures are on disk and in the record. `seconds` is the server's rendering time, None where unknown.

    `server` is None, and `paths` empty, for a point that has the picture of another one of the same key.
    """

    key: str
    index: int
    server: str | None
    values: Mapping[str, Scalar]
    paths: tuple[str, ...]
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    key: str
    index: int
    server: str | None
    values: Mapping[str, Scalar]
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    key: str
    index: int
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
    """Something a person should know, in one sentence."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """Stage 1: no new work, what is in flight is finished. Stage 2: what is ours is cancelled."""

    stage: Literal[1, 2]
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """`ending`: completed, failures, interrupted, cancelled, no-server, disk-full."""

    ending: str
    completed: int
    failed: int
    points: int
    rendered: int  # in this run
    seconds: float


Event: TypeAlias = (
    RunStarted | Submitted | Started | Completed | Failed | Retrying | ServerChanged | Notice | Stopping | RunEnded
)
Listener: TypeAlias = Callable[[Event], None]
