"""What a live page has not seen yet: rows of a results folder, each with the generation in which it last changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from anyio.to_thread import run_sync

from sweep.report.data import Json, Level, Shown, payload, plain, rows_of
from sweep.report.explorer import picture_files
from sweep.report.material import Material, read_material
from sweep.report.thumbs import FOLDER, thumb_id

_PAUSE: Final = 1.0  # seconds between two looks at the journal; longer where a look takes long
_SETTLE: Final = 0.2  # seconds in which several events become one look


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A folder as read at one moment."""

    material: Material
    shown: Shown
    rows: Mapping[str, Json]
    pictures: Mapping[str, Path]  # by thumbnail id, sources too
    files: frozenset[str]  # paths in the folder that may be served


def read_snapshot(folder: Path) -> Snapshot:
    """Reads `folder` for a live page. Blocking."""
    material = read_material(folder)
    pictures, sources = picture_files(material)
    pictures = {**pictures, **{identity: material.folder / name for name, identity in sources.items()}}
    shown = Shown(prefix="", thumbs=frozenset(pictures), embedded=False, thumb_prefix=f"{FOLDER}/", source_ids=sources)
    rows = {f"{row['key']}.{row['picture']}": row for row in rows_of(material, shown)}
    known = {row["path"] for row in rows.values() if row["path"] is not None}
    return Snapshot(material, shown, rows, pictures, frozenset({*known, *sources}))


class Feed:
    """Follows a results folder. `listen` and `wake` belong to the event loop; reading is done in a thread."""

    def __init__(self, folder: Path, levels: Mapping[str, Sequence[Level]] | None = None) -> None:
        self._folder = folder
        self._levels = levels or {}
        self._changed = asyncio.Condition()
        self._woken = asyncio.Event()
        self._since: dict[str, int] = {}
        self._progress: Json = {}
        self.generation = 0
        self.snapshot: Snapshot | None = None

    def wake(self) -> None:
        """Something happened: look soon instead of at the next turn."""
        self._woken.set()

    async def refresh(self) -> None:
        """Reads the folder and notes what changed."""
        snapshot = await run_sync(read_snapshot, self._folder)
        before = self.snapshot.rows if self.snapshot is not None else {}
        changed = [name for name, row in snapshot.rows.items() if before.get(name) != row]
        progress = progress_of(snapshot.material)
        async with self._changed:
            self.snapshot = snapshot
            if changed or progress != self._progress:
                self.generation += 1
                self._since.update(dict.fromkeys(changed, self.generation))
                self._progress = progress
                self._changed.notify_all()

    async def follow(self) -> None:
        """Refreshes for ever: after an event, and every second or so without one."""
        while True:
            started = time.monotonic()
            await self.refresh()
            pause = max(_PAUSE, 8 * (time.monotonic() - started))
            try:
                await asyncio.wait_for(self._woken.wait(), pause)
                await asyncio.sleep(_SETTLE)
            except TimeoutError:
                pass
            self._woken.clear()

    async def news(self, since: int, patience: float) -> Json | None:
        """What changed after generation `since`; waits up to `patience` seconds for it, then None."""
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: self.generation > since), patience)
            except TimeoutError:
                return None
            rows = self.snapshot.rows if self.snapshot is not None else {}
            fresh = [row for name, row in rows.items() if self._since.get(name, 0) > since]
            return {"generation": self.generation, "rows": fresh, **self._progress}

    def page_data(self) -> Json:
        """The payload of a page that goes on listening."""
        if self.snapshot is None:
            raise RuntimeError("refresh() comes before page_data()")
        data = payload(self.snapshot.material, self.snapshot.shown)
        for axis in data["axes"]:
            known = set(axis["levels"])
            more = [plain(level) for level in self._levels.get(axis["name"], ())]
            _extend(axis, [level for level in more if level not in known])
        running = bool(self._progress.get("running"))
        return {**data, "live": {"events": "events", "generation": self.generation, "running": running}}

    @property
    def material(self) -> Material | None:
        """As last read."""
        return self.snapshot.material if self.snapshot is not None else None


def _extend(axis: dict[str, Any], more: Sequence[Level]) -> None:
    """Levels that no row has yet, in their place: the definition knows them before the record does."""
    levels = [*axis["levels"], *more]
    numeric = all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)
    wanted = sorted(levels) if numeric and more else levels
    place = [wanted.index(level) for level in axis["levels"]]
    axis["at"] = [place[at] for at in axis["at"]]
    axis["levels"] = wanted


def progress_of(material: Material) -> Json:
    """How far the run is. `running` as the journal says: a killed run counts as running until the next one."""
    counts = material.counts
    return {
        "done": counts.completed,
        "failed": counts.failed,
        "points": counts.points,
        "running": bool(material.runs) and material.runs[-1].ended_at is None,
    }


def known_thumb(snapshot: Snapshot | None, identity: str) -> Path | None:
    """The picture that a thumbnail id stands for, None where no row has it."""
    return None if snapshot is None else snapshot.pictures.get(thumb_id(identity))
