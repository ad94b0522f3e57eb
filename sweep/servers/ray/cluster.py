"""Join a Ray cluster; start, find and end the agents in it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sweep.errors import ServerUnreachableError, SweepError, UsageError
from sweep.servers.ray.agent import (
    Agent,
    AgentDescription,
    AgentSettings,
    derive_url,
    without_token,
)
from sweep.servers.ray.server import LEASE_SECONDS, NAMESPACE, RayServer, restore_error

_CALLS_AT_ONCE = 1000
_ANSWER_SECONDS = 30.0
_INSTALL = "pip install 'sweep-engine[ray]' installs it."


def join_cluster(address: str = "") -> None:
    """Join the cluster at `address`, or the one of this host.

    Raises:
        UsageError: Ray is not installed, or is of another version than the cluster's.
        ServerUnreachableError: No cluster answers, or it refused our token.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("Ray is not installed.", hint=_INSTALL)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return
    try:
        ray.init(
            address=address or "auto", namespace=NAMESPACE, log_to_driver=False, logging_level=logging.CRITICAL,
            configure_logging=True,
        )  # fmt: skip
    except (RuntimeError, ray.exceptions.RayError, OSError, ValueError) as error:
        raise explain_join_failure(address, error) from error


def start_agent(settings: AgentSettings, node: str | None = None) -> str:
    """Start an agent that outlives this process, pinned to a node (this host's by default); return its name.

    Raises UsageError where the cluster demands no token, unless the settings say `insecure`.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = node or ray.get_runtime_context().get_node_id()
    actor = ray.remote(Agent).options(
        name=settings.name,
        namespace=NAMESPACE,
        lifetime="detached",
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=_CALLS_AT_ONCE,
        get_if_exists=True,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False),
    )
    agent = actor.remote(settings)
    _, error = ray.get(agent.call.remote("renew"), timeout=_ANSWER_SECONDS)
    if error is not None:
        ray.kill(agent, no_restart=True)
        raise restore_error(error)
    return settings.name


def start_servers(command: str, settings: AgentSettings) -> list[RayServer]:
    """Start a server on each node of the cluster that has a GPU, or on each if none has one, with an agent beside it.

    Raises UsageError where the command does not say on which port its server listens.
    """
    url = derive_url(command)
    if not url:
        raise UsageError(
            f"--with {command!r} does not say where the server will answer.",
            hint="Add --port {port}: each agent puts a free port there.",
        )
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    nodes = [node for node in nodes if node["Resources"].get("GPU")] or nodes
    started = []
    for node in nodes:
        name = f"{node['NodeManagerHostname']}-{node['NodeID'][:6]}"
        own = replace(settings, name=name, url=url, command=command, lease=LEASE_SECONDS)
        started.append(RayServer(start_agent(own, node["NodeID"]), is_owned=True))
    return started


def list_agents() -> list[AgentDescription]:
    """Describe every agent of the cluster, sorted by name; one that does not answer says so."""
    import ray

    names = sorted(ray.util.list_named_actors())
    asked = [(name, _ask_description(name)) for name in names]
    return [_await_description(name, reference) for name, reference in asked]


def find_servers(agents: Sequence[AgentDescription], *, insecure: bool) -> list[RayServer]:
    """Return a server for each agent. Raises UsageError where a cluster demands no token, unless `insecure`."""
    require_token(agents, insecure=insecure)
    return [RayServer(agent.name) for agent in agents]


def require_token(agents: Sequence[AgentDescription], *, insecure: bool) -> None:
    """Raise UsageError where an agent's cluster lets in everybody who reaches it."""
    if not insecure and any(not agent.has_token for agent in agents if agent.state != "no answer"):
        raise without_token()


def stop_agent(name: str) -> None:
    """End an agent and the server that it started. Raises UsageError where there is none of that name."""
    import ray

    try:
        actor = ray.get_actor(name, NAMESPACE)
    except ValueError as error:
        raise UsageError(f"The cluster has no agent {name}.") from error
    with contextlib.suppress(ray.exceptions.RayError):
        ray.get(actor.call.remote("stop"), timeout=_ANSWER_SECONDS)
    ray.kill(actor, no_restart=True)


def _ask_description(name: str) -> Any:
    import ray

    try:
        return ray.get_actor(name, NAMESPACE).call.remote("describe")
    except ValueError:
        return None


def _await_description(name: str, reference: Any) -> AgentDescription:
    import ray

    try:
        description: AgentDescription = ray.get(reference, timeout=_ANSWER_SECONDS)[0]
    except (ray.exceptions.RayError, ValueError, TypeError):
        return AgentDescription(name=name, host="", url="", state="no answer")
    return description


def explain_join_failure(address: str, error: Exception) -> SweepError:
    """Explain why a cluster could not be joined: another version of Ray or Python, or nobody answers."""
    text = str(error).strip()
    if "ersion mismatch" in text:
        versions = " ".join(text.split()).partition(": ")[2]
        return UsageError(
            f"This process and the cluster have different versions of Ray or Python: {versions}",
            hint="Install the same Ray and the same Python 3.x on all hosts; the image servers may have their own.",
        )
    where = f"at {address}" if address else "on this host"
    reason = next(iter(text.splitlines()), type(error).__name__)
    return ServerUnreachableError(
        f"No Ray cluster could be joined {where} ({reason}).",
        hint="ray start --head starts one; its token is needed here too (RAY_AUTH_TOKEN or ~/.ray/auth_token).",
    )
