"""The shipped study on a real ComfyUI: every image is what its row says, and strength does what the plan says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sweep.cli import main as app
from sweep.record import RecordedResults
from tests.support.live_comfyui import LiveComfyUI

STUDY = Path(__file__).parents[3] / "experiments" / "denoise_study.yaml"
STEPS = 4
SMALL = ("inputs.width=64", "inputs.height=64", "inputs.model=tiny-sd", f"inputs.steps={STEPS}")


def made_with(path: Path) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """What the graph that the server put into an image says of it, read without any of our code; and its pixels."""
    with Image.open(path) as image:
        graph = json.loads(image.text["prompt"])  # type: ignore[attr-defined]
        pixels = np.asarray(image.convert("RGB"), dtype=float)
    (sampler,) = [node["inputs"] for node in graph.values() if node["class_type"] == "KSampler"]
    (loader,) = [node["inputs"] for node in graph.values() if node["class_type"] == "CheckpointLoaderSimple"]
    told = {
        "denoise_strength": sampler["denoise"],
        "seed": sampler["seed"],
        "prompt": graph[sampler["positive"][0]]["inputs"]["text"],
        "model": loader["ckpt_name"],
        "width": pixels.shape[1],
        "height": pixels.shape[0],
    }
    assert (sampler["steps"], sampler["cfg"]) == (STEPS, 7.5)
    return told, pixels


def schedule(strength: float) -> int:
    """Strengths with an equal number give equal images: all of `STEPS` steps are run, of a schedule of so many."""
    return int(STEPS / strength) if strength else 0


@pytest.mark.timeout(900, func_only=True)  # 132 images: 60 s on an idle machine
def test_the_study_is_rendered_once_and_as_the_plan_says(
    comfyui: LiveComfyUI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [word for value in (*SMALL, "study.metrics=[]") for word in ("--set", value)]
    where = ["--server", comfyui.url, "--results", str(tmp_path), *sets]
    before = len(comfyui.saved)
    assert app.run_cli(["plan", str(STUDY), *where]) == 0
    assert "denoise_strength 0.7 and 0.8 come to the same part of 5 steps" in " ".join(capsys.readouterr().out.split())
    assert app.run_cli(["run", str(STUDY), "--no-report", *where]) == 0

    rows = list(RecordedResults.open(tmp_path / "denoise_study").rows())
    assert [row["status"] for row in rows] == ["completed"] * 132
    images: dict[tuple[str, int], dict[float, np.ndarray[Any, Any]]] = {}
    for row in rows:
        told, pixels = made_with(tmp_path / "denoise_study" / str(row["image_path"]))
        assert {name: row[name] for name in told} == told
        assert str(told["prompt"]).endswith(f", {row['variation']}")
        images.setdefault((str(row["variation"]), told["seed"]), {})[told["denoise_strength"]] = pixels
    check_strengths(images)

    assert len(comfyui.saved) == before + 132
    capsys.readouterr()
    assert app.run_cli(["run", str(STUDY), "--no-report", *where]) == 0
    assert "132 of 132 done already; nothing to render." in capsys.readouterr().out
    assert len(comfyui.saved) == before + 132


def check_strengths(images: Mapping[tuple[str, int], Mapping[float, np.ndarray[Any, Any]]]) -> None:
    """Images are equal exactly where their schedules are, and the others are further from the source in their order."""
    distances: dict[float, list[float]] = {}
    for by_strength in images.values():
        source = by_strength[0.0]  # no steps: the source as the autoencoder gives it back
        for one, pixels in by_strength.items():
            distances.setdefault(one, []).append(float(np.sqrt(np.mean((pixels - source) ** 2))))
            for other, others in by_strength.items():
                assert np.array_equal(pixels, others) == (schedule(one) == schedule(other)), (one, other)
    rising = [float(np.mean(found)) for _, found in sorted(distances.items())]
    assert rising == sorted(rising), rising
