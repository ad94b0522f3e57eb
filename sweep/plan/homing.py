"""Portable documents name model files that a server may not have: what it has instead, and a note for each."""

from __future__ import annotations

from dataclasses import replace

from sweep.errors import PlanError, WorkflowError
from sweep.plan.models import Models
from sweep.plan.settings import Uses
from sweep.plan.shapes import model_fields
from sweep.workflow.graph import Address, Edge, Graph, ModelRef
from sweep.workflow.loaded import Workflow
from sweep.workflow.schemas import NodeSchemas


def at_home(workflow: Workflow, schemas: NodeSchemas, models: Models, uses: Uses) -> Workflow:
    """A portable workflow whose main model, where the server lacks it, is left open for the plan to choose (`lacking`
    is its name), and whose VAE is then the model's own, with a note. Any other workflow stays as it is: it names what
    its author rendered with, and another model would be another picture.
    """
    translate = workflow.translate
    if translate is None:
        return workflow
    settled = _settled(workflow, schemas, models, uses)
    return replace(settled, translate=lambda base: _settled(translate(base), schemas, models, uses))


def portable_bases(workflow: Workflow, models: Models) -> tuple[str, ...]:
    """The bases of installed main models that the document has nodes for."""
    bases = dict.fromkeys(model.base for model in models.installed if model.type == "main")
    return tuple(base for base in bases if _translates(workflow, base))


def _translates(workflow: Workflow, base: str) -> bool:
    try:
        workflow.for_base(base)
    except WorkflowError:
        return False
    return True


def _settled(workflow: Workflow, schemas: NodeSchemas, models: Models, uses: Uses) -> Workflow:
    graph, notes, lacking = workflow.graph, list(workflow.notes), ""
    for address, types in list(model_fields(graph, schemas)):
        said = graph.nodes[address.node].fields.get(address.field)
        if not isinstance(said, ModelRef) or _has(models, said, types):
            continue
        if "main" in types:
            graph, lacking = _without(graph, address), said.name
        elif "vae" in types and "vae" not in uses:
            graph = _with_own_vae(graph, address.node)
            notes.append(f"The server has no VAE {said.name}, so the model's own is used; inputs.vae names another.")
    return replace(workflow, graph=graph, notes=tuple(notes), lacking=lacking)


def _has(models: Models, said: ModelRef, types: tuple[str, ...]) -> bool:
    try:
        models.find(said, types)
    except PlanError:
        return False
    return True


def _without(graph: Graph, address: Address) -> Graph:
    node = graph.nodes[address.node]
    left = {name: value for name, value in node.fields.items() if name != address.field}
    return replace(graph, nodes={**graph.nodes, node.id: replace(node, fields=left)})


def _with_own_vae(graph: Graph, loader: str) -> Graph:
    """The graph with the main model's VAE in the place of this loader's; as it is where there is no main loader."""
    mains = [node.id for node in graph.nodes.values() if node.type.endswith("model_loader")]
    if not mains:
        return graph
    edges = tuple(
        Edge(Address(mains[0], "vae"), edge.destination) if edge.source.node == loader else edge for edge in graph.edges
    )
    return Graph({name: node for name, node in graph.nodes.items() if name != loader}, edges)
