"""Sends InvokeAI's socket.io events in their shapes, with faults where they are asked for."""

from __future__ import annotations

import time
from typing import Any

import socketio

from sweep.sandbox.graph_execution import Prepared
from sweep.sandbox.options import Accounts, FaultDice
from sweep.sandbox.queue import QueueItem, SandboxQueue

Payload = dict[str, Any]


class _Text(socketio.packet.Packet):  # type: ignore[misc]
    """A packet without attachments: InvokeAI sends none, and looking for them in every event is a sixth of the work."""

    uses_binary_events = False


class EventEmitter:
    """Sends events to all sockets (single-user InvokeAI does, subscribed or not; only `queue_cleared` is by room)."""

    def __init__(self, queue: SandboxQueue, dice: FaultDice, accounts: Accounts) -> None:
        self.sio = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*", serializer=_Text)
        self.sent = 0
        self._queue = queue
        self._dice = dice
        self._accounts = accounts
        self._sids: set[str] = set()
        self.sio.on("connect", self._connected)
        self.sio.on("disconnect", self._disconnected)
        for name in ("queue", "session", "bulk_download"):
            self.sio.on(f"subscribe_{name}" if name != "session" else "subscribe", self._subscribe)
            self.sio.on(f"unsubscribe_{name}" if name != "session" else "unsubscribe", self._unsubscribe)

    async def _connected(self, sid: str, environ: Any, auth: Any = None) -> None:
        refusal = self._accounts.refusal({"Authorization": environ.get("HTTP_AUTHORIZATION", "")}, auth)
        if refusal:
            raise socketio.exceptions.ConnectionRefusedError(refusal)
        self._sids.add(sid)

    async def _disconnected(self, sid: str, _reason: Any = None) -> None:
        self._sids.discard(sid)

    async def _subscribe(self, sid: str, data: Any) -> None:
        room = _room(data)
        if room:
            await self.sio.enter_room(sid, room)

    async def _unsubscribe(self, sid: str, data: Any) -> None:
        room = _room(data)
        if room:
            await self.sio.leave_room(sid, room)

    async def send(self, name: str, payload: Payload, room: str | None = None) -> None:
        """Emit one event, unless a fault swallows it; a fault may also double it or cut every socket after it."""
        if not self._sids:
            return
        if self._dice.happens("missing_event"):
            return
        self.sent += 1
        for _ in range(2 if self._dice.happens("doubled_event") else 1):
            await self.sio.emit(name, {"timestamp": int(time.time()), **payload}, room=room)
        if self._dice.happens("socket_drop"):
            for sid in list(self._sids):
                await self.sio.disconnect(sid)

    @property
    def heard(self) -> bool:
        """Tell whether any socket is connected."""
        return bool(self._sids)

    async def batch_enqueued(self, queue_id: str, answer: Payload, origin: str | None) -> None:
        """Announce that a batch was enqueued."""
        named = {name: answer[name] for name in ("enqueued", "requested", "priority")}
        ids = {"queue_id": queue_id, "batch_id": answer["batch"]["batch_id"]}
        await self.send("batch_enqueued", {**ids, **named, "origin": origin, "user_id": "system"})

    async def status_changed(self, item: QueueItem) -> None:
        """Announce that an item's status changed."""
        if not self.heard:
            return
        kind, message, trace = item.error or (None, None, None)
        times = {name: getattr(item, name) for name in ("created_at", "updated_at", "started_at", "completed_at")}
        payload = {
            **_about(item),
            "status": item.status,
            "status_sequence": item.status_sequence,
            "error_type": kind,
            "error_message": message,
            "error_traceback": trace,
            **times,
            "batch_status": batch_status(self._queue, item.queue_id, item.batch_id),
            "queue_status": queue_status(self._queue, item.queue_id),
            "session_id": item.session_id,
        }
        await self.send("queue_item_status_changed", payload)

    async def invocation(self, name: str, item: QueueItem, prepared: Prepared, **more: Any) -> None:
        """Announce that a node was started, made progress, was completed or failed."""
        if self.heard:
            node = {"invocation": prepared.node, "invocation_source_id": prepared.source}
            about = {**_about(item), "session_id": item.session_id}
            await self.send(f"invocation_{name}", {**about, **node, **more})

    async def model_load(self, name: str, config: Payload, submodel: str | None) -> None:
        """Announce that a model is being loaded, or was."""
        await self.send(f"model_load_{name}", {"config": config, "submodel_type": submodel, "user_id": "system"})

    async def items(self, name: str, queue_id: str, item_ids: list[int]) -> None:
        """Announce that several items were canceled or retried at once."""
        ids = {f"{name}_item_ids": item_ids, "user_ids": ["system"]}
        by_user = {f"{name}_item_ids_by_user": {"system": item_ids}}
        await self.send(f"queue_items_{name}", {"queue_id": queue_id, **ids, **by_user})

    async def cleared(self, queue_id: str) -> None:
        """Announce to the queue's subscribers that it was cleared."""
        await self.send("queue_cleared", {"queue_id": queue_id, "user_id": None}, room=queue_id)


def _room(data: Any) -> str | None:
    if not isinstance(data, dict):
        return None
    return data.get("queue_id") or data.get("session") or data.get("bulk_download_id")


def _about(item: QueueItem) -> Payload:
    names = ("queue_id", "item_id", "batch_id", "origin", "destination")
    return {**{name: getattr(item, name) for name in names}, "user_id": "system"}


def batch_status(queue: SandboxQueue, queue_id: str, batch_id: str) -> Payload:
    """Count a batch's items by status; all zeros for an unknown one."""
    items = queue.of_batch(queue_id, batch_id)
    labels = (items[0].origin, items[0].destination) if items else (None, None)
    about = {"queue_id": queue_id, "batch_id": batch_id, "origin": labels[0], "destination": labels[1]}
    return {**about, **queue.counts("batch", queue_id, batch_id)}


def queue_status(queue: SandboxQueue, queue_id: str) -> Payload:
    """Count a queue id's items by status, with its current item."""
    item = queue.current(queue_id)
    ids = (item.item_id, item.batch_id, item.session_id) if item else (None, None, None)
    counts = queue.counts("queue", queue_id)
    about = dict(zip(("item_id", "batch_id", "session_id"), ids, strict=True))
    mine = {"user_pending": counts["pending"], "user_in_progress": counts["in_progress"]}
    return {"queue_id": queue_id, **about, **counts, **mine}
