"""Processes of one's own: sandboxes that do not share a loop with their client, and clients measured from inside."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Generic, TypeVar

from sweep.sandbox import SandboxOptions

T = TypeVar("T")
READY_SECONDS = 120.0
MILLION = 10**6


@dataclass(frozen=True, slots=True)
class Measured(Generic[T]):
    """What a call in a process of its own gave, and what it cost that process."""

    value: T
    seconds: float
    cpu: float  # seconds of processor time, of all its threads
    peak: float  # MB of memory at most, the interpreter's own included


@contextmanager
def sandboxes(options: Sequence[SandboxOptions]) -> Iterator[list[str]]:
    """One process a sandbox; their addresses, for as long as the block lasts."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sweep.sandbox.api_routes"])
    started = []
    try:
        for chosen in options:
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(chosen, there), daemon=True)
            process.start()
            there.close()
            started.append((process, here))
        yield [_address(here) for _, here in started]
    finally:
        for process, _ in started:
            process.terminate()
        for process, _ in started:
            process.join(10)
            if process.is_alive():
                process.kill()


def _address(pipe: Connection) -> str:
    if not pipe.poll(READY_SECONDS):
        raise RuntimeError("A sandbox has not started.")
    return str(pipe.recv())


def _serve(options: SandboxOptions, tell: Connection) -> None:
    import anyio

    from sweep.sandbox import serve_sandbox

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        anyio.run(serve_sandbox, options, tell.send)
    except KeyboardInterrupt:
        return


def in_process(work: Callable[..., T], *arguments: object) -> Measured[T]:
    """Call `work`, a function of a module, in a fresh interpreter."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, work, *arguments).result()


def _measure(work: Callable[..., T], *arguments: object) -> Measured[T]:
    begun, used = time.perf_counter(), time.process_time()
    value = work(*arguments)
    return Measured(value, time.perf_counter() - begun, time.process_time() - used, peak_memory())


def peak_memory() -> float:
    """MB that this process has used at most. The kernel's own count, as `getrusage` passes on what a parent had."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / MILLION
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MILLION if sys.platform == "darwin" else peak * 1024 / MILLION


@dataclass(frozen=True, slots=True)
class Command:
    """What a command line took; `peak` in MB."""

    seconds: float
    peak: float
    output: str


_LAUNCHER = """
import os, sys, time
begun = time.perf_counter()
child = os.fork()
if not child:
    os.execv(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
print("\\n", time.perf_counter() - begun, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
"""A small process that starts the command: the kernel counts a parent's memory into its child's peak."""


def command(*arguments: str, folder: Path | None = None) -> Command:
    """Run `sweep` with these arguments, as a shell would. Raises CalledProcessError where it fails."""
    script = Path(sys.executable).with_name("sweep")
    line = [str(script)] if script.exists() else [sys.executable, "-m", "sweep"]
    launched = [sys.executable, "-S", "-c", _LAUNCHER, *line, *arguments]
    done = subprocess.run(launched, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, check=True)
    output, _, told = done.stdout.rpartition("\n ")
    seconds, peak, code = told.split()
    if int(code):
        raise subprocess.CalledProcessError(int(code), [*line, *arguments], output)
    return Command(float(seconds), int(peak) * 1024 / MILLION, output)
