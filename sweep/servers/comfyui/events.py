"""The websocket on which a ComfyUI tells what becomes of prompts.

Every connection has a client id of its own: with one that was used before, the server forgets the newer connection
when it notices the end of the older. Prompts that were sent under an earlier id tell nothing on a new connection, so
they are polled.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp

from sweep.servers.base import Rendered, ServerImage
from sweep.servers.comfyui.prompts import image_name
from sweep.servers.http import Http
from sweep.servers.responses import mapping, sequence, text
from sweep.servers.tracker import ItemState, ItemTracker

LARGEST_MESSAGE: Final = 16 * 1024 * 1024  # bytes; previews come along
HEARTBEAT: Final = 20.0  # seconds between pings
RECORDING: Final = 0.05  # seconds after which an end stands in the history
_GOODBYE: Final = 1.0  # seconds for closing politely
_ERRORS: Final = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


class PromptEvents:
    """Keeps a connection up and hands what it tells to the tracker."""

    def __init__(self, http: Http, tracker: ItemTracker, lost: Callable[[], None]) -> None:
        self._http = http
        self._tracker = tracker
        self._lost = lost  # called when the connection goes down: another process may answer next
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Keep the connection up until `stop`; never raises."""
        listening = asyncio.create_task(self._keep_up())
        try:
            await self._stopped.wait()
        finally:
            listening.cancel()
            await asyncio.wait([listening], timeout=_GOODBYE)

    def stop(self) -> None:
        """End `run` soon."""
        self._stopped.set()

    async def _keep_up(self) -> None:
        timings = self._http.timings
        pause = timings.reconnect
        while True:
            if await self._connect_once():
                pause = timings.reconnect
            await asyncio.sleep(pause)
            pause = min(pause * 2, timings.reconnect_most)

    async def _connect_once(self) -> bool:
        client_id, was_up = uuid.uuid4().hex, False
        url = f"{self._http.address.url}/ws?{urlencode({'clientId': client_id})}"
        try:
            async with self._http.session.ws_connect(
                url, headers=self._http.headers(), max_msg_size=LARGEST_MESSAGE, heartbeat=HEARTBEAT
            ) as socket:
                was_up = True
                self._tracker.note_connection(is_up=True, channel=client_id)
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        self._handle(message.data)
        except _ERRORS:
            pass
        finally:
            if was_up:
                self._lost()
                self._tracker.note_connection(is_up=False, channel=None)
        return was_up

    def _handle(self, line: str) -> None:
        if '"progress' in line[:24]:
            return
        message = json.loads(line)
        kind, data = message.get("type"), mapping(message.get("data"))
        item = self._tracker.find(text(data.get("prompt_id")) or "")
        if item is None:
            return
        if kind == "execution_start":
            self._tracker.note_state(item, ItemState(status="in_progress", batch_id=item.batch_id))
        elif kind == "executed":
            self._note_image(item.batch_id, data)
        elif kind == "executing" and data.get("node") is None:  # comes after the history entry; success comes before
            self._tracker.request_states()
        elif kind in ("execution_interrupted", "execution_error", "execution_success"):  # history has it a moment later
            asyncio.get_running_loop().call_later(RECORDING, self._tracker.request_states)

    def _note_image(self, batch_id: str, data: dict[str, Any]) -> None:
        item = self._tracker.find(batch_id)
        node = text(data.get("node"))
        files = [image_name(mapping(file)) for file in sequence(mapping(data.get("output")).get("images"))]
        if item is not None and node in item.single_outputs and len(files) == 1 and files[0] is not None:
            item.send(Rendered(image=ServerImage(name=files[0], node=node or "")))
