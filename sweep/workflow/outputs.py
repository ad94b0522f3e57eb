"""Which nodes of a graph give the pictures a person wants."""

from __future__ import annotations

from sweep.workflow.graph import Graph
from sweep.workflow.identity import UNDECIDING
from sweep.workflow.schemas import NodeSchemas

_SOURCES = frozenset({"image", "image_batch", "image_collection", "image_generator"})  # they only hand pictures on


def output_nodes(graph: Graph, schemas: NodeSchemas) -> tuple[str, ...]:
    """Ids of the nodes whose pictures are final, in the graph's order; empty where no node makes a picture.

    Final is what makes a picture that no other picture-making node goes on with, and is not marked intermediate
    (where all of them are marked so, the mark is ignored: somebody wants to see something).
    """
    makers = [name for name, node in graph.nodes.items() if _makes_picture(node.type, schemas)]
    leads_on = _leading_to(graph, frozenset(makers))
    final = [name for name in makers if name not in leads_on]
    shown = [name for name in final if not graph.nodes[name].fields.get("is_intermediate", False)]
    return tuple(shown or final)


def _makes_picture(kind: str, schemas: NodeSchemas) -> bool:
    schema = schemas.get(kind)
    if schema is None or kind in _SOURCES:
        return False
    return schema.output_class == "ImageCollectionOutput" or "ImageField" in schema.outputs.values()


def _leading_to(graph: Graph, makers: frozenset[str]) -> frozenset[str]:
    """The nodes from which edges lead, over any number of nodes, to one of these."""
    sources: dict[str, list[str]] = {}
    for edge in graph.edges:
        if edge.destination.field not in UNDECIDING:
            sources.setdefault(edge.destination.node, []).append(edge.source.node)
    reached: set[str] = set()
    waiting = list(makers)
    while waiting:
        for source in sources.get(waiting.pop(), ()):
            if source not in reached:
                reached.add(source)
                waiting.append(source)
    return frozenset(reached)
