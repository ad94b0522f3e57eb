"""Roles, outputs, formats and templates of ComfyUI's graphs, with the packaged core nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from sweep.errors import WorkflowError
from sweep.role_table import TEMPLATE_NAMES
from sweep.workflow import (
    Address,
    Graph,
    ModelRef,
    Node,
    ScaffoldContext,
    Workflow,
    check_graph,
    find_roles,
    load_core_schemas,
    load_workflow,
    read_object_info,
    workflow_from,
    write_prompt,
    write_starter,
)
from sweep.workflow.comfyui.comfyui_dialect import COMFYUI
from sweep.workflow.comfyui.comfyui_roles import SamplerEncoding, ScheduleEncoding
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI, load_builtin_schemas
from tests.support.graphs import node_digests, output_nodes

SCHEMAS = load_core_schemas()
FIXTURES = Path(__file__).parents[2] / "fixtures" / "portable"
PROMPT: dict[str, Any] = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 32, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}, "_meta": {"title": "Mine"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "bad", "clip": ["4", 1]}},
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 5,
            "steps": 20,
            "cfg": 8,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "mine"}},
}


def fields_of(role: str, graph: Graph) -> list[str]:
    return [str(target.address) for target in find_roles(graph, SCHEMAS).targets.get(role, ())]


def test_the_api_form_is_read_and_written_without_loss() -> None:
    workflow = workflow_from(PROMPT)
    assert (workflow.family, workflow.kind) == ("ComfyUI", "api")
    assert workflow.graph.nodes["4"].fields == {"ckpt_name": ModelRef("a.ckpt", "", "main")}
    assert workflow.graph.nodes["6"].label == "Mine"
    saved = {**PROMPT["9"], "inputs": {"images": ["8", 0]}}  # where it is saved the client decides
    assert write_prompt(workflow.graph, lambda _: "a.ckpt") == {**PROMPT, "9": saved}


def test_roles_are_found_by_the_types_of_what_is_wired() -> None:
    graph = workflow_from(PROMPT).graph
    found = {
        role: fields_of(role, graph) for role in ("prompt", "negative_prompt", "seed", "steps", "cfg_scale", "model")
    }
    assert found == {
        "prompt": ["6.text"],
        "negative_prompt": ["7.text"],
        "seed": ["3.seed"],
        "steps": ["3.steps"],
        "cfg_scale": ["3.cfg"],
        "model": ["4.ckpt_name"],
    }
    assert fields_of("scheduler", graph) == ["3.sampler_name", "3.scheduler"]
    assert fields_of("sampler", graph) == ["3.sampler_name"]
    assert (fields_of("width", graph), fields_of("denoise_strength", graph)) == (["5.width"], [])


@pytest.mark.parametrize(("mine", "other"), [("positive", "negative"), ("prompt", "negative_prompt")])
def test_a_loader_with_both_texts_has_one_for_each_side(mine: str, other: str) -> None:
    """As the loaders of popular extensions: encoders of both sides in one node."""
    multiline = ["STRING", {"default": "", "multiline": True}]
    loader = {
        "input": {"required": {"ckpt_name": [["a.ckpt"]], mine: multiline, other: multiline}},
        "output": ["MODEL", "CONDITIONING", "CONDITIONING", "LATENT"],
    }
    sampler = {"input": {"required": {"model": ["MODEL"], "positive": ["CONDITIONING"], "negative": ["CONDITIONING"]}}}
    schemas = read_object_info({"Loader": loader, "Sampler": {**sampler, "output": ["LATENT"]}})
    edges = ["l.0 → s.model", "l.1 → s.positive", "l.2 → s.negative"]
    roles = find_roles(Graph.of([Node("l", "Loader"), Node("s", "Sampler")], edges), schemas)
    texts = {role: [str(target.address) for target in roles[role]] for role in ("prompt", "negative_prompt")}
    assert texts == {"prompt": [f"l.{mine}"], "negative_prompt": [f"l.{other}"]}


@pytest.mark.parametrize("name", TEMPLATE_NAMES)
@pytest.mark.parametrize("base", ["any", "sd-1", "sdxl", "sd-3", "flux"])
def test_templates_are_sound_and_have_their_roles(name: str, base: str) -> None:
    graph = COMFYUI.template(name, base)
    problems = [problem.message for problem in check_graph(graph, SCHEMAS)]
    assert all("needs a value for" in problem for problem in problems)
    roles = find_roles(graph, SCHEMAS)
    wanted = {"prompt", "negative_prompt", "seed", "steps", "cfg_scale", "scheduler", "model", "width", "height"}
    more = {
        "img2img": {"image", "denoise_strength"},
        "lora": {"lora", "lora_weight"},
        "controlnet": {"control_image", "control_weight", "control_model", "control_begin", "control_end"},
    }
    assert set(roles.targets) - {"sampler"} == wanted | more.get(name, set())
    assert output_nodes(graph, SCHEMAS) == ("out",)


def test_several_loras_and_controlnets_stand_in_a_row() -> None:
    graph = COMFYUI.template("txt2img", "any", loras=2, controls=2)
    roles = find_roles(graph, SCHEMAS)
    assert [str(group[0].address) for group in roles.groups("lora")] == ["lora.lora_name", "lora2.lora_name"]
    assert len(roles.groups("control_image")) == 2
    assert {part for each in COMFYUI.find_controls(graph, SCHEMAS) for part in each} >= {"model", "source", "weight"}


@pytest.mark.parametrize(
    ("word", "sampler", "schedule"),
    [
        ("euler_a", "euler_ancestral", "normal"),
        ("dpmpp_2m_k", "dpmpp_2m", "karras"),
        ("karras", "heun", "karras"),
        ("uni_pc", "uni_pc", "normal"),
    ],
)
def test_a_scheduler_in_one_word_sets_sampler_and_schedule(word: str, sampler: str, schedule: str) -> None:
    schedules = ("normal", "karras")
    assert SamplerEncoding("heun", schedules)(word) == sampler
    assert ScheduleEncoding(schedules)(word) == schedule


def test_a_starter_names_sampler_and_noise_schedule_apart() -> None:
    """The sampler's name alone as `scheduler` would set the schedule normal: another image than the workflow's."""
    at = {Address("3", "sampler_name"): "dpmpp_2m", Address("3", "scheduler"): "karras"}
    workflow = Workflow(graph=workflow_from(PROMPT).graph.set(at), kind="api")
    text = write_starter(workflow, find_roles(workflow.graph, SCHEMAS), SCHEMAS, ScaffoldContext(path="x.json"))
    assert '#   sampler: "dpmpp_2m"\n#   scheduler: "karras"\n' in text
    assert '#   sampler: ["dpmpp_2m", "euler", "euler_ancestral"]\n#   scheduler: ["karras", ' in text


def test_a_starter_names_a_sampler_without_a_noise_schedule_once() -> None:
    """Two lines for one field would be refused as soon as both are in use."""
    parts = [Node("s", "SamplerCustom"), Node("k", "KSamplerSelect", {"sampler_name": "euler"})]
    graph = workflow_from(PROMPT).graph.adding([*parts, Node("t", "SDTurboScheduler"), Node("d", "VAEDecode")])
    edges = ["4.0 → s.model", "6.0 → s.positive", "7.0 → s.negative", "5.0 → s.latent_image", "k.0 → s.sampler"]
    graph = graph.without_edges(edge for edge in graph.edges if edge.destination.node == "9")
    graph = graph.adding(edges=[*edges, "4.0 → t.model", "t.0 → s.sigmas", "s.0 → d.samples", "d.0 → 9.images"])
    workflow = Workflow(graph=graph, kind="api")
    text = write_starter(workflow, find_roles(graph, SCHEMAS), SCHEMAS, ScaffoldContext(path="x.json"))
    assert '#   sampler: "euler"\n' in text
    assert "scheduler:" not in text


def test_clip_skip_counts_from_the_last_layer() -> None:
    graph = COMFYUI.add_clip_skip(workflow_from(PROMPT, "p").graph)
    assert {str(edge.destination) for edge in graph.edges if edge.source.node == "clip_skip"} == {"6.clip", "7.clip"}
    assert check_graph(graph, SCHEMAS) == []
    (target,) = find_roles(graph, SCHEMAS)["clip_skip"]
    assert str(target.address) == "clip_skip.stop_at_clip_layer"
    assert [target.encode(skip) for skip in (0, 1, 2)] == [-1, -2, -3]


def test_strengths_of_equal_schedules_are_one_image() -> None:
    at = [Address("denoise", "denoise")]
    graph = COMFYUI.template("img2img", "any")

    def steps(strength: float, count: int) -> int | None:
        return COMFYUI.count_steps(graph, at, strength, count)

    assert steps(0.81, 4) == steps(0.9, 4) == steps(1.0, 4) == 4
    assert steps(0.5, 4) != steps(0.51, 4)
    assert steps(0.55, 20) == steps(0.555, 20)
    assert steps(0, 4) == 0
    assert COMFYUI.count_steps(graph, [], 0.5, 4) is None


def test_a_primitive_and_a_loaded_image_hold_their_value() -> None:
    graph = workflow_from(PROMPT).graph.adding([Node("n", "PrimitiveInt", {"value": 3})], ["n.0 → 3.seed"])
    assert fields_of("seed", graph) == ["n.value"]
    image = COMFYUI.template("img2img", "any")
    assert fields_of("image", image) == ["source.image"]


def test_previews_count_where_nothing_is_saved() -> None:
    graph = workflow_from(PROMPT).graph
    with_preview = graph.adding([Node("p", "PreviewImage")], ["8.0 → p.images"])
    assert output_nodes(with_preview, SCHEMAS) == ("9",)
    alone = Graph({name: node for name, node in with_preview.nodes.items() if name != "9"}, with_preview.edges)
    assert output_nodes(Graph(alone.nodes, tuple(e for e in alone.edges if e.destination.node != "9")), SCHEMAS) == (
        "p",
    )


def test_no_field_is_left_out_of_a_key() -> None:
    """A custom node may have an input of any name, also of one that decides nothing in another family."""
    one = Graph.of([Node("a", "Custom", {"metadata": "x", "board": "y"})])
    assert node_digests(one, COMFYUI) != node_digests(one.set({Address("a", "metadata"): "z"}), COMFYUI)
    assert node_digests(one, INVOKEAI) == node_digests(one.set({Address("a", "metadata"): "z"}), INVOKEAI)


def test_an_image_holds_its_graph(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", json.dumps(PROMPT))
    Image.new("RGB", (8, 8)).save(tmp_path / "made.png", pnginfo=texts)
    assert set(load_workflow(tmp_path / "made.png").graph.nodes) == set(PROMPT)


@pytest.mark.parametrize("name", ["text_to_image.json", "image_to_image.json"])
def test_portable_documents_become_whole_graphs(name: str) -> None:
    workflow = COMFYUI.translate(load_workflow(FIXTURES / name), SCHEMAS)
    problems = [problem.message for problem in check_graph(workflow.graph, SCHEMAS)]
    assert [problem for problem in problems if "needs a value for image" not in problem] == []
    roles = find_roles(workflow.graph, SCHEMAS)
    assert {"prompt", "negative_prompt", "seed", "steps", "model"} <= set(roles.targets)
    assert len(output_nodes(workflow.graph, SCHEMAS)) == 1


def test_a_workflow_of_one_family_is_refused_by_the_other() -> None:
    with pytest.raises(WorkflowError, match="a graph of ComfyUI, and the server is an InvokeAI"):
        INVOKEAI.translate(workflow_from(PROMPT), load_builtin_schemas())
    other = workflow_from({"nodes": {"a": {"id": "a", "type": "integer"}}, "edges": []})
    with pytest.raises(WorkflowError, match="a graph of InvokeAI, and the server is a ComfyUI"):
        COMFYUI.translate(other, SCHEMAS)


def test_an_image_that_prompts_refer_to_is_the_image_where_none_is_begun_with() -> None:
    graph = COMFYUI.template("txt2img", "any", controls=1)
    sampler = next(node.id for node in graph.nodes.values() if node.type == "KSampler")
    (positive,) = graph.list_edges_into(Address(sampler, "positive"))
    refers = Node("refers", "ReferenceLatent")
    nodes = [Node("photo", "LoadImage"), Node("pixels", "VAEEncode"), refers]
    edges = ["photo.0 → pixels.pixels", "pixels.0 → refers.latent", f"{positive.source} → refers.conditioning"]
    graph = graph.without_edges([positive]).adding(nodes, [*edges, f"refers.0 → {sampler}.positive"])
    assert fields_of("image", graph) == ["photo.image"]
    assert fields_of("image", COMFYUI.template("img2img", "any")) == ["source.image"]
    assert len(fields_of("control_image", graph)) == 1
