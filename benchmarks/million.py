"""A grid of a million points: planned, resumed with 900,000 done, told, exported, and edited.

The record of the 900,000 is written straight into its tables, as rendering them would take weeks; their files are
links to one small image, so that folders and names are as many as they would be.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import anyio

from benchmarks.figures import Figure
from benchmarks.processes import Measured, command, in_process, peak_memory, sandboxes
from sweep.engine import Stop, events, run
from sweep.experiment import Experiment
from sweep.plan import Plan, make_plan
from sweep.record import JOURNAL_FILE, SEALED, ImageStore, SqliteJournal, build_seal, seal
from sweep.sandbox import SandboxOptions, catalogue
from sweep.workflow import load_builtin_schemas

NAME = "million"
DONE = 900_000
CHUNK = 10_000
IMAGE_BYTES = 5000
YAML = """\
name: million
workflow: txt2img
inputs: {prompt: a cup of coffee, steps: 1, width: 64, height: 64}
axes:
  cfg_scale: {start: 1, stop: 10.9, step: 0.1}
  variation: {lines: variations.txt}
  seed: {start: 1, count: SEEDS}
"""


@dataclass(frozen=True, slots=True)
class Dispatched:
    """Seconds and MB until the first submission of a run, and how many points it found done."""

    seconds: float
    peak: float
    done: int


def measure() -> list[Figure]:
    """Everything, in one folder."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        file = _experiment(root, 100)
        fresh = command("plan", str(file), folder=root)
        with sandboxes([SandboxOptions(paint=False, plain_side=64)]) as (url,):
            in_process(until_dispatch, file, url, root)  # makes the folder, its journal and the definition's row
            in_process(fill, file, root)
            resumed = in_process(until_dispatch, file, url, root)
            again = command("plan", str(file), folder=root)
            edited = in_process(until_dispatch, _experiment(root, 101), url, root)
        status = min(
            (command("status", str(root / "results" / "million")) for _ in range(3)), key=lambda one: one.seconds
        )
        table = command("table", str(root / "results" / "million"), folder=root)
        csv = (root / "results" / "million" / "results.csv").stat().st_size
    return [
        _figure("sweep plan", fresh.seconds, "s", 2.0),
        _figure("sweep plan: memory at most", fresh.peak, "MB", 150.0),
        _figure("sweep plan with 900,000 done", again.seconds, "s", 2.0),
        *_dispatch("resumed", resumed, 10.0, 400.0),
        *_dispatch("resumed with 101 instead of 100 seeds", edited, None, None),
        _figure("sweep status", status.seconds, "s", 1.0),
        _figure(f"sweep table: {csv / 1e6:.0f} MB of CSV, and Parquet", table.seconds, "s", None),
        _figure("sweep table: memory at most", table.peak, "MB", None),
    ]


def _figure(name: str, value: float, unit: str, goal: float | None) -> Figure:
    return Figure(benchmark=NAME, name=name, value=value, unit=unit, goal=goal)


def _dispatch(name: str, found: Measured[Dispatched], seconds: float | None, peak: float | None) -> Iterator[Figure]:
    yield _figure(f"{name} ({found.value.done:,} done): first submission after", found.value.seconds, "s", seconds)
    yield _figure(f"{name}: memory at most until then", found.value.peak, "MB", peak)


def _experiment(root: Path, seeds: int) -> Path:
    lines = [f"in the style of painter number {number}" for number in range(100)]
    (root / "variations.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    file = root / "million.yaml"
    file.write_text(YAML.replace("SEEDS", str(seeds)), encoding="utf-8")
    return file


def until_dispatch(file: Path, url: str, root: Path) -> Dispatched:
    """Run until the first points are submitted, and an image is there; the rest is left."""
    begun = time.perf_counter()
    found: list[Dispatched] = []
    done = 0
    stop = Stop()

    def hear(event: events.Event) -> None:
        nonlocal done
        if isinstance(event, events.RunStarted):
            done = event.done
        elif isinstance(event, events.Submitted) and not found:
            found.append(Dispatched(time.perf_counter() - begun, peak_memory(), done))
            stop.request(1)

    experiment = Experiment.load(file)

    async def go() -> None:
        with anyio.CancelScope() as scope:

            async def enough() -> None:
                await stop.wait_for(1)
                await anyio.sleep(0.5)
                scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(enough)
                await run(experiment, [url], results=root / "results", listener=hear, stop=stop)

    anyio.run(go)
    return found[0]


def fill(file: Path, root: Path) -> None:
    """Have the first 900,000 points done, on record and in files."""
    plan = make_plan(Experiment.load(file), load_builtin_schemas(), catalogue(SandboxOptions().models))
    folder = root / "results" / "million"
    anyio.run(_begun, folder)
    store = ImageStore(folder, len(plan))
    kinds = {axis.name: axis.kind for axis in plan.axes}
    with closing(sqlite3.connect(folder / JOURNAL_FILE, isolation_level=None)) as db:
        db.create_function("seal", -1, seal, deterministic=True)
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        for table in ("points", "images", "attempts"):
            db.execute(f"DELETE FROM {table}")
        rows = _rows(plan, store, kinds)
        while chunk := list(islice(rows, CHUNK)):
            _insert(db, chunk)
        db.execute("COMMIT")
    _link(folder)


async def _begun(folder: Path) -> None:
    journal = await SqliteJournal.open(folder, create=False)
    await journal.aclose()


Row = tuple[dict[str, Any], dict[str, Any]]


def _rows(plan: Plan, store: ImageStore, kinds: Mapping[str, str]) -> Iterator[Row]:
    prompt = plan.instance(plan.grid[0])
    for index, key in plan.keys(range(DONE)):
        values = plan.grid[index].values
        at = 1_700_000_000_000_000 + index * 1_000_000
        point = {
            **dict.fromkeys(SEALED["points"]),
            "key": key,
            "definition": 1,
            "idx": index,
            "axis_values": json.dumps(dict(values), ensure_ascii=False),
            "prompt": f"a cup of coffee, {values['variation']}",
            "model": prompt.model,
            "state": "completed",
            "attempts": 1,
            "server": "gpu1:9090",
            "queued_at": at,
            "started_at": at,
            "finished_at": at + 900_000,
        }
        image = {
            "key": key,
            "ordinal": 0,
            "path": f"images/{store.stem(index, values, kinds)}.png",
            "image_name": f"{key}.png",
            "node": prompt.outputs[0],
            "iteration": 0,
            "width": 64,
            "height": 64,
            "sha256": key + key,
            "size": IMAGE_BYTES,
        }
        yield point, image


def _insert(db: sqlite3.Connection, rows: list[Row]) -> None:
    for at, table in enumerate(("points", "images")):
        columns = SEALED[table]
        slots = ", ".join(f":{column}" for column in columns)
        sealed = build_seal(table)
        for column in sorted(columns, key=len, reverse=True):
            sealed = sealed.replace(f"({column}", f"(:{column}").replace(f" {column},", f" :{column},")
            sealed = sealed.replace(f" {column})", f" :{column})")
        insert = f"INSERT INTO {table} ({', '.join(columns)}, seal) VALUES ({slots}, {sealed})"
        db.executemany(insert, [row[at] for row in rows])
    db.executemany(
        "INSERT INTO attempts (key, number, run, server, url, batch_id, item_id, outputs, state, begun_at, ended_at)"
        " VALUES (:key, 1, 1, 'gpu1:9090', 'http://gpu1:9090', :key, '1', '[]', 'completed', :queued_at, :finished_at)",
        [row[0] for row in rows],
    )


def _link(folder: Path) -> None:
    """Names for all images, a thousand to a file."""
    shutil.rmtree(folder / "images")
    with closing(sqlite3.connect(folder / JOURNAL_FILE)) as db:
        original = folder / "images"
        for number, (path,) in enumerate(db.execute("SELECT path FROM images ORDER BY path")):
            target = folder / path
            if number % 1000 == 0:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(bytes(IMAGE_BYTES))  # of the size on record: a run looks at it at its start
                original = target
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(original, target)
