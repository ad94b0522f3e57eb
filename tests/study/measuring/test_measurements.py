"""Metrics as columns: measured once, kept, resumed; and whatever is wrong with an image becomes its row's reason."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pandas as pd
import pytest
from anyio.streams.text import TextReceiveStream
from PIL import Image

from sweep.errors import RecordError, UsageError
from sweep.record import RecordedResults
from sweep.study.measuring import measurements
from sweep.study.measuring.measurements import measure_now
from sweep.study.measuring.workers import Task, find_versions, measure_sent
from sweep.study.metrics.base import Formula, ImagePair
from sweep.study.metrics.metric_lookup import list_standard
from sweep.study.study import make_study
from sweep.types import Scalar
from tests.support.odd_metrics import BRIGHTNESS, dying, failing
from tests.support.ray_cluster import RayCluster, needs_ray
from tests.support.study_folders import KINDS, POINTS, SOURCE, measure, painted
from tests.support.study_images import photo, png_bytes, write_results

NAMES = [metric.name for metric in list_standard()]


class Counter:
    """A metric's function that counts how often it is asked, and may stop everything."""

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.asked = 0
        self.fails_at = fails_at

    def __call__(self, looked_at: ImagePair) -> float:
        self.asked += 1
        if self.asked == self.fails_at:
            raise KeyboardInterrupt
        return float(looked_at.image.rgb.mean())


def counted(counter: Counter, version: str = "1") -> Formula:
    return replace(BRIGHTNESS, name="counted", function=counter, version=version)


def test_every_image_gets_every_metric(results: Path) -> None:
    table = measure_now(results, workers=0)

    assert len(table) == 30
    assert table[NAMES].notna().all(axis=None)
    assert table["reason"].isna().all()
    untouched = table[table["denoise_strength"] == 0]
    assert (untouched[["ssim", "ms_ssim", "structure_fine", "structure_coarse"]] == 1).all(axis=None)
    assert (untouched[["gmsd", "delta_e", "tone_emd", "phash_distance", "diversity"]] == 0).all(axis=None)


@pytest.mark.slow
async def test_worker_processes_give_the_same_values(results: Path, tmp_path: Path) -> None:
    again = await write_results(tmp_path / "again", POINTS, painted, kinds=KINDS, source=SOURCE)

    here = await anyio.to_thread.run_sync(lambda: measure_now(results, workers=0))
    there = await measure(again, workers=2, metrics=["panel", BRIGHTNESS])

    pd.testing.assert_frame_equal(here[NAMES], there[NAMES], check_exact=True)
    assert there["brightness"].between(1, 254).all()


@needs_ray
async def test_a_cluster_gives_the_values_of_one_machine(cluster: RayCluster, results: Path, tmp_path: Path) -> None:
    again = await write_results(tmp_path / "again", POINTS, painted, kinds=KINDS, source=SOURCE)
    for folder in (results, again):
        broken, gone = sorted((folder / "images").iterdir())[:2]
        broken.write_bytes(b"no image")
        gone.unlink()

    here = await anyio.to_thread.run_sync(lambda: measure_now(results, metrics=["panel", BRIGHTNESS], workers=0))
    there = await measure(again, metrics=["panel", BRIGHTNESS], workers="ray")

    pd.testing.assert_frame_equal(here[[*NAMES, "reason"]], there[[*NAMES, "reason"]], check_exact=True)
    assert there["brightness"].notna().sum() == 28
    kept = await anyio.to_thread.run_sync(lambda: measure_now(again, metrics=["panel", BRIGHTNESS], workers=0))
    pd.testing.assert_frame_equal(kept[NAMES].where(there[NAMES].notna()), there[NAMES], check_exact=True)


def test_a_host_with_other_versions_measures_nothing() -> None:
    answer = measure_sent(Task(rows=(), images=(), metrics=()), b"", {**find_versions(), "numpy": "1.0"})

    assert isinstance(answer, str)
    assert "and the host of sweep has numpy 1.0." in answer


def test_nothing_is_measured_twice(results: Path) -> None:
    counter = Counter()

    first = measure_now(results, metrics=[counted(counter)], workers=0)
    second = measure_now(results, metrics=[counted(counter)], workers=0)

    assert counter.asked == 30
    pd.testing.assert_series_equal(first["counted"], second["counted"])


def test_a_new_version_of_a_metric_is_measured_anew(results: Path) -> None:
    counter = Counter()
    measure_now(results, metrics=[counted(counter)], workers=0)

    measure_now(results, metrics=[counted(counter, version="2")], workers=0)

    assert counter.asked == 60


def test_what_was_measured_before_an_interruption_is_kept(results: Path) -> None:
    counter = Counter(fails_at=11)

    with pytest.raises(KeyboardInterrupt):
        measure_now(results, metrics=[counted(counter)], workers=0)
    counter.fails_at = None
    table = measure_now(results, metrics=[counted(counter)], workers=0)

    assert counter.asked == 11 + 20
    assert table["counted"].notna().all()


async def test_rows_that_come_later_are_measured_later(tmp_path: Path) -> None:
    counter, folder = Counter(), tmp_path / "growing"
    await write_results(folder, POINTS[:7], painted, kinds=KINDS, source=SOURCE)
    first = await anyio.to_thread.run_sync(lambda: measure_now(folder, metrics=[counted(counter)], workers=0))
    await write_results(folder, POINTS, painted, kinds=KINDS, source=SOURCE, done=7)

    second = await anyio.to_thread.run_sync(lambda: measure_now(folder, metrics=[counted(counter)], workers=0))

    assert (len(first), len(second), counter.asked) == (7, 30, 30)


KILLED = """
import signal, sys
from sweep.study import measure_now

def report(done, total):
    print(done, flush=True)
    if done == 100:
        signal.pause()  # until it is killed

measure_now(sys.argv[1], workers=2, progress=report)
"""


@pytest.mark.slow
async def test_a_kill_costs_little(tmp_path: Path) -> None:
    """SIGKILL while workers measure: what was kept is there, the rest is measured, the journal is whole."""
    points = [{"denoise_strength": s / 200, "seed": k} for s in range(60) for k in (1, 2, 3)]
    kinds = {"denoise_strength": "number", "seed": "seed"}

    def paint(values: Mapping[str, Scalar]) -> Image.Image:
        return photo(int(float(values["denoise_strength"] or 0) * 1000) + int(values["seed"] or 0), 32, 32)

    folder = await write_results(tmp_path / "r", points, paint, kinds=kinds, source=photo(9, 32, 32))
    command = [sys.executable, "-c", KILLED, str(folder)]
    async with await anyio.open_process(
        command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ) as process:
        assert process.stdout is not None
        seen = ""
        async for text in TextReceiveStream(process.stdout):
            seen += text
            if seen.count("\n") >= 100:
                process.kill()
                break
    counts: list[int] = []

    table = await measure(folder, workers=0, progress=lambda done, _: counts.append(done))

    assert 0 < counts[0] < 180
    assert table["ssim"].notna().all()


def test_progress_counts_images_and_ends_at_all(results: Path) -> None:
    seen: list[tuple[int, int]] = []

    measure_now(results, progress=lambda done, total: seen.append((done, total)), workers=0)

    assert seen[0] == (0, 30)
    assert seen[-1] == (30, 30)
    assert seen == sorted(seen)


def test_broken_images_become_reasons(results: Path) -> None:
    images = sorted(results.glob("images/*.png"))
    whole = images[0].read_bytes()
    images[0].unlink()
    images[1].write_bytes(whole[: len(whole) // 2])
    images[2].write_bytes(b"<html>not an image</html>")
    images[3].write_bytes(b"")

    table = measure_now(results, workers=0)

    assert table["ssim"].isna().sum() == 4
    reasons = [str(reason) for reason in table["reason"][:4]]
    assert "is not there" in reasons[0]
    assert all("not a complete image" in reason for reason in reasons[1:])
    assert not any(str(results) in reason for reason in reasons)
    assert table["reason"][4:].isna().all()
    assert table["diversity"][4:].notna().all()


async def test_a_missing_source_leaves_what_needs_none(results: Path) -> None:
    (results / "inputs" / "source.png").unlink()

    table = await measure(results, workers=0)

    assert table["ssim"].isna().all()
    assert table["sharpness"].notna().all()
    assert table["reason"].str.startswith("source: ").all()


async def test_a_source_of_another_size_comes_to_the_renderings_size(tmp_path: Path) -> None:
    folder = await write_results(
        tmp_path / "sizes", POINTS[:6], lambda _: SOURCE, kinds=KINDS, source=SOURCE.resize((192, 192))
    )

    table = await measure(folder, workers=0, metrics=["ssim", "structure_coarse"])

    assert table["ssim"].between(0.9, 1.0).all()
    assert (table["structure_coarse"] > 0.99).all()


def test_a_metric_with_a_kind_of_reference_that_there_is_not_is_measured(results: Path) -> None:
    other: Any = "source"

    assert measure_now(results, metrics=[replace(BRIGHTNESS, reference=other)], workers=0)["brightness"].gt(0).all()


def test_a_metric_that_raises_spares_the_others(results: Path) -> None:
    table = measure_now(results, metrics=["ssim", replace(BRIGHTNESS, function=failing)], workers=0)

    assert table["ssim"].notna().all()
    assert table["brightness"].isna().all()
    assert set(table["reason"]) == {"brightness: RuntimeError: no such layer"}


@pytest.mark.slow
async def test_an_image_that_kills_its_worker_costs_only_itself(tmp_path: Path) -> None:
    def flat(values: Mapping[str, Scalar]) -> Image.Image:
        return Image.new("RGB", (16, 16), (int(values["seed"] or 0), 0, 0))

    folder = await write_results(tmp_path / "r", [{"seed": s} for s in range(12)], flat, kinds={"seed": "seed"})

    table = await measure(folder, metrics=[replace(BRIGHTNESS, function=dying)], workers=1)

    assert table["brightness"].isna().tolist() == [s == 7 for s in range(12)]
    assert "died" in str(table["reason"][7])


async def test_a_metric_that_workers_cannot_import_is_told(results: Path) -> None:
    local = replace(BRIGHTNESS, function=lambda looked_at: 1.0)  # noqa: ARG005

    with pytest.raises(UsageError, match="cannot be sent to worker processes"):
        await measure(results, metrics=[local], workers=1)


async def test_text_to_image_is_compared_with_the_baseline_that_is_named(tmp_path: Path) -> None:
    points = [{"cfg_scale": c, "seed": s} for c in (4.0, 7.0, 9.0) for s in (1, 2, 3)]

    def paint(values: Mapping[str, Scalar]) -> Image.Image | None:
        if values == {"cfg_scale": 7.0, "seed": 3}:
            return None
        return Image.blend(photo(int(values["seed"] or 0)), photo(99), abs(float(values["cfg_scale"] or 0) - 7) / 10)

    experiment = "name: cfg\nstudy:\n  baseline: {cfg_scale: 7}\n  metrics: [structure_coarse, sharpness]\n"
    kinds = {"cfg_scale": "number", "seed": "seed"}
    folder = await write_results(tmp_path / "cfg", points, paint, kinds=kinds, experiment=experiment)

    found = await anyio.to_thread.run_sync(lambda: make_study(folder, workers=0))

    table = found.table
    values = {(c, k): v for c, k, v in zip(table["cfg_scale"], table["seed"], table["structure_coarse"], strict=True)}
    assert values[7.0, 1] == values[7.0, 2] == 1
    assert values[4.0, 1] < 0.99
    assert values[4.0, 2] < 0.99
    assert math.isnan(values[4.0, 3])
    assert "baseline cell has no image" in str(table["reason"][2])
    assert found.data["name"] == "cfg"
    assert found.data["design"]["reference"] == "baseline"
    assert any(text.startswith("Images are compared with those at cfg scale 7, ") for text in found.words)
    assert [fact["name"] for fact in found.data["metrics"]] == ["structure_coarse", "sharpness"]
    assert "2 images lack a metric; the first reason: the baseline cell has no image for this point." in found.words


def test_a_baseline_that_is_no_axis_is_told(results: Path) -> None:
    with pytest.raises(
        UsageError, match=r"names denoise_strenth, which is not an axis\. Did you mean denoise_strength\?"
    ):
        measure_now(results, baseline={"denoise_strenth": 0.5}, workers=0)


def test_a_baseline_level_that_is_not_there_is_refused(results: Path) -> None:
    with pytest.raises(UsageError, match=r"The baseline names denoise_strength 0\.3, which is not in the table\."):
        measure_now(results, baseline={"denoise_strength": 0.3}, workers=0)


async def test_an_experiments_baseline_that_is_not_rendered_yet_is_every_rows_reason(tmp_path: Path) -> None:
    points = [{"cfg_scale": 4.0, "seed": seed} for seed in (1, 2)]
    kinds = {"cfg_scale": "number", "seed": "seed"}
    experiment = "name: cfg\nstudy:\n  baseline: {cfg_scale: 7}\n"
    folder = await write_results(tmp_path / "cfg", points, lambda _: photo(1), kinds=kinds, experiment=experiment)

    table = await measure(folder, workers=0)

    assert table["ssim"].isna().all()
    assert table["reason"].str.contains("the table has no cfg_scale 7").all()


async def test_repeats_of_a_point_are_compared_with_its_first(tmp_path: Path) -> None:
    points = [{"denoise_strength": s, "seed": k} for s in (0.2, 0.8) for k in (1, 2) for _ in range(2)]
    turn = iter(range(len(points)))

    def paint(values: Mapping[str, Scalar]) -> Image.Image:
        image = photo(int(values["seed"] or 0), 64, 64)
        if next(turn) == 3:
            image.putpixel((0, 0), (0, 0, 0))
        return image

    kinds = {"denoise_strength": "number", "seed": "seed"}
    folder = await write_results(tmp_path / "twice", points, paint, kinds=kinds, source=photo(1, 64, 64))

    found = await anyio.to_thread.run_sync(lambda: make_study(folder, workers=0))

    determinism = found.data["determinism"]
    assert determinism is not None
    assert (determinism["points"], determinism["same_pixels"]) == (4, 3)
    assert "not deterministic" in determinism["message"]
    assert found.data["design"]["replicates"] == 2
    noise = {row["metric"]: row for row in found.data["noise"]}
    assert (noise["sharpness"]["replicate"]["value"] or 0) > 0
    assert noise["sharpness"]["replicate"]["n"] == 4
    assert noise["diversity"]["replicate"]["reason"] == "no point has two images with a value"


async def test_an_axis_keeps_its_column_where_a_metric_has_its_name(tmp_path: Path) -> None:
    points = [{"contrast": c, "seed": s} for c in (1.0, 2.0) for s in (1, 2)]
    kinds = {"contrast": "number", "seed": "seed"}
    folder = await write_results(tmp_path / "c", points, lambda v: photo(int(v["seed"] or 0)), kinds=kinds)

    found = await anyio.to_thread.run_sync(lambda: make_study(folder, workers=0))

    assert found.table["contrast"].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert "contrast" not in {fact["name"] for fact in found.data["metrics"]}
    assert "The metric contrast is left out, because an axis has its name." in found.words


async def test_two_renderings_of_equal_pixels_share_their_values(tmp_path: Path) -> None:
    counter = Counter()
    data = png_bytes(SOURCE)
    folder = await write_results(tmp_path / "same", POINTS[:4], lambda _: data, kinds=KINDS)
    await anyio.to_thread.run_sync(lambda: measure_now(folder, metrics=[counted(counter)], workers=0))

    await anyio.to_thread.run_sync(lambda: measure_now(folder, metrics=[counted(counter)], workers=0))

    assert counter.asked == 4


def test_a_follower_writes_one_line_however_long_it_runs(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody may read what it writes, and a full pipe would stop it."""
    rounds = iter(range(3))

    def pause(_seconds: float) -> None:
        if next(rounds, None) is None:
            raise KeyboardInterrupt

    blocked = SimpleNamespace(buffer=SimpleNamespace(read=threading.Event().wait))  # as the pipe of a living parent
    monkeypatch.setattr(sys, "stdin", blocked)
    monkeypatch.setattr(measurements, "time", SimpleNamespace(sleep=pause, monotonic=time.monotonic))

    with pytest.raises(KeyboardInterrupt):
        measurements.follow(results)

    assert capsys.readouterr().out == "\n"
    assert RecordedResults.open(results).table()["ssim"].notna().all()


def test_no_results_folder_is_an_error_of_the_record(tmp_path: Path) -> None:
    with pytest.raises(RecordError):
        measure_now(tmp_path / "nothing")


def test_fewer_than_no_workers_is_told(results: Path) -> None:
    with pytest.raises(UsageError, match="at least 0, not -1"):
        measure_now(results, workers=-1)


def test_the_table_of_the_record_has_the_metrics_too(results: Path) -> None:
    measure_now(results, workers=0)

    table = RecordedResults.open(results).table()

    assert table[["ssim", "structure_coarse", "sharpness"]].notna().all(axis=None)
