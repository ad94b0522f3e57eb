"""What a sandbox is told: its models, its pace, where it keeps things, and the faults it commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sweep.errors import UsageError

Api = Literal["queue", "sessions", "portable"]
BadImage = Literal["truncated", "html", "bomb", "hostile-name"]
BAD_IMAGES: tuple[BadImage, ...] = ("truncated", "html", "bomb", "hostile-name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Faults to commit, each a share from 0 to 1 of the chances there are. All 0 is a well-behaved server.

    Which chances are taken is decided by hashing (`SandboxOptions.seed`, fault, how many chances there were
    before), so that two servers of the same seed that are asked the same things fail alike. HTTP faults hit paths
    that contain `only`, after the first `spare` such requests, and at most `most` times altogether.
    """

    fail_rate: float = 0.0  # items whose sampling fails; an item tried again is a new chance
    error_500: float = 0.0
    error_503: float = 0.0  # with Retry-After, unless `retry_after` is 0
    error_429: float = 0.0  # the same
    error_401: float = 0.0
    error_403: float = 0.0
    slow: float = 0.0  # answers held back for `slow_seconds`
    reset: float = 0.0  # connections closed before the request is looked at
    lost_answer: float = 0.0  # connections closed after the request has taken effect
    truncated: float = 0.0  # bodies cut in the middle
    retry_after: float = 1.0  # seconds; sent as a whole number, rounded up
    slow_seconds: float = 5.0
    only: str = ""
    spare: int = 0
    most: int | None = None
    missing_event: float = 0.0
    doubled_event: float = 0.0
    socket_drop: float = 0.0  # events after which every socket is cut
    bad_image: float = 0.0  # renderings that are not the picture they claim to be
    bad_images: tuple[BadImage, ...] = BAD_IMAGES  # the kinds to choose from

    def __post_init__(self) -> None:
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it is a share and goes from 0 to 1.")


HTTP_FAULTS = (
    "error_500",
    "error_503",
    "error_429",
    "error_401",
    "error_403",
    "slow",
    "reset",
    "lost_answer",
    "truncated",
)
_SHARES = ("fail_rate", *HTTP_FAULTS, "missing_event", "doubled_event", "socket_drop", "bad_image")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """How one sandbox behaves. Times are in seconds.

    `models` are words of `sweep.sandbox.models.CATALOGUE`. `latency` is spent on each item, `step_latency` on each
    denoising step, `gc_pause` on each item while the whole server stalls (InvokeAI collects garbage before every
    item); `jitter` is the share by which latency and step_latency vary to either side. `workers` is the number of
    generation devices. Without `root` everything is forgotten at the end; with it the queue, the pictures and the
    counts outlive a kill. `paint=False` serves one prepared picture of `plain_side` × `plain_side` pixels for every
    item, for measuring clients.
    """

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free one
    root: Path | None = None
    models: tuple[str, ...] = ("sd-1",)
    latency: float = 0.0
    step_latency: float = 0.0
    jitter: float = 0.0
    gc_pause: float = 0.0
    workers: int = 1
    queue_limit: int = 10_000
    node_cache_size: int = 512
    affinity: bool = True  # session_queue_mode round_robin: prefer items whose model is loaded
    paint: bool = True
    plain_side: int = 512
    api: Api = "queue"
    users: Mapping[str, str] = field(default_factory=dict, repr=False)  # e-mail → password; any: a login is wanted
    seed: int = 0
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        for name in ("latency", "step_latency", "gc_pause", "node_cache_size"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it cannot be negative.")
        if not 0 <= self.jitter <= 1:
            raise UsageError(f"jitter is {self.jitter}; it is a share and goes from 0 to 1.")
        if self.workers < 1 or self.queue_limit < 1 or self.plain_side < 1:
            raise UsageError("A sandbox needs at least 1 worker, a queue limit of at least 1, and pixels.")
