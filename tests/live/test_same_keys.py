"""Five axes, a zip and filters give the same keys and rows on the sandbox and on a real server."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from sweep.cli import main as app
from sweep.record import RecordedResults
from sweep.sandbox import SandboxOptions, sandbox_server
from tests.live.sandboxed import on_its_own_loop

AXES = {
    "denoise_strength": {"start": 0.2, "stop": 0.8, "step": 0.3},
    "subject": {"zip": {"prompt": ["a cup", "a cat"], "cfg_scale": [5, 7.5]}},
    "steps": [2, 3],
    "scheduler": ["euler", "ddim"],
    "seed": {"start": 42, "count": 2},
}
DEFINITION = {
    "name": "five",
    "workflow": "img2img",
    "inputs": {"image": "photo.png", "model": "tiny-sd", "width": 64, "height": 64},
    "axes": AXES,
    "where": ["denoise_strength < 0.8 or seed == 42"],
    "exclude": ['scheduler == "ddim" and steps == 3'],
}
POINTS = 2 * 2 * 3 * 2 + 2 * 3  # strengths × subjects × (steps, schedulers) × seeds; of the last strength one seed


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / "photo.png")
    path = tmp_path / "five.yaml"
    path.write_text(json.dumps(DEFINITION), encoding="utf-8")
    return path


def table(experiment: Path, server: str, results: Path) -> pd.DataFrame:
    """The results table after a run there."""
    line = ["run", str(experiment), "--server", server, "--results", str(results), "--no-report"]
    assert app.run_cli(line) == 0
    return RecordedResults.open(results / "five").table()


def test_same_keys_and_rows(experiment: Path, live_server: str, tmp_path: Path) -> None:
    real = table(experiment, live_server, tmp_path / "real")
    with on_its_own_loop(sandbox_server(SandboxOptions(models=("tiny-sd:sd-1:main",)))) as sandbox:
        painted = table(experiment, sandbox.url, tmp_path / "painted")
    assert len(real) == len(painted) == POINTS
    same = ["index", "key", "denoise_strength", "prompt", "cfg_scale", "steps", "scheduler", "seed", "model", "status"]
    pd.testing.assert_frame_equal(real[same], painted[same])
    assert real["key"].is_unique
    assert set(real["sha256"]).isdisjoint(painted["sha256"])
