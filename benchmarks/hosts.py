"""How many hosts one coordinator keeps busy: N simulated servers in one process on a core, sweep on the other.

The hosts are sandboxes that share a process and serve one prepared image, so the protocol is real, over sockets, and
all of them together need less than a core. Each takes so long an item that all together could give `OFFERED` images a
second, whatever N is: 4 seconds an item at 500 hosts. What is measured is the coordinator: its rate, its share of a
core, its memory, and the time until a freed slot of a host has its next item, by that host's own clock. The hosts'
share of their core is told, too: where it is near 100 %, they are what is waited for.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import anyio

from benchmarks.figures import Figure
from benchmarks.processes import READY_SECONDS, in_process
from benchmarks.rendering import Rendered, definition, render
from sweep.record import JOURNAL_FILE
from sweep.sandbox import SandboxOptions

NAME = "hosts"
COUNTS = (16, 64, 200, 500)
OFFERED = 125.0  # images a second that the hosts could give together
SECONDS = 24.0  # of work for each measurement
SIDE = 512  # pixels: an image of 300 kB
CONCURRENCY = 2  # items at a host
JITTER = 0.2
COORDINATOR, HOSTS = 0, -1  # places among the cores there are


def measure() -> list[Figure]:
    """One measurement a number of hosts."""
    return [figure for count in COUNTS for figure in _figures(count)]


def _figures(count: int) -> list[Figure]:
    each = max(3, round(OFFERED * SECONDS / count))
    with tempfile.TemporaryDirectory() as scratch, simulated_hosts(count) as hosts:
        asked, used = definition("hosts", each * count), hosts.processor_seconds
        found = in_process(render_pinned, asked, hosts.urls, Path(scratch), {"concurrency": CONCURRENCY})
        hosts_share = (hosts.processor_seconds - used) / found.value.seconds
        waits = slot_waits(found.value.folder)
    run = found.value
    rate, share = steady_rate(run.finished, count / OFFERED), run.cpu / run.seconds
    is_largest = count == COUNTS[-1]
    tail = sorted(waits)[round(0.95 * (len(waits) - 1))]
    label = f"{count} hosts"
    return [
        _figure(f"{label}: images a second, of {OFFERED:.0f} possible", rate, "", 100.0 if is_largest else None, True),
        _figure(f"{label}: share of a core", 100 * share, "%", 50.0 if is_largest else None),
        _figure(f"{label}: processor time", 1000 * run.cpu / run.images, "ms/image"),
        _figure(f"{label}: the hosts' share of their own core", 100 * hosts_share, "%"),
        _figure(f"{label}: memory at most", found.peak, "MB", 300.0 if is_largest else None),
        _figure(f"{label}: a freed slot waits for its next item, median", 1000 * statistics.median(waits), "ms"),
        _figure(f"{label}: the same, 95th percentile", 1000 * tail, "ms"),
    ]


def _figure(name: str, value: float, unit: str, goal: float | None = None, more: bool = False) -> Figure:
    return Figure(benchmark=NAME, name=name, value=value, unit=unit, goal=goal, more=more)


def render_pinned(asked: dict[str, object], urls: list[str], root: Path, options: dict[str, object]) -> Rendered:
    """Render as the command line does, on the coordinator's core alone."""
    from sweep.cli.run import choose_backend, search_garbage_less_often

    prepare_process(COORDINATOR)
    search_garbage_less_often()
    return render(asked, urls, root, options, "uvloop" if choose_backend()["use_uvloop"] else "asyncio")


def prepare_process(place: int) -> None:
    """Pin this process to a core, where the system can, and let it open as many sockets as it may."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[place]})
    if os.name == "posix":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def steady_rate(finished: tuple[float, ...], item: float) -> float:
    """Return the images a second between the first round of items and the last: begin and end are not the pace."""
    begin, end = 2 * item, finished[-1] - 2 * item
    return sum(begin <= at <= end for at in finished) / (end - begin)


def slot_waits(folder: Path) -> list[float]:
    """Return the seconds from the end of an item to the next submission that its slot allowed, by the hosts' clocks."""
    with closing(sqlite3.connect(folder / JOURNAL_FILE)) as db:
        rows = db.execute("SELECT server, queued_at, finished_at FROM points WHERE state = 'completed'").fetchall()
    hosts: dict[str, list[tuple[int, int]]] = {}
    for server, queued, finished in rows:
        hosts.setdefault(server, []).append((queued, finished))
    waits = []
    for items in hosts.values():
        items.sort()
        waits += [later[0] - earlier[1] for earlier, later in zip(items, items[CONCURRENCY:], strict=False)]
    return [max(0, wait) / 10**6 for wait in waits]


@dataclass(frozen=True, slots=True)
class Hosts:
    """The process of the simulated hosts, and their addresses."""

    urls: list[str]
    process: int

    @property
    def processor_seconds(self) -> float:
        """What the process has used so far; 0 where the system does not tell."""
        stat = Path(f"/proc/{self.process}/stat")
        if not stat.is_file():
            return 0.0
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def simulated_hosts(count: int, side: int = SIDE) -> Iterator[Hosts]:
    """Serve so many sandboxes from one process on a core of its own, while the block lasts."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(count, side, there), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(4 * READY_SECONDS):
            raise RuntimeError("The hosts have not started.")
        yield Hosts(here.recv(), process.pid or 0)
    finally:
        process.terminate()
        process.join(10)
        if process.is_alive():
            process.kill()


def _serve(count: int, side: int, tell: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare_process(HOSTS)
    anyio.run(_serve_all, count, side, tell)


async def _serve_all(count: int, side: int, tell: Connection) -> None:
    from sweep.sandbox import sandbox_server

    async with AsyncExitStack() as held:
        urls = []
        for number in range(count):
            options = SandboxOptions(paint=False, plain_side=side, latency=count / OFFERED, jitter=JITTER, seed=number)
            urls.append((await held.enter_async_context(sandbox_server(options))).url)
        tell.send(urls)
        await anyio.sleep_forever()
