"""A run told to end, by signals to the real command line and from another terminal: in stages, only what is ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.engine.shutdown import REQUEST
from sweep.record import LOCK
from tests.support.processes import Bench, SandboxProcess

pytestmark = pytest.mark.slow  # each test starts several processes

INT, TERM, STOP, CONT, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGSTOP, signal.SIGCONT, signal.SIGHUP
COMMAND = "from sweep.__main__ import main; main()"
IN_A_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); " + COMMAND  # as its session's own
OTHERS = {
    "batch": {
        "batch_id": "of somebody else",
        "destination": "canvas",
        "graph": {"id": "g", "nodes": {"n": {"id": "n", "type": "integer", "value": 1}}, "edges": []},
    }
}


@pytest.fixture
def slow(bench: Bench) -> Iterator[SandboxProcess]:
    """A server on which an item takes a minute, unless it is cancelled."""
    server = bench.sandbox(latency=60)
    yield server
    server.kill()


def begun(server: SandboxProcess) -> bool:
    return "in_progress" in [status for several in server.batches().values() for status in several]


def start(bench: Bench, server: SandboxProcess) -> tuple[int, Path]:
    """The command line, at work on its first item; its output."""
    pid, output = bench.command("run", str(bench.write()), "--server", server.url, "--progress", "json", "--no-report")
    server.until(begun)
    return pid, output


def interrupt(bench: Bench, server: SandboxProcess, pid: int, output: Path, stage: int) -> None:
    """One Ctrl-C, and wait until it was heard: a second signal before that would be no second one to the process."""
    bench.zygote.signal(pid, INT)
    server.until(lambda _: f'"stage": {stage}' in output.read_text(encoding="utf-8"))


def ended(bench: Bench, pid: int) -> int:
    return bench.zygote.wait(pid)[0]


def completed_elsewhere(bench: Bench, root: SandboxProcess) -> None:
    """The same command again, at the same server without its patience, completes all, each rendered once."""
    root.kill()
    root.options = {}
    root.start()
    assert bench.run(root)[0] == 0, bench.log()
    assert bench.statuses() == {"completed": 6}
    assert bench.results.verify() == []
    excused = sum(root.cut_short.values())
    assert sum(root.renders().values()) <= 6 + excused


def test_one_interrupt_finishes_what_is_in_flight(bench: Bench) -> None:
    server = bench.sandbox(latency=3)  # so that the interrupt is heard before the first item is done
    pid, _ = start(bench, server)
    bench.zygote.signal(pid, INT)
    assert ended(bench, pid) == 130
    done = bench.statuses()["completed"]
    assert 1 <= done < 6
    assert sum(server.renders().values()) == done
    assert {status for several in server.batches().values() for status in several} == {"completed"}
    assert (bench.results.folder / "results.csv").is_file()
    completed_elsewhere(bench, server)
    server.kill()


@pytest.mark.parametrize("how", ["twice", "sigterm", "sighup"])
def test_stage_two_cancels_ours_and_nobody_elses(bench: Bench, slow: SandboxProcess, how: str) -> None:
    pid, output = start(bench, slow)
    slow.ask("/api/v1/queue/default/enqueue_batch", "POST", OTHERS)
    if how == "twice":
        interrupt(bench, slow, pid, output, 1)
    bench.zygote.signal(pid, {"twice": INT, "sigterm": TERM, "sighup": HUP}[how])
    assert ended(bench, pid) == 130
    found = slow.batches()
    assert set(found.pop("canvas")) <= {"pending", "in_progress"}
    (ours,) = found.values()
    assert set(ours) == {"canceled"}
    assert (bench.results.folder / "results.csv").is_file()
    completed_elsewhere(bench, slow)


@pytest.mark.parametrize("style", ["rich", "plain"])
def test_a_terminal_that_is_closed_cancels_what_is_ours(bench: Bench, slow: SandboxProcess, style: str) -> None:
    """There is nobody to tell any more, and nowhere to write to: what can be put in order is."""
    ours, its = os.openpty()
    command = ["run", str(bench.write()), "--server", slow.url, "--progress", style]
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, *command],
        cwd=bench.folder, stdin=its, stdout=its, stderr=its, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(its)
        slow.until(begun)
        os.close(ours)
        process.wait()
    assert {status for several in slow.batches().values() for status in several} == {"canceled"}
    assert (bench.results.folder / "results.csv").is_file()
    assert bench.results.runs()[-1].ending == "cancelled"
    completed_elsewhere(bench, slow)


def test_a_closed_laptop_is_no_fault_of_the_server(bench: Bench) -> None:
    """Stopped while the server goes on, and woken when all that was due is over: nothing is given up or doubled."""
    server = bench.sandbox(latency=0.3)
    client = bench.begin(server, patience=0.2)
    server.until(begun)
    bench.zygote.signal(client, STOP)
    server.until(lambda each: {s for several in each.batches().values() for s in several} == {"completed"})
    bench.zygote.signal(client, CONT)
    assert bench.zygote.wait(client)[0] == 0, bench.log()
    assert bench.statuses() == {"completed": 6}
    assert sorted(server.renders().values()) == [1] * 6
    server.kill()


def test_output_that_nobody_reads_ends_no_run(bench: Bench) -> None:
    """As with `sweep run … | head -1`."""
    server = bench.sandbox()
    command = ["run", str(bench.write()), "--server", server.url, "--progress", "json", "--no-report"]
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *command], cwd=bench.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")
    assert bench.statuses() == {"completed": 6}
    server.kill()


def test_an_interrupt_while_the_event_loop_is_made_leaves_no_traceback(bench: Bench) -> None:
    """Python tells of what is deleted half made, however the interrupt ends."""
    early = (
        "import asyncio.selector_events as loops\n"
        "def interrupt(*_): raise KeyboardInterrupt\n"
        f"loops.BaseSelectorEventLoop.__init__ = interrupt\n{COMMAND}"
    )
    command = [sys.executable, "-c", early, "run", str(bench.write()), "--server", "http://127.0.0.1:9", "--no-report"]
    ended = subprocess.run(command, cwd=bench.folder, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, b"")


def test_an_interrupt_where_nothing_can_be_raised_ends_the_process_all_the_same(bench: Bench) -> None:
    """As while Python deletes something: it drops the interrupt, and prints it."""
    dropped = (
        "import sweep.cli.main\n"
        "class Dropping:\n    def __del__(self): raise KeyboardInterrupt\n"
        f"sweep.cli.main.run_cli = lambda _: (Dropping(), 7)[1]\n{COMMAND}"
    )
    ended = subprocess.run([sys.executable, "-c", dropped], cwd=bench.folder, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, b"")


def test_three_interrupts_end_the_process_at_once(bench: Bench, slow: SandboxProcess) -> None:
    pid, output = start(bench, slow)
    slow.send(STOP)  # so that the second stage has to wait
    interrupt(bench, slow, pid, output, 1)
    interrupt(bench, slow, pid, output, 2)
    bench.zygote.signal(pid, INT)
    assert ended(bench, pid) == -INT
    slow.send(CONT)
    completed_elsewhere(bench, slow)


def test_stop_and_cancel_from_another_terminal(bench: Bench, slow: SandboxProcess) -> None:
    pid, _ = start(bench, slow)
    code, said = bench.sweep("stop", "small")
    assert (code, "finishes the jobs in flight" in said) == (0, True)
    code, said = bench.sweep("cancel", "small")
    assert (code, "cancels its jobs" in said) == (0, True)
    assert ended(bench, pid) == 130
    assert {status for several in slow.batches().values() for status in several} == {"canceled"}
    code, said = bench.sweep("stop", "small")
    assert (code, "Nothing is running in" in said) == (2, True)


def test_stopping_a_run_that_died(bench: Bench, slow: SandboxProcess) -> None:
    pid, _ = start(bench, slow)
    bench.zygote.signal(pid, signal.SIGKILL)
    ended(bench, pid)
    for command in ("stop", "cancel"):
        code, said = bench.sweep(command, "small")
        assert (code, "Nothing is running in" in said) == (2, True)


def test_stopping_a_run_on_another_machine(bench: Bench) -> None:
    """The folder is on a disk that both see: the lock says nothing here, and the request is found there."""
    server = bench.sandbox()
    assert bench.run(server)[0] == 0
    note = {"pid": 7, "host": "elsewhere", "machine": "another", "since": "2026-01-02 03:04:05"}
    (bench.results.folder / LOCK).write_text(json.dumps(note))
    code, said = bench.sweep("stop", "small")
    assert (code, "if process 7 on elsewhere" in said) == (0, True)
    assert (bench.results.folder / REQUEST).read_text() == "1\n"
    server.kill()


def test_a_server_that_hangs_does_not_hold_up_the_end(bench: Bench, slow: SandboxProcess) -> None:
    pid, _ = start(bench, slow)
    slow.send(STOP)
    bench.zygote.signal(pid, TERM)
    assert ended(bench, pid) == 130
    slow.send(CONT)
    completed_elsewhere(bench, slow)


def test_an_interrupt_before_anything_is_sent(bench: Bench, slow: SandboxProcess) -> None:
    slow.send(STOP)
    pid, output = bench.command("run", str(bench.write()), "--server", slow.url, "--progress", "none")
    while not (bench.folder / "results" / "small" / "journal.sqlite").exists():
        time.sleep(0.01)
    bench.zygote.signal(pid, INT)
    assert ended(bench, pid) == 130
    slow.send(CONT)
    assert "Stopped before anything was sent" in output.read_text(encoding="utf-8")
    assert not slow.batches()


def test_a_queue_of_ones_own(bench: Bench) -> None:
    server = bench.sandbox()
    arguments = ["run", str(bench.write()), "--server", server.url, "--progress", "none", "--no-report"]
    assert bench.sweep(*arguments, "--queue", "mine", "--fuse", "off")[0] == 0
    assert server.ask("/api/v1/queue/mine/status")["queue"]["completed"] == 6
    assert server.ask("/api/v1/queue/default/status")["queue"]["total"] == 0
    assert bench.sweep(*arguments, "--queue", "mine", "--idle-only")[0] == 2
    server.kill()
