"""Finds out by asking which client a server needs."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, TypedDict, cast

from sweep.errors import ServerUnsupportedError
from sweep.servers.base import Server, ServerInfo
from sweep.servers.comfyui.comfyui_client import ComfyUI, comfyui_version
from sweep.servers.credentials import Credentials, ServerAddress
from sweep.servers.http import Http, Timings
from sweep.servers.invokeai.invokeai_client import InvokeAI

_NOBODY_OF_OURS: Final = "Is that an InvokeAI or a ComfyUI?"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How to speak to a server. All but `credentials` and `uploads` is commonly the same for every server of a run."""

    credentials: Credentials | None = None
    ca_file: Path | None = None
    queue_id: str = "default"
    timings: Timings = field(default_factory=Timings)
    uploads: MutableMapping[str, str] | None = None  # SHA-256 → name on this server, kept by the caller
    name: str = ""  # what it is called instead of its address


def connect(url: str, options: ConnectOptions | None = None) -> Server:
    """Return a client for the server at `url`, an InvokeAI or a ComfyUI; nothing is sent before `open`.

    An address of another scheme belongs to a backend that an installed package brings (entry points of the group
    `sweep.servers`: scheme → factory of a `Server` from an address and `ConnectOptions`).

    `open` raises ServerError where nobody answers there, we are refused, or no family of servers does.

    Raises UsageError for an address that is none.
    """
    given = options or ConnectOptions()
    scheme = url.partition(":")[0]
    backends = () if scheme in ("http", "https") else tuple(entry_points(group="sweep.servers", name=scheme))
    if backends:
        made: Server = backends[0].load()(url, given)
        return made
    return cast("Server", AnyServer(url, given))


class _Common(TypedDict):
    credentials: Credentials | None
    ca_file: Path | None
    timings: Timings


class AnyServer:
    """A server of whatever family answers: what is asked for after `open` is asked of that family's client."""

    def __init__(self, url: str, options: ConnectOptions) -> None:
        self.address = ServerAddress.parse(url)
        self.url = self.address.url
        self._options = options
        self._found: Server | None = None

    async def open(self) -> ServerInfo:
        """Find out which family answers, and open its client. Raises ServerError."""
        try:
            info = await self._open()
        except ServerUnsupportedError as error:
            raise ServerUnsupportedError(error.message, hint=error.hint or _NOBODY_OF_OURS) from None
        return replace(info, name=self._options.name or info.name)

    async def _open(self) -> ServerInfo:
        options = self._options
        common = _Common(credentials=options.credentials, ca_file=options.ca_file, timings=options.timings)
        http = Http(self.address, **common, has_login=False)
        version = await http.introduce(lambda: comfyui_version(http))
        await http.aclose()
        if version is not None:
            found: Server = ComfyUI(self.url, **common)
        else:
            found = InvokeAI(self.url, **common, queue_id=options.queue_id, uploads=options.uploads)
        info = await found.open()
        self._found = found
        return info

    async def aclose(self) -> None:
        """Close the client, where there is one; never raises."""
        if self._found is not None:
            await self._found.aclose()

    def __getattr__(self, name: str) -> Any:
        if self._found is None:
            raise AttributeError(f"{name}: open() comes first")
        return getattr(self._found, name)
