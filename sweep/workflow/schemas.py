"""What a server's nodes take and give: field types, ranges, choices and defaults, read from its OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sweep.workflow.graph import Json


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
    type: str  # integer, number, string, boolean, array, or the class name: ImageField, ModelIdentifierField, …
    input: Literal["direct", "connection", "any"] = "any"
    required: bool = False
    default: Json = None
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None
    multiple_of: float | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False
    model_types: tuple[str, ...] = ()  # for a model field: the model types it takes (main, lora, vae, …)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSchema:
    """One node type: its inputs, and its outputs by name with their types."""

    type: str
    fields: Mapping[str, FieldSchema]
    outputs: Mapping[str, str]  # output field → type, as FieldSchema.type
    output_class: str  # ImageOutput, LatentsOutput, …
    use_cache: bool = True  # the default the server uses where a graph does not say


NodeSchemas = Mapping[str, NodeSchema]  # node type → schema
