"""Boards, the gallery, metadata and the queue's own words, asked of a real server by its own REST; axes by number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep.cli import main as app
from sweep.record import RecordedResults
from tests.live.rendering import ask

SMALL = {"model": "tiny-sd", "prompt": "a cup", "width": 64, "height": 64, "steps": 1}


def rendered(folder: Path, server: str, definition: dict[str, Any], *options: str) -> list[dict[str, Any]]:
    """The rows of a run, each with the nodes of its image's own graph."""
    for name, grey in (("a.png", 40), ("b.png", 200)):
        Image.new("RGB", (64, 64), (grey, grey, 90)).save(folder / name)
    file = folder / "where.yaml"
    file.write_text(json.dumps({"name": "where", **definition}), encoding="utf-8")
    alone = ["--no-report", "--fuse", "off"]  # each image with a graph of its own
    line = ["run", str(file), "--server", server, "--results", str(folder / "results"), *alone, *options]
    assert app.run_cli(line) == 0
    rows = list(RecordedResults.open(folder / "results" / "where").rows())
    for row in rows:
        with Image.open(folder / "results" / "where" / str(row["image_path"])) as image:
            row["nodes"] = json.loads(image.text["invokeai_graph"])["nodes"]  # type: ignore[attr-defined]
    return rows


def test_board_metadata_and_destination(live_server: str, tmp_path: Path) -> None:
    images = f"{live_server}/api/v1/images/i"
    board = "sweep: where results go"
    rows = rendered(
        tmp_path, live_server, {"workflow": "txt2img", "board": board, "inputs": SMALL, "axes": {"seed": [3, 4]}}
    )
    boards = [b for b in ask(f"{live_server}/api/v1/boards/?all=true") if b["board_name"] == board]
    assert len(boards) == 1
    for row in rows:
        image = ask(f"{images}/{row['image_name']}")
        assert (image["board_id"], image["is_intermediate"]) == (boards[0]["board_id"], False)
        told = ask(f"{images}/{row['image_name']}/metadata")
        assert told["sweep_key"] == row["key"]
        assert told["sweep_values"] == {"seed": row["seed"]}
        assert (told["seed"], told["steps"], told["positive_prompt"]) == (row["seed"], 1, "a cup")
        assert told["model"]["name"] == "tiny-sd"
    items = [i for i in ask(f"{live_server}/api/v1/queue/default/list_all") if "where" in (i["destination"] or "")]
    assert len(items) == len(rows)
    assert {item["origin"] for item in items} == {"sweep"}
    assert all(item["destination"].startswith("sweep-where-") for item in items)


def test_every_image_of_a_shared_item_tells_all_that_made_it(
    live_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    control = {"model": "tiny-controlnet", "image": "b.png", "weight": 0.6, "end": 0.8}
    inputs = {**SMALL, "steps": 4, "image": "a.png", "lora": "tiny-lora", "controls": [control]}
    axes = {"denoise_strength": [0.5, 0.75], "lora_weight": [0.2, 0.9]}
    rows = rendered(tmp_path, live_server, {"workflow": "img2img", "inputs": inputs, "axes": axes}, "--fuse", "4")
    images = f"{live_server}/api/v1/images/i"
    assert len({ask(f"{images}/{row['image_name']}")["session_id"] for row in rows}) == 1
    names = [i["image_name"] for i in ask(f"{live_server}/api/v1/images/?image_origin=external&limit=500")["items"]]
    for row in rows:
        told = ask(f"{images}/{row['image_name']}/metadata")
        assert told["strength"] == row["denoise_strength"]
        (lora,) = told["loras"]
        assert (lora["model"]["name"], lora["weight"]) == ("tiny-lora", row["lora_weight"])
        (control,) = told["controlnets"]
        assert (control["control_model"]["name"], control["end_step_percent"]) == ("tiny-controlnet", 0.8)
        canvas = told["canvas_v2_metadata"]
        (source,), (layer,) = canvas["rasterLayers"], canvas["controlLayers"]
        assert source["objects"][0]["image"]["image_name"] == told["init_image"]
        assert layer["objects"][0]["image"]["image_name"] == control["image"]["image_name"]
        assert {told["init_image"], control["image"]["image_name"]} <= set(names)
        capsys.readouterr()
        image = tmp_path / "results" / "where" / str(row["image_path"])
        assert app.run_cli(["inspect", str(image), "--server", live_server]) == 0
        (weight,) = [line for line in capsys.readouterr().out.splitlines() if "[lora_weight]" in line]
        assert str(row["lora_weight"]) in weight.split()


def test_images_stay_out_of_the_gallery_where_that_is_wanted(live_server: str, tmp_path: Path) -> None:
    rows = rendered(
        tmp_path, live_server, {"workflow": "txt2img", "inputs": SMALL, "axes": {"seed": [5]}}, "--intermediate"
    )
    assert ask(f"{live_server}/api/v1/images/i/{rows[0]['image_name']}")["is_intermediate"] is True


def test_one_of_several_by_its_number(live_server: str, tmp_path: Path) -> None:
    inputs = {**SMALL, "image": "a.png", "control_image_1": "a.png", "control_image_2": "b.png", "lora": "tiny-lora"}
    axes = {
        "control_weight_1": [0.2, 0.8],
        "control_end_2": [0.5, 1],
        "lora_weight_1": [0, 0.5],
        "control_begin": [0, 0.25],
    }
    rows = rendered(tmp_path, live_server, {"workflow": "img2img", "inputs": inputs, "axes": axes})
    assert len(rows) == 16
    for row in rows:
        first, second, lora = (row["nodes"][name] for name in ("control", "control2", "lora"))
        assert first["image"] != second["image"]
        assert first["control_weight"] == row["control_weight_1"]
        assert second["control_weight"] == 1
        assert (first["end_step_percent"], second["end_step_percent"]) == (1, row["control_end_2"])
        assert first["begin_step_percent"] == second["begin_step_percent"] == row["control_begin"]
        assert lora["weight"] == row["lora_weight_1"]
