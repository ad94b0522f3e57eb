"""What clients may ask, checked with pydantic, so that a refusal reads as InvokeAI's (and FastAPI's) does."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, StrictStr, TypeAdapter, ValidationError, create_model

from sweep.workflow.schemas import FieldSchema, NodeSchema, NodeSchemas

T = TypeVar("T")
Loc = tuple[str | int, ...]


class RefusedError(Exception):
    """A request that is answered with `status` and `{"detail": detail}`."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


def fault(kind: str, loc: Loc, message: str, value: Any = None, context: Any = None) -> dict[str, Any]:
    """One entry of a 422's `detail`."""
    entry = {"type": kind, "loc": list(loc), "msg": message, "input": value}
    return entry if context is None else {**entry, "ctx": context}


def value_fault(loc: Loc, message: str, value: Any) -> dict[str, Any]:
    """The entry InvokeAI's own validators make when they raise ValueError."""
    return fault("value_error", loc, f"Value error, {message}", value, {"error": {}})


def faults_of(error: ValidationError, loc: Loc) -> list[dict[str, Any]]:
    """Pydantic's complaints as entries of a 422's `detail`."""
    found = []
    for entry in error.errors(include_url=False):
        context = {"error": {}} if entry["type"] == "value_error" else entry.get("ctx")
        found.append(fault(entry["type"], (*loc, *entry["loc"]), entry["msg"], entry["input"], context))
    return found


def checked(adapter: TypeAdapter[T], value: Any, *loc: str | int) -> T:
    """`value` as the adapter takes it. Raises RefusedError with 422 where it does not."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise RefusedError(422, faults_of(error, loc)) from error


class ImageField(BaseModel):
    """A picture by its name; the class's own name stands in refusals."""

    image_name: str


class VideoField(BaseModel):
    """A video by its name."""

    video_name: str


class ModelIdentifierField(BaseModel):
    """A model as graphs name it."""

    key: str
    hash: str
    name: str
    base: str
    type: str
    submodel_type: str | None = None


_Scalar = StrictStr | float | int | ImageField | VideoField


class Datum(BaseModel):
    """One axis of a batch: the values one field takes."""

    node_path: str
    field_name: str
    items: list[_Scalar | list[_Scalar]] = Field(default_factory=list)


class Point(BaseModel):
    """One end of an edge."""

    node_id: str
    field: str


class Edge(BaseModel):
    """From an output to an input."""

    source: Point
    destination: Point


class Frame(BaseModel):
    """A batch but for its graph, which the node schemas check."""

    batch_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    origin: str | None = None
    destination: str | None = None
    data: list[list[Datum]] | None = None
    workflow: dict[str, Any] | None = None
    runs: int = Field(default=1, ge=1)


class NodeTypes:
    """Checks single nodes against the schemas; a type's model is built when it is first asked for."""

    def __init__(self, schemas: NodeSchemas) -> None:
        self.schemas = schemas
        self._models: dict[str, type[BaseModel]] = {}

    def accept(self, node: Mapping[str, Any]) -> dict[str, Any]:
        """The node as the server keeps it: values coerced, defaults filled in, unknown fields dropped.

        Raises ValidationError. The node's type must be known.
        """
        schema = self.schemas[node["type"]]
        model = self._models.get(schema.type)
        if model is None:
            model = self._models[schema.type] = _model(schema)
        kept = model.model_validate(node).model_dump(by_alias=True, warnings=False)
        return {**kept, "type": kept.pop("type")}


def _model(schema: NodeSchema) -> type[BaseModel]:
    fields: dict[str, Any] = {
        "n_id": (str, Field(alias="id", default_factory=lambda: str(uuid.uuid4()))),
        "n_intermediate": (bool, Field(alias="is_intermediate", default=False)),
        "n_cache": (bool, Field(alias="use_cache", default=schema.use_cache)),
        **{f"f_{index}": _definition(field) for index, field in enumerate(schema.fields.values())},
        "n_type": (Literal[schema.type], Field(alias="type")),
    }
    extra: Literal["allow", "ignore"] = "allow" if schema.type == "core_metadata" else "ignore"
    return create_model(schema.type, __config__={"extra": extra}, **fields)


def _definition(field: FieldSchema) -> tuple[Any, Any]:
    bounds = Field(
        ge=field.minimum,
        le=field.maximum,
        gt=field.exclusive_minimum,
        lt=field.exclusive_maximum,
        multiple_of=field.multiple_of,
    )
    single = _annotation(field)
    if field.type in {"integer", "number"}:
        single = Annotated[single, bounds]
    if field.items and field.type != "array":
        single = single | _list_of(field.items)
    if field.nullable or field.default is None:
        single = single | None
    return single, Field(alias=field.name, default=field.default)


def _annotation(field: FieldSchema) -> Any:
    if field.type == "array":
        return _list_of(field.items)
    if field.choices:
        return Literal[tuple(int(c) for c in field.choices) if field.type == "integer" else field.choices]
    return _PYTHON.get(field.type, Any)


def _list_of(kind: str) -> Any:
    return list.__class_getitem__(_PYTHON.get(kind, Any))


_PYTHON: dict[str, Any] = {
    "integer": int,
    "number": float,
    "string": str,
    "boolean": bool,
    "ImageField": ImageField,
    "ModelIdentifierField": ModelIdentifierField,
}

FRAME = TypeAdapter(Frame)
EDGES = TypeAdapter(list[Edge])
INTEGERS = TypeAdapter(list[int])
STRINGS = TypeAdapter(list[str])
OBJECT = TypeAdapter(dict[str, Any])
STRING = TypeAdapter(str)


def embedded(body: Any, name: str, adapter: TypeAdapter[T]) -> T:
    """The member `name` of a JSON body. Raises RefusedError with 422 where it is missing or wrong."""
    if not isinstance(body, dict) or name not in body:
        raise RefusedError(422, [fault("missing", ("body", name), "Field required")])
    return checked(adapter, body[name], "body", name)


def at_most(values: Sequence[T], limit: int, *loc: str) -> Sequence[T]:
    """`values`, if there are no more than `limit` of them."""
    if len(values) > limit:
        message = f"List should have at most {limit} items after validation, not {len(values)}"
        context = {"field_type": "List", "max_length": limit, "actual_length": len(values)}
        raise RefusedError(422, [fault("too_long", loc, message, list(values), context)])
    return values


def integer(text: str, *loc: str) -> int:
    """A number of the path or query. Raises RefusedError with 422."""
    try:
        return int(text)
    except ValueError as error:
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise RefusedError(422, [fault("int_parsing", loc, message, text)]) from error


def required(query: Mapping[str, str], names: Sequence[str], place: str = "query") -> list[str]:
    """The values of query parameters that must be there. Raises RefusedError with 422 that lists all missing."""
    missing = [fault("missing", (place, name), "Field required") for name in names if name not in query]
    if missing:
        raise RefusedError(422, missing)
    return [query[name] for name in names]
