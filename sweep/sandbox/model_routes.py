"""HTTP: models, as InvokeAI 4 and later list them and as 3 did."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from sweep.sandbox.http import reply, sandbox_of
from sweep.sandbox.requests import RefusedError, required

routes = web.RouteTableDef()
of_version_3 = web.RouteTableDef()
_MODELS = "/api/v2/models"


@routes.get(f"{_MODELS}/")
async def models(request: web.Request) -> web.Response:
    query = request.query
    wanted = [
        record
        for record in sandbox_of(request).models.values()
        if query.get("model_type") in {None, record["type"]}
        and query.get("model_name") in {None, record["name"]}
        and query.get("model_format") in {None, record["format"]}
        and ("base_models" not in query or record["base"] in query.getall("base_models"))
    ]
    return reply({"models": wanted})


@routes.get(f"{_MODELS}/get_by_attrs")
async def model_by_attrs(request: web.Request) -> web.Response:
    asked = required(request.query, ["name", "type", "base"])
    return _model(request, lambda record: [record["name"], record["type"], record["base"]] == asked)


@routes.get(f"{_MODELS}/get_by_hash")
async def model_by_hash(request: web.Request) -> web.Response:
    (asked,) = required(request.query, ["hash"])
    return _model(request, lambda record: record["hash"] == asked)


@routes.get(f"{_MODELS}/i/{{key}}")
async def model_by_key(request: web.Request) -> web.Response:
    key = request.match_info["key"]
    return _model(request, lambda record: record["key"] == key, "model not found")


def _model(request: web.Request, fits: Any, missing: str = "No model found with these attributes") -> web.Response:
    found = next((record for record in sandbox_of(request).models.values() if fits(record)), None)
    if found is None:
        raise RefusedError(404, missing)
    return reply(found)


@of_version_3.get("/api/v1/models/")
async def old_models(request: web.Request) -> web.Response:
    query = request.query
    wanted = [
        {
            "model_name": record["name"],
            "base_model": record["base"],
            "model_type": record["type"],
            "path": record["path"],
            "description": record["description"],
            "model_format": record["format"],
            "error": None,
            "variant": record.get("variant"),
        }
        for record in sandbox_of(request).models.values()
        if query.get("model_type") in {None, record["type"]}
        and ("base_models" not in query or record["base"] in query.getall("base_models"))
    ]
    return reply({"models": wanted})
