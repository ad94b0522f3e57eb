"""Strict pydantic models of an experiment file, and plain sentences for the errors that pydantic finds in a file.

There is one model for each kind of axis; the key that only one of them has tells them apart. `file_keys.yaml` documents
every key, for the JSON Schema and the pages made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from importlib import resources
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from ruamel.yaml import YAML

from sweep.errors import did_you_mean
from sweep.experiment.problems import DocumentPath, ProblemCollector, join_path
from sweep.experiment.range_notation import suggest_axis
from sweep.experiment.yaml_document import MERGED, Document, quote_source
from sweep.role_table import CONTROLS, INPUT_NAMES, NUMBERED, ROLE_TABLE, TEMPLATE_NAMES, quote


def _require(is_right: Callable[[Any], bool], message: str) -> BeforeValidator:
    """Make a validator that refuses other values; the message names the value where it says {}."""

    def validate(value: Any) -> Any:
        if not is_right(value):
            raise ValueError(message.format(quote(value)))
        return value

    return BeforeValidator(validate)


def _make_whole(value: Any) -> Any:
    """Make a whole number of one that is written with decimals or an exponent: 20.0, 1e3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _validate_texts(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        if not (isinstance(item, str) and item.strip()):
            wrong = "must be text or a list of texts, not {}"
            raise ValueError("must not be empty" if isinstance(item, str) else wrong.format(quote(item)))
    return tuple(items)


def _validate_labelled(value: Any) -> Any:
    wrong = next((item for item in value if not _is_scalar(item)), None) if isinstance(value, list) else None
    if wrong is not None:
        raise ValueError(_NOT_SCALAR.format(quote(wrong)))
    if isinstance(value, list | dict):
        return value
    raise ValueError(f"must be a mapping of labels or a list of values, not {quote(value)}")


def _expand_columns(value: Any) -> Any:
    is_list = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return {name: name for name in value} if is_list else value


_NOT_SCALAR: Final = "must be one plain value, not {}; values with parts get a label: values: {{…}}"
_ONE_OR_MORE: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}

# Where a file may say a thing in two ways, it is brought into one before it is checked: one problem, one message.
NumberField: TypeAlias = Annotated[
    int | float,
    _require(lambda value: type(value) in (int, float), "must be a number, not {}"),
    WithJsonSchema({"type": "number"}),
]
ScalarField: TypeAlias = Annotated[
    str | int | float | bool | None,
    _require(_is_scalar, _NOT_SCALAR),
    WithJsonSchema({"type": ["string", "number", "boolean", "null"]}),
]
WholeField: TypeAlias = Annotated[int, BeforeValidator(_make_whole)]
Texts: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_validate_texts), WithJsonSchema(_ONE_OR_MORE)]
SettingField: TypeAlias = Any  # judged by what it sets, not by the shape of the file


class Strict(BaseModel):
    """Unknown keys are errors, and nothing is converted: "20" is not 20."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AxisSpec(Strict):
    """The key that every axis written as a mapping may have."""

    default_targets: ClassVar[tuple[str, ...] | None] = None  # what it sets if neither `target` nor its name says it

    target: Texts = ()


class StepRange(AxisSpec):
    """Numbers from start to stop in steps."""

    start: NumberField
    stop: NumberField
    step: NumberField


class CountRange(AxisSpec):
    """A number of values from start to stop, both included: {start: 1, stop: 16, num: 5, scale: log}."""

    start: NumberField
    stop: NumberField
    num: WholeField = Field(ge=1, le=1_000_000_000)
    scale: Literal["linear", "log"] = "linear"


class Seeds(AxisSpec):
    """Seeds that are counted up, drawn by the first run, or drawn for each combination."""

    count: WholeField = Field(ge=1, le=1_000_000_000)
    start: WholeField | None = None
    each_cell: bool = False


class Labelled(AxisSpec):
    """Values with names, each of which sets one target or several."""

    values: Annotated[
        Any, BeforeValidator(_validate_labelled), WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "array"}]})
    ]


class TextLines(AxisSpec):
    """Lines of a text file, one value each: {lines: prompts.txt}. Lines that are empty or begin with # are ignored."""

    lines: str


class CsvColumns(AxisSpec):
    """Values of one column of a CSV file, or of several columns that advance together."""

    csv: str
    column: str | None = None
    columns: Annotated[
        dict[str, str], BeforeValidator(_expand_columns, json_schema_input_type=list[str] | dict[str, str])
    ] = Field(default_factory=dict)
    title: str | None = None
    count: str | None = None

    @model_validator(mode="after")
    def _check_one_given(self) -> CsvColumns:
        if self.columns and (self.column is not None or self.target):
            raise ValueError(f"has both {'target' if self.target else 'column'} and columns; one of them")
        if (self.title or self.count) and not self.columns:
            raise ValueError("has a title or count, which go with columns: write columns: {prompt: COLUMN}, not column")
        return self


class Images(AxisSpec):
    """Image files by pattern, sorted by name: {images: "shots/*.jpg"}. Sets `image` if there is no `target`."""

    default_targets = ("image",)

    images: Texts


class BoardImages(AxisSpec):
    """Images of a board of the server's gallery, the oldest first."""

    default_targets = ("image",)

    board: str = Field(min_length=1)


class SettingsFile(AxisSpec):
    """Settings from a JSON or YAML file, each with a label."""

    default_targets = ()

    settings: str


class Replace(AxisSpec):
    """Search and replace in the prompt."""

    default_targets = ("prompt",)

    replace: str = Field(min_length=1)
    with_: list[str] = Field(alias="with")


class Dynamic(AxisSpec):
    """Prompts in the dynamic-prompts syntax, every combination once."""

    default_targets = ("prompt",)

    dynamic: Texts
    wildcards: str | None = None


class Zip(Strict):
    """Axes of equal length that advance together: {zip: {prompt: [a, b], seed: [1, 2]}}."""

    zip: dict[str, SingleAxis]


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


def _list_keys(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in model.model_fields.items())


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

    kind: Literal["full", "random", "sobol", "halton", "lhs", "one_at_a_time", "rotated", "adaptive"]
    points: Annotated[int | None, BeforeValidator(_make_whole)] = Field(default=None, ge=1, le=1_000_000)
    seeds: Literal["all", "one"] = "all"
    share: float | None = Field(default=None, gt=0, le=1)
    axis: str | None = None
    metric: str | None = None
    threshold: float | None = None
    for_: str | None = Field(default=None, alias="for", pattern=r"^(each|weakest) \S+$")
    within: float | None = Field(default=None, gt=0)
    at_most: float = Field(default=0.3, gt=0, le=1)
    seed: WholeField = Field(default=0, ge=0)
    baseline: dict[str, ScalarField] = Field(default_factory=dict)

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
        """Return the goal of an adaptive design: the threshold of each group, or of the group that misses it first."""
        return "weakest" if (self.for_ or "").startswith("weakest") else "each"


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
    """Settings for measuring the images."""

    metrics: tuple[str, ...] = Field(default_factory=tuple, strict=False)
    replicates: WholeField = Field(default=1, ge=1, le=1000)
    baseline: dict[str, ScalarField] = Field(default_factory=dict)


def _extend_inputs_schema(schema: dict[str, Any]) -> None:
    schema["properties"] = {
        name: {"description": (CONTROLS if name == "controls" else ROLE_TABLE[name]).means} for name in INPUT_NAMES
    }
    schema["patternProperties"] = {NUMBERED: {"description": "One of several inputs with the same role."}}
    schema["additionalProperties"] = {"description": "A node.field address of the workflow."}


class ExperimentFile(Strict):
    """An experiment: a workflow, what is fixed, what is varied."""

    model_config = ConfigDict(title="sweep experiment")

    name: str | None = None
    description: str = ""
    include: Texts = ()
    folder: str | None = None
    workflow: str
    inputs: dict[str, SettingField] = Field(default_factory=dict, json_schema_extra=_extend_inputs_schema)
    axes: Annotated[dict[str, AnyAxis], BeforeValidator(_expand_axes)] = Field(default_factory=dict)
    where: Texts = ()
    exclude: Texts = ()
    design: Annotated[
        DesignSpec, BeforeValidator(lambda value: {"kind": value} if isinstance(value, str) else value)
    ] = FULL_DESIGN
    roles: dict[str, Texts] = Field(default_factory=dict)
    servers: tuple[str, ...] = Field(default_factory=tuple, strict=False)
    board: str | None = None
    study: StudySpec = Field(default_factory=StudySpec)


def list_section_keys() -> dict[str, tuple[str, ...]]:
    """List the sections of an experiment file, each with the keys it knows; none where it is a value or knows any."""
    keys: dict[str, tuple[str, ...]] = dict.fromkeys(ExperimentFile.model_fields, ())
    return keys | {"design": _list_keys(DesignSpec), "study": _list_keys(StudySpec)}


def make_experiment_schema() -> dict[str, Any]:
    """Make the JSON Schema (2020-12) of an experiment file, for editors and for the documentation."""
    schema = ExperimentFile.model_json_schema(by_alias=True)
    _describe_keys({"ExperimentFile": schema, **schema["$defs"]})
    properties = schema["properties"]
    zipped = schema["$defs"]["Zip"]["properties"]["zip"]
    properties["axes"]["properties"] = {"zip": {"anyOf": [zipped, {"$ref": "#/$defs/Zip"}]}}
    properties["design"] = {
        "anyOf": [{"enum": ["full", "one_at_a_time"]}, {"$ref": "#/$defs/DesignSpec"}],
        "default": "full",
        "description": properties["design"]["description"],
    }
    properties["study"] = {"$ref": "#/$defs/StudySpec", "description": properties["study"]["description"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _describe_keys(models: Mapping[str, dict[str, Any]]) -> None:
    """Put the documentation of every key, which is in a file of its own, into the schemas of the models."""
    text = resources.files("sweep.experiment").joinpath("file_keys.yaml").read_text(encoding="utf-8")
    texts = YAML(typ="safe", pure=True).load(text.replace("{templates}", ", ".join(TEMPLATE_NAMES)))
    for name, schema in models.items():
        described = {**texts["AxisSpec"], **texts[name]}
        schema["description"] = described.get("about", schema["description"])
        for key, part in schema["properties"].items():
            schema["properties"][key] = dict(sorted({**part, "description": described[key]}.items()))


def validate_shape(document: Document, problems: ProblemCollector[DocumentPath]) -> ExperimentFile:
    """Validate the file's shape; leave out what has problems, so that the rest is checked too."""
    data = document.data
    try:
        return ExperimentFile.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    pruned = {key: dict(part) if isinstance(part, dict) else part for key, part in data.items()}
    misspelt = {_locate(detail["loc"], document)[:-1] for detail in details if detail["type"] == "extra_forbidden"}
    for detail in details:
        place = _locate(detail["loc"], document)
        if not (detail["type"] == "missing" and place[0] == "axes" and place[:-1] in misspelt):  # one slip, one problem
            _report(problems, document, place, detail)
        section = pruned.get(str(place[0]))
        if len(place) > 1 and place[0] in MERGED and isinstance(section, dict):
            section.pop(str(place[1]), None)
        else:
            pruned.pop(str(place[0]), None)
    pruned.setdefault("workflow", TEMPLATE_NAMES[0])
    return ExperimentFile.model_validate(pruned)


def _locate(loc: Sequence[str | int], document: Document) -> DocumentPath:
    """Find the place in the file that pydantic means, which adds the kind of an axis and, below `axes.zip`, a zip."""
    place: DocumentPath = tuple(part for part in loc if part not in AXIS_TAGS)
    if place[:3] == ("axes", "zip", "zip") and place[:3] not in document.keys:
        return ("axes", *place[2:])
    return place


_MESSAGES: Final = {  # by pydantic's type of error
    "string_type": "must be text, not {raw}",
    "int_type": "must be a whole number, not {raw}",
    "bool_type": "must be true or false, not {raw}",
    "list_type": "must be a list, not {raw}",
    "tuple_type": "must be a list, not {raw}",
    "dict_type": "must be a mapping, not {raw}",
    "model_type": "must be a mapping, not {raw}",
    "greater_than_equal": "is {raw}, but must be at least {ge}",
    "less_than_equal": "is {raw}, but must be at most {le}",
    "string_too_short": "must not be empty",
    "union_tag_invalid": "is a zip inside a zip; list its axes in the outer one",
    "value_error": "{error}",
}


def _report(problems: ProblemCollector[DocumentPath], document: Document, place: DocumentPath, detail: Any) -> None:
    kind, raw, name, context = detail["type"], detail.get("input"), join_path(place), detail.get("ctx", {})
    if kind == "extra_forbidden":
        problems.add_at_key(place, _describe_unknown_key(place, document.data))
    elif kind == "missing":
        above, last = join_path(place[:-1]), place[-1]
        problems.add_at_key(place[:-1], f"{above} needs {last}" if above else f"{last} is missing")
    elif kind == "union_tag_not_found":
        problems.add_at_key(place, _describe_no_axis(name, raw))
    else:
        said = _MESSAGES[kind].format(raw=quote(raw), **context) if kind in _MESSAGES else str(detail["msg"]).lower()
        if kind == "literal_error":
            near = did_you_mean(raw, re.findall(r"'([^']+)'", context["expected"])) if isinstance(raw, str) else ""
            said = f"must be {context['expected'].replace(chr(39), '')}, not {quote(raw)}.{near}"
        if kind == "string_type" and isinstance(raw, int | float):
            said += f'; text that looks like something else needs quotes: "{quote(raw)}"'
        problems.add_at_value(place, quote_source(document, place, f"{name} {said}".strip()))


def _describe_unknown_key(place: DocumentPath, data: Mapping[str, Any]) -> str:
    """Name the nearest key that could stand there, or say that the unknown one belongs to another kind."""
    last, holder = str(place[-1]), data
    for part in place[:-1]:
        inner = holder.get(str(part))
        holder = inner if isinstance(inner, dict) else {}
    if len(place) == 1 and last in INPUT_NAMES:
        return f"{last} is not known here; write it under inputs."
    if len(place) == 1:
        known: Sequence[str] = tuple(ExperimentFile.model_fields)
    else:
        kind = find_kind_key(holder)
        models = (model for model in AxisSpec.__subclasses__() if find_kind_key(model.model_fields) == kind)
        axis_keys = next(map(_list_keys, models), AXIS_KEYS)
        known = axis_keys if place[0] == "axes" else list_section_keys().get(str(place[0]), ())
    beside = [key for key in holder if key != last]
    if place[0] == "axes" and len(place) > 2 and last in AXIS_KEYS:
        others = ", ".join(key for key in beside if key in known)
        return f"{join_path(place[:-1])} cannot have {last} beside {others}"
    near = did_you_mean(last, [key for key in known if key not in beside])
    if not near and place[0] == "axes":
        near = did_you_mean(last, AXIS_KEYS)
    return f"{join_path(place)} is not known here.{near}"


def _describe_no_axis(name: str, raw: Any) -> str:
    if raw is None or raw == {}:
        return f"{name} is empty; an axis needs at least one value"
    if isinstance(raw, dict):
        near = did_you_mean(str(next(iter(raw))), AXIS_KEYS)
        if not near and all(isinstance(part, dict) for part in raw.values()):
            near = " If these are labels, write values: above them."
        return f"{name} is not a kind of axis: it has {', '.join(map(str, raw))}.{near}"
    meant = suggest_axis(name.rpartition(".")[2], raw) if isinstance(raw, str) else None
    if meant:
        return f"{name}: in a file, write {meant}, not {quote(raw)}"
    return f"{name} must be a list or a mapping, not {quote(raw)}; for one fixed value, set it under inputs"
