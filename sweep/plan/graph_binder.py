"""Binds the graph of one variant of an experiment: builds its rules, checks every value, applies the fixed inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Final

from sweep.errors import WorkflowError
from sweep.experiment import Level
from sweep.plan.field_rules import FieldRule, PlanContext, RuleBuilder, Slot
from sweep.plan.graph_variants import BoundGraph, GraphVariant, VariantSelector, build_variant
from sweep.plan.model_finder import fit_models
from sweep.plan.value_checks import check_rule_values, choose_test_positions, note_strengths, thin
from sweep.workflow import (
    Address,
    Dialect,
    Encoding,
    Graph,
    ModelRef,
    Node,
    NodeSchemas,
    Roles,
    check_graph,
    drop_unknown_fields,
    find_address,
    find_roles,
    pruned,
    readable,
    unknown_type,
)


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
        said = unknown_type(node, schemas)
        context.refuse(f"{said}{'' if said.endswith('?') else '.'}")
    has_images = bool(schemas.dialect.find_outputs(graph, schemas))
    if not unknown and not has_images:
        context.refuse(f"{context.workflow_name} {schemas.dialect.explain_no_output(graph, schemas)}.")
    return has_images and not unknown


_MOST_COMBINED: Final = 4_096  # combinations of values that are checked for contradictions
_TOLD: Final = 20  # contradictions of the same fields


class GraphBinder:
    """Binds the graph of one variant: finds the fields that are set, checks each value, and applies the fixed inputs.

    `main` is the model that decides the variant, `first` are the first levels that need it. Problems are collected in
    the context; a graph with any is not bound.
    """

    graph: Graph
    roles: Roles
    outputs: tuple[str, ...]
    rules: list[FieldRule]

    def __init__(
        self,
        context: PlanContext,
        variants: VariantSelector,
        variant: GraphVariant,
        main: ModelRef | None,
        first: Mapping[str, Level],
    ) -> None:
        self.context = context
        self.variants = variants
        self.variant = variant
        self.main = main
        self.first = first
        self.schemas = context.schemas
        self.dialect = context.schemas.dialect
        self.uses = context.uses
        self.problems = context.problems
        self.notes: list[str] = []

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
                roles = roles.having(self.graph, self.schemas, {role: chosen})
            except WorkflowError as error:
                self.problems.add_at_value(place, readable(self.graph, f"{place}: {error}"))
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
                    self.problems.add_at_key("inputs", f"{self.context.workflow_name} needs an image: {needed}.")

    def _finish(self) -> BoundGraph | None:
        """Apply the fixed inputs, and keep what leads to the outputs; None where an axis then sets nothing."""
        fixed = tuple(rule for rule in self.rules if not rule.axes)
        moved = tuple(rule for rule in self.rules if rule.axes)
        whole = self.graph
        for rule in fixed:
            whole = whole.set(rule.write({}))
        graph = self._cut(whole, [slot for rule in self.rules for slot in rule.slots])
        if not self._check_effect(graph, [slot for rule in moved for slot in rule.slots]):
            return None
        written = {address for rule in moved for address in rule.write(self.first)}
        graph = self._fit_models(graph, written)
        self.notes += self._note_nodes(graph, written)
        self.notes += note_strengths(graph, self.roles, self.context)
        graph = self.dialect.finish(graph, self.outputs)
        return BoundGraph(
            variant=self.variant,
            levels=self.first,
            graph=graph,
            outputs=self.outputs,
            tagged=self.dialect.metadata_outputs(graph, self.outputs, self.schemas),
            dialect=self.dialect,
            is_fusable=is_fusable(graph, self.schemas),
            rules=moved,
            fixed=fixed,
            role_fields={role: found[0].address for role, found in self.roles.targets.items() if found},
            recall=self.dialect.make_recall(graph, self.schemas, _list_fields(self.roles)),
            notes=tuple(readable(whole, note) for note in self.notes),
        )

    def _note_nodes(self, graph: Graph, written: Collection[Address]) -> Iterator[str]:
        """Note nodes that give another value at each render, and images that only the server has."""
        for node in pruned(graph, self.outputs).nodes.values():
            if node.type in self.dialect.random_nodes:
                yield f"{node.id} ({node.type}) draws anew at each render, so a point does not give one image only."
        for address, image in list_own_images(graph, self.dialect):
            if address not in written:
                yield f"{address} is {image}, an image of the server; inputs.image names a file instead."

    def _cut(self, graph: Graph, slots: Sequence[Slot]) -> Graph:
        """Remove the edges that would win over fields that are set, and all that does not lead to the outputs.

        A server would render the rest for nothing, or fail at it.
        """
        gone = [(slot, edge) for slot in slots for edge in slot.cut]
        self.notes.extend(
            f"{slot.address} comes from {slot.target}; the workflow's own {edge.source} is bypassed."
            for slot, edge in gone
        )
        idle = [node for node in graph.nodes if node not in pruned(graph, self.outputs).nodes]
        if idle:
            self.notes.append(f"{', '.join(idle)}: no image that is kept depends on it, so it is left out.")
        return pruned(graph.without_edges(edge for _, edge in gone), self.outputs)

    def _check_effect(self, graph: Graph, slots: Sequence[Slot]) -> bool:
        """Tell whether every field that an axis sets is still part of the graph; else a problem is added."""
        idle = [slot for slot in slots if slot.address.node not in graph.nodes]
        for slot in idle:
            self.context.refuse(f"no image that is kept depends on {slot.address}.", self.uses.locate(slot.target))
        return not idle

    def _fit_models(self, graph: Graph, moving: Collection[Address]) -> Graph:
        def problem(address: Address, message: str) -> None:
            if address not in moving:
                self.context.refuse(readable(graph, f"{address}: {message}"))

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
                self.context.refuse(readable(graph, f"{problem.message}{end}"))

    def _check_contradictions(self, bound: BoundGraph) -> None:
        """Check fields that exclude each other, at the combinations of their values that conditions leave."""
        for node in bound.graph.nodes.values():
            for fields in self.dialect.list_bound_fields(node.type):
                rules = [rule for rule in bound.rules if any(_writes(slot, node, fields) for slot in rule.slots)]
                axes = dict.fromkeys(axis for rule in rules for axis in rule.axes)
                where = f"axes.{next(iter(axes))}" if axes else _locate_fixed(bound, node, fields)
                found: dict[str, str] = {}
                for here, problem in self._find_contradictions(bound, node, fields, rules):
                    found.setdefault(problem, " · ".join(f"axes.{name} {here[name].value}" for name in axes) or where)
                    if len(found) == _TOLD:
                        break
                for problem, place in found.items():
                    self.problems.add_at_key(where, readable(bound.graph, f"{place}: {node.id}: {problem}."))

    def _find_contradictions(
        self, bound: BoundGraph, node: Node, fields: Collection[str], rules: Sequence[FieldRule]
    ) -> Iterator[tuple[Mapping[str, Level], str]]:
        """Yield the levels of this variant at which these fields of a node exclude each other, and how."""
        for fixed, here in self._combine(bound, rules):
            written = {at.field: v for r in rules for at, v in r.write(here).items() if at.node == node.id}
            values = {name: {**node.fields, **written}.get(name) for name in fields}
            problem = self.dialect.find_contradiction(replace(node, fields=values))
            if problem and any(map(self._is_selected, self.variants.iterate_levels(fixed))):
                yield here, problem

    def _combine(
        self, bound: BoundGraph, rules: Sequence[FieldRule]
    ) -> Iterator[tuple[Mapping[int, int], Mapping[str, Level]]]:
        """Iterate over the positions, and the levels with them, of all that moves these rules in this variant.

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
            here = dict(bound.levels)
            for at, position in zip(moving, chosen, strict=True):
                here.update(moving[at].levels_at(position))
            if self._is_selected(here):
                yield dict(zip(moving, chosen, strict=True)), here


def is_fusable(graph: Graph, schemas: NodeSchemas) -> bool:
    """Tell whether fusing this graph saves time and changes nothing: not where a node gives another value each time,
    nor where an extension brings a node, which may count how often it runs.
    """
    dialect = schemas.dialect
    kinds = {node.type for node in graph.nodes.values()}
    known = all(kind in schemas and not schemas[kind].is_custom for kind in kinds)
    return dialect.is_fusable and known and kinds.isdisjoint(dialect.random_nodes)


def _writes(slot: Slot, node: Node, fields: Collection[str]) -> bool:
    return slot.address.node == node.id and slot.address.field in fields


def _locate_fixed(bound: BoundGraph, node: Node, fields: Collection[str]) -> str:
    """Locate the input that sets one of these fields; else the workflow does."""
    found = (rule for rule in bound.fixed if any(_writes(slot, node, fields) for slot in rule.slots))
    return next((rule.uses.locate(rule.targets[0]) for rule in found), "workflow")


def _list_fields(roles: Roles) -> dict[str, list[tuple[Address, Encoding]]]:
    """List the fields of every role that means one thing, with their encodings; of LoRAs, those of each."""
    names = dict.fromkeys((*roles.targets, "lora"))
    return {role: [(t.address, t.encode) for group in roles.groups(role) for t in group] for role in names}
