from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import WorkflowError
from sweep.workflow.graph import Address, Graph, Names, Node, find_address, make_readable

A, B, C, D = (f"0000000{letter}-0000-4000-8000-000000000000" for letter in "abcd")


def test_a_made_up_id_is_called_by_its_label_or_type() -> None:
    graph = Graph.of([Node(A, "noise"), Node(B, "rand_int", label="Random  Seed"), Node("mine", "compel")])
    names = Names(graph)
    assert [names.name_node(node) for node in graph.nodes] == ["noise", "Random Seed", "mine"]
    assert make_readable(graph, f"{A}.seed, {B}.low and mine.prompt") == "noise.seed, Random Seed.low and mine.prompt"
    assert find_address(graph, "random seed.low") == Address(B, "low")
    assert find_address(graph, "noise.seed") == Address(A, "seed")
    assert find_address(graph, "compel.prompt") == Address("mine", "prompt")
    assert find_address(graph, f"{B}.high") == Address(B, "high")


def test_find_address_divides_after_the_longest_name_of_a_node() -> None:
    """Ids, labels and fields may all hold dots."""
    graph = Graph.of([Node("3", "Resize", label="v1.5"), Node("3.b", "Resize"), Node("4", "noise"), Node("5", "noise")])
    assert find_address(graph, "3.resize_type.width") == Address("3", "resize_type.width")
    assert find_address(graph, "v1.5.resize_type.width") == Address("3", "resize_type.width")
    assert find_address(graph, "3.b.width") == Address("3.b", "width")
    assert find_address(graph, "3.b.c.width") == Address("3.b", "c.width")
    with pytest.raises(WorkflowError, match=r"no node 'nois\.e'"):
        find_address(graph, "nois.e.seed")
    with pytest.raises(WorkflowError, match="2 nodes are called noise"):
        find_address(graph, "noise.a.seed")


def test_ids_of_the_other_pages_lose_what_was_drawn_at_random() -> None:
    graph = Graph.of([Node("pos_cond:Hx9_aZ-k3Q", "compel"), Node("neg_cond:0123456789", "compel")])
    assert make_readable(graph, "pos_cond:Hx9_aZ-k3Q.prompt") == "pos_cond.prompt"
    assert find_address(graph, "neg_cond.prompt").node == "neg_cond:0123456789"


def test_several_alike_are_numbered_in_the_order_of_the_file() -> None:
    graph = Graph.of([Node(A, "controlnet"), Node(B, "image"), Node(C, "controlnet"), Node("own", "controlnet")])
    names = Names(graph)
    assert [names.name_node(node) for node in (A, C)] == ["controlnet_1", "controlnet_2"]
    assert [names.node(f"controlnet_{number}") for number in (1, 2, 3)] == [A, C, "own"]
    with pytest.raises(WorkflowError) as several:
        names.node("controlnet")
    assert str(several.value).startswith("3 nodes are called controlnet: controlnet_1, controlnet_2, controlnet_3.")
    with pytest.raises(WorkflowError, match="no node 'controlnet_4'"):
        names.node("controlnet_4")
    with pytest.raises(WorkflowError, match="Did you mean image"):
        names.node("imag")


def test_a_label_that_is_another_nodes_id_or_type_does_not_take_its_place() -> None:
    graph = Graph.of([Node(A, "noise", label="noise"), Node("noise", "compel"), Node(B, "noise")])
    names = Names(graph)
    assert names.node("noise") == "noise"
    assert {names.node(names.name_node(node)) for node in graph.nodes} == set(graph.nodes)


_LABELS = st.sampled_from(["", "noise", "Noise", "noise_1", "noise_2", "a.b", "Größe 😀", "two\nlines", " x ", "1"])
_IDS = st.sampled_from([A, B, C, D, "noise", "noise_1", "x", "noise:0123456789"])


@given(st.dictionaries(_IDS, st.tuples(st.sampled_from(["noise", "compel", "noise_2"]), _LABELS), min_size=1))
def test_every_node_is_found_by_what_it_is_called(drawn: dict[str, tuple[str, str]]) -> None:
    graph = Graph.of([Node(name, kind, label=label) for name, (kind, label) in drawn.items()])
    names = Names(graph)
    called = [names.name_node(node) for node in graph.nodes]
    assert [names.node(name) for name in called] == list(graph.nodes)
    assert all("\n" not in name for name in called)
