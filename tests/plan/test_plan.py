from __future__ import annotations

from sweep.workflow import Address, Graph, ModelRef, Node, builtin_schemas, check_graph
from sweep.workflow.identity import graph_key
from sweep.workflow.invokeai.dialect import INVOKEAI
from tests.plan.conftest import Plans


def test_key_and_values_go_into_the_image_and_not_into_the_key(plans: Plans) -> None:
    plan = plans(inputs={"prompt": "a cup"}, axes={"seed": [7, 8]})
    instance = plan.instance(plan.grid[1])
    graph = instance.make_submission()
    (metadata,) = [node for node in graph.nodes.values() if node.type == "core_metadata"]
    assert metadata.fields["sweep_key"] == instance.key
    assert metadata.fields["sweep_values"] == {"seed": 8}
    assert metadata.fields["positive_prompt"] == "a cup"
    assert metadata.fields["seed"] == 8
    assert metadata.fields["model"] == ModelRef("small", "sd-1")
    assert graph_key(graph, instance.outputs, INVOKEAI) == instance.key
    assert check_graph(graph, builtin_schemas()) == []


def test_nothing_is_added_where_no_output_takes_metadata() -> None:
    graph = Graph.of([Node("a", "blank_image")])
    assert INVOKEAI.write_metadata(graph, (), {"sweep_key": "k" * 32}) is graph


def test_what_a_image_of_somebody_elses_told_gives_way() -> None:
    theirs = Node("theirs", "core_metadata", {"seed": 3})
    graph = Graph.of([Node("a", "l2i"), theirs], ["theirs.metadata → a.metadata"])
    told = INVOKEAI.write_metadata(graph, ("a",), {"sweep_key": "k" * 32, "seed": 4})
    (edge,) = told.feeding(Address("a", "metadata"))
    assert told.nodes[edge.source.node].fields["seed"] == 4


def test_a_node_id_that_is_taken_is_left_alone() -> None:
    taken = f"sweep_metadata_{'k' * 12}"
    graph = INVOKEAI.write_metadata(
        Graph.of([Node("a", "l2i"), Node(taken, "integer")]), ("a",), {"sweep_key": "k" * 32}
    )
    assert graph.nodes[taken].type == "integer"
    assert len(graph.nodes) == 3


def test_nothing_of_a_replicate_comes_from_a_cache(plans: Plans) -> None:
    plan = plans(inputs={"prompt": "a cup"}, axes={"seed": [7]}, study={"replicates": 2})
    first, second = (plan.instance(plan.grid[index]).make_submission() for index in (0, 1))
    assert {node.fields.get("use_cache") for node in first.nodes.values() if node.type == "noise"} == {None}
    assert all(node.fields["use_cache"] is False for node in second.nodes.values() if node.type != "core_metadata")
