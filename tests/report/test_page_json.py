"""The payload: every cell can be told again from it, whatever the table holds."""

from __future__ import annotations

import base64
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.report.page_json import build_page_json, encode_axis, encode_page_json, pack, round_floats
from sweep.report.report_data import AxisColumn, ReportData, add_study_columns, to_json_value
from sweep.report.thumbnails import ImageLinks

SHOWN = ImageLinks(prefix="", thumbs=frozenset({"a" * 16}), embedded=True)


def unpack(values: dict[str, Any]) -> list[Any]:
    """Read what `pack` wrote, as the page does."""
    return values["v"] if "v" in values else [None if at < 0 else values["d"][at] for at in values["i"]]


CELLS = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=6))


def material(frame: pd.DataFrame, *axes: tuple[str, str]) -> ReportData:
    columns = tuple(AxisColumn(name, kind, name) for name, kind in axes)
    return ReportData(folder=Path("results"), name="cups", description="", frame=frame, axes=columns)


@given(st.lists(CELLS, max_size=30))
def test_pack_and_unpack_keep_values(values: list[str | int | bool | None]) -> None:
    told = unpack(json.loads(json.dumps(pack(values))))
    assert [(type(value), value) for value in told] == [(type(value), value) for value in values]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30), st.integers(3, 8))
def test_round_floats_keeps_significant_digits(values: list[float], digits: int) -> None:
    for value, short in zip(values, round_floats(pd.Series(values, dtype="float64"), digits), strict=True):
        if not math.isfinite(value):
            assert short is None
        elif 1e-290 < abs(value) < 1e290:
            assert isinstance(short, int | float)
            assert math.isclose(short, value, rel_tol=0.6 * 10.0 ** (1 - digits))


@given(st.lists(st.one_of(st.none(), st.sampled_from([0.3, -1.0, 7.5, 2e9])), min_size=1, max_size=20))
def test_encode_axis_sorts_numbers_and_puts_missing_last(values: list[float | None]) -> None:
    frame = pd.DataFrame({"strength": pd.Series(values, dtype="float64")})
    told = encode_axis(AxisColumn("strength", "number", "strength"), frame)
    assert [told["levels"][at] for at in told["at"]] == values
    numbers = [level for level in told["levels"] if level is not None]
    assert numbers == sorted(numbers)
    assert None not in told["levels"][:-1]


def test_encode_axis_keeps_order_of_texts() -> None:
    frame = pd.DataFrame({"variation": ["studio", "dramatic", "studio"]})
    assert encode_axis(AxisColumn("variation", "text", "variation"), frame)["levels"] == ["studio", "dramatic"]


def test_encode_axis_writes_large_seeds_as_text() -> None:
    frame = pd.DataFrame({"seed": pd.Series([2**53 + 1, 7], dtype="Int64")})
    told = encode_axis(AxisColumn("seed", "seed", "seed"), frame)
    assert told["levels"] == [7, "9007199254740993"]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (np.int64(3), 3),
        (np.float64(0.5), 0.5),
        (2.0, 2),
        (float("nan"), None),
        (float("inf"), None),
        (pd.NA, None),
        (pd.NaT, None),
        (np.bool_(True), True),
        (pd.Timestamp("2026-01-02 03:04:05", tz="UTC"), "2026-01-02 03:04:05"),
        (Path("a"), "a"),
    ],
)
def test_to_json_value_unwraps_cells(cell: object, value: object) -> None:
    assert to_json_value(cell) == value
    assert type(to_json_value(cell)) is type(value)


def test_payload_has_image_axis_for_several_images_per_point() -> None:
    frame = pd.DataFrame({"index": [0, 0, 1], "key": ["a", "a", "b"], "strength": [0.1, 0.1, 0.2]})
    axes = build_page_json(material(frame, ("strength", "number")), SHOWN)["axes"]
    assert axes[-1] == {"name": "image", "kind": "integer", "levels": [1, 2], "at": [0, 1, 0]}


def test_payload_has_no_thumbnail_for_missing_images() -> None:
    frame = pd.DataFrame({"index": [0, 1], "key": ["a", "b"], "sha256": ["a" * 64, "b" * 64], "image_path": ["x", "y"]})
    images = build_page_json(material(frame), SHOWN)["images"]
    assert unpack(images["thumb"]) == ["a" * 16, None]


def test_payload_of_an_empty_table_is_complete() -> None:
    told = build_page_json(material(pd.DataFrame()), SHOWN)
    assert told["axes"] == []
    assert unpack(told["key"]) == []
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_payload_orders_and_labels_metrics_as_the_study_does() -> None:
    frame = pd.DataFrame({"index": [0], "key": ["a"], "beauty": [1.0], "ssim": [0.5]})
    fact = {"name": "ssim", "label": "SSIM", "direction": "higher", "summary": "likeness"}
    columns = build_page_json(material(frame), SHOWN, {"metrics": [fact]})["columns"]
    assert [(column["name"], column["label"]) for column in columns] == [("ssim", "SSIM"), ("beauty", "beauty")]
    assert columns[0]["direction"] == "higher"


def test_encode_page_json_packs_long_data() -> None:
    data = {"values": list(range(600_000))}
    text, is_packed = encode_page_json(data)
    assert is_packed
    assert json.loads(gzip.decompress(base64.b64decode(text))) == data
    assert encode_page_json({"a": 1}) == ('{"a":1}', False)


@pytest.mark.slow
def test_payload_of_100_000_cells_stays_below_six_megabytes() -> None:
    count = 100_000
    random = np.random.default_rng(1)
    metrics = {f"metric_{number}": random.normal(0, 1, count) for number in range(12)}
    frame = pd.DataFrame(
        {
            "index": np.arange(count),
            "key": [f"{number * 2654435761 % 2**32:032x}" for number in range(count)],
            "strength": np.arange(count) % 100 / 100,
            "prompt": [f"prompt {number % 300}" for number in range(count)],
            "image_path": [f"images/{number:06}_s{number % 100}.png" for number in range(count)],
            "sha256": [f"{number * 40503 % 2**32:064x}" for number in range(count)],
            **metrics,
        }
    )
    text, _ = encode_page_json(build_page_json(material(frame, ("strength", "number")), SHOWN))
    assert len(text) < 6_000_000


def test_metrics_that_no_image_has_are_not_on_the_page() -> None:
    data = material(pd.DataFrame({"key": ["a", "b"]}))
    rows = {"key": ["a", "b"], "metrics": {"ssim": [None, None], "contrast": [0.5, None]}}

    assert add_study_columns(data, {"rows": rows}).metrics == ("contrast",)


def test_a_number_and_its_percent_sign_stay_on_one_line() -> None:
    word = {"text": "SSIM is 0.8 (0.7–0.9, 95 %, n = 4 seeds).", "rows": []}
    study = {"metrics": [], "words": [word]}

    (told,) = build_page_json(material(pd.DataFrame({"key": ["a"]})), SHOWN, study)["study"]["words"]

    assert told == {"text": "SSIM is 0.8 (0.7–0.9, 95\u00a0%, n = 4 seeds).", "rows": []}
