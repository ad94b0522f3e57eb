"""`sweep redo`, `sweep rename`, `sweep rm` and `sweep clean`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep.record import FolderLock
from sweep.sandbox import SandboxOptions
from tests.cli.conftest import SMALL, Answer, Sweep, sandbox, write_experiment
from tests.support.ports import free_port

KILLED = """
import os, signal, sys
import sweep.record.maintenance as maintenance
from sweep.cli import main as app

steps = [int(sys.argv[1])]

def counted(function):
    def call(*arguments, **options):
        steps[0] -= 1
        if steps[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

maintenance.Path.unlink = counted(maintenance.Path.unlink)
maintenance.SqliteJournal.reopen = counted(maintenance.SqliteJournal.reopen)
os.rename = counted(os.rename)
maintenance.Path.rename = counted(maintenance.Path.rename)
maintenance.shutil.rmtree = counted(maintenance.shutil.rmtree)
sys.exit(app.run_cli(sys.argv[2:]))
"""


def rows(sweep: Sweep, run: str = "small") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sweep("table", run, "-f", "json").out)
    return found


@pytest.mark.usefixtures("done")
def test_redo_renders_only_matching_points(sweep: Sweep) -> None:
    before = rows(sweep)
    answer = sweep("redo", "small", "--where", "index in [3, 5]", "--no-report")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("2 points of small will be rendered again.\n")
    assert "12 points · 10 already done" in answer.err
    after = rows(sweep)
    assert [row["key"] for row in after] == [row["key"] for row in before]
    assert [row["index"] for row, old in zip(after, before, strict=True) if row["queued_at"] != old["queued_at"]] == [
        3,
        5,
    ]
    assert sweep("verify", "small").code == 0


def test_redo_renders_failed_points(sweep: Sweep, home: Path, hostile: str) -> None:
    assert (
        sweep(
            "run", "small.yaml", "--set", "axes.variation=[oil]", "-s", hostile, "--attempts", "1", "--no-report"
        ).code
        == 1
    )
    answer = sweep("redo", "small", "--where", 'status == "failed"', "--no-report", "-s", hostile)
    assert (answer.code, answer.out.splitlines()[0]) == (1, "6 points of small will be rendered again.")


def test_rename_moves_the_folder_and_the_run_continues_there(sweep: Sweep, done: Path) -> None:
    answer = sweep("rename", "small", "large")
    assert answer.code == 0
    assert "write name: large in its experiment file" in answer.out
    assert not done.exists()
    assert sweep("run", "small.yaml", "--set", "name=large", "--no-report").out.startswith("12 of 12 done already")
    assert sweep("verify", "large").code == 0


def test_rm_deletes_images_of_matching_points(sweep: Sweep, done: Path) -> None:
    answer = sweep("rm", "small", "--where", "seed == 42", "--yes")
    assert (answer.code, answer.out.splitlines()[0].split(".")[0]) == (0, "Deleted 6 images")
    assert [row["seed"] for row in rows(sweep)] == [43] * 6
    assert len(list((done / "images").iterdir())) == 6
    assert sweep("verify", "small").code == 0
    again = sweep("run", "small.yaml", "--no-report")
    assert "12 points · 6 already done" in again.err
    assert len(rows(sweep)) == 12


def test_rm_deletes_a_run(sweep: Sweep, done: Path) -> None:
    assert sweep("rm", "small", "--yes").out == f"Deleted {Path('results', 'small')}.\n"
    assert list(done.parent.iterdir()) == []


def test_rm_counts_images_in_subfolders(sweep: Sweep, done: Path) -> None:
    """Above 2,000 points images lie in folders of a thousand."""
    (done / "images" / "000").mkdir()
    for image in sorted((done / "images").glob("*.png")):
        image.rename(image.parent / "000" / image.name)
    assert json.loads(sweep("rm", "small", "--yes", "--json").out)["images"] == 12


def test_changes_work_with_a_photo_that_was_turned(sweep: Sweep, home: Path) -> None:
    """The folder keeps it upright, so its content is not that of the file it came from."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(home / "phone.jpg", exif=exif.tobytes())
    write_experiment(home / "phone.yaml", name="phone", inputs={**SMALL["inputs"], "image": "phone.jpg"})
    assert sweep("run", "phone.yaml", "--set", "axes.variation=[ink]", "--no-report").code == 0
    assert sweep("verify", "phone").code == 0
    assert sweep("redo", "phone", "--where", "index == 3", "--no-report").code == 0
    assert sweep("merge", "results/phone", "-o", "merged").code == 0
    assert sweep("verify", "merged").code == 0
    kept = next((home / "merged" / "inputs").iterdir())
    kept.write_bytes(kept.read_bytes() + b"x")
    assert sweep("verify", "merged").code == 4
    damaged = sweep("merge", "merged", "-o", "again")
    assert (damaged.code, "is missing or changed" in damaged.err) == (4, True)


def test_verify_offers_repair_for_images_only_and_where_the_run_is(sweep: Sweep, done: Path) -> None:
    stray = done / "images" / "stray.png"
    stray.write_bytes(b"x")
    assert sweep("verify", "small").out.splitlines()[-1] == "1 problem."  # a file of nobody needs no rendering
    stray.unlink()
    done.parent.rename(done.parent.with_name("elsewhere"))
    next(Path("elsewhere/small/images").iterdir()).unlink()
    answer = sweep("verify", "small", "--results", "elsewhere")
    assert "1 problem. sweep verify elsewhere/small --repair renders" in answer.out


def test_a_link_to_a_run_is_neither_renamed_nor_deleted(sweep: Sweep, done: Path) -> None:
    Path("link").symlink_to(done)
    for words in (("rm", "link", "--yes"), ("rename", "link", "x")):
        answer = sweep(*words)
        assert (answer.code, f"Give that folder: {done.resolve()}." in answer.err) == (2, True)
    assert sweep("status", "link").code == 0


@pytest.mark.usefixtures("done")
def test_changes_are_refused_while_a_run_writes(sweep: Sweep, done: Path) -> None:
    with FolderLock(done):
        for words in (("rm", "small", "--yes"), ("rename", "small", "x"), ("redo", "small", "--where", "index == 1")):
            answer = sweep(*words)
            assert (answer.code, "is in use by" in answer.err) == (4, True), words
            assert "sweep stop results/small" in answer.err
    assert len(rows(sweep)) == 12


def killed(step: int, *arguments: str) -> int:
    """Run a command that kills itself at the given step of its writes; the exit code."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    line = [sys.executable, "-c", KILLED, str(step), *arguments]
    return subprocess.run(line, env=environment, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 2, 4])
def test_rm_of_images_survives_kills(step: int, sweep: Sweep, done: Path) -> None:
    assert killed(step, "rm", "small", "--where", "seed == 42", "--yes") == -9
    assert {problem["fault"] for problem in json.loads(sweep("verify", "small", "--json").out)} <= {"missing"}
    again = sweep("rm", "small", "--where", "index >= 0", "--yes")
    assert again.code == 0
    assert list((done / "images").iterdir()) == []
    assert sweep("verify", "small").code == 0
    assert sweep("run", "small.yaml", "--no-report").code == 0
    assert len(rows(sweep)) == 12


@pytest.mark.slow
@pytest.mark.parametrize("step", range(4))
def test_rm_of_a_run_survives_kills(step: int, sweep: Sweep, done: Path) -> None:
    assert killed(step, "rm", "small", "--yes") == -9
    if done.exists():
        assert len(rows(sweep)) == 12
        assert sweep("rm", "small", "--yes").code == 0
    assert "small" not in sweep("status").out
    assert sweep("run", "small.yaml", "--no-report").code == 0


@pytest.mark.slow
def test_rename_and_redo_survive_kills(sweep: Sweep, done: Path) -> None:
    assert killed(0, "rename", "small", "large") == -9
    assert len(rows(sweep)) == 12
    for step in (0, 1):
        assert killed(step, "redo", "small", "--where", "index == 3", "--no-report") == -9
        assert sweep("verify", "small").code in (0, 4)
    assert sweep("run", "small.yaml", "--no-report").code == 0
    assert len(rows(sweep)) == 12
    assert sweep("verify", "small").code == 0


def list_images(url: str) -> set[str]:
    with urllib.request.urlopen(f"{url}/api/v1/images/?limit=1000") as answer:
        return {image["image_name"] for image in json.load(answer)["items"]}


@pytest.mark.slow
def test_clean_deletes_what_the_run_left_and_says_so(sweep: Sweep, home: Path, named: str) -> None:
    """The img_resize of a wider image makes intermediates; another run's files stay."""
    for name in ("small", "other"):
        write_experiment(home / f"{name}.yaml", name=name, inputs={**SMALL["inputs"], "prompt": name, "width": 128})
        assert sweep("run", f"{name}.yaml", "-s", named, "--no-report", "--fuse", "off").code == 0
    before = list_images(named)

    answer = json.loads(sweep("clean", "small", "--yes", "--json").out)
    gone = before - list_images(named)

    assert (answer["state"], answer["folder"]) == ("clean", "results/small")
    assert answer["servers"] == [{"url": named, "images": len(gone), "reason": None}]
    assert gone
    assert len(before - gone) >= 2 * 12, "the images of both runs"
    again = sweep("clean", "small")
    assert (again.code, again.out.endswith(": nothing of small is left.\n"), again.err) == (0, True, "")
    assert sweep("clean", "other", "--yes", "--quiet") == Answer(0, "", "")
    assert sweep("verify", "small").code == 0


def test_clean_says_what_it_cannot_do(sweep: Sweep, home: Path, done: Path) -> None:
    assert sweep("clean", "small") == Answer(
        0, "There is nothing to clean: small left nothing on any server.\n", ""
    )  # of a sandbox of its own
    unknown = sweep("clean", "smal")
    assert (unknown.code, "small" in unknown.err) == (2, True)
    with sandbox(SandboxOptions(port=free_port())) as url:
        write_experiment(home / "away.yaml", name="away")
        assert sweep("run", "away.yaml", "-s", url, "--no-report").code == 0
        asks = sweep("clean", "away")
        assert (asks.code, "Add --yes" in asks.err) == (2, True)
    away = sweep("clean", "away", "--yes", "--quiet")
    assert (away.code, away.out, "connection refused" in away.err) == (3, "", True)
    answer = json.loads(sweep("clean", "away", "--yes", "--json").out)
    assert (answer["state"], answer["servers"][0]["images"]) == ("incomplete", 0)
    assert "connection refused" in answer["servers"][0]["reason"]
