"""Which nodes of a graph give the pictures a person wants."""

from __future__ import annotations

from sweep.workflow.graph import Graph
from sweep.workflow.identity import UNDECIDING
from sweep.workflow.schemas import NodeSchemas

_SOURCES = frozenset({"image", "image_batch", "image_collection", "image_generator"})  # they only hand pictures on
_PICTURE_LISTS = frozenset({"ImageCollectionOutput"})


def output_nodes(graph: Graph, schemas: NodeSchemas) -> tuple[str, ...]:
    """Ids of the nodes whose pictures are final, in the graph's order; empty where no node makes a picture.

    Final is what makes a picture that no other picture-making node goes on with, and is not marked intermediate
    (where all of them are marked so, the mark is ignored: somebody wants to see something).
    """
    makers = [name for name, node in graph.nodes.items() if _makes(("ImageField", "array"), node.type, schemas)]
    videos = [name for name, node in graph.nodes.items() if _makes(("VideoField",), node.type, schemas)]
    leads_on = _leading_to(graph, frozenset([*makers, *videos]))
    final = [name for name in makers if name not in leads_on]
    shown = [name for name in final if not graph.nodes[name].fields.get("is_intermediate", False)]
    return tuple(shown or final)


def without_pictures(graph: Graph, schemas: NodeSchemas) -> str:
    """Why there are no output nodes, as the end of a sentence that begins with the workflow's name."""
    videos = any(_makes(("VideoField",), node.type, schemas) for node in graph.nodes.values())
    return "makes a video, and sweep keeps pictures only" if videos else "has no node that makes a picture"


def pruned(graph: Graph, outputs: tuple[str, ...]) -> Graph:
    """The graph with only what leads to these nodes, by whatever edge: a server runs every node it is sent, and what
    was cut off may fail there.
    """
    needed = _leading_to(graph, frozenset(outputs), ignoring=frozenset()) | frozenset(outputs)
    nodes = {name: node for name, node in graph.nodes.items() if name in needed}
    return Graph(nodes, tuple(edge for edge in graph.edges if edge.destination.node in needed))


def _makes(kinds: tuple[str, ...], node_type: str, schemas: NodeSchemas) -> bool:
    """Whether a node makes something of these kinds, lists counting where they are lists of pictures."""
    schema = schemas.get(node_type)
    if schema is None or node_type in _SOURCES:
        return False
    found = {kind for kind in schema.outputs.values() if kind != "array" or schema.output_class in _PICTURE_LISTS}
    return not found.isdisjoint(kinds)


def _leading_to(graph: Graph, makers: frozenset[str], ignoring: frozenset[str] = UNDECIDING) -> frozenset[str]:
    """The nodes from which edges lead, over any number of nodes, to one of these."""
    sources: dict[str, list[str]] = {}
    for edge in graph.edges:
        if edge.destination.field not in ignoring:
            sources.setdefault(edge.destination.node, []).append(edge.source.node)
    reached: set[str] = set()
    waiting = list(makers)
    while waiting:
        for source in sources.get(waiting.pop(), ()):
            if source not in reached:
                reached.add(source)
                waiting.append(source)
    return frozenset(reached)
