from __future__ import annotations

import json

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.engine import make_forecast
from sweep.engine.forecast import BYTES_PER_PIXEL, FILE_OVERHEAD, estimate_disk_bytes, estimate_run_seconds
from sweep.sandbox import FaultInjection
from sweep.sandbox.running_sandbox import Sandbox
from sweep.servers import connect
from tests.support.engine_bench import Bench


def test_nothing_is_known_before_the_first_render() -> None:
    assert estimate_run_seconds(100, []) is None
    assert estimate_run_seconds(0, []) == 0


def test_the_first_render_with_its_model_load_does_not_distort() -> None:
    assert estimate_run_seconds(10, [1.0, 1.0, 1.0, 1.0, 40.0]) == pytest.approx(10 * (4 + 3) / 5)


def test_slots_share_the_work() -> None:
    assert estimate_run_seconds(10, [2.0], slots=4) == 5.0


def test_disk_is_from_pixels_until_images_tell() -> None:
    assert estimate_disk_bytes(2, 100, 50) == round(2 * (5000 * BYTES_PER_PIXEL + FILE_OVERHEAD))
    assert estimate_disk_bytes(3, 100, 100, [(10_000, 33_000)]) == 3 * 33_000


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=30), st.integers(0, 10**6))
def test_an_estimate_lies_between_the_fastest_and_the_slowest(earlier: list[float], points: int) -> None:
    seconds = estimate_run_seconds(points, earlier)
    assert seconds is not None
    assert points * min(earlier) <= seconds * (1 + 1e-9) + 1e-9
    assert seconds <= points * max(earlier) * (1 + 1e-9) + 1e-9


@pytest.mark.slow
async def test_a_server_that_stumbles_over_an_image_once_is_asked_again(bench: Bench, sandbox: Sandbox) -> None:
    data = await anyio.Path(bench.root / "photo.png").read_bytes()
    made = await sandbox.images.upload(data, image_category="user", is_intermediate=False, board_id=None)
    nodes = {
        "source": {"id": "source", "type": "image", "image": {"image_name": made["image_name"]}},
        "resize": {"id": "resize", "type": "img_resize", "width": 64, "height": 64},
    }
    edge = {"source": {"node_id": "source", "field": "image"}, "destination": {"node_id": "resize", "field": "image"}}
    await anyio.Path(bench.root / "w.json").write_text(json.dumps({"nodes": nodes, "edges": [edge]}), encoding="utf-8")
    experiment = await bench.experiment(workflow="w.json", inputs={}, axes={"resize.width": [64, 72]})
    sandbox.faults = FaultInjection(error_500=1.0, only="/full", most=1)
    assert (await make_forecast(experiment, [connect(sandbox.url)], bench.root)).new == 2
