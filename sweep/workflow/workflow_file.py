"""Loads a workflow file, JSON or PNG, in any format of any family."""

from __future__ import annotations

import json
import os
import pkgutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, Final, NoReturn

from sweep.errors import WorkflowError, did_you_mean
from sweep.text import quote_argument
from sweep.workflow.dialect import Dialect, NodeSchemas
from sweep.workflow.graph import Workflow

MAX_WORKFLOW_BYTES: Final = 64 * 1024 * 1024
MAX_WORKFLOW_DEPTH: Final = 100  # of lists and objects in each other; the deepest real workflow has about ten
_PNG = b"\x89PNG\r\n\x1a\n"
_IMAGES = (b"\xff\xd8\xff", b"RIFF", b"GIF8")


@cache
def load_dialects() -> tuple[Dialect, ...]:
    """Return the dialects of all families, in the order in which they are asked whose a document is.

    Each package beside this module is a family, and `FAMILY_dialect.py` in it holds its own.
    """
    families = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.ispkg)
    return tuple(getattr(import_module(f"{__package__}.{name}.{name}_dialect"), name.upper()) for name in families)


def read_document(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or in the text of a PNG that a server wrote.

    Of an image that holds both, the graph as it was rendered counts, with the editor's workflow beside it under
    `workflow` for names and labels. Raises WorkflowError in one sentence.
    """
    shown = path.name
    try:
        if path.stat().st_size > MAX_WORKFLOW_BYTES:
            raise WorkflowError(f"{shown} is larger than {MAX_WORKFLOW_BYTES // 1024**2} MB: workflows are smaller.")
        content = path.read_bytes()
    except OSError as error:
        raise WorkflowError(f"{path} cannot be read: {error.strerror or error}.") from error
    if content.startswith(_PNG):
        return _read_png(path)
    if content.startswith(_IMAGES):
        raise WorkflowError(f"{shown} is an image; only PNG files contain a workflow.")
    return parse_object(content, shown)


def _read_png(path: Path) -> dict[str, Any]:
    from PIL import Image  # costs 40 ms, and few workflows are images

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                texts = getattr(image, "text", {})
    except Image.DecompressionBombError as error:
        raise WorkflowError(f"{path.name} has too many pixels to be read.") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise WorkflowError(f"{path.name} is a damaged PNG.") from error
    for dialect in load_dialects():
        found = {name: texts[key] for name, key in dialect.image_texts.items() if isinstance(texts.get(key), str)}
        if found.keys() - {"metadata"}:
            read = partial(parse_object, constant=lambda _: None)  # servers write NaN beside nodes they never cache
            return {name: read(text, f"the {name} in {path.name}") for name, text in found.items()}
    families = " or ".join(dialect.name for dialect in load_dialects())
    raise WorkflowError(
        f"{path.name} contains no workflow. Either it was not made by {families}, or another program has removed "
        "its workflow.",
        hint="To use it as the source image, give a built-in workflow: "
        f"sweep run img2img --image {quote_argument(os.path.relpath(path))}.",
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def parse_object(content: bytes | str, shown: str, constant: Callable[[str], Any] = _refuse_constant) -> dict[str, Any]:
    """Return the JSON object in a text, which errors call `shown`. Raises WorkflowError for anything else.

    NaN and Infinity are no JSON, but some programs write them: `constant` returns the value of one.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        document = json.loads(text, parse_constant=constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        why = f"is not JSON: {error.msg} in {where}." if content.strip() else "is empty."
        raise WorkflowError(f"{shown} {why}") from error
    except UnicodeDecodeError as error:
        raise WorkflowError(f"{shown} is not a text file.") from error
    except RecursionError as error:
        raise WorkflowError(f"{shown} is nested too deep to be a workflow.") from error
    except ValueError as error:
        raise WorkflowError(f"{shown} is not JSON: {error}.") from error
    if not isinstance(document, dict):
        names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
        kind = names.get(type(document), "a number")
        raise WorkflowError(f"{shown} is not a workflow; it is {kind}, not an object with nodes and edges.")
    layer: list[Any] = [document]
    for _ in range(MAX_WORKFLOW_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in layer if isinstance(each, dict | list))
        layer = list(chain.from_iterable(inner))
    if layer:
        raise WorkflowError(f"{shown} is nested too deep to be a workflow.")
    return document


def load_packaged_schemas(family: str) -> NodeSchemas:
    """Return the node types packaged with sweep of a family by its name, in any case. Raises WorkflowError."""
    dialects = {dialect.name.lower(): dialect for dialect in load_dialects()}
    if family.lower() not in dialects:
        near = did_you_mean(family.lower(), dialects) or f" Known are {' and '.join(dialects)}."
        raise WorkflowError(f"sweep does not know servers of the family {family!r}.{near}")
    return dialects[family.lower()].load_packaged_schemas()


def load_workflow(path: str | os.PathLike[str]) -> Workflow:
    """Return the workflow in a file: JSON, or a PNG that carries one. Raises WorkflowError, one sentence a problem."""
    where = Path(path)
    workflow = workflow_from(read_document(where), where.name)
    return workflow if workflow.name else replace(workflow, name=where.stem)


def workflow_from(document: Mapping[str, Any], source: str = "the workflow") -> Workflow:
    """Return the workflow in a JSON object; `source` is what errors call it.

    The document may have anything anywhere, a number where a list belongs: WorkflowError says so.
    """
    try:
        found = filter(None, (dialect.read(document, source) for dialect in load_dialects()))
        workflow = next(found, None)
    except (TypeError, AttributeError, LookupError, ValueError, RecursionError) as error:
        raise WorkflowError(f"{source} is not shaped as a workflow is ({error}).") from error
    if workflow is None:
        raise WorkflowError(f"{source} is not a workflow; it has no nodes.")
    return workflow
