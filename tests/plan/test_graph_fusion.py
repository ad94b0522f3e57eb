from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.experiment import Level, Variation
from sweep.plan.graph_binder import is_fusable
from sweep.plan.graph_fusion import fuse
from sweep.plan.plan import Instance
from sweep.workflow import Graph, Node, NodeSchemas, check_graph, load_builtin_schemas, workflow_from, write_graph
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI
from tests.plan.conftest import Plans
from tests.support.graphs import graph_key, node_digests

AXES = {
    "model": ["small", "large"],
    "variation": ["red", "blue"],
    "denoise_strength": [0.2, 0.5],
    "image": ["wide.png", "tall.png"],
    "seed": [1, 2],
}


def some(plans: Plans, indices: list[int]) -> list[Instance]:
    plan = plans("img2img", inputs={"prompt": "a cup", "steps": 4}, axes=AXES)
    return [plan.instance(plan.grid[index]) for index in indices]


def count(graph: Graph, kind: str) -> int:
    return sum(1 for node in graph.nodes.values() if node.type == kind)


@given(st.lists(st.integers(0, 31), min_size=1, max_size=12, unique=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
def test_each_branch_is_the_instance_it_was_made_from(plans: Plans, indices: list[int]) -> None:
    instances = some(plans, indices)
    fused = fuse(instances)
    assert list(fused.outputs) == [instance.key for instance in instances]
    for instance in instances:
        assert graph_key(fused.graph, fused.outputs[instance.key], INVOKEAI) == instance.key
    outputs = [node for nodes in fused.outputs.values() for node in nodes]
    assert len(outputs) == len(set(outputs)) == len(instances)
    assert check_graph(fused.graph, load_builtin_schemas()) == []


@given(st.lists(st.integers(0, 31), min_size=2, max_size=12, unique=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
def test_nothing_but_images_and_their_metadata_is_made_twice(plans: Plans, indices: list[int]) -> None:
    fused = fuse(some(plans, indices))
    shared = {
        name: digest
        for name, digest in node_digests(fused.graph, INVOKEAI).items()
        if name.startswith("sweep_") is False
    }
    private = {node for nodes in fused.outputs.values() for node in nodes}
    digests = [digest for name, digest in shared.items() if name not in private]
    assert len(digests) == len(set(digests))


def test_what_branches_have_in_common_is_there_once(plans: Plans) -> None:
    plan = plans(
        "img2img",
        inputs={"prompt": "a cup", "image": "wide.png"},
        axes={"denoise_strength": [0.2, 0.4], "seed": [1, 2]},
    )
    graph = fuse([plan.instance(variation) for variation in plan.grid]).graph
    assert {
        kind: count(graph, kind) for kind in ("main_model_loader", "compel", "i2l", "noise", "denoise_latents", "l2i")
    } == {
        "main_model_loader": 1,
        "compel": 2,
        "i2l": 1,
        "noise": 2,
        "denoise_latents": 4,
        "l2i": 4,
    }
    assert count(graph, "core_metadata") == 4


def test_each_branch_writes_its_own_values_into_its_image(plans: Plans) -> None:
    instances = some(plans, [0, 5, 17])
    fused = fuse(instances)
    for instance in instances:
        (output,) = fused.outputs[instance.key]
        (edge,) = [edge for edge in fused.graph.edges if str(edge.destination) == f"{output}.metadata"]
        fields = fused.graph.nodes[edge.source.node].fields
        assert fields["sweep_key"] == instance.key
        assert fields["sweep_values"] == instance.variation.values


def test_the_same_instances_give_the_same_graph_in_whatever_order(plans: Plans) -> None:
    instances = some(plans, [3, 9, 4])
    one, two = fuse(instances), fuse(instances[::-1])
    assert one.graph.nodes == two.graph.nodes
    assert set(one.graph.edges) == set(two.graph.edges)


def test_the_culprit_of_a_failure_is_every_key_that_needs_the_node(plans: Plans) -> None:
    instances = some(plans, [0, 1, 8])
    fused = fuse(instances)
    (output,) = fused.outputs[instances[1].key]
    assert fused.find_affected_keys(output) == (instances[1].key,)
    loader = next(name for name, node in fused.graph.nodes.items() if node.type == "main_model_loader")
    assert fused.find_affected_keys(loader) == tuple(instance.key for instance in instances)
    prompt = next(name for name, node in fused.graph.nodes.items() if node.fields.get("prompt") == "a cup, blue")
    assert fused.find_affected_keys(prompt) == (instances[2].key,)
    assert fused.find_affected_keys("nobody knows it") == tuple(fused.outputs)


def test_the_same_key_twice_is_one_branch(plans: Plans) -> None:
    one, other = some(plans, [2, 3])
    assert fuse([one, other, one]).graph == fuse([one, other]).graph
    assert fuse([one, one]).graph == one.make_submission()


def test_one_instance_keeps_its_graph(plans: Plans) -> None:
    (instance,) = some(plans, [7])
    fused = fuse([instance])
    assert fused.graph == instance.make_submission()
    assert fused.outputs == {instance.key: instance.outputs}
    assert fused.find_affected_keys("denoise") == (instance.key,)


def test_a_replicate_shares_nothing_and_uses_no_cache(plans: Plans) -> None:
    plan = plans(inputs={"prompt": "a cup"}, axes={"seed": [1]}, study={"replicates": 2})
    fused = fuse([plan.instance(variation) for variation in plan.grid])
    assert count(fused.graph, "denoise_latents") == 2
    assert sum(1 for node in fused.graph.nodes.values() if node.fields.get("use_cache") is False) == 1 + 6


def an_instance(key: str, graph: Graph, output: str) -> Instance:
    return Instance(
        key=key,
        variation=Variation(0, {"a": Level(key, {})}),
        graph=graph,
        digests=node_digests(graph, INVOKEAI),
        outputs=(output,),
        dialect=INVOKEAI,
    )


def test_random_nodes_and_what_follows_them_are_not_shared() -> None:
    def instance(key: str, shade: int) -> Instance:
        graph = Graph.of(
            [
                Node("dice", "rand_int", {"low": 0, "high": 9}),
                Node("size", "integer", {"value": 64}),
                Node("blank", "blank_image", {"color": shade}),
            ],
            ["dice.value → blank.width", "size.value → blank.height"],
        )
        return an_instance(key, graph, "blank")

    graph = fuse([instance("a" * 32, 1), instance("b" * 32, 2)]).graph
    assert (count(graph, "rand_int"), count(graph, "integer"), count(graph, "blank_image")) == (2, 1, 2)


def test_equal_nodes_of_one_graph_stay_two_for_a_collection() -> None:
    def instance(key: str, strength: int) -> Instance:
        graph = Graph.of(
            [
                Node("one", "integer", {"value": 5}),
                Node("two", "integer", {"value": 5}),
                Node("both", "collect"),
                Node("out", "any", {"x": strength}),
            ],
            ["one.value → both.item", "two.value → both.item", "both.collection → out.items"],
        )
        return an_instance(key, graph, "out")

    fused = fuse([instance("a" * 32, 1), instance("b" * 32, 2)])
    assert count(fused.graph, "integer") == 2
    assert count(fused.graph, "collect") == 1


@given(st.lists(st.integers(0, 31), min_size=2, max_size=8, unique=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
def test_an_image_of_a_fused_item_reads_back_as_its_own_graph(plans: Plans, indices: list[int]) -> None:
    instances = some(plans, indices)
    graph = write_graph(fuse(instances).graph, str)
    for instance in instances:
        document = {"graph": graph, "metadata": dict(instance.metadata)}
        alone = {"graph": write_graph(instance.make_submission(), str), "metadata": dict(instance.metadata)}
        found, wanted = workflow_from(document).graph, workflow_from(alone).graph
        assert {name: node for name, node in found.nodes.items() if node.type != "core_metadata"} == {
            name: node for name, node in wanted.nodes.items() if node.type != "core_metadata"
        }
        assert len(found.nodes) == len(wanted.nodes)
        assert len(found.edges) == len(wanted.edges)


def test_a_graph_with_random_or_custom_nodes_is_not_fused_unasked() -> None:
    schemas = load_builtin_schemas()
    custom = NodeSchemas({**schemas, "blank_image": replace(schemas["blank_image"], is_custom=True)}, INVOKEAI)
    blank, dice = Node("blank", "blank_image", {"width": 64}), Node("dice", "rand_int", {"low": 0, "high": 9})
    assert is_fusable(Graph.of([blank]), schemas)
    assert not is_fusable(Graph.of([blank]), custom)
    assert not is_fusable(Graph.of([blank, dice], ["dice.value → blank.height"]), schemas)
    assert not is_fusable(Graph.of([Node("new", "unheard_of")]), schemas)
