"""The metrics' contract, the conformance kit, and how metrics are found by name."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import UsageError
from sweep.record import RecordedResults
from sweep.study.measuring.measurements import measure_now
from sweep.study.metrics import metric_lookup
from sweep.study.metrics.base import ImagePair, Metric
from sweep.study.metrics.metric_lookup import list_standard, resolve_metrics
from sweep.study.metrics.pixel_metrics import SAME_POINT_METRIC
from sweep.testing import check_metric
from tests.support.odd_metrics import BRIGHTNESS
from tests.support.study_images import photo, view

COMPARING = [metric for metric in list_standard() if metric.reference == "image"]


def make_brightness() -> Metric:
    return BRIGHTNESS


@pytest.mark.parametrize("metric", [*list_standard(), SAME_POINT_METRIC, BRIGHTNESS], ids=lambda metric: metric.name)
def test_keeps_the_contract(metric: Metric) -> None:
    assert check_metric(metric) == []


def test_the_conformance_kit_finds_what_is_wrong() -> None:
    def broken(looked_at: ImagePair) -> float:
        looked_at.image.rgb.setflags(write=True)
        looked_at.image.rgb[0, 0] = 255 - looked_at.image.rgb[0, 0]
        return -5.0

    wrong = replace(BRIGHTNESS, name="Bright ness", label="", direction="lower", reference="image", function=broken)

    problems = " ".join(check_metric(wrong))

    for part in (
        "'Bright ness'",
        "label is empty",
        "worker process",
        "changes the image",
        "outside",
        "against itself",
    ):
        assert part in problems


@pytest.mark.parametrize("metric", COMPARING, ids=lambda metric: metric.name)
@pytest.mark.parametrize("size", [(512, 512), (300, 190), (33, 70)])
def test_identical_images_are_identical(metric: Metric, size: tuple[int, int]) -> None:
    image = photo(5, *size)

    value = metric.measure(view(image, image.copy()))

    assert value == (1.0 if metric.direction == "higher" else 0.0)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 90), st.integers(1, 90))
def test_all_values_stay_in_range(first: int, second: int, width: int, height: int) -> None:
    looked_at = view(photo(first, width, height), photo(second, width, height))

    for metric in list_standard():
        value = metric.measure(looked_at)
        low, high = metric.range
        assert math.isnan(value) or ((low is None or value >= low) and (high is None or value <= high))


@pytest.mark.parametrize("metric", COMPARING, ids=lambda metric: metric.name)
def test_neither_image_is_the_first(metric: Metric) -> None:
    a, b = photo(1), photo(2)

    assert metric.measure(view(a, b)) == pytest.approx(metric.measure(view(b, a)), abs=1e-6)


def test_no_names_are_the_standard_panel() -> None:
    assert resolve_metrics([]) == list_standard()
    assert resolve_metrics(["panel"]) == list_standard()


def test_names_are_found_in_order_and_once() -> None:
    assert [metric.name for metric in resolve_metrics(["gmsd", BRIGHTNESS, "ssim", "gmsd"])] == [
        "gmsd",
        "brightness",
        "ssim",
    ]


def test_an_unknown_metric_is_told_with_the_nearest_or_with_all() -> None:
    for name, hint in (
        ("ms_sim", r"There is no metric ms_sim\. Did you mean ms_ssim\?$"),
        ("Layout of light and dark", r"Did you mean structure_coarse\?$"),  # as a report calls it
        ("beauty", r"There is no metric beauty\. Metrics: ssim, ms_ssim, [a-z_, ]+, flip, panel\.$"),
    ):
        with pytest.raises(UsageError, match=hint):
            resolve_metrics([name])


def test_metrics_of_other_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def points(*, group: str) -> list[EntryPoint]:
        here = "tests.study.metrics.test_metric_lookup"
        return [EntryPoint("brightness", f"{here}:make_brightness", group)]

    monkeypatch.setattr(metric_lookup, "entry_points", points)

    assert resolve_metrics(["brightness"]) == (BRIGHTNESS,)


INSTALLED = {
    "dark_metrics.py": """
import numpy as np
from sweep.study.metrics.base import Formula
from sweep.study import luma

def share_of_dark(view):
    return float(np.mean(luma(view.image) < 64))

DARK = Formula(name="dark_share", label="share of dark pixels", summary="How much is dark.", direction="neutral",
               range=(0.0, 1.0), reference="none", cost=1.0, source="our own", function=share_of_dark)
""",
    "dark_metrics-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: dark-metrics\nVersion: 1\n",
    "dark_metrics-1.dist-info/entry_points.txt": """[sweep.metrics]
dark_share = dark_metrics:DARK
broken = no_such_module_anywhere:METRIC
""",
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with two entry points, one of them broken, as pip leaves it on the path."""
    for name, text in INSTALLED.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


@pytest.mark.slow
def test_an_installed_package_brings_a_metric_to_worker_processes(installed: Path, results: Path) -> None:
    table = measure_now(results, metrics=["dark_share"], workers=1)

    assert table["dark_share"].between(0, 1).all()
    assert "dark_share" in RecordedResults.open(results).table()


def test_a_broken_package_is_named_and_in_nobodys_way(installed: Path) -> None:
    assert [metric.name for metric in resolve_metrics(["dark_share", "ssim"])] == ["dark_share", "ssim"]
    with pytest.raises(UsageError, match=r"no_such_module_anywhere:METRIC could not be loaded \(ModuleNotFoundError"):
        resolve_metrics(["broken"])


def test_resolve_metrics_names_the_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(UsageError, match=r"needs the package flip_evaluator.*pip install 'sweep-engine\[flip\]'"):
        resolve_metrics(["flip"])


def test_resolve_metrics_rejects_a_missing_clip_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        resolve_metrics([f"clip:{tmp_path / 'none'}"])
