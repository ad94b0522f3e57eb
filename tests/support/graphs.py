"""Keys, digests and outputs of graphs, as tests ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sweep.workflow import Dialect, Digests, Graph, NodeSchemas


def graph_key(graph: Graph, outputs: Iterable[str], dialect: Dialect) -> str:
    return Digests(graph, dialect).key(outputs)


def node_digests(graph: Graph, dialect: Dialect) -> Mapping[str, str]:
    return Digests(graph, dialect).by_node


def output_nodes(graph: Graph, schemas: NodeSchemas) -> tuple[str, ...]:
    return schemas.dialect.find_outputs(graph, schemas)
