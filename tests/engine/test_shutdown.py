"""Stopping by signal, by another terminal, and the places items hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from sweep.engine.concurrency import ItemSlot
from sweep.engine.shutdown import (
    HEEDED,
    REQUEST,
    Stop,
    clear_stop_requests,
    handle_signals,
    request_stop,
    watch_requests,
)

THRICE = """
import os, signal, anyio
from sweep.engine.shutdown import Stop, handle_signals

async def main():
    with handle_signals(Stop()):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
    print("went on")

anyio.run(main)
"""


IGNORED = """
import os, signal, anyio
from sweep.engine.shutdown import Stop, handle_signals

async def main():
    stop = Stop()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with handle_signals(stop):
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        await stop.wait_for(1)
    print(stop.stage, signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)

anyio.run(main)
"""


def test_a_stage_is_never_taken_back() -> None:
    stop = Stop()
    stop.request(2)
    stop.request(1)
    assert stop.stage == 2


async def test_a_handler_that_python_did_not_install_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in HEEDED}
    monkeypatch.setattr(signal, "getsignal", lambda _: None)  # as for one of a library in C
    with handle_signals(Stop()):
        pass
    assert {signal.signal(number, handler) for number, handler in before.items()} == {signal.SIG_DFL}


async def test_two_interrupts_ask_for_two_stages() -> None:
    stop = Stop()
    before = signal.getsignal(signal.SIGINT)
    with handle_signals(stop):
        os.kill(os.getpid(), signal.SIGINT)
        await stop.wait_for(1)
        assert stop.stage == 1
        os.kill(os.getpid(), signal.SIGINT)
        await stop.wait_for(2)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_the_third_interrupt_is_the_systems_own() -> None:
    child = subprocess.run([sys.executable, "-c", THRICE], capture_output=True, text=True, check=False)
    assert (child.returncode, child.stdout) == (-signal.SIGINT, "")


@pytest.mark.slow
def test_what_nohup_ignores_stays_ignored() -> None:
    child = subprocess.run([sys.executable, "-c", IGNORED], capture_output=True, text=True, check=False)
    assert (child.returncode, child.stdout) == (0, "1 True\n"), child.stderr


async def test_sigterm_asks_for_stage_two() -> None:
    stop = Stop()
    with handle_signals(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait_for(2)
    assert stop.stage == 2


async def test_another_terminal_asks_through_the_folder(tmp_path: Path) -> None:
    stop = Stop()
    async with anyio.create_task_group() as group:
        group.start_soon(watch_requests, stop, tmp_path)
        await anyio.to_thread.run_sync(request_stop, tmp_path, 1)
        await stop.wait_for(1)
        await anyio.to_thread.run_sync(request_stop, tmp_path, 2)
        await stop.wait_for(2)
    await anyio.to_thread.run_sync(clear_stop_requests, tmp_path)
    assert not await anyio.Path(tmp_path / REQUEST).exists()


async def test_a_torn_request_is_none(tmp_path: Path) -> None:
    await anyio.Path(tmp_path / REQUEST).write_bytes(b"\xff\x00")
    stop = Stop()
    with anyio.move_on_after(0.05):
        await watch_requests(stop, tmp_path)
    assert stop.stage == 0


async def test_the_slot_goes_back_before_the_place() -> None:
    places, slots = anyio.CapacityLimiter(2), anyio.CapacityLimiter(1)
    first = await ItemSlot.acquire(places, slots)
    first.release_server()
    first.release_server()
    second = await ItemSlot.acquire(places, slots)
    with anyio.move_on_after(0.01) as waited:
        await ItemSlot.acquire(places, anyio.CapacityLimiter(1))
    assert waited.cancelled_caught
    first.release()
    first.release()
    third = await ItemSlot.acquire(places, anyio.CapacityLimiter(1))
    second.release()
    third.release()
    assert slots.borrowed_tokens == places.borrowed_tokens == 0
