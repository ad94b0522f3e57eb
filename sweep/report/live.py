"""The feed of a live page: what changed in a results folder.

It reads the journal instead of listening to the engine: so the same page serves a run in this process, a run in another
one, and a folder that is finished.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anyio.to_thread import run_sync

from sweep.errors import RecordError, SweepError
from sweep.record import in_use
from sweep.report.page_data import (
    ImageLinks,
    JsonObject,
    ReportData,
    build_live_rows,
    build_open_rows,
    build_payload,
    read_report_data,
)
from sweep.report.page_writer import add_study_columns
from sweep.report.thumbnails import FOLDER, make_thumb_id

if TYPE_CHECKING:
    from sweep.study import StudyJson

_PAUSE: Final = 1.0  # seconds between two looks at the journal; longer where a look takes long
_SETTLE: Final = 0.2  # seconds in which several events become one look


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A folder as read at one moment."""

    data: ReportData
    links: ImageLinks
    rows: Mapping[str, JsonObject]
    served: frozenset[str]  # paths in the folder that may be asked for
    is_running: bool


def read_snapshot(folder: Path, steps: Mapping[str, float]) -> Snapshot:
    """Read `folder` for a live page; `steps` are the shares done of points at a server. Blocking."""
    data = read_report_data(folder)
    ids, sources = frozenset(data.files.by_id), data.files.sources
    links = ImageLinks(prefix="", thumbs=ids, embedded=False, thumb_prefix=f"{FOLDER}/", source_ids=sources)
    rows = {f"{row['key']}.{row['image']}": row for row in build_live_rows(data, links)}
    known = {row["path"] for row in rows.values() if row["path"] is not None}
    rows |= {f"{row['key']}.1": row for row in build_open_rows(data, steps)}
    return Snapshot(data, links, rows, frozenset({*known, *sources}), is_running(data))


def is_running(data: ReportData) -> bool:
    """Tell whether a run writes to the folder: one that was killed left no end on record, and its lock is free."""
    try:
        return bool(data.runs) and data.runs[-1].ended_at is None and in_use(data.folder)
    except RecordError:
        return False


class Feed:
    """Follows a results folder. Call `wake` and await the rest on the event loop; reading is done in a thread.

    A run that has ended is studied, in a thread too: by `studies`, or by whom the run belongs to, who then calls
    `finish`. With the study a page becomes the report.
    """

    def __init__(self, folder: Path, *, studies: bool = True) -> None:
        self.folder = folder
        self._studies = studies
        self._changed = asyncio.Condition()
        self._woken = asyncio.Event()
        self._since: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        self._progress: JsonObject = {}
        self._steps: dict[str, float] = {}  # by key of a point at a server: the share of it that is done
        self._studied: tuple[object, ...] | None = None
        self.generation = 0
        nothing = ImageLinks(prefix="", thumbs=frozenset(), embedded=False)
        self.snapshot = Snapshot(ReportData.empty(folder, folder.name), nothing, {}, frozenset(), is_running=False)
        self.study: StudyJson | None = None
        self.is_reported = False  # the page can become the report
        self.delivered = asyncio.Event()  # a page has become the report

    def wake(self) -> None:
        """Look at the journal soon instead of at the next turn."""
        self._woken.set()

    def note_step(self, key: str, share: float) -> None:
        """Note how far an image is, for the next look at the journal."""
        self._steps[key] = share

    async def refresh(self) -> None:
        """Read the folder and note what changed."""
        snapshot = await run_sync(read_snapshot, self.folder, dict(self._steps))
        rendering = {point.key for point in snapshot.data.open_points}
        self._steps = {key: share for key, share in self._steps.items() if key in rendering}
        before = self.snapshot.rows
        changed = [name for name, row in snapshot.rows.items() if before.get(name) != row]
        gone = [row["key"] for name, row in before.items() if name not in snapshot.rows]
        progress = summarize_progress(snapshot)
        async with self._changed:
            self.snapshot = snapshot
            if snapshot.is_running:
                self.is_reported = False
            if changed or gone or _without_clock(progress) != _without_clock(self._progress):
                self.generation += 1
                self._since.update(dict.fromkeys(changed, self.generation))
                self._gone.update(dict.fromkeys(gone, self.generation))
                self._changed.notify_all()
            self._progress = progress

    async def follow(self) -> None:
        """Refresh for ever: after an event, and every second or so without one."""
        while True:
            started = time.monotonic()
            await self.refresh()
            await self._study_if_due()
            pause = max(_PAUSE, 8 * (time.monotonic() - started))
            try:
                await asyncio.wait_for(self._woken.wait(), pause)
                await asyncio.sleep(_SETTLE)
            except TimeoutError:
                pass
            self._woken.clear()

    async def _study_if_due(self) -> None:
        snapshot = self.snapshot
        if not self._studies or snapshot.is_running or not snapshot.data.runs:
            return
        state = (len(snapshot.data.runs), snapshot.data.counts)
        if state != self._studied:
            self._studied = state
            await self.finish(await run_sync(study_folder, self.folder))

    async def finish(self, study: StudyJson | None) -> None:
        """Give the study of a run that has ended: pages become its report."""
        await self.refresh()
        async with self._changed:
            self.study = study
            self.is_reported = not self.snapshot.is_running  # it may have been resumed
            self.generation += 1
            self._changed.notify_all()

    async def news(self, since: int, patience: float) -> JsonObject | None:
        """Wait up to `patience` seconds for changes after generation `since`; None where there are none."""
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: self.generation > since), patience)
            except TimeoutError:
                return None
            fresh = [row for name, row in self.snapshot.rows.items() if self._since.get(name, 0) > since]
            gone = [key for key, generation in self._gone.items() if generation > since]
            state = {"generation": self.generation, "report": self.is_reported, **self._progress}
            return {**state, "rows": fresh, "gone": gone}

    def page_data(self, links: ImageLinks | None = None) -> JsonObject:
        """Build the payload of a page that goes on listening."""
        data, study = self.snapshot.data, self.study if self.is_reported else None
        links = self.snapshot.links if links is None else links
        payload = build_payload(add_study_columns(data, study), links, study)
        live = {"events": "events", "ratings": "ratings", "generation": self.generation, **self._progress}
        return {**payload, "live": {**live, "rows": build_open_rows(data, self._steps)}}

    def find_image(self, identity: str) -> Path | None:
        """Find the image that a thumbnail id stands for, None where no row has it."""
        return self.snapshot.data.files.by_id.get(make_thumb_id(identity))


def study_folder(folder: Path) -> StudyJson | None:
    """Study the folder; None where it cannot be read or measured: the page then shows what is there."""
    from sweep.study import make_study

    try:
        return make_study(folder).to_json()
    except SweepError:
        return None


def _without_clock(progress: JsonObject) -> JsonObject:
    return {name: value for name, value in progress.items() if name not in ("seconds", "left")}


def summarize_progress(snapshot: Snapshot) -> JsonObject:
    """Say how far the run is, and how long it will take (`left` in seconds, None before the first image)."""
    data = snapshot.data
    counts = data.counts
    run = data.runs[-1] if data.runs else None
    seconds = 0.0 if run is None else ((run.ended_at or datetime.now(UTC)) - run.begun_at).total_seconds()
    fresh = 0
    if run is not None and "finished_at" in data.frame:
        fresh = int((data.frame["finished_at"] >= run.begun_at).sum())
    open_count = counts.points - counts.completed - counts.failed - counts.cancelled
    return {
        "done": counts.completed,
        "failed": counts.failed,
        "points": counts.points,
        "running": snapshot.is_running,
        "rendering": sum(point.state != "pending" for point in data.open_points),
        "retrying": sum(point.state == "pending" for point in data.open_points),
        "seconds": round(seconds, 1),
        "left": round(seconds / fresh * open_count, 1) if fresh and snapshot.is_running else None,
        "outcome": (run.ending if run is not None else None) or "",
    }
