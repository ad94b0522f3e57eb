"""Which servers a command talks to: those asked for, those of the file, or the sandbox."""

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
    """How servers are reached: addresses as typed, a private authority's certificates, a credentials file,
    the queue that is used there.
    """

    addresses: tuple[str, ...] = ()
    ca_file: Path | None = None
    credentials: Path | None = None
    queue: str = "default"

    @classmethod
    def of(
        cls, addresses: Sequence[str] | None, ca_file: Path | None, credentials: Path | None, queue: str = "default"
    ) -> Access:
        """From what the command line gave."""
        return cls(addresses=tuple(addresses or ()), ca_file=ca_file, credentials=credentials, queue=queue)

    def clients(self, experiment: Experiment | None = None) -> tuple[Server, ...]:
        """Clients not opened yet: for the addresses on the command line, else those of the file.

        Raises UsageError for an address that is none, or a credentials file that cannot be read.
        """
        addresses = self.addresses or (experiment.servers if experiment else ())
        return tuple(self._client(address) for address in addresses)

    def _client(self, address: str) -> Server:
        from sweep.servers import ConnectOptions, connect, find_credentials

        credentials = find_credentials(address, os.environ, self.credentials)
        return connect(address, ConnectOptions(credentials=credentials, ca_file=self.ca_file, queue_id=self.queue))


@asynccontextmanager
async def or_sandbox(clients: Sequence[Server]) -> AsyncIterator[Sequence[Server]]:
    """The clients; where there are none, the client of a sandbox of our own that lasts as long as the block."""
    if clients:
        yield clients
        return
    from sweep.sandbox import sandbox_server

    async with sandbox_server() as sandbox:
        yield [_local(sandbox.url)]


def _local(address: str) -> Server:
    """Our own sandbox needs nobody's credentials, and goes by that name whatever its port."""
    from dataclasses import replace

    from sweep.servers import ConnectOptions, FamilyServer, ServerInfo

    class Sandbox(FamilyServer):
        async def open(self) -> ServerInfo:
            return replace(await super().open(), name="sandbox")

    return Sandbox(address, ConnectOptions())
