"""Starts, lists and stops the agents of the joined Ray cluster, and makes a `Server` of each."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.errors import ServerUnreachableError, SweepError, UsageError
from sweep.servers.ray.agent import (
    Agent,
    AgentDescription,
    AgentSettings,
    derive_url,
    has_token_authentication,
    without_token,
)
from sweep.servers.ray.ray_connection import AGENTS, NAMESPACE
from sweep.servers.ray.ray_server import RayServer
from sweep.version import VERSION

_CALLS_AT_ONCE = 1000
_ANSWER_SECONDS = 30.0
_BEGIN_SECONDS = 120.0  # a busy host takes long to start a process


def start_agent(settings: AgentSettings) -> AgentDescription:
    """Start an agent on this host that outlives this process, anew if it is there: its sweep or settings may be old.

    Raises UsageError where the cluster demands no token, unless the settings say `insecure`, or where another server
    has an agent of that name; ServerUnreachableError where the agent does not start.
    """
    (found,) = _describe_all([settings.name])
    if found.host and (found.host, found.url) != (socket.gethostname(), settings.url):
        taken = f"The agent {found.name} serves {found.url} of {found.host} already."
        raise UsageError(taken, hint="Choose another --name.")
    with contextlib.suppress(UsageError):  # there is none
        stop_agent(settings.name)
    _await_agents({settings.name: _create_agent(settings)})
    return _describe_all([settings.name])[0]


def _create_agent(settings: AgentSettings, node: str | None = None) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = node or ray.get_runtime_context().get_node_id()
    actor = ray.remote(Agent).options(
        name=settings.name,
        namespace=NAMESPACE,
        lifetime=None if settings.command else "detached",  # else Ray ends it when nobody holds it
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=_CALLS_AT_ONCE,
        get_if_exists=True,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False),
    )
    return actor.remote(settings)


def _await_agents(agents: Mapping[str, Any]) -> None:
    """Wait until all agents have begun; raise what keeps one from it."""
    import ray

    until = time.monotonic() + _BEGIN_SECONDS
    for name, reference in {name: agent.call.remote("begin") for name, agent in agents.items()}.items():
        try:
            _, error = ray.get(reference, timeout=max(0.0, until - time.monotonic()))
        except ray.exceptions.RayError as failure:
            raise ServerUnreachableError(
                f"The agent {name} did not start ({type(failure).__name__}).",
                hint="All hosts need the same version of sweep. Ray's log of the host says more.",
            ) from failure
        if error is not None:
            ray.kill(agents[name], no_restart=True)
            raise error


def start_servers(command: str, settings: AgentSettings, shared: Path | None = None) -> list[RayServer]:
    """Start a server on each node of the cluster that has a GPU, or on each if none has one, with an agent beside it.

    `shared` is the folder that holds results folders, where the agents write images there.

    Raises UsageError where the command does not say on which port its server listens.
    """
    url = derive_url(command)
    if not url:
        raise UsageError(
            f"--with {command!r} does not say where the server will answer.",
            hint="Add --port {port}, or env NAME_PORT={port} before it where the server takes its port from there.",
        )
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    nodes = [node for node in nodes if node["Resources"].get("GPU")] or nodes
    agents = {}
    for node in nodes:
        name = f"{node['NodeManagerHostname']}-{uuid.uuid4().hex[:6]}"  # another run has its own
        agents[name] = _create_agent(replace(settings, name=name, url=url, command=command), node["NodeID"])
    _await_agents(agents)
    return [RayServer(name, results=shared, owned=agent) for name, agent in agents.items()]


def list_agents() -> list[AgentDescription]:
    """Describe every agent of the cluster, sorted by name; one that does not answer says so."""
    import ray

    return _describe_all(sorted(ray.util.list_named_actors()))


def _describe_all(names: Sequence[str]) -> list[AgentDescription]:
    """Ask agents, in a thread of its own: a notebook that calls has an event loop already."""

    async def describe() -> list[AgentDescription]:
        return await asyncio.gather(*map(_describe, names))

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, describe()).result()


async def _describe(name: str) -> AgentDescription:
    version = ""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            found = await RayServer(name).ask("describe")
        version = found.sweep_version
        state = f"runs sweep {version}, and this is sweep {VERSION}"
    except TimeoutError:
        state = "no answer"
    except SweepError as error:
        state = str(error)
    return found if version == VERSION else AgentDescription(name=name, state=state, sweep_version=version)


def find_servers(agents: Sequence[AgentDescription], *, insecure: bool, shared: Path | None = None) -> list[RayServer]:
    """Return a server for each agent; `shared` as for `start_servers`.

    Raises UsageError where a cluster demands no token, unless `insecure`.
    """
    if not insecure and any(not agent.has_token for agent in agents if agent.host):
        raise without_token()
    return [RayServer(agent.name, results=shared) for agent in agents]


def check_token(*, insecure: bool) -> None:
    """Raise UsageError where the cluster lets in everybody who reaches it: one of its processes is asked."""
    import ray

    if not insecure and not ray.get(ray.remote(num_cpus=0)(has_token_authentication).remote(), timeout=_ANSWER_SECONDS):
        raise without_token()


def stop_agent(name: str) -> None:
    """End an agent and the server that it started; return when the cluster has no agent of that name.

    Raises UsageError where there is none.
    """
    import ray

    try:
        actor = ray.get_actor(name, NAMESPACE)
    except ValueError as error:
        raise UsageError(f"The cluster has no agent {name}.") from error
    with contextlib.suppress(ray.exceptions.RayError, TypeError):
        ray.get(actor.call.remote("stop"), timeout=_ANSWER_SECONDS)
    ray.kill(actor, no_restart=True)
    AGENTS.pop(name, None)
    until = time.monotonic() + _ANSWER_SECONDS
    while name in ray.util.list_named_actors() and time.monotonic() < until:
        time.sleep(0.05)
