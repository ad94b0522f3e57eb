"""A server asked through an agent keeps the contract of `Server`; errors cross as they are."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import pickle
from asyncio import to_thread
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from PIL import Image

from sweep.errors import OverloadedError, ServerUnreachableError, SweepError, VariationError
from sweep.input_images import hash_prepared
from sweep.sandbox import SandboxOptions, sandbox_server
from sweep.servers import MissingModelError, ServerInfo
from sweep.servers.ray import ray_server
from sweep.servers.ray.agent import AgentSettings
from sweep.servers.ray.cluster import start_agent, stop_agent
from sweep.servers.ray.ray_connection import AGENTS
from sweep.servers.ray.ray_server import RayServer
from sweep.testing import SERVER_CASES
from sweep.testing.servers import ServerCase
from sweep.workflow import Graph, ModelRef
from tests.support.ray_cluster import RayCluster, needs_ray
from tests.support.scenes import PATIENT, subject

OPTIONS = SandboxOptions(step_latency=0.005)


@pytest.fixture(scope="module")
def agent(cluster: RayCluster) -> Iterator[str]:
    """An agent beside a sandbox."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sandbox_server(OPTIONS)) as box:
        yield start_agent(AgentSettings(name="beside-a-sandbox", url=box.url, timings=PATIENT)).name
        stop_agent("beside-a-sandbox")


@needs_ray
@pytest.mark.parametrize("check_case", SERVER_CASES, ids=lambda case: case.__name__)
async def test_ray_server_conforms(check_case: ServerCase, agent: str, tmp_path: Path) -> None:
    async with subject(f"ray:{agent}", tmp_path) as under_test:
        await check_case(under_test)


def test_errors_cross_whole() -> None:
    for error in (
        OverloadedError("busy", retry_after=3.0),
        MissingModelError("no model", ref=ModelRef("m", "sd-1")),
        SweepError("said", hint="do"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


async def test_an_image_that_the_server_is_sent_upright_goes_to_the_agent_as_it_lies_there(tmp_path: Path) -> None:
    """Its hash is that of the converted image: the agent's client converts it."""
    path = tmp_path / "turned.JPG"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 8)).save(path, exif=exif)
    kept: list[Any] = []

    class Asked(RayServer):
        async def ask(self, method: str, *arguments: Any) -> Any:
            if method == "keep":
                kept.append(arguments)
            return [None] if method == "check" else arguments[0]

    sha256 = hash_prepared(hashlib.sha256(path.read_bytes()).hexdigest())
    await Asked("gpu1").check([Graph({})], {sha256: path})

    assert kept == [(sha256, ".jpg", path.read_bytes())]
    path.write_bytes(b"another")
    with pytest.raises(VariationError, match="changed"):
        await Asked("gpu1").check([Graph({})], {sha256: path})


@needs_ray
async def test_ray_server_without_its_agent_is_unreachable(cluster: RayCluster) -> None:
    with pytest.raises(ServerUnreachableError, match="no agent nobody"):
        await RayServer("nobody").open()


@needs_ray
async def test_agent_that_does_not_answer_in_time_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process was stopped, and is not dead: Ray itself waits for ever."""
    await to_thread(importlib.import_module, "ray")
    monkeypatch.setattr(ray_server, "_LONGEST_CALL", 0.01)
    silent = SimpleNamespace(call=SimpleNamespace(remote=lambda *_: asyncio.Future()))
    monkeypatch.setitem(AGENTS, "gpu1", silent)
    server = RayServer("gpu1")
    with pytest.raises(ServerUnreachableError, match="in time"):
        await server.models()


async def test_host_that_does_not_see_the_results_leaves_at_the_start(tmp_path: Path) -> None:
    class Blind(RayServer):
        async def ask(self, method: str, *_: Any) -> Any:
            return ServerInfo(name="", url="", version="", api="queue") if method == "open" else False

    with pytest.raises(ServerUnreachableError, match="gpu1 does not see") as left:
        await Blind("gpu1", results=tmp_path / "results").open()
    assert "--images shared" in (left.value.hint or "")
    assert await to_thread(lambda: list((tmp_path / "results").iterdir())) == []
