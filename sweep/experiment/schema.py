"""The shape of an experiment file, as strict models. Their descriptions are its documentation and its JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from sweep.experiment.axis_schema import AnyAxis, Scalar, Setting, Strict, Texts
from sweep.experiment.vocabulary import CONTROLS, INPUT_NAMES, NUMBERED, ROLES, TEMPLATE_NAMES

SCHEMA_FILE: Final = "experiment.schema.json"


def _design(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _axes(value: Any) -> Any:
    """`zip:` as an axis is the zip itself."""
    inner = value.get("zip") if isinstance(value, dict) else None
    if isinstance(inner, dict) and not isinstance(inner.get("zip"), dict):
        return {**value, "zip": {"zip": inner}}
    return value


class DesignSpec(Strict):
    """Which points of the grid are rendered, where not all are."""

    kind: Literal["full", "random", "sobol", "halton", "lhs", "one_at_a_time"] = Field(
        description="full: every point. random: points drawn without repetition. sobol, halton, lhs: points spread "
        "evenly over all axes (space-filling). one_at_a_time: the baseline, and from it each axis by itself."
    )
    points: int | None = Field(
        default=None, ge=1, le=1_000_000, description="How many points (random, sobol, halton, lhs)."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the draw: the same seed draws the same points.")
    baseline: dict[str, Scalar] = Field(
        default_factory=dict,
        description="one_at_a_time: axis → value that it has while another varies; its first value where left out.",
    )

    @model_validator(mode="after")
    def _points_where_drawn(self) -> DesignSpec:
        drawn = self.kind in ("random", "sobol", "halton", "lhs")
        if drawn and self.points is None:
            raise ValueError(f"{self.kind} needs points: how many")
        if not drawn and self.points is not None:
            raise ValueError(f"{self.kind} knows itself how many points it has; leave points out")
        if self.baseline and self.kind != "one_at_a_time":
            raise ValueError("baseline belongs to one_at_a_time")
        return self


class StudySpec(Strict):
    """How the pictures are measured."""

    metrics: list[str] = Field(default_factory=list, description="Names of metrics; the standard panel where empty.")
    replicates: int = Field(
        default=1, ge=1, le=1000, description="How often each point is rendered with everything equal (noise floor)."
    )
    baseline: dict[str, Scalar] = Field(
        default_factory=dict, description="axis → value: the cell that txt2img pictures are compared with."
    )


def _inputs_schema(schema: dict[str, Any]) -> None:
    schema["properties"] = {
        name: {"description": (CONTROLS if name == "controls" else ROLES[name]).means} for name in INPUT_NAMES
    }
    schema["patternProperties"] = {NUMBERED: {"description": "One of several that the workflow has of a role."}}
    schema["additionalProperties"] = {"description": "A node.field address of the workflow."}


class ExperimentFile(Strict):
    """An experiment: a workflow, what is fixed, what is varied."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, title="sweep experiment")

    name: str | None = Field(
        default=None, description="Names the results folder; the file's own name where left out. Letters, digits, - _ ."
    )
    description: str = Field(default="", description="The question this experiment answers.")
    include: Texts = Field(
        default=(),
        description="Base file(s) that this one is laid over. inputs, axes and roles are merged entry by entry "
        "(an axis set to null is taken out), everything else is replaced. Paths in a base file start from its folder.",
    )
    folder: str | None = Field(
        default=None, description="Where relative paths start from; the file's own folder where left out."
    )
    workflow: str = Field(
        description=f"A built-in template ({', '.join(TEMPLATE_NAMES)}), or the path of a workflow: an editor export, "
        "an API graph, or a picture with one in it."
    )
    inputs: dict[str, Setting] = Field(
        default_factory=dict,
        description="What is fixed for the whole experiment: role or node.field → value. An axis wins over an input. "
        "A number says which of several is meant: lora_weight_2.",
        json_schema_extra=_inputs_schema,
    )
    axes: Annotated[dict[str, AnyAxis], BeforeValidator(_axes)] = Field(
        default_factory=dict,
        description="What is varied: axis → values. The first axis varies slowest. An axis is named by the role or "
        "node.field it sets; under any other name it says so itself (target, or labelled values). Axes under zip step "
        "together: zip: {prompt: [a, b], seed: [1, 2]}; a second zip has a name: looks: {zip: {…}}.",
    )
    where: Texts = Field(
        default=(),
        description="Only points for which this holds count, over axis names: denoise_strength < 0.5 or seed == 42. "
        "A list: all of them. A name with a space stands between backticks.",
    )
    exclude: Texts = Field(default=(), description="Points for which this holds do not count. A list: any of them.")
    design: Annotated[DesignSpec, BeforeValidator(_design)] = Field(
        default=DesignSpec(kind="full"),
        description="Which points of the grid are rendered; all of them where left out.",
    )
    roles: dict[str, Texts] = Field(
        default_factory=dict,
        description="role → node.field address(es), where the workflow alone leaves it open or another is meant.",
    )
    servers: list[str] = Field(
        default_factory=list, description="URLs of servers to render on; --server takes their place."
    )
    board: str | None = Field(
        default=None, description="Board on the server that the pictures go to; created where it is missing."
    )
    study: StudySpec = Field(default_factory=StudySpec, description="How the pictures are measured.")


def section_keys() -> dict[str, tuple[str, ...]]:
    """The sections of an experiment file, each with the keys it knows; empty where it is a value or knows any."""
    keys: dict[str, tuple[str, ...]] = dict.fromkeys(ExperimentFile.model_fields, ())
    keys["design"] = tuple(DesignSpec.model_fields)
    keys["study"] = tuple(StudySpec.model_fields)
    return keys


def experiment_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of an experiment file, for editors and for the documentation."""
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
