from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import WorkflowError
from sweep.workflow.graph import Address, ModelRef, Workflow
from sweep.workflow.invokeai.invokeai_dialect import load_builtin_schemas
from sweep.workflow.invokeai.invokeai_formats import find_scheduler
from sweep.workflow.role_targets import find_roles
from sweep.workflow.validation import check_graph
from sweep.workflow.workflow_file import load_workflow, workflow_from
from tests.support.graphs import output_nodes

SCHEMAS = load_builtin_schemas()
HERE = Path(__file__).parents[1] / "fixtures" / "portable"
BASES = ["sd-1", "sd-2", "sdxl"]


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / name).read_text("utf-8"))
    return found


def roles(workflow: Workflow) -> dict[str, list[str]]:
    found = find_roles(workflow.graph, SCHEMAS)
    assert not found.ambiguous
    return {role: [str(target.address) for target in targets] for role, targets in found.targets.items()}


@pytest.mark.parametrize("base", BASES)
def test_text_to_image_is_completed(base: str) -> None:
    workflow = load_workflow(HERE / "text_to_image.json").for_base(base)
    assert workflow.kind == "portable"
    assert workflow.name == "Basic Text to Image"
    assert check_graph(workflow.graph, SCHEMAS) == []
    assert output_nodes(workflow.graph, SCHEMAS) == ("save",)
    completed = [note for note in workflow.notes if note.startswith("completed ")]
    assert "completed negative_prompt.conditioning → denoise.negative_conditioning" in completed
    assert "completed load_checkpoint.vae → decode.vae" in completed
    assert len(completed) == (8 if base == "sdxl" else 6)
    assert workflow.graph.nodes["load_checkpoint"].fields["model"] == ModelRef("stable-diffusion-v1-5", "")
    assert workflow.graph.nodes["denoise"].fields["cfg_scale"] == 7.5
    assert "board" not in workflow.graph.nodes["save"].fields
    assert roles(workflow)["seed"] == ["noise.seed"]
    assert roles(workflow)["prompt"][0] == "positive_prompt.prompt"
    assert roles(workflow)["negative_prompt"][0] == "negative_prompt.prompt"


def test_an_image_loader_with_a_file_is_not_fed_by_an_edge() -> None:
    """It took the only image that nothing used yet, of the node that saves the result."""
    pipeline = document("text_to_image.json")
    control = {"control_model": "tiny-controlnet", "control_weight": 0.7}
    pipeline["nodes"] += [
        {"id": "load_control", "type": "load_image", "data": {"image": "edges.png"}},
        {"id": "control", "type": "controlnet", "data": control},
    ]
    for source, target, name in (("load_control", "control", "image"), ("control", "denoise", "control")):
        ends = {"source": {"node_id": source, "field": name}, "destination": {"node_id": target, "field": name}}
        pipeline["edges"].append(ends)
    workflow = workflow_from(pipeline).for_base("sd-1")
    assert workflow.files == {Address("load_control", "image"): "edges.png"}
    assert workflow.graph.list_edges_into(Address("load_control", "image")) == ()


@pytest.mark.parametrize("base", BASES)
def test_image_to_image_is_translated(base: str) -> None:
    workflow = load_workflow(HERE / "image_to_image.json").for_base(base)
    graph = workflow.graph
    assert workflow.files == {Address("input_image", "image"): "input.jpg"}
    assert [problem.message for problem in check_graph(graph, SCHEMAS)] == [
        "input_image (image) needs a value for image"
    ]
    sampler = graph.nodes["ksampler"]
    assert sampler.type == "denoise_latents"
    assert sampler.fields == {"steps": 20, "cfg_scale": 7.5, "denoising_start": 0.4, "scheduler": "dpmpp_2m_k"}
    assert graph.nodes["ksampler_noise"].fields == {"seed": 42, "use_cpu": True}
    assert {str(e) for e in graph.edges if e.destination.node == "ksampler_noise"} == {
        "vae_encode.width → ksampler_noise.width",
        "vae_encode.height → ksampler_noise.height",
    }
    assert graph.nodes["vae_loader"].fields["vae_model"] == ModelRef("sdxl_vae", "", "vae")
    assert graph.nodes["model_loader"].fields["model"] == ModelRef("sd_xl_base_1.0", "")
    assert graph.nodes["vae_decode"].fields == {"is_intermediate": True}  # the image is saved once
    assert output_nodes(graph, SCHEMAS) == ("save_image",)
    found = roles(workflow)
    assert found["denoise_strength"] == ["ksampler.denoising_start"]
    assert found["image"] == ["input_image.image"]
    assert found["seed"] == ["ksampler_noise.seed"]
    assert (graph.nodes["positive_prompt"].type == "sdxl_compel_prompt") == (base == "sdxl")
    assert ("positive_prompt.style" in found["prompt"]) == (base == "sdxl")


def test_a_base_can_be_chosen_again_and_others_have_no_nodes() -> None:
    workflow = load_workflow(HERE / "text_to_image.json")
    assert workflow.for_base("sdxl").for_base("sd-1").graph == workflow.graph
    assert workflow.for_base("") is workflow
    assert replace(workflow, name="mine").for_base("sdxl").name == "mine"
    with pytest.raises(WorkflowError, match="no nodes for flux models, only for sd-1, sd-2, sdxl"):
        workflow.for_base("flux")


def test_a_seed_on_the_denoising_node_goes_where_the_noise_is_drawn() -> None:
    changed = document("text_to_image.json")
    changed["nodes"][4]["data"]["seed"] = 123456
    workflow = workflow_from(changed)
    assert workflow.graph.nodes["noise"].fields["seed"] == 123456
    assert "seed" not in workflow.graph.nodes["denoise"].fields
    assert "denoise: seed is set on noise, which draws the noise" in workflow.notes


def node(name: str, kind: str, /, **data: Any) -> dict[str, Any]:
    return {"id": name, "type": kind, "data": data}


def link(text: str) -> dict[str, Any]:
    source, target = (end.strip().split(".") for end in text.split("→"))
    return {
        "source": {"node_id": source[0], "field": source[1]},
        "destination": {"node_id": target[0], "field": target[1]},
    }


def sampled(*more: dict[str, Any], edges: tuple[str, ...] = (), **settings: Any) -> dict[str, Any]:
    nodes = [
        node("loader", "checkpoint_loader", ckpt_name="folder\\model.v2.ckpt"),
        node("yes", "clip_text_encode", text="a"),
        node("no", "clip_text_encode", text="b"),
        node("sampler", "ksampler", seed=3, **settings),
        node("decode", "vae_decode"),
        *more,
    ]
    wired = (
        "yes.conditioning → sampler.positive",
        "no.conditioning → sampler.negative",
        "sampler.latent → decode.samples",
    )
    return {"nodes": nodes, "edges": [link(text) for text in (*wired, *edges)]}


def test_an_empty_latent_image_only_gives_its_size() -> None:
    empty = node("empty", "empty_latent_image", width=640, height=384, batch_size=1)
    graph = workflow_from(sampled(empty, edges=("empty.latent → sampler.latent_image",))).graph
    assert graph.nodes["sampler_noise"].fields == {"seed": 3, "use_cpu": True, "width": 640, "height": 384}
    assert "empty" not in graph.nodes
    assert check_graph(graph, SCHEMAS) == []
    assert graph.nodes["loader"].fields["model"] == ModelRef("model.v2", "")


def test_loras_are_completed_in_a_row() -> None:
    lora = node("style", "load_lora", lora_name="ink.safetensors", strength_model=0.5, strength_clip=1)
    edges = ("loader.model → style.model", "loader.clip → style.clip")
    workflow = workflow_from(sampled(lora, edges=edges))
    sources = {str(e.destination): str(e.source) for e in workflow.graph.edges}
    assert sources["sampler.unet"] == "style.unet"
    assert sources["yes.clip"] == sources["no.clip"] == "style.clip"
    assert workflow.graph.nodes["style"].fields == {"lora": ModelRef("ink", "", "lora"), "weight": 0.5}
    assert "style: strength_clip is left out, sweep decides it" in workflow.notes


def test_what_could_be_two_things_is_not_completed() -> None:
    graph = workflow_from(sampled(node("loader2", "load_checkpoint", model="other"))).graph
    told = [problem.message for problem in check_graph(graph, SCHEMAS)]
    assert "yes (compel) needs a value for clip" in told
    assert "decode (l2i) needs an edge into vae" in told


def test_real_node_types_pass_as_they_are() -> None:
    graph = workflow_from({"nodes": [node("b", "img_blur", radius=3), node("p", "blank_image")], "edges": []}).graph
    assert graph.nodes["b"].fields == {"radius": 3}
    assert [str(e) for e in graph.edges] == ["p.image → b.image"]


def test_real_node_types_may_name_files_and_models() -> None:
    nodes = [node("i", "image", image="in.png"), node("c", "controlnet", control_model="models/canny.safetensors")]
    workflow = workflow_from({"nodes": nodes, "edges": []})
    assert workflow.files == {Address("i", "image"): "in.png"}
    assert workflow.graph.nodes["c"].fields["control_model"] == ModelRef("canny", "", "controlnet")


@pytest.mark.parametrize(
    ("sampler", "schedule", "scheduler", "noted"),
    [
        ("dpmpp_2m", "karras", "dpmpp_2m_k", False),
        ("dpmpp_2m", "normal", "dpmpp_2m", False),
        ("euler_ancestral", "karras", "euler_a", True),
        ("dpm_2_ancestral", "karras", "kdpm_2_a_k", False),
        ("uni_pc", "simple", "unipc", True),
        (None, "karras", "euler_k", False),
        (None, "dpmpp_sde_k", "dpmpp_sde_k", False),
        ("lcm", None, "lcm", False),
    ],
)
def test_samplers_and_schedules_as_one_scheduler(
    sampler: str | None, schedule: str | None, scheduler: str, noted: bool
) -> None:
    found, note = find_scheduler(sampler, schedule)
    assert found == scheduler
    assert bool(note) == noted


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (sampled(sampler_name="eulr"), "Node sampler: there is no sampler eulr. Did you mean euler?"),
        (sampled(denoise=1.5), "Node sampler: a strength is a number from 0 to 1, not 1.5"),
        (
            sampled(node("x", "ksampeler")),
            "Node x is of type ksampeler, which has no translation. Did you mean ksampler?",
        ),
        (sampled({"id": "x"}), "A node has no id or no type"),
        (sampled(node("yes", "clip_text_encode", text="c")), "Two nodes have the id yes"),
        (sampled(edges=("gone.image → decode.samples",)), "there is no node 'gone'"),
        (sampled(edges=("loader.vae → decode.samples",)), "Two edges lead into decode.latents"),
        ({"nodes": [node("a", "img_blur")], "edges": [{}]}, "An edge has no source and destination"),
        (
            {
                "nodes": [node("a", "img_blur"), node("b", "img_blur")],
                "edges": [link("a.image → b.image"), link("b.image → a.image")],
            },
            "in a circle: a → b → a",
        ),
    ],
)
def test_wrong_documents(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(WorkflowError) as raised:
        workflow_from(wrong, "mine.json")
    assert sentence in str(raised.value)
