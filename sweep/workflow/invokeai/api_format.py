"""The API format of InvokeAI: graphs as they are posted to a server, with the batch around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sweep.errors import Problem, WorkflowError, did_you_mean
from sweep.workflow.dialect import FieldSchema
from sweep.workflow.graph import Address, BatchAxis, Graph, Json, ModelRef, Node, Ref, Value, Workflow, map_refs
from sweep.workflow.invokeai.openapi import packaged_nodes
from sweep.workflow.invokeai.recall_metadata import tell_images
from sweep.workflow.portable_format import read_edge
from sweep.workflow.validation import clean_graph, raise_for

_PLAIN: Final = (str, int, float, bool)  # types of values that hold no reference
COLLECTING: Final = frozenset({"collect"})  # node types of which one input takes several edges


def write_graph(graph: Graph, resolve: Callable[[Ref], Json], graph_id: str = "sweep") -> dict[str, Json]:
    """Return the graph as a server's JSON; `resolve` gives this server's identifier of a reference."""
    nodes: dict[str, dict[str, Json]] = {
        node.id: {
            "id": node.id,
            "type": node.type,
            **{k: v if isinstance(v, _PLAIN) else map_refs(v, resolve) for k, v in node.fields.items()},
        }
        for node in graph.nodes.values()
    }
    for node in nodes.values():
        if "sweep_key" in node:
            node.update(tell_images(node))
    edges: list[Json] = [
        {
            "source": {"node_id": edge.source.node, "field": edge.source.field},
            "destination": {"node_id": edge.destination.node, "field": edge.destination.field},
        }
        for edge in graph.edges
    ]
    return {"id": graph_id, "nodes": dict(nodes), "edges": edges}


def from_api(document: Mapping[str, Any], around: Mapping[str, Any], source: str) -> Workflow:
    """Read a posted graph, with the data of the batch around it as axes. Raises WorkflowError."""
    problems: list[Problem] = []
    nodes: list[Node] = []
    for key, node in document["nodes"].items():
        if not isinstance(node, Mapping) or not isinstance(node.get("type"), str):
            problems.append(Problem(message=f"Node {key} has no type"))
            continue
        if node.get("id", key) != key:
            problems.append(Problem(message=f"Node {key} calls itself {node['id']!r}"))
        nodes.append(Node(key, node["type"], node_fields(node["type"], node)))
    listed = document.get("edges")
    edges = [edge for entry in listed if (edge := read_edge(entry, problems))] if isinstance(listed, list) else []
    raise_for(problems, source)
    graph = clean_graph(Graph.of(nodes, dict.fromkeys(edges)), source, COLLECTING)
    return Workflow(graph=graph, kind="api", batch_axes=_batch_data(around, graph, source))


def _batch_data(batch: Mapping[str, Any], graph: Graph, source: str) -> tuple[BatchAxis, ...]:
    """Return the axes of an enqueue_batch body: the outer list multiplies, an inner list steps together."""
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


_ATTRIBUTES = frozenset({"id", "type", "workflow"})
_TEXTS = frozenset({"string", "any"})


def node_fields(kind: str, values: Mapping[str, Any]) -> dict[str, Value]:
    """Return the values set on a node of that type, without empty ones: null, an unchosen model, the default board.

    A node type that sweep does not know keeps all but nulls.
    """
    schema = packaged_nodes().get(kind)
    return {
        name: workflow_references(value)
        for name, value in values.items()
        if name not in _ATTRIBUTES and not _says_nothing(name, value, schema.field(name) if schema else None)
    }


def _says_nothing(name: str, value: Any, field: FieldSchema | None) -> bool:
    if name == "board" and value in ("auto", "none", "", None, {}):
        return True
    if value is None:
        return not (field and field.nullable and field.default is not None)
    if field is None:
        return False
    return not field.takes_value or (value in ("", {}) and field.type not in _TEXTS and field.type != "object")


def workflow_references(value: Any) -> Value:
    """Return the value with models by name, type and base in place of a server's keys, at any depth."""
    if isinstance(value, list):
        return [workflow_references(item) for item in value]
    if not isinstance(value, Mapping):
        return value  # type: ignore[no-any-return]  # a JSON scalar
    named = all(isinstance(value.get(part), str) for part in ("name", "base", "type"))
    if named and "key" in value and not value.get("submodel_type"):
        return ModelRef(value["name"], value["base"], value["type"])
    if {"model_name", "base_model"} <= value.keys():  # InvokeAI 3; without a type it is the field's
        return ModelRef(*(str(value.get(part) or "") for part in ("model_name", "base_model", "model_type")))
    return {str(name): workflow_references(item) for name, item in value.items()}
