"""Loads JSON or PNG in any format into a Workflow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from sweep.errors import Problem, WorkflowError, did_you_mean
from sweep.workflow.editor_format import from_editor, is_editor
from sweep.workflow.graph import Address, Graph, Node
from sweep.workflow.portable_format import from_portable
from sweep.workflow.validation import raise_for
from sweep.workflow.workflow import BatchAxis, Workflow, api_edge, node_fields, sound

MAX_WORKFLOW_BYTES = 64 * 1024 * 1024
MAX_WORKFLOW_DEPTH = 100  # of lists and objects in each other; the deepest real workflow has about ten
_PNG = b"\x89PNG\r\n\x1a\n"
_IMAGES = (b"\xff\xd8\xff", b"RIFF", b"GIF8")


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in a file, or in the text of a PNG that InvokeAI wrote.

    Of an image that holds both, the graph as it was rendered counts, with the editor's workflow beside it under
    `workflow` for names and labels. Raises WorkflowError in one sentence.
    """
    shown = path.name
    try:
        if path.stat().st_size > MAX_WORKFLOW_BYTES:
            raise WorkflowError(f"{shown} is larger than {MAX_WORKFLOW_BYTES // 1024 // 1024} MB: that is no workflow.")
        content = path.read_bytes()
    except OSError as error:
        raise WorkflowError(f"{path} cannot be read: {error.strerror or error}.") from error
    if content.startswith(_PNG):
        return _from_png(path, shown)
    if content.startswith(_IMAGES):
        raise WorkflowError(f"{shown} is an image; only PNG files carry a workflow.")
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
    if _deeper_than(document, MAX_WORKFLOW_DEPTH):
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
    from PIL import Image, UnidentifiedImageError  # costs 40 ms, and few workflows are images

    try:
        with Image.open(path) as image:
            texts = getattr(image, "text", {})
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise WorkflowError(f"{shown} is a damaged PNG.") from error
    found = {name: texts[key] for name, key in _CHUNKS.items() if isinstance(texts.get(key), str)}
    if not found:
        raise WorkflowError(f"{shown} carries no workflow: it was not made by InvokeAI, or lost its text since.")
    return {name: parse_object(text, f"the {name} in {shown}") for name, text in found.items()}


_CHUNKS = {"graph": "invokeai_graph", "workflow": "invokeai_workflow"}


__all__ = ["BatchAxis", "Workflow", "load_workflow", "workflow_from"]


def load_workflow(path: str | os.PathLike[str]) -> Workflow:
    """The workflow in a file: JSON, or a PNG that carries one. Raises WorkflowError with one sentence a fault.

    Whether a server has the node types is not asked here: see `checks.check_graph`.
    """
    where = Path(path)
    workflow = workflow_from(read_document(where), where.name)
    return workflow if workflow.name else replace(workflow, name=where.stem)


def workflow_from(document: Mapping[str, Any], source: str = "the workflow") -> Workflow:
    """The workflow in a JSON object; `source` is what errors call it. Raises WorkflowError.

    A stranger's document may have anything anywhere, a number where a list belongs: that is told as such.
    """
    try:
        return _read(document, source)
    except (TypeError, AttributeError, LookupError, ValueError, RecursionError) as error:
        raise WorkflowError(f"{source} is not shaped as a workflow is ({error}).") from error


def _read(document: Mapping[str, Any], source: str) -> Workflow:
    inner, beside = _unwrap(document, source)
    nodes = inner.get("nodes")
    if isinstance(nodes, list):
        return from_editor(inner, source) if is_editor(inner) else from_portable(inner, source)
    if isinstance(nodes, Mapping):
        return _with_names(_from_api(inner, beside, source), beside, source)
    if any(isinstance(node, Mapping) and "class_type" in node for node in document.values()):
        raise WorkflowError(f"{source} is a ComfyUI graph; sweep takes workflows of InvokeAI.")
    raise WorkflowError(f"{source} holds no workflow: it has no nodes.")


def _unwrap(document: Mapping[str, Any], source: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The object that holds the nodes, and the one around it (or itself)."""
    around: Mapping[str, Any] = document
    for key in ("batch", "session", "graph", "workflow"):
        if "nodes" in document:
            break
        within = document.get(key)
        if isinstance(within, str):
            within = parse_object(within, f"the {key} in {source}")
        if isinstance(within, Mapping):
            around, document = document, within
    return document, around


def _from_api(document: Mapping[str, Any], around: Mapping[str, Any], source: str) -> Workflow:
    problems: list[Problem] = []
    nodes = [_api_node(key, node, problems) for key, node in document["nodes"].items()]
    edges = [edge for entry in _list(document, "edges") if (edge := api_edge(entry, problems))]
    raise_for(problems, source)
    graph = sound(Graph.of([node for node in nodes if node], dict.fromkeys(edges)), source)
    return Workflow(graph=graph, kind="api", batch_axes=_batch_data(around, graph, source))


def _api_node(key: str, node: Any, problems: list[Problem]) -> Node | None:
    if not isinstance(node, Mapping) or not isinstance(node.get("type"), str):
        problems.append(Problem(message=f"Node {key} has no type"))
        return None
    if node.get("id", key) != key:
        problems.append(Problem(message=f"Node {key} calls itself {node['id']!r}"))
    return Node(key, node["type"], node_fields(node["type"], node))


def _batch_data(batch: Mapping[str, Any], graph: Graph, source: str) -> tuple[BatchAxis, ...]:
    """The axes of an enqueue_batch body: the outer list multiplies, an inner list steps together."""
    axes: list[BatchAxis] = []
    for number, group in enumerate(batch.get("data") or ()):
        for datum in group:
            address = Address(str(datum.get("node_path")), str(datum.get("field_name")))
            if address.node not in graph.nodes:
                near = did_you_mean(address.node, graph.nodes)
                raise WorkflowError(f"{source}: its data sets {address}, but there is no node {address.node!r}.{near}")
            zipped = str(number) if len(group) > 1 else ""
            values = tuple(datum.get("items") or ())
            axes.append(BatchAxis(name=str(address), addresses=(address,), values=values, group=zipped))
    return tuple(axes)


def _with_names(workflow: Workflow, around: Mapping[str, Any], source: str) -> Workflow:
    """A rendered graph with the names its author gave in the editor, where the image carries those, too."""
    drawn = around.get("workflow")
    if not isinstance(drawn, Mapping) or not is_editor(drawn):
        return workflow
    editor = from_editor(drawn, source)
    labels = {name: node.label for name, node in editor.graph.nodes.items()}
    nodes = {name: replace(node, label=labels.get(name, "")) for name, node in workflow.graph.nodes.items()}
    kept = tuple(address for address in editor.exposed if address.node in nodes)
    return replace(
        workflow, graph=replace(workflow.graph, nodes=nodes), name=editor.name, exposed=kept, labels=editor.labels
    )


def _list(document: Mapping[str, Any], key: str) -> Sequence[Any]:
    found = document.get(key)
    return found if isinstance(found, list) else ()
