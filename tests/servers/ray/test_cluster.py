"""Joining a cluster: what is refused, what is missing, and what a person is told."""

from __future__ import annotations

import importlib
import os
import shlex
import socket
import subprocess
import sys
import types
from asyncio import to_thread
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from blockbuster import BlockBuster

from sweep.errors import ServerUnreachableError, UsageError
from sweep.sandbox import sandbox_server
from sweep.servers.ray.agent import AgentDescription, AgentSettings, derive_url
from sweep.servers.ray.cluster import find_servers, list_agents, start_agent, start_servers, stop_agent
from sweep.servers.ray.ray_connection import explain_join_failure, join_cluster, parse_cluster_address
from sweep.servers.ray.ray_server import RayServer
from sweep.version import VERSION
from tests.support.ports import free_port
from tests.support.ray_cluster import ENVIRONMENT, RayCluster, needs_ray, open_cluster

OPEN = AgentDescription(name="gpu1", host="gpu1", url="http://127.0.0.1:9090", state="ready")
SAFE = AgentDescription(name="gpu2", host="gpu2", url="http://127.0.0.1:9090", state="ready", has_token=True)
MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.60.0
    Python: 3.12.1
This process on Ray 2.60.0 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


async def test_agents_are_listed_also_where_an_event_loop_runs(
    monkeypatch: pytest.MonkeyPatch, loop_may_not_block: BlockBuster
) -> None:
    """As in a notebook, whose cells may block its loop."""

    async def describe(agent: RayServer, _method: str) -> AgentDescription:
        return AgentDescription(name=agent._name, state="ready", sweep_version=VERSION)

    named = types.SimpleNamespace(list_named_actors=lambda: ["gpu2", "gpu1"])
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(util=named))
    monkeypatch.setattr(RayServer, "ask", describe)
    loop_may_not_block.deactivate()
    try:
        found = list_agents()
    finally:
        loop_may_not_block.activate()
    assert [agent.name for agent in found] == ["gpu1", "gpu2"]


@contextmanager
def run_sandbox() -> Iterator[str]:
    """Serve a sandbox from a thread; its address."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sandbox_server()) as box:
        yield box.url


def test_cluster_without_a_token_is_refused_unless_insecure() -> None:
    assert [server.url for server in find_servers([SAFE], insecure=False)] == ["ray:gpu2"]
    assert [server.url for server in find_servers([OPEN], insecure=True)] == ["ray:gpu1"]
    with pytest.raises(UsageError, match="demands no token") as refused:
        find_servers([SAFE, OPEN], insecure=False)
    assert "--insecure-ray" in (refused.value.hint or "")


@needs_ray
def test_real_cluster_without_a_token_is_refused_unless_insecure(tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, "RAY_AUTH_MODE": "disabled"}
    file = tmp_path / "small.yaml"
    file.write_text("workflow: txt2img\naxes: {seed: [1, 2]}\n", encoding="utf-8")

    def run_sweep(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "sweep", *arguments, "--on", f"ray:{cluster.address}"]
        done = subprocess.run(
            command, env={**os.environ, **environment}, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    with open_cluster(RAY_AUTH_MODE="disabled", join=False) as cluster, run_sandbox() as url:
        results = [str(file), "--no-report", "--progress", "none"]
        code, said = run_sweep("worker", "--server", url)
        assert (code, "demands no token" in said) == (2, True), said
        code, said = run_sweep("worker", "--server", url, "--insecure-ray")
        assert (code, "ready" in said) == (0, True), said
        code, said = run_sweep("run", *results)
        assert (code, "demands no token" in said, (tmp_path / "results").exists()) == (2, True, False), said
        code, said = run_sweep("run", *results, "--insecure-ray")
        assert code == 0, said
        code, said = run_sweep("study", "small")
        assert (code, "demands no token" in said) == (2, True), said


@needs_ray
def test_other_version_of_a_real_cluster_is_a_sentence(cluster: RayCluster) -> None:
    program = f"""
import sys, ray
ray.__version__ = "2.1.0"
from sweep.cli.main import run_cli
sys.exit(run_cli(["workers", "--on", "ray:{cluster.address}"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "have different versions of Ray or Python" in done.stderr
    assert "Ray: 2.1.0" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


class OlderAgent:
    """An agent of an older sweep, whose method takes other arguments."""

    async def call(self, method: str) -> None:
        """Answer nothing."""


@needs_ray
async def test_agent_of_another_sweep_is_listed_refused_and_replaced(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One such agent ended every command about the cluster with a traceback."""
    ray = await to_thread(importlib.import_module, "ray")
    older = ray.remote(OlderAgent).options(name="gpu1", namespace="sweep", lifetime="detached", num_cpus=0).remote()
    (found,) = await to_thread(list_agents)
    assert (found.name, found.sweep_version) == ("gpu1", "")
    assert "Install the same sweep on all hosts" in found.state
    (server,) = find_servers([found], insecure=False)
    with pytest.raises(ServerUnreachableError, match="gpu1 failed") as failed:
        await server.open()
    assert "sweep worker --server" in (failed.value.hint or "")
    async with sandbox_server() as box:
        replaced = await to_thread(start_agent, AgentSettings(name="gpu1", url=box.url))
        assert (replaced.state, replaced.sweep_version) == ("ready", VERSION)
        again = await to_thread(start_agent, AgentSettings(name="gpu1", url=box.url, queue_id="other"))
        assert again.since != replaced.since  # the settings of before would have been kept
        for host, url in ((replaced.host, "http://127.0.0.1:9"), ("gpu2", box.url)):
            monkeypatch.setattr(socket, "gethostname", partial(str, host))
            with pytest.raises(UsageError, match="The agent gpu1 serves"):
                await to_thread(start_agent, AgentSettings(name="gpu1", url=url))
        await to_thread(stop_agent, "gpu1")
    del older


@needs_ray
async def test_runs_at_once_start_servers_of_their_own(cluster: RayCluster) -> None:
    """The second took the first one's agents; whichever ended first ended the servers of both."""
    command = shlex.join([sys.executable, "-m", "sweep", "sandbox", "--port", "{port}"])
    settings = AgentSettings(name="", url="")
    first, second = [await to_thread(start_servers, command, settings) for _ in range(2)]
    assert not {server.url for server in first} & {server.url for server in second}
    for server in (*first, *second):
        await server.open()
    for server in first:
        await server.aclose()
    for server in second:
        assert await server.models()
        await server.aclose()


def test_version_mismatch_is_a_sentence() -> None:
    error = explain_join_failure("", RuntimeError(MISMATCH))
    assert isinstance(error, UsageError)
    assert "\n" not in str(error)
    assert "different versions of Ray or Python: The cluster was started with: Ray: 2.60.0 Python: 3.12.1" in str(error)
    other = explain_join_failure("head:6379", RuntimeError("nobody there\n at all"))
    assert isinstance(other, ServerUnreachableError)
    assert "at head:6379 (nobody there)" in str(other)
    refused = explain_join_failure("", ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"))
    assert "The Ray cluster at 10.0.0.1:6379 cannot be joined. Both sides need the same token" in str(refused)


def test_cluster_address_needs_host_and_port() -> None:
    assert [parse_cluster_address(on) for on in ("ray", "ray:head:6379", "ray:[::1]:7")] == ["", "head:6379", "[::1]:7"]
    for on in ("ray:", "ray:head", "ray://head:10001", "ray:head:x", "ray:head:66000", f"ray:head:{'9' * 5000}", "foo"):
        with pytest.raises(UsageError, match=rf"^--on .*\b{on}"):
            parse_cluster_address(on)


@pytest.mark.slow
def test_cluster_address_without_a_listener_is_reported_at_once() -> None:
    pytest.importorskip("ray")
    with pytest.raises(ServerUnreachableError, match=r"answers at 127\.0\.0\.1:\d+ \(Connection refused"):
        join_cluster(f"127.0.0.1:{free_port()}")


@pytest.mark.parametrize(
    ("command", "address"),
    [
        ("env INVOKEAI_PORT=9090 invokeai-web", "http://127.0.0.1:9090"),
        ("python main.py --port={port}", "http://127.0.0.1:{port}"),
        ("invokeai-web", ""),
    ],
)
def test_derive_url_reads_the_port(command: str, address: str) -> None:
    assert derive_url(command) == address


def test_with_needs_a_port() -> None:
    with pytest.raises(UsageError, match="does not say where"):
        start_servers("invokeai-web", AgentSettings(name="", url=""))


@pytest.mark.slow
def test_without_ray_nothing_of_it_is_imported_and_on_says_what_to_install() -> None:
    program = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "ray" else find(name, *more)
from sweep.cli.main import run_cli
print(run_cli(["plan", "--help"]), "ray" in sys.modules, "sweep.servers.ray" in sys.modules)
sys.exit(run_cli(["workers"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0 False False"
    assert done.returncode == 2
    assert "pip install 'sweep-engine[ray]'" in done.stderr
