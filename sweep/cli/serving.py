"""Which servers a command talks to: those asked for, those of the file, or the sandbox."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweep.experiment.definition import Experiment
    from sweep.servers.base import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How servers are reached: addresses as typed, a private authority's certificates, a credentials file."""

    addresses: tuple[str, ...] = ()
    ca_file: Path | None = None
    credentials: Path | None = None

    @classmethod
    def of(cls, addresses: Sequence[str] | None, ca_file: Path | None, credentials: Path | None) -> Access:
        """From what the command line gave."""
        return cls(addresses=tuple(addresses or ()), ca_file=ca_file, credentials=credentials)

    def wanted(self, experiment: Experiment) -> tuple[str, ...]:
        """Addresses on the command line win over those of the file; none at all means the sandbox."""
        return self.addresses or experiment.servers


@asynccontextmanager
async def servers_for(addresses: Sequence[str], access: Access) -> AsyncIterator[list[Server]]:
    """Servers, not opened yet, for as long as the block lasts; a sandbox of our own where no address is given."""
    if addresses:
        yield [_server(address, access) for address in addresses]
        return
    from sweep.sandbox.app import sandbox_server
    from sweep.sandbox.options import SandboxOptions

    async with sandbox_server(SandboxOptions()) as sandbox:
        yield [_local(sandbox.url)]


def _server(address: str, access: Access) -> Server:
    from sweep.servers.connecting import ConnectOptions, connect
    from sweep.servers.credentials import find_credentials

    credentials = find_credentials(address, os.environ, access.credentials)
    return connect(address, ConnectOptions(credentials=credentials, ca_file=access.ca_file))


def _local(address: str) -> Server:
    """Our own sandbox needs nobody's credentials, and goes by that name whatever its port."""
    from dataclasses import replace

    from sweep.servers.base import ServerInfo
    from sweep.servers.connecting import ConnectOptions, FamilyServer

    class Sandbox(FamilyServer):
        async def open(self) -> ServerInfo:
            return replace(await super().open(), name="sandbox")

    return Sandbox(address, ConnectOptions())
