"""Binds an experiment to graphs: which variant of its graph a point needs, and each with its rules and fixed inputs.

Values cannot add nodes to a graph, so points whose graphs differ in more than values have different variants: another
family of models, another number of LoRAs or ControlNets, a VAE of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Final

from sweep.errors import PlanError, WorkflowError
from sweep.experiment import Dimension, Level, Setting
from sweep.plan.field_rules import FieldRule, PlanContext, RuleBuilder, Slot, Written, list_controls, list_loras
from sweep.plan.model_finder import (
    ModelFinder,
    find_own_model,
    fit_models,
    list_main_bases,
    list_main_fields,
    list_model_fields,
)
from sweep.plan.value_checks import check_rule_values, choose_test_positions, note_strengths, thin
from sweep.role_table import CONTROL_ROLES, is_address, parse_numbered, strip_number
from sweep.types import Scalar
from sweep.workflow import (
    Address,
    Dialect,
    Digests,
    Graph,
    ModelRef,
    Node,
    NodeSchemas,
    Roles,
    Value,
    Workflow,
    check_graph,
    describe_unknown_type,
    drop_unknown_fields,
    find_address,
    find_roles,
    make_readable,
    prune,
)

_WHOLE: Final = ("model", "lora", "vae", "controls")
_DECIDING: Final = (*_WHOLE, *CONTROL_ROLES)
_EXTENDED: Final = frozenset({"lora", "controlnet"})  # txt2img with as many LoRAs or ControlNets as the variant has


@dataclass(frozen=True, slots=True)
class GraphVariant:
    """The properties that decide which nodes a graph has. `base` is the main model's; None where there is none."""

    base: str | None
    loras: int = 0
    controls: int = 0
    vae: bool | None = None  # whether one of its own, False: the main model's; None where nobody sets it


def _find_highest(settings: Mapping[str, Setting], role: str) -> int:
    """Find the highest number that a role is set with: lora_2 wants two LoRAs."""
    found = [number for target in settings for name, number in [parse_numbered(target) or ("", 0)] if name == role]
    return max(found, default=0)


def build_variant(workflow: str | Workflow, variant: GraphVariant, schemas: NodeSchemas) -> Graph:
    """Build the graph of this variant: the template of that name, or the user's own. Raises WorkflowError.

    A VAE of its own is loaded in the place of the main model's, or that one is used in the place of the workflow's.
    """
    if isinstance(workflow, Workflow):
        graph = workflow.for_base(variant.base or "").graph
    else:
        plain = "txt2img" if workflow in _EXTENDED else workflow
        graph = schemas.dialect.template(plain, variant.base or "", variant.loras, variant.controls)
    if variant.vae is False:
        for loader in [node.id for node in graph.nodes.values() if node.type == schemas.dialect.vae_loader[0]]:
            graph = schemas.dialect.remove_vae_loader(graph, loader)
    if not variant.vae or any("vae" in taken.model_types for _, taken in list_model_fields(graph, schemas)):
        return graph
    name = "vae"
    while name in graph.nodes:
        name += "_"
    return schemas.dialect.add_vae_loader(graph, name)


class VariantSelector:
    """Finds the variant of a point by the levels of the few axes that decide it; each combination is worked out once.

    Axes of single LoRAs and ControlNets are not among these, as every point has all of them, unless labels leave some
    out.
    """

    def __init__(self, context: PlanContext) -> None:
        self.experiment = context.experiment
        self._workflow = context.workflow
        self._schemas = context.schemas
        self._models = context.models
        self.bases = _list_bases(context.workflow, context.schemas, context.models)
        self._uses = context.uses
        self._targets = [target for target in self._uses if strip_number(target) in _DECIDING]
        setting = [(target, axis) for target in self._targets for axis in self._uses.axes.get(target, ())]
        deciding = [axis for target, axis in setting if target in _WHOLE or axis.kind == "label"]
        self.axes = tuple(dict.fromkeys(axis.name for axis in deciding))
        self._clauses = [clause for clause in context.experiment.clauses if set(clause.names) <= set(self.axes)]
        self._default_vae = False if context.is_template else None  # templates have the main model's
        self._known: dict[tuple[Scalar, ...], GraphVariant] = {}

    def iterate_levels(self, fixed: Mapping[int, int] | None = None) -> Iterator[Mapping[str, Level]]:
        """List the first point of every combination of levels of the deciding axes, where conditions leave any.

        `fixed` are positions along some dimensions, which all of them have.
        """
        fixed = fixed or {}
        moving = {at: dimension for at, dimension in self._find_deciding().items() if at not in fixed}
        for positions in product(*(range(len(dimension)) for dimension in moving.values())):
            levels = self.experiment.grid.find_levels({**fixed, **dict(zip(moving, positions, strict=True))})
            if levels is not None:
                yield levels

    def _find_deciding(self) -> dict[int, Dimension]:
        dimensions = enumerate(self.experiment.dimensions)
        return {at: each for at, each in dimensions if any(axis.name in self.axes for axis in each.axes)}

    def is_selected(self, levels: Mapping[str, Level], variant: GraphVariant) -> bool:
        """Tell whether points with these levels count, as far as the deciding axes tell, and have this variant."""
        values = {axis: levels[axis].value for axis in self.axes}
        try:
            return all(clause.holds(values) for clause in self._clauses) and self.at(levels) == variant
        except PlanError:
            return False

    def move(self, levels: Mapping[str, Level], at: int, position: int) -> Mapping[str, Level]:
        """Return the point beside `levels` with another position along one dimension.

        Where conditions exclude it, more moves than that, if there is any point with this position.
        """
        experiment = self.experiment
        moved = {**levels, **experiment.dimensions[at].levels_at(position)}
        values = {axis: level.value for axis, level in moved.items()}
        if all(clause.holds(values) for clause in experiment.clauses):
            return moved
        deciding = {number: each.find_position(values) or 0 for number, each in self._find_deciding().items()}
        return experiment.grid.find_levels({**deciding, at: position}) or moved

    def at(self, levels: Mapping[str, Level]) -> GraphVariant:
        """Select the variant at these levels. Raises PlanError where the model they name cannot be found."""
        point = tuple([levels[axis].value for axis in self.axes])
        variant = self._known.get(point)
        if variant is None:
            variant = self._known[point] = self.select_with_main(levels, self.main(levels))
        return variant

    def select_with_main(self, levels: Mapping[str, Level], main: ModelRef | None) -> GraphVariant:
        """Select the variant these levels would ask for with this main model."""
        settings = self._uses.merge(self._targets, levels, {})
        steered = self._workflow == "controlnet" or any(role in settings for role in CONTROL_ROLES)
        listed = len(list_controls(settings.get("controls"))) if "controls" in settings else int(steered)
        named = 1 if self._workflow == "lora" and "lora" not in settings else len(list_loras(settings.get("lora")))
        return GraphVariant(
            base=main.base if main else None,
            loras=max(named, _find_highest(settings, "lora")),
            controls=max(listed, *(_find_highest(settings, role) for role in CONTROL_ROLES)),
            vae=settings["vae"] is not None if "vae" in settings else self._default_vae,
        )

    def main(self, levels: Mapping[str, Level]) -> ModelRef | None:
        """Find the main model at these levels: named, else the workflow's own, else the server's only one, if any.

        Raises PlanError where the server does not have it, or has several.
        """
        named = self._uses.merge(("model",), levels, {}).get("model")
        if named is not None:
            return self._models.find(named)
        if not isinstance(self._workflow, Workflow):
            return self._models.find_only_main()
        graph = self._workflow.graph
        if self.bases is None:
            return None
        if (named := self._find_loader_model(graph, levels)) is not None:
            return self._models.find(named)
        try:
            own = find_own_model(graph, self._schemas, self._models)
        except PlanError as error:
            other = self._models.find_any_main(self.bases)
            hint = f" To use another, write model: {other.name} under inputs." if other else ""
            raise PlanError(f"the workflow's own model is not there: {error.message}{hint}") from None
        return own or self._models.find_only_main(self.bases, wanted=self._workflow.lacking)

    def _find_loader_model(self, graph: Graph, levels: Mapping[str, Level]) -> Setting:
        """Find the model that a loader's address or a number sets, as a graph may have several loaders; else None."""
        loaders = list(list_main_fields(graph, self._schemas))
        for target in self._uses:
            single = parse_numbered(target)
            meant = loaders[single[1] - 1 : single[1]] if single and single[0] == "model" else []
            if is_address(target):
                with suppress(WorkflowError):  # a problem where the address is bound
                    meant = [find_address(graph, target)]
            if any(address in loaders for address in meant):
                named = self._uses.merge((target,), levels, {}).get(target)
                if named is not None:
                    return named
        return None


def _list_bases(workflow: str | Workflow, schemas: NodeSchemas, models: ModelFinder) -> tuple[str, ...] | None:
    """List the bases that the main model may have: none for any base, None where there is no main model."""
    if not isinstance(workflow, Workflow):
        return ()
    if workflow.translate is None:
        return list_main_bases(workflow.graph, schemas)
    bases = dict.fromkeys(model.base for model in models.installed if model.type == "main")
    return tuple(base for base in bases if base in workflow.bases)


@dataclass(frozen=True, kw_only=True)
class BoundGraph:
    """A graph with its fixed values, and what a variation changes in it."""

    variant: GraphVariant
    levels: Mapping[str, Level]  # the first that need this variant
    graph: Graph
    outputs: tuple[str, ...]
    tagged: tuple[str, ...]  # outputs that take metadata
    dialect: Dialect
    is_fusable: bool  # whether several of these graphs may be one item
    rules: tuple[FieldRule, ...]  # those that axes move
    fixed: tuple[FieldRule, ...]
    role_fields: Mapping[str, Address]  # the first field of each role
    recall: Callable[[Graph], Mapping[str, Value]]  # what servers' own pages show of an image: prompt, seed, steps …
    notes: tuple[str, ...]

    @cached_property
    def digests(self) -> Digests:
        """Return the digests of the graph before a variation changes it; a variation's are computed from them."""
        return Digests(self.graph, self.dialect)

    def values(self, levels: Mapping[str, Level]) -> Written:
        """Return all fields the variation with these levels sets."""
        written: Written = {}
        for rule in self.rules:
            written.update(rule.write(levels))
        return written

    def read(self, graph: Graph, role: str) -> Value:
        """Read what the role's first field holds in `graph`; None where there is no such field."""
        address = self.role_fields.get(role)
        node = graph.nodes.get(address.node) if address else None
        return node.fields.get(address.field) if node and address else None


_MOST_PROBES: Final = 64  # of one dimension; of a longer one the first, the last and some between: all are of one type


def make_probes(bound: BoundGraph, variants: VariantSelector) -> Iterator[tuple[str, Graph]]:
    """Yield (where the value stands, a graph with it in it), beginning with the graph at the first levels of the bound.

    Levels that need a graph of another variant are left out, as is what changes nothing.
    """
    base = bound.values(bound.levels)
    yield "workflow", bound.graph.set(base)
    for number, dimension in enumerate(variants.experiment.dimensions):
        for at in thin(choose_test_positions(dimension), _MOST_PROBES):
            here = variants.move(bound.levels, number, at)
            if variants.is_selected(here, bound.variant) and (written := bound.values(here)) != base:
                place = " · ".join(f"axes.{axis.name} {here[axis.name].value}" for axis in dimension.axes)
                yield place, bound.graph.set(written)


def list_own_images(graph: Graph, dialect: Dialect) -> Iterator[tuple[Address, str]]:
    """List the images that a graph names itself, with the field of each."""
    for node in graph.nodes.values():
        for name, value in node.fields.items() if node.type not in dialect.descriptive_nodes else ():
            if isinstance(value, Mapping) and isinstance(image := value.get("image_name"), str):
                yield Address(node.id, name), image


_EMPTY: Final = " needs a value for "  # in the message of check_graph for a field that nothing fills


def check_node_types(graph: Graph, context: PlanContext) -> bool:
    """Tell whether the server has all node types and one of them makes an image; else a problem is added.

    Unknown types are told alone, as all else that seems to be missing follows from them.
    """
    schemas = context.schemas
    unknown = [node for node in graph.nodes.values() if node.type not in schemas]
    for node in unknown:
        said = describe_unknown_type(node, schemas)
        context.refuse(f"{said}{'' if said.endswith('?') else '.'}")
    has_images = bool(schemas.dialect.find_outputs(graph, schemas))
    if not unknown and not has_images:
        context.refuse(f"{context.workflow_name} {schemas.dialect.explain_no_output(graph, schemas)}.")
    return has_images and not unknown


_MOST_COMBINED: Final = 4_096  # combinations of values that are checked for contradictions
_TOLD: Final = 20  # contradictions of the same fields


@dataclass
class GraphBinder:
    """Binds the graph of one variant: finds the fields that are set, checks each value, and applies the fixed inputs.

    `main` is the model that decides the variant, `first` are the first levels that need it. Problems are collected in
    the context; a graph with any is not bound.
    """

    context: PlanContext
    variants: VariantSelector
    variant: GraphVariant
    main: ModelRef | None
    first: Mapping[str, Level]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schemas = self.context.schemas
        self.dialect = self.schemas.dialect
        self.uses = self.context.uses
        self.problems = self.context.problems

    def bind(self) -> BoundGraph | None:
        """Bind the graph; return None, with the problems added, where that cannot be done."""
        try:
            graph = build_variant(self.context.workflow, self.variant, self.schemas)
            if "clip_skip" in self.uses and not find_roles(graph, self.schemas).groups("clip_skip"):
                graph = self.dialect.add_clip_skip(graph)
        except WorkflowError as error:
            self.context.refuse(str(error))
            return None
        if not check_node_types(graph, self.context):
            return None
        self.graph, gone = drop_unknown_fields(graph, self.schemas)
        self.notes += gone
        self.roles = self._find_roles()
        self.outputs = self.dialect.find_outputs(self.graph, self.schemas)
        self.rules = RuleBuilder(self.context, self.graph, self.roles, self.variant.base, self.outputs).build()
        self._require_images()
        check_rule_values(self.rules, self.first, self.context, self._is_selected)
        if self.problems:
            return None
        bound = self._finish()
        if bound is not None:
            self._check_graph(bound)
        return None if self.problems else bound

    def _is_selected(self, levels: Mapping[str, Level]) -> bool:
        return self.variants.is_selected(levels, self.variant)

    def _find_roles(self) -> Roles:
        roles = find_roles(self.graph, self.schemas)
        for role, texts in self.context.experiment.roles.items():
            place = f"roles.{role}"
            try:
                chosen = [find_address(self.graph, text) for text in texts]
                roles = roles.set_chosen(self.graph, self.schemas, {role: chosen})
            except WorkflowError as error:
                self.problems.add_at_value(place, make_readable(self.graph, f"{place}: {error}"))
        return roles

    def _require_images(self) -> None:
        """Ask for images that the workflow needs and nobody names."""
        given = {slot.address for rule in self.rules for slot in rule.slots}
        for role in ("image", "control_image"):
            if role in self.uses or (role == "control_image" and "controls" in self.uses):
                continue
            for target in self.roles.targets.get(role, ()):
                node = self.graph.nodes[target.address.node]
                schema = self.schemas[node.type].fields[target.address.field]
                if schema.required and not node.fields.get(schema.name) and target.address not in given:
                    option = "--image FILE" if role == "image" else f"--input {role}=FILE"
                    needed = f"add {option}, or inputs.{role} in an experiment file"
                    message = f"{self.context.workflow_name} needs an image: {needed}."
                    self.problems.add_at_key("inputs", message, is_universal=True)

    def _finish(self) -> BoundGraph | None:
        """Apply the fixed inputs, and keep what leads to the outputs; None where an axis then sets nothing."""
        fixed = tuple(rule for rule in self.rules if not rule.axes)
        moved = tuple(rule for rule in self.rules if rule.axes)
        whole = self.graph
        for rule in fixed:
            whole = whole.set(rule.write({}))
        graph = self._cut(whole, [slot for rule in self.rules for slot in rule.slots])
        idle = [slot for rule in moved for slot in rule.slots if slot.address.node not in graph.nodes]
        for slot in idle:
            self.context.refuse(f"no image that is kept depends on {slot.address}.", self.uses.locate(slot.target))
        if idle:
            return None
        written = {address for rule in moved for address in rule.write(self.first)}
        for slot in (slot for rule in moved for slot in rule.slots if slot.schema.shown_with):
            self._refuse_unchosen(graph, slot, written)
        graph = self._fit_models(graph, written)
        self.notes += self._note_nodes(graph, written)
        self.notes += note_strengths(graph, self.roles, self.context)
        graph = self.dialect.finish(graph, self.outputs)
        groups = {role: self.roles.groups(role) for role in dict.fromkeys((*self.roles.targets, "lora"))}
        fields = {role: [(t.address, t.encode) for group in found for t in group] for role, found in groups.items()}
        return BoundGraph(
            variant=self.variant,
            levels=self.first,
            graph=graph,
            outputs=self.outputs,
            tagged=self.dialect.list_metadata_outputs(graph, self.outputs, self.schemas),
            dialect=self.dialect,
            is_fusable=is_fusable(graph, self.schemas),
            rules=moved,
            fixed=fixed,
            role_fields={role: found[0].address for role, found in self.roles.targets.items() if found},
            recall=self.dialect.make_recall(graph, self.schemas, fields),
            notes=tuple(make_readable(whole, note) for note in self.notes),
        )

    def _refuse_unchosen(self, graph: Graph, slot: Slot, written: Collection[Address]) -> None:
        """Refuse an axis of a field that belongs to other values of a choice than the one that the graph has."""
        choice = Address(slot.address.node, slot.address.field.rpartition(".")[0])
        node = graph.nodes[choice.node]
        value = node.fields.get(choice.field, self.schemas[node.type].fields[choice.field].default)
        if value not in slot.schema.shown_with and choice not in written and not graph.list_edges_into(choice):
            others, now = " or ".join(slot.schema.shown_with), "not set" if value is None else value
            why = f"{slot.address} has no effect while {choice} is {now}, only with {others}."
            self.context.refuse(make_readable(graph, why), self.uses.locate(slot.target))

    def _note_nodes(self, graph: Graph, written: Collection[Address]) -> Iterator[str]:
        """Note nodes that give another value at each render, and images that only the server has."""
        for node in graph.nodes.values():
            if node.type in self.dialect.random_nodes:
                yield f"{node.id} ({node.type}) draws anew at each render, so a point does not give one image only."
        named = [pair for role in ("image", "control_image") for pair in self.roles.numbered(role)]
        inputs = {target.address: name for name, targets in named for target in targets}
        for address, image in list_own_images(graph, self.dialect):
            if address not in written:
                way = f"inputs.{inputs.get(address, address)}"
                yield f"{address} is {image}, an image of the server; {way} names a file instead."

    def _cut(self, graph: Graph, slots: Sequence[Slot]) -> Graph:
        """Remove the edges that would win over fields that are set, and all that does not lead to the outputs.

        A server would render the rest for nothing, or fail at it.
        """
        gone = [(slot, edge) for slot in slots for edge in slot.cut]
        self.notes.extend(
            f"{slot.address} comes from {slot.target}; the workflow's own {edge.source} is bypassed."
            for slot, edge in gone
        )
        kept = prune(graph, self.outputs).nodes
        idle = [node for node in graph.nodes if node not in kept]
        if idle:
            self.notes.append(f"{', '.join(idle)}: no image that is kept depends on it, so it is left out.")
        return prune(graph.without_edges(edge for _, edge in gone), self.outputs)

    def _fit_models(self, graph: Graph, moving: Collection[Address]) -> Graph:
        def problem(address: Address, message: str) -> None:
            if address not in moving:
                self.context.refuse(make_readable(graph, f"{address}: {message}"))

        fitted, filled = fit_models(graph, self.schemas, self.context.models, self.main, problem)
        for address, model in filled.items():
            if address not in moving and model != self.main:
                self.notes.append(f"{address} is {model.name}: the workflow names none, and no other fits.")
        return fitted

    def _check_graph(self, bound: BoundGraph) -> None:
        """Check the whole graph for fields that stay empty and edges that lead nowhere."""
        graph = bound.graph.set(bound.values(bound.levels))
        self._check_contradictions(bound)
        is_known = bool(self.problems)  # a model that is not found leaves its field empty: that is a problem already
        for problem in check_graph(graph, self.schemas):
            if not (is_known and _EMPTY in problem.message):
                end = "" if problem.message.endswith(("?", ".")) else "."
                self.context.refuse(make_readable(graph, f"{problem.message}{end}"))

    def _check_contradictions(self, bound: BoundGraph) -> None:
        """Check fields that exclude each other, at the combinations of their values that conditions leave."""
        for node in bound.graph.nodes.values():
            for fields in self.dialect.list_bound_fields(node.type):
                places = {Address(node.id, name) for name in fields}
                writing = [
                    rule for rule in (*bound.rules, *bound.fixed) if any(slot.address in places for slot in rule.slots)
                ]
                axes = list(dict.fromkeys(axis for rule in writing for axis in rule.axes))
                where = f"axes.{axes[0]}" if axes else "workflow"
                if writing and not axes:
                    where = self.uses.locate(writing[0].targets[0])
                found: dict[str, str] = {}  # what is wrong → where first
                for here, problem in self._find_contradictions(bound, node, fields, writing):
                    found.setdefault(problem, " · ".join(f"axes.{name} {here[name].value}" for name in axes) or where)
                    if len(found) == _TOLD:
                        break
                for problem, place in found.items():
                    self.problems.add_at_key(where, make_readable(bound.graph, f"{place}: {node.id}: {problem}."))

    def _find_contradictions(
        self, bound: BoundGraph, node: Node, fields: Collection[str], rules: Sequence[FieldRule]
    ) -> Iterator[tuple[Mapping[str, Level], str]]:
        """Yield the levels of this variant at which these fields of a node exclude each other, and how.

        Of very many combinations, those of some levels of each axis tell.
        """
        names = {axis for rule in rules for axis in rule.axes}
        dimensions = enumerate(self.context.experiment.dimensions)
        moving = {at: each for at, each in dimensions if any(axis.name in names for axis in each.axes)}
        positions, room = {at: choose_test_positions(each) for at, each in moving.items()}, _MOST_COMBINED
        for left, at in zip(range(len(moving), 0, -1), sorted(moving, key=lambda at: len(positions[at])), strict=True):
            positions[at] = thin(positions[at], int(room ** (1 / left)))
            room //= len(positions[at])
        for chosen in product(*positions.values()):
            here, fixed = dict(bound.levels), dict(zip(moving, chosen, strict=True))
            for at, position in fixed.items():
                here.update(moving[at].levels_at(position))
            if not self._is_selected(here):
                continue
            written = {at.field: v for rule in rules for at, v in rule.write(here).items() if at.node == node.id}
            values = {name: {**node.fields, **written}.get(name) for name in fields}
            problem = self.dialect.find_contradiction(replace(node, fields=values))
            if problem and any(map(self._is_selected, self.variants.iterate_levels(fixed))):
                yield here, problem


def is_fusable(graph: Graph, schemas: NodeSchemas) -> bool:
    """Tell whether fusing this graph saves time and changes nothing: not where a node gives another value each time,
    nor where an extension brings a node, which may count how often it runs.
    """
    dialect = schemas.dialect
    kinds = {node.type for node in graph.nodes.values()}
    known = all(kind in schemas and not schemas[kind].is_custom for kind in kinds)
    return dialect.is_fusable and known and kinds.isdisjoint(dialect.random_nodes)
