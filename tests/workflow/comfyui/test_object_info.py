from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import WorkflowError
from sweep.workflow import (
    FieldSchema,
    Graph,
    Node,
    check_graph,
    describe_range,
    fill_defaults,
    list_model_files,
    load_core_schemas,
    read_object_info,
)
from sweep.workflow.comfyui.comfyui_formats import read_drawing, read_prompt
from sweep.workflow.node_schemas import read_packaged
from tools.package_nodes import package


def describe_node(**inputs: Any) -> dict[str, Any]:
    return {"Thing": {"input": {"required": inputs}, "output": ["MODEL", "INT"], "output_node": True}}


def read_field(facts: list[Any], name: str = "x") -> FieldSchema:
    return read_object_info(describe_node(**{name: facts}))["Thing"].fields[name]


def test_both_spellings_of_a_choice_are_read_alike() -> None:
    facts: list[list[Any]] = [[["a", "b"], {"default": "b"}], ["COMBO", {"options": ["a", "b"], "default": "b"}]]
    for each in facts:
        field = read_field(each)
        assert (field.type, field.choices, field.default, field.required) == ("string", ("a", "b"), "b", False)


def test_numbers_have_ranges_and_only_coarse_sizes_have_steps() -> None:
    strength = read_field(["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}])
    assert (strength.type, strength.minimum, strength.maximum, strength.multiple_of) == ("number", 0.0, 1.0, None)
    assert read_field(["INT", {"default": 512, "min": 16, "step": 8}], "width").multiple_of == 8
    assert read_field(["INT", {"default": 20, "min": 1}], "steps").multiple_of is None


def test_links_models_and_images_are_told_apart() -> None:
    assert read_field(["MODEL"]).input == "connection"
    assert read_field(["STRING", {"forceInput": True}]).input == "connection"
    assert read_field(["*"]).type == "any"
    assert read_field([["a.ckpt"]], "ckpt_name").model_types == ("main",)
    assert read_field([["x.png"], {"image_upload": True}]).type == "ImageField"


def test_a_widget_of_an_extension_takes_a_value() -> None:
    colour = read_field(["COLOR", {"default": "#ffffff"}])
    assert (colour.type, colour.takes_value, colour.default, colour.required) == ("any", True, "#ffffff", False)
    assert read_field(["FLOATS", {"default": 1, "forceInput": True}]).input == "connection"


def test_a_widget_also_takes_a_link_of_any_type_of_its_union() -> None:
    both = ["STRING,IMAGE", {"default": "", "widgetType": "STRING"}]
    schemas = read_object_info({**describe_node(x=both), "Load": {"input": {}, "output": ["IMAGE"]}})
    assert schemas["Thing"].fields["x"].takes_value
    assert check_graph(Graph.of([Node("l", "Load"), Node("t", "Thing")], ["l.0 → t.x"]), schemas) == []
    assert read_field(["FLOAT,INT", {"default": 1, "widgetType": "FLOAT"}]).type == "number"


def test_inputs_stand_in_the_order_that_the_server_tells() -> None:
    """A proxy that writes the answer anew may have sorted the names; values in an export have no names."""
    node = describe_node(height=["INT", {"default": 64}], width=["INT", {"default": 64}])["Thing"]
    schemas = read_object_info({"Thing": {**node, "input_order": {"required": ["gone", "width", "height"]}}})
    export = {"nodes": [{"id": 1, "type": "Thing", "widgets_values": [512, 768]}], "links": []}
    assert read_drawing(export, "it", schemas).graph.nodes["1"].fields == {"width": 512, "height": 768}


RESIZE = {
    "input": {
        "required": {
            "input": ["COMFY_MATCHTYPE_V3", {}],
            "resize_type": [
                "COMFY_DYNAMICCOMBO_V3",
                {
                    "options": [
                        {"key": "by", "inputs": {"required": {"multiplier": ["FLOAT", {"default": 1.0}]}}},
                        {"key": "to", "inputs": {"required": {"width": ["INT", {"default": 512, "min": 0}]}}},
                        {"key": "square", "inputs": {"required": {"width": ["INT", {"default": 512, "min": 0}]}}},
                    ]
                },
            ],
            "method": [["area", "lanczos"]],
            "more": ["COMFY_AUTOGROW_V3", {"template": {"prefix": "image"}}],
        }
    },
    "output": ["COMFY_MATCHTYPE_V3"],
}


def test_inputs_that_grow_and_choices_that_show_more_inputs_are_read() -> None:
    """As servers after 0.3.75 have them: `images.image0`, `resize_type.width`."""
    schemas = read_object_info({**describe_node(), "Resize": RESIZE})
    fields = schemas["Resize"].fields
    assert (fields["resize_type"].choices, fields["resize_type"].default) == (("by", "to", "square"), "by")
    assert (fields["resize_type.width"].minimum, fields["resize_type.width"].default) == (0, None)
    thing = {"class_type": "Thing", "inputs": {}}
    values = {"resize_type": "to", "resize_type.width": 64, "method": "area"}
    resize = {"class_type": "Resize", "inputs": {**values, "input": ["1", 0], "more.image0": ["1", 1]}}
    again = {"class_type": "Resize", "inputs": {**values, "input": ["2", 0]}}
    graph = read_prompt({"1": thing, "2": resize, "3": again}, "it", schemas).graph
    assert check_graph(graph, schemas) == []
    export = {"nodes": [{"id": 2, "type": "Resize", "widgets_values": ["to", 64, "lanczos"]}], "links": []}
    fields_of = read_drawing(export, "it", schemas).graph.nodes["2"].fields
    assert fields_of == {"resize_type": "to", "resize_type.width": 64, "method": "lanczos"}
    prompt: dict[str, dict[str, Any]] = {"2": {"class_type": "Resize", "inputs": {}}}
    fill_defaults(prompt, schemas)
    assert prompt["2"]["inputs"] == {"resize_type": "by", "method": "area"}


def test_an_extension_may_take_inputs_that_it_does_not_name() -> None:
    """As rgthree's Power Lora Loader, whose LoRAs its description leaves out."""
    loader = {"input": {"required": {"model": ["MODEL"]}, "optional": {}}, "output": ["MODEL"]}
    document = {**describe_node(model=["MODEL"]), "Loader": {**loader, "python_module": "custom_nodes.rgthree-comfy"}}
    schemas = read_object_info({**document, "Core": {"input": {}, "output": ["MODEL"], "python_module": "nodes"}})
    assert [schemas[kind].is_open for kind in ("Loader", "Thing", "Core")] == [True, False, False]
    loras = [{"on": True, "lora": f"{name}.safetensors", "strength": 1} for name in "ab"]
    given = {"model": ["1", 0], "lora_1": loras[0], "lora_2": loras[1]}
    prompt = {"1": {"class_type": "Core"}, "2": {"class_type": "Loader", "inputs": given}}
    graph = read_prompt(prompt, "it", schemas).graph
    assert check_graph(graph, schemas) == []
    widgets = [{}, {"type": "PowerLoraLoaderHeaderWidget"}, *loras, {}, ""]
    export = {"nodes": [{"id": 2, "type": "Loader", "widgets_values": widgets}], "links": []}
    assert read_drawing(export, "it", schemas).graph.nodes["2"].fields == graph.nodes["2"].fields


def test_a_custom_loader_takes_the_models_whose_files_it_offers() -> None:
    document = {
        "Loader": {"input": {"required": {"lora_name": [["one.safetensors", "two.safetensors"]]}}, "output": []},
        "Custom": {"input": {"required": {"file": [["one.safetensors", "two.safetensors"]]}}, "output": []},
    }
    assert read_object_info(document)["Custom"].fields["file"].model_types == ("lora",)
    assert list_model_files(document) == {"lora": ("one.safetensors", "two.safetensors")}


@pytest.mark.parametrize("broken", [{"input": 5}, {"input": {"required": {"x": []}}}, None, {"input": {"required": 3}}])
def test_a_malformed_node_is_a_missing_one(broken: Any) -> None:
    nodes = read_object_info({**describe_node(x=["INT"]), "Broken": broken})
    assert set(nodes) == {"Thing"}


def test_an_answer_without_nodes_is_no_comfyui() -> None:
    with pytest.raises(WorkflowError, match="describes no nodes"):
        read_object_info({})


def test_the_command_writes_what_load_reads(tmp_path: Path) -> None:
    source, target = tmp_path / "in.json", tmp_path / "out.json"
    node = describe_node(x=["INT", {"default": 1, "tooltip": "A text."}])["Thing"]
    source.write_text(
        json.dumps({"Thing": {**node, "python_module": "nodes"}, "Other": {**node, "python_module": "custom"}})
    )
    package(source, target)
    assert set(read_packaged(json.loads(target.read_text("utf-8")), {})) == {"Thing"}
    assert "A text" not in target.read_text()


def test_the_packaged_nodes_hold_no_model_and_no_text() -> None:
    text = (resources.files("sweep.workflow.comfyui") / "nodes-core.json").read_text("utf-8")
    assert len(load_core_schemas()) > 380
    assert not any(word in text for word in (".ckpt", ".safetensors", "tooltip"))


def test_the_range_of_seeds_is_written_with_all_digits() -> None:
    assert describe_range(load_core_schemas()["KSampler"].fields["seed"]) == "0 to 18446744073709551615"
