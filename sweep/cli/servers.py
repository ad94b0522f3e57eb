"""The servers of a command, the sandbox among them; `sweep worker` and `sweep workers` for hosts of a Ray cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from sweep import servers
from sweep.cli import shared_options as shared
from sweep.cli.console import print_line
from sweep.errors import ServerUnreachableError, UsageError

if TYPE_CHECKING:
    from sweep.experiment import Experiment
    from sweep.servers import AgentDescription, AgentSettings, Server

server_option = partial(typer.Option, rich_help_panel="Servers")

CaFile: TypeAlias = Annotated[
    Path | None,
    server_option(
        "--ca-file",
        help="File with the certificates of your own certificate authority, for https servers.",
        metavar="PEM",
    ),
]
CredentialsOption: TypeAlias = Annotated[
    Path | None,
    server_option("--credentials", help="File (mode 0600) with a token, or with email and password.", metavar="FILE"),
]
QueueOption: TypeAlias = Annotated[
    str,
    server_option(
        "--queue",
        help="The name of the queue to use on the servers. Every server has a queue named default.",
        metavar="NAME",
    ),
]
OnOption: TypeAlias = Annotated[
    str | None,
    server_option(
        "--on",
        help="Use all workers of a Ray cluster as servers. Write ray, or ray:HOST:PORT to name the cluster. See "
        "sweep worker --help for how to start a worker.",
        show_default=False,
        metavar="RAY",
    ),
]
InsecureRay: TypeAlias = Annotated[
    bool, server_option("--insecure-ray", help="Allow a Ray cluster that is not protected by a token.")
]


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
        if on is None:
            if command:
                raise UsageError("--with needs --on ray.", hint="Without a cluster, start the server yourself.")
            if shared:
                raise UsageError("--images shared needs --on ray.", hint="Without a cluster, sweep writes all images.")
            return None
        return cls(address=_parse_address(on), command=command, insecure=insecure, shared=shared)

    def join(self) -> None:
        """Join the cluster. Raises UsageError where it demands no token, unless it is to be used so."""
        servers.join_cluster(self.address)
        servers.check_token(insecure=self.insecure)

    def start_or_find_servers(self, access: Access) -> Sequence[Server]:
        """Join the cluster and return its servers; start them where there is a command."""
        servers.join_cluster(self.address)
        if self.command:
            return servers.start_servers(self.command, access.agent_settings(insecure=self.insecure), self.shared)
        agents = servers.list_agents()
        if not agents:
            raise ServerUnreachableError(
                "The cluster has no workers.", hint="Run sweep worker --server URL on each host that has a server."
            )
        return servers.find_servers(agents, insecure=self.insecure, shared=self.shared)


def _parse_address(on: str) -> str:
    """Return the ADDRESS of --on ray[:ADDRESS], empty for the cluster of this host. Raises UsageError."""
    engine, _, address = on.partition(":")
    if engine != "ray":
        raise UsageError(f"--on {on}: sweep runs on ray only.", hint="Write --on ray, or --on ray:HOST:PORT.")
    return address


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach servers: options of most commands, and the queue and the Ray cluster where a command has them."""

    addresses: Annotated[
        list[str] | None,
        server_option("--server", "-s", help="Address of a server. Repeat it for several servers.", metavar="URL"),
    ] = None
    ca_file: CaFile = None
    credentials: CredentialsOption = None
    queue: str = "default"
    cluster: Cluster | None = None

    def clients(self, experiment: Experiment | None = None) -> tuple[Server, ...]:
        """Return unopened clients for the addresses on the command line, or else for those of the experiment.

        Raises UsageError for an invalid address or an unreadable credentials file.
        """
        if self.cluster is not None:
            return (*self.named(), *self.cluster.start_or_find_servers(self))
        return self.named(experiment.servers if experiment else ())

    def named(self, addresses: Sequence[str] = ()) -> tuple[Server, ...]:
        """Return unopened clients for the addresses on the command line, or else for these; none of a cluster."""
        return tuple(
            servers.connect(
                address,
                servers.ConnectOptions(
                    credentials=servers.find_credentials(address, os.environ, self.credentials),
                    ca_file=self.ca_file,
                    queue_id=self.queue,
                ),
            )
            for address in self.addresses or addresses
        )

    def agent_settings(self, name: str = "", url: str = "", *, insecure: bool) -> AgentSettings:
        """Return the settings of an agent, whose working directory is another one: paths become absolute."""
        return servers.AgentSettings(
            name=name,
            url=url,
            credentials=self.credentials.absolute() if self.credentials else None,
            ca_file=self.ca_file.absolute() if self.ca_file else None,
            queue_id=self.queue,
            insecure=insecure,
        )


@asynccontextmanager
async def or_start_sandbox(clients: Sequence[Server]) -> AsyncIterator[Sequence[Server]]:
    """Yield the clients; if there are none, start a sandbox for the length of the block and yield its client."""
    if clients:
        yield clients
        return
    from sweep.sandbox import sandbox_server

    async with sandbox_server() as sandbox:  # without credentials, and named sandbox on any port
        yield [servers.connect(sandbox.url, servers.ConnectOptions(name="sandbox"))]


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
    queue: QueueOption = "default",
    ca_file: CaFile = None,
    credentials: CredentialsOption = None,
    insecure: InsecureRay = False,
) -> None:
    """Register the image server of this host in a Ray cluster.

    Run it on each host that has a server, after ray start. The worker stays when the command ends, and starts again if
    it fails. Credentials are read on this host: from its environment when ray start ran, or from --credentials.
    """
    address = _parse_address(on)
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
    access = Access(ca_file=ca_file, credentials=credentials, queue=queue)
    servers.start_agent(access.agent_settings(name, server, insecure=insecure))
    (found,) = (agent for agent in servers.list_agents() if agent.name == name)
    if found.url != server:
        raise UsageError(f"A worker {name} serves {found.url} already.", hint="Choose another --name.")
    print_line(_describe(found))


def workers(printer: shared.AnswerPrinter, on: Join = "ray") -> None:
    """List the workers of a Ray cluster."""
    servers.join_cluster(_parse_address(on))
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
