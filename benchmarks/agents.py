"""One coordinator and many agents of a Ray cluster: rate, memory, and how long a host waits for its next item.

`python -m benchmarks.agents [HOSTS SECONDS]`. A host is simulated: an agent and a server that takes so many seconds an
item, one at a time, all in one actor, so that two cores can hold 500 of them. What the coordinator does is not
simulated: a call through Ray for each question, long polls, images through the object store, a journal, files. Some
real agents, a process each, tell how much memory one takes.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.memory import resident
from benchmarks.processes import MILLION, in_process
from benchmarks.rendering import Rendered, definition, render
from sweep.servers import (
    Agent,
    AgentSettings,
    ItemEnded,
    ItemEvent,
    RayServer,
    Server,
    ServerImage,
    ServerInfo,
    Submission,
    Ticket,
    start_agent,
)
from sweep.workflow import Graph, Model, NodeSchemas, load_builtin_schemas

NAME = "agents"
FAMILY = load_builtin_schemas().dialect.name
SIDE = 330  # pixels of noise: a PNG of some 300 kB
CASES = ((100, 2.0), (500, 5.0), (500, 2.0))  # hosts, seconds an item
REAL = 16  # agents with a process each


class SimulatedServer:
    """Renders one item after the other, each in `seconds`."""

    def __init__(self, url: str, seconds: float, image: bytes) -> None:
        self.url = url
        self.waits: list[float] = []  # seconds between the end of an item and the begin of the next one
        self._seconds = seconds
        self._image = image
        self._turn = asyncio.Lock()
        self._ended_at: float | None = None
        self._items: dict[str, asyncio.Task[ItemEnded]] = {}

    async def open(self) -> ServerInfo:
        return ServerInfo(name=self.url, url=self.url, version="6.14.2", api="queue", family=FAMILY)

    async def aclose(self) -> None:
        """Let go of nothing."""

    async def schemas(self) -> NodeSchemas:
        return load_builtin_schemas()

    async def models(self) -> tuple[Model, ...]:
        return (Model(key="m", hash="h", name="simulated", base="sd-1", type="main"),)

    async def check(self, graphs: Sequence[Graph], _images: Mapping[str, Path]) -> list[str | None]:
        return [None for _ in graphs]

    async def submit(self, submission: Submission) -> Ticket:
        self._items[submission.batch_id] = asyncio.create_task(self._render(submission))
        return Ticket(batch_id=submission.batch_id, item_id=submission.batch_id, outputs=submission.outputs)

    async def _render(self, submission: Submission) -> ItemEnded:
        queued = datetime.now(UTC)
        async with self._turn:
            begun, now = datetime.now(UTC), time.perf_counter()
            if self._ended_at is not None:
                self.waits.append(now - self._ended_at)
            await asyncio.sleep(self._seconds)
            self._ended_at = time.perf_counter()
        images = tuple(ServerImage(name=f"{submission.batch_id}.png", node=node) for node in submission.outputs)
        done = datetime.now(UTC)
        return ItemEnded(status="completed", images=images, queued_at=queued, started_at=begun, finished_at=done)

    async def hear(self, ticket: Ticket) -> AsyncIterator[ItemEvent]:
        yield await self._items[ticket.batch_id]

    async def find(self, _batch_id: str, _outputs: tuple[str, ...] = ()) -> Ticket | None:
        return None

    async def fetch(self, _image: ServerImage, _limit: int) -> bytes:
        return self._image

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        """Cancel nothing."""

    async def list_loaded(self) -> frozenset[str]:
        return frozenset({"m"})

    async def count_others_waiting(self, _ours: str) -> int:
        return 0


class SimulatedAgent(Agent):
    """An agent beside a simulated server."""

    def __init__(self, settings: AgentSettings, server: SimulatedServer) -> None:
        super().__init__(settings)
        self._simulated = server

    async def _try_open(self, _until: float) -> tuple[Server, ServerInfo] | None:
        return self._simulated, await self._simulated.open()


class Hosts:
    """An actor that holds many agents."""

    def __init__(self, count: int, seconds: float) -> None:
        image = make_image()
        self._servers = [SimulatedServer(f"host-{number}", seconds, image) for number in range(count)]
        self._agents = [
            SimulatedAgent(AgentSettings(name=server.url, url=server.url, insecure=True), server)
            for server in self._servers
        ]

    async def call(self, number: int, method: str, *arguments: Any) -> Any:
        """Call one of the agents."""
        return await self._agents[number].call(method, *arguments)

    async def list_waits(self) -> list[float]:
        """List how long each host waited between two items, in seconds."""
        return [wait for server in self._servers for wait in server.waits]

    async def measure(self) -> tuple[float, float]:
        """Return the processor time in seconds and the memory in MB of this process."""
        return time.process_time(), resident()


class _Agent:
    """Stands in for the handle of an agent's actor."""

    def __init__(self, hosts: Any, number: int) -> None:
        self._hosts = hosts
        self._number = number

    @property
    def call(self) -> _Agent:
        return self

    def remote(self, method: str, *arguments: Any) -> Any:
        return self._hosts.call.remote(self._number, method, *arguments)


class SimulatedRayServer(RayServer):
    """Asks one agent of many in an actor."""

    def __init__(self, hosts: Any, number: int) -> None:
        super().__init__(f"host-{number}")
        self._agent = _Agent(hosts, number)

    async def _find(self) -> _Agent:
        return self._agent


def make_image() -> bytes:
    """Make a PNG that cannot be compressed."""
    from PIL import Image

    data = io.BytesIO()
    Image.frombytes("RGB", (SIDE, SIDE), random.Random(1).randbytes(3 * SIDE * SIDE)).save(data, "PNG")
    return data.getvalue()


def begin_cluster() -> Any:
    """Start a cluster of this process alone, and return Ray."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, namespace="sweep", object_store_memory=400 * MILLION
    )
    return ray


def simulate(count: int, seconds: float, images: int, root: Path) -> tuple[Rendered, dict[str, float]]:
    """Render images with so many hosts; the figures beside those of the rendering."""
    ray = begin_cluster()
    hosts = ray.remote(Hosts).options(num_cpus=0, max_concurrency=20 * count).remote(count, seconds)
    used, _ = ray.get(hosts.measure.remote())
    before = resident()
    servers: Any = [SimulatedRayServer(hosts, number) for number in range(count)]
    rendered = render(definition("agents", images), servers, root)
    waits = sorted(ray.get(hosts.list_waits.remote()))
    cpu, memory = ray.get(hosts.measure.remote())
    figures = {
        "before": before,
        "memory": resident(),
        "median": statistics.median(waits),
        "p95": waits[int(0.95 * len(waits))],
        "hosts cpu": cpu - used,
        "hosts memory": memory,
    }
    ray.shutdown()
    return rendered, figures


def start_real(count: int) -> tuple[float, float]:
    """Start real agents; seconds and MB (shared pages by share) each of them took."""
    ray = begin_cluster()
    begun = time.perf_counter()
    for number in range(count):
        start_agent(AgentSettings(name=f"real-{number}", url="http://127.0.0.1:9", insecure=True))
    seconds = time.perf_counter() - begun
    pids = [int(state.name) for state in Path("/proc").iterdir() if state.name.isdecimal() and _is_agent(state)]
    memory = [_share_of_memory(pid) for pid in pids]
    for number in range(count):
        ray.kill(ray.get_actor(f"real-{number}", "sweep"))
    ray.shutdown()
    return seconds / count, sum(memory) / len(memory)


def _is_agent(process: Path) -> bool:
    try:
        return (process / "cmdline").read_text(errors="replace").startswith("ray::Agent")
    except OSError:
        return False


def _share_of_memory(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / MILLION for line in lines if line.startswith("Pss:"))


def measure() -> list[Figure]:
    """Measure all cases, and real agents."""
    figures = [figure for count, seconds in CASES for figure in measure_case(count, seconds)]
    each, memory = in_process(start_real, REAL).value
    return [
        *figures,
        Figure(benchmark=NAME, name=f"{REAL} real agents: memory of each", value=memory, unit="MB"),
        Figure(benchmark=NAME, name=f"{REAL} real agents, one after the other: start of each", value=each, unit="s"),
    ]


def measure_case(count: int, seconds: float) -> list[Figure]:
    """Measure one case; the first two items of each host and the last two are left out of the rate."""
    nominal = count / seconds
    images = count * max(5, round(20 / seconds))
    with tempfile.TemporaryDirectory() as root:
        rendered, more = in_process(simulate, count, seconds, images, Path(root)).value
    begin, end = 2 * seconds, rendered.finished[-1] - 2 * seconds
    steady = sum(1 for at in rendered.finished if begin < at <= end) / (end - begin)
    about = f"{count} hosts of {seconds:g} s an item"

    def figure(name: str, value: float, unit: str = "") -> Figure:
        return Figure(benchmark=NAME, name=f"{about}: {name}", value=value, unit=unit)

    return [
        figure(f"rate, of {nominal:.0f}/s nominal", steady, "images/s"),
        figure("a host waits for its next item, median", 1000 * more["median"], "ms"),
        figure("a host waits for its next item, 95th percentile", 1000 * more["p95"], "ms"),
        figure("processor time of the coordinator", 1000 * rendered.cpu / rendered.images, "ms/image"),
        figure("processor time of the simulated hosts", 1000 * more["hosts cpu"] / rendered.images, "ms/image"),
        figure("memory of the coordinator before", more["before"], "MB"),
        figure("memory of the coordinator at the end", more["memory"], "MB"),
    ]


def main(arguments: Sequence[str]) -> None:
    """Print the figures of one case, or of all."""
    chosen = measure_case(int(arguments[0]), float(arguments[1])) if len(arguments) == 2 else measure()
    for figure in chosen:
        print(f"{figure.name}: {figure.value:.3g} {figure.unit}")


if __name__ == "__main__":
    from benchmarks import agents  # by its name, because other processes import it by that

    agents.main(sys.argv[1:])
