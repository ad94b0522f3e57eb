"""Options of a sandbox: the models it offers, the faults it injects (always the same ones), and who may log in."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from sweep.errors import UsageError, did_you_mean
from sweep.workflow import Model

CATALOGUE: dict[str, tuple[tuple[str, str, str], ...]] = {  # word → (name, base, type)
    "sd-1": (("sandbox-sd15", "sd-1", "main"),),
    "sd-1-b": (("sandbox-sd15-b", "sd-1", "main"),),
    "sdxl": (("sandbox-sdxl", "sdxl", "main"),),
    "sdxl-refiner": (("sandbox-sdxl-refiner", "sdxl-refiner", "main"),),
    "flux": (
        ("sandbox-flux", "flux", "main"),
        ("sandbox-t5", "any", "t5_encoder"),
        ("sandbox-clip", "any", "clip_embed"),
        ("sandbox-flux-vae", "flux", "vae"),
    ),
    "vae": (("sandbox-vae", "sd-1", "vae"), ("sandbox-sdxl-vae", "sdxl", "vae")),
    "lora": (("sandbox-ink", "sd-1", "lora"), ("sandbox-glow", "sd-1", "lora")),
    "sdxl-lora": (("sandbox-sdxl-ink", "sdxl", "lora"), ("sandbox-sdxl-glow", "sdxl", "lora")),
    "controlnet": (("sandbox-canny", "sd-1", "controlnet"), ("sandbox-depth", "sd-1", "controlnet")),
    "sdxl-controlnet": (("sandbox-sdxl-canny", "sdxl", "controlnet"),),
}
_ALL = tuple(itertools.chain.from_iterable(CATALOGUE.values()))
_NAMESPACE = uuid.UUID("5f0e4d0e-9c55-4d6e-8a5a-6f1f3a2b7c11")
_DEFAULTS = ("vae", "vae_precision", "scheduler", "steps", "cfg_scale", "cfg_rescale_multiplier", "guidance")
_SIZES = {"sd-1": 512, "sdxl": 1024, "sdxl-refiner": 1024, "flux": 1024}

ModelRecord = dict[str, Any]


def records(words: Iterable[str]) -> dict[str, ModelRecord]:
    """List the models of these words by key. Raises UsageError.

    A word is one of `CATALOGUE`, or `all` for every one, or `name:base:type`, to offer a model that another server has.
    """
    wanted: dict[str, ModelRecord] = {}
    for word in words:
        if ":" in word:
            entries: Iterable[tuple[str, str, str]] = [_parse_word(word)]
        elif word == "all":
            entries = _ALL
        elif word in CATALOGUE:
            entries = CATALOGUE[word]
        else:
            known = ", ".join(CATALOGUE)
            hint = f"The sandbox has {known} and all.{did_you_mean(word, [*CATALOGUE, 'all'])}"
            raise UsageError(f"{word} is not a model of the sandbox.", hint=hint)
        made = (_record(name, base, kind) for name, base, kind in entries)
        wanted |= {record["key"]: record for record in made}
    return wanted


def _parse_word(word: str) -> tuple[str, str, str]:
    """Split a word such as tiny-sd:sd-1:main into name, base and type; the name may hold colons."""
    name, base, kind = (part.strip() for part in word.rsplit(":", 2)) if word.count(":") > 1 else ("", "", "")
    bases, kinds = ({entry[place] for entry in _ALL} for place in (1, 2))
    if not name:
        raise UsageError(f"{word} is not a model.", hint="Write name:base:type, such as tiny-sd:sd-1:main.")
    if base not in bases:
        raise UsageError(f"The sandbox paints no {base} models.", hint=f"Bases: {', '.join(sorted(bases))}.")
    if kind not in kinds:
        raise UsageError(f"{kind} is not a type of model.", hint=f"Types: {', '.join(sorted(kinds))}.")
    return name, base, kind


def _record(name: str, base: str, kind: str) -> ModelRecord:
    record: ModelRecord = {
        "key": str(uuid.uuid5(_NAMESPACE, f"{base}/{kind}/{name}")),
        "hash": f"blake3:{hashlib.sha256(f'{base}/{kind}/{name}'.encode()).hexdigest()}",
        "path": f"sandbox/{name}",
        "file_size": 0,
        "name": name,
        "description": "Painted by sweep's sandbox, not diffused by a network.",
        "source": f"sandbox/{name}",
        "source_type": "path",
        **dict.fromkeys(("source_api_response", "source_url", "cover_image")),
        "type": kind,
        "base": base,
    }
    if kind == "main":
        size = _SIZES.get(base, 512)
        defaults = {**dict.fromkeys((*_DEFAULTS, "cpu_only", "fp8_storage")), "width": size, "height": size}
        record |= {"trigger_phrases": None, "default_settings": defaults, "format": "diffusers", "repo_variant": ""}
        record |= {"prediction_type": "epsilon", "variant": "dev" if base == "flux" else "normal"}
    elif kind == "lora":
        weights = {"weight": None, "weight_min": None, "weight_max": None}
        record |= {"trigger_phrases": None, "default_settings": weights, "format": "lycoris"}
    elif kind == "controlnet":
        record |= {"format": "diffusers", "repo_variant": "", "default_settings": {"preprocessor": None}}
    else:
        record |= {"format": "diffusers", "repo_variant": ""}
    return record


def identifier(record: ModelRecord, submodel: str | None = None) -> dict[str, Any]:
    """Build the reference by which nodes name a model: five keys, and the part of it."""
    named = {key: record[key] for key in ("key", "hash", "name", "base", "type")}
    return {**named, "submodel_type": submodel}


def catalogue(words: Iterable[str]) -> tuple[Model, ...]:
    """Return the same models as values, to plan without a server."""
    names = ("key", "hash", "name", "base", "type")
    return tuple(Model(**{name: record[name] for name in names}) for record in records(words).values())


SECONDS = 86_400.0  # a token lasts, as InvokeAI's do without remember_me


class Accounts:
    """Users by e-mail with their passwords; none at all is a server that wants no login."""

    def __init__(self, users: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self.users = dict(users)
        self.logins = 0
        self._clock = clock
        self._tokens: dict[str, tuple[str, float]] = {}  # token → (e-mail, when it runs out)

    def log_in(self, email: object, password: object) -> str | None:
        """Issue a token; None where nobody has that e-mail and password."""
        if not isinstance(email, str) or not isinstance(password, str) or self.users.get(email) != password:
            return None
        self.logins += 1
        return self._issue(email)

    def _issue(self, email: str) -> str:
        token = secrets.token_urlsafe(32)
        self._tokens[token] = (email, self._clock() + SECONDS)
        return token

    def who(self, token: str) -> str | None:
        """Return whose token that is; None where it is nobody's, or has run out."""
        email, until = self._tokens.get(token, ("", 0.0))
        return email if email and self._clock() < until else None

    def fresh(self, token: str) -> str | None:
        """Issue another token for the same user, the old one staying valid; None for an invalid token."""
        email = self.who(token)
        return self._issue(email) if email else None

    def expire(self) -> None:
        """Let every token run out now."""
        self._tokens.clear()

    def refusal(self, headers: Mapping[str, str], auth: Any = None) -> str | None:
        """Say why a request or a socket is turned away, in InvokeAI's words; None where it may come in."""
        if not self.users:
            return None
        token = bearer(headers) or (str(auth.get("token") or "") if isinstance(auth, Mapping) else "")
        if not token:
            return "Authentication required"
        return None if self.who(token) else "Invalid or expired token"


def bearer(headers: Mapping[str, str]) -> str:
    """Read the token of an Authorization header; empty where there is none."""
    kind, _, token = headers.get("Authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


FAMILY: Final = "InvokeAI"  # the servers whose protocol is spoken
Api = Literal["queue", "sessions", "portable"]
BadImage = Literal["truncated", "html", "bomb", "hostile-name"]
BAD_IMAGES: tuple[BadImage, ...] = get_args(BadImage)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultInjection:
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

    def __post_init__(self) -> None:
        for name in ("latency", "step_latency", "gc_pause"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it cannot be negative.")
        if not 0 <= self.jitter <= 1:
            raise UsageError(f"jitter is {self.jitter}; a share must be 0 to 1.")
        if self.workers < 1 or self.queue_limit < 1 or self.plain_side < 1:
            raise UsageError("A sandbox needs at least 1 worker, a queue limit of at least 1, and pixels.")


def share(*parts: object) -> float:
    """Compute a number in [0, 1) that depends on `parts` alone and looks random."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class FaultDice:
    """Rolls for one server. `committed` counts the faults by name."""

    def __init__(self, faults: FaultInjection, seed: int) -> None:
        self._faults = faults
        self.committed: Counter[str] = Counter()
        self._seed = seed
        self._chances: Counter[tuple[object, ...]] = Counter()
        self._requests = 0
        self._http = 0

    @property
    def faults(self) -> FaultInjection:
        """Get the faults that are injected; new ones begin to count requests anew."""
        return self._faults

    @faults.setter
    def faults(self, faults: FaultInjection) -> None:
        self._faults = faults
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

    def http_fault(self, path: str) -> str | None:
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

    def bad_image(self) -> BadImage | None:
        """Choose how this rendering is spoiled, if it is."""
        kinds = self.faults.bad_images
        if not kinds or not self.happens("bad_image"):
            return None
        return kinds[(self.committed["bad_image"] - 1) % len(kinds)]
