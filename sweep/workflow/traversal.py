"""Walks a graph upstream; finds its output nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from sweep.workflow.graph import Address, Edge, Graph, Value
from sweep.workflow.identity import UNDECIDING
from sweep.workflow.schemas import FieldSchema, NodeSchema, NodeSchemas

ANYTHING = frozenset({"any", "array"})  # the types of collect, iterate and if: what they pass on is not said
IMAGES = frozenset({"ImageField", "LatentsField"}) | ANYTHING


class Wiring:
    """A graph with its schemas, indexed for walking upstream. Node types without a schema end a walk."""

    def __init__(self, graph: Graph, schemas: NodeSchemas) -> None:
        self.graph = graph
        self.schemas = schemas

    @cached_property
    def _into(self) -> dict[str, dict[str, tuple[Edge, ...]]]:
        index: dict[str, dict[str, tuple[Edge, ...]]] = {}
        for edge in self.graph.edges:
            fields = index.setdefault(edge.destination.node, {})
            fields[edge.destination.field] = (*fields.get(edge.destination.field, ()), edge)
        return index

    def feeding(self, address: Address) -> tuple[Edge, ...]:
        """The edges into a field."""
        return self._into.get(address.node, {}).get(address.field, ())

    def schema(self, node: str) -> NodeSchema | None:
        """The schema of a node; None for a type nobody knows, or a node that is not there."""
        found = self.graph.nodes.get(node)
        return self.schemas.get(found.type) if found else None

    def has(self, node: str, field: str) -> bool:
        """Whether the node takes that input."""
        schema = self.schema(node)
        return schema is not None and field in schema.fields

    def kind(self, node: str) -> str:
        """The type of a node."""
        return self.graph.nodes[node].type

    def value(self, address: Address) -> Value:
        """What stands on a field, or would by default; None where neither."""
        node = self.graph.nodes[address.node]
        if address.field in node.fields:
            return node.fields[address.field]
        schema = self.schema(address.node)
        field = schema.fields.get(address.field) if schema else None
        return field.default if field else None

    def settle(self, address: Address) -> tuple[Address, tuple[Edge, ...]]:
        """Where to write so that the field gets a value, and which edges must go for it.

        A field without an edge is written itself. One that is fed by a node that merely holds a value (string,
        integer, image, …) is written there. One that is fed by a computation (rand_int, string_join, …) is written
        itself, and its edges are cut.
        """
        seen = {address}
        here = address
        while edges := self.feeding(here):
            held = self._held(edges[-1].source)
            if held is None or held in seen:
                return address, self.feeding(address)
            here = held
            seen.add(here)
        return here, ()

    def _held(self, output: Address) -> Address | None:
        """The field whose value this output gives on as it is, where its node does nothing but hold that value."""
        schema = self.schema(output.node)
        if schema is None:
            return None
        inputs = [field for name, field in schema.fields.items() if name not in UNDECIDING]
        if len(inputs) != 1 or inputs[0].name != output.field or schema.outputs.get(output.field) != inputs[0].type:
            return None
        if not inputs[0].takes_value or inputs[0].type == "array":
            return None
        if inputs[0].type == "ImageField" and self.kind(output.node) != "image":
            return None  # a filter: what it gives is not what it took
        return Address(output.node, output.field)

    def upstream(
        self, address: Address, through: Callable[[FieldSchema], bool], stop: Callable[[str], bool]
    ) -> Iterator[str]:
        """Nodes from which edges lead to the field, nearest first: on from each by the inputs that `through` lets
        pass, but not beyond a node where `stop` says so.
        """
        waiting = [edge.source.node for edge in self.feeding(address)]
        seen: set[str] = set()
        for node in waiting:  # grows while it is walked
            if node in seen:
                continue
            seen.add(node)
            yield node
            if not stop(node):
                waiting.extend(edge.source.node for edge in self._edges_through(node, through))

    def _edges_through(self, node: str, through: Callable[[FieldSchema], bool]) -> Iterator[Edge]:
        schema = self.schema(node)
        if schema is None:
            return
        for name, edges in self._into.get(node, {}).items():
            field = schema.fields.get(name)
            if field is not None and through(field):
                yield from edges

    def before(self, nodes: Iterable[str]) -> frozenset[str]:
        """These nodes and all that lead to them, but for what only decides metadata."""
        reached = set(nodes)
        waiting = list(reached)
        for node in waiting:
            for field, edges in self._into.get(node, {}).items():
                new = {edge.source.node for edge in edges} - reached if field not in UNDECIDING else set()
                reached |= new
                waiting.extend(new)
        return frozenset(reached)


def of_type(*kinds: str) -> Callable[[FieldSchema], bool]:
    """Lets an input pass where it takes one of these types, or anything."""
    wanted = frozenset(kinds) | ANYTHING
    return lambda field: field.type in wanted


def conditioning(field: FieldSchema) -> bool:
    """Lets an input pass where it takes an encoded prompt of whatever family, or anything."""
    return "Conditioning" in field.type or field.type in ANYTHING


_SOURCES = frozenset({"image", "image_batch", "image_collection", "image_generator"})  # they only hand images on
_IMAGE_LISTS = frozenset({"ImageCollectionOutput"})


def output_nodes(graph: Graph, schemas: NodeSchemas) -> tuple[str, ...]:
    """Ids of the nodes whose images are final, in the graph's order; empty where no node makes an image.

    Final is what makes an image that no other image-making node goes on with, and is not marked intermediate
    (where all of them are marked so, the mark is ignored: somebody wants to see something).
    """
    makers = [name for name, node in graph.nodes.items() if _makes(("ImageField", "array"), node.type, schemas)]
    videos = [name for name, node in graph.nodes.items() if _makes(("VideoField",), node.type, schemas)]
    leads_on = _leading_to(graph, frozenset([*makers, *videos]))
    final = [name for name in makers if name not in leads_on]
    shown = [name for name in final if not graph.nodes[name].fields.get("is_intermediate", False)]
    return tuple(shown or final)


def without_images(graph: Graph, schemas: NodeSchemas) -> str:
    """Why there are no output nodes, as the end of a sentence that begins with the workflow's name."""
    videos = any(_makes(("VideoField",), node.type, schemas) for node in graph.nodes.values())
    return "makes a video, and sweep keeps images only" if videos else "has no node that makes an image"


def pruned(graph: Graph, outputs: tuple[str, ...]) -> Graph:
    """The graph with only what leads to these nodes, by whatever edge: a server runs every node it is sent, and what
    was cut off may fail there.
    """
    needed = _leading_to(graph, frozenset(outputs), ignoring=frozenset()) | frozenset(outputs)
    nodes = {name: node for name, node in graph.nodes.items() if name in needed}
    return Graph(nodes, tuple(edge for edge in graph.edges if edge.destination.node in needed))


def _makes(kinds: tuple[str, ...], node_type: str, schemas: NodeSchemas) -> bool:
    """Whether a node makes something of these kinds, lists counting where they are lists of images."""
    schema = schemas.get(node_type)
    if schema is None or node_type in _SOURCES:
        return False
    found = {kind for kind in schema.outputs.values() if kind != "array" or schema.output_class in _IMAGE_LISTS}
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
