"""A graph of nodes and edges, the names of its nodes, and `Workflow`: the graph with all else that its file holds.

A graph is an immutable value that names no server: a model is a `ModelRef` and an input image an `ImageRef` until a
client puts one server's own identifiers in their place. So the same graph, and the same key, serves every server of a
run.

A node answers to its id, to its label, and to its type; where several share a label or type, a number says which of
them, in the order of the file: `Random Seed.low`, `controlnet_2.control_weight`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from sweep.errors import WorkflowError, did_you_mean

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """The address of a field of a node, written `node.field`; both may hold dots (see `find_address`)."""

    node: str
    field: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse `node.field`, divided at the last dot. Raises WorkflowError where `text` is something else."""
        node, dot, name = text.rpartition(".")
        if not (dot and node and name):
            raise WorkflowError(f"{text!r} is not an address; addresses are written node.field")
        return cls(node, name)

    def __str__(self) -> str:
        return f"{self.node}.{self.field}"


@dataclass(frozen=True, slots=True, order=True)
class ModelRef:
    """A model by name, not by a server's key for it. `base` is the kind of model it is built on, as sd-1 or sdxl."""

    name: str
    base: str
    type: str = "main"

    def canonical(self) -> Json:
        return {"$model": {"name": self.name, "base": self.base, "type": self.type}}


@dataclass(frozen=True, slots=True, order=True)
class ImageRef:
    """An input image by the SHA-256 of its file, in lower-case hex."""

    sha256: str

    def canonical(self) -> Json:
        return {"$image": self.sha256}


@dataclass(frozen=True, slots=True, order=True)
class BoardRef:
    """A board by name; each server has (or makes) its own id for it."""

    name: str

    def canonical(self) -> Json:
        return {"$board": self.name}


Ref: TypeAlias = ModelRef | ImageRef | BoardRef
Value: TypeAlias = "Json | Ref | list[Any] | dict[str, Any]"  # the containers may hold references, too


def map_refs(value: Value, resolve: Callable[[Ref], Json]) -> Json:
    """Replace each reference in a value, at any depth, by what `resolve` makes of it."""
    if isinstance(value, ModelRef | ImageRef | BoardRef):
        return resolve(value)
    if isinstance(value, Mapping):
        return {name: map_refs(item, resolve) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_refs(item, resolve) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Node:
    """A node: `fields` are the values set on it, without `id` and `type`; a field that an edge feeds has none."""

    id: str
    type: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    label: str = ""  # what its author called it; empty where nobody did


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """A connection from an output field to an input field."""

    source: Address
    destination: Address

    @classmethod
    def parse(cls, text: str) -> Edge:
        """Parse `noise.noise → denoise.noise` (or `->`). Raises WorkflowError where `text` is something else."""
        source, _, destination = text.replace("->", "→").partition("→")
        return cls(Address.parse(source.strip()), Address.parse(destination.strip()))

    def __str__(self) -> str:
        return f"{self.source} → {self.destination}"


_PLAIN: Final = frozenset({str, int, float, bool, type(None)})  # classes of values that hold no reference


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes by id in the order of their definition, and edges. Nothing is checked here: see `check_graph`."""

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...] = ()

    @classmethod
    def of(cls, nodes: Iterable[Node], edges: Iterable[str | Edge] = ()) -> Graph:
        """Return a graph from nodes and edges, the latter also written `"noise.noise → denoise.noise"` (or `->`)."""
        parsed = tuple(edge if isinstance(edge, Edge) else Edge.parse(edge) for edge in edges)
        return cls({node.id: node for node in nodes}, parsed)

    def set(self, values: Mapping[Address, Value]) -> Graph:
        """Return the same graph with these fields holding these values; other nodes are shared, not copied.

        Raises WorkflowError where a node does not exist.
        """
        nodes = dict(self.nodes)
        for address, value in values.items():
            node = nodes.get(address.node)
            if node is None:
                raise WorkflowError(f"{address}: the graph has no node {address.node!r}")
            nodes[address.node] = Node(node.id, node.type, {**node.fields, address.field: value}, node.label)
        return Graph(nodes, self.edges)

    def references(self, without: Container[str] = ()) -> frozenset[Ref]:
        """Return every model, image and board that the graph names, but for nodes whose type is in `without`."""
        found: set[Ref] = set()
        for node in self.nodes.values():
            for value in node.fields.values() if node.type not in without else ():
                if value.__class__ not in _PLAIN:  # most are, and this is asked of every item
                    map_refs(value, found.add)
        return frozenset(found)

    def list_edges_into(self, address: Address) -> tuple[Edge, ...]:
        """Return the edges into a field, in order."""
        return tuple(edge for edge in self.edges if edge.destination == address)

    def without_edges(self, edges: Iterable[Edge]) -> Graph:
        """Return the same graph less these edges."""
        gone = set(edges)
        return replace(self, edges=tuple(edge for edge in self.edges if edge not in gone))

    def without_nodes(self, nodes: Container[str]) -> Graph:
        """Return the same graph less these nodes and all edges from and to them."""
        left = {name: node for name, node in self.nodes.items() if name not in nodes}
        ends = ((edge, edge.source.node, edge.destination.node) for edge in self.edges)
        return Graph(left, tuple(edge for edge, source, target in ends if source not in nodes and target not in nodes))

    def rewire(self, outputs: Mapping[Address, Address]) -> Graph:
        """Return the same graph with the edges from these outputs coming from others."""
        return replace(self, edges=tuple(Edge(outputs.get(e.source, e.source), e.destination) for e in self.edges))

    def adding(self, nodes: Iterable[Node] = (), edges: Iterable[str | Edge] = ()) -> Graph:
        """Return the same graph with more nodes and edges; a node of the same id is replaced."""
        more = Graph.of(nodes, edges)
        return Graph({**self.nodes, **more.nodes}, self.edges + more.edges)


def find_nodes_before(graph: Graph, nodes: Iterable[str], ignored: Collection[str] = ()) -> frozenset[str]:
    """Return the nodes and all upstream of them, without edges into fields of the `ignored` names."""
    return _reach(
        nodes, [(e.destination.node, e.source.node) for e in graph.edges if e.destination.field not in ignored]
    )


def find_nodes_after(graph: Graph, nodes: Iterable[str]) -> frozenset[str]:
    """Return the nodes and all downstream of them."""
    return _reach(nodes, [(edge.source.node, edge.destination.node) for edge in graph.edges])


def _reach(starts: Iterable[str], steps: Iterable[tuple[str, str]]) -> frozenset[str]:
    onward: dict[str, list[str]] = {}
    for here, there in steps:
        onward.setdefault(here, []).append(there)
    reached = set(starts)
    waiting = list(reached)
    while waiting:
        new = set(onward.get(waiting.pop(), ())) - reached
        reached |= new
        waiting.extend(new)
    return frozenset(reached)


def prune(graph: Graph, outputs: tuple[str, ...]) -> Graph:
    """Return the graph with only what leads to these nodes: a server runs every node it is sent, and what was cut off
    may fail there.
    """
    return graph.without_nodes(graph.nodes.keys() - find_nodes_before(graph, outputs))


_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MADE_UP = re.compile(rf"{_UUID}|(?P<word>\w+):[\w-]{{10}}")  # of the editor; of the other pages, as noise:Hx9_aZ-k3Q
_NUMBERED = re.compile(r"(.+)_([1-9]\d*)")
_MOST = 6  # candidates that a sentence lists


class Names:
    """The names of a graph's nodes, both ways."""

    def __init__(self, graph: Graph) -> None:
        self._nodes = graph.nodes
        self._indexes: tuple[dict[str, list[str]], ...] = ({}, {}, {})  # the nodes by label, by word and by type
        for node in graph.nodes.values():
            for index, word in zip(self._indexes, _split_name(node), strict=True):
                if word:
                    index.setdefault(word.casefold(), []).append(node.id)

    def name_node(self, node: str) -> str:
        """Return a name of a node by which `node` finds it: its id, unless an editor made that up."""
        if not is_made_up(node) or node not in self._nodes:
            return node
        for word in filter(None, _split_name(self._nodes[node])):
            if self.find(word) == [node]:
                return word
            alike = self._find_alike(word)
            if node in alike and self.find(name := f"{word}_{alike.index(node) + 1}") == [node]:
                return name
        return node

    def node(self, name: str) -> str:
        """Return the id of the node a person calls `name`. Raises WorkflowError where there is none, or several."""
        found = self.find(name)
        if len(found) == 1:
            return found[0]
        if not found:
            words = (word for node in self._nodes.values() for word in _split_name(node) if word)
            raise WorkflowError(
                f"the workflow has no node {name!r}.{did_you_mean(name, [*map(self.name_node, self._nodes), *words])}"
            )
        listed = ", ".join(f"{name}_{number}" for number in range(1, min(len(found), _MOST) + 1))
        more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
        raise WorkflowError(
            f"{len(found)} nodes are called {name}: {listed}{more}.", hint="sweep inspect shows which is which."
        )

    def find(self, name: str) -> list[str]:
        """Find the nodes that a person may mean by `name`."""
        if name in self._nodes:
            return [name]
        alike, numbered = self._find_alike(name), _NUMBERED.fullmatch(name)
        if alike or not numbered:
            return alike
        number = int(numbered[2])
        return self._find_alike(numbered[1])[number - 1 : number]

    def _find_alike(self, word: str) -> list[str]:
        """Find the nodes of that label; where none has it, of that word before a made-up part; else of that type."""
        said = " ".join(word.casefold().split())
        return next((index[said] for index in self._indexes if said in index), [])


def label(node: Node) -> str:
    """Return the name its author gave the node, on one line; empty without one."""
    return " ".join(node.label.split())


def find_address(graph: Graph, text: str) -> Address:
    """Return the field that a person names: ids, labels and fields may hold dots, and the longest name of a node wins.

    Raises WorkflowError where no node is called so, or several are.
    """
    address, names = Address.parse(text), Names(graph)
    dots = (at for at in range(len(text) - 1, 0, -1) if text[at] == ".")
    found = next((Address(text[:at], text[at + 1 :]) for at in dots if names.find(text[:at])), address)
    return Address(names.node(found.node), found.field)


def make_readable(graph: Graph, text: str) -> str:
    """Return a text with each made-up id in it replaced by what its node is called."""
    names = Names(graph)
    for node in filter(is_made_up, graph.nodes):
        if node in text:
            text = text.replace(node, names.name_node(node))
    return text


def named(node: Node) -> str:
    """Return a node as a person knows it: by label and type, and by an id that a person made up."""
    said = label(node)
    if is_made_up(node.id):
        return f"{said} ({node.type})" if said else node.id
    return f"{said} ({node.type}, {node.id})" if said else f"{node.id} ({node.type})"


def is_made_up(node: str) -> bool:
    """Tell whether an editor made up this id, which says nothing to anybody."""
    return _MADE_UP.fullmatch(node) is not None


def _split_name(node: Node) -> tuple[str, str, str]:
    """Return a node's label, the word before the made-up part of its id, and its type: empty where there is none."""
    found = _MADE_UP.fullmatch(node.id)
    return label(node), (found["word"] if found else "") or "", node.type


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAxis:
    """A list of values over which the workflow itself is to be run; each is written to all `addresses`."""

    name: str  # the batch node's label or id
    addresses: tuple[Address, ...]
    values: tuple[Value, ...]
    group: str = ""  # axes of one group step together; an axis without a group multiplies
    note: str = ""  # what a person should know of it where it is run over


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow: its graph, and all else that its file says.

    `files` are image files that the workflow names by path, for fields that then hold nothing yet. `notes` are
    sentences about what was completed, translated or left out.
    """

    graph: Graph
    kind: Literal["api", "editor", "portable"]
    name: str = ""
    family: str = ""  # the name of its dialect; empty for the portable form, which any family can translate
    document: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)  # what is yet to be translated
    batch_axes: tuple[BatchAxis, ...] = ()
    exposed: tuple[Address, ...] = ()  # fields its author put on the form, in that order
    labels: Mapping[Address, str] = field(default_factory=dict)  # what its author called fields
    files: Mapping[Address, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()  # those it can be translated for; empty where it names real node types already
    lacking: str = ""  # the main model it names, where that is known to be missing on the server
    # of the portable form: to the nodes of a base
    translate: Callable[[str], Workflow] | None = field(default=None, compare=False, repr=False)

    def for_base(self, base: str) -> Workflow:
        """Return the workflow with the nodes for models of `base`; itself where the file names real node types already,
        or where the base is not known ("").

        Raises WorkflowError where the portable form has no translation for that base.
        """
        if self.translate is None or not base:
            return self
        return replace(self.translate(base), name=self.name)
