"""The servers of a command, the sandbox among them; `sweep worker` and `sweep workers` for hosts of a Ray cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from sweep.cli import options as shared

if TYPE_CHECKING:
    from sweep.experiment import Experiment
    from sweep.servers import AgentDescription, Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Options of a Ray cluster: its address, the command that starts a server on each node, and whether it is safe.

    `shared` is the folder for results where the workers write images into it.
    """

    address: str
    command: str | None = None
    insecure: bool = False
    shared: Path | None = None

    @classmethod
    def of(
        cls, on: str | None, command: str | None = None, *, insecure: bool = False, shared: Path | None = None
    ) -> Cluster | None:
        """Read --on ray[:ADDRESS]; None without it. Raises UsageError."""
        from sweep.errors import UsageError

        if on is None:
            if command:
                raise UsageError("--with needs --on ray.", hint="Without a cluster, start the server yourself.")
            if shared:
                raise UsageError("--images shared needs --on ray.", hint="Without a cluster, sweep writes all images.")
            return None
        engine, _, address = on.partition(":")
        if engine != "ray":
            raise UsageError(f"--on {on}: sweep runs on ray only.", hint="Write --on ray, or --on ray:HOST:PORT.")
        return cls(address=address, command=command, insecure=insecure, shared=shared)

    def join(self) -> None:
        """Join the cluster. Raises UsageError where it demands no token, unless it is to be used so."""
        from sweep.servers import check_token, join_cluster

        join_cluster(self.address)
        check_token(insecure=self.insecure)

    def servers(self, access: Access) -> Sequence[Server]:
        """Join the cluster and return its servers; start them where there is a command."""
        from sweep.errors import ServerUnreachableError
        from sweep.servers import AgentSettings, find_servers, join_cluster, list_agents, start_servers

        join_cluster(self.address)
        if self.command:
            settings = AgentSettings(
                name="",
                url="",
                credentials=access.credentials.absolute() if access.credentials else None,
                ca_file=access.ca_file.absolute() if access.ca_file else None,
                queue_id=access.queue,
                insecure=self.insecure,
            )
            return start_servers(self.command, settings, self.shared)
        agents = list_agents()
        if not agents:
            raise ServerUnreachableError(
                "The cluster has no workers.", hint="Run sweep worker --server URL on each host that has a server."
            )
        return find_servers(agents, insecure=self.insecure, shared=self.shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach servers: addresses, CA certificates, credentials file, and the queue to use."""

    addresses: tuple[str, ...] = ()
    ca_file: Path | None = None
    credentials: Path | None = None
    queue: str = "default"
    cluster: Cluster | None = None

    @classmethod
    def of(
        cls,
        addresses: Sequence[str] | None,
        ca_file: Path | None,
        credentials: Path | None,
        queue: str = "default",
        cluster: Cluster | None = None,
    ) -> Access:
        """Build it from the options of the command line."""
        return cls(
            addresses=tuple(addresses or ()), ca_file=ca_file, credentials=credentials, queue=queue, cluster=cluster
        )

    def clients(self, experiment: Experiment | None = None) -> tuple[Server, ...]:
        """Return unopened clients for the addresses on the command line, or else for those of the experiment.

        Raises UsageError for an invalid address or an unreadable credentials file.
        """
        if self.cluster is not None:
            return (*(self._client(address) for address in self.addresses), *self.cluster.servers(self))
        addresses = self.addresses or (experiment.servers if experiment else ())
        return tuple(self._client(address) for address in addresses)

    def named(self, addresses: Sequence[str] = ()) -> tuple[Server, ...]:
        """Return unopened clients for the addresses on the command line, or else for these; none of a cluster."""
        return tuple(self._client(address) for address in self.addresses or addresses)

    def _client(self, address: str) -> Server:
        from sweep.servers import ConnectOptions, connect, find_credentials

        credentials = find_credentials(address, os.environ, self.credentials)
        return connect(address, ConnectOptions(credentials=credentials, ca_file=self.ca_file, queue_id=self.queue))


@asynccontextmanager
async def or_start_sandbox(clients: Sequence[Server]) -> AsyncIterator[Sequence[Server]]:
    """Yield the clients; if there are none, start a sandbox for the length of the block and yield its client."""
    if clients:
        yield clients
        return
    from sweep.sandbox import sandbox_server

    async with sandbox_server() as sandbox:
        yield [_sandbox_client(sandbox.url)]


def _sandbox_client(address: str) -> Server:
    """Create a client for our own sandbox: without credentials, and named `sandbox` on any port."""
    from sweep.servers import ConnectOptions, connect

    return connect(address, ConnectOptions(name="sandbox"))


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
