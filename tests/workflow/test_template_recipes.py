from __future__ import annotations

from itertools import product

import pytest

from sweep.errors import WorkflowError
from sweep.role_table import TEMPLATE_NAMES
from sweep.workflow.graph import Address, Graph, ImageRef, ModelRef
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI, load_builtin_schemas
from sweep.workflow.role_targets import find_roles
from sweep.workflow.validation import check_graph
from tests.support.graphs import output_nodes

template = INVOKEAI.template

SCHEMAS = load_builtin_schemas()
OFFERED = [
    (name, base)
    for name, base in product(TEMPLATE_NAMES, ["sd-1", "sd-2", "sdxl", "flux"])
    if (name, base) != ("controlnet", "flux")
]


def filled(graph: Graph) -> Graph:
    """The graph with every model and image it misses."""
    missing = {}
    for node in graph.nodes.values():
        for field in SCHEMAS[node.type].fields.values():
            address = Address(node.id, field.name)
            if (
                field.required
                and field.takes_value
                and field.name not in node.fields
                and not graph.list_edges_into(address)
            ):
                kinds = {
                    "ModelIdentifierField": ModelRef("m", "", field.model_types[0] if field.model_types else "main")
                }
                missing[address] = kinds.get(field.type, ImageRef("00"))
    return graph.set(missing)


def test_every_template_holds_together() -> None:
    for (name, base), loras, controls in product(OFFERED, (0, 1, 3), (0, 1, 2)):
        asked = (name, base, loras, controls)
        if base == "flux" and controls:
            with pytest.raises(WorkflowError, match="ControlNet for flux"):
                template(*asked)
            continue
        graph = template(*asked)
        assert check_graph(filled(graph), SCHEMAS) == [], asked
        assert output_nodes(graph, SCHEMAS) == ("decode",), asked
        assert graph.nodes["decode"].fields["use_cache"] is False, asked
        assert graph.nodes["decode"].fields["is_intermediate"] is False, asked
        found = {node for node in graph.nodes if node.startswith("lora")}
        assert len(found) == max(loras, name == "lora"), asked
        nets = [node for node in graph.nodes.values() if node.type == "controlnet"]
        assert len(nets) == max(controls, name == "controlnet"), asked


@pytest.mark.parametrize(("name", "base"), OFFERED)
def test_every_template_has_the_roles_people_ask_for(name: str, base: str) -> None:
    roles = find_roles(template(name, base), SCHEMAS)
    expected = {"prompt", "seed", "steps", "cfg_scale", "scheduler", "model", "width", "height"}
    expected |= {"negative_prompt"} if base != "flux" else set()
    expected |= {"image", "denoise_strength"} if name == "img2img" else set()
    expected |= {"lora", "lora_weight"} if name == "lora" else set()
    if name == "controlnet":
        expected |= {f"control_{part}" for part in ("image", "weight", "model", "begin", "end")}
    assert set(roles.targets) == expected
    assert not roles.ambiguous
    assert not any(target.cut for targets in roles.targets.values() for target in targets)


def test_the_addresses_are_words() -> None:
    roles = find_roles(template("img2img", "sd-1", loras=1), SCHEMAS)
    found = {role: [str(target.address) for target in targets] for role, targets in roles.targets.items()}
    assert found == {
        "prompt": ["prompt.prompt"],
        "negative_prompt": ["negative.prompt"],
        "denoise_strength": ["denoise.denoising_start"],
        "seed": ["noise.seed"],
        "steps": ["denoise.steps"],
        "cfg_scale": ["denoise.cfg_scale"],
        "scheduler": ["denoise.scheduler"],
        "model": ["model.model"],
        "image": ["source.image"],
        "width": ["noise.width", "resize.width"],
        "height": ["noise.height", "resize.height"],
        "lora": ["lora.lora"],
        "lora_weight": ["lora.weight"],
    }


def test_loras_come_one_after_the_other_between_the_model_and_all_that_uses_it() -> None:
    graph = template("lora", "sdxl", loras=2)
    for field in ("unet", "clip", "clip2"):
        assert [str(e.source) for e in graph.list_edges_into(Address("lora", field))] == [f"model.{field}"]
        assert [str(e.source) for e in graph.list_edges_into(Address("lora2", field))] == [f"lora.{field}"]
    assert [str(edge.source) for edge in graph.list_edges_into(Address("denoise", "unet"))] == ["lora2.unet"]
    assert [str(edge.source) for edge in graph.list_edges_into(Address("negative", "clip2"))] == ["lora2.clip2"]
    assert [str(edge.source) for edge in graph.list_edges_into(Address("decode", "vae"))] == ["model.vae"]


@pytest.mark.parametrize(
    ("name", "base", "sentence"),
    [
        ("img2imgg", "sd-1", "no built-in workflow 'img2imgg'. Did you mean img2img?"),
        ("img2img", "sdxll", "no built-in workflow for sdxll models. Did you mean sdxl?"),
        ("txt2img", "z-image", "Built-in workflows: txt2img, img2img, controlnet, lora for sd-1, sd-2, sdxl, flux"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(name: str, base: str, sentence: str) -> None:
    with pytest.raises(WorkflowError) as raised:
        template(name, base)
    assert sentence in str(raised.value)
