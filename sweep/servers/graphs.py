"""A graph as one server takes it: its references resolved, its outputs made to be found and kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweep.errors import VariationError
from sweep.workflow.graph import BoardRef, Graph, ImageRef, Json, ModelRef, Ref, map_refs


def references(graph: Graph) -> frozenset[Ref]:
    """Every model, picture and board a graph names."""
    found: set[Ref] = set()

    def note(ref: Ref) -> Json:
        found.add(ref)
        return None

    for node in graph.nodes.values():
        for value in node.fields.values():
            map_refs(value, note)
    return frozenset(found)


def for_server(
    graph: Graph,
    models: Mapping[ModelRef, Json],
    images: Mapping[str, str],
    boards: Mapping[str, str],
) -> dict[str, Any]:
    """The graph's JSON with this server's identifiers; raises VariationError for an empty graph."""
    if not graph.nodes:
        raise VariationError("the graph has no nodes", kind="Refused")

    def resolve(ref: Ref) -> Json:
        if isinstance(ref, ModelRef):
            return models[ref]
        if isinstance(ref, ImageRef):
            return {"image_name": images[ref.sha256]}
        return {"board_id": boards[ref.name]}

    return graph.to_api(resolve)


def mark_outputs(api: dict[str, Any], outputs: Iterable[str], *, board_id: str | None, intermediate: bool) -> None:
    """Say of each node whether its pictures are kept, and where.

    An output is never taken from the server's cache: two items would share one picture, which names only the first.
    Other nodes' pictures are kept out of the gallery, unless the graph says otherwise.
    """
    wanted = frozenset(outputs)
    for name, node in api["nodes"].items():
        if name not in wanted:
            node.setdefault("is_intermediate", True)
            continue
        node["is_intermediate"] = intermediate
        node["use_cache"] = False
        if board_id is not None:
            node["board"] = {"board_id": board_id}


def run_once(graph: Graph, outputs: Sequence[str]) -> frozenset[str]:
    """The outputs that no iterate node multiplies: their first picture is their only one."""
    multiplied = [node.id for node in graph.nodes.values() if node.type == "iterate"]
    targets: dict[str, set[str]] = {}
    for edge in graph.edges:
        targets.setdefault(edge.source.node, set()).add(edge.destination.node)
    seen: set[str] = set()
    while multiplied:
        node = multiplied.pop()
        if node not in seen:
            seen.add(node)
            multiplied.extend(targets.get(node, ()))
    return frozenset(outputs) - seen


def images_of(refs: Iterable[Ref]) -> tuple[str, ...]:
    """The content hashes of the pictures among references, sorted."""
    return tuple(sorted(ref.sha256 for ref in refs if isinstance(ref, ImageRef)))


def boards_of(refs: Iterable[Ref]) -> tuple[str, ...]:
    """The names of the boards among references, sorted."""
    return tuple(sorted(ref.name for ref in refs if isinstance(ref, BoardRef)))


def models_of(refs: Iterable[Ref]) -> tuple[ModelRef, ...]:
    """The models among references, sorted."""
    return tuple(sorted(ref for ref in refs if isinstance(ref, ModelRef)))
