from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from sweep.errors import PlanError
from sweep.experiment import Experiment
from sweep.plan.model_finder import ModelFinder, fit_models
from sweep.plan.plan import Plan
from sweep.plan.planner import make_plan
from sweep.workflow import (
    Address,
    Graph,
    ImageRef,
    Model,
    ModelRef,
    Node,
    check_graph,
    load_builtin_schemas,
    load_core_schemas,
    write_prompt,
)
from sweep.workflow.comfyui.comfyui_dialect import COMFYUI
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI
from tests.plan.conftest import MODELS, as_api, model
from tests.support.workflow_exports import edge, invocation, text_to_image

template = INVOKEAI.template

Own: TypeAlias = Callable[..., Plan]

PORTABLE = {
    "meta": {"version": "3.0.0", "name": "From another image"},
    "nodes": [
        {"id": "photo", "type": "load_image", "data": {"image": "wide.png"}},
        {"id": "loader", "type": "checkpoint_loader_simple", "data": {"ckpt_name": "somebody_elses.safetensors"}},
        {"id": "vae", "type": "vae_loader", "data": {"vae_name": "theirs.safetensors"}},
        {"id": "text", "type": "clip_text_encode", "data": {"text": "a cup"}},
        {"id": "not", "type": "clip_text_encode", "data": {"text": "blurry"}},
        {"id": "encode", "type": "vae_encode", "data": {}},
        {"id": "sampler", "type": "ksampler", "data": {"seed": 4, "steps": 5, "cfg": 7.5, "denoise": 0.6}},
        {"id": "decode", "type": "vae_decode", "data": {}},
        {"id": "save", "type": "save_image", "data": {}},
    ],
    "edges": [
        {"source": {"node_id": a, "field": b}, "destination": {"node_id": c, "field": d}}
        for a, b, c, d in (
            ("loader", "model", "sampler", "model"),
            ("loader", "clip", "text", "clip"),
            ("loader", "clip", "not", "clip"),
            ("photo", "image", "encode", "pixels"),
            ("vae", "vae", "encode", "vae"),
            ("encode", "latent", "sampler", "latent_image"),
            ("text", "conditioning", "sampler", "positive"),
            ("not", "conditioning", "sampler", "negative"),
            ("sampler", "latent", "decode", "samples"),
            ("vae", "vae", "decode", "vae"),
            ("decode", "image", "save", "images"),
        )
    ],
}


@pytest.fixture
def own(images: Path, tmp_path: Path) -> Own:
    """The plan for a workflow file with this document in it."""

    def make(document: Any, models: Sequence[Model] = MODELS, **sections: Any) -> Plan:
        path = tmp_path / "my workflow.json"
        path.write_text(json.dumps(document), "utf-8")
        made = Experiment.from_dict({"name": "trial", "workflow": str(path), **sections}, folder=images)
        return make_plan(made, load_builtin_schemas(), models)

    return make


def with_random_seed() -> Graph:
    graph = template("txt2img", "sd-1")
    return graph.adding([Node("dice", "rand_int", {"low": 0, "high": 9})], ["dice.value → noise.seed"])


def test_a_field_that_a_computation_feeds_is_cut_free_and_the_plan_says_so(own: Own) -> None:
    plan = own(as_api(with_random_seed()), inputs={"model": "small"}, axes={"seed": [1, 2]})
    graph = plan.instance(plan.grid[1]).graph
    assert graph.nodes["noise"].fields["seed"] == 2
    assert "dice" not in graph.nodes
    assert plan.notes == ("noise.seed comes from seed; the workflow's own dice.value is bypassed.",)
    assert check_graph(graph, load_builtin_schemas()) == []


def test_a_random_node_that_stays_is_told(own: Own) -> None:
    plan = own(as_api(with_random_seed()), inputs={"model": "small"}, axes={"steps": [1, 2]})
    assert any("dice (rand_int) draws anew" in note for note in plan.notes)


def test_a_random_node_that_leads_to_no_image_is_not_told(own: Own) -> None:
    loose = with_random_seed().without_edges([edge for edge in with_random_seed().edges if edge.source.node == "dice"])
    plan = own(as_api(loose), inputs={"model": "small"}, axes={"steps": [1, 2]})
    assert plan.notes == ("dice: no image that is kept depends on it, so it is left out.",)
    assert "dice" not in plan.instance(plan.grid[0]).graph.nodes


def test_the_workflows_own_model_is_found_by_name_on_any_server(own: Own) -> None:
    graph = template("txt2img", "sd-1").set({Address("model", "model"): ModelRef("other", "sd-1")})
    elsewhere = [Model(key=f"here-{m.name}", hash="", name=m.name, base=m.base, type=m.type) for m in MODELS]
    plan = own(as_api(graph), models=elsewhere, axes={"seed": [1]})
    assert plan.instance(plan.grid[0]).model == "other"
    with pytest.raises(PlanError, match="no model named other"):
        own(as_api(graph), models=[model("small")], axes={"seed": [1]})


def test_only_models_the_loader_takes_come_into_question(own: Own) -> None:
    plan = own(as_api(template("txt2img", "sdxl")), axes={"seed": [1]})
    assert plan.models == (ModelRef("large", "sdxl"),)
    with pytest.raises(PlanError, match="small is for sd-1"):
        own(as_api(template("txt2img", "sdxl")), inputs={"model": "small"}, axes={"seed": [1]})


def test_an_image_the_workflow_needs_is_asked_for(own: Own) -> None:
    with pytest.raises(PlanError, match=r"my workflow\.json needs an image: add --image FILE, or inputs\.image"):
        own(as_api(template("img2img", "sd-1")), inputs={"model": "small"}, axes={"seed": [1]})


def test_a_workflow_that_brings_images_to_a_size_of_its_own_keeps_it(own: Own) -> None:
    plan = own(as_api(template("img2img", "sd-1")), inputs={"model": "small", "image": "wide.png"}, axes={"seed": [1]})
    assert plan.instance(plan.grid[0]).graph.nodes["resize"].fields["width"] == 512


def test_a_workflow_without_an_image_in_it_is_refused(own: Own) -> None:
    document = {"nodes": {"a": {"id": "a", "type": "integer", "value": 1}}, "edges": []}
    with pytest.raises(PlanError, match=r"my workflow\.json has no node that saves an image"):
        own(document, axes={"a.value": [1, 2]})


def test_node_types_the_server_lacks_are_told_with_the_nearest(own: Own) -> None:
    document = as_api(template("txt2img", "sd-1"))
    document["nodes"]["extra"] = {"id": "extra", "type": "img_blurr"}
    with pytest.raises(PlanError, match="which this server does not have"):
        own(document, inputs={"model": "small"}, axes={"seed": [1]})


def test_a_graph_without_any_model_needs_none(own: Own) -> None:
    document = {"nodes": {"a": {"id": "a", "type": "blank_image"}}, "edges": []}
    plan = own(document, models=(), axes={"a.width": [64, 128]})
    assert plan.models == ()
    assert plan.instance(plan.grid[0]).model is None


def test_the_lists_of_a_batch_become_axes_unless_the_experiment_sets_their_fields(own: Own) -> None:
    graph = as_api(template("txt2img", "sd-1"))
    data = [
        [
            {"node_path": "noise", "field_name": "seed", "items": [1, 2, 3]},
            {"node_path": "denoise", "field_name": "steps", "items": [4, 5, 6]},
        ],
        [{"node_path": "prompt", "field_name": "prompt", "items": ["a cup", "a jug"]}],
    ]
    document = {"batch": {"graph": graph, "data": data}}
    plan = own(document, inputs={"model": "small"}, axes={"cfg_scale": [2, 3]})
    assert [axis.name for axis in plan.axes] == ["cfg_scale", "noise.seed", "denoise.steps", "prompt.prompt"]
    assert [axis.kind for axis in plan.axes] == ["number", "seed", "integer", "text"]  # a study pairs images by seed
    assert len(plan) == 2 * 3 * 2
    assert plan.instance(plan.grid[3]).prompt == "a jug"
    assert plan.grid[3].values["denoise.steps"] == 5
    fewer = own(document, inputs={"model": "small", "prompt": "a dog"}, axes={"seed": [7]})
    assert [axis.name for axis in fewer.axes] == ["seed", "denoise.steps"]


def test_a_portable_document_runs_with_what_the_server_has(own: Own) -> None:
    plan = own(PORTABLE, models=[model("only")], axes={"denoise_strength": [0.2, 0.6]})
    instance = plan.instance(plan.grid[0])
    assert instance.model == "only"
    assert instance.source is not None
    assert ImageRef(instance.source) in [node.fields.get("image") for node in instance.graph.nodes.values()]
    assert check_graph(instance.graph, load_builtin_schemas()) == []
    said = " ".join(plan.notes)
    assert "no model somebody_elses, so its only one that fits, only, is used; inputs.model names another." in said
    assert "no VAE theirs" in said


def test_a_portable_documents_image_must_be_there_unless_another_is_named(own: Own) -> None:
    missing = json.loads(json.dumps(PORTABLE).replace("wide.png", "gone.png"))
    with pytest.raises(PlanError, match=r"gone\.png does not exist; .*set inputs\.image"):
        own(missing, models=[model("only")], axes={"seed": [1]})
    plan = own(missing, models=[model("only")], inputs={"image": "tall.png"}, axes={"seed": [1]})
    assert [path.name for path in plan.instance(plan.grid[0]).images.values()] == ["tall.png"]


def test_an_image_outside_the_experiments_folder_is_told(own: Own, tmp_path: Path, images: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes((images / "wide.png").read_bytes())
    plan = own(PORTABLE, models=[model("only")], inputs={"image": str(outside)}, axes={"seed": [1]})
    assert any("outside.png is outside" in note for note in plan.notes)


def test_of_several_models_none_is_taken_for_the_one_a_document_names(own: Own) -> None:
    with pytest.raises(PlanError) as error:
        own(PORTABLE, models=[model("one"), model("two")], axes={"seed": [1]})
    assert "the workflow names somebody_elses, which the server does not have; it has 2 main models" in str(error.value)
    assert "name one: one, two." in str(error.value)


def test_a_model_that_a_graph_names_itself_is_told_as_the_workflows(own: Own) -> None:
    graph = template("txt2img", "sd-1").set({Address("model", "model"): ModelRef("other", "sd-1")})
    with pytest.raises(PlanError, match=r"the workflow's own model is not there: the server has no model named other"):
        own(as_api(graph), models=[model("small")], axes={"seed": [1]})


def test_an_unknown_node_type_is_told_before_what_follows_from_it(own: Own) -> None:
    document = as_api(template("txt2img", "sd-1"))
    document["nodes"]["noise"] = {"id": "noise", "type": "fancy_noise"}
    with pytest.raises(PlanError) as error:
        own(document, inputs={"model": "small"}, axes={"seed": [1]})
    assert "noise is of type fancy_noise, which this server does not have" in str(error.value)
    assert "no seed" not in str(error.value)


def test_several_loaders_are_each_named_by_their_address(own: Own) -> None:
    once = json.dumps(as_api(template("txt2img", "sd-1")))
    first, second = json.loads(once), json.loads(once)
    for node in list(second["nodes"].values()):
        first["nodes"][f"{node['id']}2"] = {**node, "id": f"{node['id']}2"}
    for wire in second["edges"]:
        first["edges"].append({end: {**at, "node_id": f"{at['node_id']}2"} for end, at in wire.items()})
    plan = own(
        first,
        inputs={"model.model": "small", "model2.model": "other", "noise2.seed": 3},
        axes={"noise.seed": [1, 2]},
    )
    nodes = plan.instance(plan.grid[1]).graph.nodes
    assert nodes["model"].fields["model"] == ModelRef("small", "sd-1")
    assert nodes["model2"].fields["model"] == ModelRef("other", "sd-1")
    assert plan.bound_graphs[0].outputs == ("decode", "decode2")


def test_a_second_main_model_that_may_be_left_out_is_left_out() -> None:
    installed = ModelFinder.of([model("wan", "wan"), model("wan-vae", "wan", "vae")])
    graph = Graph.of([Node("load", "wan_model_loader")])
    fitted, _ = fit_models(graph, load_builtin_schemas(), installed, ModelRef("wan", "wan"), lambda *_: None)
    assert fitted.nodes["load"].fields == {
        "model": ModelRef("wan", "wan"),
        "vae_model": ModelRef("wan-vae", "wan", "vae"),
    }


def test_what_leads_to_no_image_is_not_rendered_and_cannot_be_swept(own: Own) -> None:
    graph = with_random_seed().adding([Node("lost", "img_blur", {"is_intermediate": True})])
    plan = own(as_api(graph), inputs={"model": "small"}, axes={"steps": [1]})
    assert "lost" not in plan.graph.nodes
    assert plan.notes[0] == "lost: no image that is kept depends on it, so it is left out."
    with pytest.raises(PlanError, match=r"axes\.lost\.radius: no image that is kept depends on lost\.radius\."):
        own(as_api(graph), inputs={"model": "small"}, axes={"lost.radius": [1, 2]})
    with pytest.raises(PlanError, match=r"axes\.dice\.low: no image that is kept depends on dice\.low\."):
        own(as_api(graph), inputs={"model": "small", "seed": 3}, axes={"dice.low": [1, 2]})


def test_a_list_that_gives_way_is_told(own: Own) -> None:
    document = text_to_image()
    document["nodes"] = [node for node in document["nodes"] if node["id"] != "r"]
    document["nodes"][0]["data"]["inputs"]["model"]["value"]["name"] = "small"
    document["nodes"] += [
        invocation("b", "integer_batch", "Seeds", integers=[1, 2, 3]),
        invocation("t", "string_batch", "Words", strings=["a", "b"]),
    ]
    kept = [e for e in document["edges"] if e["source"] != "r"]
    document["edges"] = [*kept, edge("b.value → z.seed"), edge("t.value → p.prompt")]
    plan = own(document, axes={"seed": [7, 8]})
    assert [axis.name for axis in plan.axes] == ["seed", "Words"]
    assert plan.notes == (
        "The 3 values of Seeds give way: the experiment sets z.seed.",
        "Words (string_batch) is an axis of 2 values for p.prompt.",
    )


def test_a_video_is_told_before_a_model_is_asked_for(own: Own) -> None:
    document = {
        "nodes": {"load": {"id": "load", "type": "wan_model_loader"}, "film": {"id": "film", "type": "wan_l2v"}},
        "edges": [],
    }
    with pytest.raises(PlanError, match=r"my workflow\.json makes a video, and sweep keeps images only\."):
        own(document, axes={"film.fps": [8, 16]})


def test_null_is_the_vae_of_the_main_model_in_any_workflow(own: Own) -> None:
    graph, sharp = template("txt2img", "sd-1"), {Address("v", "vae_model"): ModelRef("sharp", "sd-1", "vae")}
    document, with_loader = as_api(graph), as_api(INVOKEAI.add_vae_loader(graph, "v").set(sharp))
    inputs = {"model": "small"}
    keys = [
        [key for _, key in plan.keys(range(len(plan)))]
        for workflow in (document, with_loader)
        for plan in (own(workflow, inputs=inputs, axes={"vae": [None, "sharp"]}),)
    ]
    assert keys[0] == keys[1]
    (plain, null) = (own(document, inputs=inputs), own(with_loader, inputs={**inputs, "vae": None}))
    assert {plain.instance(plain.grid[0]).key, null.instance(null.grid[0]).key} == {keys[0][0]}
    kept = own(with_loader, inputs=inputs, axes={"look": {"values": {"own": {"steps": 3}, "main": {"vae": None}}}})
    assert "v" in kept.instance(kept.grid[0]).graph.nodes
    assert "v" not in kept.instance(kept.grid[1]).graph.nodes


def test_null_is_no_vae_where_the_main_model_has_none(tmp_path: Path) -> None:
    graph = COMFYUI.template("txt2img", "any")
    document = write_prompt(COMFYUI.add_vae_loader(graph, "v"), str)
    main = next(name for name, node in document.items() if node["class_type"] == "CheckpointLoaderSimple")
    document |= {
        main: {"class_type": "UNETLoader", "inputs": {"unet_name": "small", "weight_dtype": "default"}},
        "c": {"class_type": "CLIPLoader", "inputs": {"clip_name": "clip", "type": "sd3"}},
    }
    for node in document.values():
        node["inputs"] = {name: ["c", 0] if value == [main, 1] else value for name, value in node["inputs"].items()}
    document["v"]["inputs"]["vae_name"] = "sharp"
    (tmp_path / "unet.json").write_text(json.dumps(document), encoding="utf-8")
    models = [model(name, "", kind) for name, kind in (("small", "main"), ("clip", "text_encoder"), ("sharp", "vae"))]
    for sections in ({"inputs": {"vae": None}}, {"axes": {"vae": [None, "sharp"]}}):
        experiment = Experiment.from_dict({"workflow": "unet.json", **sections}, folder=tmp_path)
        with pytest.raises(PlanError, match=r"the field v\.vae_name needs a value"):
            make_plan(experiment, load_core_schemas(), models)


def test_an_image_that_is_only_referred_to_decides_no_size(own: Own) -> None:
    graph = template("txt2img", "flux").adding(
        [Node("photo", "image"), Node("redux", "flux_redux")],
        ["photo.image → redux.image", "redux.redux_cond → denoise.redux_conditioning"],
    )
    names = (("flux", "main"), ("flux", "vae"), ("flux", "flux_redux"), ("any", "t5_encoder"), ("any", "clip_embed"))
    installed = [model(f"{kind} of {base}", base, kind) for base, kind in (*names, ("any", "siglip"))]
    plan = own(as_api(graph), installed, inputs={"image": "wide.png"}, axes={"width": [512, 1024]})
    sizes = [plan.instance(variation).graph.nodes["denoise"].fields for variation in plan.grid]
    assert [(fields["width"], fields["height"]) for fields in sizes] == [(512, 1024), (1024, 1024)]
