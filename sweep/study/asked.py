"""What an experiment asks of its study: the `study:` section, read again from the experiment as it was run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sweep.study.contract import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Name, metrics and baseline; empty where the experiment does not say."""

    name: str | None = None
    metrics: tuple[str, ...] = ()
    baseline: Group = field(default_factory=dict)


def asked_of(experiment_text: str | None) -> Asked:
    """From the YAML in the record. It was checked when it was run; what does not read is taken as not said."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        loaded = YAML(typ="safe", pure=True).load(experiment_text or "")
    except YAMLError:
        return Asked()
    if not isinstance(loaded, Mapping):
        return Asked()
    section = loaded.get("study")
    section = section if isinstance(section, Mapping) else {}
    metrics = section.get("metrics") or ()
    baseline = section.get("baseline") or {}
    name = loaded.get("name")
    return Asked(
        name=str(name) if name is not None else None,
        metrics=tuple(map(str, metrics)) if isinstance(metrics, list) else (),
        baseline={str(axis): level for axis, level in baseline.items()} if isinstance(baseline, Mapping) else {},
    )
