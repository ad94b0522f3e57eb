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
class Access:
    """How to reach servers: addresses, CA certificates, credentials file, and the queue to use."""

    addresses: tuple[str, ...] = ()
    ca_file: Path | None = None
    credentials: Path | None = None
    queue: str = "default"

    @classmethod
    def of(
        cls, addresses: Sequence[str] | None, ca_file: Path | None, credentials: Path | None, queue: str = "default"
    ) -> Access:
        """Build it from the options of the command line."""
        return cls(addresses=tuple(addresses or ()), ca_file=ca_file, credentials=credentials, queue=queue)

    def clients(self, experiment: Experiment | None = None) -> tuple[Server, ...]:
        """Return unopened clients for the addresses on the command line, or else for those of the experiment.

        Raises UsageError for an invalid address or an unreadable credentials file.
        """
        addresses = self.addresses or (experiment.servers if experiment else ())
        return tuple(self._client(address) for address in addresses)

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
    from dataclasses import replace

    from sweep.servers import InvokeAI, ServerInfo

    class Sandbox(InvokeAI):
        async def open(self) -> ServerInfo:
            return replace(await super().open(), name="sandbox")

    return Sandbox(address)
