"""Results folders for the tests of this room: through the real journal, with small images painted here."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from shutil import copytree

import numpy as np
from anyio.to_thread import run_sync
from PIL import Image

from sweep.record import (
    ExperimentAxis,
    ExperimentFacts,
    Failure,
    ImageStore,
    JournalPoint,
    MetricCache,
    MetricKey,
    RunFacts,
    SqliteJournal,
)
from sweep.testing.journals import TIMES, an_intent
from sweep.types import Scalar
from tests.support.record_writing import rendering

HOSTILE = "</script><img src=x onerror=\"document.title='PWNED'\"><b>bold</b>"
EXPERIMENT = """\
name: cups
description: "How much of the cup survives? {hostile}"
workflow: img2img
axes:
  denoise_strength: [0.2, 0.4, 0.6]
  variation: [studio lighting, painterly]
  seed: {{start: 42, count: 2}}
"""
KINDS = {"denoise_strength": "number", "variation": "text", "seed": "seed"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a painted folder holds. `failed` and `unpainted` are indices of points."""

    axes: Mapping[str, Sequence[Scalar]] = field(
        default_factory=lambda: {
            "denoise_strength": [0.2, 0.4, 0.6],
            "variation": ["studio lighting", HOSTILE],
            "seed": [42, 43],
        }
    )
    failed: Mapping[int, str] = field(default_factory=dict)
    pending: frozenset[int] = frozenset()
    metrics: bool = True
    source: bool = True
    size: tuple[int, int] = (64, 48)
    server: str = "sandbox"
    shade: int = 0
    images: int = 1
    experiment: str = EXPERIMENT
    left_out: tuple[tuple[int, ...], ...] = ()


def paint(strength: float, seed: int, size: tuple[int, int] = (64, 48), shade: int = 0) -> Image.Image:
    """A gradient that dissolves into blocks as strength grows."""
    width, height = size
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 / width, y * 255 / height, np.full_like(x, 120 + shade)], axis=-1)
    blocks = random.integers(0, 256, (4, 4, 3)).repeat(-(-height // 4), 0)[:height].repeat(-(-width // 4), 1)[:, :width]
    return Image.fromarray(np.clip(base * (1 - strength) + blocks * strength, 0, 255).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def points(plan: Plan, source: str | None) -> list[JournalPoint]:
    """All points of the plan's grid, the first axis slowest."""
    names = list(plan.axes)
    made = []
    for index, values in enumerate(itertools.product(*plan.axes.values())):
        by_axis = dict(zip(names, values, strict=True))
        key = hashlib.blake2b(repr((by_axis, plan.shade)).encode(), digest_size=16).hexdigest()
        prompt = f"a cup, {by_axis.get('variation', 'plain')}"
        made.append(JournalPoint(key=key, index=index, values=by_axis, prompt=prompt, model="tiny-sd", source=source))
    return made


def run_facts(plan: Plan, count: int) -> RunFacts:
    axes = tuple((name, KINDS.get(name, "text")) for name in plan.axes)
    return RunFacts(
        experiment=plan.experiment.format(hostile=HOSTILE.replace('"', '\\"')),
        fingerprint="f" * 16,
        axes=axes,
        points=count,
        servers=[{"name": plan.server, "version": "6.14.2"}],
        command="sweep run cups.yaml",
        sweep_version="0.1.0",
        experiment_facts=None
        if plan.experiment != EXPERIMENT
        else ExperimentFacts(
            name="cups",
            description=f"How much of the cup survives? {HOSTILE}",
            workflow="img2img",
            inputs={"steps": 20, "negative_prompt": "blurry", "image": "/home/somebody/cup.png"},
            axes=tuple(
                ExperimentAxis(name=name, kind=KINDS.get(name, "text"), size=len(levels), levels=tuple(levels))
                for name, levels in plan.axes.items()
            ),
            left_out=plan.left_out,
        ),
    )


class Painted:
    """Folders painted once in this process; a test gets a copy, which costs a twentieth."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[str, Path] = {}

    async def copy(self, folder: Path, plan: Plan) -> Path:
        """Write the plan's results, of a run that has ended, into `folder`."""
        if repr(plan) not in self._made:
            self._made[repr(plan)] = await _paint(self._root / str(len(self._made)), plan, end=True)
        await run_sync(partial(copytree, self._made[repr(plan)], folder, dirs_exist_ok=True))
        return folder


async def paint_folder(folder: Path, plan: Plan | None = None, *, end: bool = True) -> Path:
    """Writes the plan's results into `folder`; those of a run that goes on are made anew, as their times count."""
    if end and PAINTED is not None:
        return await PAINTED.copy(folder, plan or Plan())
    return await _paint(folder, plan or Plan(), end=end)


PAINTED: Painted | None = None  # kept by the room's conftest


async def _paint(folder: Path, plan: Plan, *, end: bool) -> Path:
    await run_sync(lambda: folder.mkdir(parents=True, exist_ok=True))
    source = await run_sync(_keep_source, folder, plan) if plan.source else None
    made = points(plan, source)
    async with await SqliteJournal.open(folder) as journal:
        run = await journal.begin_run(run_facts(plan, len(made)))
        if source is not None:
            await journal.keep_input(source, "inputs/cup.png", "cup.png", *plan.size)
        await add(folder, journal, plan, [point for point in made if point.index not in plan.pending])
        if end:
            await journal.end_run(run, "failures" if plan.failed else "completed")
    if plan.metrics:
        await run_sync(_measure, folder, made, plan)
    return folder


async def add(folder: Path, journal: SqliteJournal, plan: Plan, new: Sequence[JournalPoint]) -> None:
    """Renders points into a journal that is open."""
    store = ImageStore(folder, len(new))
    for point in new:
        await journal.intend(point, replace(an_intent(point), server=plan.server))
        if point.index in plan.failed:
            await journal.fail(point, Failure(kind="ValueError", message=plan.failed[point.index]))
            continue
        strength, seed = float(point.values.get("denoise_strength") or 0.5), int(point.values.get("seed") or 1)
        seed += 1000 * list(plan.axes.get("variation", [None])).index(point.values.get("variation"))
        stem = store.stem(point.index, point.values, KINDS)
        saved = []
        for number in range(plan.images):
            data = png(paint(strength, seed + 100 * number, plan.size, plan.shade))
            saved.append(await store.save(data, stem, point.key, number))
        await journal.complete(point.key, [rendering(each, n) for n, each in enumerate(saved)], TIMES)


def _keep_source(folder: Path, plan: Plan) -> str:
    (folder / "inputs").mkdir()
    data = png(paint(0, 1, plan.size))
    (folder / "inputs" / "cup.png").write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _measure(folder: Path, made: Sequence[JournalPoint], plan: Plan) -> None:
    from sweep.record import RecordedResults

    frame = RecordedResults.open(folder).table()
    values: dict[MetricKey, float | None] = {}
    for sha, index in zip(frame["sha256"], frame["index"], strict=True):
        if isinstance(sha, str):
            strength = float(made[index].values.get("denoise_strength") or 0.5)
            for name, value in (("ssim", 1 - strength + index / 1000), ("delta_e", 10 * strength)):
                key = MetricKey(image=sha, reference="", metric=name, version="1", working_size=512)
                values[key] = value
    with MetricCache.open(folder) as cache:
        cache.put_many(values)
