"""`sweep worker` and `sweep workers`: servers on the hosts of a Ray cluster."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from sweep.cli import options as shared

if TYPE_CHECKING:
    from sweep.servers import AgentDescription

Join: TypeAlias = Annotated[
    str, typer.Option("--on", help="The cluster: ray for the one of this host, or ray:HOST:PORT.", metavar="RAY")
]


def worker(
    server: Annotated[
        str | None,
        typer.Option("--server", help="Address of the server, as this host reaches it.", metavar="URL"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the worker (default: the host's name).", show_default=False)
    ] = None,
    stop: Annotated[str | None, typer.Option(help="End this worker.", show_default=False, metavar="NAME")] = None,
    on: Join = "ray",
    queue: shared.QueueOption = "default",
    ca_file: shared.CaFile = None,
    credentials: shared.CredentialsOption = None,
    insecure: shared.InsecureRay = False,
) -> int:
    """Register the image server of this host in a Ray cluster.

    Run it on each host that has a server, after ray start. The worker stays when the command ends, and starts again if
    it fails. Credentials are read on this host: from its environment when ray start ran, or from --credentials.
    """
    from sweep.cli.console import print_line
    from sweep.cli.servers import Cluster
    from sweep.errors import UsageError
    from sweep.servers import AgentSettings, join_cluster, list_agents, start_agent, stop_agent

    cluster = Cluster.of(on, insecure=insecure)
    assert cluster is not None
    if (server is None) == (stop is None):
        raise UsageError("Give one of --server and --stop.")
    join_cluster(cluster.address)
    if stop is not None:
        stop_agent(stop)
        print_line(f"{stop} has ended.")
        return 0
    assert server is not None
    name = name or socket.gethostname()
    settings = AgentSettings(
        name=name,
        url=server,
        credentials=credentials.absolute() if credentials else None,
        ca_file=ca_file.absolute() if ca_file else None,
        queue_id=queue,
        insecure=insecure,
    )
    start_agent(settings)
    (found,) = (agent for agent in list_agents() if agent.name == name)
    if found.url != server:
        raise UsageError(f"A worker {name} serves {found.url} already.", hint="Choose another --name.")
    print_line(_describe(found))
    return 0


def workers(on: Join = "ray", as_json: shared.AsJson = False, quiet: shared.Quiet = False) -> int:
    """List the workers of a Ray cluster."""
    from dataclasses import asdict

    from sweep.cli.console import print_answer
    from sweep.cli.servers import Cluster
    from sweep.servers import join_cluster, list_agents

    cluster = Cluster.of(on)
    assert cluster is not None
    join_cluster(cluster.address)
    agents = list_agents()
    lines = [_describe(agent) for agent in agents]
    listed = [asdict(agent) | {"since": agent.since.isoformat() if agent.since else None} for agent in agents]
    answer = {"schema": "sweep.workers/1", "state": "found" if agents else "none", "workers": listed}
    none = ["The cluster has no workers. sweep worker --server URL registers one."]
    print_answer(lines or none, answer, as_json=as_json, quiet=quiet)
    return 0


def _describe(agent: AgentDescription) -> str:
    """Write name, host, server, family with version, state, and since when in a line."""
    since = f"{agent.since.astimezone():%Y-%m-%d %H:%M}" if agent.since else ""
    parts = (agent.name, agent.host, agent.url, f"{agent.family} {agent.version}".strip(), agent.state, since)
    log = f"  log: {agent.log}" if agent.log else ""
    return "  ".join(part for part in parts if part) + log
