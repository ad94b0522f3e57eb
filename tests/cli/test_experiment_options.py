"""`sweep run` and `sweep plan` of an experiment that has no file."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest

from tests.cli.conftest import Sweep

TYPED = (
    *("img2img", "--image", "photo.png", "--prompt", "a cup", "--axis", "denoise_strength=0.2:0.8:0.2"),
    *("--axis", "seed=1,2,3", "--input", "width=64", "--input", "height=64", "--input", "steps=4"),
)


def keys(sweep: Sweep, run: str) -> list[str]:
    return [row["key"] for row in json.loads(sweep("table", run, "-f", "json").out)]


@pytest.mark.usefixtures("home")
def test_run_without_a_file_renders_and_says_how_to_keep_it(sweep: Sweep) -> None:
    answer = sweep("run", *TYPED, "--no-report")
    name = f"photo-{date.today().isoformat()}"  # noqa: DTZ011
    assert answer.code == 0, answer.err
    assert "To keep this experiment as a file, add --save photo.yaml." in answer.err
    assert f"{name}  12 points" in answer.err
    assert len(keys(sweep, name)) == 12


def test_save_writes_a_file_with_the_same_keys(sweep: Sweep, home: Path) -> None:
    (home / "files").mkdir()
    saved = Path("files", "cup.yaml")
    answer = sweep("run", *TYPED, "--save", saved, "--no-report")
    assert (answer.code, "Wrote files" in answer.err) == (0, True)
    typed = keys(sweep, "cup")
    again = sweep("run", saved, "--no-report")
    assert again.out.startswith("12 of 12 done already; nothing to render."), again.err
    assert keys(sweep, "cup") == typed


@pytest.mark.usefixtures("home")
def test_plan_without_a_file_counts_points_and_writes_nothing(sweep: Sweep, home: Path) -> None:
    before = sorted(home.iterdir())
    assert "12 = 4 × 3" in sweep("plan", *TYPED).out
    assert json.loads(sweep("plan", *TYPED, "--json").out)["points"] == 12
    assert sorted(home.iterdir()) == before


@pytest.mark.slow
def test_run_accepts_an_image_that_contains_a_workflow(sweep: Sweep, done: Path) -> None:
    image = min((done / "images").iterdir())
    answer = sweep("plan", image, "--axis", "seed=1,2,...,5", "--input", "image=photo.png")
    assert (answer.code, answer.err.count("\n")) == (0, 1), answer.err
    assert re.search(r"points +5 ", answer.out)


@pytest.mark.parametrize("style", ["json", "none"])
@pytest.mark.usefixtures("home")
def test_run_for_programs_prints_no_notice(style: str, sweep: Sweep) -> None:
    answer = sweep("run", *TYPED, "--no-report", "--progress", style)
    assert (answer.code, answer.err) == (0, "")
