"""The shipped study on a real InvokeAI: every image was made with what its row says, and only once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep.cli import main as app
from sweep.record import RecordedResults
from tests.live.rendering import ask

STUDY = Path(__file__).parents[2] / "experiments" / "denoise_study.yaml"
SMALL = ("inputs.width=64", "inputs.height=64", "inputs.model=tiny-sd", "inputs.steps=4")


def command(server: str, results: Path) -> list[str]:
    """The whole line."""
    sets = [word for value in SMALL for word in ("--set", value)]
    fixed = ["--results", str(results), "--no-report", "--fuse", "off"]  # each image with a graph of its own
    return ["run", str(STUDY), "--server", server, *fixed, *sets]


def made_with(path: Path) -> dict[str, Any]:
    """What the graph that the server put into an image says of it, read without any of our code."""
    with Image.open(path) as image:
        graph = json.loads(image.text["invokeai_graph"])  # type: ignore[attr-defined]
        size = image.size
    by_type: dict[str, list[dict[str, Any]]] = {}
    for node in graph["nodes"].values():
        by_type.setdefault(node["type"], []).append(node)
    (sampler,), (noise,), (loader,) = by_type["denoise_latents"], by_type["noise"], by_type["main_model_loader"]
    positive = {
        edge["source"]["node_id"] for edge in graph["edges"] if edge["destination"]["field"] == "positive_conditioning"
    }
    (prompt,) = [node["prompt"] for node in by_type["compel"] if node["id"] in positive]
    return {
        "denoise_strength": round(1 - sampler["denoising_start"], 6),
        "seed": noise["seed"],
        "prompt": prompt,
        "model": loader["model"]["name"],
        "steps": sampler["steps"],
        "cfg_scale": sampler["cfg_scale"],
        "width": size[0],
        "height": size[1],
    }


@pytest.mark.timeout(900, func_only=True)  # 132 images: 100 s on an idle machine
def test_the_study_is_rendered_once_and_as_it_says(
    live_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run_cli(command(live_server, tmp_path)) == 0
    folder = tmp_path / "denoise_study"
    rows = list(RecordedResults.open(folder).rows())
    assert [row["status"] for row in rows] == ["completed"] * 132
    for row in rows:
        told = made_with(folder / str(row["image_path"]))
        assert {name: row[name] for name in told if name in row} == {name: told[name] for name in told if name in row}
        assert str(told["prompt"]).endswith(f", {row['variation']}")
        assert (told["steps"], told["cfg_scale"]) == (4, 7.5)
    assert len({row["key"] for row in rows}) == 132
    before = queued(live_server)
    capsys.readouterr()
    assert app.run_cli(command(live_server, tmp_path)) == 0
    assert "132 of 132 done already; nothing to render." in capsys.readouterr().out
    assert queued(live_server) == before


def queued(server: str) -> int:
    """How many items of this experiment the server's queue has seen."""
    listed = ask(f"{server}/api/v1/queue/default/list_all")
    return sum(bool(re.match("sweep-denoise_study", item.get("destination") or "")) for item in listed)
