from __future__ import annotations

import pytest

from sweep.errors import WorkflowError
from sweep.role_table import FOUND_ROLES
from sweep.workflow.graph import Address, Graph, Node
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI, load_builtin_schemas
from sweep.workflow.invokeai.invokeai_roles import FINDERS, ONE_MINUS, ONE_MINUS_FIFTH_ROOT, StartEncoding
from sweep.workflow.role_targets import Roles, Target, find_field_target, find_roles

template = INVOKEAI.template

SCHEMAS = load_builtin_schemas()
FAMILIES = {  # base → loader, encoder, what goes from the one to the other, denoising, encoding, decoding
    "sd3": ("sd3_model_loader", "sd3_text_encoder", "clip_l", "sd3_denoise", "sd3_i2l", "sd3_l2i"),
    "flux": ("flux_model_loader", "flux_text_encoder", "clip", "flux_denoise", "flux_vae_encode", "flux_vae_decode"),
    "flux2-dev": (
        "flux2_dev_model_loader",
        "flux2_dev_text_encoder",
        "mistral_encoder",
        "flux2_denoise",
        "flux2_vae_encode",
        "flux2_vae_decode",
    ),
    "flux2-klein": (
        "flux2_klein_model_loader",
        "flux2_klein_text_encoder",
        "qwen3_encoder",
        "flux2_denoise",
        "flux2_vae_encode",
        "flux2_vae_decode",
    ),
    "z-image": (
        "z_image_model_loader",
        "z_image_text_encoder",
        "qwen3_encoder",
        "z_image_denoise",
        "z_image_i2l",
        "z_image_l2i",
    ),
    "qwen-image": (
        "qwen_image_model_loader",
        "qwen_image_text_encoder",
        "qwen_vl_encoder",
        "qwen_image_denoise",
        "qwen_image_i2l",
        "qwen_image_l2i",
    ),
    "cogview4": (
        "cogview4_model_loader",
        "cogview4_text_encoder",
        "glm_encoder",
        "cogview4_denoise",
        "cogview4_i2l",
        "cogview4_l2i",
    ),
}


def shown(graph: Graph) -> dict[str, list[str]]:
    found = find_roles(graph, SCHEMAS)
    assert not found.ambiguous
    return {role: [str(target.address) for target in targets] for role, targets in found.targets.items()}


def family(base: str) -> Graph:
    """An img2img graph of a family that denoises with one node for everything."""
    loader, encoder, clip, denoise, encode, decode = FAMILIES[base]
    conditioning = "text_conditioning" if "flux" in base else "conditioning"
    return Graph.of(
        [
            Node("m", loader),
            Node("p", encoder, {"prompt": "yes"}),
            Node("n", encoder, {"prompt": "no"}),
            Node("e", encode),
            Node("d", denoise, {"denoising_start": 0.4}),
            Node("o", decode),
        ],
        [
            f"m.{clip} → p.{clip}",
            f"m.{clip} → n.{clip}",
            "m.transformer → d.transformer",
            f"p.conditioning → d.positive_{conditioning}",
            f"n.conditioning → d.negative_{conditioning}",
            "m.vae → e.vae",
            "e.latents → d.latents",
            "d.latents → o.latents",
            "m.vae → o.vae",
        ],
    )


@pytest.mark.parametrize("base", FAMILIES)
def test_every_family_of_nodes(base: str) -> None:
    roles = shown(family(base))
    guidance = {"flux": "guidance", "flux2-dev": "guidance", "z-image": "guidance_scale"}.get(base, "cfg_scale")
    expected = {
        "prompt": ["p.prompt"],
        "negative_prompt": ["n.prompt"],
        "denoise_strength": ["d.denoising_start"],
        "seed": ["d.seed"],
        "steps": ["d.num_steps" if "flux" in base else "d.steps"],
        "cfg_scale": [f"d.{guidance}"],
        "model": ["m.model"],
        "image": ["e.image"],
        "width": ["d.width"],
        "height": ["d.height"],
    }
    if "scheduler" in SCHEMAS[FAMILIES[base][3]].fields:
        expected["scheduler"] = ["d.scheduler"]
    assert roles == expected


@pytest.mark.parametrize("base", FAMILIES)
def test_strength_is_encoded_by_family(base: str) -> None:
    (target,) = find_roles(family(base), SCHEMAS)["denoise_strength"]
    assert target.encode == (ONE_MINUS_FIFTH_ROOT if base in {"sd3", "flux", "flux2-dev", "flux2-klein"} else ONE_MINUS)


def test_filling_a_hole_has_no_strength() -> None:
    graph = family("flux").adding([Node("f", "flux_fill")], ["f.fill_cond → d.fill_conditioning"])
    assert "denoise_strength" not in find_roles(graph, SCHEMAS)


def text(**changes: object) -> Graph:
    return template("txt2img", "sd-1").set({Address.parse(k.replace("__", ".")): v for k, v in changes.items()})  # type: ignore[misc]


def test_a_value_is_set_where_it_is_held() -> None:
    graph = text().adding(
        [Node("words", "string", {"value": "a cat"}), Node("chance", "integer"), Node("what", "model_identifier")],
        ["words.value → prompt.prompt", "chance.value → noise.seed", "what.model → model.model"],
    )
    roles = shown(graph)
    assert roles["prompt"] == ["words.value"]
    assert roles["seed"] == ["chance.value"]
    assert roles["model"] == ["what.model"]


def test_a_holder_behind_a_holder() -> None:
    graph = text().adding([Node("a", "string"), Node("b", "string")], ["a.value → b.value", "b.value → prompt.prompt"])
    assert shown(graph)["prompt"] == ["a.value"]


@pytest.mark.parametrize(
    ("nodes", "edge"),
    [
        ([Node("r", "rand_int")], "r.value → noise.seed"),
        ([Node("r", "integer_math")], "r.value → noise.seed"),
        ([Node("r", "of_a_custom_pack")], "r.out → noise.seed"),
    ],
)
def test_what_is_computed_is_cut_off(nodes: list[Node], edge: str) -> None:
    graph = text().adding(nodes, [edge])
    (target,) = find_roles(graph, SCHEMAS)["seed"]
    assert str(target.address) == "noise.seed"
    assert target.cut == graph.list_edges_into(Address("noise", "seed"))
    assert target.sets("seed") == f"noise.seed (instead of what {edge.split(' ')[0]} gives)"


def test_one_holder_for_two_roles_is_not_shared() -> None:
    graph = text().adding([Node("side", "integer")], ["side.value → noise.width", "side.value → noise.height"])
    roles = find_roles(graph, SCHEMAS)
    assert [(str(t.address), [str(e) for e in t.cut]) for t in roles["width"]] == [
        ("noise.width", ["side.value → noise.width"])
    ]
    assert str(roles["height"][0].address) == "noise.height"


def test_prompts_are_found_through_whatever_passes_conditioning_on() -> None:
    graph = text()
    graph = graph.without_edges(graph.list_edges_into(Address("denoise", "positive_conditioning"))).adding(
        [Node("c", "collect"), Node("k", "clip_skip")],
        ["prompt.conditioning → c.item", "c.collection → denoise.positive_conditioning", "k.clip → negative.mask"],
    )
    assert shown(graph)["prompt"] == ["prompt.prompt"]


def test_several_prompts_are_ambiguous_and_the_same_words_twice_are_not() -> None:
    graph = text(prompt__prompt="left").adding(
        [Node("c", "collect"), Node("other", "compel", {"prompt": "right"})],
        ["prompt.conditioning → c.item", "other.conditioning → c.item", "c.collection → denoise.positive_conditioning"],
    )
    graph = graph.without_edges(
        e for e in graph.edges if str(e) == "prompt.conditioning → denoise.positive_conditioning"
    )
    roles = find_roles(graph, SCHEMAS)
    assert [[str(t.address) for t in group] for group in roles.ambiguous["prompt"]] == [
        ["prompt.prompt"],
        ["other.prompt"],
    ]
    with pytest.raises(WorkflowError) as raised:
        roles["prompt"]
    assert "prompt could be any of prompt_1 (prompt.prompt), prompt_2 (other.prompt). Set prompt_1, prompt_2, …" in str(
        raised.value
    )
    same = graph.set({Address("other", "prompt"): "left"})
    assert shown(same)["prompt"] == ["prompt.prompt", "other.prompt"]


def test_one_encoder_for_both_sides_is_the_prompt() -> None:
    graph = text()
    graph = graph.without_edges(graph.list_edges_into(Address("denoise", "negative_conditioning")))
    graph = graph.adding(edges=["prompt.conditioning → denoise.negative_conditioning"])
    roles = shown(graph)
    assert roles["prompt"] == ["prompt.prompt"]
    assert "negative_prompt" not in roles


def test_a_style_of_its_own_is_left_alone() -> None:
    graph = template("txt2img", "sdxl")
    assert shown(graph)["prompt"] == ["prompt.prompt", "prompt.style"]
    own = graph.set({Address("prompt", "prompt"): "a cat", Address("prompt", "style"): "watercolour"})
    assert shown(own)["prompt"] == ["prompt.prompt"]
    joined = graph.adding(
        [Node("words", "string"), Node("join", "string_join")],
        ["words.value → prompt.prompt", "words.value → join.string_left", "join.value → prompt.style"],
    )
    assert shown(joined)["prompt"] == ["words.value"]


def test_what_sdxl_is_told_of_the_size_follows_only_where_it_is_the_size() -> None:
    graph = template("txt2img", "sdxl").set({Address("prompt", "original_width"): 4096})
    assert shown(graph)["width"] == [
        "noise.width",
        "prompt.target_width",
        "negative.original_width",
        "negative.target_width",
    ]


def refined() -> Graph:
    graph = template("img2img", "sdxl").set({Address("denoise", "denoising_end"): 0.8})
    graph = graph.without_edges(graph.list_edges_into(Address("decode", "latents")))
    return graph.adding(
        [
            Node("rm", "sdxl_refiner_model_loader"),
            Node("rp", "sdxl_refiner_compel_prompt", {"style": ""}),
            Node("rn", "sdxl_refiner_compel_prompt", {"style": ""}),
            Node("rd", "denoise_latents", {"denoising_start": 0.8}),
        ],
        [
            "rm.unet → rd.unet",
            "rm.clip2 → rp.clip2",
            "rm.clip2 → rn.clip2",
            "rp.conditioning → rd.positive_conditioning",
            "rn.conditioning → rd.negative_conditioning",
            "denoise.latents → rd.latents",
            "rd.latents → decode.latents",
        ],
    )


def test_the_refiner_follows_the_base() -> None:
    roles = shown(refined())
    assert roles["prompt"] == ["prompt.prompt", "prompt.style", "rp.style"]
    assert roles["negative_prompt"] == ["negative.prompt", "negative.style", "rn.style"]
    assert roles["steps"] == ["denoise.steps"]
    assert roles["model"] == ["model.model"]
    (strength,) = find_roles(refined(), SCHEMAS)["denoise_strength"]
    assert strength.encode == StartEncoding("one_minus", 0.8)
    assert strength.encode(0.1) == 0.8
    assert strength.encode(0.5) == 0.5


def test_two_passes_are_ambiguous_where_they_differ() -> None:
    graph = text()
    graph = graph.without_edges(graph.list_edges_into(Address("decode", "latents"))).adding(
        [Node("big", "lscale"), Node("fog", "noise"), Node("again", "denoise_latents", {"denoising_start": 0.5})],
        [
            "denoise.latents → big.latents",
            "big.latents → again.latents",
            "big.width → fog.width",
            "big.height → fog.height",
            "fog.noise → again.noise",
            "model.unet → again.unet",
            "prompt.conditioning → again.positive_conditioning",
            "negative.conditioning → again.negative_conditioning",
            "again.latents → decode.latents",
        ],
    )
    roles = find_roles(graph, SCHEMAS)
    assert set(roles.ambiguous) == {"seed", "steps", "cfg_scale", "scheduler"}
    assert [str(t.address) for t in roles["width"]] == ["noise.width"]  # the second pass has its size from the first
    assert [str(t.address) for t in roles["denoise_strength"]] == ["again.denoising_start"]
    assert [str(t.address) for t in roles["prompt"]] == ["prompt.prompt"]
    assert "image" not in roles


def test_the_source_is_found_through_filters() -> None:
    graph = template("img2img", "sd-1")
    graph = graph.without_edges(graph.list_edges_into(Address("resize", "image"))).adding(
        [Node("up", "esrgan"), Node("sharp", "unsharp_mask")],
        ["source.image → up.image", "up.image → sharp.image", "sharp.image → resize.image"],
    )
    assert shown(graph)["image"] == ["source.image"]


def test_the_size_of_an_image_is_no_role() -> None:
    graph = template("img2img", "sd-1").adding(edges=["encode.width → noise.width", "encode.height → noise.height"])
    assert shown(graph)["width"] == ["resize.width"]
    bare = graph.without_edges(graph.list_edges_into(Address("encode", "image"))).adding(
        edges=["source.image → encode.image"]
    )
    assert "width" not in find_roles(bare, SCHEMAS)
    computed = bare.without_edges(bare.list_edges_into(Address("noise", "width"))).adding(
        [Node("half", "integer_math")], ["source.width → half.a", "half.value → noise.width"]
    )
    assert "width" not in find_roles(computed, SCHEMAS)


def test_loras_of_every_kind() -> None:
    graph = (
        text()
        .without_edges(text().list_edges_into(Address("denoise", "unet")))
        .adding(
            [
                Node("one", "lora_loader"),
                Node("a", "lora_selector"),
                Node("b", "lora_selector"),
                Node("c", "collect"),
                Node("many", "lora_collection_loader"),
            ],
            [
                "model.unet → one.unet",
                "one.unet → many.unet",
                "a.lora → c.item",
                "b.lora → c.item",
                "c.collection → many.loras",
                "many.unet → denoise.unet",
            ],
        )
    )
    roles = find_roles(graph, SCHEMAS)
    assert [str(group[0].address) for group in roles.ambiguous["lora"]] == ["one.lora", "a.lora", "b.lora"]
    assert [str(group[0].address) for group in roles.ambiguous["lora_weight"]] == ["one.weight", "a.weight", "b.weight"]
    assert str(roles["model"][0].address) == "model.model"


def test_the_image_a_controlnet_follows_is_found_behind_its_processor() -> None:
    graph = template("controlnet", "sd-1").adding(
        [Node("photo", "image"), Node("edges", "canny_edge_detection")],
        ["photo.image → edges.image", "edges.image → control.image"],
    )
    assert shown(graph)["control_image"] == ["photo.image"]


def test_a_control_image_that_is_the_source_is_only_the_source() -> None:
    graph = template("img2img", "sd-1", controls=1).adding(edges=["source.image → control.image"])
    roles = shown(graph)
    assert roles["image"] == ["source.image"]
    assert "control_image" not in roles


def test_graphs_without_denoising() -> None:
    work = Graph.of(
        [Node("i", "image"), Node("e", "esrgan"), Node("s", "save_image")], ["i.image → e.image", "e.image → s.image"]
    )
    assert shown(work) == {"image": ["i.image"]}
    drawing = Graph.of([Node("g", "openai_image_generation")])
    roles = shown(drawing)
    assert {"prompt": ["g.prompt"], "model": ["g.model"], "seed": ["g.seed"]}.items() <= roles.items()
    assert shown(Graph.of([Node("x", "of_a_custom_pack")])) == {}


def test_only_what_leads_to_the_image_counts() -> None:
    graph = text().adding(
        [Node("idle", "denoise_latents"), Node("p2", "compel")], ["p2.conditioning → idle.positive_conditioning"]
    )
    assert shown(graph)["steps"] == ["denoise.steps"]


def test_a_person_settles_what_is_ambiguous() -> None:
    graph = template("lora", "sd-1", loras=2)
    roles = find_roles(graph, SCHEMAS)
    chosen = roles.set_chosen(graph, SCHEMAS, {"lora": [Address("lora2", "lora")], "seed": [Address("noise", "seed")]})
    assert [str(target.address) for target in chosen["lora"]] == ["lora2.lora"]
    assert set(chosen.ambiguous) == {"lora_weight"}
    strength = {"denoise_strength": [Address("denoise", "denoising_start")]}
    assert roles.set_chosen(graph, SCHEMAS, strength)["denoise_strength"][0].encode == ONE_MINUS
    with pytest.raises(WorkflowError, match=r"no role 'loras'\. Did you mean lora\?"):
        roles.set_chosen(graph, SCHEMAS, {"loras": []})
    with pytest.raises(WorkflowError, match=r"no node 'nose'\. Did you mean noise\?"):
        roles.set_chosen(graph, SCHEMAS, {"seed": [Address("nose", "seed")]})


def test_single_fields_are_set_like_roles() -> None:
    graph = text().adding([Node("r", "rand_int")], ["r.value → noise.seed"])
    assert find_field_target(graph, SCHEMAS, Address("denoise", "steps")) == Target(Address("denoise", "steps"))
    assert find_field_target(graph, SCHEMAS, Address("noise", "seed")).cut == graph.list_edges_into(
        Address("noise", "seed")
    )
    with pytest.raises(WorkflowError, match=r"denoise_latents has no field 'step'\. Did you mean steps\?"):
        find_field_target(graph, SCHEMAS, Address("denoise", "step"))


def test_roles_can_be_read() -> None:
    roles = find_roles(template("img2img", "sd-1", loras=2), SCHEMAS)
    said = [target.sets("denoise_strength") for target in roles["denoise_strength"]]
    assert said == ["denoise.denoising_start = 1 − denoise_strength"]
    assert roles.numbers("lora") == "lora_1 (lora.lora), lora_2 (lora2.lora)"
    with pytest.raises(WorkflowError, match="no lora_3; it has lora_1"):
        roles.one("lora", 3)
    with pytest.raises(WorkflowError, match="no seed_2; it has one seed"):
        roles.one("seed", 2)
    with pytest.raises(WorkflowError, match="no control_image_1; it has no control_image"):
        roles.one("control_image", 1)
    assert "seed" in roles
    assert "control_image" not in roles
    with pytest.raises(WorkflowError, match=r"has no sed\. Did you mean seed\?"):
        roles["sed"]
    with pytest.raises(WorkflowError, match="It has no roles"):
        Roles({}, {})["seed"]
    assert set(roles.targets) | set(roles.ambiguous) <= set(FOUND_ROLES)


def test_finders_know_every_role_that_a_workflow_has() -> None:
    assert tuple(FINDERS) == tuple(role for role in FOUND_ROLES if role != "sampler")  # the scheduler names it, too
