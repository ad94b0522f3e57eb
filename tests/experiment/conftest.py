"""Fixtures: a folder with the files that experiments name, and experiments made of axes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from sweep.errors import DefinitionError
from sweep.experiment.axes import Setting
from sweep.experiment.experiment import Experiment
from sweep.experiment.grid import Variation
from sweep.experiment.problems import Mark

Load: TypeAlias = Callable[..., Experiment]
Fail: TypeAlias = Callable[..., list[str]]


def image(path: Path, size: tuple[int, int] = (8, 6), colour: str = "red") -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Has a space in its name; holds shots/a.png and "shots/b c.png", and bad.png, which is none."""
    top = tmp_path / "my experiments"
    image(top / "shots" / "a.png")
    image(top / "shots" / "b c.png", (4, 4), "blue")
    (top / "bad.png").write_text("this is text")
    return top


@pytest.fixture
def load(folder: Path) -> Load:
    """Writes the text to a file and loads it."""

    def loader(text: str, overrides: Sequence[str] = (), name: str = "test.yaml") -> Experiment:
        path = folder / name
        path.write_text(text, encoding="utf-8")
        return Experiment.load(path, overrides)

    return loader


@pytest.fixture
def faults(load: Load) -> Fail:
    """What is said of a wrong file: one line a problem, or the one sentence."""

    def failing(text: str, overrides: Sequence[str] = ()) -> list[str]:
        with pytest.raises(DefinitionError) as caught:
            load(text, overrides)
        assert caught.value.exit_code == 2
        return [str(problem) for problem in caught.value.problems] or [str(caught.value)]

    return failing


def with_axes(axes: dict[str, Any], **more: Any) -> Experiment:
    return Experiment.from_dict({"workflow": "txt2img", "axes": axes, **more})


def mark_place(mark: Mark | None) -> tuple[int, int]:
    """Line and column."""
    assert mark is not None
    return mark.line, mark.column


def settings_at(
    experiment: Experiment, variation: Variation, defaults: Mapping[str, Setting] | None = None
) -> dict[str, Setting]:
    """Everything that a variation sets, by target; `defaults` are the workflow's own values."""
    assignments = experiment.assignments
    return assignments.merge(assignments, variation.levels, defaults or {})


def values_of(experiment: Experiment, axis: str) -> list[Any]:
    return next([level.value for level in a.levels] for a in experiment.axes if a.name == axis)


TYPO = """\
name: typo
workflow: img2im
inputs:
  denoise_strenght: 0.4
  image: bad.png
  control_image: nope.png
  steps: 0
  cfg_scale: "7"
  seed: -1
  width: 2.5
descriptoin: foo
axes:
  denoise_strength: {start: 0.2, stop: 1.2, step: 0.2}
  zip:
    prompt: [a, b, c]
    seed: [1, 2, 3, 4]
  a.b: {start: 1, stop: 2, stpe: 1}
where: denoise_strength > 0.3 and sed == 1
exclude:
  - seed = 3
  - nope in [1, 2]
design: {kind: randm, points: 3}
roles: {promt: x, prompt: [pos]}
servers: [localhost]
study: {metric: [a], replicates: 0}
"""
