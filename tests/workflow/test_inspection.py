from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from ruamel.yaml import YAML

from sweep.experiment import Experiment
from sweep.workflow.graph import Address, Node, Workflow
from sweep.workflow.inspection import describe
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI, load_builtin_schemas
from sweep.workflow.node_schemas import Model
from sweep.workflow.role_targets import find_roles
from sweep.workflow.scaffold import ScaffoldContext, list_main_models, write_starter
from sweep.workflow.workflow_file import load_workflow, workflow_from
from tests.support.workflow_exports import edge, export, invocation, text_to_image

template = INVOKEAI.template

SCHEMAS = load_builtin_schemas()


def big(count: int) -> dict[str, Any]:
    """An export of so many nodes: an image filtered again and again, with a value node for every filter."""
    filters = count // 2
    nodes = [invocation("f0", "blank_image")]
    edges = []
    for number in range(1, filters):
        nodes += [
            invocation(f"f{number}", "img_blur", f"Blur {number}", radius=1),
            invocation(f"v{number}", "float", value=2),
        ]
        edges += [edge(f"f{number - 1}.image → f{number}.image"), edge(f"v{number}.value → f{number}.radius")]
    nodes.append(invocation("end", "save_image"))
    edges.append(edge(f"f{filters - 1}.image → end.image"))
    return export(nodes, edges)


def test_rows_say_what_stands_where() -> None:
    document = text_to_image()
    document["nodes"][5]["data"]["inputs"]["steps"]["label"] = "How long"
    document["exposedFields"] = [{"nodeId": "d", "fieldName": "steps"}]
    described = describe(workflow_from(document), SCHEMAS)
    rows = {str(row.address): row for row in described.rows}
    steps = rows["d.steps"]
    assert (steps.shown, steps.kind, steps.range, steps.field_label) == ("5", "integer", "more than 0", "How long")
    assert steps.exposed
    assert steps.is_set
    assert steps.roles == ("steps",)
    assert rows["z.seed"].shown == "← r.value"
    assert rows["m.model"].shown == "tiny-sd (sd-1)"
    assert rows["m.model"].kind == "main model"
    assert rows["d.scheduler"].range.endswith(", … (31)")
    assert not rows["d.cfg_rescale_multiplier"].is_set
    assert rows["d.cfg_rescale_multiplier"].shown == "0"
    assert "d.control" not in rows  # only an edge could feed it, and none does
    assert "o.use_cache" not in rows
    assert described.outputs == ("o",)
    assert described.problems == ()


def test_the_json_is_one_object_with_nodes_roles_and_outputs() -> None:
    found = json.loads(json.dumps(describe(workflow_from(text_to_image()), SCHEMAS).to_json()))
    assert found["roles"]["prompt"] == ["p.prompt"]
    assert found["roles"]["seed"] == ["z.seed"]
    assert found["cut"] == {"seed": ["r.value → z.seed"]}
    assert found["outputs"] == ["o"]
    assert [node["id"] for node in found["nodes"]] == list("mpnzrdo")
    model = found["nodes"][0]["fields"][0]
    assert model["value"] == {"$model": {"name": "tiny-sd", "base": "sd-1", "type": "main"}}


def test_what_is_wrong_is_described_and_not_raised() -> None:
    described = describe(workflow_from(export([invocation("a", "noize", "Grain", x=1)], [])), SCHEMAS)
    assert "Did you mean noise?" in described.problems[0]
    assert [(str(row.address), row.shown, row.kind) for row in described.rows] == [("a.x", "1", "")]


def test_what_must_be_chosen_is_marked() -> None:
    workflow = Workflow(graph=template("lora", "sd-1", loras=2), kind="api")
    described = describe(workflow, SCHEMAS)
    assert {row.roles for row in described.rows if row.address.field == "lora"} == {("lora_1",), ("lora_2",)}
    assert described.to_json()["ambiguous"]["lora"] == [["lora.lora"], ["lora2.lora"]]  # type: ignore[index,call-overload]


def test_sixty_nodes_are_described_in_full() -> None:
    described = describe(workflow_from(big(60)), SCHEMAS)
    nodes = described.to_json()["nodes"]
    assert isinstance(nodes, list)
    assert len(nodes) == 60
    assert described.outputs == ("end",)
    assert described.problems == ()


def test_batches_are_described() -> None:
    nodes = [invocation("b", "integer_batch", "Seeds", integers=[1, 2]), invocation("z", "noise")]
    described = describe(workflow_from(export(nodes, [edge("b.value → z.seed")])), SCHEMAS)
    assert described.to_json()["batches"] == {"Seeds": 2}


def started(workflow: Workflow, path: str, image: str = "", models: Sequence[Model] = ()) -> str:
    return write_starter(
        workflow, find_roles(workflow.graph, SCHEMAS), SCHEMAS, ScaffoldContext(path=path, image=image, models=models)
    )


def parsed(text: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(text)
    return found


def test_a_starter_is_an_experiment() -> None:
    workflow = workflow_from(text_to_image())
    text = started(workflow, "flows/my flow.json")
    assert parsed(text) == {
        "name": "my-workflow",
        "description": "How does the seed change My workflow?",
        "workflow": "flows/my flow.json",
        "axes": {"seed": {"start": 42, "count": 4}},
    }
    assert '#   prompt: "a tiger cub"' in text
    assert '#   model: "tiny-sd"  # a name the server knows; left out: the workflow\'s' in text
    assert "#   steps: [3, 5, 7]" in text


@pytest.mark.parametrize("steps", [1e308, 10**400], ids=["float", "integer"])
def test_a_starter_offers_nothing_around_a_number_too_large_to_compute_with(steps: float) -> None:
    graph = template("txt2img", "sd-1").set({Address("denoise", "steps"): steps})
    assert "steps: [" not in started(Workflow(graph=graph, kind="api"), "x.json")


def test_a_starter_asks_for_the_image_and_sweeps_the_strength() -> None:
    workflow = load_workflow(Path(__file__).parents[1] / "fixtures" / "portable" / "image_to_image.json")
    text = started(workflow, "i.json", "photo.jpg")
    found = parsed(text)
    assert found["inputs"] == {"image": "photo.jpg"}
    assert found["axes"]["denoise_strength"] == {"start": 0.2, "stop": 0.8, "step": 0.2}


def test_a_starter_lists_what_could_be_meant_and_works_without_any_role() -> None:
    workflow = Workflow(graph=template("lora", "sd-1", loras=2), kind="api", name="")
    text = started(workflow, "x.json")
    assert "#   lora_weight_1: [0, 0.5, 1]\n#   lora_weight_2: [0, 0.5, 1]" in text
    assert "roles:" not in text
    assert parsed(text)["name"] == "experiment"
    empty = parsed(started(workflow_from(big(10)), "x.json"))
    assert (empty["axes"], empty["description"]) == ({}, "How does each setting change My workflow?")


def test_a_starter_is_ready_to_run(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "photo.png")
    for name in ("text_to_image.json", "image_to_image.json"):
        workflow = load_workflow(Path(__file__).parents[1] / "fixtures" / "portable" / name)
        (tmp_path / name).write_text("{}")
        path = tmp_path / "experiment.yaml"
        path.write_text(started(workflow, name, "photo.png"), "utf-8")
        assert "seed" in {axis.name for axis in Experiment.load(path).axes}


@pytest.mark.parametrize("name", ["a: b # c", "../../etc", "日本", 'x"y', "CON", "a" * 200])
def test_any_name_of_a_workflow_makes_a_usable_experiment(name: str) -> None:
    workflow = Workflow(graph=template("txt2img", "sd-1"), kind="editor", name=name)
    found = parsed(started(workflow, "x.json"))
    assert found["name"]
    assert all(letter.isalnum() or letter == "-" for letter in found["name"])
    assert len(found["name"]) <= 60
    assert found["name"] != "con"


@pytest.mark.parametrize("name", ["123", "1e3", "null", "2024-11-28", "on"])
def test_a_name_that_looks_like_something_else_stays_text(name: str) -> None:
    workflow = Workflow(graph=template("txt2img", "sd-1"), kind="editor", name=name)
    assert parsed(started(workflow, "x.json"))["name"] == name


def test_a_starter_names_one_of_several_models_and_leaves_a_documents_image_alone() -> None:
    portable = load_workflow(Path(__file__).parents[1] / "fixtures" / "portable" / "image_to_image.json")
    installed = [
        Model(key=n, hash="", name=n, base=b, type="main") for n, b in (("b", "sdxl"), ("a", "sd-1"), ("f", "flux"))
    ]
    mains = list_main_models(portable, SCHEMAS, installed)
    assert mains == ("a", "b")
    assert parsed(started(portable, "x.json", models=installed))["inputs"] == {"model": "a"}
    assert parsed(started(portable, "x.json", "mine.png", installed[1:2]))["inputs"] == {"image": "mine.png"}


def test_what_has_to_be_filled_in_is_no_problem() -> None:
    described = describe(Workflow(graph=template("img2img", "sd-1"), kind="api"), SCHEMAS)
    assert [str(address) for address in described.needs] == ["model.model", "source.image"]
    assert described.problems == ()


def test_a_workflow_without_images_says_what_it_makes_instead() -> None:
    video = describe(workflow_from(export([invocation("v", "wan_l2v")], [])), SCHEMAS)
    assert "It makes a video, and sweep keeps images only" in video.problems
    number = describe(workflow_from(export([invocation("v", "integer", value=1)], [])), SCHEMAS)
    assert number.problems == ("It has no node that saves an image",)


def test_a_starter_offers_values_that_fit_around_the_workflows_own() -> None:
    graph = template("txt2img", "flux").set({Address("denoise", "guidance"): 4, Address("denoise", "num_steps"): 4})
    text = started(Workflow(graph=graph, kind="api"), "x.json")
    assert "#   cfg_scale: [2.7, 4, 5.3]" in text
    assert "#   steps: [3, 4, 5]" in text
    assert '#   scheduler: ["euler", "heun", "lcm"]' in text


def test_a_starter_calls_fields_as_their_author_does() -> None:
    made_up = [f"0000000{letter}-0000-4000-8000-000000000000" for letter in "ab"]
    nodes = [
        invocation(made_up[0], "canny_edge_detection", "Ränder", low_threshold=100),
        invocation(made_up[1], "img_blur", radius=8, blur_type="gaussian"),
    ]
    nodes[0]["data"]["inputs"]["low_threshold"]["label"] = "How\nfine"
    document = export(nodes, [edge(f"{made_up[0]}.image → {made_up[1]}.image")])
    fields = ((made_up[0], "low_threshold"), (made_up[1], "radius"), (made_up[1], "blur_type"))
    document["exposedFields"] = [{"nodeId": node, "fieldName": name} for node, name in fields]
    text = started(workflow_from(document), "x.json")
    assert '"Ränder.low_threshold": [67, 100, 133]  # How fine' in text
    assert '"img_blur.radius": [5.3, 8, 11.0]' in text
    assert '"img_blur.blur_type": ["gaussian", "box"]' in text
    assert not any(node in text for node in made_up)


def test_a_starter_asks_for_every_model_that_is_not_the_servers_only_one() -> None:
    graph = template("controlnet", "sd-1").adding([Node("face", "ip_adapter")])
    kinds = {"a": "main", "canny": "controlnet", "depth": "controlnet", "plus": "ip_adapter", "face": "ip_adapter"}
    installed = [Model(key=name, hash="", name=name, base="sd-1", type=kind) for name, kind in kinds.items()]
    several = started(Workflow(graph=graph, kind="api"), "x.json", "a.png", installed)
    assert parsed(several)["inputs"] == {
        "control_image": "a.png",
        "control_model": "canny",
        "face.image": {"image": "image.png"},
        "face.ip_adapter_model": "plus",
    }
    assert "# or depth" in several
    assert "#   model: name" in several
    none = started(Workflow(graph=graph, kind="api"), "x.json", "a.png", installed[:2])
    assert '#   "face.ip_adapter_model": name  # of type ip_adapter, of which the server has none' in none


def test_a_starter_takes_the_image_it_is_given_where_the_workflow_names_one() -> None:
    graph = template("img2img", "sd-1")
    (target,) = find_roles(graph, load_builtin_schemas()).targets["image"]
    own = Workflow(graph=graph.set({target.address: {"image_name": "own.png"}}), kind="api")

    beside = Workflow(graph=graph, kind="api", files={target.address: "own.png"})
    for workflow in (own, beside):
        assert parsed(started(workflow, "flow.json", image="photo.jpg"))["inputs"]["image"] == "photo.jpg"
        assert "image" not in (parsed(started(workflow, "flow.json")).get("inputs") or {})


def test_a_starter_names_models_that_go_with_the_main_model() -> None:
    nodes = [
        invocation("m", "sdxl_model_loader"),
        invocation("v", "vae_loader"),
        invocation("d", "l2i"),
    ]
    names = (("old", "sd-1", "vae"), ("new", "sdxl", "vae"), ("newer", "sdxl", "vae"), ("big", "sdxl", "main"))
    models = [Model(key=name, hash="", name=name, base=base, type=kind) for name, base, kind in names]
    text = started(workflow_from(export(nodes, [edge("v.vae → d.vae")])), "x.json", models=models)
    assert parsed(text)["inputs"] == {"v.vae_model": "new"}


def test_a_starter_names_the_only_model_of_a_type_where_the_field_takes_any_type() -> None:
    graph = template("controlnet", "sd-1").adding(
        [Node("chosen", "model_identifier")], ["chosen.model → control.control_model"]
    )
    kinds = {"a": "main", "canny": "controlnet", "plus": "ip_adapter"}
    installed = [Model(key=name, hash="", name=name, base="sd-1", type=kind) for name, kind in kinds.items()]
    text = started(Workflow(graph=graph, kind="api"), "x.json", "a.png", installed)
    assert parsed(text)["inputs"] == {"control_image": "a.png", "control_model": "canny"}
