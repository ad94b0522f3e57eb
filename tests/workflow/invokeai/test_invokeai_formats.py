from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import WorkflowError
from sweep.workflow.graph import Address, ModelRef
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI, load_builtin_schemas
from sweep.workflow.role_targets import find_roles
from sweep.workflow.validation import check_graph
from sweep.workflow.workflow_file import load_workflow, workflow_from
from tests.support.graphs import graph_key, output_nodes
from tests.support.workflow_exports import drawn, edge, export, invocation, text_to_image

SCHEMAS = load_builtin_schemas()


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0", "3.0.0", "4.0.0"])
def test_an_export_becomes_the_graph_the_editor_would_send(version: str) -> None:
    document = text_to_image()
    document["meta"]["version"] = version
    workflow = workflow_from(document)
    graph = workflow.graph
    assert workflow.kind == "editor"
    assert check_graph(graph, SCHEMAS) == []
    assert graph.nodes["m"].fields == {"model": ModelRef("tiny-sd", "sd-1"), "use_cache": True, "is_intermediate": True}
    assert graph.nodes["p"].fields == {"prompt": "a tiger cub", "use_cache": True, "is_intermediate": True}
    assert graph.nodes["p"].label == "Positive"
    assert graph.nodes["o"].fields == {"tiled": False, "use_cache": True, "is_intermediate": False}
    assert "seed" not in graph.nodes["z"].fields  # the value under the edge is void
    assert len(graph.edges) == 9  # but for the collapsed one; the hidden one counts
    assert output_nodes(graph, SCHEMAS) == ("o",)
    (seed,) = find_roles(graph, SCHEMAS)["seed"]
    assert str(seed.address) == "z.seed"
    assert [str(cut) for cut in seed.cut] == ["r.value → z.seed"]


def test_models_of_the_first_editors_are_models() -> None:
    node = invocation(
        "m", "main_model_loader", model={"model_name": "sd15", "base_model": "sd-1", "model_type": "main"}
    )
    assert workflow_from(export([node], [], "1.0.0")).graph.nodes["m"].fields["model"] == ModelRef("sd15", "sd-1")


def test_what_is_only_drawn_is_not_sent() -> None:
    document = text_to_image()
    document["nodes"] += [drawn("note", "notes"), drawn("now", "current_image")]
    assert set(workflow_from(document).graph.nodes) == set("mpnzrdo")


def test_connectors_are_followed_back_to_the_real_output() -> None:
    document = text_to_image()
    document["nodes"] += [drawn("c1", "connector"), drawn("c2", "connector"), drawn("c3", "connector")]
    document["edges"] = [e for e in document["edges"] if e["target"] not in {"n", "p"}]
    document["edges"] += [
        edge("m.clip → c1.in"),
        edge("c1.out → c2.in"),
        edge("c2.out → p.clip"),
        edge("c1.out → n.clip"),
        edge("c3.out → p.mask"),  # from nowhere
    ]
    plain, connected = workflow_from(text_to_image()).graph, workflow_from(document).graph
    assert set(connected.edges) == set(plain.edges)


def test_connectors_in_a_circle_lead_nowhere() -> None:
    nodes = [invocation("a", "add"), drawn("c", "connector"), drawn("d", "connector")]
    edges = [edge("c.out → d.in"), edge("d.out → c.in"), edge("d.out → a.a")]
    assert workflow_from(export(nodes, edges)).graph.edges == ()


@pytest.mark.parametrize(
    ("board", "kept"),
    [("auto", None), ("none", None), ("", None), (None, None), ({}, None), ({"board_id": "b"}, {"board_id": "b"})],
)
def test_boards(board: Any, kept: Any) -> None:
    fields = workflow_from(export([invocation("o", "l2i", board=board)], [])).graph.nodes["o"].fields
    assert fields.get("board") == kept


def test_what_says_nothing_is_left_out_and_what_says_something_stays() -> None:
    node = invocation(
        "f", "flux_denoise", seed=None, dype_scale=None, scheduler="euler", board="auto", metadata=None, transformer={}
    )
    loader = invocation("m", "main_model_loader", model="")
    text = invocation("s", "string", value="")
    nodes = workflow_from(export([node, loader, text], [])).graph.nodes
    extra = {"use_cache": True, "is_intermediate": True}
    assert nodes["f"].fields == {"scheduler": "euler", **extra}
    assert nodes["m"].fields == extra
    assert nodes["s"].fields == {"value": "", **extra}


def test_unknown_types_and_fields_are_kept_and_told_with_label_and_near_names() -> None:
    nodes = [invocation("a", "noize", "Grain", seed=1), invocation("b", "noise", "Fog", sede=1)]
    told = [problem.message for problem in check_graph(workflow_from(export(nodes, [])).graph, SCHEMAS)]
    assert told == [
        (
            "Grain (a) is of type noize, which this server does not have: a custom, newer or removed node?"
            " Did you mean noise?"
        ),
        "Fog (noise, b) has no field sede. Did you mean seed?",
    ]


def test_inputs_of_a_saved_workflow_are_packed() -> None:
    node = invocation("c", "call_saved_workflow", **{"workflow_id": "w", "saved_workflow_input::a.seed": 3})
    fields = workflow_from(export([node], [])).graph.nodes["c"].fields
    assert fields["workflow_inputs"] == {"a.seed": 3}
    assert "saved_workflow_input::a.seed" not in fields


def test_labels_and_the_form_are_remembered() -> None:
    document = text_to_image()
    document["nodes"][1]["data"]["inputs"]["prompt"]["label"] = "What to see"
    document["exposedFields"] = [{"nodeId": "d", "fieldName": "steps"}, {"nodeId": "gone", "fieldName": "x"}]
    field = {"id": "e", "type": "node-field", "data": {"fieldIdentifier": {"nodeId": "p", "fieldName": "prompt"}}}
    document["form"] = {
        "rootElementId": "r",
        "elements": {"r": {"id": "r", "type": "container", "data": {}}, "e": field},
    }
    workflow = workflow_from(document)
    assert workflow.labels == {Address("p", "prompt"): "What to see"}
    assert workflow.exposed == (Address("p", "prompt"), Address("d", "steps"))


def batch(kind: str, label: str = "", **values: Any) -> dict[str, Any]:
    return invocation("b", kind, label, **values)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (batch("integer_batch", integers=[1, 2, 3]), (1, 2, 3)),
        (batch("float_batch", floats=[0.5, 1]), (0.5, 1)),
        (batch("string_batch", strings=["a", "b"]), ("a", "b")),
        (batch("image_batch", images=[{"image_name": "a.png"}]), ({"image_name": "a.png"},)),
    ],
)
def test_batch_nodes_become_axes(node: dict[str, Any], expected: tuple[Any, ...]) -> None:
    targets = [invocation("x", "custom", f=0), invocation("y", "custom", f=0)]
    workflow = workflow_from(export([node, *targets], [edge("b.value → x.f"), edge("b.value → y.f")]))
    (axis,) = workflow.batch_axes
    assert axis.values == expected
    assert axis.addresses == (Address("x", "f"), Address("y", "f"))
    assert axis.group == ""
    assert set(workflow.graph.nodes) == {"x", "y"}
    assert workflow.graph.edges == ()
    assert f"is an axis of {len(expected)} values for x.f and y.f" in axis.note


def test_grouped_batches_step_together() -> None:
    nodes = [
        invocation("a", "integer_batch", "Seeds", integers=[1, 2], batch_group_id="Group 1"),
        invocation("b", "string_batch", strings=["x", "y"], batch_group_id="Group 1"),
        invocation("c", "integer_batch", integers=[3], batch_group_id="None"),
        invocation("z", "noise"),
        invocation("p", "compel"),
        invocation("idle", "integer_batch", integers=[]),
    ]
    axes = workflow_from(
        export(nodes, [edge("a.value → z.seed"), edge("b.value → p.prompt"), edge("c.value → z.width")])
    ).batch_axes
    assert [(axis.name, axis.group) for axis in axes] == [("Seeds", "Group 1"), ("b", "Group 1"), ("c", "")]


def test_a_generator_feeds_its_batch() -> None:
    settings = {"type": "integer_generator_arithmetic_sequence", "start": 10, "step": 5, "count": 3}
    nodes = [
        invocation("g", "integer_generator", generator=settings),
        invocation("b", "integer_batch", integers=[99]),
        invocation("z", "noise"),
    ]
    workflow = workflow_from(export(nodes, [edge("g.integers → b.integers"), edge("b.value → z.seed")]))
    assert workflow.batch_axes[0].values == (10, 15, 20)
    assert set(workflow.graph.nodes) == {"z"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, ", drawn here from seed 0: the same each time, not those the editor draws."),
        ({"seed": 7}, ", drawn here from seed 7: the same each time, not those the editor draws."),
        ({"values": [4, 5]}, " values for z.seed."),
    ],
)
def test_values_drawn_at_random_are_told(more: dict[str, Any], said: str) -> None:
    settings = {"type": "integer_generator_random_distribution_uniform", "min": 0, "max": 99, "count": 2, **more}
    nodes = [
        invocation("g", "integer_generator", generator=settings),
        invocation("b", "integer_batch"),
        invocation("z", "noise"),
    ]
    document = export(nodes, [edge("g.integers → b.integers"), edge("b.value → z.seed")])
    workflow = workflow_from(document)
    assert workflow.batch_axes[0].note.endswith(said)
    assert len(workflow.batch_axes[0].values) == 2
    assert workflow.batch_axes == workflow_from(document).batch_axes


def test_a_batch_without_a_label_is_called_by_what_it_feeds() -> None:
    made_up = "0000000a-0000-4000-8000-00000000000"
    nodes = [invocation(f"{made_up}1", "integer_batch", integers=[1]), invocation(f"{made_up}2", "noise", "Grain")]
    workflow = workflow_from(export(nodes, [edge(f"{made_up}1.value → {made_up}2.seed")]))
    assert workflow.batch_axes[0].name == "Grain.seed"


def test_images_of_a_board_and_empty_batches() -> None:
    board = invocation("g", "image_generator", generator={"type": "image_generator_images_from_board", "board_id": "x"})
    nodes = [board, invocation("b", "image_batch", "Photos"), invocation("e", "i2l")]
    workflow = workflow_from(export(nodes, [edge("g.images → b.images"), edge("b.image → e.image")]))
    assert workflow.batch_axes == ()
    assert workflow.notes == ("Photos takes the images of a board, which only the editor can list: set e.image.",)
    with pytest.raises(WorkflowError, match=r"Photos \(image_batch\) holds no values"):
        workflow_from(export(nodes[1:], [edge("b.image → e.image")]))


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (export([{"id": "a", "type": "invocation", "data": {}}], []), "Node a has no type"),
        (
            export([invocation("a", "noise")], [{"id": "e", "type": "default", "source": "a"}]),
            "an edge has no source and target",
        ),
        (export([drawn("n", "notes")], []), "is not a workflow"),
        (export([invocation("a", "noise"), invocation("a", "compel")], []), "two nodes have the id a."),
    ],
)
def test_broken_exports(document: dict[str, Any], sentence: str) -> None:
    with pytest.raises(WorkflowError) as raised:
        workflow_from(document, "mine.json")
    assert sentence in str(raised.value)


@given(st.permutations(range(7)), st.permutations(range(10)))
def test_the_order_of_an_export_does_not_matter(nodes: list[int], edges: list[int]) -> None:
    document = text_to_image()
    turned = dict(document, nodes=[document["nodes"][i] for i in nodes], edges=[document["edges"][i] for i in edges])
    keys = {graph_key(workflow_from(d).graph, ["o"], INVOKEAI) for d in (document, turned)}
    assert len(keys) == 1


@given(st.data())
def test_however_it_is_drawn_the_graph_is_the_same(data: st.DataObject) -> None:
    """Edges led through connectors, collapsed ones beside them, notes in between, edges twice, stale values below."""
    document, plain = text_to_image(), workflow_from(text_to_image()).graph
    drawn_edges: list[dict[str, Any]] = []
    for number, wire in enumerate(document["edges"]):
        if wire["type"] == "collapsed":
            continue
        way = [f"k{number}_{step}" for step in range(data.draw(st.integers(0, 3)))]
        document["nodes"] += [drawn(name, "connector") for name in way]
        ends = [
            f"{wire['source']}.{wire['sourceHandle']}",
            *(end for name in way for end in (f"{name}.in", f"{name}.out")),
            f"{wire['target']}.{wire['targetHandle']}",
        ]
        pieces = [edge(f"{a} → {b}") for a, b in zip(ends[::2], ends[1::2], strict=True)]
        drawn_edges += pieces * data.draw(st.integers(1, 2))
        if data.draw(st.booleans()):
            drawn_edges.append(edge(f"{wire['source']}.x → {wire['target']}.x", "collapsed"))
        target = next(node for node in document["nodes"] if node["id"] == wire["target"])
        target["data"]["inputs"].setdefault(wire["targetHandle"], {"name": "x"})["value"] = "stale"
    document["nodes"].append(drawn("said", "notes"))
    document["edges"] = data.draw(st.permutations(drawn_edges))
    document["nodes"] = data.draw(st.permutations(document["nodes"]))
    graph = workflow_from(document).graph
    assert set(graph.edges) == set(plain.edges)
    assert len(graph.edges) == len(plain.edges)
    assert graph.nodes == plain.nodes


@given(
    st.dictionaries(st.sampled_from(["cfg_rescale_multiplier", "denoising_end"]), st.floats(0, 0.9)),
    st.integers(1, 100),
)
def test_every_value_of_an_export_arrives(values: dict[str, float], steps: int) -> None:
    document = text_to_image(**values)
    document["nodes"][5]["data"]["inputs"]["steps"]["value"] = steps
    fields = workflow_from(json.loads(json.dumps(document))).graph.nodes["d"].fields
    assert {name: fields[name] for name in values} == values
    assert fields["steps"] == steps


def test_an_export_is_read_from_a_path_with_spaces(tmp_path: Path) -> None:
    path = tmp_path / "a b" / "my flow.json"
    path.parent.mkdir()
    path.write_text(json.dumps(text_to_image()))
    assert load_workflow(str(path)).name == "My workflow"
