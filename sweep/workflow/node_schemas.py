"""The schemas of node types (`NodeSchema`) and of their inputs (`FieldSchema`), and the copies packaged with sweep.

Each family reads them from its servers' own descriptions; what stands here belongs to none of them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
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
    """The schema of an input. A bound is None where there is none; without `choices` the input takes any value."""

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
    shown_with: tuple[str, ...] = ()  # of `choice.field`: the values of `choice` with which it counts
    nullable: bool = False
    model_types: tuple[str, ...] = ()  # for a model field: the model types it takes (main, lora, vae, …)
    model_bases: tuple[str, ...] = ()  # and the bases (sd-1, sdxl, …); empty where any goes

    @property
    def takes_value(self) -> bool:
        """Tell whether the field takes a value; otherwise only an edge can feed it."""
        return self.input != "connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSchema:
    """The schema of a node type: its inputs, and its outputs by name with their types.

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


@functools.cache
def read_table(package: str, name: str) -> Mapping[str, Any]:
    """Return the JSON object in a data file of a family's package. Nobody changes it."""
    found: Mapping[str, Any] = json.loads(resources.files(package).joinpath(name).read_text("utf-8"))
    return found


def read_packaged(table: Mapping[str, Any], common: Mapping[str, FieldSchema]) -> dict[str, NodeSchema]:
    """Read packaged node types; `common` are the fields that every node of the family has."""
    found = {}
    for kind, facts in table.items():
        schemas = {name: _read_field(name, given) for name, given in facts["fields"].items()}
        found[kind] = NodeSchema(type=kind, common=common, **{**facts, "fields": schemas})
    return found


def _read_field(name: str, facts: Mapping[str, Any]) -> FieldSchema:
    lists = {key: tuple(value) for key, value in facts.items() if isinstance(value, list) and key != "default"}
    return FieldSchema(name=name, **{**facts, **lists})
