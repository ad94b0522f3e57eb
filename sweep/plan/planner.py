"""Plans an experiment: binds it to its workflow and a server's models, and reports every problem at once.

The planner takes over what the user's own workflow holds: its images become inputs and its lists axes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from sweep.errors import DefinitionError, PlanError, Problem, WorkflowError
from sweep.experiment import (
    Axis,
    AxisKind,
    Dimension,
    Experiment,
    ImageReader,
    InputImage,
    Level,
    MadeLevels,
    ProblemCollector,
    is_reference,
    path_kind,
)
from sweep.input_images import InputImageError
from sweep.plan.field_rules import Assignments, FieldRule, Slot, TargetResolver
from sweep.plan.fusion import is_fusable
from sweep.plan.graph_variants import BoundGraph, GraphVariant, VariantSelector, build_variant
from sweep.plan.model_finder import ModelFinder, fit_models, substitute_models
from sweep.plan.plan import REPLICATE_AXIS, Plan, make_probes
from sweep.plan.rule_builder import RuleBuilder
from sweep.plan.value_checks import check_distinct_points, check_fixed, check_moved, note_strengths
from sweep.role_table import TEMPLATE_NAMES, is_address, parse_numbered
from sweep.types import Scalar
from sweep.workflow import (
    Address,
    BatchAxis,
    Dialect,
    Encoding,
    Graph,
    Model,
    ModelRef,
    NodeSchemas,
    Roles,
    Workflow,
    check_graph,
    drop_unknown_fields,
    find_address,
    find_roles,
    load_workflow,
    pruned,
    readable,
    unknown_type,
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


_EMPTY: Final = " needs a value for "  # how check_graph tells of a field that nothing fills


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
    own = workflow
    if own is None and experiment.workflow_path is not None and experiment.workflow not in TEMPLATE_NAMES:
        own = load_workflow(experiment.workflow_path)
    if own is not None:
        own = schemas.dialect.translate(own, schemas)
        own = substitute_models(own, schemas, installed, Assignments.of(experiment))
        experiment = adopt_workflow(experiment, own, schemas)
    if not len(experiment.grid):
        raise PlanError(f"{experiment.name} has no points.", hint="Its conditions exclude every combination.")
    return _Planner(experiment, schemas, installed, own or experiment.workflow).plan()


@dataclass(frozen=True, slots=True)
class _VariantExample:
    """One variant, the main model that decides it, and the first levels that ask for it."""

    variant: GraphVariant
    main: ModelRef | None
    levels: Mapping[str, Level]


class _Planner:
    """Binds each variant of a graph once. Problems are collected; a graph with any is not bound."""

    def __init__(
        self, experiment: Experiment, schemas: NodeSchemas, models: ModelFinder, workflow: str | Workflow
    ) -> None:
        self.experiment = experiment
        self.workflow = workflow  # a template's name, or the user's own
        self.schemas = schemas
        self.dialect = schemas.dialect
        self.models = models
        self.problems = ProblemCollector(experiment, experiment.source or experiment.name, PlanError)
        self.uses = Assignments.of(experiment)
        self.variants = VariantSelector(workflow, schemas, models, self.uses, experiment.clauses)
        self.mains: dict[ModelRef, None] = {}
        path, written = experiment.workflow_path, experiment.workflow
        self.called = path.name if path and not is_reference(written) else written  # in a sentence

    def plan(self) -> Plan:
        """Make the plan. Raises PlanError with every problem there is."""
        if REPLICATE_AXIS in {axis.name for axis in self.experiment.axes} and self.experiment.study.replicates > 1:
            place = f"axes.{REPLICATE_AXIS}"
            self.problems.add_at_key(place, f"{place}: study.replicates makes an axis of that name already.")
        bound_graphs = [bound for example in self._find_examples() if (bound := self._bind(example))]
        self.problems.raise_any()
        base = bound_graphs[0].variant.base if bound_graphs else None  # an adaptive design has no points at first
        plan = Plan(
            experiment=self.experiment,
            bound_graphs=tuple(bound_graphs),
            variants=self.variants,
            schemas=self.schemas,
            models=tuple(self.mains),
            workflow_notes=self._list_workflow_notes(base or ""),
            salted=tuple(axis.name for axis in self.uses.axes.get("board", ())),
        )
        check_distinct_points(plan, self.problems)
        self.problems.raise_any()
        return plan

    def _list_workflow_notes(self, base: str) -> tuple[str, ...]:
        if isinstance(self.workflow, str):
            return ()
        own = self.workflow.for_base(base)
        said = [*own.notes, *note_batches(self.experiment, self.workflow)]
        notes = tuple(readable(own.graph, note) for note in said)
        if not own.lacking or "model" in self.uses:
            return notes
        used = f"so its only one that fits, {next(iter(self.mains)).name}, is used"
        return (*notes, f"The server has no model {own.lacking}, {used}; inputs.model names another.")

    def _find_examples(self) -> list[_VariantExample]:
        """List every variant the levels can ask for, with the first levels that do. Where a model cannot be found, the
        rest is still looked at, as far as there is any other to look at it with.
        """
        first = {axis.name: axis.levels[0] for axis in self.experiment.axes}
        found: dict[GraphVariant, _VariantExample] = {}
        for levels in self.variants.iterate_levels(self.experiment.dimensions):
            here = {**first, **levels}
            if not self.variants.is_reachable(here):
                continue
            with self.problems.collect_at(self._locate_model(here)):
                variant, main = self.variants.at(here), self.variants.main(here)
                found.setdefault(variant, _VariantExample(variant, main, here))
                if main is not None:
                    self.mains[main] = None
        if not found and (any_main := self.models.find_any_main(self.variants.bases or ())):
            variant = self.variants.select_with_main(first, any_main)
            return [_VariantExample(variant, any_main, first)]
        if not found and isinstance(self.workflow, Workflow):
            self._check_node_types(self.workflow.graph)  # no model would mend what is wrong with that
        return list(found.values())

    def _locate_model(self, levels: Mapping[str, Level]) -> str:
        """Locate the name of the model: the level of an axis, else inputs.model."""
        for axis in self.uses.axes.get("model", ()):
            at = next((at for at, level in enumerate(axis.levels) if level is levels[axis.name]), None)
            at = at if at is not None else [level.value for level in axis.levels].index(levels[axis.name].value)
            return f"axes.{axis.name}.{at}"
        return "inputs.model"

    def _refuse(self, message: str) -> None:
        self.problems.add_at_key("workflow", f"workflow: {message}")

    def _bind(self, example: _VariantExample) -> BoundGraph | None:
        """Bind the graph of this variant; return None, with the problems added, where that cannot be done."""
        try:
            graph = build_variant(self.workflow, example.variant, self.schemas)
            if "clip_skip" in self.uses and not find_roles(graph, self.schemas).groups("clip_skip"):
                graph = self.dialect.add_clip_skip(graph)
        except WorkflowError as error:
            self._refuse(str(error))
            return None
        if not self._check_node_types(graph):
            return None
        graph, gone = drop_unknown_fields(graph, self.schemas)
        roles = self._find_roles(graph)
        outputs = self.schemas.dialect.find_outputs(graph, self.schemas)
        resolver = TargetResolver(
            graph=graph,
            schemas=self.schemas,
            roles=roles,
            base=example.variant.base,
            uses=self.uses,
            problems=self.problems,
            workflow=self.called,
            is_template=isinstance(self.workflow, str),
            models=self.models,
        )
        rules = RuleBuilder(resolver, outputs).rules()
        self._require_images(graph, roles, rules)
        self._check_values(rules, example)
        if self.problems:
            return None
        bound = self._finish(graph, outputs, roles, rules, example, gone)
        if bound is not None:
            self._check_graph(bound)
        return None if self.problems else bound

    def _check_node_types(self, graph: Graph) -> bool:
        """Tell whether the server has all node types and one of them makes an image; else a problem is added. Unknown
        types are told alone, as all else that seems to be missing follows from them.
        """
        unknown = [node for node in graph.nodes.values() if node.type not in self.schemas]
        for node in unknown:
            said = unknown_type(node, self.schemas)
            self._refuse(f"{said}{'' if said.endswith('?') else '.'}")
        has_images = bool(self.schemas.dialect.find_outputs(graph, self.schemas))
        if not unknown and not has_images:
            self._refuse(f"{self.called} {self.dialect.explain_no_output(graph, self.schemas)}.")
        return has_images and not unknown

    def _find_roles(self, graph: Graph) -> Roles:
        roles = find_roles(graph, self.schemas)
        for role, texts in self.experiment.roles.items():
            place = f"roles.{role}"
            try:
                chosen = [find_address(graph, text) for text in texts]
                roles = roles.having(graph, self.schemas, {role: chosen})
            except WorkflowError as error:
                self.problems.add_at_value(place, readable(graph, f"{place}: {error}"))
        return roles

    def _require_images(self, graph: Graph, roles: Roles, rules: Sequence[FieldRule]) -> None:
        """Ask for images that the workflow needs and nobody names."""
        given = {slot.address for rule in rules for slot in rule.slots}
        for role in ("image", "control_image"):
            if role in self.uses or (role == "control_image" and "controls" in self.uses):
                continue
            for target in roles.targets.get(role, ()):
                node = graph.nodes[target.address.node]
                schema = self.schemas[node.type].fields[target.address.field]
                if schema.required and not node.fields.get(schema.name) and target.address not in given:
                    option = "--image FILE" if role == "image" else f"--input {role}=FILE"
                    said = f"{self.called} needs an image: add {option}, or inputs.{role} in an experiment file."
                    self.problems.add_at_key("inputs", said)

    def _check_values(self, rules: Sequence[FieldRule], example: _VariantExample) -> None:
        is_ours = partial(self.variants.is_selected, variant=example.variant)
        for rule in rules:
            if not rule.axes:
                check_fixed(rule, self.problems)
            for dimension in self.experiment.dimensions:
                if any(axis.name in rule.axes for axis in dimension.axes):
                    check_moved(rule, dimension, example.levels, is_ours, self.problems)

    def _finish(
        self,
        graph: Graph,
        outputs: tuple[str, ...],
        roles: Roles,
        rules: Sequence[FieldRule],
        example: _VariantExample,
        gone: Sequence[str],
    ) -> BoundGraph | None:
        notes = list(gone)
        fixed = tuple(rule for rule in rules if not rule.axes)
        moved = tuple(rule for rule in rules if rule.axes)
        for rule in fixed:
            graph = graph.set(rule.write({}))
        whole = graph
        graph = self._cut(graph, outputs, [slot for rule in rules for slot in rule.slots], notes)
        if not self._check_effect(graph, [slot for rule in moved for slot in rule.slots]):
            return None
        written = {address for rule in moved for address in rule.write(example.levels)}
        graph = self._fit_models(graph, written, example.main, notes)
        notes += self._note_nodes(graph, outputs, written)
        notes += note_strengths(graph, roles, self.uses, self.dialect)
        graph = self.dialect.finish(graph, outputs)
        return BoundGraph(
            variant=example.variant,
            levels=example.levels,
            graph=graph,
            outputs=outputs,
            tagged=self.dialect.metadata_outputs(graph, outputs, self.schemas),
            dialect=self.dialect,
            is_fusable=is_fusable(graph, self.schemas),
            rules=moved,
            fixed=fixed,
            role_fields={role: found[0].address for role, found in roles.targets.items() if found},
            recall=self.dialect.make_recall(graph, self.schemas, _list_fields(roles)),
            notes=tuple(readable(whole, note) for note in notes),
        )

    def _note_nodes(self, graph: Graph, outputs: tuple[str, ...], written: Collection[Address]) -> Iterator[str]:
        """Note nodes that give another value at each render, and images that only the server has."""
        for node in pruned(graph, outputs).nodes.values():
            if node.type in self.dialect.random_nodes:
                yield f"{node.id} ({node.type}) draws anew at each render, so a point does not give one image only."
        for address, image in list_own_images(graph, self.dialect):
            if address not in written:
                yield f"{address} is {image}, an image of the server; inputs.image names a file instead."

    def _cut(self, graph: Graph, outputs: tuple[str, ...], slots: Sequence[Slot], notes: list[str]) -> Graph:
        """Remove the edges that would win over fields that are set, and all that does not lead to the outputs.

        A server would render the rest for nothing, or fail at it.
        """
        gone = [(slot, edge) for slot in slots for edge in slot.cut]
        notes.extend(
            f"{slot.address} comes from {slot.target}; the workflow's own {edge.source} is bypassed."
            for slot, edge in gone
        )
        idle = [node for node in graph.nodes if node not in pruned(graph, outputs).nodes]
        if idle:
            notes.append(f"{', '.join(idle)}: no image that is kept depends on it, so it is left out.")
        return pruned(graph.without_edges(edge for _, edge in gone), outputs)

    def _check_effect(self, graph: Graph, slots: Sequence[Slot]) -> bool:
        """Tell whether every field that an axis sets is still part of the graph; else a problem is added."""
        idle = [slot for slot in slots if slot.address.node not in graph.nodes]
        for slot in idle:
            place = self.uses.locate(slot.target)
            self.problems.add_at_key(place, f"{place}: no image that is kept depends on {slot.address}.")
        return not idle

    def _fit_models(self, graph: Graph, moving: Collection[Address], main: ModelRef | None, notes: list[str]) -> Graph:
        def problem(address: Address, message: str) -> None:
            if address not in moving:
                self._refuse(readable(graph, f"{address}: {message}"))

        fitted, filled = fit_models(graph, self.schemas, self.models, main, problem)
        for address, model in filled.items():
            if address not in moving and model != main:
                notes.append(f"{address} is {model.name}: the workflow names none, and no other fits.")
        return fitted

    def _check_graph(self, bound: BoundGraph) -> None:
        """Check the whole graph for fields that stay empty and edges that lead nowhere."""
        try:
            graph = bound.graph.set(bound.values(bound.levels))
        except (DefinitionError, WorkflowError) as error:
            self._refuse(error.message)
            return
        self._check_contradictions(bound)
        told = bool(self.problems)  # a model that could not be found leaves its field empty: that is said already
        for problem in check_graph(graph, self.schemas):
            if not (told and _EMPTY in problem.message):
                end = "" if problem.message.endswith(("?", ".")) else "."
                self._refuse(readable(graph, f"{problem.message}{end}"))

    def _check_contradictions(self, bound: BoundGraph) -> None:
        """Check fields that exclude each other, at each value of each axis."""
        moved = {slot.address.node for rule in bound.rules for slot in rule.slots}
        probes = make_probes(bound, self.experiment.dimensions, self.variants)
        for number, (place, graph) in enumerate(probes):
            for name in graph.nodes if number == 0 else moved:
                if found := self.dialect.find_contradiction(graph.nodes[name]):
                    place = place if number else _locate_first(bound, name, found)
                    where = place.partition(" ")[0]
                    self.problems.add_at_key(where, readable(graph, f"{place}: {name}: {found}."))


def _locate_first(bound: BoundGraph, node: str, message: str) -> str:
    """Locate the setting of a field that a message names, at the first levels: an axis, an input, or the workflow."""
    for rule in (*bound.rules, *bound.fixed):
        if any(slot.address.node == node and slot.address.field in message for slot in rule.slots):
            if rule.axes:
                return f"axes.{rule.axes[0]} {bound.levels[rule.axes[0]].value}"
            return rule.uses.locate(rule.targets[0])
    return "workflow"


def _list_fields(roles: Roles) -> dict[str, list[tuple[Address, Encoding]]]:
    """List the fields of every role that means one thing, with their encodings; of LoRAs, those of each."""
    names = dict.fromkeys((*roles.targets, "lora"))
    return {role: [(t.address, t.encode) for group in roles.groups(role) for t in group] for role in names}
