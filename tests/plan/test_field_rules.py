"""Several LoRAs and ControlNets, each by its number: in templates and in workflows of one's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from sweep.errors import ExperimentError, PlanError
from sweep.experiment import Experiment
from sweep.plan.field_rules import compose
from sweep.plan.plan import Plan
from sweep.plan.planner import make_plan
from sweep.workflow import (
    Address,
    ImageRef,
    ModelRef,
    Node,
    NodeSchemas,
    load_builtin_schemas,
    load_core_schemas,
    read_object_info,
)
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI
from tests.plan.conftest import MODELS, Plans, as_api, model
from tests.support.workflow_exports import MODEL, edge, export, invocation

template = INVOKEAI.template

Refusal: TypeAlias = Callable[..., list[str]]
Own: TypeAlias = Callable[..., Plan]
LORA = {"key": "k", "hash": "", "name": "glow", "base": "sd-1", "type": "lora"}
INK = {**LORA, "name": "ink"}
A, B = "0000000a-0000-4000-8000-000000000000", "0000000b-0000-4000-8000-000000000000"


def values(plan: Plan, *places: str) -> list[tuple[Any, ...]]:
    """What each point has at these addresses."""
    found = [Address.parse(place) for place in places]
    graphs = [plan.instance(variation).graph for variation in plan.grid]
    return [tuple(graph.nodes[at.node].fields.get(at.field) for at in found) for graph in graphs]


def test_each_weight_of_a_stack_is_an_axis(plans: Plans) -> None:
    plan = plans(
        inputs={"lora": ["glow", {"name": "ink", "weight": 0.3}]},
        axes={"lora_weight_1": [0, 1], "lora_weight_2": [0.25, 0.5]},
    )
    assert values(plan, "lora.weight", "lora2.weight") == [(0, 0.25), (0, 0.5), (1, 0.25), (1, 0.5)]
    assert plan.sets == ("lora.weight", "lora2.weight")


def test_a_weight_for_all_leaves_the_numbered_alone(plans: Plans) -> None:
    plan = plans(inputs={"lora": ["glow", "ink"], "lora_weight_2": 0.1}, axes={"lora_weight": [0.5, 1]})
    assert values(plan, "lora.weight", "lora2.weight") == [(0.5, 0.1), (1, 0.1)]


def test_loras_by_number_make_their_nodes(plans: Plans) -> None:
    plan = plans(inputs={"lora_1": "glow", "lora_weight": 0.4}, axes={"lora_2": ["ink"], "seed": [1, 2]})
    first = plan.instance(plan.grid[0]).graph.nodes
    assert first["lora"].fields == {"weight": 0.4, "lora": ModelRef("glow", "sd-1", "lora")}
    assert first["lora2"].fields == {"weight": 0.4, "lora": ModelRef("ink", "sd-1", "lora")}


def test_a_number_beyond_what_there_is_says_what_there_is(refusal: Refusal) -> None:
    told = refusal(inputs={"lora": ["glow", "ink"]}, axes={"lora_weight_3": [0, 1]})
    has = "it has lora_weight_1 (lora.weight), lora_weight_2 (lora2.weight)."
    assert told == [f"axes.lora_weight_3: The workflow has no lora_weight_3; {has}"]
    assert refusal(inputs={"lora": "glow"}, axes={"lora_weight_2": [0, 1]}) == [
        "axes.lora_weight_2: The workflow has no lora_weight_2; it has one lora_weight."
    ]
    (missing,) = refusal(axes={"lora_weight_2": [0, 1]})
    assert missing.startswith("axes.lora_weight_2: txt2img has no input named lora_weight_2. It has prompt, ")


def test_one_lora_of_several_is_a_model_and_none_of_it_a_weight_of_zero(plans: Plans) -> None:
    with pytest.raises(ExperimentError, match="lora_2 must be a name; none of it is lora_weight_2 at 0"):
        plans(inputs={"lora": ["glow", "ink"]}, axes={"lora_2": ["ink", None]})


def test_controls_by_number(plans: Plans) -> None:
    plan = plans(
        inputs={"control_image_1": "wide.png", "control_image_2": "tall.png", "control_model": "canny"},
        axes={"control_weight_1": [0, 1], "control_weight_2": [0.5], "control_end_2": [0.5, 0.75]},
    )
    assert values(plan, "control.control_weight", "control2.control_weight", "control2.end_step_percent") == [
        (0, 0.5, 0.5),
        (0, 0.5, 0.75),
        (1, 0.5, 0.5),
        (1, 0.5, 0.75),
    ]
    assert len(plan.instance(plan.grid[0]).images) == 2


def test_a_list_of_controls_and_single_axes_over_it(plans: Plans) -> None:
    entries = [{"model": "canny", "image": "wide.png", "weight": 0.5}, {"model": "canny", "image": "tall.png"}]
    plan = plans(inputs={"controls": entries}, axes={"control_weight_1": [0.1, 0.2], "control_begin": [0, 0.5]})
    assert values(plan, "control.control_weight", "control2.begin_step_percent") == [
        (0.1, 0),
        (0.1, 0.5),
        (0.2, 0),
        (0.2, 0.5),
    ]


def test_begin_and_end_are_shares(plans: Plans) -> None:
    with pytest.raises(ExperimentError, match="0 to 1"):
        plans("controlnet", inputs={"control_image": "wide.png"}, axes={"control_end": [1.5]})


@pytest.fixture
def own(images: Path, tmp_path: Path) -> Own:
    def make(document: Mapping[str, Any], **sections: Any) -> Plan:
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(document), "utf-8")
        made = Experiment.from_dict({"name": "trial", "workflow": str(path), **sections}, folder=images)
        return make_plan(made, load_builtin_schemas(), MODELS)

    return make


def two_loras() -> dict[str, Any]:
    """An export with two LoRAs, one of them called something, both with ids that say nothing."""
    nodes = [
        invocation("m", "main_model_loader", model={**MODEL, "name": "small"}),
        invocation(A, "lora_loader", "Détail: 100 %", lora=LORA, weight=0.75),
        invocation(B, "lora_loader", lora=INK, weight=0.5),
        invocation("p", "compel", "Positive", prompt="a cup"),
        invocation("n", "compel", prompt=""),
        invocation("z", "noise", seed=1, width=64, height=64),
        invocation("d", "denoise_latents", steps=2, cfg_scale=7, scheduler="euler"),
        invocation("o", "l2i"),
    ]
    chain = ["m", A, B]
    edges = [
        *(edge(f"{a}.{field} → {b}.{field}") for a, b in pairwise(chain) for field in ("unet", "clip")),
        edge(f"{B}.unet → d.unet"),
        *(edge(f"{B}.clip → {text}.clip") for text in "pn"),
        edge("p.conditioning → d.positive_conditioning"),
        edge("n.conditioning → d.negative_conditioning"),
        edge("z.noise → d.noise"),
        edge("d.latents → o.latents"),
        edge("m.vae → o.vae"),
    ]
    return export(nodes, edges)


def test_each_lora_of_an_export_by_number_and_by_label(own: Own) -> None:
    by_number = own(two_loras(), axes={"lora_weight_1": [0, 1], "lora_weight_2": [0, 1]})
    assert values(by_number, f"{A}.weight", f"{B}.weight") == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert by_number.sets == ("Détail: 100 %.weight", "lora_loader_2.weight")
    by_label = own(two_loras(), axes={"Détail: 100 %.weight": [0, 1], "lora_loader_2.weight": [0, 1]})
    assert [by_label.instance(v).key for v in by_label.grid] == [by_number.instance(v).key for v in by_number.grid]


def test_one_weight_for_all_and_a_stack_in_an_export(own: Own) -> None:
    assert values(own(two_loras(), axes={"lora_weight": [0.1]}), f"{A}.weight", f"{B}.weight") == [(0.1, 0.1)]
    stack = own(two_loras(), axes={"lora": {"values": {"one": {"lora": "ink"}, "two": {"lora": ["ink", "glow"]}}}})
    assert values(stack, f"{A}.lora", f"{B}.weight") == [
        (ModelRef("ink", "sd-1", "lora"), 0),
        (ModelRef("ink", "sd-1", "lora"), 0.5),
    ]


def test_a_role_that_was_settled_sets_only_what_it_was_settled_to(own: Own) -> None:
    plan = own(two_loras(), roles={"lora_weight": "lora_loader_2.weight"}, axes={"lora_weight": [0.1, 0.2]})
    assert values(plan, f"{A}.weight", f"{B}.weight") == [(0.75, 0.1), (0.75, 0.2)]


def test_a_label_nobody_has_is_told_with_the_nearest(own: Own) -> None:
    with pytest.raises(PlanError, match=r"no node 'Detail: 100 %'. Did you mean Détail: 100 %"):
        own(two_loras(), axes={"Detail: 100 %.weight": [0, 1]})
    with pytest.raises(PlanError, match="2 nodes are called lora_loader: lora_loader_1, lora_loader_2"):
        own(two_loras(), axes={"lora_loader.weight": [0, 1]})


def test_a_controls_image_goes_in_before_what_is_made_of_it(own: Own) -> None:
    graph = template("controlnet", "sd-1").adding(
        [Node("photo", "image"), Node("canny", "canny_edge_detection")],
        ["photo.image → canny.image", "canny.image → control.image"],
    )
    for inputs in (
        {"control_image": "wide.png"},
        {"controls": [{"model": "canny", "image": "wide.png"}]},
        {"control_image_1": "wide.png"},
    ):
        plan = own(as_api(graph), inputs={"model": "small", **inputs}, axes={"control_weight": [0.1]})
        nodes = plan.instance(plan.grid[0]).graph.nodes
        assert isinstance(nodes["photo"].fields["image"], ImageRef)
        assert "canny" in nodes
        assert "image" not in nodes["control"].fields


def test_prompts_that_are_several_are_told_with_their_numbers(own: Own) -> None:
    graph = template("txt2img", "sd-1").set({Address("prompt", "prompt"): "a cup"})
    graph = graph.adding(
        [Node("more", "compel", {"prompt": "a jug"}), Node("both", "collect")],
        ["model.clip → more.clip", "prompt.conditioning → both.item", "more.conditioning → both.item"],
    )
    graph = graph.without_edges(e for e in graph.edges if e.destination.field == "positive_conditioning")
    graph = graph.adding(edges=["both.collection → denoise.positive_conditioning"])
    with pytest.raises(PlanError, match=r"prompt could be any of prompt_1 \(\w+.prompt\), prompt_2"):
        own(as_api(graph), inputs={"model": "small", "prompt": "x"}, axes={"seed": [1]})
    plan = own(as_api(graph), inputs={"model": "small"}, axes={"prompt_1": ["x"], "prompt_2": ["y", "z"]})
    texts = values(plan, "prompt.prompt", "more.prompt")
    assert sorted(map(sorted, texts)) == [["x", "y"], ["x", "z"]]


def test_whether_an_output_is_kept_is_said_elsewhere(refusal: Refusal) -> None:
    (told,) = refusal(inputs={"decode.is_intermediate": True}, axes={"seed": [1]})
    assert told.startswith("inputs.decode.is_intermediate: the images of an output are kept in the server's gallery")
    assert "--intermediate" in told


@pytest.mark.parametrize(
    ("prompt", "variation", "composed"),
    [
        ("a cup", "dramatic light", "a cup, dramatic light"),
        ("a cup,", "dramatic light", "a cup, dramatic light"),
        ("a cup", "", "a cup"),
        ("", "dramatic light", "dramatic light"),
        ("", "", ""),
        ("a {variation} cup", "blue", "a blue cup"),
        ("a {variation} cup", "", "a  cup"),
    ],
)
def test_a_variation_is_appended_or_put_in_its_slot(prompt: str, variation: str, composed: str) -> None:
    assert compose(prompt, variation) == composed


def test_a_template_has_one_size_for_noise_and_image(plans: Plans, refusal: Refusal) -> None:
    found = refusal("img2img", inputs={"image": "wide.png"}, axes={"noise.width": [64, 128]})
    assert found == ["axes.noise.width: the size of one node alone fits no other; set width."]
    assert plans("img2img", inputs={"image": "wide.png", "model": "large"}, axes={"prompt.original_width": [64, 128]})


def test_the_only_node_with_a_size_may_be_set_by_its_address(experiment: Callable[..., Experiment]) -> None:
    wanted = experiment("img2img", inputs={"image": "wide.png"}, axes={"resize.width": [64, 128]})
    assert len(make_plan(wanted, load_core_schemas(), [model("small", "")])) == 2


@pytest.mark.parametrize(
    "sections",
    [
        {"axes": {"sampler": ["heun"], "scheduler": ["karras", "beta"]}},
        {"inputs": {"sampler": "heun"}, "axes": {"scheduler": ["karras", "beta"]}},
        {"axes": {"scheduler": ["karras", "beta"], "sampler": ["heun"]}},
    ],
    ids=["two axes", "an input and an axis", "scheduler first"],
)
def test_scheduler_sets_only_the_noise_schedule_beside_a_sampler(sections: dict[str, Any]) -> None:
    wanted = Experiment.from_dict({"workflow": "txt2img", **sections})
    plan = make_plan(wanted, load_core_schemas(), [model("small", "")])
    assert values(plan, "denoise.sampler_name", "denoise.scheduler") == [("heun", "karras"), ("heun", "beta")]


def test_scheduler_beside_a_sampler_takes_no_name_of_another_sampler() -> None:
    """Its sampler would be dropped in silence."""
    wanted = Experiment.from_dict({"workflow": "txt2img", "inputs": {"sampler": "heun", "scheduler": "euler_a"}})
    with pytest.raises(PlanError, match=r"inputs.scheduler is euler_a; the field denoise.scheduler does not take"):
        make_plan(wanted, load_core_schemas(), [model("small", "")])


def sampled_in_two_passes(first: str, second: str) -> dict[str, dict[str, Any]]:
    """Two sampling nodes that share one sampler, each with its own node for the noise schedule."""
    sampling = {"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "sampler": ["4", 0]}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "small"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["1", 1]}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {}},
        "4": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "a": {"class_type": first, "inputs": {"model": ["1", 0]}},
        "b": {"class_type": second, "inputs": {"model": ["1", 0]}},
        "5": {"class_type": "SamplerCustom", "inputs": {**sampling, "sigmas": ["a", 0], "latent_image": ["3", 0]}},
        "6": {"class_type": "SamplerCustom", "inputs": {**sampling, "sigmas": ["b", 0], "latent_image": ["5", 0]}},
        "7": {"class_type": "VAEDecode", "inputs": {"samples": ["6", 0], "vae": ["1", 2]}},
        "8": {"class_type": "SaveImage", "inputs": {"images": ["7", 0]}},
    }


def test_scheduler_beside_a_sampler_is_refused_where_there_is_no_noise_schedule(tmp_path: Path) -> None:
    """Both set the sampler's name: it must not be dropped in silence."""
    document = sampled_in_two_passes("SDTurboScheduler", "SDTurboScheduler")
    (tmp_path / "turbo.json").write_text(json.dumps(document))
    wanted = {"workflow": "turbo.json", "inputs": {"sampler": "heun", "scheduler": "lms"}, "axes": {"steps_1": [1]}}
    with pytest.raises(PlanError, match=r"inputs.sampler and inputs.scheduler both set 4.sampler_name"):
        make_plan(Experiment.from_dict(wanted, folder=tmp_path), load_core_schemas(), [model("small", "")])


def test_each_schedule_beside_a_shared_sampler_is_set_by_its_number(tmp_path: Path) -> None:
    document = sampled_in_two_passes("BasicScheduler", "BasicScheduler")
    (tmp_path / "passes.json").write_text(json.dumps(document))
    inputs = {"sampler": "heun", "scheduler_1": "karras", "scheduler_2": "beta"}
    wanted = Experiment.from_dict({"workflow": "passes.json", "inputs": inputs}, folder=tmp_path)
    plan = make_plan(wanted, load_core_schemas(), [model("small", "")])
    assert values(plan, "4.sampler_name", "a.scheduler", "b.scheduler") == [("heun", "karras", "beta")]


def test_a_workflow_without_inputs_says_how_to_set_a_field(tmp_path: Path) -> None:
    document = {
        "1": {"class_type": "EmptyImage", "inputs": {"color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    (tmp_path / "plain.json").write_text(json.dumps(document))
    wanted = Experiment.from_dict({"workflow": "plain.json", "axes": {"prompt": ["a"]}}, folder=tmp_path)
    with pytest.raises(PlanError, match=r"no input named prompt. It has none; write the address of a field"):
        make_plan(wanted, load_core_schemas(), [])


def test_models_of_any_base_are_not_told_to_be_for_any(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "fixtures" / "portable" / "text_to_image.json", tmp_path / "own.json")
    models = [replace(model(name, ""), base="any") for name in ("one", "two")]
    with pytest.raises(PlanError, match="it has 2 main models; name one: one, two"):
        make_plan(Experiment.from_dict({"workflow": "own.json"}, folder=tmp_path), load_core_schemas(), models)
    strength = Experiment.from_dict({"workflow": "txt2img", "axes": {"denoise_strength": [0.5]}})
    with pytest.raises(PlanError, match="txt2img has no input named denoise_strength"):
        make_plan(strength, load_core_schemas(), models[:1])


def test_an_axis_of_a_field_that_belongs_to_another_choice_is_refused(tmp_path: Path) -> None:
    """Its images would all be equal, and rendered each."""
    sized = {key: {"required": {"width": ["INT", {"default": 8, "min": 0}]}} for key in ("to", "square")}
    blur = {"options": [{"key": "soft", "inputs": {"required": {"radius": ["INT", {"default": 1}]}}}]}
    factor = {"factor": ["FLOAT", {"default": 1.0}], "blur": ["COMFY_DYNAMICCOMBO_V3", blur]}
    scaled = {"by": {"required": factor}, **sized}
    options = [{"key": key, "inputs": inputs} for key, inputs in scaled.items()]
    chosen = {"input": ["IMAGE"], "kind": ["COMFY_DYNAMICCOMBO_V3", {"options": options}]}
    described = read_object_info({"Resize": {"input": {"required": chosen}, "output": ["IMAGE"]}})
    schemas = NodeSchemas({**load_core_schemas(), **described}, described.dialect)
    document = {
        "1": {"class_type": "EmptyImage", "inputs": {"color": 0}},
        "2": {"class_type": "Resize", "inputs": {"input": ["1", 0], "kind": "by"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
    }
    (tmp_path / "resize.json").write_text(json.dumps(document))

    def plan(axes: dict[str, Any], **inputs: Any) -> Plan:
        wanted = {"workflow": "resize.json", "inputs": inputs, "axes": axes}
        return make_plan(Experiment.from_dict(wanted, folder=tmp_path), schemas, [])

    width = {"2.kind.width": [64, 128]}
    with pytest.raises(PlanError) as refused:
        plan(width)  # as the workflow has it
    said = "axes.2.kind.width: 2.kind.width has no effect while 2.kind is by, only with to or square."
    assert said in str(refused.value)
    with pytest.raises(PlanError, match=r"2\.kind\.blur\.radius has no effect while 2\.kind\.blur is not set, only"):
        plan({"2.kind.blur.radius": [1, 2]})
    chosen_plan = plan(width, **{"2.kind": "to"})
    fields = [chosen_plan.instance(variation).graph.nodes["2"].fields for variation in chosen_plan.grid]
    assert [each["kind.width"] for each in fields] == [64, 128]
    assert len(plan({"2.kind": ["by", "to"], **width})) == 4
