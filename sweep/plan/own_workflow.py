"""Takes over what the user's own workflow holds: its images and lists become inputs and axes.

Models that it names and the server lacks are left open, or replaced where the workflow is portable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sweep.errors import PlanError, Problem, WorkflowError
from sweep.experiment import (
    Axis,
    AxisKind,
    Dimension,
    Experiment,
    ImageReader,
    InputImage,
    InputImageError,
    Level,
    MadeLevels,
    is_address,
    parse_numbered,
    path_kind,
)
from sweep.plan.model_finder import ModelFinder, list_model_fields
from sweep.plan.targets import Assignments
from sweep.types import Scalar
from sweep.workflow import Address, BatchAxis, Dialect, Graph, ModelRef, NodeSchemas, Workflow, find_address, find_roles


def adopt_workflow(experiment: Experiment, workflow: Workflow, schemas: NodeSchemas) -> Experiment:
    """Take over the workflow's own images as inputs and its lists as axes, which vary fastest.

    What the experiment sets itself, by address or by role, it sets alone. Raises PlanError for an image that is
    missing or none.
    """
    if not workflow.files and not workflow.batch_axes:
        return experiment
    taken = _find_set_fields(experiment, workflow, schemas)
    inputs = {**experiment.inputs, **_read_images(experiment, workflow, taken)}
    more = tuple(_make_dimensions(workflow, taken, {axis.name for axis in experiment.axes}))
    return replace(experiment, inputs=inputs, dimensions=(*experiment.dimensions, *more))


def note_batches(experiment: Experiment, workflow: Workflow) -> Iterator[str]:
    """Write a sentence for each list of the workflow: that it is an axis, or gives way to what the experiment sets."""
    axes = {axis.levels.targets for axis in experiment.axes}
    for batch in workflow.batch_axes:
        if tuple(map(str, batch.addresses)) in axes:
            yield from filter(None, [batch.note])
        else:
            where = " and ".join(map(str, batch.addresses))
            yield f"The {len(batch.values)} values of {batch.name} give way: the experiment sets {where}."


def _find_set_fields(experiment: Experiment, workflow: Workflow, schemas: NodeSchemas) -> frozenset[Address]:
    """Find the fields the experiment sets itself."""
    roles = find_roles(workflow.graph, schemas)
    taken: set[Address] = set()
    for target in Assignments.of(experiment):
        role = "prompt" if target == "variation" else target
        chosen = [*experiment.roles.get(role, ()), *([target] if is_address(target) else [])]
        for text in chosen:
            with suppress(WorkflowError):  # told where it is bound
                taken.add(find_address(workflow.graph, text))
        single = parse_numbered(target)
        groups = roles.groups(single[0])[single[1] - 1 : single[1]] if single else roles.groups(role)
        taken.update(found.address for group in groups for found in group)
    return frozenset(taken)


def _read_images(experiment: Experiment, workflow: Workflow, taken: frozenset[Address]) -> dict[str, InputImage]:
    reader = ImageReader()
    folder = experiment.workflow_path.parent if experiment.workflow_path else experiment.folder
    found: dict[str, InputImage] = {}
    problems: list[Problem] = []
    for address, shown in workflow.files.items():
        if address in taken:
            continue
        beside = [place / shown for place in (experiment.folder, folder)]
        path = next((path for path in beside if path_kind(path) == "file"), beside[0])
        try:
            found[str(address)] = reader.read(path, shown)
        except InputImageError as error:
            way = " Or set" if str(error).endswith("?") else "; set"
            problems.append(Problem(message=f"{address}: {shown} {error}{way} inputs.image, or {address} itself."))
    if problems:
        raise PlanError.of(problems, experiment.workflow)
    return found


def _make_dimensions(workflow: Workflow, taken: frozenset[Address], names: set[str]) -> Iterator[Dimension]:
    groups: dict[str, list[Axis]] = {}
    for number, batch in enumerate(workflow.batch_axes):
        if taken.isdisjoint(batch.addresses):
            name = _find_free_name(batch.name, names)
            names.add(name)
            groups.setdefault(batch.group or f" {number}", []).append(_make_axis(batch, name))
    for axes in groups.values():
        lengths = {len(axis.levels) for axis in axes}
        if len(lengths) > 1:
            said = ", ".join(f"{axis.name} has {len(axis.levels)}" for axis in axes)
            raise WorkflowError(f"The workflow's lists step together, but are not equally long: {said}.")
        if lengths != {0}:
            yield Dimension(tuple(axes))


def _make_axis(batch: BatchAxis, name: str) -> Axis:
    targets = tuple(str(address) for address in batch.addresses)
    values: list[Any] = list(batch.values)
    levels = tuple(Level(_label_value(value), dict.fromkeys(targets, value)) for value in values)
    kinds = {type(value) for value in batch.values}
    kind: AxisKind = "integer" if kinds == {int} else "number" if kinds <= {int, float} else "text"
    return Axis(name, kind, MadeLevels(targets, levels))


def _label_value(value: Any) -> Scalar:
    if isinstance(value, Mapping):
        return str(value.get("image_name") or value)
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _find_free_name(name: str, names: set[str]) -> str:
    found, number = name, 2
    while found in names:
        found, number = f"{name} {number}", number + 1
    return found


def list_own_images(graph: Graph, dialect: Dialect) -> Iterator[tuple[Address, str]]:
    """List the images that a graph names itself, with the field of each."""
    for node in graph.nodes.values():
        for name, value in node.fields.items() if node.type not in dialect.descriptive_nodes else ():
            if isinstance(value, Mapping) and isinstance(image := value.get("image_name"), str):
                yield Address(node.id, name), image


def substitute_models(workflow: Workflow, schemas: NodeSchemas, models: ModelFinder, uses: Assignments) -> Workflow:
    """Substitute models that a portable workflow names and the server lacks.

    The main model is left open for the plan to choose (`lacking` is its name), and the VAE becomes the main model's
    own, with a note. Any other workflow stays as it is: it names what its author rendered with, and another model would
    be another image.
    """
    translate = workflow.translate
    if translate is None:
        return workflow
    settled = _substitute(workflow, schemas, models, uses)
    return replace(settled, translate=lambda base: _substitute(translate(base), schemas, models, uses))


def _substitute(workflow: Workflow, schemas: NodeSchemas, models: ModelFinder, uses: Assignments) -> Workflow:
    graph, notes, lacking = workflow.graph, list(workflow.notes), ""
    for address, types in list(list_model_fields(graph, schemas)):
        said = graph.nodes[address.node].fields.get(address.field)
        if not isinstance(said, ModelRef) or _is_installed(models, said, types):
            continue
        if "main" in types:
            graph, lacking = _clear_field(graph, address), said.name
        elif "vae" in types and "vae" not in uses:
            graph = schemas.dialect.remove_vae_loader(graph, address.node)
            notes.append(f"The server has no VAE {said.name}, so the model's own is used; inputs.vae names another.")
    return replace(workflow, graph=graph, notes=tuple(notes), lacking=lacking)


def _is_installed(models: ModelFinder, said: ModelRef, types: tuple[str, ...]) -> bool:
    try:
        models.find(said, types)
    except PlanError:
        return False
    return True


def _clear_field(graph: Graph, address: Address) -> Graph:
    node = graph.nodes[address.node]
    left = {name: value for name, value in node.fields.items() if name != address.field}
    return replace(graph, nodes={**graph.nodes, node.id: replace(node, fields=left)})
