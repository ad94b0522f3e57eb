"""Reads a workflow file into JSON: text, or the workflow a picture carries. Nothing in it is believed yet."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from sweep.errors import WorkflowError

MAX_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 100  # of lists and objects in each other; the deepest real workflow has about ten
_PNG = b"\x89PNG\r\n\x1a\n"
_PICTURES = (b"\xff\xd8\xff", b"RIFF", b"GIF8")


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in a file, or in the text of a PNG that InvokeAI wrote.

    Of a picture that holds both, the graph as it was rendered counts, with the editor's workflow beside it under
    `workflow` for names and labels. Raises WorkflowError in one sentence.
    """
    shown = path.name
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WorkflowError(f"{shown} is larger than {MAX_BYTES // 1024 // 1024} MB: that is no workflow.")
        content = path.read_bytes()
    except OSError as error:
        raise WorkflowError(f"{path} cannot be read: {error.strerror or error}.") from error
    if content.startswith(_PNG):
        return _from_png(path, shown)
    if content.startswith(_PICTURES):
        raise WorkflowError(f"{shown} is a picture; only PNG files carry a workflow.")
    return parse_object(content, shown)


def parse_object(content: bytes | str, shown: str) -> dict[str, Any]:
    """The JSON object in a text. Raises WorkflowError for anything else, `shown` being what the text is called."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        document = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        empty = not content.strip()
        why = f"{shown} is empty." if empty else f"{shown} is not JSON: {error.msg} in {where}."
        raise WorkflowError(why) from error
    except UnicodeDecodeError as error:
        raise WorkflowError(f"{shown} is not a text file.") from error
    except RecursionError as error:
        raise WorkflowError(f"{shown} is nested too deep to be a workflow.") from error
    except ValueError as error:
        raise WorkflowError(f"{shown} is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise WorkflowError(f"{shown} holds no workflow: it is {_kind(document)}, not an object with nodes and edges.")
    if _deeper_than(document, MAX_DEPTH):
        raise WorkflowError(f"{shown} is nested too deep to be a workflow.")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _deeper_than(value: Any, limit: int) -> bool:
    layer: list[Any] = [value]
    for _ in range(limit):
        layer = [child for parent in layer for child in _children(parent)]
        if not layer:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _from_png(path: Path, shown: str) -> dict[str, Any]:
    from PIL import Image, UnidentifiedImageError  # costs 40 ms, and few workflows are pictures

    try:
        with Image.open(path) as picture:
            texts = getattr(picture, "text", {})
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise WorkflowError(f"{shown} is a damaged PNG.") from error
    found = {name: texts[key] for name, key in _CHUNKS.items() if isinstance(texts.get(key), str)}
    if not found:
        raise WorkflowError(f"{shown} carries no workflow: it was not made by InvokeAI, or lost its text since.")
    return {name: parse_object(text, f"the {name} in {shown}") for name, text in found.items()}


_CHUNKS = {"graph": "invokeai_graph", "workflow": "invokeai_workflow"}
