from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.experiment import Experiment
from sweep.plan.plan import Plan
from sweep.plan.planner import make_plan
from sweep.workflow import load_builtin_schemas
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI
from tests.plan.conftest import MODELS, Plans, model
from tests.support.graphs import graph_key

AXES: dict[str, Any] = {"steps": [3, 4], "variation": ["red", "blue"], "seed": [1, 2, 3]}


def keys(plan: Plan) -> list[str]:
    return [plan.instance(variation).key for variation in plan.grid]


def shard(plan: Plan, k: int, n: int) -> list[int]:
    return [index for index, key in plan.keys(range(len(plan))) if plan.is_in_shard(key, k, n)]


def test_a_key_is_the_graphs_own_identity(plans: Plans) -> None:
    plan = plans(axes=AXES)
    for variation in plan.grid:
        instance = plan.instance(variation)
        assert instance.key == graph_key(instance.graph, instance.outputs, INVOKEAI)
    assert len(set(keys(plan))) == len(plan)


@given(st.lists(st.integers(0, 23), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_keys_in_any_order_are_those_of_the_instances(plans: Plans, indices: list[int]) -> None:
    axes = (
        {"model": ["small", "large"], **AXES, "board": ["a", "b"]}
        if indices[:1] == [0]
        else {**AXES, "cfg_scale": [2, 3]}
    )
    plan = plans(inputs={"prompt": "a cup"}, axes=axes)
    assert list(plan.keys(indices)) == [(index, plan.instance(plan.grid[index]).key) for index in indices]


def test_keys_with_seeds_of_each_cell_are_those_of_the_instances(plans: Plans) -> None:
    axes = {"seed": {"each_cell": True, "count": 2}, "steps": [3, 4], "variation": ["red", "blue"]}
    plan = plans(axes=axes)
    assert dict(plan.keys(range(8))) == dict(enumerate(keys(plan)))
    assert {plan.instance(point).graph.nodes["noise"].fields["seed"] for point in plan.grid} == {
        point.values["seed"] for point in plan.grid
    }
    assert set(keys(plan)) < set(keys(plans(axes={**axes, "steps": [2, 3, 4]})))


def test_a_resume_hashes_only_what_stepped(plans: Plans) -> None:
    plan = plans(
        axes={
            "model": ["small", "large", "other"],
            "lora_weight": [0.2, 0.4],
            "lora": [None, "glow"],
            **AXES,
        },
        exclude="model == 'large' or lora == null",
    )
    assert [key for _, key in plan.keys(range(len(plan)))] == keys(plan)


def test_replicates_are_points_of_their_own_and_the_first_is_the_point_itself(plans: Plans) -> None:
    once, thrice = plans(axes=AXES), plans(axes=AXES, study={"replicates": 3})
    assert len(thrice) == 3 * len(once)
    assert keys(thrice)[::3] == keys(once)
    assert len(set(keys(thrice))) == len(thrice)
    assert [variation.values["replicate"] for variation in thrice.grid][:4] == [1, 2, 3, 1]
    assert [axis.name for axis in thrice.axes][-1] == "replicate"
    assert [key for _, key in thrice.keys(range(len(thrice)))] == keys(thrice)
    assert [thrice.instance(variation).replicate for variation in thrice.grid[:3]] == [0, 1, 2]
    assert [variation.index for variation in thrice.grid] == list(range(len(thrice)))


def test_shards_part_the_grid_by_key_alone(plans: Plans) -> None:
    plan = plans(axes=AXES)
    parts = [shard(plan, k, 3) for k in (1, 2, 3)]
    assert sorted(index for part in parts for index in part) == list(range(len(plan)))
    fewer = plans(axes={**AXES, "seed": [2, 3]})
    of_fewer = {key for _, key in fewer.keys(shard(fewer, 1, 3))}
    assert of_fewer == {key for _, key in plan.keys(shard(plan, 1, 3))} & set(keys(fewer))


# Each field of an experiment is part of the identity of its images, or it is not

BASE: dict[str, Any] = {
    "name": "trial",
    "workflow": "txt2img",
    "inputs": {"model": "small", "prompt": "a cup", "steps": 5},
    "axes": {"cfg_scale": [2, 3], "seed": [1, 2]},
}
IDENTITY: dict[str, dict[str, Any]] = {  # field → what to change; every point's key changes with it
    "workflow": {"workflow": "lora", "inputs": {**BASE["inputs"], "lora": "glow"}},
    "inputs": {"inputs": {**BASE["inputs"], "steps": 6}},
    "dimensions": {"axes": {"cfg_scale": [4, 5], "seed": [1, 2]}},
    "roles": {"roles": {"prompt": ["negative.prompt"]}},
}
CHOOSING: dict[str, dict[str, Any]] = {  # they say which points there are; a point that stays keeps its key
    "clauses": {"where": "seed > 1"},
    "design": {"design": {"kind": "random", "points": 2, "seed": 3, "seeds": "one"}},
    "study": {"study": {"replicates": 2}},
}
IRRELEVANT: dict[str, dict[str, Any]] = {
    "name": {"name": "other"},
    "description": {"description": "Why?"},
    "servers": {"servers": ["http://gpu:9090"]},
    "board": {"board": "for me"},
    "folder": {},  # moved below
}
DERIVED = {  # follow from the others, or are about the file and not about what it asks for
    "workflow_path",
    "text",
    "fetched",
    "notices",
    "source",
    "marks",
}


def plan_of(changes: dict[str, Any], folder: Path) -> Plan:
    return make_plan(Experiment.from_dict({**BASE, **changes}, folder=folder), load_builtin_schemas(), MODELS)


def test_every_field_of_an_experiment_is_classified() -> None:
    classified = [*IDENTITY, *CHOOSING, *IRRELEVANT, *DERIVED]
    assert sorted(field.name for field in dataclasses.fields(Experiment)) == sorted(classified)


@pytest.mark.parametrize("field", IDENTITY)
def test_an_identity_field_changes_every_key(field: str, tmp_path: Path) -> None:
    assert set(keys(plan_of({}, tmp_path))).isdisjoint(keys(plan_of(IDENTITY[field], tmp_path)))


@pytest.mark.parametrize("field", CHOOSING)
def test_a_field_that_chooses_points_keeps_the_keys_of_those_it_chooses(field: str, tmp_path: Path) -> None:
    before, after = set(keys(plan_of({}, tmp_path))), set(keys(plan_of(CHOOSING[field], tmp_path)))
    assert before & after
    assert before != after
    assert plan_of({}, tmp_path).fingerprint != plan_of(CHOOSING[field], tmp_path).fingerprint


@pytest.mark.parametrize("field", IRRELEVANT)
def test_any_other_field_changes_no_key(field: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    one, two = plan_of({}, tmp_path), plan_of(IRRELEVANT[field], elsewhere if field == "folder" else tmp_path)
    assert keys(one) == keys(two)
    assert one.fingerprint == two.fingerprint


def test_a_key_knows_no_server_and_no_file_name(images: Path, tmp_path: Path) -> None:
    moved = tmp_path / "renamed.png"
    moved.write_bytes((images / "wide.png").read_bytes())
    there = {**BASE, "workflow": "img2img", "inputs": {"model": "small", "image": "wide.png"}}
    here = {**there, "inputs": {"model": "small", "image": "renamed.png"}}
    elsewhere = [dataclasses.replace(known, key="another", hash="blake3:1") for known in MODELS]
    one = make_plan(Experiment.from_dict(there, folder=images), load_builtin_schemas(), MODELS)
    two = make_plan(Experiment.from_dict(here, folder=tmp_path), load_builtin_schemas(), elsewhere)
    assert keys(one) == keys(two)


def test_a_label_and_the_way_a_value_is_written_change_no_key(plans: Plans) -> None:
    plain = plans(axes={"cfg_scale": [2.0, 3.0]})
    labelled = plans(axes={"how much": {"target": "cfg_scale", "values": {"little": 2, "more": 3}}})
    by_address = plans(axes={"denoise.cfg_scale": {"start": 2, "stop": 3, "num": 2}})
    assert keys(plain) == keys(labelled) == keys(by_address)
    assert len({plain.fingerprint, labelled.fingerprint, by_address.fingerprint}) == 3


def test_points_keep_their_keys_when_values_are_inserted_or_axes_turned(plans: Plans) -> None:
    few, more = plans(axes={"seed": [1, 3], "steps": [4, 5]}), plans(axes={"steps": [4, 9, 5], "seed": [1, 2, 3]})
    assert set(keys(few)) < set(keys(more))


def test_the_fingerprint_is_stable_and_changes_with_any_level(
    plans: Plans, experiment: Callable[..., Experiment]
) -> None:
    assert plans(axes=AXES).fingerprint == plans(axes=AXES).fingerprint
    others = [{**AXES, "seed": [1, 2, 4]}, {**AXES, "seed": [1, 3, 2]}, dict(reversed(AXES.items())), {"steps": [3]}]
    prints = {plans(axes=axes).fingerprint for axes in [AXES, *others]}
    assert len(prints) == 5
    bare = make_plan(experiment(axes=AXES), load_builtin_schemas(), [model("small"), model("unused")])
    assert bare.fingerprint == plans(axes=AXES).fingerprint


def test_the_fingerprint_is_the_same_in_every_process_and_knows_how_many_levels_there_are(
    plans: Callable[..., Plan],
) -> None:
    """Of two plans that are there at the same time, no object lies in the same place."""
    several = [plans(axes={"seed": {"start": 1, "count": count}}) for count in (5, 5, 6)]
    assert several[0].fingerprint == several[1].fingerprint
    assert several[0].fingerprint != several[2].fingerprint
    logs = [plans(axes={"cfg_scale": {"start": 1, "stop": 8, "num": 4, "scale": "log"}}) for _ in range(2)]
    assert logs[0].fingerprint == logs[1].fingerprint


def test_the_fingerprint_of_points_that_conditions_leave_is_that_of_older_versions(plans: Plans) -> None:
    """A folder of results that an older version wrote is the record of the same definition."""
    axes = {"model": ["small", "large"], "steps": [4, 6], "seed": [1, 2]}
    for excluded, older in {
        "seed == 1 and steps < 6": "217c6770effdb9036b11c8c8667b0f9f",
        "model == 'small' and steps == 4": "658d3e0e8d9e1d98b6407d157d8db2f4",
    }.items():
        assert plans(inputs={"prompt": "a cup"}, axes=axes, exclude=excluded).fingerprint == older


def test_a_template_has_the_vae_of_the_main_model_whether_null_says_so_or_nobody(plans: Plans) -> None:
    plan = plans(axes={"look": {"values": {"plain": {"vae": None}, "other": {"model": "other"}}}})
    assert len(plan.bound_graphs) == 1
