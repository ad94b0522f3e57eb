"""Loads a workflow in whatever form a person has it: an API graph, an editor's export, the portable form, a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.errors import Problem, WorkflowError, did_you_mean
from sweep.workflow.document import parse_object, read_document
from sweep.workflow.editor import from_editor, is_editor
from sweep.workflow.graph import Address, Graph, Node
from sweep.workflow.loaded import BatchAxis, Workflow, api_edge, sound
from sweep.workflow.portable import from_portable
from sweep.workflow.soundness import raise_for
from sweep.workflow.values import node_fields

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
    """A rendered graph with the names its author gave in the editor, where the picture carries those, too."""
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
