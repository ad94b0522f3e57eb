"""Assembles one body: the graph of a shape with its fixed inputs, rules for what axes move, every value checked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sweep.errors import DefinitionError, WorkflowError
from sweep.experiment.definition import Experiment, Level
from sweep.plan.bodies import Binding, Body
from sweep.plan.checks import Around, check_fixed, check_moved
from sweep.plan.drafting import Draft
from sweep.plan.faults import Faults
from sweep.plan.fitting import fit_models
from sweep.plan.fusion import RANDOM
from sweep.plan.instance import METADATA_INPUT, METADATA_TYPE, RECALLED
from sweep.plan.models import Models
from sweep.plan.places import Places
from sweep.plan.rules import Slot
from sweep.plan.settings import Uses
from sweep.plan.shapes import Shape, build
from sweep.plan.shaping import Shapes
from sweep.plan.strength import strength_notes
from sweep.workflow.graph import Address, Graph, ModelRef
from sweep.workflow.loaded import Workflow
from sweep.workflow.naming import find_address, readable
from sweep.workflow.outputs import output_nodes, pruned, without_pictures
from sweep.workflow.roles import Roles, find_roles
from sweep.workflow.schemas import NodeSchemas
from sweep.workflow.soundness import check_graph, unknown_type

_EMPTY: Final = " needs a value for "  # how check_graph tells of a field that nothing fills


@dataclass(frozen=True, slots=True)
class Shaped:
    """One shape, the main model that decides it, and the first levels that ask for it."""

    shape: Shape
    main: ModelRef | None
    levels: Mapping[str, Level]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """All that bodies are made of. Faults are collected; a body with any is None."""

    experiment: Experiment
    workflow: str | Workflow  # a template's name, or the user's own
    schemas: NodeSchemas
    models: Models
    uses: Uses
    shapes: Shapes
    faults: Faults

    @property
    def template(self) -> bool:
        """Whether the workflow is a built-in one."""
        return isinstance(self.workflow, str)

    @property
    def called(self) -> str:
        """The workflow's name in a sentence: its template, or its file without the way there."""
        path = self.experiment.workflow_path
        return path.name if path else self.experiment.workflow

    def body(self, shaped: Shaped) -> Body | None:
        """The body of this shape; None, with the faults added, where there cannot be one."""
        try:
            graph = build(self.workflow, shaped.shape, self.schemas)
        except WorkflowError as error:
            self.faults.add("workflow", f"workflow: {error}")
            return None
        if not self.usable(graph):
            return None
        roles = self._roles(graph)
        outputs = output_nodes(graph, self.schemas)
        bindings = self._bindings(graph, outputs, roles, shaped)
        self._need_pictures(graph, roles, bindings)
        self._check_values(bindings, shaped)
        if self.faults:
            return None
        body = self._finished(graph, outputs, roles, bindings, shaped)
        if body is None:
            return None
        self._check_whole(body)
        return None if self.faults else body

    def usable(self, graph: Graph) -> bool:
        """Whether the server has all node types and one of them makes a picture; else a fault is added. Unknown types
        are told alone, as all else that seems to be missing follows from them.
        """
        unknown = [node for node in graph.nodes.values() if node.type not in self.schemas]
        for node in unknown:
            said = unknown_type(node, self.schemas)
            self.faults.add("workflow", f"workflow: {said}{'' if said.endswith('?') else '.'}")
        pictures = bool(output_nodes(graph, self.schemas))
        if not unknown and not pictures:
            self.faults.add("workflow", f"workflow: {self.called} {without_pictures(graph, self.schemas)}.")
        return pictures and not unknown

    def _roles(self, graph: Graph) -> Roles:
        roles = find_roles(graph, self.schemas)
        for role, texts in self.experiment.roles.items():
            place = f"roles.{role}"
            try:
                chosen = [find_address(graph, text) for text in texts]
                roles = roles.having(graph, self.schemas, {role: chosen})
            except WorkflowError as error:
                self.faults.add(place, readable(graph, f"{place}: {error}"), value=True)
        return roles

    def _bindings(self, graph: Graph, outputs: tuple[str, ...], roles: Roles, shaped: Shaped) -> tuple[Binding, ...]:
        places = Places(
            graph=graph,
            schemas=self.schemas,
            roles=roles,
            base=shaped.shape.base,
            uses=self.uses,
            faults=self.faults,
            workflow=self.called,
            template=self.template,
        )
        rules = Draft(places, outputs, self.models).rules()
        return tuple(Binding.of(rule, self.uses) for rule in rules)

    def _need_pictures(self, graph: Graph, roles: Roles, bindings: Sequence[Binding]) -> None:
        """Pictures the workflow cannot do without and nobody names."""
        given = {slot.address for binding in bindings for slot in binding.rule.slots}
        for role in ("image", "control_image"):
            if role in self.uses or (role == "control_image" and "controls" in self.uses):
                continue
            for target in roles.targets.get(role, ()):
                node = graph.nodes[target.address.node]
                schema = self.schemas[node.type].fields[target.address.field]
                if schema.required and not node.fields.get(schema.name) and target.address not in given:
                    self.faults.add("inputs", f"{self.called} needs inputs.{role}.")

    def _check_values(self, bindings: Sequence[Binding], shaped: Shaped) -> None:
        around = Around(shaped.levels, lambda levels: self.shapes.suits(levels, shaped.shape))
        for binding in bindings:
            if not binding.axes:
                check_fixed(binding, self.faults)
            for dimension in self.experiment.dimensions:
                if any(axis.name in binding.axes for axis in dimension.axes):
                    check_moved(binding, dimension, around, self.faults)

    def _finished(
        self,
        graph: Graph,
        outputs: tuple[str, ...],
        roles: Roles,
        bindings: tuple[Binding, ...],
        shaped: Shaped,
    ) -> Body | None:
        notes: list[str] = []
        for binding in bindings:
            if not binding.axes:
                graph = graph.set(binding.write({}))
        whole = graph
        graph = self._cut(graph, outputs, [slot for binding in bindings for slot in binding.rule.slots], notes)
        moved = tuple(binding for binding in bindings if binding.axes)
        if not self._all_matter(graph, [slot for binding in moved for slot in binding.rule.slots]):
            return None
        written = {address for binding in moved for address in binding.write(shaped.levels)}
        graph = self._with_models(graph, written, shaped.main, notes)
        notes.extend(self._random(pruned(graph, outputs)))
        notes.extend(strength_notes(graph, roles, self.uses))
        # Outputs always make a picture of their own: a cached node would hand two points the same one.
        graph = graph.set({Address(output, "use_cache"): False for output in outputs})
        return Body(
            shape=shaped.shape,
            levels=shaped.levels,
            graph=graph,
            outputs=outputs,
            tagged=self._tagged(graph, outputs),
            bindings=moved,
            fixed=tuple(binding for binding in bindings if not binding.axes),
            prompts=_addresses(roles, "prompt"),
            models=_addresses(roles, "model"),
            sources=_addresses(roles, "image"),
            metadata=_told(roles),
            notes=tuple(readable(whole, note) for note in notes),
        )

    def _cut(self, graph: Graph, outputs: tuple[str, ...], slots: Sequence[Slot], notes: list[str]) -> Graph:
        """The graph without the edges that would win over fields that are set, and with nothing but what leads to the
        outputs: a server would render the rest for nothing, or fail at it.
        """
        gone = [(slot, edge) for slot in slots for edge in slot.cut]
        notes.extend(f"{slot.address} is set by {slot.target}, no longer by {edge.source}." for slot, edge in gone)
        idle = [node for node in graph.nodes if node not in pruned(graph, outputs).nodes]
        if idle:
            notes.append(f"{', '.join(idle)}: no picture that is kept depends on it, so it is left out.")
        return pruned(graph.without_edges(edge for _, edge in gone), outputs)

    def _all_matter(self, graph: Graph, slots: Sequence[Slot]) -> bool:
        """Whether every field that an axis sets is still part of the graph; else a fault is added."""
        idle = [slot for slot in slots if slot.address.node not in graph.nodes]
        for slot in idle:
            place = self.uses.places(slot.target)[0]
            self.faults.add(place, f"{place}: no picture that is kept depends on {slot.address}.")
        return not idle

    def _with_models(self, graph: Graph, moving: Collection[Address], main: ModelRef | None, notes: list[str]) -> Graph:
        def fault(address: Address, message: str) -> None:
            if address not in moving:
                self.faults.add("workflow", readable(graph, f"{address} {message}"))

        fitted = fit_models(graph, self.schemas, self.models, main, fault)
        for address, model in fitted.filled.items():
            if address not in moving and model != main:
                notes.append(f"{address} is {model.name}: the workflow names none, and no other fits.")
        return fitted.graph

    def _random(self, graph: Graph) -> Iterator[str]:
        """Nodes that give another value at each execution: two renders of the same point will differ."""
        for node in graph.nodes.values():
            if node.type in RANDOM:
                yield f"{node.id} ({node.type}) draws anew at each render, so a point does not give one picture only."

    def _tagged(self, graph: Graph, outputs: Sequence[str]) -> tuple[str, ...]:
        if METADATA_TYPE not in self.schemas:
            return ()
        return tuple(o for o in outputs if METADATA_INPUT in self.schemas[graph.nodes[o].type].fields)

    def _check_whole(self, body: Body) -> None:
        """What no single value tells: fields that stay empty, edges that lead nowhere."""
        try:
            graph = body.graph.set(body.values(body.levels))
        except (DefinitionError, WorkflowError) as error:
            self.faults.add("workflow", f"workflow: {error.message}")
            return
        told = bool(self.faults)  # a model that could not be found leaves its field empty: that is said already
        for problem in check_graph(graph, self.schemas):
            if not (told and _EMPTY in problem.message):
                end = "" if problem.message.endswith(("?", ".")) else "."
                self.faults.add("workflow", readable(graph, f"workflow: {problem.message}{end}"))


def _told(roles: Roles) -> dict[str, Address]:
    """Where the parameters stand that pictures tell of themselves. Guidance is not told as if it were cfg_scale."""
    found = {told: _addresses(roles, role)[:1] for role, told in RECALLED.items()}
    return {told: at[0] for told, at in found.items() if at and (told != "cfg_scale" or at[0].field == told)}


def _addresses(roles: Roles, role: str) -> tuple[Address, ...]:
    return tuple(target.address for target in roles.targets.get(role, ()))
