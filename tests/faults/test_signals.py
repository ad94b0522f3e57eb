"""A run told to end, by signals to the real command line and from another terminal: in stages, only what is ours."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.processes import Bench, SandboxProcess

INT, TERM, STOP, CONT = signal.SIGINT, signal.SIGTERM, signal.SIGSTOP, signal.SIGCONT
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
    server = bench.sandbox(latency=0.3)
    pid, _ = start(bench, server)
    bench.zygote.signal(pid, INT)
    assert ended(bench, pid) == 130
    done = bench.statuses()["completed"]
    assert 1 <= done <= 3
    assert sum(server.renders().values()) == done
    assert {status for several in server.batches().values() for status in several} == {"completed"}
    assert (bench.results.folder / "results.csv").is_file()
    completed_elsewhere(bench, server)
    server.kill()


@pytest.mark.parametrize("how", ["twice", "sigterm"])
def test_stage_two_cancels_ours_and_nobody_elses(bench: Bench, slow: SandboxProcess, how: str) -> None:
    pid, output = start(bench, slow)
    slow.ask("/api/v1/queue/default/enqueue_batch", "POST", OTHERS)
    if how == "twice":
        interrupt(bench, slow, pid, output, 1)
    bench.zygote.signal(pid, INT if how == "twice" else TERM)
    assert ended(bench, pid) == 130
    found = slow.batches()
    assert set(found.pop("canvas")) <= {"pending", "in_progress"}
    (ours,) = found.values()
    assert set(ours) == {"canceled"}
    assert (bench.results.folder / "results.csv").is_file()
    completed_elsewhere(bench, slow)


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
    assert (code, "finishes what is in flight" in said) == (0, True)
    code, said = bench.sweep("cancel", "small")
    assert (code, "cancels what it has" in said) == (0, True)
    assert ended(bench, pid) == 130
    assert {status for several in slow.batches().values() for status in several} == {"canceled"}
    code, said = bench.sweep("stop", "small")
    assert (code, "No run is going on" in said) == (2, True)


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
        pass
    bench.zygote.signal(pid, INT)
    assert ended(bench, pid) == 130
    slow.send(CONT)
    assert "Stopped before anything was sent" in output.read_text(encoding="utf-8")
    assert not slow.batches()


def test_a_queue_of_ones_own(bench: Bench) -> None:
    server = bench.sandbox()
    arguments = ["run", str(bench.write()), "--server", server.url, "--progress", "none", "--no-report"]
    assert bench.sweep(*arguments, "--queue", "mine")[0] == 0
    assert server.ask("/api/v1/queue/mine/status")["queue"]["completed"] == 6
    assert server.ask("/api/v1/queue/default/status")["queue"]["total"] == 0
    assert bench.sweep(*arguments, "--queue", "mine", "--idle-only")[0] == 2
    server.kill()
