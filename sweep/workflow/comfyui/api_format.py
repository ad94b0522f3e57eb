"""ComfyUI's API form of a graph, `{id: {class_type, inputs}}`: read into a `Graph`, and written for one server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sweep.errors import Problem
from sweep.workflow.comfyui.object_info import MODEL_FIELDS
from sweep.workflow.graph import Address, Edge, Graph, ImageRef, Json, ModelRef, Node, Ref, Value, map_refs
from sweep.workflow.schemas import NodeSchema
from sweep.workflow.validation import clean_graph, raise_for
from sweep.workflow.workflow import Workflow

PREFIX: Final = "filename_prefix"  # where an image is saved: the client decides it, so it is no part of a graph


def is_prompt(document: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is a graph in the API form."""
    return bool(document) and all(isinstance(node, Mapping) and "class_type" in node for node in document.values())


def read_prompt(document: Mapping[str, Any], source: str, schemas: Mapping[str, NodeSchema]) -> Workflow:
    """Read a graph in the API form. Raises WorkflowError.

    Args:
        document: nodes by id.
        source: what errors call the document.
        schemas: node types, to tell models and images from other texts; of others the names of fields tell models.
    """
    problems: list[Problem] = []
    nodes: list[Node] = []
    edges: list[Edge] = []
    files: dict[Address, str] = {}
    for name, entry in document.items():
        kind, inputs = entry.get("class_type"), entry.get("inputs")
        if not isinstance(kind, str) or not kind:
            problems.append(Problem(message=f"Node {name} has no class_type"))
            continue
        values: dict[str, Any] = {}
        for field, value in inputs.items() if isinstance(inputs, Mapping) else ():
            source_node = _linked(value, document)
            if source_node is None:
                values[str(field)] = value
            else:
                edges.append(Edge(Address(source_node, str(value[1])), Address(str(name), str(field))))
        meta = entry.get("_meta")
        title = str(meta.get("title") or "") if isinstance(meta, Mapping) else ""
        fields, images = node_values(str(name), values, schemas.get(kind))
        files.update(images)
        nodes.append(Node(str(name), kind, fields, "" if title == kind else title))
    raise_for(problems, source)
    return Workflow(graph=clean_graph(Graph.of(nodes, dict.fromkeys(edges)), source), kind="api", files=files)


def node_values(
    node: str, values: Mapping[str, Any], schema: NodeSchema | None
) -> tuple[dict[str, Value], dict[Address, str]]:
    """Return a node's fields, with models as references, and the image files that it names."""
    fields: dict[str, Value] = {}
    files: dict[Address, str] = {}
    for name, value in values.items():
        known = schema.fields.get(name) if schema else None
        if name == PREFIX or value is None:
            continue
        if known is not None and known.type == "ImageField" and isinstance(value, str):
            files[Address(node, name)] = value
        elif known is not None and known.model_types and isinstance(value, str):
            fields[name] = ModelRef(value, "", known.model_types[0])
        elif known is None and name in MODEL_FIELDS and isinstance(value, str):
            fields[name] = ModelRef(value, "", MODEL_FIELDS[name])
        else:
            fields[name] = value
    return fields, files


def _linked(value: Any, document: Mapping[str, Any]) -> str | None:
    """Return the node that a link comes from; None for a literal value, also for a list of two."""
    is_link = (
        isinstance(value, list) and len(value) == 2 and isinstance(value[1], int) and not isinstance(value[1], bool)
    )
    return str(value[0]) if is_link and isinstance(value[0], str | int) and str(value[0]) in document else None


def write_prompt(graph: Graph, resolve: Callable[[Ref], Json]) -> dict[str, dict[str, Any]]:
    """Return the graph in the API form; `resolve` gives this server's name of a reference."""
    prompt: dict[str, dict[str, Any]] = {}
    for node in graph.nodes.values():
        inputs = {name: map_refs(value, resolve) for name, value in node.fields.items()}
        prompt[node.id] = {"class_type": node.type, "inputs": inputs}
        if node.label:
            prompt[node.id]["_meta"] = {"title": node.label}
    for edge in graph.edges:
        link = [edge.source.node, int(edge.source.field)]
        prompt[edge.destination.node]["inputs"][edge.destination.field] = link
    return prompt


def fill_defaults(prompt: Mapping[str, dict[str, Any]], schemas: Mapping[str, NodeSchema]) -> None:
    """Put the default of every required field into a prompt that says nothing of it: the server applies none."""
    for node in prompt.values():
        schema = schemas.get(node["class_type"])
        for field in schema.fields.values() if schema else ():
            if field.default is not None and field.takes_value:
                node["inputs"].setdefault(field.name, field.default)


def file_of_image(ref: ImageRef) -> str:
    """Return the name under which an input image is uploaded: equal content has an equal name."""
    return f"sweep/{ref.sha256}.png"
