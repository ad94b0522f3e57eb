"""A real server's boards, gallery and library, as experiments name them, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweep.cli import main as app
from sweep.record import RecordedResults
from tests.live.rendering import ask

SMALL = {"model": "tiny-sd", "prompt": "a cup", "width": 64, "height": 64, "steps": 1}
BOARD = "sweep: gallery"


def run_sweep(command: str, folder: Path, server: str, name: str, definition: dict[str, Any]) -> int:
    """Run a command for an experiment; return its exit code."""
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(definition), encoding="utf-8")
    options = ["--no-report"] if command == "run" else []
    return app.run_cli([command, str(file), "--server", server, "--results", str(folder / "results"), *options])


def test_gallery_board_and_library_are_used_by_their_names(
    live_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: dict[str, Any] = {"workflow": "txt2img", "board": BOARD, "inputs": SMALL, "axes": {"seed": [1, 2]}}
    assert run_sweep("plan", tmp_path, live_server, "made", made) == 0
    assert f'has no board "{BOARD}" yet' in " ".join(capsys.readouterr().out.split())
    assert run_sweep("run", tmp_path, live_server, "made", made) == 0
    rows = list(RecordedResults.open(tmp_path / "results" / "made").rows())
    names = [row["image_name"] for row in sorted(rows, key=lambda row: str(row["finished_at"]))]

    uploads = f"{live_server}/api/v1/images/?categories=user&is_intermediate=false&limit=1"
    before = ask(uploads)["total"]
    from_board: dict[str, Any] = {"workflow": "img2img", "inputs": SMALL, "axes": {"image": f"board:{BOARD}"}}
    assert run_sweep("run", tmp_path, live_server, "board", from_board) == 0
    shown = [row["image"] for row in RecordedResults.open(tmp_path / "results" / "board").rows()]
    assert shown == [f"gallery:{name}" for name in names]
    from_gallery = {"workflow": "img2img", "inputs": {**SMALL, "image": f"gallery:{names[0]}"}, "axes": {"seed": [3]}}
    assert run_sweep("run", tmp_path, live_server, "gallery", from_gallery) == 0
    assert ask(uploads)["total"] == before, "nothing is uploaded"
    capsys.readouterr()
    assert app.run_cli(["study", "gallery", "--results", str(tmp_path / "results"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["design"]["reference"] == "source"

    text_to_image = "library:Text to Image - SD1.5"
    assert app.run_cli(["init", text_to_image, "--server", live_server, "-o", str(tmp_path / "mine.yaml")]) == 0
    assert f'workflow: "{text_to_image}"' in (tmp_path / "mine.yaml").read_text(encoding="utf-8")
    from_library = {"workflow": text_to_image, "inputs": SMALL, "axes": {"seed": [4, 5]}}
    assert run_sweep("run", tmp_path, live_server, "library", from_library) == 0
    capsys.readouterr()
    for wrong, said in (
        ({**from_library, "workflow": f"{text_to_image[:-1]}6"}, "Did you mean Text to Image - SD1.5?"),
        ({**from_board, "axes": {"image": f"board:{BOARD}s"}}, f"Did you mean {BOARD}?"),
    ):
        assert run_sweep("plan", tmp_path, live_server, "wrong", wrong) == 2
        assert said in " ".join(capsys.readouterr().err.split())
