from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import WorkflowError
from sweep.workflow.invokeai import openapi
from sweep.workflow.invokeai.invokeai_dialect import load_builtin_schemas, read_openapi
from sweep.workflow.node_schemas import FieldSchema, NodeSchema, read_packaged
from tools.package_nodes import write_packaged


def document(fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    node = {
        "class": "invocation",
        "properties": {
            "id": {"type": "string"},
            "is_intermediate": {"type": "boolean"},
            "use_cache": {"type": "boolean", "default": True},
            **fields,
            "type": {"type": "string", "const": "thing", "default": "thing"},
        },
        "output": {"$ref": "#/components/schemas/ThingOutput"},
        **more,
    }
    output = {"class": "output", "properties": {"image": {"$ref": "#/x/ImageField"}, "type": {"type": "string"}}}
    return {"components": {"schemas": {"Thing": node, "ThingOutput": output}}}


def field(facts: dict[str, Any]) -> FieldSchema:
    node: NodeSchema = read_openapi(document({"x": facts}))["thing"]
    return node.fields["x"]


def test_openapi_document_gives_back_the_same_schemas() -> None:
    assert read_openapi(openapi.write_openapi(load_builtin_schemas())) == load_builtin_schemas()


def test_the_packaged_nodes_are_those_of_6_14_2() -> None:
    schemas = load_builtin_schemas()
    assert len(schemas) == 309
    assert schemas is load_builtin_schemas()
    start = schemas["denoise_latents"].fields["denoising_start"]
    assert (start.type, start.minimum, start.maximum, start.default) == ("number", 0, 1, 0.0)
    assert "dpmpp_2m_k" in schemas["denoise_latents"].fields["scheduler"].choices
    assert schemas["noise"].fields["width"].multiple_of == 8
    assert schemas["noise"].fields["seed"].maximum == 4294967295
    assert schemas["controlnet"].fields["control_weight"].items == "number"
    assert schemas["controlnet"].fields["control_weight"].maximum == 2
    assert schemas["main_model_loader"].fields["model"].model_types == ("main",)
    assert schemas["sdxl_model_loader"].fields["model"].model_bases == ("sdxl",)
    assert schemas["denoise_latents"].fields["unet"].input == "connection"
    assert schemas["l2i"].outputs == {"image": "ImageField", "width": "integer", "height": "integer"}
    assert schemas["l2i"].output_class == "ImageOutput"
    assert not schemas["rand_int"].is_cached
    assert schemas["l2i"].is_cached


def test_what_every_node_has_is_known_by_name_but_not_listed() -> None:
    l2i = load_builtin_schemas()["l2i"]
    assert "use_cache" not in l2i.fields
    cache = l2i.field("use_cache")
    assert cache is not None
    assert cache.type == "boolean"
    assert l2i.field("nothing") is None


def test_what_is_written_for_the_package_is_read_again_without_texts(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    facts = {"type": "integer", "minimum": 1, "description": "a text"}
    given = {**load_builtin_schemas(), **openapi.parse_openapi(document({"x": facts}))}

    write_packaged(given, target)

    assert read_packaged(json.loads(target.read_text("utf-8")), openapi.COMMON) == given
    assert "a text" not in target.read_text("utf-8")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"type": "integer", "minimum": 1, "default": 2}, {"type": "integer", "minimum": 1, "default": 2}),
        ({"type": "number", "exclusiveMaximum": 1}, {"type": "number", "exclusive_maximum": 1}),
        ({"anyOf": [{"type": "number", "maximum": 8.0}, {"type": "null"}]}, {"maximum": 8.0, "nullable": True}),
        (
            {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}], "ge": -1, "le": 2},
            {"type": "number", "items": "number", "minimum": -1, "maximum": 2},
        ),
        ({"type": "array", "items": {"$ref": "#/y/ImageField"}}, {"type": "array", "items": "ImageField"}),
        ({"anyOf": [{"$ref": "#/y/ImageField"}, {"type": "null"}]}, {"type": "ImageField", "nullable": True}),
        ({"allOf": [{"$ref": "#/y/UNetField"}], "input": "connection"}, {"type": "UNetField", "input": "connection"}),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, {"type": "number"}),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"type": "any"}),
        ({"anyOf": [{}, {"type": "null"}]}, {"type": "any", "nullable": True}),
        ({"type": "integer", "enum": [256, 512]}, {"choices": ("256", "512")}),
        ({"anyOf": [{"type": "string", "enum": ["a", "b"]}, {"type": "null"}]}, {"choices": ("a", "b")}),
        (
            {"$ref": "#/y/ModelIdentifierField", "ui_model_type": ["lora"], "ui_model_base": "sdxl"},
            {"model_types": ("lora",), "model_bases": ("sdxl",)},
        ),
        ({"$ref": "#/y/ModelIdentifierField", "ui_type": "SDXLMainModelField"}, {"model_types": ("main",)}),
        ({"$ref": "#/y/ModelIdentifierField", "ui_type": "LoRAModelField"}, {"model_types": ("lora",)}),
        ({"type": "string", "orig_required": True}, {"required": True, "default": None}),
        ({"type": "string", "orig_default": "x"}, {"default": "x"}),
    ],
)
def test_fields_of_all_shapes_and_ages(facts: dict[str, Any], expected: dict[str, Any]) -> None:
    read = field(facts)
    assert {name: getattr(read, name) for name in expected} == expected


def test_an_older_document_without_classes_is_read_too() -> None:
    old = document({"x": {"type": "integer"}})
    node = old["components"]["schemas"]["Thing"]
    del node["class"]
    node["properties"]["type"] = {"type": "string", "enum": ["thing"]}
    assert set(read_openapi(old)) == {"thing"}


@pytest.mark.parametrize("wrong", [{}, {"components": []}, {"components": {"schemas": {"A": {"type": "object"}}}}])
def test_a_document_without_nodes_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(WorkflowError, match="is this an InvokeAI server"):
        read_openapi(wrong)
