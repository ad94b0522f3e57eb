from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep.errors import PlanError
from sweep.experiment import Experiment
from sweep.plan.planner import make_plan
from sweep.workflow import Address, BoardRef, ImageRef, ModelRef, check_graph, load_builtin_schemas
from tests.plan.conftest import MODELS, Plans, fields, model

Refusal = Callable[..., list[str]]


def test_inputs_and_axes_reach_their_fields(plans: Plans) -> None:
    plan = plans(
        inputs={"prompt": "a cup", "negative_prompt": "blurry", "steps": 7},
        axes={"cfg_scale": [3, 7.5], "seed": [1, 2], "scheduler": ["euler", "ddim"]},
    )
    assert len(plan) == 8
    graph = plan.instance(plan.grid[5]).graph
    assert graph.nodes["denoise"].fields["steps"] == 7
    assert graph.nodes["denoise"].fields["cfg_scale"] == 7.5
    assert graph.nodes["denoise"].fields["scheduler"] == "ddim"
    assert graph.nodes["noise"].fields["seed"] == 1
    assert graph.nodes["negative"].fields["prompt"] == "blurry"
    assert graph.nodes["model"].fields["model"] == ModelRef("small", "sd-1")
    assert "denoise.cfg_scale" in plan.sets


@pytest.mark.parametrize("base", ["small", "large"])
@pytest.mark.parametrize("workflow", ["txt2img", "img2img", "lora", "controlnet"])
def test_every_point_of_every_template_is_a_graph_the_nodes_take(workflow: str, base: str, plans: Plans) -> None:
    inputs = {"model": base, "prompt": "a cup", "width": 64, "height": 64}
    inputs |= {"image": "wide.png"} if workflow == "img2img" else {}
    inputs |= {"lora": "glow" if base == "small" else "glow-xl"} if workflow == "lora" else {}
    inputs |= {"control_image": "wide.png", "control_weight": 0.4} if workflow == "controlnet" else {}
    plan = plans(workflow, inputs=inputs, axes={"seed": [1, 2], "variation": ["red", "blue"]})
    for variation in plan.grid:
        assert check_graph(plan.instance(variation).graph, load_builtin_schemas()) == []


def test_a_prompt_and_its_variation_are_one_text_also_for_sdxls_second_encoder(plans: Plans) -> None:
    plan = plans(inputs={"model": "large", "prompt": "a cup"}, axes={"variation": ["red", "blue"]})
    instance = plan.instance(plan.grid[1])
    assert instance.prompt == "a cup, blue"
    assert instance.graph.nodes["prompt"].fields["style"] == "a cup, blue"
    assert instance.graph.nodes["negative"].fields["prompt"] == ""


def test_two_axes_make_a_prompt_together(plans: Plans) -> None:
    plan = plans(axes={"prompt": ["a {variation} cup", "a dog"], "variation": ["red", "blue"]})
    prompts = [plan.instance(variation).prompt for variation in plan.grid]
    assert prompts == ["a red cup", "a blue cup", "a dog, red", "a dog, blue"]


def test_words_are_replaced_in_what_the_prompt_says(plans: Plans) -> None:
    plan = plans(
        inputs={"prompt": "a red cup"},
        axes={"colour": {"replace": "red", "with": ["blue", "green"], "target": "prompt"}},
    )
    assert [plan.instance(variation).prompt for variation in plan.grid] == ["a blue cup", "a green cup"]


def test_strength_is_turned_around_exactly(plans: Plans) -> None:
    plan = plans(
        "img2img", inputs={"image": "wide.png"}, axes={"denoise_strength": {"start": 0, "stop": 1, "step": 0.1}}
    )
    starts = [fields(plan, index, "denoise")["denoising_start"] for index in range(len(plan))]
    assert starts == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    assert plan.sets == ("denoise.denoising_start = 1 − denoise_strength",)


def test_the_size_follows_the_image_in_multiples_of_eight(plans: Plans) -> None:
    plan = plans("img2img", axes={"image": ["wide.png", "tall.png"]})
    wide, tall = (plan.instance(variation) for variation in plan.grid)
    assert (wide.graph.nodes["noise"].fields["width"], wide.graph.nodes["noise"].fields["height"]) == (104, 64)
    assert (tall.graph.nodes["noise"].fields["width"], tall.graph.nodes["noise"].fields["height"]) == (64, 128)
    assert tall.graph.nodes["resize"].fields["height"] == 128
    assert wide.graph.nodes["source"].fields["image"] == ImageRef(wide.source or "")
    assert set(wide.images) == {wide.source}
    assert wide.images[wide.source or ""].name == "wide.png"


def test_one_given_side_keeps_the_images_proportions(plans: Plans) -> None:
    plan = plans("img2img", inputs={"image": "tall.png", "width": 32})
    assert (fields(plan, 0, "noise")["width"], fields(plan, 0, "noise")["height"]) == (32, 64)


def test_a_given_size_wins_over_the_image_and_sdxl_is_told_it(plans: Plans) -> None:
    plan = plans("img2img", inputs={"model": "large", "image": "tall.png", "width": 256, "height": 512})
    told = fields(plan, 0, "prompt")
    assert (told["original_width"], told["target_height"], fields(plan, 0, "resize")["height"]) == (256, 512, 512)


def test_an_address_may_be_set_as_well_as_a_role(plans: Plans) -> None:
    plan = plans(inputs={"denoise.cfg_rescale_multiplier": 0.2}, axes={"noise.use_cpu": [True, False]})
    assert fields(plan, 1, "noise")["use_cpu"] is False
    assert fields(plan, 1, "denoise")["cfg_rescale_multiplier"] == 0.2


def test_the_only_main_model_is_taken_where_none_is_named() -> None:
    unnamed = Experiment.from_dict({"name": "t", "workflow": "txt2img", "axes": {"seed": [1]}})
    plan = make_plan(unnamed, load_builtin_schemas(), [model("only"), model("glow", kind="lora")])
    assert plan.models == (ModelRef("only", "sd-1"),)
    assert plan.instance(plan.grid[0]).model == "only"
    with pytest.raises(PlanError, match="3 main models; name one: large, other, small"):
        make_plan(unnamed, load_builtin_schemas(), MODELS)


def test_models_of_two_families_each_get_their_own_graph(plans: Plans) -> None:
    plan = plans(inputs={"prompt": "a cup"}, axes={"model": ["small", "large", "other"], "seed": [1, 2]})
    kinds = [plan.instance(variation).graph.nodes["model"].type for variation in plan.grid]
    assert kinds == ["main_model_loader"] * 2 + ["sdxl_model_loader"] * 2 + ["main_model_loader"] * 2
    assert [plan.instance(variation).model for variation in plan.grid][::2] == ["small", "large", "other"]
    assert len({plan.instance(variation).key for variation in plan.grid}) == 6


def test_loras_one_a_stack_and_none(plans: Plans) -> None:
    plan = plans(
        inputs={"lora_weight": 0.6},
        axes={
            "stack": {
                "values": {
                    "none": {"lora": None},
                    "one": {"lora": "ink"},
                    "two": {"lora": ["glow", {"name": "ink", "weight": 0.2}]},
                }
            }
        },
    )
    none, one, two = (plan.instance(variation).graph.nodes for variation in plan.grid)
    assert "lora" not in none
    assert one["lora"].fields == {"weight": 0.6, "lora": ModelRef("ink", "sd-1", "lora")}
    assert two["lora"].fields == {"weight": 0.6, "lora": ModelRef("glow", "sd-1", "lora")}
    assert two["lora2"].fields == {"weight": 0.2, "lora": ModelRef("ink", "sd-1", "lora")}


@pytest.mark.parametrize("labels", [("plain", "both"), ("both", "plain")])
def test_a_label_that_sets_no_second_lora_has_a_graph_without_it(plans: Plans, labels: tuple[str, str]) -> None:
    looks = {"plain": {"steps": 3}, "both": {"steps": 3, "lora_2": "ink", "lora_weight_2": 0.4}}
    plan = plans("lora", inputs={"lora_1": "glow"}, axes={"look": {"values": {name: looks[name] for name in labels}}})

    nodes = {point.values["look"]: plan.instance(point).graph.nodes for point in plan.grid}
    assert ("lora2" in nodes["plain"], "lora2" in nodes["both"]) == (False, True)
    assert nodes["both"]["lora2"].fields == {"weight": 0.4, "lora": ModelRef("ink", "sd-1", "lora")}


def test_a_label_without_the_control_net_of_another_has_a_graph_without_it(plans: Plans) -> None:
    looks = {"plain": {"steps": 3}, "led": {"steps": 3, "control_image": "wide.png", "control_model": "canny"}}
    plan = plans(axes={"look": {"values": looks}})
    kinds = {p.values["look"]: {node.type for node in plan.instance(p).graph.nodes.values()} for p in plan.grid}
    assert ("controlnet" in kinds["plain"], "controlnet" in kinds["led"]) == (False, True)


def test_clip_skip_gets_a_node_before_both_prompts_are_encoded(plans: Plans, refusal: Refusal) -> None:
    plan = plans("lora", inputs={"lora": "glow"}, axes={"clip_skip": [0, 2]})
    graph = plan.instance(plan.grid[1]).graph
    assert graph.nodes["clip_skip"].fields == {"skipped_layers": 2}
    fed = {str(edge.destination) for edge in graph.edges if edge.source.node == "clip_skip"}
    assert fed == {"prompt.clip", "negative.clip"}
    assert [str(edge.source) for edge in graph.edges if edge.destination.node == "clip_skip"] == ["lora.clip"]
    assert check_graph(graph, load_builtin_schemas()) == []
    assert plan.bound_graphs[0].recall(graph)["clip_skip"] == 2
    (told,) = refusal(inputs={"model": "large"}, axes={"clip_skip": [0, 1]})
    assert told.startswith("axes.clip_skip: txt2img for sdxl has no input named clip_skip. It has prompt, ")


def test_a_vae_of_its_own(plans: Plans) -> None:
    plan = plans("img2img", inputs={"image": "wide.png"}, axes={"vae": [None, "sharp"]})
    assert "vae" not in plan.instance(plan.grid[0]).graph.nodes
    graph = plan.instance(plan.grid[1]).graph
    assert graph.nodes["vae"].fields["vae_model"] == ModelRef("sharp", "sd-1", "vae")
    assert {str(edge.destination) for edge in graph.edges if edge.source.node == "vae"} == {"decode.vae", "encode.vae"}
    assert not [edge for edge in graph.edges if edge.source.node == "model" and edge.source.field == "vae"]


def test_control_nets_by_list_or_by_role(plans: Plans) -> None:
    plan = plans(
        inputs={
            "controls": [
                {"model": "canny", "image": "wide.png", "weight": 0.5, "end": 0.8},
                {"model": "canny", "image": "tall.png"},
            ]
        },
        axes={"seed": [1]},
    )
    nodes = plan.instance(plan.grid[0]).graph.nodes
    assert nodes["control"].fields["control_weight"] == 0.5
    assert nodes["control"].fields["end_step_percent"] == 0.8
    assert nodes["control2"].fields["control_model"] == ModelRef("canny", "sd-1", "controlnet")
    assert len(plan.instance(plan.grid[0]).images) == 2
    single = plans("controlnet", inputs={"control_image": "wide.png"}, axes={"control_weight": [0.2, 0.9]})
    assert fields(single, 1, "control")["control_weight"] == 0.9
    assert fields(single, 1, "control")["control_model"] == ModelRef("canny", "sd-1", "controlnet")
    assert any("canny" in note for note in single.notes)


def test_boards_as_an_axis_are_points_of_their_own_with_the_same_graph(plans: Plans) -> None:
    plan = plans(axes={"board": ["a", "b"]})
    first, second = (plan.instance(variation) for variation in plan.grid)
    assert first.graph.nodes["decode"].fields["board"] == BoardRef("a")
    assert first.key != second.key


def test_labelled_levels_leave_what_they_do_not_name_to_the_inputs(plans: Plans) -> None:
    plan = plans(
        inputs={"steps": 9},
        axes={"look": {"values": {"fast": {"steps": 4, "scheduler": "lcm"}, "plain": {"cfg_scale": 3}}}},
    )
    assert [fields(plan, index, "denoise")["steps"] for index in (0, 1)] == [4, 9]
    assert [fields(plan, index, "denoise")["scheduler"] for index in (0, 1)] == ["lcm", "euler"]


def test_outputs_are_never_served_from_the_servers_cache(plans: Plans) -> None:
    plan = plans(axes={"seed": [1]})
    assert fields(plan, 0, "decode")["use_cache"] is False


def test_probes_hold_each_value_once_by_itself(plans: Plans) -> None:
    plan = plans(axes={"seed": [1, 2, 3], "steps": [4, 5], "scheduler": ["euler", "ddim"]})
    places = [place for place, _ in plan.list_probes()]
    assert places == ["workflow", "axes.seed 2", "axes.seed 3", "axes.steps 5", "axes.scheduler ddim"]
    steps = plan.list_probes()[3][1].nodes
    assert (steps["denoise"].fields["steps"], steps["noise"].fields["seed"]) == (5, 1)


def test_a_long_axis_is_probed_at_a_bounded_number_of_levels(plans: Plans) -> None:
    plan = plans(axes={"seed": {"start": 0, "count": 100_000}})
    assert len(plan.list_probes()) < 100


# What is refused, and how it is said


def test_a_strength_beyond_one_is_told_by_its_field(plans: Plans, images: Path) -> None:
    made = Experiment.from_dict(
        {
            "name": "t",
            "workflow": "img2img",
            "inputs": {"image": "wide.png", "model": "small"},
            "axes": {"denoise_strength": [0.5]},
        },
        folder=images,
    )
    axis = made.axes[0]
    object.__setattr__(axis.levels, "values", (0.5, 1.2, 1.1))
    with pytest.raises(PlanError) as error:
        make_plan(made, load_builtin_schemas(), MODELS)
    assert [problem.message for problem in error.value.problems] == [
        "axes.denoise_strength reaches 1.2; the field denoise.denoising_start takes 0 to 1, so strength is at most 1."
    ]


def test_every_fault_is_told_at_once(refusal: Refusal) -> None:
    said = refusal(
        inputs={"width": 65, "denoise.stepz": 3, "image": "wide.png"},
        axes={"scheduler": ["eulr", "ddim"], "noise.seed": [1, 2]},
    )
    assert any("inputs.width is 65; the field noise.width takes multiples of 8" in line for line in said)
    assert any("Did you mean steps?" in line for line in said)
    assert any("axes.scheduler has eulr" in line and "Did you mean euler?" in line for line in said)
    assert "inputs.image: txt2img has no input named image. Use the workflow img2img." in said
    assert len(said) == 4


@pytest.mark.parametrize(
    ("workflow", "sections", "said"),
    [
        (
            "img2img",
            {"axes": {"seed": [1]}},
            "img2img needs an image: add --image FILE, or inputs.image in an experiment file.",
        ),
        (
            "controlnet",
            {"axes": {"seed": [1]}},
            "controlnet needs an image: add --input control_image=FILE, or inputs.control_image in an experiment file.",
        ),
        (
            "txt2img",
            {"inputs": {"model": "smal"}},
            "inputs.model: the server has no model named smal. Did you mean small?",
        ),
        ("txt2img", {"axes": {"model": ["small", "lrge"]}}, "no model named lrge. Did you mean large?"),
        ("txt2img", {"inputs": {"lora": "glow-xl"}}, "glow-xl is made for sdxl; the model is sd-1."),
        ("txt2img", {"inputs": {"model": "glow"}}, "glow is a LoRA, not a model."),
        ("txt2img", {"inputs": {"vae": "glow"}}, "glow is a LoRA, not a VAE."),
        ("lora", {"inputs": {"prompt": "x"}}, "needs a LoRA; the server has glow, ink."),
        (
            "txt2img",
            {"inputs": {"steps": 4, "denoise.steps": 5}},
            "inputs.steps and inputs.denoise.steps both set denoise.steps.",
        ),
        ("txt2img", {"axes": {"steps": [4, 5], "denoise.steps": [6, 7]}}, "axes.steps and axes.denoise.steps both set"),
        ("txt2img", {"inputs": {"nois.seed": 4}}, "no node 'nois'. Did you mean noise?"),
        ("txt2img", {"inputs": {"noise.seed": "four"}}, "inputs.noise.seed is four; the field noise.seed takes"),
        ("txt2img", {"axes": {"denoise.unet": ["x"]}}, "takes no value, only an edge"),
        (
            "txt2img",
            {"inputs": {"lora_weight": 0.5}},
            "inputs.lora_weight: txt2img has no input named lora_weight. It has prompt, ",
        ),
    ],
)
def test_what_does_not_fit_is_refused(workflow: str, sections: dict[str, object], said: str, refusal: Refusal) -> None:
    lines = refusal(workflow, **sections)
    assert any(said in line for line in lines), lines


def test_weights_without_a_lora_share_one_image_and_need_no_exclude(plans: Plans) -> None:
    axes = {"lora": [None, "glow"], "lora_weight": [0.2, 0.5]}
    both = plans(axes=axes)
    keys = [key for _, key in both.keys(range(len(both)))]
    assert keys[0] == keys[1], "without a LoRA its weights share one image"
    assert len(set(keys)) == 3
    assert len(plans(axes=axes, exclude="lora == null and lora_weight > 0.2")) == 3


def test_two_points_that_are_one_image_are_named(refusal: Refusal, plans: Plans) -> None:
    axes = {"look": {"target": "cfg_scale", "values": {"a": 2, "b": 2, "c": 3}}, "seed": [1, 2]}
    assert refusal(axes=axes) == ["axes.look: look b gives the same images as look a."]
    assert refusal(axes=axes, where="seed < 9") == [
        "Points 0 (look a · seed 1) and 2 (look b · seed 1) are the same image; leave one out."
    ]
    assert len(plans(axes=axes, exclude="look == 'a'")) == 4
    composed = {"prompt": ["a", "a, b"], "variation": ["b", ""]}
    assert "Points 0 (prompt a · variation b) and 3 (prompt a, b · variation )" in refusal(axes=composed)[0]


def test_zipped_axes_are_looked_at_as_they_step_together(plans: Plans) -> None:
    plan = plans(
        inputs={"prompt": "a cup"},
        axes={
            "pair": {"zip": {"model": ["small", "large"], "lora": ["glow", "glow-xl"], "steps": [3, 4]}},
            "seed": [1, 2],
        },
    )
    assert len(plan) == 4
    assert [plan.instance(variation).graph.nodes["lora"].type for variation in plan.grid][1:3] == [
        "lora_loader",
        "sdxl_lora_loader",
    ]
    assert sorted(plan.order()) == [0, 1, 2, 3]


def test_an_experiment_without_axes_has_one_point(plans: Plans) -> None:
    plan = plans(inputs={"prompt": "a cup"})
    assert len(plan) == 1
    assert list(plan.keys([0])) == [(0, plan.instance(plan.grid[0]).key)]
    assert list(plan.order()) == [0]


def test_long_axes_are_checked_without_looking_at_every_level(plans: Plans, refusal: Refusal) -> None:
    assert len(plans(axes={"seed": list(range(3_000))})) == 3_000
    assert "axes.seed reaches 2.5; the field noise.seed takes whole numbers" in refusal(
        axes={"a": {"target": "noise.seed", "values": [*range(3_000), 2.5]}}
    )[0].replace("axes.a", "axes.seed")
    assert (
        "reaches 1.5; the field denoise.denoising_end takes 0 to 1"
        in refusal(axes={"denoise.denoising_end": {"start": 0, "stop": 1.5, "num": 1501}})[0]
    )


def test_seeds_have_to_be_drawn(refusal: Refusal) -> None:
    assert "are not drawn yet" in refusal(axes={"seed": {"count": 3}})[0]


def test_problems_have_their_line_and_column(images: Path) -> None:
    text = (
        "name: t\nworkflow: txt2img\ninputs:\n  model: small\n  width: 65\naxes:\n  scheduler:\n  - euler\n  - eulr\n"
    )
    with pytest.raises(PlanError) as error:
        make_plan(Experiment.from_text(text, images), load_builtin_schemas(), MODELS)
    assert [(problem.line, problem.column) for problem in error.value.problems] == [(5, 10), (9, 5)]


def test_roles_that_a_person_settles_win(plans: Plans) -> None:
    plan = plans(roles={"prompt": ["negative.prompt"]}, axes={"prompt": ["a", "b"]})
    assert fields(plan, 1, "negative")["prompt"] == "b"
    assert plan.instance(plan.grid[1]).prompt == "b"
    assert plan.bound_graphs[0].role_fields["prompt"] == Address("negative", "prompt")


def test_flux_takes_its_encoders_from_the_server_and_sizes_in_sixteens(images: Path) -> None:
    installed = [
        model("dev", "flux"),
        model("t5", "any", "t5_encoder"),
        model("clip", "any", "clip_embed"),
        model("ae", "flux", "vae"),
    ]
    made = Experiment.from_dict(
        {
            "name": "t",
            "workflow": "img2img",
            "inputs": {"image": "wide.png", "prompt": "a cup"},
            "axes": {"denoise_strength": [0.5, 1], "seed": [1, 2]},
        },
        folder=images,
    )
    plan = make_plan(made, load_builtin_schemas(), installed)
    graph = plan.instance(plan.grid[0]).graph
    assert check_graph(graph, load_builtin_schemas()) == []
    assert graph.nodes["denoise"].fields["denoising_start"] == pytest.approx(1 - 0.5**0.2, abs=1e-9)
    assert (graph.nodes["denoise"].fields["width"], graph.nodes["denoise"].fields["height"]) == (96, 64)
    assert graph.nodes["model"].fields["t5_encoder_model"] == ModelRef("t5", "any", "t5_encoder")
    assert "denoise.denoising_start = 1 − denoise_strength^0.2" in plan.sets
    assert any("model.t5_encoder_model is t5" in note for note in plan.notes)


def test_what_an_entry_leaves_open_its_address_sets(plans: Plans) -> None:
    steps = plans("controlnet", inputs={"control_image": "wide.png"}, axes={"control.begin_step_percent": [0, 0.4]})
    assert [fields(steps, index, "control")["begin_step_percent"] for index in (0, 1)] == [0, 0.4]
    stack = plans(
        "lora",
        inputs={"lora": ["glow", {"name": "ink", "weight": 0.3}]},
        axes={"lora.weight": [0.1, 0.9]},
    )
    assert [fields(stack, index, "lora")["weight"] for index in (0, 1)] == [0.1, 0.9]
    assert fields(stack, 0, "lora2")["weight"] == 0.3


def test_what_an_entry_says_no_address_may_set(refusal: Refusal) -> None:
    (said,) = refusal("lora", inputs={"lora": [{"name": "ink", "weight": 0.3}]}, axes={"lora.weight": [0.1, 0.9]})
    assert said == "axes.lora.weight and inputs.lora both set lora.weight."
    entry = {"model": "canny", "image": "wide.png", "begin": 0.1}
    (said,) = refusal("controlnet", inputs={"controls": [entry]}, axes={"control.begin_step_percent": [0, 0.4]})
    assert said.endswith("both set control.begin_step_percent.")


def test_a_stack_names_each_lora_once(refusal: Refusal) -> None:
    (said,) = refusal("lora", inputs={"lora": ["glow", {"name": "glow", "weight": 0.3}]}, axes={"seed": [1]})
    assert said == "inputs.lora: names glow twice; give it once, with the sum of the weights."


def test_a_start_beyond_the_end_is_refused(refusal: Refusal) -> None:
    found = refusal(
        "img2img", inputs={"image": "wide.png", "denoise.denoising_end": 0.5}, axes={"denoise_strength": [0.8, 0.3]}
    )
    assert found == ["axes.denoise_strength 0.3: denoise: denoising_start 0.7 is beyond denoising_end 0.5."]


def test_fields_that_exclude_each_other_are_compared_where_there_are_points(plans: Plans, refusal: Refusal) -> None:
    inputs = {"control_image": "wide.png", "control_model": "canny"}
    for begin, end in (([0, 0.5], [0.6, 0.3]), ([0.5, 0], [0.3, 0.6])):
        axes = {"control_begin": begin, "control_end": end, "seed": [1, 2]}
        said = "axes.control_begin 0.5 · axes.control_end 0.3: control: begin_step_percent 0.5 is beyond"
        (found,) = refusal(inputs=inputs, axes=axes)
        assert found.startswith(said)
        plan = plans(inputs=inputs, axes=axes, exclude="control_begin > control_end")
        probes: list[dict[str, Any]] = [dict(graph.nodes["control"].fields) for _, graph in plan.list_probes()]
        assert all(fields["begin_step_percent"] < fields["end_step_percent"] for fields in probes)
        assert {fields["begin_step_percent"] for fields in probes} == {0, 0.5}
        assert {fields["end_step_percent"] for fields in probes} == {0.3, 0.6}
    low = refusal(axes={"cfg_scale": [0.5, 7], "steps": [3, 4]})
    assert low == ["axes.cfg_scale 0.5: denoise: cfg_scale 0.5 must be at least 1."]


def test_fields_that_exclude_each_other_at_the_last_of_many_levels_are_told_a_few_times(refusal: Refusal) -> None:
    inputs = {"control_image": "wide.png", "control_model": "canny"}
    axes = {"control_begin": [at / 500 for at in range(450)], "control_end": [at / 100 for at in range(86, 96)]}
    found = refusal(inputs=inputs, axes=axes)
    assert len(found) == 20
    assert found[0].startswith("axes.control_begin 0.86")


def test_a_contradiction_is_told_in_the_line_of_an_axis_with_a_space_in_its_name(images: Path) -> None:
    text = """
        workflow: txt2img
        inputs: {model: small, control_image: wide.png, control_model: canny, control_end: 0.3}
        axes:
          seed: [1, 2]
          my begin: {target: control_begin, values: [0, 0.5]}
    """
    with pytest.raises(PlanError, match=r"6:11  axes\.my begin 0\.5: control: begin_step_percent"):
        make_plan(Experiment.from_text(text, folder=images), load_builtin_schemas(), MODELS)


def test_text_behind_and_or_blend_is_refused_unless_it_has_a_slot(plans: Plans, refusal: Refusal) -> None:
    behind = refusal(inputs={"prompt": '("a cat", "a dog").and()'}, axes={"variation": ["studio light", "oil"]})
    assert behind[0].startswith(
        'axes.variation: has the text "studio light" behind .and(), where the server does not read it; put it inside'
    )
    assert "blend" in refusal(inputs={"prompt": '("a", "b").blend(0.5, 0.5), x'})[0]
    for target in ("negative_prompt", "negative.prompt"):
        assert f"inputs.{target}: has the text" in refusal(inputs={target: '("a", "b").blend(1, 2), x'})[0]
    prompts = [*(f"a cat {number}" for number in range(1_100)), '("a cat", "a dog").and(), at night']
    (late,) = refusal(axes={"prompt": prompts})
    assert late.startswith('axes.prompt: has the text "at night" behind .and()')
    many = refusal(axes={"prompt": [f'("a cat", "a dog").and(), {number}' for number in range(1_100)]})
    assert len(many) == 20
    inside = plans(inputs={"prompt": '("a cat, {variation}", "a dog").and()'}, axes={"variation": ["one", "two"]})
    assert inside.instance(inside.grid[0]).prompt == '("a cat, one", "a dog").and()'


def test_flux_reads_all_of_a_prompt_behind_and_too() -> None:
    """Its encoders know no `.and()`: it is text as any other."""
    installed = [model("dev", "flux"), model("t5", "any", "t5_encoder"), model("ae", "flux", "vae")]
    document = {
        "name": "t",
        "workflow": "txt2img",
        "inputs": {"prompt": '("a", "b").and()'},
        "axes": {"variation": ["x", "y"]},
    }
    plan = make_plan(
        Experiment.from_dict(document), load_builtin_schemas(), [*installed, model("clip", "any", "clip_embed")]
    )
    assert plan.instance(plan.grid[0]).prompt == '("a", "b").and(), x'


def test_guidance_below_one_is_refused_as_servers_do(refusal: Refusal) -> None:
    assert refusal(axes={"cfg_scale": [0.5, 7]}) == ["axes.cfg_scale 0.5: denoise: cfg_scale 0.5 must be at least 1."]
    assert refusal(inputs={"cfg_scale": 0.5}) == ["inputs.cfg_scale: denoise: cfg_scale 0.5 must be at least 1."]


def test_a_large_source_is_noted_with_the_line_to_add(plans: Plans, tmp_path: Path) -> None:
    phone = str(tmp_path / "phone.jpg")
    Image.new("RGB", (2000, 1500)).save(phone)

    plan = plans("img2img", inputs={"image": phone})
    small = plans("img2img", inputs={"image": phone, "width": 512})

    note = f"{phone} is rendered at its own 2000 × 1500 pixels; inputs.width: 1024 keeps its shape in less."
    assert note in plan.notes
    assert note not in small.notes


def test_a_large_source_that_nothing_resizes_is_to_be_made_smaller(plans: Plans, tmp_path: Path, flow: str) -> None:
    phone = str(tmp_path / "phone.jpg")
    Image.new("RGB", (2000, 1500)).save(phone)

    assert any(note.endswith("so make the file smaller.") for note in plans(flow, inputs={"image": phone}).notes)


FLOW = {
    "nodes": {
        "m": {"id": "m", "type": "main_model_loader", "model": {"model_name": "small", "base_model": "sd-1"}},
        "r": {"id": "r", "type": "lora_loader", "lora": {"model_name": "glow", "base_model": "sd-1"}, "weight": 0.5},
        "i": {"id": "i", "type": "i2l", "image": None},
        "p": {"id": "p", "type": "compel", "prompt": "a"},
        "n": {"id": "n", "type": "noise", "seed": 1, "width": 64, "height": 64},
        "d": {"id": "d", "type": "denoise_latents", "steps": 4, "denoising_start": 0.5},
        "l": {"id": "l", "type": "l2i", "seamless": False},
    },
    "edges": [
        {"source": {"node_id": source, "field": left}, "destination": {"node_id": target, "field": right}}
        for source, left, target, right in (
            ("m", "clip", "r", "clip"), ("m", "unet", "r", "unet"),
            ("r", "clip", "p", "clip"), ("r", "unet", "d", "unet"),
            ("m", "vae", "l", "vae"), ("m", "vae", "i", "vae"),
            ("i", "latents", "d", "latents"), ("n", "noise", "d", "noise"),
            ("p", "conditioning", "d", "positive_conditioning"), ("p", "conditioning", "d", "negative_conditioning"),
            ("d", "latents", "l", "latents"),
        )
    ],
}  # fmt: skip


@pytest.fixture
def flow(tmp_path: Path) -> str:
    """A graph as somebody posted it: no resize, models of InvokeAI 3, a field that l2i has no more."""
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(FLOW), encoding="utf-8")
    return str(path)


def test_a_field_that_a_node_has_no_more_is_noted_and_left_out(plans: Plans, flow: str) -> None:
    plan = plans(flow, inputs={"image": "wide.png"}, axes={"seed": [1, 2]})

    assert any("has no field seamless on this server; it is left out" in note for note in plan.notes)
    assert "seamless" not in plan.instance(plan.grid[0]).graph.nodes["l"].fields


def test_models_of_older_workflows_have_the_type_of_their_field(plans: Plans, flow: str) -> None:
    plan = plans(flow, inputs={"image": "wide.png"}, axes={"seed": [1, 2]})

    nodes = plan.instance(plan.grid[0]).graph.nodes
    assert nodes["m"].fields["model"] == ModelRef("small", "sd-1", "main")
    assert nodes["r"].fields["lora"] == ModelRef("glow", "sd-1", "lora")


def test_a_size_that_the_source_cannot_have_is_refused(plans: Plans, refusal: Refusal, flow: str) -> None:
    found = refusal(flow, inputs={"image": "wide.png", "width": 256, "height": 256}, axes={"seed": [1, 2]})

    assert found == ["inputs.image: width and height must be the source's 104 × 64: nothing resizes it here."]
    assert plans(flow, inputs={"image": "wide.png", "width": 104, "height": 64}, axes={"seed": [1, 2]})
    assert plans(flow, inputs={"image": "wide.png", "n.width": 104})
    assert refusal(flow, inputs={"image": "wide.png", "n.width": 256}) == found


def test_an_image_of_the_graph_that_an_axis_replaces_is_not_noted(plans: Plans, flow: str, tmp_path: Path) -> None:
    graph = json.loads(Path(flow).read_text())
    graph["nodes"]["i"]["image"] = {"image_name": "gone.png"}
    Path(flow).write_text(json.dumps(graph))
    note = "i.image is gone.png, an image of the server; inputs.image names a file instead."

    assert note in plans(flow).notes
    assert note not in plans(flow, axes={"image": ["wide.png"]}).notes
