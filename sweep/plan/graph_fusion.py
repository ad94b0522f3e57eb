"""Several variations as one graph: what they have in common is made once, and each keeps a branch of its own.

A server has a fixed cost an item, whatever is in it, so a few small variations sent together come back in a fraction
of the time. Nodes that would compute the same (their digests are equal: loaders, encoders, images to latents) are
shared. Never shared are the output nodes, so that each key gets its own image, and whatever does not give the same
twice or must not: random nodes, and everything of a replicate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

from sweep.plan.plan import Instance
from sweep.workflow import Address, Edge, Graph, Node, Value, find_nodes_after, find_nodes_before

_DIGITS: Final = 16  # hex digits of a digest that make an id: 64 bits


@dataclass(frozen=True, slots=True)
class FusedGraph:
    """A graph that makes the images of several keys. `owners` tells which keys a node works for."""

    graph: Graph
    outputs: Mapping[str, tuple[str, ...]]  # key → its output nodes, in the order of its instance
    owners: Mapping[str, tuple[str, ...]]  # node id → keys
    images: Mapping[str, Path]  # its input images: SHA-256 → file
    metadata: Mapping[str, Value] = field(default_factory=dict)  # of the one variation it is for; empty for several

    @property
    def output_nodes(self) -> tuple[str, ...]:
        return tuple(chain.from_iterable(self.outputs.values()))

    def find_affected_keys(self, node: str | None) -> tuple[str, ...]:
        """Find the keys that have no image when this node fails; all keys where the graph has no such node."""
        return self.owners.get(node or "", tuple(self.outputs))


def fuse(instances: Sequence[Instance]) -> FusedGraph:
    """Make one graph for these instances; each branch writes its own key and values into its images. Of instances with
    the same key, which would be the same image, there is one branch.

    An id is the node's own with what it computes, or with its key where it is not shared: the same instances give the
    same graph, and reading an image back finds the own ids again. One instance alone keeps its graph and its ids.
    """
    instances = list({instance.key: instance for instance in instances}.values())
    images = {sha: path for instance in instances for sha, path in instance.images.items()}
    if len(instances) == 1:
        only = instances[0]
        owners = dict.fromkeys(only.graph.nodes, (only.key,))
        return FusedGraph(only.make_submission(), {only.key: only.outputs}, owners, images, only.metadata)
    fusing = _Fusing()
    outputs = {instance.key: fusing.add(instance) for instance in instances}
    graph = Graph(fusing.nodes, tuple(fusing.edges))
    for instance in instances:
        renamed = dict(zip(instance.outputs, outputs[instance.key], strict=True))
        tagged = [renamed[output] for output in instance.tagged]
        graph = instance.add_metadata(graph, tagged)
    return FusedGraph(graph, outputs, {node: tuple(keys) for node, keys in fusing.owners.items()}, images)


class _Fusing:
    """The graph while it grows, one instance after the other."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: list[Edge] = []
        self.owners: dict[str, list[str]] = {}
        self._shared: dict[tuple[str, int], str] = {}  # what a node computes, and which of its twins → its id

    def add(self, instance: Instance) -> tuple[str, ...]:
        """Add what is missing for this instance; return its output nodes' new ids."""
        graph = instance.graph
        needed = find_nodes_before(graph, instance.outputs)
        names = self._name_nodes(instance, needed)
        new = {old for old in needed if names[old] not in self.nodes}
        for old in graph.nodes:
            if old in needed:
                self.owners.setdefault(names[old], []).append(instance.key)
            if old in new:
                node = replace(graph.nodes[old], id=names[old])
                repeat = instance.replicate
                self.nodes[names[old]] = instance.dialect.refresh(node, repeat) if repeat else node
        for edge in graph.edges:
            if edge.destination.node in new:
                source = Address(names[edge.source.node], edge.source.field)
                self.edges.append(Edge(source, Address(names[edge.destination.node], edge.destination.field)))
        return tuple(names[output] for output in instance.outputs)

    def _name_nodes(self, instance: Instance, needed: frozenset[str]) -> dict[str, str]:
        """Choose each node's id: by what it computes where it may be shared, by the instance's key where not.

        Not shared are outputs, random nodes, all of a replicate, and what any of them leads to.
        """
        nodes = instance.graph.nodes
        own = {node for node in needed if nodes[node].type in instance.dialect.random_nodes}.union(instance.outputs)
        private = needed if instance.replicate else needed & find_nodes_after(instance.graph, own)
        names: dict[str, str] = {}
        twins: Counter[str] = Counter()  # equal nodes of one instance stay apart: a collection counts them
        for old in sorted(needed):
            if old in private:
                names[old] = f"{old}_{instance.key[:_DIGITS]}"
                continue
            digest = instance.digests[old]
            copy = f"_{twins[digest]}" if twins[digest] else ""
            name = f"{old}_{digest[:_DIGITS]}{copy}"
            names[old] = self._shared.setdefault((digest, twins[digest]), name)
            twins[digest] += 1
        return names
