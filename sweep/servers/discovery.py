"""Discovers by asking which family of servers answers at an address, and connects the client of that family."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any, cast

from sweep.errors import ServerUnsupportedError
from sweep.servers.base import Server, ServerInfo
from sweep.servers.comfyui.comfyui_client import ComfyUI, comfyui_version
from sweep.servers.credentials import ServerAddress
from sweep.servers.http import ConnectOptions, Http
from sweep.servers.invokeai.invokeai_client import InvokeAI


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
    make = backends[0].load() if backends else AnyServer
    return cast("Server", make(url, given))


class AnyServer:
    """A server of a family that is discovered by `open`; after that all calls go to that family's client."""

    def __init__(self, url: str, options: ConnectOptions) -> None:
        self.address = ServerAddress.parse(url)
        self.url = self.address.url
        self._options = options
        self._found: Server | None = None

    async def open(self) -> ServerInfo:
        """Find out which family answers, and open its client. Raises ServerError."""
        await self.aclose()
        http = Http(self.address, self._options, has_login=False)
        version = await http.introduce(lambda: comfyui_version(http))
        await http.aclose()
        found = (InvokeAI if version is None else ComfyUI)(self.url, self._options)
        try:
            info = await found.open()
        except ServerUnsupportedError as error:
            hint = "Is that an InvokeAI or a ComfyUI? With TLS, write https:// in the address."
            raise ServerUnsupportedError(error.message, hint=error.hint or hint) from None
        self._found = found
        return replace(info, name=self._options.name or info.name)

    async def aclose(self) -> None:
        """Close the client, where there is one; never raises."""
        if self._found is not None:
            await self._found.aclose()

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__.get("_found")  # not there yet in a copy that is being made
        if found is None:
            raise AttributeError(f"{name}: open() comes first")
        return getattr(found, name)
