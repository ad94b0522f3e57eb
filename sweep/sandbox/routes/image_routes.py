"""Routes of images and boards."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from sweep.sandbox.http_requests import RefusedError, cut_window, read_parameter, refuse, reply, route
from sweep.sandbox.image_library import spoil_image
from sweep.sandbox.running_sandbox import Sandbox


def _is_true(text: str) -> bool:
    return text.lower() in {"true", "1"}


async def _upload(sandbox: Sandbox, request: web.Request) -> web.Response:
    category, intermediate = (read_parameter(request, name) for name in ("image_category", "is_intermediate"))
    form = await request.post()
    file = form.get("file")
    if not isinstance(file, web.FileField):
        raise refuse("missing", ("body", "file"), "Field required")
    facts = {"image_category": category, "is_intermediate": _is_true(intermediate), "file_name": file.filename}
    try:
        record = await sandbox.images.upload(await asyncio.to_thread(file.file.read), **facts)
    except (OSError, ValueError) as error:
        raise RefusedError(415, "Failed to read image") from error
    return reply(sandbox.images.describe(record["image_name"]), 201)


def _list_images(sandbox: Sandbox, request: web.Request) -> Any:
    """List the images that a query asks for, the newest first."""
    found = list(reversed(sandbox.images.images.values()))
    if "is_intermediate" in request.query:
        flag = _is_true(request.query["is_intermediate"])
        found = [record for record in found if record["is_intermediate"] == flag]
    if "board_id" in request.query:
        found = [record for record in found if record["board_id"] == request.query["board_id"]]
    listed = cut_window(request, found)
    return {**listed, "items": [sandbox.images.describe(record["image_name"]) for record in listed["items"]]}


async def _delete_image(sandbox: Sandbox, _: web.Request, name: str) -> Any:
    await sandbox.images.delete(name)
    sandbox.context.outputs.clear()  # some may name it
    return {"deleted_images": [name]}


async def _serve_image(sandbox: Sandbox, _: web.Request, name: str) -> web.Response:
    record = sandbox.images.get_record(name)
    content = spoil_image(await sandbox.images.content(record["image_name"]), record.get("bad"))
    return web.Response(body=content, content_type="image/png")


async def _create_board(sandbox: Sandbox, request: web.Request) -> Any:
    return await sandbox.images.create_board(read_parameter(request, "board_name"))


_IMAGES, _BOARDS = "/api/v1/images", "/api/v1/boards"
IMAGE_ROUTES = (
    route("POST", f"{_IMAGES}/upload", _upload),
    route("GET", f"{_IMAGES}/", _list_images),
    route("GET", f"{_IMAGES}/i/{{name}}", lambda sandbox, _, name: sandbox.images.describe(name)),
    route("DELETE", f"{_IMAGES}/i/{{name}}", _delete_image),
    route("GET", f"{_IMAGES}/i/{{name}}/full", _serve_image),
    route("POST", f"{_BOARDS}/", _create_board, 201),
    route("GET", f"{_BOARDS}/", lambda sandbox, _: list(sandbox.images.boards.values())),
)
