"""The shape of an experiment file as strict pydantic models, one for each kind of axis.

Their descriptions are the file's documentation and its JSON Schema. Kinds of axes are told apart by the key that only
one of them has.
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, model_validator

from sweep.role_table import CONTROLS, INPUT_NAMES, NUMBERED, ROLE_TABLE, TEMPLATE_NAMES, quote


def _make_error(message: str) -> ValueError:
    """Make an error that pydantic reports as a problem of the value."""
    return ValueError(message)


def _validate_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _make_error(f"must be a number, not {quote(value)}")
    return value


def _validate_scalar(value: Any) -> Any:
    if value is not None and not isinstance(value, str | int | float | bool):
        raise _make_error(f"must be one plain value, not {quote(value)}; values with parts get a label: values: {{…}}")
    return value


def _validate_texts(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        if not isinstance(item, str):
            raise _make_error(f"must be text or a list of texts, not {quote(item)}")
        if not item.strip():
            raise _make_error("must not be empty")
    return tuple(items)


def _validate_labelled(value: Any) -> Any:
    if not isinstance(value, list | dict):
        raise _make_error(f"must be a mapping of labels or a list of values, not {quote(value)}")
    for item in value if isinstance(value, list) else ():
        _validate_scalar(item)
    return value


def _validate_columns(value: Any) -> Any:
    return (
        {name: name for name in value} if isinstance(value, list) and all(isinstance(n, str) for n in value) else value
    )


_ONE_OR_MORE: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}

# Where a file may say a thing in two ways, it is brought into one before it is checked: one problem, one message.
NumberField: TypeAlias = Annotated[int | float, BeforeValidator(_validate_number), WithJsonSchema({"type": "number"})]
ScalarField: TypeAlias = Annotated[
    str | int | float | bool | None,
    BeforeValidator(_validate_scalar),
    WithJsonSchema({"type": ["string", "number", "boolean", "null"]}),
]
Texts: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_validate_texts), WithJsonSchema(_ONE_OR_MORE)]
SettingField: TypeAlias = Any  # judged by what it sets, not by the shape of the file


class Strict(BaseModel):
    """Unknown keys are errors, and nothing is converted: "20" is not 20."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AxisSpec(Strict):
    """The key that every axis written as a mapping may have."""

    default_targets: ClassVar[tuple[str, ...] | None] = None  # what it sets if neither `target` nor its name says it

    target: Texts = Field(
        default=(),
        description="What the values set: a role or a node.field address, or a list of these (all get the same value). "
        "Needed only if the name of the axis is neither.",
    )


class StepRange(AxisSpec):
    """Numbers from start to stop in steps: {start: 0.2, stop: 0.8, step: 0.2}. Values are exact decimals. stop is
    included if a step reaches it, and never exceeded.
    """

    start: NumberField = Field(description="The first value.")
    stop: NumberField = Field(description="The last value, if a step reaches it.")
    step: NumberField = Field(description="The distance between values; negative counts down. Not 0.")


class CountRange(AxisSpec):
    """A number of values from start to stop, both included: {start: 1, stop: 16, num: 5, scale: log}."""

    start: NumberField = Field(description="The first value.")
    stop: NumberField = Field(description="The last value.")
    num: int = Field(ge=1, le=1_000_000_000, description="How many values.")
    scale: Literal["linear", "log"] = Field(
        default="linear", description="linear: equal distances. log: equal ratios; start and stop above 0."
    )


class Seeds(AxisSpec):
    """Seeds, the same for every combination of the other axes: {start: 42, count: 4} is 42, 43, 44, 45. Without start,
    the first run chooses random seeds and keeps them in the results folder.
    """

    count: int = Field(ge=1, le=1_000_000_000, description="How many seeds.")
    start: int | None = Field(default=None, description="The first seed; each further seed is one higher.")
    each_cell: bool = Field(
        default=False,
        description="true: each combination of the other axes has seeds of its own, computed from its values and "
        "from start. Images of two combinations then share no seed, so a study cannot pair them.",
    )


class Labelled(AxisSpec):
    """Values with names: {values: {soft: {prompt: soft light, cfg_scale: 4}, hard: {prompt: hard light}}}. A mapping
    under a label sets each of its targets. Any other value sets the target of the axis. A plain list of values is
    allowed instead of labels.
    """

    values: Annotated[
        Any, BeforeValidator(_validate_labelled), WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "array"}]})
    ] = Field(
        description="Label → value, or label → mapping of targets (roles or node.field) to values. The results table "
        "shows the label."
    )


class TextLines(AxisSpec):
    """One value per line of a text file: {lines: prompts.txt}. Empty lines and lines that begin with # are ignored."""

    lines: str = Field(description="Path of the text file, UTF-8.")


class CsvColumns(AxisSpec):
    """Values from a CSV file with a header line: {csv: shots.csv, column: prompt}. Several columns make several axes
    that advance together, named after their columns or as `columns` says: {csv: f.csv, columns: {prompt: Text}}.
    """

    csv: str = Field(description="Path of the CSV file, UTF-8, with a header line.")
    column: str | None = Field(default=None, description="The column. Default: the name of the axis.")
    columns: Annotated[
        dict[str, str],
        BeforeValidator(_validate_columns),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "array", "items": {"type": "string"}},
                    {"type": "object", "additionalProperties": {"type": "string"}},
                ]
            }
        ),
    ] = Field(default_factory=dict, description="Several columns: a list of names, or axis name → column.")
    title: str | None = Field(default=None, description="With columns: the column that names the rows in the table.")
    count: str | None = Field(
        default=None,
        description="With columns: the column that says how many images a row gets. Their seeds count up from the "
        "row's seed, or from 1.",
    )

    @model_validator(mode="after")
    def _check_one_given(self) -> CsvColumns:
        if self.column is not None and self.columns:
            raise ValueError("has both column and columns; one of them")
        if (self.title or self.count) and not self.columns:
            raise ValueError("has a title or count, which go with columns: write columns: {prompt: COLUMN}, not column")
        return self


class Images(AxisSpec):
    """Image files by pattern, sorted by name: {images: "shots/*.jpg"}. Sets `image` if there is no `target`."""

    default_targets = ("image",)

    images: Texts = Field(description="Pattern of file names (*, ?, **), or a list of patterns.")


class BoardImages(AxisSpec):
    """All images of a board of the server's gallery, the oldest first: {board: product shots}, or as a text:
    board:product shots. Sets `image` if there is no `target`. A run reads the board again: new images are new points.
    """

    default_targets = ("image",)

    board: str = Field(min_length=1, description="Name of the board.")


class SettingsFile(AxisSpec):
    """Settings from a JSON or YAML file: {settings: looks.json}. The file maps labels to mappings of targets to
    values; or it lists mappings of targets to values, each with a `label` or else numbered from 1.
    """

    default_targets = ()

    settings: str = Field(description="Path of the JSON or YAML file.")


class Replace(AxisSpec):
    """Search and replace in the prompt: {replace: red, with: [blue, green]}. List the word itself to
    keep it as a value. Changes `prompt` if there is no `target`. A word that does not occur is an error.
    """

    default_targets = ("prompt",)

    replace: str = Field(min_length=1, description="The text to search for, exactly as it is written in the prompt.")
    with_: list[str] = Field(alias="with", description="The replacements, one value each.")


class Dynamic(AxisSpec):
    """Prompts in the dynamic-prompts syntax, every combination once: {dynamic: "a {red|blue} __animal__"}. Sets
    `prompt` if there is no `target`. Needs the extra `dynamic`.
    """

    default_targets = ("prompt",)

    dynamic: Texts = Field(description="One template, or a list.")
    wildcards: str | None = Field(
        default=None, description="Folder of wildcard files: __animal__ is replaced by each line of animal.txt."
    )


class Zip(AxisSpec):
    """Axes of equal length that advance together: {zip: {prompt: [a, b], seed: [1, 2]}}."""

    zip: dict[str, SingleAxis] = Field(description="Axis name → axis, of any kind that makes a single axis.")


# The keys that tell kinds of axes apart, the first that is there decides; the kind is tagged with it.
_KIND_KEYS: Final = (
    *("values", "zip", "lines", "csv", "images", "board", "settings", "replace", "dynamic"),
    *("count", "num", "step", "stop", "start"),
)
AXIS_TAGS: Final = frozenset({"<list>", *(f"<{key}>" for key in _KIND_KEYS)})
AXIS_KEYS: Final = (*_KIND_KEYS, "scale", "target", "with", "column", "columns", "wildcards")


def find_kind_key(keys: Container[str]) -> str | None:
    """Find the key that tells which kind of axis has these keys; None where none does."""
    key = next((key for key in _KIND_KEYS if key in keys), None)
    return "step" if key in ("stop", "start") else key


def _choose_tag(raw: Any) -> str | None:
    if isinstance(raw, list):
        return "<list>"
    key = find_kind_key(raw) if isinstance(raw, dict) else None
    return key and f"<{key}>"


_Single: TypeAlias = (
    Annotated[list[ScalarField], Tag("<list>")]
    | Annotated[StepRange, Tag("<step>")]
    | Annotated[CountRange, Tag("<num>")]
    | Annotated[Seeds, Tag("<count>")]
    | Annotated[Labelled, Tag("<values>")]
    | Annotated[TextLines, Tag("<lines>")]
    | Annotated[CsvColumns, Tag("<csv>")]
    | Annotated[Images, Tag("<images>")]
    | Annotated[BoardImages, Tag("<board>")]
    | Annotated[SettingsFile, Tag("<settings>")]
    | Annotated[Replace, Tag("<replace>")]
    | Annotated[Dynamic, Tag("<dynamic>")]
)
SingleAxis: TypeAlias = Annotated[_Single, Discriminator(_choose_tag)]
AnyAxis: TypeAlias = Annotated[_Single | Annotated[Zip, Tag("<zip>")], Discriminator(_choose_tag)]


def list_known_keys(keys: Container[str]) -> tuple[str, ...]:
    """List the keys that an axis may have which has these."""
    kind = find_kind_key(keys)
    model = next((model for model in AxisSpec.__subclasses__() if find_kind_key(model.model_fields) == kind), None)
    return tuple(field.alias or name for name, field in model.model_fields.items()) if model else AXIS_KEYS


def _expand_design(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _expand_axes(value: Any) -> Any:
    """Expand short forms: `zip:` as an axis is the zip itself, `board:NAME` all images of a board."""
    if isinstance(value, dict):
        boards = {name: spec for name, spec in value.items() if isinstance(spec, str) and spec.startswith("board:")}
        value = {**value, **{name: {"board": spec.removeprefix("board:")} for name, spec in boards.items()}}
    inner = value.get("zip") if isinstance(value, dict) else None
    if isinstance(inner, dict) and not isinstance(inner.get("zip"), dict):
        return {**value, "zip": {"zip": inner}}
    return value


class DesignSpec(Strict):
    """Selects the points of the grid that are rendered."""

    kind: Literal["full", "random", "sobol", "halton", "lhs", "one_at_a_time", "rotated", "adaptive"] = Field(
        description="full: every point. random: a random sample without repetition. sobol, halton, lhs: points spread "
        "evenly over all axes (space-filling). one_at_a_time: the baseline, and each axis varied alone. rotated: each "
        "combination with some of the seeds, which take turns. adaptive: the images that show where a metric misses a "
        "threshold, chosen one after the other."
    )
    points: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="How many points, each with every seed (random, sobol, halton, lhs).",
    )
    seeds: Literal["all", "one"] = Field(
        default="all",
        description="all: render each drawn point with every seed. one: treat the seeds as any other axis (random, "
        "sobol, halton, lhs, one_at_a_time).",
    )
    share: float | None = Field(default=None, gt=0, le=1, description="rotated: the part of the full grid to render.")
    axis: str | None = Field(default=None, description="adaptive: the axis along which to look for the threshold.")
    metric: str | None = Field(default=None, description="adaptive: the metric that shall keep to the threshold.")
    threshold: float | None = Field(default=None, description="adaptive: the value of the metric to look for.")
    for_: str | None = Field(
        default=None,
        alias="for",
        pattern=r"^(each|weakest) \S+$",
        description='adaptive: "each prompt" finds where each prompt misses the threshold; "weakest prompt" finds '
        "which one misses it first, and where. Instead of prompt: the name of an axis.",
    )
    within: float | None = Field(
        default=None,
        gt=0,
        description='adaptive with "each": the wanted half width of the 95 % interval, in units of the axis.',
    )
    at_most: float = Field(
        default=0.3, gt=0, le=1, description="adaptive: the largest part of the full grid to render."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the sample: the same seed selects the same points.")
    baseline: dict[str, ScalarField] = Field(
        default_factory=dict,
        description="one_at_a_time: axis → its value while another axis varies. Default: its first value.",
    )

    @model_validator(mode="after")
    def _check_points(self) -> DesignSpec:
        drawn = self.kind in _DRAWN
        if drawn and self.points is None:
            raise ValueError(f"{self.kind} needs points: how many")
        if not drawn and self.points is not None:
            raise ValueError(f"{self.kind} knows itself how many points it has; leave points out")
        if self.baseline and self.kind != "one_at_a_time":
            raise ValueError("baseline belongs to one_at_a_time")
        if self.seeds == "one" and not drawn and self.kind != "one_at_a_time":
            raise ValueError(f"{self.kind} renders several seeds; leave seeds: one out")
        if (self.share is None) == (self.kind == "rotated"):
            raise ValueError("share belongs to rotated" if self.share else "rotated needs share: a part of the grid")
        for name, meaning in _ADAPTIVE_KEYS.items():
            value = self.for_ if name == "for" else getattr(self, name)
            if self.kind != "adaptive" and value is not None:
                raise ValueError(f"{name} belongs to adaptive")
            if self.kind == "adaptive" and value is None and not (name == "within" and self.goal == "weakest"):
                raise ValueError(f"adaptive needs {name}: {meaning}")
        return self

    @property
    def goal(self) -> Literal["each", "weakest"]:
        """The goal of an adaptive design: the threshold of each group, or of the group that misses it first."""
        return "weakest" if (self.for_ or "").startswith("weakest") else "each"

    def count_most(self, points: int) -> int:
        """Count the most points of a grid of `points` that a run renders."""
        return math.floor(self.at_most * points + 1e-9) if self.kind == "adaptive" else points


_DRAWN: Final = ("random", "sobol", "halton", "lhs")
_ADAPTIVE_KEYS: Final = {
    "axis": "along which to look",
    "metric": "which shall keep to the threshold",
    "threshold": "a value of the metric",
    "for": "each prompt, or weakest prompt",
    "within": "half the width of the interval",
}
FULL_DESIGN: Final = DesignSpec(kind="full")


class StudySpec(Strict):
    """How to measure the images."""

    metrics: tuple[str, ...] = Field(
        default_factory=tuple, strict=False, description="Names of metrics. Default: the standard metrics."
    )
    replicates: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="How often each point is rendered with equal settings, to measure the noise floor.",
    )
    baseline: dict[str, ScalarField] = Field(
        default_factory=dict, description="axis → value: the point that txt2img images are compared with."
    )


def _extend_inputs_schema(schema: dict[str, Any]) -> None:
    schema["properties"] = {
        name: {"description": (CONTROLS if name == "controls" else ROLE_TABLE[name]).means} for name in INPUT_NAMES
    }
    schema["patternProperties"] = {NUMBERED: {"description": "One of several inputs with the same role."}}
    schema["additionalProperties"] = {"description": "A node.field address of the workflow."}


class ExperimentFile(Strict):
    """An experiment: a workflow, what is fixed, what is varied."""

    model_config = ConfigDict(title="sweep experiment")

    name: str | None = Field(
        default=None, description="Name of the results folder. Default: the name of the file. Letters, digits, - _ ."
    )
    description: str = Field(default="", description="The question this experiment answers.")
    include: Texts = Field(
        default=(),
        description="Base file(s) that this file builds on. inputs, axes and roles are merged entry by entry (null "
        "removes an axis); all other keys replace those of the base. Paths in a base file start from its folder.",
    )
    folder: str | None = Field(
        default=None, description="Folder that relative paths start from. Default: the folder of the file."
    )
    workflow: str = Field(
        description=f"A built-in template ({', '.join(TEMPLATE_NAMES)}), or the path of a workflow: an editor export, "
        "an API graph, or an image that contains a workflow; or library:NAME of a server's library."
    )
    inputs: dict[str, SettingField] = Field(
        default_factory=dict,
        description="What is the same for every image: role or node.field → value. An axis overrides an input. "
        "A number selects one of several: lora_weight_2.",
        json_schema_extra=_extend_inputs_schema,
    )
    axes: Annotated[dict[str, AnyAxis], BeforeValidator(_expand_axes)] = Field(
        default_factory=dict,
        description="What is varied: axis → values. The first axis varies slowest. The name of an axis is the "
        "role or node.field that it sets; an axis with another name needs target or labelled values. Axes under zip "
        "advance together: zip: {prompt: [a, b], seed: [1, 2]}; give a second zip a name: looks: {zip: {…}}.",
    )
    where: Texts = Field(
        default=(),
        description="Render only points that meet this condition: denoise_strength < 0.5 or seed == 42. In a list, all "
        "conditions must be met. Put a name with a space between backticks.",
    )
    exclude: Texts = Field(
        default=(), description="Leave out points that meet this condition. In a list, any condition is enough."
    )
    design: Annotated[DesignSpec, BeforeValidator(_expand_design)] = Field(
        default=FULL_DESIGN,
        description="The points of the grid to render. Default: all.",
    )
    roles: dict[str, Texts] = Field(
        default_factory=dict,
        description="role → node.field address(es), if a role is ambiguous in the workflow or should set other fields.",
    )
    servers: tuple[str, ...] = Field(
        default_factory=tuple, strict=False, description="URLs of servers to render on. --server overrides them."
    )
    board: str | None = Field(
        default=None, description="Board on the server for the images. sweep creates it if it is missing, and says so."
    )
    study: StudySpec = Field(
        default_factory=StudySpec, description="Settings of the study: how the images are measured."
    )


MERGED: Final = ("inputs", "axes", "roles")  # sections that are merged entry by entry; all else is replaced


def list_section_keys() -> dict[str, tuple[str, ...]]:
    """List the sections of an experiment file, each with the keys it knows; none where it is a value or knows any."""
    keys: dict[str, tuple[str, ...]] = dict.fromkeys(ExperimentFile.model_fields, ())
    keys["design"] = tuple(field.alias or name for name, field in DesignSpec.model_fields.items())
    keys["study"] = tuple(StudySpec.model_fields)
    return keys


def make_experiment_schema() -> dict[str, Any]:
    """Make the JSON Schema (2020-12) of an experiment file, for editors and for the documentation."""
    schema = ExperimentFile.model_json_schema(by_alias=True)
    zipped = schema["$defs"]["Zip"]["properties"]["zip"]
    schema["properties"]["axes"]["properties"] = {"zip": {"anyOf": [zipped, {"$ref": "#/$defs/Zip"}]}}
    design = schema["properties"]["design"]
    words = {"enum": ["full", "one_at_a_time"]}
    schema["properties"]["design"] = {
        "anyOf": [words, {"$ref": "#/$defs/DesignSpec"}],
        "default": "full",
        "description": design["description"],
    }
    study = ExperimentFile.model_fields["study"].description
    schema["properties"]["study"] = {"$ref": "#/$defs/StudySpec", "description": study}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
