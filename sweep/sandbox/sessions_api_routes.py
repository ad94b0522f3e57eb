"""Routes of the sessions API: graphs of InvokeAI 3 and of the portable form, run by the same queue."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from sweep.errors import WorkflowError
from sweep.sandbox.graph_checks import GraphJson, read_graph
from sweep.sandbox.http_requests import RefusedError, body_of, cut_page, refuse_value, route
from sweep.sandbox.item_queue import Batch, QueueItem, initial_session
from sweep.sandbox.model_catalogue import identifier
from sweep.sandbox.nodes import IMAGE_NODES
from sweep.sandbox.running_sandbox import Sandbox
from sweep.workflow import Address, Json, Model, ModelRef, Ref, workflow_from, write_graph

_QUEUE = "sessions"  # the queue id under which sessions wait


@dataclass(slots=True, kw_only=True)
class Session:
    """A posted graph, with its queue item once it is invoked."""

    id: str
    posted: Any
    graph: GraphJson
    item: QueueItem | None = None

    def to_api(self, sandbox: Sandbox) -> dict[str, Any]:
        """Return the session as InvokeAI 3 wrote it."""
        item = self.item
        whole = {**(item.load_session() if item else initial_session(self.id, self.graph)), "graph": self.posted}
        if sandbox.options.api == "portable":
            whole["is_complete"] = item is not None and item.is_ended and item.session is not None
        return whole


async def _create_session(sandbox: Sandbox, request: web.Request) -> Any:
    """Create a session for a posted graph, not running yet. Raises RefusedError with 422."""
    body = await body_of(request)
    is_wrapped = sandbox.options.api == "portable"
    posted = body.get("graph") if is_wrapped and isinstance(body, Mapping) else body
    if (is_wrapped or posted) and not isinstance(posted, Mapping):
        raise refuse_value(("body", "graph"), "Field required")
    posted = posted or {"id": str(uuid.uuid4()), "nodes": {}, "edges": []}
    is_portable = isinstance(posted.get("nodes"), list)
    graph = await asyncio.to_thread(_translate, sandbox, posted) if is_portable else posted
    template = read_graph(_identify_models(sandbox, graph), sandbox.types, "body", "graph")
    session = Session(id=str(uuid.uuid4()), posted=posted, graph=template)
    sandbox.sessions[session.id] = session
    return session.to_api(sandbox)


def _list_sessions(sandbox: Sandbox, request: web.Request) -> Any:
    return cut_page(request, [session.to_api(sandbox) for session in sandbox.sessions.values()])


def _find_session(sandbox: Sandbox, session_id: str) -> Session:
    """Find a session; a sandbox forgets them when it ends. Raises RefusedError with 404."""
    session: Session | None = sandbox.sessions.get(session_id)
    if session is None:
        raise RefusedError(404, "Not Found")
    return session


async def _invoke_session(sandbox: Sandbox, _: web.Request, session_id: str) -> None:
    """Start a session. Raises RefusedError with 400 where it has run already."""
    session = _find_session(sandbox, session_id)
    if session.item is None:
        batch = Batch(batch_id=session.id, graph=session.graph)
        made = sandbox.queue.enqueue(_QUEUE, batch, prepend=False)
        if not made:
            raise RefusedError(503, "The queue is full")
        session.item = made[0]
        session.item.session_id = session.id
        await sandbox.store.save_items(made)
        sandbox.workers.wake()
    elif session.item.is_ended:
        raise RefusedError(400, "Session is already complete")


async def _cancel_session(sandbox: Sandbox, _: web.Request, session_id: str) -> None:
    item = _find_session(sandbox, session_id).item
    await sandbox.workers.cancel([item] if item else [])


def _list_session_images(sandbox: Sandbox, _: web.Request, session_id: str) -> Any:
    """Describe the images of a session that are not intermediate, in the order they were made."""
    session = _find_session(sandbox, session_id).to_api(sandbox)
    nodes = session["execution_graph"]["nodes"]
    kept = (
        result["image"]["image_name"]
        for prepared, result in session["results"].items()
        if nodes[prepared]["type"] in IMAGE_NODES and not nodes[prepared]["is_intermediate"]
    )
    return [sandbox.images.describe(name) for name in kept if name in sandbox.images.images]


def _list_models(sandbox: Sandbox, _: web.Request) -> Any:
    names = {"model_name": "name", "base_model": "base", "model_type": "type"}
    return {"models": [{to: getattr(model, name) for to, name in names.items()} for model in sandbox.models.values()]}


_S = "/api/v1/sessions"
SESSION_ROUTES = (
    route("GET", "/api/v1/models/", _list_models),
    route("POST", f"{_S}/", _create_session),
    route("GET", f"{_S}/", _list_sessions),
    route("GET", f"{_S}/{{session_id}}", lambda sandbox, _, **id_: _find_session(sandbox, **id_).to_api(sandbox)),
    route("PUT", f"{_S}/{{session_id}}/invoke", _invoke_session, 202),
    route("DELETE", f"{_S}/{{session_id}}/invoke", _cancel_session, 202),
)
SESSION_IMAGES = route("GET", f"{_S}/{{session_id}}/images", _list_session_images)  # of the portable form only


def _identify_models(sandbox: Sandbox, graph: Any) -> Any:
    """Replace references of InvokeAI 3, by name and base, with today's references of five keys."""
    if isinstance(graph, list):
        return [_identify_models(sandbox, value) for value in graph]
    if not isinstance(graph, Mapping):
        return graph
    if "model_name" not in graph or "base_model" not in graph:
        return {name: _identify_models(sandbox, value) for name, value in graph.items()}
    name, base, kind = graph["model_name"], graph["base_model"], graph.get("model_type")
    for model in sandbox.models.values():
        if (model.name, model.base) == (name, base) and kind in {None, model.type}:
            return identifier(model)
    return {"key": name, "hash": "", "name": name, "base": base, "type": kind or "main"}


def _translate(sandbox: Sandbox, document: Mapping[str, Any]) -> dict[str, Json]:
    """Translate a portable document to today's nodes, with the models that the sandbox has of their kind."""
    base = next((model.base for model in sandbox.models.values() if model.type == "main"), "sd-1")
    try:
        workflow = workflow_from(document).for_base(base)
    except WorkflowError as error:
        raise refuse_value(("body", "graph"), str(error)) from error

    def resolve(reference: Ref) -> Json:
        if not isinstance(reference, ModelRef):
            return reference.canonical()
        fitting = [model for model in sandbox.models.values() if model.type == reference.type]
        fitting.sort(key=lambda model: (model.name != reference.name, model.base != base))
        missing = Model(key=reference.name, hash="", name=reference.name, base=base, type=reference.type)
        return identifier((*fitting, missing)[0])

    files: dict[Address, Any] = {
        address: {"image_name": sandbox.images.find_upload(path) or path} for address, path in workflow.files.items()
    }
    return write_graph(workflow.graph.set(files), resolve)
