"""Node types of a server, parsed from OpenAPI."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from sweep.errors import WorkflowError
from sweep.workflow.graph import Json

PACKAGED = "nodes-6.14.2.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as one server has it: `key` and `hash` are that installation's."""

    key: str
    hash: str
    name: str
    base: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSchema:
    """One input of a node type. Bounds are None where there are none; `choices` is empty where any value goes."""

    name: str
    type: str  # integer, number, string, boolean, array, object, any, or the class: ImageField, ModelIdentifierField, …
    items: str = ""  # what a list holds, where one is taken: always (type array) or beside a single value
    input: Literal["direct", "connection", "any"] = "any"
    required: bool = False
    default: Json = None
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None
    multiple_of: float | None = None
    choices: tuple[str, ...] = ()  # as written: those of an integer field, too
    nullable: bool = False
    model_types: tuple[str, ...] = ()  # for a model field: the model types it takes (main, lora, vae, …)
    model_bases: tuple[str, ...] = ()  # and the bases (sd-1, sdxl, …); empty where any goes

    @property
    def takes_value(self) -> bool:
        """Whether a value may stand on the field itself; otherwise only an edge can feed it."""
        return self.input != "connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSchema:
    """One node type: its inputs, and its outputs by name with their types.

    `fields` leaves out `id`, `type` and what every node has (`COMMON`); `field` knows the latter.
    """

    type: str
    fields: Mapping[str, FieldSchema]
    outputs: Mapping[str, str]  # output field → type, as FieldSchema.type
    output_class: str  # ImageOutput, LatentsOutput, …
    use_cache: bool = True  # the default the server uses where a graph does not say

    def field(self, name: str) -> FieldSchema | None:
        """The input of that name, also one that every node has; None where there is none."""
        return self.fields.get(name) or COMMON.get(name)


NodeSchemas = Mapping[str, NodeSchema]  # node type → schema

COMMON: Mapping[str, FieldSchema] = {
    "is_intermediate": FieldSchema(name="is_intermediate", type="boolean", input="direct", default=False),
    "use_cache": FieldSchema(name="use_cache", type="boolean", input="direct", default=True),
}


def dump(schemas: NodeSchemas) -> Json:
    """The schemas as JSON, with everything left out that `load` fills in by itself. Facts only, no texts."""
    return {
        node.type: {
            "class": node.output_class,
            "outputs": dict(node.outputs),
            "fields": {name: dict(_unusual(field)) for name, field in node.fields.items()},
            **({} if node.use_cache else {"use_cache": False}),
        }
        for node in sorted(schemas.values(), key=lambda node: node.type)
    }


def load(document: Mapping[str, Any]) -> NodeSchemas:
    """The inverse of `dump`."""
    return {
        kind: NodeSchema(
            type=kind,
            fields={name: _field(name, facts) for name, facts in node["fields"].items()},
            outputs=node["outputs"],
            output_class=node["class"],
            use_cache=node.get("use_cache", True),
        )
        for kind, node in document.items()
    }


@functools.cache
def builtin_schemas() -> NodeSchemas:
    """The nodes of InvokeAI 6.14.2, as packaged with sweep: for planning without a server, and for the sandbox."""
    text = resources.files("sweep.workflow").joinpath(PACKAGED).read_text("utf-8")
    return load(json.loads(text))


def _unusual(field: FieldSchema) -> Iterator[tuple[str, Json]]:
    """What differs from the dataclass's own defaults, but for the name, which is the key already."""
    for slot in fields(field):
        value = getattr(field, slot.name)
        if slot.name != "name" and (slot.default is MISSING or value != slot.default or value is not slot.default):
            yield slot.name, list(value) if isinstance(value, tuple) else value


def _field(name: str, facts: Mapping[str, Any]) -> FieldSchema:
    lists = {key: tuple(facts[key]) for key in ("choices", "model_types", "model_bases") if key in facts}
    return FieldSchema(name=name, **{**facts, **lists})


_BOUNDS = {
    "minimum": "minimum",
    "ge": "minimum",
    "maximum": "maximum",
    "le": "maximum",
    "exclusiveMinimum": "exclusive_minimum",
    "gt": "exclusive_minimum",
    "exclusiveMaximum": "exclusive_maximum",
    "lt": "exclusive_maximum",
    "multipleOf": "multiple_of",
}
_NOT_INPUTS = frozenset({"id", "type", "is_intermediate", "use_cache", "workflow"})
_MODEL_UI_TYPES = {  # how servers before 6.8 say which models a field takes: the field's ui_type
    "MainModelField": ("main",),
    "ModelField": ("main",),
    "SDXLMainModelField": ("main",),
    "SDXLRefinerModelField": ("main",),
    "SD3MainModelField": ("main",),
    "FluxMainModelField": ("main",),
    "CogView4MainModelField": ("main",),
    "ONNXModelField": ("onnx",),
    "VAEModelField": ("vae",),
    "VaeModelField": ("vae",),
    "FluxVAEModelField": ("vae",),
    "LoRAModelField": ("lora",),
    "ControlNetModelField": ("controlnet",),
    "ControlLoRAModelField": ("control_lora",),
    "IPAdapterModelField": ("ip_adapter",),
    "T2IAdapterModelField": ("t2i_adapter",),
    "T5EncoderModelField": ("t5_encoder",),
    "CLIPEmbedModelField": ("clip_embed",),
    "CLIPLEmbedModelField": ("clip_embed",),
    "CLIPGEmbedModelField": ("clip_embed",),
    "FluxReduxModelField": ("flux_redux",),
    "SpandrelImageToImageModelField": ("spandrel_image_to_image",),
}


_MISSHAPEN = (TypeError, AttributeError, KeyError, IndexError, ValueError, RecursionError)


def node_schemas(document: Mapping[str, Any]) -> NodeSchemas:
    """Every node type an OpenAPI document of InvokeAI 3.2 to 6.x describes.

    Raises WorkflowError where the document describes no nodes at all.
    """
    components = document.get("components")
    classes = components.get("schemas") if isinstance(components, Mapping) else None
    if not isinstance(classes, Mapping):
        classes = {}
    found = {node.type: node for node in _nodes(classes)}
    if not found:
        raise WorkflowError("The OpenAPI document describes no nodes: is this an InvokeAI server?")
    return found


def _nodes(classes: Mapping[str, Any]) -> Iterator[NodeSchema]:
    """Those that are described as a node is; one that is not is a node the server does not have."""
    for schema in classes.values():
        try:
            node = _node(schema, classes) if _is_node(schema) else None
        except _MISSHAPEN:
            continue
        if node is not None:
            yield node


def _is_node(schema: Any) -> bool:
    if not isinstance(schema, Mapping) or "type" not in schema.get("properties", {}):
        return False
    return schema.get("class") == "invocation" or ("output" in schema and "class" not in schema)


def _node(schema: Mapping[str, Any], classes: Mapping[str, Any]) -> NodeSchema:
    properties = schema["properties"]
    kind = properties["type"]
    cache = properties.get("use_cache", {}).get("default", True)
    output_class = _name(schema.get("output", {}))
    outputs = classes.get(output_class, {}).get("properties", {})
    return NodeSchema(
        type=str(kind.get("default") or kind.get("const") or kind.get("enum", [""])[0]),
        fields={name: _openapi_field(name, facts) for name, facts in properties.items() if name not in _NOT_INPUTS},
        outputs={name: _types(facts)[0] for name, facts in outputs.items() if name not in {"type", "output_meta"}},
        output_class=output_class,
        use_cache=bool(cache),
    )


def _openapi_field(name: str, facts: Mapping[str, Any]) -> FieldSchema:
    options = _options(facts)
    kind, items, nullable = _types(facts)
    bounds: dict[str, float] = {}
    for source in (*options, facts):
        bounds.update({_BOUNDS[key]: source[key] for key in source.keys() & _BOUNDS.keys()})
    if not all(isinstance(bound, int | float) for bound in bounds.values()):
        raise TypeError(f"{name} has bounds that are no numbers")
    choices = next((source["enum"] for source in (facts, *options) if "enum" in source), ())
    by_ui_type = _MODEL_UI_TYPES.get(str(facts.get("ui_type")), ())
    return FieldSchema(
        name=name,
        type=kind,
        items=items,
        input=_input(facts),
        required=bool(facts.get("orig_required", False)),
        default=facts.get("default", facts.get("orig_default")),
        choices=tuple(str(choice) for choice in choices),
        nullable=nullable,
        model_types=_strings(facts.get("ui_model_type", by_ui_type)),
        model_bases=_strings(facts.get("ui_model_base", ())),
        **bounds,
    )


def _input(facts: Mapping[str, Any]) -> Literal["direct", "connection", "any"]:
    said = facts.get("input", "any")
    return said if said in {"direct", "connection"} else "any"


def _options(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The members of a union, flattened; the field itself where it is none."""
    union = facts.get("anyOf") or facts.get("oneOf") or facts.get("allOf")
    if not union:
        return [facts]
    return [option for member in union for option in _options(member)]


def _types(facts: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Type, what a list of it holds (empty: no lists), and whether null is taken."""
    options = _options(facts)
    singles = [name for option in options if (name := _name(option)) not in {"null", "array"}]
    lists = [_types(option.get("items", {}))[0] for option in options if option.get("type") == "array"]
    nullable = any(option.get("type") == "null" for option in options)
    if lists and not singles:
        return "array", lists[0], nullable
    distinct = list(dict.fromkeys(singles))
    if set(distinct) == {"integer", "number"}:
        distinct = ["number"]
    return distinct[0] if len(distinct) == 1 else "any", lists[0] if lists else "", nullable


def _name(facts: Mapping[str, Any]) -> str:
    if "$ref" in facts:
        return str(facts["$ref"]).rsplit("/", 1)[-1]
    return str(facts.get("type", "any"))


def _strings(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(str(item) for item in value or ())


def _main(arguments: Sequence[str]) -> None:
    """Write the compact copy of an OpenAPI document's nodes: one node type a line, so that releases can be compared."""
    source, target = (Path(argument) for argument in arguments)
    schemas = dump(node_schemas(json.loads(source.read_text("utf-8"))))
    assert isinstance(schemas, dict)
    nodes = [f"{json.dumps(kind)}:{json.dumps(node, separators=(',', ':'))}" for kind, node in schemas.items()]
    target.write_text("{\n" + ",\n".join(nodes) + "\n}\n", "utf-8", newline="\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
