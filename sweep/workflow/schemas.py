"""Node types of a server, whatever family it belongs to: their inputs with ranges and choices, and their outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

from sweep.workflow.graph import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as one server has it; `key` and `hash` belong to that installation."""

    key: str
    hash: str
    name: str
    base: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSchema:
    """One input of a node type. A bound is None where there is none; `choices` is empty where any value is allowed."""

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

    `fields` leaves out `id`, `type` and the fields that every node has (`common`).
    """

    type: str
    fields: Mapping[str, FieldSchema]
    outputs: Mapping[str, str]  # output field → type, as FieldSchema.type
    output_class: str  # the family's class of what comes out: ImageOutput, LatentsOutput, …
    is_cached: bool = True  # whether the server keeps its outputs where a graph does not say
    is_open: bool = False  # whether it takes fields that the schema does not name
    is_custom: bool = False  # whether an extension brings it: nothing is known of what it does besides
    common: Mapping[str, FieldSchema] = field(default_factory=dict, repr=False)  # fields that every node has

    def field(self, name: str) -> FieldSchema | None:
        """Return the input of that name, including those that every node has; None where there is none."""
        return self.fields.get(name) or self.common.get(name)


def dump(schemas: Mapping[str, NodeSchema]) -> dict[str, Json]:
    """Return the schemas as JSON without everything that `load` fills in by itself: facts only, no texts."""
    return {
        node.type: {
            "class": node.output_class,
            "outputs": dict(node.outputs),
            "fields": {name: dict(_unusual(schema)) for name, schema in node.fields.items()},
            **({} if node.is_cached else {"is_cached": False}),
            **({"is_open": True} if node.is_open else {}),
        }
        for node in sorted(schemas.values(), key=lambda node: node.type)
    }


def load(document: Mapping[str, Any], common: Mapping[str, FieldSchema]) -> dict[str, NodeSchema]:
    """Read what `dump` wrote; `common` are the fields that every node of the family has."""
    return {
        kind: NodeSchema(
            type=kind,
            fields={name: _field(name, facts) for name, facts in node["fields"].items()},
            outputs=node["outputs"],
            output_class=node["class"],
            is_cached=node.get("is_cached", True),
            is_open=node.get("is_open", False),
            common=common,
        )
        for kind, node in document.items()
    }


def _unusual(field: FieldSchema) -> Iterator[tuple[str, Json]]:
    """Yield what differs from the dataclass's own defaults, except the name, which is the key already."""
    for slot in fields(field):
        value = getattr(field, slot.name)
        if slot.name != "name" and (slot.default is MISSING or value != slot.default or value is not slot.default):
            yield slot.name, list(value) if isinstance(value, tuple) else value


def _field(name: str, facts: Mapping[str, Any]) -> FieldSchema:
    lists = {key: tuple(facts[key]) for key in ("choices", "model_types", "model_bases") if key in facts}
    return FieldSchema(name=name, **{**facts, **lists})
