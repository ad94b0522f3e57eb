"""`sweep worker` and `sweep workers`: image servers of other hosts, joined in a Ray cluster."""

from __future__ import annotations

import socket
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from sweep import servers
from sweep.cli.console import print_line
from sweep.cli.shared_options import AnswerPrinter, InsecureRay, Login
from sweep.errors import UsageError

if TYPE_CHECKING:
    from sweep.servers import AgentDescription

Join: TypeAlias = Annotated[
    str, typer.Option("--on", help="The cluster: ray for the one of this host, or ray:HOST:PORT.", metavar="RAY")
]


def worker(
    server: Annotated[str | None, typer.Option("--server", metavar="URL")] = None,
    name: Annotated[str | None, typer.Option()] = None,
    stop: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    on: Join = "ray",
    *,
    login: Login,
    insecure: InsecureRay = False,
) -> None:
    """Register the image server of this host in a Ray cluster.

    Run it on each host that has a server, after ray start. The worker stays when the command ends, and starts again if
    it fails. Credentials are read on this host: from its environment when ray start ran, or from --credentials.

    Args:
        server: Address of the server, as this host reaches it.
        name: Name of the worker (default: the host's name).
        stop: End this worker.
    """
    address = servers.parse_cluster_address(on)
    if (server is None) == (stop is None):
        raise UsageError(
            "Use either --server or --stop.", hint="--server URL registers a server, --stop NAME ends a worker."
        )
    servers.join_cluster(address)
    if server is None or stop is not None:
        servers.stop_agent(stop or "")
        print_line(f"{stop} has ended.")
        return
    name = name or socket.gethostname()
    servers.start_agent(login.agent_settings(name, server, insecure=insecure))
    (found,) = (agent for agent in servers.list_agents() if agent.name == name)
    if found.url not in (server, ""):  # empty where it does not answer in time
        raise UsageError(f"A worker {name} serves {found.url} already.", hint="Choose another --name.")
    print_line(_describe(found))


def workers(printer: AnswerPrinter, on: Join = "ray") -> None:
    """List the workers of a Ray cluster."""
    servers.join_cluster(servers.parse_cluster_address(on))
    agents = servers.list_agents()
    lines = [_describe(agent) for agent in agents]
    listed = [asdict(agent) | {"since": agent.since.isoformat() if agent.since else None} for agent in agents]
    answer = {"schema": "sweep.workers/1", "state": "found" if agents else "none", "workers": listed}
    printer.print(lines or "The cluster has no workers. sweep worker --server URL registers one.", answer)


def _describe(agent: AgentDescription) -> str:
    """Write name, host, server, family with version, state, and since when in a line."""
    since = f"{agent.since.astimezone():%Y-%m-%d %H:%M}" if agent.since else ""
    parts = (agent.name, agent.host, agent.url, f"{agent.family} {agent.version}".strip(), agent.state, since)
    log = f"  log: {agent.log}" if agent.log else ""
    return "  ".join(part for part in parts if part) + log
