from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sweep.plan.graph_fusion import fuse
from sweep.workflow import Address, Graph, ImageRef, ModelRef, Node, Ref, check_graph, load_builtin_schemas, write_graph
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI
from tests.plan.conftest import Plans, as_api
from tests.support.graphs import graph_key


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
    assert check_graph(graph, load_builtin_schemas()) == []


def test_nothing_is_added_where_no_output_takes_metadata() -> None:
    graph = Graph.of([Node("a", "blank_image")])
    assert INVOKEAI.write_metadata(graph, (), {"sweep_key": "k" * 32}) is graph


def test_what_an_image_of_somebody_elses_told_gives_way() -> None:
    theirs = Node("theirs", "core_metadata", {"seed": 3})
    graph = Graph.of([Node("a", "l2i"), theirs], ["theirs.metadata → a.metadata"])
    told = INVOKEAI.write_metadata(graph, ("a",), {"sweep_key": "k" * 32, "seed": 4})
    (edge,) = told.list_edges_into(Address("a", "metadata"))
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


def test_metadata_tells_all_that_makes_the_image(plans: Plans, images: Path) -> None:
    plan = plans(
        "img2img",
        inputs={
            "prompt": "a cup",
            "image": "wide.png",
            "vae": "sharp",
            "lora": [{"name": "glow", "weight": 0.6}, "ink"],
            "lora_weight": 0.4,
            "controls": [{"model": "canny", "image": "tall.png", "weight": 0.5, "end": 0.9}],
        },
        axes={"denoise_strength": [0.3, 0.65]},
    )
    wide, tall = (ImageRef(image.sha256) for image in plan.images.values())

    graph = plan.instance(plan.grid[1]).make_submission()

    metadata: Any = next(node.fields for node in graph.nodes.values() if node.type == "core_metadata")
    assert metadata["strength"] == 0.65
    assert metadata["source_image"] == wide
    assert metadata["vae"] == ModelRef("sharp", "sd-1", "vae")
    loras = [(ModelRef("glow", "sd-1", "lora"), 0.6), (ModelRef("ink", "sd-1", "lora"), 0.4)]
    assert metadata["loras"] == [{"model": model, "lora": model, "weight": weight} for model, weight in loras]
    (control,) = metadata["controlnets"]
    assert (control["control_model"], control["image"]) == (ModelRef("canny", "sd-1", "controlnet"), tall)
    assert (control["control_weight"], control["end_step_percent"]) == (0.5, 0.9)
    assert check_graph(graph, load_builtin_schemas()) == []


def test_every_image_of_an_item_tells_what_its_servers_pages_recall(plans: Plans, images: Path) -> None:
    plan = plans(
        "img2img",
        inputs={
            "prompt": "a cup",
            "image": "wide.png",
            "lora": "glow",
            "controls": [{"model": "canny", "image": "tall.png", "end": 0.9}],
        },
        axes={"denoise_strength": [0.3, 0.65], "lora_weight": [0.2, 0.9]},
    )
    wide = ImageRef(next(iter(plan.images.values())).sha256)

    def resolve(ref: Ref) -> Any:
        if isinstance(ref, ModelRef):
            return {"key": ref.name}
        return {"image_name": "wide" if ref == wide else "tall"}

    sent: Any = write_graph(fuse([plan.instance(variation) for variation in plan.grid]).graph, resolve)

    told = [node for node in sent["nodes"].values() if node["type"] == "core_metadata"]
    assert len(told) == 4
    for metadata in told:
        values = metadata["sweep_values"]
        assert metadata["strength"] == values["denoise_strength"]
        (lora,) = metadata["loras"]
        assert (lora["model"], lora["weight"]) == ({"key": "glow"}, values["lora_weight"])
        (control,) = metadata["controlnets"]
        assert (control["control_model"], control["image"]["image_name"]) == ({"key": "canny"}, "tall")
        assert metadata["init_image"] == "wide"
        canvas = metadata["canvas_v2_metadata"]
        shown = {"image_name": "wide", "width": metadata["width"], "height": metadata["height"]}
        assert canvas["rasterLayers"][0]["objects"][0]["image"] == shown
        (layer,) = canvas["controlLayers"]
        assert layer["objects"][0]["image"] == {**shown, "image_name": "tall"}
        adapter = layer["controlAdapter"]
        assert (adapter["model"], adapter["weight"], adapter["beginEndStepPct"]) == ({"key": "canny"}, 1, [0, 0.9])


def test_metadata_nodes_that_nothing_reads_are_dropped() -> None:
    theirs = Node("theirs", "core_metadata", {"model": ModelRef("gone", "sd-1")})
    graph = Graph.of([Node("a", "l2i"), theirs], ["theirs.metadata → a.metadata"])

    written = INVOKEAI.write_metadata(graph, ("a",), {"sweep_key": "k" * 32})

    assert "theirs" not in written.nodes


def test_an_image_that_the_workflow_names_is_noted(tmp_path: Path, plans: Plans) -> None:
    names = ("own.png", "later.png")
    nodes = {
        "image": {"id": "image", "type": "image", "image": {"image_name": names[0]}},
        "blur": {"id": "blur", "type": "img_blur", "radius": 2},
    }
    edges = [{"source": {"node_id": "image", "field": "image"}, "destination": {"node_id": "blur", "field": "image"}}]
    (tmp_path / "own.json").write_text(json.dumps({"nodes": nodes, "edges": edges}), encoding="utf-8")

    plan = plans(str(tmp_path / "own.json"), axes={"blur.radius": [1, 2]})

    assert "image.image is own.png, an image of the server; inputs.image names a file instead." in plan.notes


def test_an_image_of_a_controlnet_is_noted_with_the_input_that_replaces_it(tmp_path: Path, plans: Plans) -> None:
    document = as_api(INVOKEAI.template("controlnet", "sd-1", controls=2))
    for number, name in enumerate(("control", "control2"), 1):
        document["nodes"][name]["image"] = {"image_name": f"{number}.png"}
    (tmp_path / "own.json").write_text(json.dumps(document), encoding="utf-8")
    plan = plans(str(tmp_path / "own.json"), inputs={"model": "small"}, axes={"seed": [1, 2]})
    for number, name in enumerate(("control", "control2"), 1):
        note = f"an image of the server; inputs.control_image_{number} names a file instead."
        assert f"{name}.image is {number}.png, {note}" in plan.notes
