from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from sweep.record.results_folder import RecordedResults
from sweep.record.results_table import count_marginals
from tests.support.record_writing import a_folder


def test_marginals_count_a_variation_once(tmp_path: Path) -> None:
    folder = asyncio.run(a_folder(tmp_path, 3))
    rows = [row for row in RecordedResults(folder).rows() for _ in range(2)]
    found = count_marginals(rows, ["denoise_strength", "variation"], ["render_seconds"])
    assert [(each.axis, each.value, each.statuses) for group in found.values() for each in group] == [
        ("denoise_strength", "0", {"completed": 1}),
        ("denoise_strength", "0.1", {"completed": 1}),
        ("denoise_strength", "0.2", {"completed": 1}),
        ("variation", "studio lighting", {"completed": 3}),
    ]
    assert found["variation"][0].mean("render_seconds") == 2.0


def test_marginals_average_metrics_where_there_are_values() -> None:
    rows = [
        {"index": at, "key": str(at), "seed": at % 2, "status": status, "render_seconds": None, "ssim": ssim}
        for at, (status, ssim) in enumerate([("completed", 0.5), ("failed", None), ("completed", 1.0)])
    ]
    even, odd = count_marginals(rows, ["seed"], ["ssim", "render_seconds"])["seed"]
    assert (even.mean("ssim"), odd.mean("ssim"), odd.statuses["failed"]) == (0.75, None, 1)
    assert even.mean("render_seconds") is None


def test_marginals_sort_numbers_of_points_that_a_design_drew() -> None:
    values: list[Any] = [0.5, None, 0.1, 1]
    rows = [
        {"index": at, "key": str(at), "weight": value, "prompt": text, "status": "completed"}
        for at, (value, text) in enumerate(zip(values, "bacb", strict=True))
    ]
    found = count_marginals(rows, ["weight", "prompt"])
    assert [each.value for each in found["weight"]] == ["0.1", "0.5", "1", "none"]
    assert [each.value for each in found["prompt"]] == ["b", "a", "c"]
