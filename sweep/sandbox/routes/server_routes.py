"""Routes of the server itself: its version and settings, logins, models, node types, workflows and counted renders."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any

from aiohttp import web

from sweep.sandbox.http_requests import TOKEN_SECONDS, RefusedError, body_of, cut_page, route
from sweep.sandbox.running_sandbox import Sandbox
from sweep.workflow import FieldSchema, NodeSchema, NodeSchemas


def _get_config(sandbox: Sandbox, _: web.Request) -> Any:
    return {"config": {"max_queue_size": sandbox.options.queue_limit, "generation_devices": "auto"}}


def _list_devices(sandbox: Sandbox, _: web.Request) -> Any:
    return [{"device": f"cuda:{n}"} for n in range(sandbox.options.workers)]


def _get_auth_status(sandbox: Sandbox, _: web.Request) -> Any:
    return {"setup_required": False, "multiuser_enabled": bool(sandbox.options.users)}


async def _log_in(sandbox: Sandbox, request: web.Request) -> Any:
    body = await body_of(request)
    given = body if isinstance(body, dict) else {}
    token = sandbox.accounts.log_in(given.get("email"), given.get("password"))
    if token is None:
        raise RefusedError(401, "Incorrect email or password")
    return {"token": token, "user": {"email": given["email"]}, "expires_in": TOKEN_SECONDS}


async def _openapi(sandbox: Sandbox, _: web.Request) -> web.Response:
    text = await asyncio.to_thread(lambda: json.dumps(write_openapi(sandbox.types.schemas)))
    return web.Response(body=text.encode(), content_type="application/json")


_PRIMITIVES = frozenset({"integer", "number", "string", "boolean", "object", "array"})
_BOUNDS = {"minimum": "minimum", "maximum": "maximum", "exclusive_minimum": "exclusiveMinimum"}
_BOUNDS |= {"exclusive_maximum": "exclusiveMaximum", "multiple_of": "multipleOf"}


def write_openapi(schemas: NodeSchemas) -> dict[str, Any]:
    """Write an OpenAPI document from which a client reads back exactly these schemas."""
    classes: dict[str, Any] = {}
    for schema in schemas.values():
        name = "".join(part.title() for part in schema.type.split("_")) + "Invocation"
        classes[name] = {"class": "invocation", "title": name, "type": "object", **_describe_node(schema)}
        outputs = {name: {**_refer(kind), "field_kind": "output"} for name, kind in schema.outputs.items()}
        output = {"class": "output", "title": schema.output_class, "type": "object", "properties": outputs}
        classes.setdefault(schema.output_class, output)
    about = {"title": "sweep sandbox", "version": "1.0.0"}
    return {"openapi": "3.1.0", "info": about, "paths": {}, "components": {"schemas": classes}}


def _describe_node(schema: NodeSchema) -> dict[str, Any]:
    attribute = {"field_kind": "node_attribute"}
    common = {
        "id": {**attribute, "type": "string"},
        "is_intermediate": {**attribute, "type": "boolean", "default": False, "input": "direct"},
        "use_cache": {**attribute, "type": "boolean", "default": schema.is_cached},
        "type": {**attribute, "type": "string", "const": schema.type, "default": schema.type},
    }
    fields = {name: _describe_field(field) for name, field in schema.fields.items()}
    return {
        "properties": {**common, **fields},
        "required": ["type", "id"],
        "output": _refer(schema.output_class),
    }


def _describe_field(field: FieldSchema) -> dict[str, Any]:
    one = {**_refer(field.type), **({"enum": list(field.choices)} if field.choices else {})}
    many = {"type": "array", "items": _refer(field.items or "any")}
    kinds = [] if field.type == "array" else [one]
    kinds += [many] if field.type == "array" or field.items else []
    kinds += [{"type": "null"}] if field.nullable else []
    facts: dict[str, Any] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    facts |= {"field_kind": "input", "input": field.input, "orig_required": field.required, "default": field.default}
    facts |= {said: bound for slot, said in _BOUNDS.items() if (bound := getattr(field, slot)) is not None}
    facts |= {"ui_model_type": list(field.model_types)} if field.model_types else {}
    facts |= {"ui_model_base": list(field.model_bases)} if field.model_bases else {}
    return facts


def _refer(kind: str) -> dict[str, Any]:
    """Return the schema of a type: a primitive one, a reference to its class, or nothing where any will do."""
    if kind == "any":
        return {}
    return {"type": kind} if kind in _PRIMITIVES else {"$ref": f"#/components/schemas/{kind}"}


def _list_workflows(sandbox: Sandbox, request: web.Request) -> Any:
    """List the workflow library, which a sandbox keeps in memory only."""
    kept = sandbox.workflows.values()
    return cut_page(request, [{key: record[key] for key in record if key != "workflow"} for record in kept])


def _get_workflow(sandbox: Sandbox, _: web.Request, workflow_id: str) -> Any:
    if workflow_id not in sandbox.workflows:
        raise RefusedError(404, "Workflow not found")
    return sandbox.workflows[workflow_id]


def _list_models(sandbox: Sandbox, _: web.Request) -> Any:
    return {"models": list(map(asdict, sandbox.models.values()))}


def _list_models_of_version_3(sandbox: Sandbox, _: web.Request) -> Any:
    names = {"model_name": "name", "base_model": "base", "model_type": "type"}
    return {"models": [{to: getattr(model, name) for to, name in names.items()} for model in sandbox.models.values()]}


SERVER_ROUTES = (
    route("GET", "/api/v1/app/version", lambda sandbox, _: {"version": sandbox.version, "sandbox": True}),
    route("GET", "/api/v1/app/runtime_config", _get_config),
    route("GET", "/api/v1/app/generation_device_options", _list_devices),
    route("GET", "/api/v1/auth/status", _get_auth_status),
    route("POST", "/api/v1/auth/login", _log_in),
    route("GET", "/openapi.json", _openapi),
    route("GET", "/api/v1/workflows/", _list_workflows),
    route("GET", "/api/v1/workflows/i/{workflow_id}", _get_workflow),
    route("GET", "/sandbox/renders", lambda sandbox, _: dict(sandbox.renders)),
)
MODEL_ROUTES = (route("GET", "/api/v2/models/", _list_models),)
OLD_MODEL_ROUTES = (route("GET", "/api/v1/models/", _list_models_of_version_3),)
