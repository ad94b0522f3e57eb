"""Shards rendered apart are one run together, also where the merge is killed at every step of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep.record import RecordedResults
from tests.support.processes import Bench

VARYING = {"server", "queued_at", "started_at", "finished_at", "render_seconds", "image_name", "sha256"}
"""Files differ in the ids of their items, which stand in their texts."""
DRAWN = {"denoise_strength": [0.2, 0.5, 0.8], "seed": {"count": 4}}


def table(folder: Path) -> list[dict[str, Any]]:
    """Read a results table without what differs from run to run."""
    rows = RecordedResults.open(folder).rows()
    return [{name: cell for name, cell in row.items() if name not in VARYING} for row in rows]


def render_shards(bench: Bench, count: int) -> list[Path]:
    """Render each part of the grid into a folder of its own, as on a machine of its own."""
    server, file = bench.sandbox(), str(bench.write())
    shards = []
    for number in range(1, count + 1):
        results = f"shard-{number}"
        options = ["--shard", f"{number}/{count}", "--results", results, "--no-report", "--progress", "none"]
        code, said = bench.sweep("run", file, "--server", server.url, *options)
        assert code == 0, said
        shards.append(bench.folder / results / bench.definition["name"])
    server.kill()
    return shards


def kill_merge(bench: Bench, shards: list[Path], target: Path, point: str, nth: int) -> int:
    order: dict[str, Any] = {
        "sources": [str(shard) for shard in shards],
        "target": str(target),
        "point": point,
        "nth": nth,
    }
    return bench.zygote.wait(bench.zygote.start("merge", **order)[0])[0]


@pytest.mark.slow
def test_merged_shards_draw_the_same_seeds_and_equal_an_unsharded_run(bench: Bench) -> None:
    bench.definition["axes"] = DRAWN
    shards = render_shards(bench, 3)
    target = bench.folder / "merged" / "small"
    for point, nth in (("merge.before-commit", 2), ("merge.after-commit", 5), ("image.renamed", 3)):
        assert kill_merge(bench, shards, target, point, nth) == -9, bench.log()
    code, said = bench.sweep("merge", *(str(shard) for shard in shards), "--output", str(target))
    assert (code, "not rendered" in said) == (0, False), said
    assert RecordedResults.open(target).verify() == []

    seeds = sorted({int(str(row["seed"])) for row in table(target)})
    assert len(seeds) == 4
    order = RecordedResults.open(target)
    drawn = list(dict.fromkeys(int(str(row["seed"])) for row in order.rows()))
    bench.definition["axes"] = {**DRAWN, "seed": drawn}
    server = bench.sandbox("unsharded")
    code, said = bench.sweep("run", str(bench.write()), "--server", server.url, "--no-report", "--progress", "none")
    assert code == 0, said
    assert table(target) == table(bench.results.folder)
    for row in table(target):
        with Image.open(target / row["image_path"]) as one, Image.open(bench.results.folder / row["image_path"]) as two:
            assert one.tobytes() == two.tobytes()
    server.kill()


@pytest.mark.full
def test_four_shards_of_a_thousand_points_equal_an_unsharded_run(bench: Bench) -> None:
    bench.definition["axes"] = {"denoise_strength": [0.2, 0.4, 0.6, 0.8], "seed": {"start": 1, "count": 1000}}
    shards = render_shards(bench, 4)
    target = bench.folder / "merged" / "small"
    assert kill_merge(bench, shards, target, "merge.before-commit", 12) == -9
    code, said = bench.sweep("merge", *map(str, shards), "--output", str(target))
    assert code == 0, said
    server = bench.sandbox("unsharded")
    code, said = bench.sweep("run", str(bench.write()), "--server", server.url, "--no-report", "--progress", "none")
    assert code == 0, said
    assert len(table(target)) == 4000
    assert table(target) == table(bench.results.folder)
    server.kill()
