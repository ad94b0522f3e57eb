"""Sessions: which copies of a node run, in which order, and what edges bring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweep.sandbox.graph_expansion import ExpandedGraph
from sweep.sandbox.image_library import ImageLibrary
from sweep.sandbox.item_queue import Store
from sweep.sandbox.nodes import NodeContext, compute_output
from sweep.sandbox.sandbox_options import FaultDice, FaultInjection
from sweep.workflow import load_builtin_schemas
from tests.support.wire import graph, node


def nothing_stored() -> NodeContext:
    images, dice = ImageLibrary(Path(), Store(), None), FaultDice(FaultInjection(), 0)
    return NodeContext(schemas=load_builtin_schemas(), models={}, images=images, dice=dice)


def run(posted: dict[str, Any]) -> ExpandedGraph:
    expanded = ExpandedGraph("session", posted)
    for copy in expanded.expand():
        copy.output = compute_output(copy.node, nothing_stored())
    return expanded


def values(expanded: ExpandedGraph, source: str) -> list[Any]:
    return [copy.output["value"] for copy in expanded.copies[source] if copy.output]


def numbers(id_: str, stop: int) -> dict[str, Any]:
    return node(id_, "range", start=0, stop=stop, step=1)


def test_graph_expansion_takes_the_last_edge_into_a_field() -> None:
    posted = graph(
        *(node(name, "integer", value=value) for name, value in (("x", 5), ("y", 50))),
        node("a", "add", a=1, b=0),
        edges=["x.value > a.a", "y.value > a.a"],
    )
    assert values(run(posted), "a") == [50]


def test_iterate_copies_nodes_and_collect_joins_them() -> None:
    posted = graph(
        numbers("r", 3),
        node("it", "iterate", collection=[], index=0),
        node("m", "mul", a=0, b=10),
        node("c", "collect", collection=[]),
        edges=["r.collection > it.collection", "it.item > m.a", "m.value > c.item"],
    )
    expanded = run(posted)
    assert values(expanded, "m") == [0, 10, 20]
    assert [copy.path for copy in expanded.copies["m"]] == [(0,), (1,), (2,)]
    (collected,) = expanded.copies["c"]
    assert collected.output["collection"] == [0, 10, 20]


def test_iterations_multiply_unless_they_are_the_same() -> None:
    posted = graph(
        numbers("r", 2),
        numbers("s", 3),
        node("i", "iterate", collection=[], index=0),
        node("j", "iterate", collection=[], index=0),
        node("both", "add", a=0, b=0),
        node("twice", "mul", a=0, b=0),
        edges=[
            "r.collection > i.collection",
            "s.collection > j.collection",
            *("i.item > both.a", "j.item > both.b", "i.item > twice.a", "i.item > twice.b"),
        ],
    )
    expanded = run(posted)
    assert sorted(values(expanded, "both")) == [0, 1, 1, 2, 2, 3]
    assert values(expanded, "twice") == [0, 1]


def test_empty_iteration_runs_nothing_and_the_rest_goes_on() -> None:
    posted = graph(
        numbers("r", 0),
        node("it", "iterate", collection=[], index=0),
        node("m", "mul", a=0, b=10),
        node("c", "collect", collection=[]),
        edges=["r.collection > it.collection", "it.item > m.a", "m.value > c.item"],
    )
    expanded = run(posted)
    assert expanded.copies["m"] == []
    assert len(expanded.copies["c"]) == 1
    assert set(expanded.history) == set(posted["nodes"])


def test_session_maps_copies_to_sources_and_back() -> None:
    posted = graph(node("x", "integer", value=5), node("a", "add", a=1, b=0), edges=["x.value > a.a"])
    expanded = run(posted)
    session = expanded.to_api()
    for prepared, source in session["prepared_source_mapping"].items():
        assert [copy.id for copy in expanded.copies[source]] == [prepared]
        assert session["execution_graph"]["nodes"][prepared]["id"] == prepared
    assert set(session["results"]) == set(session["prepared_source_mapping"])
    assert session["graph"]["nodes"]["a"]["a"] == 1


def test_node_cache_keeps_recently_used_values() -> None:
    """A prompt in the node cache serves every image of a sweep, also the hundred-thousandth."""
    context = nothing_stored()
    prompt = context.put("ConditioningFieldData", "a cup")
    noise = context.put("Noise", 0)
    for number in range(50_000):
        assert context.values[prompt] == "a cup"
        context.put("Noise", number)
    assert len(context.values) == 50_000
    assert noise not in context.values
