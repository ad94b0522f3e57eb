"""HTTP: /api/v1/sessions/…, as InvokeAI 3.0 to 3.3 had it and as the portable document describes it."""

from __future__ import annotations

from aiohttp import web

from sweep.sandbox import legacy_sessions as sessions
from sweep.sandbox.batches import RefusedError, integer
from sweep.sandbox.routes.common import body_of, reply, sandbox_of

session_routes = web.RouteTableDef()
of_portable = web.RouteTableDef()
_S = "/api/v1/sessions"


def _session(request: web.Request) -> sessions.Session:
    return sessions.find(sandbox_of(request), request.match_info["session_id"])


def _reply(request: web.Request, session: sessions.Session) -> web.Response:
    body = sessions.session_state(session)
    if sandbox_of(request).options.api == "portable":
        body["is_complete"] = sessions.complete_session(session)
    return reply(body)


@session_routes.post(f"{_S}/")
async def create_session(request: web.Request) -> web.Response:
    return _reply(request, sessions.make_session(sandbox_of(request), await body_of(request)))


@session_routes.get(f"{_S}/")
async def list_sessions(request: web.Request) -> web.Response:
    page, size = (integer(request.query.get(n, d), "query", n) for n, d in (("page", "0"), ("per_page", "10")))
    every = list(sandbox_of(request).sessions.values())
    items = [sessions.session_state(session) for session in every[page * size : (page + 1) * size]]
    return reply({"items": items, "page": page, "pages": -(-len(every) // size), "per_page": size, "total": len(every)})


@session_routes.get(f"{_S}/{{session_id}}")
async def get(request: web.Request) -> web.Response:
    return _reply(request, _session(request))


@session_routes.put(f"{_S}/{{session_id}}/invoke")
async def invoke_session(request: web.Request) -> web.Response:
    await sessions.start_session(sandbox_of(request), _session(request))
    return reply(None, 202)


@session_routes.delete(f"{_S}/{{session_id}}/invoke")
async def cancel_session(request: web.Request) -> web.Response:
    item = _session(request).item
    await sandbox_of(request).cancel([item] if item else [])
    return reply(None, 202)


@of_portable.get(f"{_S}/{{session_id}}/images")
async def images(request: web.Request) -> web.Response:
    images = sandbox_of(request).images
    names = sessions.session_image_names(_session(request))
    return reply([images.dto(name) for name in names if name in images.images])


async def unknown_sessions_route(_request: web.Request) -> web.Response:
    """Unknown paths were simply not found."""
    raise RefusedError(404, "Not Found")
