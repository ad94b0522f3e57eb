"""Plans an experiment: binds it to its workflow and a server's models, and reports every problem at once.

The planner takes over what the user's own workflow holds: its images become inputs and its lists axes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from sweep.errors import DefinitionError, PlanError, Problem, WorkflowError
from sweep.experiment import Axis, Dimension, Experiment, Level, MadeLevels, ProblemCollector, infer_kind, path_kind
from sweep.input_images import ImageReader, InputImage, InputImageError
from sweep.plan.field_rules import PlanContext
from sweep.plan.graph_binder import BoundGraph, GraphBinder, GraphVariant, VariantSelector, check_node_types
from sweep.plan.model_finder import ModelFinder, substitute_models
from sweep.plan.plan import REPLICATE_AXIS, Plan
from sweep.role_table import is_address, parse_numbered, strip_number
from sweep.types import Scalar
from sweep.workflow import (
    Address,
    Model,
    ModelRef,
    NodeSchemas,
    Workflow,
    canonical,
    find_address,
    find_roles,
    load_workflow,
    make_readable,
)


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


def _find_set_fields(experiment: Experiment, workflow: Workflow, schemas: NodeSchemas) -> frozenset[Address]:
    roles = find_roles(workflow.graph, schemas)
    taken: set[Address] = set()
    for target in experiment.assignments:
        role = "prompt" if target == "variation" else target
        chosen = [*experiment.roles.get(role, ()), *([target] if is_address(target) else [])]
        for text in chosen:
            with suppress(WorkflowError):  # a problem where it is bound
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
            numbered = (f"{batch.name} {count}" for count in itertools.count(2))
            name = next(name for name in itertools.chain([batch.name], numbered) if name not in names)
            names.add(name)
            targets = tuple(map(str, batch.addresses))
            values: list[Any] = list(batch.values)
            levels = tuple(Level(_label_value(value), dict.fromkeys(targets, value)) for value in values)
            axis = Axis(name, infer_kind(targets, batch.values), MadeLevels(targets, levels))
            groups.setdefault(batch.group or f" {number}", []).append(axis)
    for axes in groups.values():
        lengths = {len(axis.levels) for axis in axes}
        if len(lengths) > 1:
            said = ", ".join(f"{axis.name} has {len(axis.levels)}" for axis in axes)
            raise WorkflowError(f"The workflow's lists step together, but are not equally long: {said}.")
        if lengths != {0}:
            yield Dimension(tuple(axes))


def _label_value(value: Any) -> Scalar:
    if isinstance(value, Mapping):
        return str(value.get("image_name") or value)
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def read_own_workflow(experiment: Experiment) -> Workflow | None:
    """Read the workflow file that an experiment names; None for a built-in workflow.

    Raises WorkflowError, with the place in the experiment where the file is not a workflow.
    """
    try:
        return load_workflow(experiment.workflow_path) if experiment.workflow_path is not None else None
    except WorkflowError as error:
        placed = ProblemCollector(experiment, experiment.source or experiment.name, WorkflowError)
        if not error.problems:  # they name places in the workflow file
            way = "Give a file that your server's editor exported, or a built-in workflow such as txt2img."
            placed.add_at_value("workflow", f"workflow: {error} {way}")
        placed.raise_any()
        raise


def make_plan(
    experiment: Experiment, schemas: NodeSchemas, models: Sequence[Model] | None, workflow: Workflow | None = None
) -> Plan:
    """Bind an experiment to its workflow, with every value checked against the field it sets.

    Args:
        experiment: With its seeds drawn.
        schemas: The node types of the server.
        models: The models of the server; None where they are not known, and any that is named counts as installed.
        workflow: What the file holds that the experiment names; the file is read where it is not given.

    Raises:
        PlanError: Lists every problem with its place in the experiment's file.
        WorkflowError: The workflow file is wrong in itself.
    """
    if experiment.undrawn:
        axes = ", ".join(experiment.undrawn)
        raise PlanError(
            f"The seeds of {axes} are not drawn yet.", hint="Experiment.with_seeds gives them their values."
        )
    installed = ModelFinder.of(models)
    own = workflow or read_own_workflow(experiment)
    if own is not None:
        own = schemas.dialect.translate(own, schemas)
        own = substitute_models(own, schemas, installed, experiment.assignments)
        experiment = adopt_workflow(experiment, own, schemas)
    if not len(experiment.grid):
        raise PlanError(f"{experiment.name} has no points.", hint="Its conditions exclude every combination.")
    context = PlanContext(
        experiment=experiment,
        workflow=own or experiment.workflow,
        schemas=schemas,
        models=installed,
        problems=ProblemCollector(experiment, experiment.source or experiment.name, PlanError),
    )
    return _plan(context)


def _plan(context: PlanContext) -> Plan:
    experiment, problems = context.experiment, context.problems
    if REPLICATE_AXIS in {axis.name for axis in experiment.axes} and experiment.study.replicates > 1:
        context.refuse("study.replicates makes an axis of that name already.", f"axes.{REPLICATE_AXIS}")
    variants = VariantSelector(context)
    binders, mains = _make_binders(context, variants)
    bound_graphs = [bound for binder in binders if (bound := binder.bind())]
    problems.raise_any()
    plan = Plan(
        experiment=experiment,
        bound_graphs=tuple(bound_graphs),
        variants=variants,
        schemas=context.schemas,
        models=mains,
        workflow_notes=_list_workflow_notes(context, bound_graphs[0].variant.base or "", mains),
        salted=tuple(axis.name for axis in context.uses.axes.get("board", ())),
    )
    check_distinct_points(plan, problems)
    problems.raise_any()
    return plan


def _list_workflow_notes(context: PlanContext, base: str, mains: Sequence[ModelRef]) -> tuple[str, ...]:
    workflow = context.workflow
    if isinstance(workflow, str):
        return ()
    own = workflow.for_base(base)
    said = [*own.notes]
    for batch in workflow.batch_axes:  # each is an axis, or gives way to what the experiment sets
        where = " and ".join(map(str, batch.addresses))
        gone = f"The {len(batch.values)} values of {batch.name} give way: the experiment sets {where}."
        is_axis = any(tuple(map(str, batch.addresses)) == axis.levels.targets for axis in context.experiment.axes)
        said.append(batch.note if is_axis else gone)
    notes = tuple(make_readable(own.graph, note) for note in filter(None, said))
    if not own.lacking or "model" in context.uses:
        return notes
    used = f"so its only one that fits, {mains[0].name}, is used"
    return (*notes, f"The server has no model {own.lacking}, {used}; inputs.model names another.")


def _make_binders(
    context: PlanContext, variants: VariantSelector
) -> tuple[Sequence[GraphBinder], tuple[ModelRef, ...]]:
    """Make a binder for every variant the levels can ask for, and list all main models.

    Where a model cannot be found, the rest is still looked at, as far as there is any other to look at it with.
    """
    found: dict[GraphVariant, GraphBinder] = {}
    mains: dict[ModelRef, None] = {}
    for here in variants.iterate_levels():
        try:
            variant, main = variants.at(here), variants.main(here)
        except DefinitionError as error:
            named = (
                (f"axes.{a.name}", a.levels.position(here[a.name].value)) for a in context.uses.axes.get("model", ())
            )
            place = next((f"{axis}.{at}" for axis, at in named), "inputs.model")
            context.problems.add_at_value(place, f"{place}: {error}")
            continue
        found.setdefault(variant, GraphBinder(context, variants, variant, main, here))
        if main is not None:
            mains[main] = None
    if not found and (any_main := context.models.find_any_main(variants.bases or ())):
        first = context.experiment.grid.find_levels({}) or {}
        variant = variants.select_with_main(first, any_main)
        return [GraphBinder(context, variants, variant, any_main, first)], ()
    if not found and isinstance(context.workflow, Workflow):
        check_node_types(context.workflow.graph, context)  # no model would mend what is wrong with that
    return list(found.values()), tuple(mains)


_LEVELS: Final = 1_000  # levels looked at along one dimension; values of longer ones come from ranges and differ
_POINTS: Final = 5_000  # points of a grid whose keys are always compared: some 15 µs each


def check_distinct_points(plan: Plan, problems: ProblemCollector[str]) -> None:
    """Add a problem where two points have the same key.

    Looks along each dimension for steps that set every field alike. Where conditions or a design may have left such
    points out, and in any small grid, the keys themselves are compared.
    """
    experiment = plan.experiment
    short = [dimension for dimension in experiment.dimensions if len(dimension) <= _LEVELS]
    pairs = itertools.product(short, plan.bound_graphs)
    alike = [found for dimension, bound in pairs if (found := _find_equal_steps(dimension, bound, plan.variants))]
    if alike and not experiment.clauses and experiment.design.kind == "full":
        for place, message in alike:
            problems.add_at_key(place, message, is_universal=True)
    elif alike or len(plan) <= _POINTS:
        _compare_keys(plan, problems)


def _find_equal_steps(dimension: Dimension, bound: BoundGraph, variants: VariantSelector) -> tuple[str, str] | None:
    """Return (place, sentence) where two steps of the dimension give the same graph."""
    seen: dict[str, str] = {}
    for at in range(len(dimension)):
        levels = dimension.levels_at(at)
        here = {**bound.levels, **levels}
        if not variants.is_selected(here, bound.variant):
            continue
        shown = " and ".join(f"{name} {level.value}" for name, level in levels.items())
        written = {str(address): canonical(value) for address, value in bound.values(here).items()}
        twin = seen.setdefault(json.dumps(written, sort_keys=True), shown)
        if twin != shown and not _weighs_no_lora(dimension.axes, here):
            place = f"axes.{dimension.axes[0].name}"
            return place, f"{place}: {shown} gives the same images as {twin}{_describe_variant(bound, variants)}."
    return None


def _compare_keys(plan: Plan, problems: ProblemCollector[str]) -> None:
    seen: dict[str, int] = {}
    for index, key in plan.keys(range(len(plan))):
        twin = seen.setdefault(key, index)
        if twin == index:
            continue
        levels, others = plan.grid[twin].levels, plan.grid[index].levels
        if not _weighs_no_lora([axis for axis in plan.axes if levels[axis.name] != others[axis.name]], levels):
            both = f"{_describe_point(plan, twin)} and {_describe_point(plan, index)}"
            problems.add_at_key("axes", f"Points {both} are the same image; leave one out.", is_universal=True)
            return


def _weighs_no_lora(axes: Sequence[Axis], levels: Mapping[str, Level]) -> bool:
    """Tell whether these axes only weigh a LoRA that the point has not: its weights share one image, in a row each."""
    weights = [strip_number(target) == "lora_weight" for axis in axes for target in axis.levels.targets]
    settings = [setting for level in levels.values() for setting in level.settings.items()]
    loras = [value for name, value in settings if strip_number(name) == "lora"]
    return bool(weights) and all(weights) and None in loras


def _describe_point(plan: Plan, index: int) -> str:
    values = " · ".join(f"{name} {value}" for name, value in plan.grid[index].values.items())
    return f"{index} ({values})"


def _describe_variant(bound: BoundGraph, variants: VariantSelector) -> str:
    """Name the points to exclude where the levels only coincide in one variant of the graph."""
    values = {axis: bound.levels[axis].value for axis in variants.axes}
    said = [f"{axis} is {'null' if value is None else value}" for axis, value in values.items()]
    return f" where {' and '.join(said)}; leave those points out with exclude" if said else ""
