"""Runs over two servers: of one family both render, of two families the second leaves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from sweep.cli import main as app
from sweep.record import RecordedResults
from tests.support.live_comfyui import LiveComfyUI

INPUTS = {"model": "tiny-sd", "prompt": "a cup", "width": 64, "height": 64, "steps": 2}


def run(folder: Path, points: int, *servers: str) -> tuple[int, Counter[str]]:
    """The exit code, and how many images each server rendered."""
    seeds = {"seed": {"start": 1, "count": points}}
    unmeasured: dict[str, list[str]] = {"metrics": []}
    definition = {"name": "several", "workflow": "txt2img", "inputs": INPUTS, "axes": seeds, "study": unmeasured}
    (folder / "several.yaml").write_text(json.dumps(definition), encoding="utf-8")  # JSON is YAML
    where = [word for url in servers for word in ("--server", url)]
    options = ["--results", str(folder), "--no-report"]
    code = app.run_cli(["run", str(folder / "several.yaml"), *where, *options])
    rows = list(RecordedResults.open(folder / "several").rows())
    assert [row["status"] for row in rows] == ["completed"] * points
    return code, Counter(str(row["server"]) for row in rows)


def test_two_comfyui_share_a_run(comfyui: LiveComfyUI, other_comfyui: LiveComfyUI, tmp_path: Path) -> None:
    before = len(comfyui.saved) + len(other_comfyui.saved)
    code, rendered = run(tmp_path, 24, comfyui.url, other_comfyui.url)
    assert code == 0
    assert len(rendered) == 2, rendered
    assert len(comfyui.saved) + len(other_comfyui.saved) == before + 24


def test_a_server_of_another_family_leaves_with_a_sentence(
    comfyui: LiveComfyUI, live_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for first, second, sentence in (
        (live_server, comfyui.url, "is ComfyUI; the graphs of this run are InvokeAI's"),
        (comfyui.url, live_server, "is InvokeAI; the graphs of this run are ComfyUI's"),
    ):
        folder = tmp_path / second.rpartition(":")[2]
        folder.mkdir()
        code, rendered = run(folder, 4, first, second)
        assert code == 0
        assert [name for name in rendered if name in first] == list(rendered)
        assert " ".join(capsys.readouterr().err.split()).count(sentence) == 1
