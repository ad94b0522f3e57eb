"""Routes of images and boards."""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from typing import Any

from aiohttp import web

from sweep.sandbox.http_requests import RefusedError, cut_window, read_required, read_value, refuse, reply, route
from sweep.sandbox.image_library import spoil_image
from sweep.sandbox.running_sandbox import Sandbox

_Category = StrEnum("_Category", ["general", "mask", "control", "user", "other"])
_KEEP = {"Cache-Control": "max-age=31536000"}


def _is_true(text: str) -> bool:
    return text.lower() in {"true", "1"}


async def _upload(sandbox: Sandbox, request: web.Request) -> web.Response:
    category, intermediate = read_required(request.query, "image_category", "is_intermediate")
    read_value(_Category, category, "query", "image_category")
    form = await request.post()
    file, metadata = form.get("file"), form.get("metadata")
    if not isinstance(file, web.FileField):
        raise refuse("missing", ("body", "file"), "Field required")
    if not file.content_type.startswith("image"):
        raise RefusedError(415, "Not an image")
    try:
        record = await sandbox.images.upload(
            await asyncio.to_thread(file.file.read),
            image_category=category,
            is_intermediate=_is_true(intermediate),
            metadata=metadata if isinstance(metadata, str) else None,
            file_name=file.filename,
            **{name: request.query.get(name) for name in ("board_id", "session_id")},
        )
    except (OSError, ValueError) as error:
        raise RefusedError(415, "Failed to read image") from error
    response = reply(sandbox.images.describe(record["image_name"]), 201)
    response.headers["Location"] = record["image_url"]
    return response


def _list_names(sandbox: Sandbox, request: web.Request) -> list[str]:
    found = sandbox.images.select(request.query, request.query.getall("categories", []))
    return [record["image_name"] for record in found]


def _list_images(sandbox: Sandbox, request: web.Request) -> Any:
    found = cut_window(request, _list_names(sandbox, request))
    return {**found, "items": [sandbox.images.describe(name) for name in found["items"]]}


def _list_image_names(sandbox: Sandbox, request: web.Request) -> Any:
    names = _list_names(sandbox, request)
    return {"image_names": names, "starred_count": 0, "total_count": len(names)}


async def _delete_image(sandbox: Sandbox, _: web.Request, name: str) -> Any:
    if name not in sandbox.images.images:
        raise RefusedError(404, "Image not found")
    board = sandbox.images.images[name]["board_id"] or "none"
    await sandbox.images.delete(name)
    sandbox.workers.cache.forget(name)
    return {"affected_boards": [board], "deleted_images": [name], "failed_images": []}


async def _serve_image(sandbox: Sandbox, _: web.Request, name: str) -> web.Response:
    record = sandbox.images.get_record(name)
    content = spoil_image(await sandbox.images.content(record["image_name"]), record.get("bad"))
    headers = {**_KEEP, "Content-Disposition": f'inline; filename="{record["image_name"]}"'}
    return web.Response(body=content, content_type="image/png", headers=headers)


async def _serve_thumbnail(sandbox: Sandbox, _: web.Request, name: str) -> web.Response:
    content = await asyncio.to_thread(sandbox.images.shrink, name)
    return web.Response(body=content, content_type="image/webp", headers=_KEEP)


def _read_metadata(sandbox: Sandbox, _: web.Request, name: str) -> Any:
    text = sandbox.images.get_record(name).get("metadata")
    return json.loads(text) if text else None


def _list_boards(sandbox: Sandbox, request: web.Request) -> Any:
    found = [
        {**board, "image_count": len(_list_on_board(sandbox, board_id)), "owner_username": "System"}
        for board_id, board in sandbox.images.boards.items()
    ]
    return found if _is_true(request.query.get("all", "")) else cut_window(request, found)


def _list_on_board(sandbox: Sandbox, board_id: str) -> list[str]:
    wanted = None if board_id == "none" else board_id
    if wanted is not None and wanted not in sandbox.images.boards:
        raise RefusedError(404, "Board not found")
    return [record["image_name"] for record in sandbox.images.images.values() if record["board_id"] == wanted]


async def _delete_board(sandbox: Sandbox, request: web.Request, board_id: str) -> Any:
    _list_on_board(sandbox, board_id)  # refuses an unknown board
    with_images = _is_true(request.query.get("include_images", ""))
    return await sandbox.images.delete_board(board_id, with_images=with_images)


_IMAGES, _BOARDS = "/api/v1/images", "/api/v1/boards"
IMAGE_ROUTES = (
    route("POST", f"{_IMAGES}/upload", _upload),
    route("GET", f"{_IMAGES}/", _list_images),
    route("GET", f"{_IMAGES}/names", _list_image_names),
    route("GET", f"{_IMAGES}/i/{{name}}", lambda sandbox, _, name: sandbox.images.describe(name)),
    route("DELETE", f"{_IMAGES}/i/{{name}}", _delete_image),
    route("GET", f"{_IMAGES}/i/{{name}}/full", _serve_image),
    route("GET", f"{_IMAGES}/i/{{name}}/thumbnail", _serve_thumbnail),
    route("GET", f"{_IMAGES}/i/{{name}}/metadata", _read_metadata),
    route(
        "POST",
        f"{_BOARDS}/",
        lambda sandbox, request: sandbox.images.create_board(*read_required(request.query, "board_name")),
        201,
    ),
    route("GET", f"{_BOARDS}/", _list_boards),
    route("GET", f"{_BOARDS}/{{board_id}}/image_names", lambda sandbox, _, **board: _list_on_board(sandbox, **board)),
    route("DELETE", f"{_BOARDS}/{{board_id}}", _delete_board),
)
