"""HTTP: models, as InvokeAI 4 and later list them and as 3 did."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from sweep.sandbox.batches import RefusedError, fault, read_required
from sweep.sandbox.routes.common import reply, sandbox_of

model_routes = web.RouteTableDef()
of_version_3 = web.RouteTableDef()
_MODELS = "/api/v2/models"
_TYPES = (
    *("onnx", "main", "vae", "lora", "control_lora", "controlnet", "embedding", "ip_adapter", "clip_vision"),
    *("clip_embed", "t2i_adapter", "t5_encoder", "qwen3_encoder", "qwen_vl_encoder", "qwen3_vl_encoder"),
    *("mistral_encoder", "wan_t5_encoder", "gemma2_encoder", "spandrel_image_to_image", "siglip", "flux_redux"),
    *("llava_onevision", "prompt_enhancer", "text_llm", "external_image_generator", "pid_decoder", "unknown"),
)


@model_routes.get(f"{_MODELS}/")
async def list_models(request: web.Request) -> web.Response:
    query = request.query
    kind = query.get("model_type", "main")
    if kind not in _TYPES:
        expected = ", ".join(f"'{name}'" for name in _TYPES[:-1]) + f" or '{_TYPES[-1]}'"
        raise RefusedError(
            422, [fault("enum", ("query", "model_type"), f"Input should be {expected}", kind, {"expected": expected})]
        )
    wanted = [
        record
        for record in sandbox_of(request).models.values()
        if query.get("model_type") in {None, record["type"]}
        and query.get("model_name") in {None, record["name"]}
        and query.get("model_format") in {None, record["format"]}
        and ("base_models" not in query or record["base"] in query.getall("base_models"))
    ]
    return reply({"models": wanted})


@model_routes.get(f"{_MODELS}/get_by_attrs")
async def model_by_attrs(request: web.Request) -> web.Response:
    asked = read_required(request.query, ["name", "type", "base"])
    return _model(request, lambda record: [record["name"], record["type"], record["base"]] == asked)


@model_routes.get(f"{_MODELS}/get_by_hash")
async def model_by_hash(request: web.Request) -> web.Response:
    (asked,) = read_required(request.query, ["hash"])
    return _model(request, lambda record: record["hash"] == asked)


@model_routes.get(f"{_MODELS}/i/{{key}}")
async def model_by_key(request: web.Request) -> web.Response:
    key = request.match_info["key"]
    return _model(request, lambda record: record["key"] == key, "model not found")


def _model(request: web.Request, fits: Any, missing: str = "No model found with these attributes") -> web.Response:
    found = next((record for record in sandbox_of(request).models.values() if fits(record)), None)
    if found is None:
        raise RefusedError(404, missing)
    return reply(found)


@model_routes.get(f"{_MODELS}/stats")
async def model_stats(request: web.Request) -> web.Response:
    sandbox = sandbox_of(request)
    loads = sum(sandbox.processor.model_loads.values())
    loaded = [sandbox.models[key] for key in sandbox.processor.loaded]
    sizes = {f"{record['base']}:main:{record['name']}:unet": record["file_size"] for record in loaded}
    counts = {"hits": 0, "misses": loads, "high_watermark": 0, "in_cache": len(sizes), "cleared": 0, "cache_size": 0}
    return reply({**counts, "loaded_model_sizes": sizes})


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
