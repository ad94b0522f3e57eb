"""The shape of an axis in an experiment file: one strict model a kind, told apart by the key only it has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, model_validator

from sweep.experiment.vocabulary import said


def _fault(message: str) -> ValueError:
    """What pydantic takes for a fault of the value."""
    return ValueError(message)


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _fault(f"must be a number, not {said(value)}")
    return value


def _scalar(value: Any) -> Any:
    if value is not None and not isinstance(value, str | int | float | bool):
        raise _fault(f"must be one plain value, not {said(value)}; values with parts get a label: values: {{…}}")
    return value


def _texts(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        if not isinstance(item, str):
            raise _fault(f"must be text or a list of texts, not {said(item)}")
        if not item.strip():
            raise _fault("must not be empty")
    return tuple(items)


def _labelled(value: Any) -> Any:
    if not isinstance(value, list | dict):
        raise _fault(f"must be a mapping of labels or a list of values, not {said(value)}")
    for item in value if isinstance(value, list) else ():
        _scalar(item)
    return value


def _columns(value: Any) -> Any:
    return (
        {name: name for name in value} if isinstance(value, list) and all(isinstance(n, str) for n in value) else value
    )


_ONE_OR_MORE: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}

# Where a file may say a thing in two ways, it is brought into one before it is checked: one fault, one message.
Number: TypeAlias = Annotated[int | float, BeforeValidator(_number), WithJsonSchema({"type": "number"})]
Scalar: TypeAlias = Annotated[
    str | int | float | bool | None,
    BeforeValidator(_scalar),
    WithJsonSchema({"type": ["string", "number", "boolean", "null"]}),
]
Texts: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_texts), WithJsonSchema(_ONE_OR_MORE)]
Setting: TypeAlias = Any  # judged by what it sets, not by the shape of the file


class Strict(BaseModel):
    """Unknown keys are errors, and nothing is converted: "20" is not 20."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AxisSpec(Strict):
    """What every axis written as a mapping may say."""

    target: Texts = Field(
        default=(),
        description="What the values set: a role or a node.field address, or a list of these that all get the same "
        "value. Needed where the axis's own name is neither.",
    )


class StepRange(AxisSpec):
    """Numbers from start to stop in steps: {start: 0.2, stop: 0.8, step: 0.2}. Exact in decimals, both ends included
    where the steps reach them; stop is never passed.
    """

    start: Number = Field(description="The first value.")
    stop: Number = Field(description="A bound: the last value, where the steps reach it.")
    step: Number = Field(description="The distance between values; negative to go down. Not 0.")


class CountRange(AxisSpec):
    """A number of values from start to stop, both included: {start: 1, stop: 16, num: 5, scale: log}."""

    start: Number = Field(description="The first value.")
    stop: Number = Field(description="The last value.")
    num: int = Field(ge=1, le=1_000_000_000, description="How many values.")
    scale: Literal["linear", "log"] = Field(
        default="linear", description="linear: equal distances. log: equal ratios; start and stop above 0."
    )


class Seeds(AxisSpec):
    """Seeds, the same at every other point: {start: 42, count: 4} is 42, 43, 44, 45. Without start they are drawn
    once at random and kept in the results folder.
    """

    count: int = Field(ge=1, le=1_000_000_000, description="How many seeds.")
    start: int | None = Field(default=None, description="The first seed; the others follow by one each.")


class Labelled(AxisSpec):
    """Values with names: {values: {soft: {prompt: soft light, cfg_scale: 4}, hard: {prompt: hard light}}}. A mapping
    under a label sets each of its targets; anything else is set on the axis's own target. A list of plain values may
    stand instead of the labels.
    """

    values: Annotated[
        Any, BeforeValidator(_labelled), WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "array"}]})
    ] = Field(
        description="Label → value, or label → mapping of targets (roles or node.field) to values. The label stands "
        "in the results table."
    )


class Lines(AxisSpec):
    """One value a line of a text file: {lines: prompts.txt}. Empty lines and lines that begin with # are left out."""

    lines: str = Field(description="Path of the text file, UTF-8.")


class CsvColumns(AxisSpec):
    """Values from a CSV file with a header line: {csv: shots.csv, column: prompt}. Several columns make several axes
    that step together, named by their columns or as `columns` maps them: {csv: f.csv, columns: {prompt: Text}}.
    """

    csv: str = Field(description="Path of the CSV file, UTF-8, with a header line.")
    column: str | None = Field(default=None, description="The column; the axis's name where it is left out.")
    columns: Annotated[
        dict[str, str],
        BeforeValidator(_columns),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "array", "items": {"type": "string"}},
                    {"type": "object", "additionalProperties": {"type": "string"}},
                ]
            }
        ),
    ] = Field(default_factory=dict, description="Several columns: a list of names, or axis name → column.")

    @model_validator(mode="after")
    def _one_of_them(self) -> CsvColumns:
        if self.column is not None and self.columns:
            raise ValueError("has both column and columns; one of them")
        return self


class Images(AxisSpec):
    """Pictures by pattern: {images: "shots/*.jpg"}, in the order of their names. Sets `image` unless told otherwise."""

    images: Texts = Field(description="Pattern of file names (*, ?, **), or a list of patterns.")


class SettingsFile(AxisSpec):
    """Settings from a JSON or YAML file: {settings: looks.json}. The file holds a mapping of labels to mappings of
    targets to values, or a list of such mappings, each with a `label` or numbered from 1.
    """

    settings: str = Field(description="Path of the JSON or YAML file.")


class Replace(AxisSpec):
    """Search and replace in the prompt: {replace: red, with: [blue, green]}. List the word itself to keep it as one of
    the values. Acts on `prompt` unless `target` says otherwise; a word that does not occur is an error.
    """

    replace: str = Field(min_length=1, description="The text to look for, exactly as it is written in the prompt.")
    with_: list[str] = Field(alias="with", description="What takes its place, one value each.")


class Dynamic(AxisSpec):
    """Prompts in the dynamic-prompts syntax, every combination once: {dynamic: "a {red|blue} __animal__"}. Sets
    `prompt` unless told otherwise. Needs the extra `dynamic`.
    """

    dynamic: Texts = Field(description="A template, or several.")
    wildcards: str | None = Field(
        default=None, description="Folder of wildcard files: __animal__ stands for each line of animal.txt."
    )


class Zip(AxisSpec):
    """Axes of equal length that step together: {zip: {prompt: [a, b], seed: [1, 2]}}."""

    zip: dict[str, SingleAxis] = Field(description="Axis name → axis, of any kind that makes one axis.")


_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "values": "<labelled>",
        "zip": "<zip>",
        "lines": "<lines>",
        "csv": "<csv>",
        "images": "<images>",
        "settings": "<settings>",
        "replace": "<replace>",
        "dynamic": "<dynamic>",
        "count": "<seeds>",
        "num": "<num>",
        "step": "<step>",
        "stop": "<step>",
        "start": "<step>",
    }
)
AXIS_TAGS: Final = frozenset({"<list>", *_KINDS.values()})
AXIS_KEYS: Final = (*_KINDS, "scale", "target", "with", "column", "columns", "wildcards")


def axis_tag(value: Any) -> str | None:
    """Which kind of axis a raw value is written as: by the key that only this kind has. None where it is none."""
    if isinstance(value, AxisSpec):
        return _TAG_OF[type(value)]
    if isinstance(value, list):
        return "<list>"
    if isinstance(value, dict):
        return next((tag for key, tag in _KINDS.items() if key in value), None)
    return None


_Single: TypeAlias = (
    Annotated[list[Scalar], Tag("<list>")]
    | Annotated[StepRange, Tag("<step>")]
    | Annotated[CountRange, Tag("<num>")]
    | Annotated[Seeds, Tag("<seeds>")]
    | Annotated[Labelled, Tag("<labelled>")]
    | Annotated[Lines, Tag("<lines>")]
    | Annotated[CsvColumns, Tag("<csv>")]
    | Annotated[Images, Tag("<images>")]
    | Annotated[SettingsFile, Tag("<settings>")]
    | Annotated[Replace, Tag("<replace>")]
    | Annotated[Dynamic, Tag("<dynamic>")]
)
SingleAxis: TypeAlias = Annotated[_Single, Discriminator(axis_tag)]
AnyAxis: TypeAlias = Annotated[_Single | Annotated[Zip, Tag("<zip>")], Discriminator(axis_tag)]
_TAG_OF: Final[Mapping[type[AxisSpec], str]] = MappingProxyType(
    {
        StepRange: "<step>",
        CountRange: "<num>",
        Seeds: "<seeds>",
        Labelled: "<labelled>",
        Lines: "<lines>",
        CsvColumns: "<csv>",
        Images: "<images>",
        SettingsFile: "<settings>",
        Replace: "<replace>",
        Dynamic: "<dynamic>",
        Zip: "<zip>",
    }
)


def known_keys(tag: str | None) -> tuple[str, ...]:
    """The keys that an axis of this kind may have, as written."""
    model = next((model for model, name in _TAG_OF.items() if name == tag), None)
    if model is None:
        return AXIS_KEYS
    return tuple(field.alias or name for name, field in model.model_fields.items())


def axis_key(spec: AxisSpec) -> str:
    """The key that marks an axis of this kind: lines, csv, …"""
    tag = axis_tag(spec)
    return next(key for key, name in _KINDS.items() if name == tag)
