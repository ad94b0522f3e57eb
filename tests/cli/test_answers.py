"""Commands as people and programs use them: in words, as JSON, quiet, and in a shell that completes names."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from typer._completion_classes import BashComplete
from typer.main import get_command

import sweep.study as sweep_study
from sweep.cli import run as run_module
from sweep.cli.parser import command_line
from sweep.engine.events import RunStarted
from sweep.record import RecordedResults
from sweep.study import start_follower
from tests.cli.conftest import Sweep, write_experiment
from tests.support.workflow_exports import text_to_image

TYPED = ("img2img", "--image", "photo.png", "--prompt", "a cup", "--axis", "seed=1,2", "--input", "width=64")
STATUS = {"schema", "state", "ended_at", "folder", "table", "report"}


def asked(sweep: Sweep, *arguments: str) -> dict[str, Any]:
    answer = sweep(*arguments, "--json")
    assert answer.err == "", arguments
    assert answer.out.count("\n") == 1, arguments
    found: dict[str, Any] = json.loads(answer.out)
    assert found["schema"] == f"sweep.{arguments[0]}/1", arguments
    assert found["state"], arguments
    return found


@pytest.mark.usefixtures("done")
def test_commands_answer_programs_with_schema_state_and_paths(sweep: Sweep, home: Path) -> None:
    assert asked(sweep, "status", "small").keys() >= STATUS
    assert asked(sweep, "check", "small", "--require", "failed == 0").keys() >= {*STATUS, "junit"}
    plan = asked(sweep, "plan", "small.yaml")
    assert (plan["state"], plan["folder"], plan["file"]) == ("done", "results/small", "small.yaml")
    assert plan["ended_at"] is not None
    assert asked(sweep, "plan", *TYPED)["state"] == "new"
    ratings = home / "marks.json"
    row = json.loads(sweep("table", "small", "-f", "json").out)[0]
    ratings.write_text(json.dumps({"schema": 1, "ratings": {row["key"]: {"stars": 4}}, "choices": []}))
    assert asked(sweep, "rate", "small", "marks.json")["rated"] == 1
    assert asked(sweep, "rename", "small", "large")["folder"] == "results/large"
    assert asked(sweep, "merge", "results/large", "-o", "merged")["points"] == 12
    assert asked(sweep, "rm", "large", "--where", "index < 4", "--yes")["images"] == 4
    assert asked(sweep, "rm", "large", "--yes")["state"] == "deleted"
    (home / "flow.json").write_text(json.dumps(text_to_image()))
    assert asked(sweep, "init", "flow.json")["file"] == "experiment.yaml"


@pytest.mark.usefixtures("done")
def test_quiet_commands_print_nothing(sweep: Sweep) -> None:
    commands = [
        ("plan", "small.yaml", "--quiet"),
        ("plan", *TYPED, "--quiet"),
        ("check", "small", "--require", "failed == 0", "-q"),
        ("redo", "small", "--where", "index == 3", "--no-report", "--progress", "none"),
        ("merge", "results/small", "-o", "merged", "-q"),
        ("rename", "small", "large", "-q"),
        ("rm", "large", "--yes", "-q"),
    ]
    for words in commands:
        answer = sweep(*words)
        assert (answer.code, answer.out, answer.err) == (0, "", ""), words


@pytest.mark.usefixtures("done")
def test_redo_for_programs_writes_events_with_time_and_version(sweep: Sweep) -> None:
    answer = sweep("redo", "small", "--where", "index == 3", "--no-report", "--progress", "json")
    events = [json.loads(line) for line in answer.out.splitlines()]
    assert (answer.code, answer.err, events[-1]["event"]) == (0, "", "RunEnded")
    assert {(type(event["time"]), event["version"]) for event in events} == {(str, 1)}


@pytest.mark.usefixtures("done")
def test_table_chooses_columns(sweep: Sweep, home: Path) -> None:
    answer = sweep("table", "small", "--columns", "seed,steps,status", "--where", "index < 2")
    assert answer.out.splitlines() == ["seed,steps,status", "42,4,completed", "43,4,completed"]
    assert "There is no column named stps. Did you mean steps?" in sweep("table", "small", "--columns", "stps").err
    looks = {"look": {"values": {"soft": {"cfg_scale": 5}, "neon": {"cfg_scale": 9}}}}
    write_experiment(home / "looks.yaml", name="looks", axes=looks)
    assert sweep("run", "looks.yaml", "--no-report").code == 0
    assert sweep("table", "looks", "--columns", "look,cfg_scale").out.splitlines()[1:] == ["soft,5", "neon,9"]


def completed(*words: str) -> list[str]:
    """What the shell offers for the last of these words."""
    line = get_command(command_line())
    found = BashComplete(line, {}, "sweep", "_SWEEP_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [each.value for each in found]


@pytest.mark.slow
@pytest.mark.usefixtures("done")
def test_shell_completes_runs_axes_metrics_and_roles() -> None:
    for command in ("status", "table", "study", "report", "view", "sheet", "redo", "rm", "rename", "check", "rate"):
        assert completed(command, "sm") == ["small"], command
    for option in ("--x", "--y", "--animate", "--filmstrip"):
        assert completed("sheet", "small", option, "de") == ["denoise_strength"], option
    assert completed("study", "small", "--metric", "structure_f") == ["structure_fine"]
    assert completed("sheet", "none", "--x", "") == []
    assert completed("run", "img2img", "--axis", "denoise_s") == ["denoise_strength="]
    assert completed("run", "img2img", "--input", "st") == ["steps="]


@pytest.mark.slow
def test_images_are_measured_while_a_run_renders(sweep: Sweep, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has rendered half of its points: the process that measures them needs no call."""
    monkeypatch.setattr(run_module, "FIRST_LOOK", 0)
    assert sweep("run", "small.yaml", "--shard", "1/2", "--no-report").code == 0
    folder = home / "results" / "small"
    measured = threading.Event()

    def start(folder: Path) -> subprocess.Popen[bytes]:
        process = start_follower(folder)
        assert process.stdout is not None
        process.stdout.readline()
        measured.set()
        return process

    monkeypatch.setattr(sweep_study, "start_follower", start)
    with run_module.measure_meanwhile(folder, lambda _: None) as listen:
        listen(
            RunStarted(
                experiment="small",
                points=12,
                done=6,
                failed=0,
                former=0,
                servers=(),
                sandbox=True,
                folder=str(folder),
            )
        )
        assert measured.wait(50)
    found = {column.name for column in RecordedResults.open(folder).columns()}
    assert {"ssim", "structure_coarse"} <= found
    assert "diversity" not in found  # of several seeds, which may not all be there


IN_A_TERMINAL = """
import fcntl, json, os, struct, sys, termios
from sweep.cli.main import run_cli

for width in (80, 140):
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    for words in json.loads(sys.argv[1]):
        words = [word.replace("WIDTH", str(width)) for word in words]
        print("@", width, words[0], flush=True)
        print("=", run_cli(words), flush=True)
"""
COMMANDS_IN_A_TERMINAL = [
    (0, ["plan", *TYPED]),
    (0, ["run", *TYPED, "--axis", "denoise_strength=0.2,0.6", "--save", "cupWIDTH.yaml"]),
    (0, ["redo", "cupWIDTH", "--where", "index == 1"]),
    (1, ["check", "cupWIDTH", "--require", "ssim >= 2", "--require", "failed == 0"]),
    (0, ["rate", "cupWIDTH", "marks.json"]),
    (0, ["merge", "results/cupWIDTH", "-o", "mergedWIDTH"]),
    (0, ["rm", "cupWIDTH", "--where", "seed == 2", "--yes"]),
    (0, ["rename", "cupWIDTH", "mugWIDTH"]),
    (2, ["redo", "mugWIDTH", "--where", "sed == 1"]),
    (0, ["rm", "mugWIDTH", "--yes"]),
    (2, ["rm", "mugWIDTH"]),
]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_new_commands_fit_into_terminals_of_80_and_140_columns(home: Path) -> None:
    (home / "marks.json").write_text(json.dumps({"schema": 1, "ratings": {}, "choices": []}), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm-256color"}
    reader, terminal = os.openpty()
    given = json.dumps([words for _, words in COMMANDS_IN_A_TERMINAL])
    command = [sys.executable, "-c", IN_A_TERMINAL, given]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=environment):
        os.close(terminal)
        shown = b"".join(iter(lambda: read_terminal(reader), b"")).decode()
    os.close(reader)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").split("\n")
    codes = [int(line[2:]) for line in lines if line.startswith("= ")]
    assert codes == [code for code, _ in COMMANDS_IN_A_TERMINAL] * 2, shown
    width = 0
    for line in lines:
        if line.startswith("@ "):
            width = int(line.split()[1])
        assert len(line.rstrip()) <= width, line
    assert "Traceback" not in shown


def read_terminal(reader: int) -> bytes:
    """What the terminal shows next; nothing once its last process has ended."""
    try:
        return os.read(reader, 4096)
    except OSError:  # Linux: no writer is left
        return b""


def test_a_bundle_holds_the_table_as_it_is_now(sweep: Sweep, done: Path) -> None:
    (done / "results.csv").unlink()
    assert sweep("report", "small", "--bundle", "small.zip").code == 0
    with ZipFile("small.zip") as bundle:
        assert bundle.read("results.csv") == (done / "results.csv").read_bytes()


def test_a_study_is_printed_though_the_tables_cannot_be_replaced(sweep: Sweep, done: Path) -> None:
    (done / "results.csv").unlink()
    (done / "results.csv").mkdir()
    for options, start in (((), "small  "), (("--json",), "{")):
        answer = sweep("study", "small", *options)
        assert (answer.code, answer.out.startswith(start)) == (0, True)
        assert "The tables in results/small stay as they are: results/small/results.csv could not be" in answer.err


def test_a_folder_that_may_only_be_read_is_studied_and_reported_elsewhere(
    sweep: Sweep, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write anywhere, so that nothing was written is looked at too."""

    def read_folder() -> dict[Path, bytes]:
        found = (path for path in done.rglob("*") if path.is_file() and not path.name.startswith("journal.sqlite-"))
        return {path: path.read_bytes() for path in found}

    shutil.rmtree(done / "thumbs", ignore_errors=True)
    before, access = read_folder(), os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    for path in (done, *done.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert sweep("study", "small", "-o", "numbers").code == 0
        assert sweep("report", "small", "-o", "page.html").code == 0
        assert read_folder() == before
    finally:
        for path in (done, *done.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert Path("numbers", "study.json").is_file()
    assert Path("page.html").is_file()
