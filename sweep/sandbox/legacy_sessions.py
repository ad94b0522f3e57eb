"""The sessions API: graphs of InvokeAI 3 and of the portable form, run by the same queue."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweep.errors import WorkflowError
from sweep.sandbox.batches import Batch, Frame, GraphTemplate, RefusedError, batch_value_problem, read_graph
from sweep.sandbox.events import EventEmitter
from sweep.sandbox.graph_execution import Prepared, initial_session
from sweep.sandbox.image_nodes import _IMAGES, DECODERS
from sweep.sandbox.options import ModelRecord, identifier
from sweep.sandbox.queue import TERMINAL_STATUSES, QueueItem
from sweep.sandbox.service import Sandbox
from sweep.workflow import Address, Json, ModelRef, Ref, workflow_from, write_graph

QUEUE = "sessions"  # the queue id under which sessions wait
_STATE = (
    "id",
    "graph",
    "execution_graph",
    "executed",
    "executed_history",
    "results",
    "errors",
    "prepared_source_mapping",
    "source_prepared_mapping",
)


@dataclass(slots=True, kw_only=True)
class Session:
    """A posted graph; `item` is set once it was invoked."""

    id: str
    posted: Any
    graph: GraphTemplate
    item: QueueItem | None = None


class SessionEvents(EventEmitter):
    """Events as InvokeAI 3 sent them: to those who subscribed to the session."""

    async def batch_enqueued(self, queue_id: str, answer: dict[str, Any], origin: str | None) -> None:
        """Do nothing: this version had no batches."""

    async def items(self, name: str, queue_id: str, item_ids: list[int]) -> None:
        """Do nothing: this version had no bulk item events."""

    async def model_load(self, name: str, config: dict[str, Any], submodel: str | None) -> None:
        """Do nothing: this version's event named neither session nor node."""

    async def status_changed(self, item: QueueItem) -> None:
        """Announce the end of a session, and no other status."""
        if item.status == "completed":
            about = {"graph_execution_state_id": item.session_id}
            await self.send("graph_execution_state_complete", about, room=item.session_id)

    async def invocation(self, name: str, item: QueueItem, prepared: Prepared, **more: Any) -> None:
        """Announce that a node was started, made progress, was completed or failed."""
        about = {"graph_execution_state_id": item.session_id, "source_node_id": prepared.source}
        if name == "progress":
            steps = prepared.node.get("steps") or 1
            done = {"step": round((more.get("percentage") or 0) * steps), "total_steps": steps, "progress_image": None}
            node = {"node_id": prepared.id, "node": {"id": prepared.id, "type": prepared.node["type"]}}
            await self.send("generator_progress", {**about, **node, **done}, room=item.session_id)
            return
        if name == "error":
            more = {"error_type": more["error_type"], "error": more["error_traceback"]}
        await self.send(f"invocation_{name}", {**about, "node": prepared.node, **more}, room=item.session_id)


def make_session(sandbox: Sandbox, body: Any) -> Session:
    """Create a session for a posted graph, not running yet. Raises RefusedError with 422."""
    posted = body.get("graph") if sandbox.options.api == "portable" and isinstance(body, Mapping) else body
    if sandbox.options.api == "portable" and not isinstance(posted, Mapping):
        raise RefusedError(422, [batch_value_problem(("body", "graph"), "Field required", body)])
    posted = posted or {"id": str(uuid.uuid4()), "nodes": {}, "edges": []}
    graph = _translate(sandbox, posted) if isinstance(posted.get("nodes"), list) else posted
    template = read_graph(_with_keys(sandbox, graph), sandbox.types, ("body", "graph"))
    session = Session(id=str(uuid.uuid4()), posted=posted, graph=template)
    sandbox.sessions[session.id] = session
    return session


def find(sandbox: Sandbox, session_id: str) -> Session:
    """Find a session, also one of an earlier process with the same root. Raises RefusedError with 404."""
    session: Session | None = sandbox.sessions.get(session_id)
    if session is not None:
        return session
    for item in sandbox.queue.of(QUEUE):
        if item.session_id == session_id:
            return Session(id=session_id, posted=item.graph.to_api(), graph=item.graph, item=item)
    raise RefusedError(404, "Not Found")


async def start_session(sandbox: Sandbox, session: Session) -> None:
    """Start a session. Raises RefusedError with 400 where it has run already."""
    if session.item is not None and session.item.status in TERMINAL_STATUSES:
        raise RefusedError(400, "Session is already complete")
    if session.item is None:
        batch = Batch(frame=Frame(batch_id=session.id), graph=session.graph)
        made = sandbox.queue.enqueue(QUEUE, batch, prepend=False)
        if not made:
            raise RefusedError(503, "The queue is full")
        session.item = made[0]
        session.item.session_id = session.id
        await sandbox.store.save(made)
        sandbox.processor.wake()


def session_state(session: Session) -> dict[str, Any]:
    """Return the session as InvokeAI 3 gave it."""
    item = session.item
    if item is None or item.session is None:
        whole = initial_session(session.id, session.graph)
    else:
        whole = json.loads(zlib.decompress(item.session))
    if item is not None and item.error:
        whole["errors"] = dict.fromkeys(whole["errors"], item.error[2])
    return {**{name: whole[name] for name in _STATE}, "graph": session.posted}


def complete_session(session: Session) -> bool:
    """Tell whether the session has ended."""
    return session.item is not None and session.item.status in TERMINAL_STATUSES and session.item.session is not None


def session_image_names(session: Session) -> list[str]:
    """List the images a session made to keep, in the order they were made."""
    whole = session_state(session)
    nodes = whole["execution_graph"]["nodes"]
    return [
        result["image"]["image_name"]
        for prepared, result in whole["results"].items()
        if nodes[prepared]["type"] in (_IMAGES.keys() | DECODERS) and not nodes[prepared]["is_intermediate"]
    ]


def _with_keys(sandbox: Sandbox, graph: Any) -> Any:
    """InvokeAI 3 named models by name and base; the nodes here want today's five keys."""
    if isinstance(graph, Mapping):
        if "model_name" in graph and "base_model" in graph:
            return _identify(sandbox, graph["model_name"], graph["base_model"], graph.get("model_type"))
        return {name: _with_keys(sandbox, value) for name, value in graph.items()}
    return [_with_keys(sandbox, value) for value in graph] if isinstance(graph, list) else graph


def _identify(sandbox: Sandbox, name: str, base: str, kind: str | None) -> dict[str, Any]:
    for record in sandbox.models.values():
        if record["name"] == name and record["base"] == base and kind in {None, record["type"]}:
            return identifier(record)
    return {"key": name, "hash": "", "name": name, "base": base, "type": kind or "main"}


def _translate(sandbox: Sandbox, document: Mapping[str, Any]) -> dict[str, Json]:
    """Translate a portable document to today's nodes, with the models that the sandbox has of their kind."""
    mains = [record for record in sandbox.models.values() if record["type"] == "main"]
    try:
        workflow = workflow_from(document)
        base = _base(document, mains)
        workflow = workflow.for_base(base)
    except WorkflowError as error:
        raise RefusedError(422, [batch_value_problem(("body", "graph"), str(error), None)]) from error

    def resolve(reference: Ref) -> Json:
        if isinstance(reference, ModelRef):
            fitting = [record for record in sandbox.models.values() if record["type"] == reference.type]
            fitting.sort(key=lambda record: (record["name"] != reference.name, record["base"] != base))
            if fitting:
                return identifier(fitting[0])
            return {"key": reference.name, "hash": "", "name": reference.name, "base": base, "type": reference.type}
        return reference.canonical()

    files: dict[Address, Any] = {
        address: {"image_name": sandbox.images.uploaded_as(path) or path} for address, path in workflow.files.items()
    }
    return write_graph(workflow.graph.set(files), resolve)


def _base(document: Mapping[str, Any], mains: list[ModelRecord]) -> str:
    """SDXL where the document names an XL model and the sandbox has one, else what the first model is."""
    has_xl = any(record["base"] == "sdxl" for record in mains)
    wants_xl = any("xl" in str(node.get("data", "")).lower() for node in document["nodes"] if isinstance(node, Mapping))
    if has_xl and wants_xl:
        return "sdxl"
    return str(mains[0]["base"]) if mains else "sd-1"
