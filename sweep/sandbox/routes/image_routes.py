"""Routes of images and boards."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from sweep.sandbox.batches import RefusedError, read_required, refuse_choice, refuse_missing
from sweep.sandbox.image_library import UnsavableImageError, spoil_image
from sweep.sandbox.routes.middleware import read_page, reply, route
from sweep.sandbox.service import Sandbox

_CATEGORIES = ("general", "mask", "control", "user", "other")
_KEEP = {"Cache-Control": "max-age=31536000"}


def _is_true(text: str) -> bool:
    return text.lower() in {"true", "1"}


async def _upload(sandbox: Sandbox, request: web.Request) -> web.Response:
    category, intermediate = read_required(request.query, "image_category", "is_intermediate")
    if category not in _CATEGORIES:
        raise refuse_choice(("query", "image_category"), category, _CATEGORIES)
    form = await request.post()
    file, metadata = form.get("file"), form.get("metadata")
    if not isinstance(file, web.FileField):
        raise refuse_missing(("body", "file"))
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
    except UnsavableImageError as error:
        raise RefusedError(500, "Failed to create image") from error
    response = reply(sandbox.images.dto(record["image_name"]), 201)
    response.headers["Location"] = record["image_url"]
    return response


def _list_names(sandbox: Sandbox, request: web.Request) -> list[str]:
    found = sandbox.images.listed(request.query, request.query.getall("categories", []))
    return [record["image_name"] for record in found]


def _list_images(sandbox: Sandbox, request: web.Request) -> Any:
    names = _list_names(sandbox, request)
    offset, limit = read_page(request, offset=0, limit=10)
    items = [sandbox.images.dto(name) for name in names[offset : offset + limit]]
    return {"limit": limit, "offset": offset, "total": len(names), "items": items}


def _list_image_names(sandbox: Sandbox, request: web.Request) -> Any:
    names = _list_names(sandbox, request)
    return {"image_names": names, "starred_count": 0, "total_count": len(names)}


def _describe_image(sandbox: Sandbox, request: web.Request) -> Any:
    return sandbox.images.dto(request.match_info["name"])


async def _delete_image(sandbox: Sandbox, request: web.Request) -> Any:
    name = request.match_info["name"]
    if name not in sandbox.images.images:
        raise RefusedError(404, "Image not found")
    board = sandbox.images.images[name]["board_id"] or "none"
    await sandbox.images.delete(name)
    sandbox.workers.cache.forget(name)
    return {"affected_boards": [board], "deleted_images": [name], "failed_images": []}


async def _serve_image(sandbox: Sandbox, request: web.Request) -> web.Response:
    record = sandbox.images.record(request.match_info["name"])
    content = spoil_image(await sandbox.images.content(record["image_name"]), record.get("bad"))
    headers = {**_KEEP, "Content-Disposition": f'inline; filename="{record["image_name"]}"'}
    return web.Response(body=content, content_type="image/png", headers=headers)


async def _serve_thumbnail(sandbox: Sandbox, request: web.Request) -> web.Response:
    content = await asyncio.to_thread(sandbox.images.thumbnail, request.match_info["name"])
    return web.Response(body=content, content_type="image/webp", headers=_KEEP)


def _read_metadata(sandbox: Sandbox, request: web.Request) -> Any:
    text = sandbox.images.record(request.match_info["name"]).get("metadata")
    return json.loads(text) if text else None


async def _create_board(sandbox: Sandbox, request: web.Request) -> Any:
    (name,) = read_required(request.query, "board_name")
    return await sandbox.images.create_board(name)


def _list_boards(sandbox: Sandbox, request: web.Request) -> Any:
    found = [_describe_board(sandbox, board_id) for board_id in sandbox.images.boards]
    if _is_true(request.query.get("all", "")):
        return found
    offset, limit = read_page(request, offset=0, limit=10)
    return {"limit": limit, "offset": offset, "total": len(found), "items": found[offset : offset + limit]}


def _get_board(sandbox: Sandbox, request: web.Request) -> Any:
    return _describe_board(sandbox, _board_id(sandbox, request))


def _describe_board(sandbox: Sandbox, board_id: str) -> dict[str, Any]:
    count = sum(record["board_id"] == board_id for record in sandbox.images.images.values())
    return {**sandbox.images.boards[board_id], "image_count": count, "owner_username": "System"}


def _board_id(sandbox: Sandbox, request: web.Request) -> str:
    board_id = request.match_info["board_id"]
    if board_id not in sandbox.images.boards:
        raise RefusedError(404, "Board not found")
    return board_id


def _list_board_images(sandbox: Sandbox, request: web.Request) -> Any:
    wanted = None if request.match_info["board_id"] == "none" else _board_id(sandbox, request)
    return [record["image_name"] for record in sandbox.images.images.values() if record["board_id"] == wanted]


async def _delete_board(sandbox: Sandbox, request: web.Request) -> Any:
    with_images = _is_true(request.query.get("include_images", ""))
    return await sandbox.images.delete_board(_board_id(sandbox, request), with_images=with_images)


_IMAGES, _BOARDS = "/api/v1/images", "/api/v1/boards"
IMAGE_ROUTES = (
    route("POST", f"{_IMAGES}/upload", _upload),
    route("GET", f"{_IMAGES}/", _list_images),
    route("GET", f"{_IMAGES}/names", _list_image_names),
    route("GET", f"{_IMAGES}/i/{{name}}", _describe_image),
    route("DELETE", f"{_IMAGES}/i/{{name}}", _delete_image),
    route("GET", f"{_IMAGES}/i/{{name}}/full", _serve_image),
    route("GET", f"{_IMAGES}/i/{{name}}/thumbnail", _serve_thumbnail),
    route("GET", f"{_IMAGES}/i/{{name}}/metadata", _read_metadata),
    route("POST", f"{_BOARDS}/", _create_board, 201),
    route("GET", f"{_BOARDS}/", _list_boards),
    route("GET", f"{_BOARDS}/{{board_id}}", _get_board),
    route("GET", f"{_BOARDS}/{{board_id}}/image_names", _list_board_images),
    route("DELETE", f"{_BOARDS}/{{board_id}}", _delete_board),
)
