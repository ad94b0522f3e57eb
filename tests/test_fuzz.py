# ruff: noqa: E501  the documents below are data
"""Whatever a file, a table, a workflow or an option holds: an error of ours, never a traceback. A fixed budget."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import SweepError
from sweep.experiment import Experiment
from sweep.plan import make_plan
from sweep.servers.http import parse_retry_after
from sweep.workflow import Model, load_builtin_schemas, load_workflow

ROUNDS = 120  # of each kind; the seed is fixed, so a failure comes again
ODD: list[Any] = [
    None, True, 0, -1, 10**400, -(10**400), 1e308, -1e308, 0.1, "", " ", "\x00", "\x1b[2J", "a" * 30_000, "é\u2028", "\udcff",
    "007", "1e999", "1e999 - 1e999 == seed", "seed == seed", "seed ** 9", "((((((((", "../../etc/passwd", "con", "@", "{a|b}",
    [], {}, [[]], [{}], {"": ""}, {"a": {"b": {"c": []}}}, [1, "a", None], {"start": 1}, {"start": 0, "stop": 10**300, "step": 1},
    {"start": 1, "stop": 2, "num": 10**9}, {"count": 10**12}, {"csv": "t.csv"}, {"lines": "t.txt"}, {"images": "*"},
    {"replace": "a", "with": ["b"]}, {"values": {"a": {"steps": 1}}}, {"zip": {"seed": [1], "steps": [1, 2]}},
    {"dynamic": ["{a|b"]}, {"settings": "t.json"}, {"csv": "t.csv", "columns": {"prompt": "a", "steps": "b"}},
]  # fmt: skip
EXPERIMENT: dict[str, Any] = {
    "name": "fuzz", "description": "d", "workflow": "img2img", "inputs": {"image": "a.png", "prompt": "a cat", "steps": 4},
    "axes": {"denoise_strength": {"start": 0.2, "stop": 0.8, "step": 0.2}, "seed": [1, 2], "variation": ["a", "b"]},
    "where": "seed == 1", "exclude": ["denoise_strength > 0.7"], "design": {"kind": "random", "points": 2, "seed": 1},
    "roles": {"prompt": "a.b"}, "servers": ["http://h:1"], "board": "b",
    "study": {"metrics": ["ssim"], "replicates": 1, "baseline": {"seed": 1}},
}  # fmt: skip
MODELS = [Model(key="k", hash="h", name="m", base="sd-1", type="main")]


def mutate(value: Any, dice: random.Random) -> Any:
    """The value with one odd thing in it, somewhere."""
    if isinstance(value, dict) and value and dice.random() < 0.8:
        key = dice.choice(list(value))
        if dice.random() < 0.1:
            return {**value, str(dice.choice(ODD))[:50]: dice.choice(ODD)}
        return {**value, key: mutate(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.8:
        at = dice.randrange(len(value))
        return [*value[:at], mutate(value[at], dice), *value[at + 1 :]]
    return dice.choice(ODD)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (16, 8)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("a,b\nx,20.0\ny,\n", encoding="utf-8")
    (tmp_path / "t.txt").write_text("x\n\x00\n" + "y" * 5_000, encoding="utf-8")
    (tmp_path / "t.json").write_text('{"a": {"steps": 1e400}}', encoding="utf-8")
    return tmp_path


def is_taken(step: Callable[[], object]) -> bool:
    """Tell whether a step ends well, or with an error of ours; any other exception fails the test."""
    try:
        step()
    except SweepError:
        return False
    return True


def test_experiments_of_any_content_end_in_a_plan_or_an_error_of_ours(folder: Path) -> None:
    dice = random.Random(1)

    def plan() -> None:
        data = mutate(mutate(EXPERIMENT, dice), dice)
        experiment = Experiment.from_dict(data, folder) if isinstance(data, dict) else None
        if experiment is not None and len(experiment.grid) < 1_000:
            make_plan(experiment, load_builtin_schemas(), MODELS)

    assert {is_taken(plan) for _ in range(ROUNDS)} == {True, False}


def test_texts_of_any_content_end_in_an_experiment_or_an_error_of_ours(folder: Path) -> None:
    dice = random.Random(2)
    text = json.dumps(EXPERIMENT, indent=1)

    def load() -> None:
        at, length = dice.randrange(len(text)), dice.randrange(8)
        odd = dice.choice(
            ["\x00", "\t", "&a *a", "<<: ", "!!python/name:os", "---\n", "\ud800", "'", ": ", "1e999", "9" * 400]
        )
        Experiment.from_text(text[:at] + odd + text[at + length :], folder)

    assert {is_taken(load) for _ in range(ROUNDS)} == {True, False}


@pytest.mark.parametrize("kind", ["api", "editor"])
def test_workflows_of_any_content_end_in_a_workflow_or_an_error_of_ours(tmp_path: Path, kind: str) -> None:
    dice = random.Random(3)
    document = WORKFLOWS[kind]
    path = tmp_path / "w.json"

    def plan() -> None:
        path.write_text(json.dumps(mutate(mutate(document, dice), dice)), encoding="utf-8")
        workflow = load_workflow(path)
        data = {"workflow": str(path), "axes": {"seed": [1, 2]}}
        make_plan(Experiment.from_dict(data, tmp_path), load_builtin_schemas(), MODELS, workflow)

    assert False in {is_taken(plan) for _ in range(ROUNDS)}


OPTIONS: list[Callable[[str], Any]] = [
    lambda text: Experiment.from_dict({"workflow": "txt2img", "axes": {"seed": [1, 2]}, "where": text}).grid[0],
    lambda text: Experiment.from_text("workflow: txt2img\naxes: {seed: [1]}", overrides=[text]),
    lambda text: Experiment.from_text("workflow: txt2img\naxes: {seed: [1]}", overrides=[f"inputs.prompt={text}"]),
    lambda text: Experiment.load(text),
    parse_retry_after,
]


def test_options_of_any_text_end_in_a_value_or_an_error_of_ours() -> None:
    texts = [value if isinstance(value, str) else json.dumps(value) for value in ODD]
    dates = ["Mon, 01 Jan 2024 00:00:00 +999999", "Mon, 01 Jan 9999 99:99:99 GMT", "1e999", "nan", "-1", "9" * 5_000]
    assert {is_taken(partial(take, text)) for text in (*texts, *dates) for take in OPTIONS} == {True, False}


WORKFLOWS: dict[str, Any] = {
    "api": {
        "nodes": {
            "m": {"id": "m", "type": "main_model_loader", "model": {"key": "k", "hash": "h", "name": "m", "base": "sd-1", "type": "main"}},
            "p": {"id": "p", "type": "compel", "prompt": "a"},
            "n": {"id": "n", "type": "noise", "seed": 1, "width": 64, "height": 64},
            "d": {"id": "d", "type": "denoise_latents", "steps": 4, "cfg_scale": 7.5, "scheduler": "euler", "denoising_start": 0},
            "l": {"id": "l", "type": "l2i"},
        },
        "edges": [
            {"source": {"node_id": source, "field": left}, "destination": {"node_id": target, "field": right}}
            for source, left, target, right in (
                ("m", "clip", "p", "clip"), ("m", "unet", "d", "unet"), ("m", "vae", "l", "vae"),
                ("p", "conditioning", "d", "positive_conditioning"), ("p", "conditioning", "d", "negative_conditioning"),
                ("n", "noise", "d", "noise"), ("d", "latents", "l", "latents"),
            )
        ],
    },
    "editor": {
        "name": "w", "meta": {"version": "3.0.0", "category": "user"}, "exposedFields": [{"nodeId": "p", "fieldName": "prompt"}],
        "form": {}, "nodes": [
            {"id": "p", "type": "invocation", "position": {"x": 0, "y": 0},
             "data": {"id": "p", "type": "blank_image", "label": "x", "isIntermediate": False, "useCache": True,
                      "inputs": {"width": {"name": "width", "label": "", "value": 64}, "height": {"name": "height", "value": 64}}}},
        ],
        "edges": [{"id": "e", "type": "default", "source": "p", "target": "p", "sourceHandle": "image", "targetHandle": "image"}],
    },
}  # fmt: skip
