"""Routes of the server itself: its version and settings, logins, models, node types, workflows and injected faults."""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from typing import Any

from aiohttp import web

from sweep.errors import UsageError
from sweep.sandbox.http_requests import (
    RECORDS,
    TOKEN_SECONDS,
    RefusedError,
    body_of,
    cut_page,
    read_required,
    read_value,
    route,
)
from sweep.sandbox.item_workers import NODE_CACHE_SIZE
from sweep.sandbox.running_sandbox import Sandbox
from sweep.sandbox.sandbox_options import FaultInjection
from sweep.workflow import FieldSchema, NodeSchema, NodeSchemas


def _get_config(sandbox: Sandbox, _: web.Request) -> Any:
    options = sandbox.options
    facts = {"host": options.host, "port": options.port, "max_queue_size": options.queue_limit}
    facts |= {"node_cache_size": NODE_CACHE_SIZE, "multiuser": bool(options.users)}
    return {"set_fields": [], "config": {**RECORDS["runtime_config"], **facts}}


def _devices(sandbox: Sandbox, _: web.Request) -> Any:
    names = [sandbox.workers.name_device(n) for n in range(sandbox.options.workers)]
    return [{"device": name, "name": "CPU" if name == "cpu" else "Sandbox"} for name in names]


def _get_auth_status(sandbox: Sandbox, _: web.Request) -> Any:
    return {**RECORDS["auth_status"], "multiuser_enabled": bool(sandbox.options.users)}


async def _log_in(sandbox: Sandbox, request: web.Request) -> Any:
    body = await body_of(request)
    given = body if isinstance(body, dict) else {}
    token = sandbox.accounts.log_in(given.get("email"), given.get("password"))
    if token is None:
        raise RefusedError(401, "Incorrect email or password")
    user = {**RECORDS["user"], "user_id": given["email"], "email": given["email"]}
    return {"token": token, "user": user, "expires_in": int(TOKEN_SECONDS)}


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
    return {**RECORDS["openapi"], "components": {"schemas": classes}}


def _describe_node(schema: NodeSchema) -> dict[str, Any]:
    common = RECORDS["node_attributes"]
    fields = {name: _describe_field(field) for name, field in schema.fields.items()}
    is_cached = {**common["use_cache"], "default": schema.is_cached}
    kind = {**common["id"], "const": schema.type, "default": schema.type}
    return {
        "properties": {**common, "use_cache": is_cached, **fields, "type": kind},
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


_ModelType = StrEnum("_ModelType", RECORDS["model_types"])  # type: ignore[misc]  # its members are data


def _find_models(sandbox: Sandbox, request: web.Request) -> list[dict[str, Any]]:
    """List the models that a query asks for."""
    query = request.query
    kind, bases = query.get("model_type", "main"), query.getall("base_models", [])
    read_value(_ModelType, kind, "query", "model_type")
    return [
        record
        for record in sandbox.models.values()
        if all(query.get(f"model_{name}", record[name]) == record[name] for name in ("type", "name", "format"))
        and (not bases or record["base"] in bases)
    ]


def _list_models_of_version_3(sandbox: Sandbox, request: web.Request) -> Any:
    named = {f"model_{name}": name for name in ("name", "type", "format")} | {"base_model": "base"}
    same = {name: name for name in ("path", "description", "error", "variant")}
    records = _find_models(sandbox, request)
    return {"models": [{to: record.get(name) for to, name in (named | same).items()} for record in records]}


def _get_model(sandbox: Sandbox, _: web.Request, key: str) -> Any:
    if key not in sandbox.models:
        raise RefusedError(404, "model not found")
    return sandbox.models[key]


def _get_model_by_attributes(sandbox: Sandbox, request: web.Request) -> Any:
    names = ("name", "type", "base")
    asked = read_required(request.query, *names)
    for record in sandbox.models.values():
        if [record[name] for name in names] == asked:
            return record
    raise RefusedError(404, "No model found with these attributes")


async def _set_faults(sandbox: Sandbox, request: web.Request) -> None:
    try:
        sandbox.faults = FaultInjection(**(await body_of(request) or {}))
    except (TypeError, UsageError) as error:
        raise RefusedError(422, str(error)) from error


SERVER_ROUTES = (
    route("GET", "/api/v1/app/version", lambda sandbox, _: {"version": sandbox.version, "sandbox": True}),
    route("GET", "/api/v1/app/runtime_config", _get_config),
    route("GET", "/api/v1/app/generation_device_options", _devices),
    route("GET", "/api/v1/app/invocation_cache/status", lambda sandbox, _: sandbox.workers.cache.status()),
    route("GET", "/api/v1/auth/status", _get_auth_status),
    route("POST", "/api/v1/auth/login", _log_in),
    route("GET", "/openapi.json", _openapi),
    route("GET", "/api/v1/workflows/", _list_workflows),
    route("GET", "/api/v1/workflows/i/{workflow_id}", _get_workflow),
    route("GET", "/sandbox/renders", lambda sandbox, _: dict(sandbox.renders)),
    route("GET", "/sandbox/stats", lambda sandbox, _: sandbox.stats()),
    route("PUT", "/sandbox/faults", _set_faults),
)
MODEL_ROUTES = (
    route("GET", "/api/v2/models/", lambda sandbox, request: {"models": _find_models(sandbox, request)}),
    route("GET", "/api/v2/models/get_by_attrs", _get_model_by_attributes),
    route("GET", "/api/v2/models/i/{key}", _get_model),
)
OLD_MODEL_ROUTES = (route("GET", "/api/v1/models/", _list_models_of_version_3),)
