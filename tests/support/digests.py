"""Keys and digests of graphs, as tests ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sweep.workflow import Dialect, Digests, Graph


def graph_key(graph: Graph, outputs: Iterable[str], dialect: Dialect) -> str:
    return Digests(graph, dialect).key(outputs)


def node_digests(graph: Graph, dialect: Dialect) -> Mapping[str, str]:
    return Digests(graph, dialect).by_node
