"""The portable format: workflows translated to one family's nodes, by the rules in the family's `portable.json`.

A document may leave out edges where only one output fits; they are completed, with a note.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final, TypeAlias

from sweep.errors import WorkflowError, did_you_mean
from sweep.text import truncate
from sweep.workflow.graph import Address, Edge, Graph, Node, Workflow, find_nodes_after
from sweep.workflow.node_schemas import NodeSchema, read_table
from sweep.workflow.validation import clean_graph, raise_for

PORTABLE: Final = "portable.json"  # in the package of each family


Rule: TypeAlias = Mapping[str, Any]
"""The node type that a portable one `becomes`, and real names: of `fields` (null: left out, with a note), of the
`inputs` that edges lead to, and of the `outputs` that they come from.
"""


class PortableReader(ABC):
    """Translates one document to a family's nodes; a family overrides the steps that are its own.

    Its `portable.json` may also name the `output` that stands for those a rule does not tell, and by node type what is
    `asked` for beside the required inputs, as nothing comes out without it.
    """

    package: ClassVar[str]  # of the family, where its `portable.json` lies
    collecting: ClassVar[frozenset[str]] = frozenset()  # see `Dialect.collecting_nodes`

    def __init__(
        self, document: Mapping[str, Any], source: str, schemas: Mapping[str, NodeSchema], own: Iterable[str] = ()
    ) -> None:
        """Prepare the translation; a document may also name nodes of the `own` types, which stay as they are."""
        self.document, self.source, self.schemas = document, source, schemas
        self.table = read_table(self.package, PORTABLE)
        self.rules: dict[str, Rule] = {kind: {"becomes": kind} for kind in own}
        self.rules |= {kind: rule for rule in self.table["rules"] for kind in rule["types"]}
        self.notes: list[str] = []
        self.files: dict[Address, str] = {}
        self.kinds: dict[str, str] = {}  # node → its portable type

    def workflow(self) -> Workflow:
        """Return the translated graph, with what was completed and left out in the notes. Raises WorkflowError."""
        problems: list[str] = []
        nodes = [node for entry in self.document["nodes"] for node in self._read_node(entry, problems)]
        edges = [edge for entry in self.document.get("edges") or () if (edge := read_edge(entry, problems))]
        raise_for(problems, self.source)
        graph = self.wire(Graph.of(nodes, dict.fromkeys(map(self._rename_ends, edges))))
        graph, more = self._complete(graph)
        meta = self.document.get("meta")
        name = str(meta.get("name") or "") if isinstance(meta, Mapping) else ""
        return Workflow(
            graph=clean_graph(graph, self.source, self.collecting),
            kind="portable",
            name=name or str(self.document.get("name") or ""),
            files=self.files,
            notes=(*self.notes, *(f"completed {edge}" for edge in more)),
        )

    @abstractmethod
    def make_nodes(self, name: str, rule: Rule, values: dict[str, Any]) -> Iterator[Node]:
        """Yield the nodes that a portable node becomes. Raises WorkflowError or ValueError for a wrong value."""

    def wire(self, graph: Graph) -> Graph:
        """Return the graph with what a family wires in another way, before edges are completed."""
        return graph

    def _read_node(self, entry: Any, problems: list[str]) -> Iterator[Node]:
        if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), str) for key in ("id", "type")):
            problems.append("A node has no id or no type")
            return
        name, kind, data = entry["id"], entry["type"], entry.get("data")
        if kind not in self.rules:
            near = did_you_mean(kind, self.rules)
            problems.append(f"Node {name} is of type {kind}, which has no translation.{near}")
            return
        if name in self.kinds:
            problems.append(f"Two nodes have the id {name}")
            return
        self.kinds[name] = kind
        try:
            yield from self.make_nodes(name, self.rules[kind], dict(data) if isinstance(data, Mapping) else {})
        except (WorkflowError, ValueError) as error:
            problems.append(f"Node {name}: {error}")

    def rename_fields(self, name: str, rule: Rule, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a node's values under their real names."""
        real = {given: rule.get("fields", {}).get(given, given) for given in values}
        self.notes.extend(f"{name}: {given} is left out, sweep decides it" for given in values if real[given] is None)
        return {real[given]: value for given, value in values.items() if real[given] is not None}

    def _rename_ends(self, edge: Edge) -> Edge:
        source, target = edge.source, edge.destination
        if rule := self.rules.get(self.kinds.get(source.node, "")):
            other = self.table.get("output", source.field)
            source = replace(source, field=rule.get("outputs", {}).get(source.field, other))
        if rule := self.rules.get(self.kinds.get(target.node, "")):
            target = replace(target, field=rule.get("inputs", {}).get(target.field, target.field))
        return Edge(source, target)

    def move_seeds(self, graph: Graph, bearing: str, drawing: str) -> Graph:
        """Move seeds of nodes that draw no noise here to the one node that does; leave them where that is not clear."""
        targets = [node.id for node in graph.nodes.values() if node.type == drawing]
        for node in graph.nodes.values():
            if node.type == bearing and "seed" in node.fields and len(targets) == 1:
                self.notes.append(f"{node.id}: seed is set on {targets[0]}, which draws the noise")
                bare = replace(node, fields={key: value for key, value in node.fields.items() if key != "seed"})
                graph = graph.adding([bare]).set({Address(targets[0], "seed"): node.fields["seed"]})
        return graph

    def _complete(self, graph: Graph) -> tuple[Graph, list[Edge]]:
        """Return the graph with the edges that the document left out, into what has neither value nor edge."""
        added: list[Edge] = []
        for node in graph.nodes.values():
            schema, asked = self.schemas.get(node.type), self.table.get("asked", {}).get(node.type, ())
            for wanted in schema.fields.values() if schema else ():
                address = Address(node.id, wanted.name)
                is_set = wanted.name in node.fields or address in self.files
                if (wanted.required or wanted.name in asked) and not is_set and not graph.list_edges_into(address):
                    new = [
                        Edge(output, address) for output in _find_only_fit(graph, self.schemas, address, wanted.type)
                    ]
                    added.extend(new)
                    graph = graph.adding(edges=new)
        return graph, added


def read_edge(entry: Any, problems: list[str]) -> Edge | None:
    """Return an edge written as source and destination with node_id and field; None and a problem for anything else."""
    match entry:
        case {
            "source": {"node_id": str(source), "field": str(output)},
            "destination": {"node_id": str(target), "field": str(name)},
        } if source and output and target and name:
            return Edge(Address(source, output), Address(target, name))
    problems.append(f"An edge has no source and destination with node_id and field: {truncate(str(entry), 80)}")
    return None


def _find_only_fit(graph: Graph, schemas: Mapping[str, NodeSchema], address: Address, kind: str) -> list[Address]:
    """Return the output that can feed the field, if only one can: those of its type and name come first, then those
    that nothing uses yet, and of a row of nodes that each change it (LoRAs) the last.
    """
    after = find_nodes_after(graph, [address.node])
    nodes = [(node.id, schemas[node.type].outputs) for node in graph.nodes.values() if node.type in schemas]
    fits = [Address(node, name) for node, outputs in nodes for name in outputs if outputs[name] == kind]
    fits = [output for output in fits if output.node not in after]
    fits = [output for output in fits if output.field == address.field] or fits
    if len(fits) > 1:
        fits = [output for output in fits if not _is_used(graph, output, schemas, kind)] or fits
    return fits if len(fits) == 1 else []


def _is_used(graph: Graph, output: Address, schemas: Mapping[str, NodeSchema], kind: str) -> bool:
    """Tell whether an output is taken: a text by any node, anything else by a node that gives the same kind again."""
    takers = [graph.nodes[edge.destination.node] for edge in graph.edges if edge.source == output]
    if "conditioning" in kind.lower():
        return bool(takers)
    return any(kind in schema.outputs.values() for node in takers if (schema := schemas.get(node.type)))
