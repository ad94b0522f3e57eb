"""The command in a process of its own: signals, closed pipes, encodings, a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import Sweep, write_experiment

ENTRY = [sys.executable, "-m", "sweep"]


def started(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    output: int = subprocess.PIPE,
    errors: int | None = None,
) -> subprocess.Popen[bytes]:
    """The command, with its own streams: buffered, as they are for everybody."""
    return subprocess.Popen(
        [*ENTRY, *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": "", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output if errors is None else errors,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.slow
def test_control_c_ends_the_sandbox_quietly() -> None:
    process = started("sandbox", "--port", "0")
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    assert process.communicate() == (b"", b"")
    assert process.returncode == 130


def test_little_is_loaded_before_control_c_is_handled() -> None:
    code = (
        "import sys; before = {*sys.modules, 'enum', 'types'}; import sweep.__main__; print(*{*sys.modules} - before)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {name for name in shown.split() if not name.startswith("_")} <= {"sweep", "sweep.__main__", "signal"} | {
        *("functools", "collections", "operator", "keyword", "reprlib", "itertools")  # of enum
    }


@pytest.mark.parametrize("module", ["sweep.cli", "typer", "pydantic"])
def test_control_c_while_modules_are_loaded_is_quiet(module: str, home: Path) -> None:
    reading, writing = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):  # so small that the command has to wait, with modules still to be loaded
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    process = started("plan", "small.yaml", environment={"PYTHONPROFILEIMPORTTIME": "1"}, errors=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as stderr:
        for line in stderr:  # it tells of every module that is loaded
            if line.split(b"|")[-1].strip().decode() == module:
                break
        else:
            pytest.fail(f"{module} was never loaded")
        process.send_signal(signal.SIGINT)
        err = stderr.read()
    out, _ = process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err


@pytest.mark.slow
def test_run_in_the_background_ignores_sigint(home: Path) -> None:
    process = subprocess.Popen(
        [*ENTRY, "run", "small.yaml", "--no-report", "--progress", "json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell without job control does
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "Submitted":
            break
    process.send_signal(signal.SIGINT)
    told = process.communicate()[0].splitlines()
    assert json.loads(told[-1])["completed"] == 12
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.usefixtures("done")
def test_shell_completion_offers_commands_options_and_runs() -> None:
    for typed, offered in (("sweep ver", "verify"), ("sweep run --fu", "--fuse"), ("sweep status sm", "small")):
        words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_SWEEP_COMPLETE": "complete_bash"}
        process = started(environment=words)
        assert process.communicate()[0].decode().split() == [offered]


@pytest.mark.slow
def test_table_exits_0_if_its_reader_closes_the_pipe(done: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    process = started("table", "small", output=write)
    os.close(write)
    process.communicate()
    assert process.returncode == 0


@pytest.mark.slow
def test_run_continues_after_its_output_is_closed(home: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    process = started("run", "small.yaml", "--no-report", "--progress", "json", output=write)
    os.close(write)
    process.communicate()
    assert process.returncode == 0
    assert len(list(Path("results/small/images").iterdir())) == 12


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_plan_escapes_characters_that_the_encoding_lacks(encoding: str, home: Path) -> None:
    process = started("plan", "small.yaml", environment={"PYTHONIOENCODING": encoding})
    out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert b"denoise.denoising_start = 1 \\u2212 denoise_strength" in out


@pytest.mark.slow
def test_run_shows_bars_in_a_terminal(home: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24", "NO_COLOR": "1"}
    process = started("run", "small.yaml", "--no-report", output=theirs, environment=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
    os.close(ours)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    assert lines[0] == "small  12 points  (sandbox: painted images, not diffusion)"
    assert any(line.startswith("sandbox  ") and "running" in line for line in lines)
    assert any(re.match(r"all +\S+ +\d+/12 +\d+ %", line) for line in lines)
    assert "\x1b[3" not in shown.decode()  # NO_COLOR
    assert "\x1b[?25l" not in shown.decode()  # a hidden cursor would be missing in the shell after Ctrl-Z


@pytest.mark.slow
def test_view_serves_until_control_c(done: Path) -> None:
    process = started("view", "small")
    assert process.stdout is not None
    address = process.stdout.readline().decode().strip()
    with urllib.request.urlopen(address, timeout=20) as answer:
        assert b"<title>" in answer.read()
    process.send_signal(signal.SIGINT)
    assert process.communicate() == (b"", b"")
    assert process.returncode == 130


@pytest.mark.slow
def test_init_asks_in_a_terminal_until_the_answers_make_an_experiment(home: Path, sweep: Sweep) -> None:
    ours, theirs = pty.openpty()
    line = [*ENTRY, "init", "--image", "phot.png", "-o", "first.yaml"]
    process = subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "NO_COLOR": "1"})
    os.close(theirs)
    wrong = ["img2img", "a cup", "denoise_strength=0.2:0.8:0.2", "seed=1,2"]
    right = ["", "a cup", "photo.png", "", "seed=1,2"]
    os.write(ours, "".join(f"{answer}\n" for answer in (*wrong, *right)).encode())
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
    os.close(ours)
    assert process.wait() == 0, shown.decode()
    assert b"phot.png, which does not exist. Did you mean photo.png?" in shown
    assert b"Wrote first.yaml." in shown
    assert "8 = 4 × 2" in sweep("plan", "first.yaml").out


@pytest.mark.slow
def test_init_without_a_terminal_says_what_to_write(home: Path, sweep: Sweep) -> None:
    process = started("init")
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.startswith(b"There is no terminal to ask in.\nName a workflow file, or use sweep run img2img")
    assert not (home / "experiment.yaml").exists()


def run_in_shell(command: str) -> int:
    """Run a command whose `sweep` is this one; return its exit code."""
    entry = shlex.join([*ENTRY])
    return subprocess.run(["bash", "-c", command.replace("sweep ", f"{entry} ", 1)], timeout=60).returncode


@pytest.mark.slow
def test_run_renders_with_every_stream_closed(home: Path) -> None:
    write_experiment(home / "two.yaml", name="two", axes={"seed": [1, 2]})

    assert run_in_shell("sweep run two.yaml --no-report <&- >&- 2>&-") == 0
    assert len(list(Path("results/two/images").iterdir())) == 2


@pytest.mark.slow
def test_exit_code_says_what_a_full_device_cannot(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_in_shell("sweep plan small.yaml >/dev/full 2>/dev/full") == 4
    assert run_in_shell("sweep plan none.yaml 2>/dev/full") == 2
    assert run_in_shell("sweep schema >/dev/full") == run_in_shell("sweep --help >/dev/full") == 4
    write_experiment(home / "two.yaml", name="two", axes={"seed": [1, 2]})
    assert run_in_shell("sweep run two.yaml --no-report >/dev/null") == 0
    assert run_in_shell("sweep table two >/dev/full") == 4
    assert "Traceback" not in capfd.readouterr().err
    assert run_in_shell("sweep plan none.yaml 2>&-") == 2


@pytest.mark.slow
def test_run_that_may_open_too_few_files_is_refused_with_the_way_out(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_in_shell("ulimit -n 16; sweep run small.yaml") == 2
    assert "Only 16 files may be open at a time here, and a run needs 64.\nRaise the limit: ulimit -n 256.\n" in (
        capfd.readouterr().err
    )


@pytest.mark.slow
def test_paths_that_are_no_utf8_are_paths(sweep: Sweep, home: Path) -> None:
    write_experiment(home / "two.yaml", name="two", axes={"seed": [1, 2]})
    root = os.fsdecode(b"r\xff")

    for words in (("run", "two.yaml"), ("table", "two"), ("status", "two", "--json"), ("verify", "two")):
        assert sweep(*words, "--results", root).code == 0, words


def test_a_name_that_the_locale_cannot_write_is_told(home: Path) -> None:
    write_experiment(home / "small.yaml", name="ünï")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = started("run", "small.yaml", "--no-report", environment=ascii_only)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "File names here are ascii, which cannot write 'results/ünï'.\nSet PYTHONUTF8=1" in said.decode()
