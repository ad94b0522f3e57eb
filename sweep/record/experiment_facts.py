"""What study and report read of an experiment: `ExperimentFacts`, which the engine writes into the journal.

Study and report may not import the experiment layer, and reading its YAML a second time in each of them read it in
three ways. So the engine, which has the experiment loaded, writes these facts as JSON when a run begins. A journal of
sweep 0.1 has none: there, and only there, the YAML on record is read again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from sweep.types import Scalar

MOST_LEVELS: Final = 1000  # of one axis, kept in the facts
MOST_LEFT_OUT: Final = 5000  # combinations that conditions leave out, kept in the facts


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentAxis:
    """One axis, with the number of its levels (0 where unknown) and the first 1,000 of them as in the results table."""

    name: str
    kind: str
    size: int = 0
    levels: tuple[Scalar, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentFacts:
    """An experiment in plain JSON values; an image is its path as written."""

    name: str | None = None  # None where it is not known
    description: str = ""
    workflow: str = ""  # as written: a template's name or a path
    inputs: Mapping[str, Any] = field(default_factory=dict)  # role or node.field → value
    axes: tuple[ExperimentAxis, ...] = ()  # the slowest first
    conditions: tuple[str, ...] = ()  # where and exclude, as written
    left_out: tuple[tuple[int, ...], ...] = ()  # what they leave out: a level's number for each axis; () if too many
    metrics: tuple[str, ...] = ()  # that the study section asks for; empty: the standard panel
    baseline: Mapping[str, Scalar] = field(default_factory=dict)  # axis → level, of the study section
    replicates: int = 1  # of the study section

    def to_json(self) -> str:
        """Return the facts as one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the facts that `to_json` wrote; keys of a later version are left out. Raises ValueError."""
        data = {key: value for key, value in json.loads(text).items() if key in cls.__dataclass_fields__}
        axes = tuple(
            ExperimentAxis(name=axis["name"], kind=axis["kind"], size=axis["size"], levels=tuple(axis["levels"]))
            for axis in data.pop("axes", ())
        )
        texts = {name: tuple(data.get(name, ())) for name in ("metrics", "conditions")}
        left_out = tuple(tuple(point) for point in data.get("left_out", ()))
        return cls(**{**data, **texts, "axes": axes, "left_out": left_out})

    @classmethod
    def from_yaml(cls, text: str, axes: Sequence[tuple[str, str]] = ()) -> Self:
        """Read the facts from an experiment's YAML, for a journal of sweep 0.1.

        The file was checked when it was run, so what does not read is left out. `axes` are (name, kind).
        """
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            loaded = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            loaded = None
        data = _mapping(loaded)
        study = _mapping(data.get("study"))
        metrics = study.get("metrics")
        replicates = study.get("replicates")
        return cls(
            name=str(data["name"]) if data.get("name") is not None else None,
            description=str(data.get("description") or ""),
            workflow=str(data.get("workflow") or ""),
            inputs=_mapping(data.get("inputs")),
            axes=tuple(ExperimentAxis(name=name, kind=kind) for name, kind in axes),
            metrics=tuple(map(str, metrics)) if isinstance(metrics, list) else (),
            baseline=_mapping(study.get("baseline")),
            replicates=replicates if isinstance(replicates, int) else 1,
        )


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): each for key, each in value.items()} if isinstance(value, Mapping) else {}
