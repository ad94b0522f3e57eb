from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import WorkflowError
from sweep.workflow.graph import Address, BoardRef, Edge, Graph, ImageRef, Json, ModelRef, Node, Ref, map_refs
from sweep.workflow.invokeai.invokeai_formats import write_graph

GRAPH = Graph.of([Node("a", "noise", {"seed": 1}), Node("b", "l2i")], ["a.noise → b.latents", "a.width -> b.tile_size"])


@given(st.text(min_size=1), st.text(alphabet="abc_0", min_size=1))
def test_addresses_are_read_as_they_are_written(node: str, field: str) -> None:
    assert Address.parse(str(Address(node, field))) == Address(node, field)


@pytest.mark.parametrize("wrong", ["", "seed", ".seed", "noise.", "."])
def test_what_is_no_address(wrong: str) -> None:
    with pytest.raises(WorkflowError, match=r"addresses are written node\.field"):
        Address.parse(wrong)


def test_edges_are_written_with_either_arrow() -> None:
    assert [str(edge) for edge in GRAPH.edges] == ["a.noise → b.latents", "a.width → b.tile_size"]
    assert GRAPH.list_edges_into(Address("b", "latents")) == (GRAPH.edges[0],)


def test_setting_changes_a_copy_and_shares_the_rest() -> None:
    changed = GRAPH.set({Address("a", "seed"): 2, Address("a", "width"): 64})
    assert changed.nodes["a"].fields == {"seed": 2, "width": 64}
    assert GRAPH.nodes["a"].fields == {"seed": 1}
    assert changed.nodes["b"] is GRAPH.nodes["b"]
    with pytest.raises(WorkflowError, match="no node 'c'"):
        GRAPH.set({Address("c", "seed"): 2})


def test_adding_and_removing() -> None:
    more = GRAPH.adding([Node("a", "other"), Node("c", "string")], ["c.value → a.x"])
    assert [node.type for node in more.nodes.values()] == ["other", "l2i", "string"]
    assert len(more.edges) == 3
    assert more.without_edges(GRAPH.edges).edges == (Edge(Address("c", "value"), Address("a", "x")),)


def test_references_are_resolved_at_any_depth() -> None:
    def resolve(reference: Ref) -> Json:
        return type(reference).__name__

    value: Any = {"loras": [{"lora": ModelRef("a", "sd-1")}, (ImageRef("00"), 3)], "board": BoardRef("b"), "text": "x"}
    assert map_refs(value, resolve) == {
        "loras": [{"lora": "ModelRef"}, ["ImageRef", 3]],
        "board": "BoardRef",
        "text": "x",
    }


def test_the_api_form() -> None:
    graph = GRAPH.set({Address("b", "board"): BoardRef("mine")})
    assert write_graph(graph, lambda _: {"board_id": "1"}) == {
        "id": "sweep",
        "nodes": {
            "a": {"id": "a", "type": "noise", "seed": 1},
            "b": {"id": "b", "type": "l2i", "board": {"board_id": "1"}},
        },
        "edges": [
            {"source": {"node_id": "a", "field": "noise"}, "destination": {"node_id": "b", "field": "latents"}},
            {"source": {"node_id": "a", "field": "width"}, "destination": {"node_id": "b", "field": "tile_size"}},
        ],
    }
