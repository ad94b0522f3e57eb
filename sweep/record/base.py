"""The parts of the record: points, attempts, images, the facts of an experiment, and the Journal protocol.

Study and report may not import the experiment layer, and reading its YAML a second time in each of them read it in
three ways. So the engine, which has the experiment loaded, writes these facts as JSON when a run begins. A journal of
sweep 0.1 has none: there, and only there, the YAML on record is read again.

States of a variation: *pending* (no row) → *intended* → *submitted* → *rendered* → *completed* | *failed* |
*cancelled*; the last three are outcomes and never change, save that a failed or cancelled one may be tried again. A
step that is not on this way is a RecordError and changes nothing; a step taken twice with the same facts is none. Every
method that writes returns after the write is durable; many callers at once share one commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Protocol, Self, TypeAlias

from sweep.types import Scalar

MOST_LEVELS: Final = 1000  # of one axis, kept in the facts
MOST_LEFT_OUT: Final = 5000  # combinations that conditions leave out, kept in the facts


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentAxis:
    """An axis: the number of its levels (0 where unknown) and the first 1,000 of them as in the results table."""

    name: str
    kind: str
    size: int = 0
    levels: tuple[Scalar, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of labels: label → role → value


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentFacts:
    """An experiment in plain JSON values; an image is its path as written."""

    name: str | None = None  # None where it is not known
    description: str = ""
    workflow: str = ""  # as written: a template's name or a path
    inputs: Mapping[str, Any] = field(default_factory=dict)  # role or node.field → value
    axes: tuple[ExperimentAxis, ...] = ()  # the slowest first
    conditions: tuple[str, ...] = ()  # where and exclude, as written
    left_out: tuple[tuple[int, ...], ...] = ()  # what they leave out: a level's number for each axis; () if too many
    metrics: tuple[str, ...] = ()  # that the study section asks for; empty: the standard panel
    baseline: Mapping[str, Scalar] = field(default_factory=dict)  # axis → level, of the study section
    design: Mapping[str, Any] = field(default_factory=dict)  # of an adaptive one: what it looks for; others are empty

    def to_json(self) -> str:
        """Return the facts as one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the facts that `to_json` wrote; keys of a later version are left out. Raises ValueError."""
        from pydantic import TypeAdapter

        return TypeAdapter(cls).validate_json(text)

    @classmethod
    def from_yaml(cls, text: str, axes: Sequence[tuple[str, str]] = ()) -> Self:
        """Read the facts from an experiment's YAML, for a journal of sweep 0.1.

        The file was checked when it was run, so what does not read is left out. `axes` are (name, kind).
        """
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            loaded = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            loaded = None
        data = _mapping(loaded)
        study = _mapping(data.get("study"))
        metrics = study.get("metrics")
        return cls(
            name=str(data["name"]) if data.get("name") is not None else None,
            description=str(data.get("description") or ""),
            workflow=str(data.get("workflow") or ""),
            inputs=_mapping(data.get("inputs")),
            axes=tuple(ExperimentAxis(name=name, kind=kind) for name, kind in axes),
            metrics=tuple(map(str, metrics)) if isinstance(metrics, list) else (),
            baseline=_mapping(study.get("baseline")),
        )


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): each for key, each in value.items()} if isinstance(value, Mapping) else {}


JournalState: TypeAlias = Literal["intended", "submitted", "rendered", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalPoint:
    """A variation as the record keeps it, without its outcome."""

    key: str
    index: int
    values: Mapping[str, Scalar]  # by axis, in the order of the definition
    prompt: str | None
    model: str | None
    source: str | None = None  # SHA-256 of the image it starts from, where there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """An attempt at a variation, written before its request leaves."""

    key: str
    number: int  # counts from 1 over all runs of the folder
    server: str  # the server's name
    url: str
    batch_id: str
    item_id: str | None = None
    outputs: tuple[str, ...] = ()  # output nodes of this variation in the submitted graph
    state: JournalState = "intended"
    index: int | None = None  # in the current definition, as read back; None where that does not have it
    is_cancel_requested: bool = False  # as read back: its run was cancelled, and the server was told


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStatus:
    """The progress of a key: its state (None: to be rendered, nothing under way) and the attempts counted so far."""

    state: JournalState | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """An image of an outcome, on disk and whole."""

    path: str  # relative to the results folder, with "/"
    image_name: str  # the server's name for it
    node: str
    iteration: int
    width: int
    height: int
    sha256: str  # of the file
    size: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The times at which a server queued, started and finished an item; aware, UTC."""

    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The reason why an attempt brought no image: the class, as VariationError.kind, and a sentence."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Facts about a run, written to the record when it begins."""

    experiment: str  # the YAML, as run
    fingerprint: str  # of everything that decides index → key
    axes: tuple[tuple[str, str], ...]  # (name, kind) in order
    points: int
    servers: Sequence[Mapping[str, str]] = ()
    command: str = ""
    sweep_version: str = ""
    experiment_facts: ExperimentFacts | None = None  # None: what the journal gives is read from the YAML


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers of points of the current definition by state, and of rows that belong to earlier ones."""

    points: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    open: int = 0
    former: int = 0


class Journal(Protocol):
    """The durable account of a results folder. One writer; any number of readers."""

    async def begin_run(self, facts: RunFacts, points: Iterable[JournalPoint] = ()) -> int:
        """Begin a new run; return its number, which counts from 1.

        Where the fingerprint differs from the last run's, points on record are 'former' but for those among `points`,
        the points of the new definition: as `rebase`, in the same commit, so that a crash leaves the one definition or
        the other. Keys among them that are not on record are passed over. Later `rebase` and `intend` can say so of
        more.
        """
        ...

    async def end_run(self, run: int, ending: str, points: int | None = None) -> None:
        """Write how the run ended: completed, failures, interrupted, disk-full and others.

        `points`, where given, replaces how many points the run has: an adaptive design knows it only at the end.
        """
        ...

    async def fingerprint(self) -> str | None:
        """Return the fingerprint of the last run; None in a new folder."""
        ...

    async def indices(self, *states: JournalState) -> Sequence[int]:
        """Return the index of every point of the current definition in one of these states, ascending.

        A run is resumed by these, without computing keys.
        """
        ...

    async def keys(self, *states: JournalState) -> list[str]:
        """Return the key of every point of the current definition in one of these states."""
        ...

    async def identity(self) -> str:
        """Return hex that tells this folder's work from everybody else's on a shared server; its first run makes it."""
        ...

    async def rebase(self, points: Sequence[JournalPoint]) -> None:
        """Note that these keys, already on record, belong to the current definition, at these indices and values.

        Prompt, model and source stay as they are on record: a key decides them.

        Two points may have one key (two labels, one image): both stand in the table, rendered once. A key that is
        not on record is a RecordError.
        """
        ...

    async def seeds(self, axis: str, count: int) -> tuple[int, ...]:
        """Return the seeds of an axis given by `count` alone: drawn once, kept, extended where more are asked."""
        ...

    async def find_statuses(self, keys: Sequence[str]) -> dict[str, KeyStatus]:
        """Return state and attempts of each of these keys that is on record; the others are missing in the answer.

        Attempts are counted over all runs, since the key was last asked to be tried again.
        """
        ...

    async def list_ended_with(self, kind: str, url: str) -> list[str]:
        """Return batch ids of attempts at the server `url` that ended with a failure of this kind, newest first: the
        last 1,000.
        """
        ...

    async def intend(self, point: JournalPoint, intent: Intent) -> None:
        """Write an attempt down before its request leaves."""
        ...

    async def mark_submitted(self, batch_id: str, item_id: str) -> None:
        """Note that the server took the item: every open attempt under this batch id, several where it is fused."""
        ...

    async def mark_rendered(self, key: str, times: Times) -> None:
        """Note that the server is done with the item; its images are not here yet."""
        ...

    async def complete(self, key: str, renderings: Sequence[Rendering], times: Times) -> None:
        """Record that all its images are on disk, fsynced. Closes the attempt."""
        ...

    async def mark_attempt_failed(self, key: str, failure: Failure) -> None:
        """End the attempt without an image; the variation itself stays open."""
        ...

    async def withdraw(self, key: str) -> None:
        """Take the open attempt back, which rendered nothing through no fault of the variation: it is not counted."""
        ...

    async def fail(self, point: JournalPoint, failure: Failure) -> None:
        """Give the variation up. Also for one that was never submitted."""
        ...

    async def cancel(self, key: str) -> None:
        """Note that the user cancelled the variation."""
        ...

    async def reopen(self, keys: Sequence[str]) -> int:
        """Make those of `keys` that have an outcome pending again, with no attempts counted and no images; return how
        many they were.
        """
        ...

    async def open_intents(self) -> list[Intent]:
        """Return attempts whose end is not on record, oldest first: what a crash may have left on a server."""
        ...

    async def keep_input(self, sha256: str, path: str, name: str, width: int, height: int) -> None:
        """Note that a source image was copied into the folder, at this relative path."""
        ...

    async def keep_uploads(self, url: str, names: Mapping[str, str]) -> None:
        """Note under which names the server at `url` has input images: SHA-256 → name there."""
        ...

    async def uploads(self, url: str) -> dict[str, str]:
        """Return what `keep_uploads` noted of the server; a server may have lost an image since."""
        ...

    async def counts(self) -> Counts:
        """Count points by state, for `status` and progress."""
        ...

    async def aclose(self) -> None:
        """Write what is queued and close the journal."""
        ...
