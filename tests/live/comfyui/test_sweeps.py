"""Whole sweeps on a real ComfyUI: the experiment files that InvokeAI renders, unchanged."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sweep
from sweep.cli import main as app
from sweep.record import RecordedResults
from tests.support.live_comfyui import LiveComfyUI
from tests.support.scenes import SIDE

SHIPPED = Path(__file__).parents[3] / "experiments"
FIXTURES = Path(__file__).parents[2] / "fixtures" / "portable"
SMALL = {"width": SIDE, "height": SIDE, "steps": 2, "model": "tiny-sd", "prompt": "a cup"}

CONTROL = {"control_model": "tiny-controlnet"}


def source_image(folder: Path, name: str = "source.png") -> str:
    """A gradient, which every strength changes by another amount."""
    Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB").save(folder / name)
    return name


def rendered(folder: Path, server: LiveComfyUI, **definition: Any) -> list[dict[str, Any]]:
    """The rows of a sweep, all of them completed."""
    experiment = sweep.Experiment.from_dict({"name": "live", **definition}, folder)
    asyncio.run(sweep.run(experiment, [server.url], results=folder / "results"))
    table = sweep.Results.open(folder / "results" / "live").table()
    assert set(table["status"]) == {"completed"}, table["error"].dropna().unique()
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


@pytest.mark.parametrize(
    ("workflow", "inputs", "axes"),
    [
        ("lora", {"lora": "tiny-lora"}, {"lora_weight": [0.0, 1.5]}),
        (
            "controlnet",
            {"control_model": "tiny-controlnet", "control_image": "source.png"},
            {"control_weight": [0.0, 2]},
        ),
        ("txt2img", {"scheduler": "euler_a"}, {"scheduler": ["dpmpp_2m_k", "karras"]}),
        ("txt2img", {}, {"model": ["tiny-sd", "tiny-sd-b"]}),
    ],
    ids=["lora", "controlnet", "scheduler", "model"],
)
def test_templates_render_and_their_axes_change_the_image(
    comfyui: LiveComfyUI, tmp_path: Path, workflow: str, inputs: dict[str, Any], axes: dict[str, Any]
) -> None:
    source_image(tmp_path)
    given = {name: value for name, value in {**SMALL, "seed": 5, **inputs}.items() if name not in axes}
    rows = rendered(tmp_path, comfyui, workflow=workflow, inputs=given, axes=axes)
    assert len({row["sha256"] for row in rows}) == len(rows)


def test_both_portable_documents_run_as_they_are(comfyui: LiveComfyUI, tmp_path: Path) -> None:
    source_image(tmp_path, "input.jpg")
    for name in ("text_to_image.json", "image_to_image.json"):
        folder = tmp_path / name
        folder.mkdir()
        source_image(folder, "input.jpg")
        inputs = {"model": "tiny-sd", "steps": 2, "width": SIDE, "height": SIDE}
        if name.startswith("image"):
            inputs = {"model": "tiny-sd", "steps": 2}
        (folder / name).write_bytes((FIXTURES / name).read_bytes())
        rows = rendered(folder, comfyui, workflow=name, inputs=inputs, axes={"seed": [1]})
        assert len(rows) == 1


def test_replicates_are_rendered_anew(comfyui: LiveComfyUI, tmp_path: Path) -> None:
    rows = rendered(tmp_path, comfyui, workflow="txt2img", inputs=SMALL, axes={"seed": [9]}, study={"replicates": 2})
    assert len({row["image_name"] for row in rows}) == 2
    assert len({row["sha256"] for row in rows}) <= 2


def test_the_shipped_export_of_an_editor_runs(comfyui: LiveComfyUI, tmp_path: Path) -> None:
    sets = (
        "inputs.model=tiny-sd",
        "inputs.steps=2",
        "inputs.width=64",
        "inputs.height=64",
        "axes.seed=[1]",
        "study.metrics=[]",
    )
    more = [word for value in sets for word in ("--set", value)]
    where = ["--server", comfyui.url, "--results", str(tmp_path), "--no-report"]
    assert app.run_cli(["run", str(SHIPPED / "photo_restyle.yaml"), *where, *more]) == 0
    rows = list(RecordedResults.open(tmp_path / "photo_restyle").rows())
    assert [(row["status"], row["width"]) for row in rows] == [("completed", 64)] * 12
    assert len({row["sha256"] for row in rows}) == 12


def test_an_experiment_begun_from_an_export_runs(
    comfyui: LiveComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a person does: an export from elsewhere, whose checkpoint this server lacks."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(SHIPPED / "photo_restyle.json", "mine.json")
    source_image(tmp_path)
    begin = ["init", "mine.json", "-o", "mine.yaml", "--image", "source.png", "--server", comfyui.url]
    assert app.run_cli(begin) == 0
    sets = ["--set", "axes.seed=[1]", "--set", "axes.denoise_strength=[0.4]", "--set", "inputs.steps=2"]
    sets += ["--set", "inputs.width=64", "--set", "inputs.height=64", "--set", "study.metrics=[]"]
    assert app.run_cli(["run", "mine.yaml", "--server", comfyui.url, "--no-report", *sets]) == 0
    assert len(list((tmp_path / "results").glob("*/images/*.png"))) == 1
