from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import WorkflowError
from sweep.workflow.digests import Digests
from sweep.workflow.graph import Address, BoardRef, Edge, Graph, ImageRef, ModelRef, Node
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI
from sweep.workflow.invokeai.invokeai_roles import UNDECIDING
from tests.support.graphs import graph_key, node_digests

template = INVOKEAI.template

scalars = st.one_of(
    st.text(max_size=5),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.builds(ModelRef, st.sampled_from(["a", "b"]), st.just("sd-1")),
    st.builds(ImageRef, st.sampled_from(["00", "11"])),
)
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(st.text(max_size=3), scalars, max_size=3))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Graphs without circles: edges lead from earlier nodes to later ones, into fields of their own."""
    count = draw(st.integers(1, 7))
    nodes = [
        Node(f"n{i}", draw(st.sampled_from("abc")), draw(st.dictionaries(st.sampled_from("xyz"), values, max_size=3)))
        for i in range(count)
    ]
    edges = [
        Edge(Address(f"n{draw(st.integers(0, i - 1))}", draw(st.sampled_from("op"))), Address(f"n{i}", field))
        for i in range(1, count)
        for field in draw(st.lists(st.sampled_from("uvw"), unique=True, max_size=3))
    ]
    return Graph.of(nodes, edges)


def renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    nodes = [replace(node, id=names[node.id], label="new") for node in graph.nodes.values()]
    return Graph.of(nodes, [Edge(_at(e.source, names), _at(e.destination, names)) for e in graph.edges])


def _at(address: Address, names: Mapping[str, str]) -> Address:
    return Address(names[address.node], address.field)


@given(graphs(), st.data())
def test_names_labels_and_order_do_not_matter(graph: Graph, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(list(graph.nodes)))
    names = {name: f"other {index}" for index, name in enumerate(shuffled)}
    other = renamed(graph, names)
    nodes = data.draw(st.permutations(list(other.nodes.values())))
    edges = data.draw(st.permutations(other.edges))
    other = Graph.of(nodes, edges)
    assert {names[node]: digest for node, digest in node_digests(graph, INVOKEAI).items()} == node_digests(
        other, INVOKEAI
    )
    assert graph_key(graph, graph.nodes, INVOKEAI) == graph_key(other, other.nodes, INVOKEAI)


@given(graphs(), st.data())
def test_a_changed_field_changes_its_node_and_all_downstream_and_nothing_else(
    graph: Graph, data: st.DataObject
) -> None:
    node = data.draw(st.sampled_from(list(graph.nodes)))
    before = Digests(graph, INVOKEAI)
    after = before.with_fields({Address(node, "fresh"): "never there before"})
    reached = {node}
    for name in graph.nodes:  # in order of computation
        if any(edge.source.node in reached for edge in graph.edges if edge.destination.node == name):
            reached.add(name)
    assert {name for name in graph.nodes if before.by_node[name] != after.by_node[name]} == reached


@given(graphs(), st.data())
def test_changing_step_by_step_is_as_starting_over(graph: Graph, data: st.DataObject) -> None:
    digests = Digests(graph, INVOKEAI)
    for _ in range(3):
        node = data.draw(st.sampled_from(list(graph.nodes)))
        digests = digests.with_fields({Address(node, data.draw(st.sampled_from("xyzuvw"))): data.draw(values)})
    assert digests.by_node == node_digests(digests.graph, INVOKEAI)


@given(graphs(), st.data())
def test_an_added_edge_and_a_changed_type_change_the_key(graph: Graph, data: st.DataObject) -> None:
    last = list(graph.nodes)[-1]
    key = graph_key(graph, [last], INVOKEAI)
    assert graph_key(graph.adding([Node("new", "a")], [f"new.o → {last}.fresh"]), [last], INVOKEAI) != key
    retyped = replace(graph.nodes[last], type="other")
    assert graph_key(Graph({**graph.nodes, last: retyped}, graph.edges), [last], INVOKEAI) != key


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (0.0, -0.0, True),
        (1, True, False),
        (0, None, False),
        ("1", 1, False),
        (0.3, 0.1 + 0.2, False),
        (0.7, 1 - 0.3, True),
        (2**53 + 1, float(2**53), False),
        ([1, 2], [1.0, 2], True),
        ([1, 2], (1, 2), True),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}, True),
        ([0.7, {"x": 3.0}], [0.7, {"x": 3}], True),
        (ModelRef("a", "sd-1"), ModelRef("a", "sdxl"), False),
        (ModelRef("a", "sd-1"), ModelRef("a", "sd-1", "lora"), False),
        (ImageRef("00"), ImageRef("11"), False),
        (BoardRef("a"), BoardRef("a"), True),
        ([ModelRef("a", "sd-1")], [ModelRef("b", "sd-1")], False),
        ("é", "e\u0301", False),
    ],
)
def test_what_counts_as_the_same_value(one: Any, other: Any, same: bool) -> None:
    keys = [graph_key(Graph.of([Node("a", "x", {"f": value})]), ["a"], INVOKEAI) for value in (one, other)]
    assert (keys[0] == keys[1]) == same


@pytest.mark.parametrize("name", sorted(UNDECIDING))
def test_what_decides_no_image_does_not_count(name: str) -> None:
    bare = Graph.of([Node("a", "l2i"), Node("m", "core_metadata", {"seed": 1})])
    decorated = bare.set({Address("a", name): "x"}).adding(edges=[f"m.metadata → a.{name}"])
    assert graph_key(bare, ["a"], INVOKEAI) == graph_key(decorated, ["a"], INVOKEAI)


def test_metadata_counts_where_values_are_read_back_from_it() -> None:
    def graph(seed: int) -> Graph:
        return Graph.of(
            [Node("m", "core_metadata", {"seed": seed}), Node("s", "metadata_to_integer"), Node("z", "noise")],
            ["m.metadata → s.metadata", "s.value → z.seed"],
        )

    assert graph_key(graph(1), ["z"], INVOKEAI) != graph_key(graph(2), ["z"], INVOKEAI)


def test_a_value_under_an_edge_does_not_count_and_the_order_of_a_collection_does() -> None:
    graph = Graph.of([Node("i", "integer", {"value": 3}), Node("z", "noise")], ["i.value → z.seed"])
    assert graph_key(graph, ["z"], INVOKEAI) == graph_key(graph.set({Address("z", "seed"): 9}), ["z"], INVOKEAI)
    nodes = [Node("a", "integer", {"value": 1}), Node("b", "integer", {"value": 2}), Node("c", "collect")]
    ordered = Graph.of(nodes, ["a.value → c.item", "b.value → c.item"])
    turned = Graph.of(nodes, ["b.value → c.item", "a.value → c.item"])
    assert graph_key(ordered, ["c"], INVOKEAI) != graph_key(turned, ["c"], INVOKEAI)


def test_only_what_leads_to_the_outputs_counts() -> None:
    graph = template("img2img", "sd-1")
    key = graph_key(graph, ["decode"], INVOKEAI)
    assert key == graph_key(graph.adding([Node("other", "blank_image")]), ["decode"], INVOKEAI)
    assert key != graph_key(graph, ["encode"], INVOKEAI)
    assert len(key) == 32
    assert int(key, 16)


def test_keys_stay_what_they_are() -> None:
    """Results folders outlive releases: a changed key would render everything again."""
    graph = template("txt2img", "sd-1").set({Address("model", "model"): ModelRef("tiny-sd", "sd-1")})
    assert graph_key(graph, ["decode"], INVOKEAI) == "dbf0a8eecbe425db1ed4b4e19fb3db8a"


def test_a_graph_that_cannot_be_computed_is_an_error() -> None:
    with pytest.raises(WorkflowError, match="in a circle: a → b → a"):
        node_digests(Graph.of([Node("a", "x"), Node("b", "x")], ["a.o → b.i", "b.o → a.i"]), INVOKEAI)
    with pytest.raises(WorkflowError, match="no node 'b'"):
        node_digests(Graph.of([Node("a", "x")], ["b.o → a.i"]), INVOKEAI)
    with pytest.raises(WorkflowError, match="no node 'c'"):
        graph_key(Graph.of([Node("a", "x")]), ["c"], INVOKEAI)
    with pytest.raises(WorkflowError, match="no node 'c'"):
        Digests(Graph.of([Node("a", "x")]), INVOKEAI).with_fields({Address("c", "f"): 1})
