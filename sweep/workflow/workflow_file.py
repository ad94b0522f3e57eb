"""Loads a workflow file, JSON or PNG, in any format of any family."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from sweep.errors import WorkflowError, did_you_mean
from sweep.text import quote_argument
from sweep.workflow.dialect import Dialect, NodeSchemas
from sweep.workflow.graph import Workflow, parse_object

# Each package beside this module is a family, and `FAMILY_dialect.py` in it holds its own.
_FAMILIES = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.ispkg)
DIALECTS: Final[tuple[Dialect, ...]] = tuple(  # asked in this order whose a document is
    getattr(import_module(f"{__package__}.{name}.{name}_dialect"), name.upper()) for name in _FAMILIES
)
MAX_WORKFLOW_BYTES = 64 * 1024 * 1024
_PNG = b"\x89PNG\r\n\x1a\n"
_IMAGES = (b"\xff\xd8\xff", b"RIFF", b"GIF8")


def read_document(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or in the text of a PNG that a server wrote.

    Of an image that holds both, the graph as it was rendered counts, with the editor's workflow beside it under
    `workflow` for names and labels. Raises WorkflowError in one sentence.
    """
    shown = path.name
    try:
        if path.stat().st_size > MAX_WORKFLOW_BYTES:
            most = f"{MAX_WORKFLOW_BYTES // 1024 // 1024} MB"
            raise WorkflowError(f"{shown} is larger than {most}: workflows are smaller.")
        content = path.read_bytes()
    except OSError as error:
        raise WorkflowError(f"{path} cannot be read: {error.strerror or error}.") from error
    if content.startswith(_PNG):
        return _from_png(path, shown)
    if content.startswith(_IMAGES):
        raise WorkflowError(f"{shown} is an image; only PNG files contain a workflow.")
    return parse_object(content, shown)


def _from_png(path: Path, shown: str) -> dict[str, Any]:
    from PIL import Image, UnidentifiedImageError  # costs 40 ms, and few workflows are images

    try:
        with Image.open(path) as image:
            texts = getattr(image, "text", {})
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise WorkflowError(f"{shown} is a damaged PNG.") from error
    for dialect in DIALECTS:
        found = {name: texts[key] for name, key in dialect.image_texts.items() if isinstance(texts.get(key), str)}
        if found.keys() - {"metadata"}:
            return {name: parse_object(text, f"the {name} in {shown}") for name, text in found.items()}
    families = " or ".join(dialect.name for dialect in DIALECTS)
    raise WorkflowError(
        f"{shown} contains no workflow: it was not made by {families}, or another program removed what was "
        "saved in it.",
        hint="To use it as the source image, give a template: "
        f"sweep run img2img --image {quote_argument(os.path.relpath(path))}.",
    )


def packaged_schemas(family: str) -> NodeSchemas:
    """Return the node types packaged with sweep of a family by its name, in any case. Raises WorkflowError."""
    dialects = {dialect.name.lower(): dialect for dialect in DIALECTS}
    if family.lower() not in dialects:
        near = did_you_mean(family.lower(), dialects) or f" Known are {' and '.join(dialects)}."
        raise WorkflowError(f"sweep does not know servers of the family {family!r}.{near}")
    return dialects[family.lower()].packaged_schemas()


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
        found = filter(None, (dialect.read(document, source) for dialect in DIALECTS))
        workflow = next(found, None)
    except (TypeError, AttributeError, LookupError, ValueError, RecursionError) as error:
        raise WorkflowError(f"{source} is not shaped as a workflow is ({error}).") from error
    if workflow is None:
        raise WorkflowError(f"{source} holds no workflow: it has no nodes.")
    return workflow
