"""Options of a sandbox, and the faults it injects: always the same ones for the same seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from sweep.errors import UsageError

FAMILY: Final = "InvokeAI"  # the family of servers whose protocol the sandbox speaks
Api = Literal["queue", "sessions", "portable"]
BadImage = Literal["truncated", "html", "bomb", "hostile-name"]
BAD_IMAGES: tuple[BadImage, ...] = get_args(BadImage)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultInjection:
    """Faults to commit, each as a share from 0 to 1 of its chances. With all at 0 the server behaves well.

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
    bad_image: float = 0.0  # renderings that are not the image they claim to be
    bad_images: tuple[BadImage, ...] = BAD_IMAGES  # the kinds to choose from

    def __post_init__(self) -> None:
        for name in (*HTTP_FAULTS, "fail_rate", "missing_event", "doubled_event", "socket_drop", "bad_image"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; a share must be 0 to 1.")


_HTTP_ERRORS = ("error_500", "error_503", "error_429", "error_401", "error_403")
HTTP_FAULTS = (*_HTTP_ERRORS, "slow", "reset", "lost_answer", "truncated")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """Options of one sandbox. Times are in seconds.

    `models` are words of the model catalogue. `latency` is spent on each item, `step_latency` on each denoising step,
    `gc_pause` on each item while the whole server stalls (InvokeAI collects garbage before every item); `jitter` is the
    share by which latency and step_latency vary to either side. `workers` is the number of generation devices. Without
    `root` everything is forgotten at the end; with it the queue, the images and the counts outlive a kill.
    `paint=False` serves one prepared image of `plain_side` × `plain_side` pixels for every item, for measuring clients.
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
    paint: bool = True
    plain_side: int = 512
    api: Api = "queue"
    users: Mapping[str, str] = field(default_factory=dict, repr=False)  # e-mail → password; any: a login is wanted
    seed: int = 0
    faults: FaultInjection = field(default_factory=FaultInjection)


def share(*parts: object) -> float:
    """Compute a number in [0, 1) that depends on `parts` alone and looks random."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class FaultDice:
    """Decides by dice which faults one server commits; `committed` counts them by name."""

    def __init__(self, faults: FaultInjection, seed: int) -> None:
        self.committed: Counter[str] = Counter()
        self._seed = seed
        self._chances: Counter[tuple[object, ...]] = Counter()
        self.inject(faults)

    def inject(self, faults: FaultInjection) -> None:
        """Commit these faults from now on, and count requests anew."""
        self.faults = faults
        self._requests = self._http = 0

    def happens(self, name: str, *about: object) -> bool:
        """Decide whether to inject the fault `name` now; `about` makes the chance depend on more than its number."""
        rate: float = getattr(self.faults, name)
        if not rate:
            return False
        chance = (name, *about)
        self._chances[chance] += 1
        hit = share(self._seed, *chance, self._chances[chance]) < rate
        self.committed[name] += hit
        return hit

    def draw_http_fault(self, path: str) -> str | None:
        """Draw the HTTP fault of this request, if any."""
        faults = self.faults
        if faults.only not in path or (faults.most is not None and self._http >= faults.most):
            return None
        self._requests += 1
        if self._requests <= faults.spare:
            return None
        met = next((name for name in HTTP_FAULTS if self.happens(name)), None)
        self._http += met is not None
        return met

    def choose_bad_image(self) -> BadImage | None:
        """Choose how this rendering is spoiled; None where it is not."""
        kinds = self.faults.bad_images
        if not kinds or not self.happens("bad_image"):
            return None
        return kinds[(self.committed["bad_image"] - 1) % len(kinds)]
