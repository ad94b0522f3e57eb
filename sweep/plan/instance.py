"""One variation, ready to be rendered: a graph with its values in it, and the key that says which picture it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sweep.experiment.definition import Scalar, Variation
from sweep.workflow.graph import Address, Edge, Graph, Node

METADATA_INPUT: Final = "metadata"  # of every InvokeAI node that saves a picture
METADATA_TYPE: Final = "core_metadata"  # takes any extra keys, and writes them into the PNG


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A variation bound to its graph, which names no server and holds no metadata: see `with_metadata`."""

    key: str  # hex; same key, same picture: names neither server, folder, label nor layout
    variation: Variation
    graph: Graph
    outputs: tuple[str, ...]  # the nodes whose pictures are wanted
    prompt: str | None = None  # as it is rendered, composed
    model: str | None = None  # name of the main model
    source: str | None = None  # SHA-256 of the picture it starts from
    images: Mapping[str, Path] = field(default_factory=dict)  # SHA-256 → file, for each ImageRef in the graph
    tagged: tuple[str, ...] = ()  # those of the outputs that take metadata and have none of their own
    replicate: int = 0  # above 0: rendered anew with everything equal, so nothing of it may come from a cache

    def submission(self) -> Graph:
        """The graph to send when it is rendered by itself: its key and values will stand in the picture's metadata.

        Of a replicate nothing comes from the server's cache: the noise floor is what it is for.
        """
        graph = self.graph
        if self.replicate:
            graph = graph.set({Address(node, "use_cache"): False for node in graph.nodes})
        return with_metadata(graph, self.tagged, self.key, self.variation.values)


def with_metadata(graph: Graph, outputs: Sequence[str], key: str, values: Mapping[str, Scalar]) -> Graph:
    """The graph with a metadata node that has `outputs` write the variation's key and values into their pictures.

    `outputs` take a metadata input and have nothing connected to it. Nothing is added where there are none.
    """
    if not outputs:
        return graph
    name = _free(graph, f"sweep_metadata_{key[:12]}")
    node = Node(name, METADATA_TYPE, {"sweep_key": key, "sweep_values": dict(values)})
    edges = [Edge(Address(name, METADATA_INPUT), Address(output, METADATA_INPUT)) for output in outputs]
    return graph.adding([node], edges)


def _free(graph: Graph, name: str) -> str:
    while name in graph.nodes:
        name += "_"
    return name
