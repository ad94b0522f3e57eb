"""JSON that somebody else wrote, read as an object or refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from sweep.errors import WorkflowError

MAX_WORKFLOW_DEPTH: Final = 100  # of lists and objects in each other; the deepest real workflow has about ten


def parse_object(content: bytes | str, shown: str) -> dict[str, Any]:
    """Return the JSON object in a text, which errors call `shown`. Raises WorkflowError for anything else."""
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
    if _deeper_than(document, MAX_WORKFLOW_DEPTH):
        raise WorkflowError(f"{shown} is nested too deep to be a workflow.")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


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
