"""Takes over what a workflow file wants besides its graph: pictures it names by path, lists it is to be run over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sweep.errors import PlanError, Problem, WorkflowError
from sweep.experiment.definition import Axis, AxisKind, Dimension, Experiment, InputImage, Level, Scalar
from sweep.experiment.pictures import PictureError, PictureReader
from sweep.experiment.vocabulary import is_address, numbered
from sweep.plan.settings import Uses, targets_of
from sweep.workflow.graph import Address
from sweep.workflow.loaded import BatchAxis, Workflow
from sweep.workflow.naming import find_address
from sweep.workflow.roles import find_roles
from sweep.workflow.schemas import NodeSchemas


def adopted(experiment: Experiment, workflow: Workflow, schemas: NodeSchemas) -> Experiment:
    """The experiment with the workflow's own pictures as inputs and its lists as axes, which vary fastest.

    What the experiment sets itself, by address or by role, it sets alone. Raises PlanError for a picture that is
    missing or none.
    """
    if not workflow.files and not workflow.batch_axes:
        return experiment
    taken = _set_by(experiment, workflow, schemas)
    inputs = {**experiment.inputs, **_pictures(experiment, workflow, taken)}
    more = tuple(_dimensions(workflow, taken, {axis.name for axis in experiment.axes}))
    return replace(experiment, inputs=inputs, dimensions=(*experiment.dimensions, *more))


def batch_notes(experiment: Experiment, workflow: Workflow) -> Iterator[str]:
    """A sentence for each list of the workflow: that it is an axis, or gives way to what the experiment sets."""
    axes = {targets_of(axis) for axis in experiment.axes}
    for batch in workflow.batch_axes:
        if tuple(map(str, batch.addresses)) in axes:
            yield from filter(None, [batch.note])
        else:
            where = " and ".join(map(str, batch.addresses))
            yield f"The {len(batch.values)} values of {batch.name} give way: the experiment sets {where}."


def _set_by(experiment: Experiment, workflow: Workflow, schemas: NodeSchemas) -> frozenset[Address]:
    """The fields the experiment sets itself."""
    roles = find_roles(workflow.graph, schemas)
    taken: set[Address] = set()
    for target in Uses.of(experiment):
        role = "prompt" if target == "variation" else target
        chosen = [*experiment.roles.get(role, ()), *([target] if is_address(target) else [])]
        for text in chosen:
            with suppress(WorkflowError):  # told where it is bound
                taken.add(find_address(workflow.graph, text))
        single = numbered(target)
        groups = roles.groups(single[0])[single[1] - 1 : single[1]] if single else roles.groups(role)
        taken.update(found.address for group in groups for found in group)
    return frozenset(taken)


def _pictures(experiment: Experiment, workflow: Workflow, taken: frozenset[Address]) -> dict[str, InputImage]:
    reader = PictureReader()
    folder = experiment.workflow_path.parent if experiment.workflow_path else experiment.folder
    found: dict[str, InputImage] = {}
    problems: list[Problem] = []
    for address, shown in workflow.files.items():
        if address in taken:
            continue
        beside = [place / shown for place in (experiment.folder, folder)]
        path = next((path for path in beside if path.is_file()), beside[0])
        try:
            found[str(address)] = reader.read(path, shown)
        except PictureError as error:
            problems.append(Problem(message=f"{address}: {shown} {error}; set inputs.image, or {address} itself."))
    if problems:
        raise PlanError.of(problems, experiment.workflow)
    return found


def _dimensions(workflow: Workflow, taken: frozenset[Address], names: set[str]) -> Iterator[Dimension]:
    groups: dict[str, list[Axis]] = {}
    for number, batch in enumerate(workflow.batch_axes):
        if taken.isdisjoint(batch.addresses):
            name = _free(batch.name, names)
            names.add(name)
            groups.setdefault(batch.group or f" {number}", []).append(_axis(batch, name))
    for axes in groups.values():
        lengths = {len(axis.levels) for axis in axes}
        if len(lengths) > 1:
            said = ", ".join(f"{axis.name} has {len(axis.levels)}" for axis in axes)
            raise WorkflowError(f"The workflow's lists step together, but are not equally long: {said}.")
        if lengths != {0}:
            yield Dimension(tuple(axes))


def _axis(batch: BatchAxis, name: str) -> Axis:
    targets = [str(address) for address in batch.addresses]
    values: list[Any] = list(batch.values)
    levels = tuple(Level(_label(value), dict.fromkeys(targets, value)) for value in values)
    kinds = {type(value) for value in batch.values}
    kind: AxisKind = "integer" if kinds == {int} else "number" if kinds <= {int, float} else "text"
    return Axis(name, kind, levels)


def _label(value: Any) -> Scalar:
    if isinstance(value, Mapping):
        return str(value.get("image_name") or value)
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _free(name: str, names: set[str]) -> str:
    found, number = name, 2
    while found in names:
        found, number = f"{name} {number}", number + 1
    return found
