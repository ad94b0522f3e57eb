"""One variation, ready to be rendered: a graph with its values in it, and the key that says which picture it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sweep.experiment.definition import Scalar, Variation
from sweep.workflow.graph import Address, Edge, Graph, Node, Value

METADATA_INPUT: Final = "metadata"  # of every InvokeAI node that saves a picture
METADATA_TYPE: Final = "core_metadata"  # takes any extra keys, and writes them into the PNG
RECALLED: Final[Mapping[str, str]] = MappingProxyType(  # role → what InvokeAI's own pages read from a picture
    {
        "prompt": "positive_prompt",
        "negative_prompt": "negative_prompt",
        "seed": "seed",
        "steps": "steps",
        "cfg_scale": "cfg_scale",
        "scheduler": "scheduler",
        "width": "width",
        "height": "height",
        "model": "model",
    }
)


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
    tagged: tuple[str, ...] = ()  # those of the outputs that take metadata
    recalled: Mapping[str, Value] = field(default_factory=dict)  # what InvokeAI's pages show of a picture
    replicate: int = 0  # above 0: rendered anew with everything equal, so nothing of it may come from a cache

    def submission(self) -> Graph:
        """The graph to send when it is rendered by itself: its key and values will stand in the picture's metadata.

        Of a replicate nothing comes from the server's cache: the noise floor is what it is for.
        """
        graph = self.graph
        if self.replicate:
            graph = graph.set({Address(node, "use_cache"): False for node in graph.nodes})
        return self.telling(graph, self.tagged)

    def telling(self, graph: Graph, outputs: Sequence[str]) -> Graph:
        """The graph with `outputs` writing this variation's key, values and parameters into their pictures."""
        return with_metadata(graph, outputs, {**self.recalled, **_ours(self.key, self.variation.values)})


def _ours(key: str, values: Mapping[str, Scalar]) -> dict[str, Value]:
    return {"sweep_key": key, "sweep_values": dict(values)}


def with_metadata(graph: Graph, outputs: Sequence[str], told: Mapping[str, Value]) -> Graph:
    """The graph with a metadata node that has `outputs`, which take metadata, write what is `told` into their pictures.

    What the workflow connects there itself gives way: it would tell the values its author rendered with. Nothing is
    added where there are no outputs.
    """
    if not outputs:
        return graph
    inputs = {Address(output, METADATA_INPUT) for output in outputs}
    graph = graph.without_edges([edge for edge in graph.edges if edge.destination in inputs])
    name = _free(graph, f"sweep_metadata_{str(told['sweep_key'])[:12]}")
    edges = [Edge(Address(name, METADATA_INPUT), Address(output, METADATA_INPUT)) for output in outputs]
    return graph.adding([Node(name, METADATA_TYPE, told)], edges)


def _free(graph: Graph, name: str) -> str:
    while name in graph.nodes:
        name += "_"
    return name
