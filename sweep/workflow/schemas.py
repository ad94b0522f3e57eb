"""What a server's nodes take and give: field types, ranges, choices and defaults, read from its OpenAPI document."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from typing import Any, Literal

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
