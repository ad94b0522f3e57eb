"""Socket.io events, as InvokeAI 6 and 3 send them, with injected faults."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import socketio

from sweep.sandbox.http_requests import Accounts
from sweep.sandbox.item_queue import QueueItem
from sweep.sandbox.sandbox_options import FaultDice

Payload = dict[str, Any]


class _Text(socketio.packet.Packet):  # type: ignore[misc]
    """A packet without attachments: InvokeAI sends none, and looking for them in every event is a sixth of the work."""

    uses_binary_events = False


class EventEmitter:
    """Sends events to all sockets, as a single-user InvokeAI does; those with a room go to its subscribers alone."""

    def __init__(self, dice: FaultDice, accounts: Accounts) -> None:
        self.sio = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*", serializer=_Text)
        self.sent = 0
        self._dice = dice
        self._accounts = accounts
        self._sids: set[str] = set()
        self.sio.on("connect", self._accept_connection)
        self.sio.on("disconnect", lambda sid, *_: self._sids.discard(sid))
        self.sio.on("subscribe", self._subscribe)

    async def _accept_connection(self, sid: str, environ: Any, auth: Any = None) -> None:
        refusal = self._accounts.explain_refusal({"Authorization": environ.get("HTTP_AUTHORIZATION", "")}, auth)
        if refusal:
            raise socketio.exceptions.ConnectionRefusedError(refusal)
        self._sids.add(sid)

    async def _subscribe(self, sid: str, data: Any) -> None:
        room = data.get("session") if isinstance(data, dict) else None
        if room:
            await self.sio.enter_room(sid, room)

    async def send(self, name: str, payload: Payload, room: str | None = None) -> None:
        """Emit one event, unless a fault swallows it; a fault may also double it or cut every socket after it."""
        if not self._sids or self._dice.happens("missing_event"):
            return
        self.sent += 1
        # as `sio.emit` does, which starts a task for each socket and event: two thirds of an event's cost
        packet = _Text(socketio.packet.EVENT, namespace="/", data=[name, {"timestamp": int(time.time()), **payload}])
        text = packet.encode()
        for _ in range(2 if self._dice.happens("doubled_event") else 1):
            for _sid, engine_sid in list(self.sio.manager.get_participants("/", room)):
                await self.sio.eio.send(engine_sid, text)
        await asyncio.sleep(0)  # lets the sockets write before the next HTTP answer
        if self._dice.happens("socket_drop"):
            for sid in list(self._sids):
                await self.sio.disconnect(sid)

    async def announce_status(self, item: QueueItem) -> None:
        """Announce that an item's status changed."""
        if self._sids:
            await self.send("queue_item_status_changed", item.summarise())

    async def invocation(self, name: str, item: QueueItem, source: str, node: Payload, **more: Any) -> None:
        """Announce that a copy of the node `source` was started, made progress, was completed or failed."""
        if self._sids:
            names = ("queue_id", "item_id", "batch_id", "destination", "session_id")
            about = {**{name: getattr(item, name) for name in names}, "invocation": node}
            await self.send(f"invocation_{name}", {**about, "invocation_source_id": source, **more})


class SessionEvents(EventEmitter):
    """Sends events as InvokeAI 3 did, to those who subscribed to the session."""

    async def send(self, name: str, payload: Payload, room: str | None = None) -> None:
        """Send an event of a session; this version had none of batches, items and models."""
        if room:
            await super().send(name, payload, room)

    async def announce_status(self, item: QueueItem) -> None:
        """Announce the end of a session, and no other status."""
        if item.status == "completed":
            about = {"graph_execution_state_id": item.session_id}
            await self.send("graph_execution_state_complete", about, room=item.session_id)

    async def invocation(self, name: str, item: QueueItem, source: str, node: Payload, **more: Any) -> None:
        """Announce that a copy of the node `source` was started, was completed or failed."""
        about: Payload = {"graph_execution_state_id": item.session_id, "source_node_id": source, "node": node}
        if name != "progress":
            await self.send(f"invocation_{name}", {**about, **more}, room=item.session_id)
