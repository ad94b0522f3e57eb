"""The servers of a command: from the command line, from the experiment, or the sandbox."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweep.experiment import Experiment
    from sweep.servers import Server


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
