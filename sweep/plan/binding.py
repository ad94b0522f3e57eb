"""Binds an experiment to a workflow and to what a server has: `make_plan`, and every fault in one error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sweep.errors import DefinitionError, PlanError, WorkflowError
from sweep.experiment.definition import Experiment, Level
from sweep.plan.bodies import Binding, Body
from sweep.plan.checks import Around, check_fixed, check_moved
from sweep.plan.drafting import Draft
from sweep.plan.faults import Faults
from sweep.plan.fitting import fit_models
from sweep.plan.fusion import RANDOM
from sweep.plan.instance import METADATA_INPUT
from sweep.plan.models import Models
from sweep.plan.plan import Plan
from sweep.plan.rules import Slot
from sweep.plan.settings import Uses
from sweep.plan.shapes import Shape, build, is_template, shaping_axes, shaping_levels
from sweep.plan.shaping import Shapes
from sweep.workflow.checks import check_graph
from sweep.workflow.graph import Address, Graph, ModelRef
from sweep.workflow.outputs import output_nodes
from sweep.workflow.roles import Roles, find_roles
from sweep.workflow.schemas import Model, NodeSchemas

__all__ = ["Plan", "make_plan"]

_PICTURE_NEEDED: Final = {"img2img": "image", "controlnet": "control_image"}


def make_plan(
    experiment: Experiment, schemas: NodeSchemas, models: Sequence[Model], workflow: Graph | None = None
) -> Plan:
    """The experiment bound to its workflow, with every value checked against the field it sets.

    `workflow` is the graph where the experiment names a file that has been read already; otherwise it is read here.
    Raises PlanError that lists every fault with its place in the experiment's file, or WorkflowError for a workflow
    file that is wrong in itself. The seeds of the experiment have to be drawn.
    """
    if experiment.undrawn:
        axes = ", ".join(experiment.undrawn)
        raise PlanError(
            f"The seeds of {axes} are not drawn yet.", hint="Experiment.with_seeds gives them their values."
        )
    if not len(experiment.grid):
        raise PlanError(f"{experiment.name} has no points.", hint="Its conditions exclude every combination.")
    maker = _Maker(experiment, schemas, Models.of(models), workflow)
    plan = maker.plan()
    maker.faults.raise_any()
    return plan


@dataclass(frozen=True, slots=True)
class _Shaped:
    """One shape, the model that decides it, and the levels at which the experiment first has it."""

    shape: Shape
    main: ModelRef | None
    levels: Mapping[str, Level]


class _Maker:
    def __init__(self, experiment: Experiment, schemas: NodeSchemas, models: Models, workflow: Graph | None) -> None:
        self.experiment = experiment
        self.schemas = schemas
        self.models = models
        self.faults = Faults(experiment)
        self.uses = Uses.of(experiment)
        self.workflow: str | Graph = self._workflow(workflow)
        self.template = isinstance(self.workflow, str)
        self.first = {axis.name: axis.levels[0] for axis in experiment.axes}
        self.shapes = Shapes(self.workflow, schemas, self.models, self.uses)

    def plan(self) -> Plan:
        """The plan, faults apart: raises PlanError where there is none to speak of."""
        bodies = [self._body(shaped) for shaped in self._shapes()]
        self.faults.raise_any()
        return Plan(
            experiment=self.experiment,
            bodies=tuple(bodies),
            shapes=self.shapes,
            schemas=self.schemas,
            salted=tuple(axis.name for axis in self.uses.axes.get("board", ())),
        )

    def _workflow(self, given: Graph | None) -> str | Graph:
        if given is not None:
            return given
        path = self.experiment.workflow_path
        if path is None or is_template(self.experiment.workflow):
            return self.experiment.workflow
        from sweep.workflow.formats import load_workflow

        return load_workflow(path).graph

    def _shapes(self) -> list[_Shaped]:
        """Every shape the levels can ask for, with the first levels that do."""
        found: dict[Shape, _Shaped] = {}
        for levels in shaping_levels(shaping_axes(self.uses)):
            here = {**self.first, **levels}
            with self.faults.at(self.uses.places("model")[0]):
                shape = self.shapes.at(here)
                found.setdefault(shape, _Shaped(shape, self.shapes.main(here), here))
        self.faults.raise_any()
        return list(found.values())

    def _body(self, shaped: _Shaped) -> Body:
        graph, outputs, roles = self._graph(shaped.shape)
        draft = Draft(
            graph=graph,
            schemas=self.schemas,
            roles=roles,
            outputs=outputs,
            models=self.models,
            base=shaped.shape.base,
            uses=self.uses,
            faults=self.faults,
            workflow=self.experiment.workflow,
            template=self.template,
        )
        bindings = [Binding.of(rule, self.uses) for rule in draft.rules()]
        self._needs_picture()
        moved = tuple(binding for binding in bindings if binding.axes)
        fixed = tuple(binding for binding in bindings if not binding.axes)
        for binding in fixed:
            check_fixed(binding, self.faults)
        around = Around(shaped.levels, lambda levels: self.shapes.at(levels) == shaped.shape)
        for binding in moved:
            for axis in self.experiment.axes:
                if axis.name in binding.axes:
                    check_moved(binding, axis, around, self.faults)
        self.faults.raise_any()
        body = self._bound(graph, outputs, roles, fixed, moved, shaped)
        self._check_whole(body, shaped.levels)
        return body

    def _graph(self, shape: Shape) -> tuple[Graph, tuple[str, ...], Roles]:
        try:
            graph = build(self.workflow, shape, self.schemas)
            outputs = output_nodes(graph, self.schemas)
            roles = find_roles(graph, self.schemas)
            chosen = {role: [Address.parse(text) for text in texts] for role, texts in self.experiment.roles.items()}
            roles = roles.having(graph, self.schemas, chosen) if chosen else roles
        except WorkflowError as error:
            self.faults.add("workflow", f"workflow: {error}")
            self.faults.raise_any()
            raise
        if not outputs:
            self.faults.add("workflow", f"workflow: no node of {self.experiment.workflow} makes a picture.")
            self.faults.raise_any()
        return graph, outputs, roles

    def _needs_picture(self) -> None:
        needed = _PICTURE_NEEDED.get(self.experiment.workflow) if self.template else None
        if needed and needed not in self.uses and not ("controls" in self.uses and needed == "control_image"):
            self.faults.add("inputs", f"{self.experiment.workflow} needs inputs.{needed}.")

    def _bound(
        self,
        graph: Graph,
        outputs: tuple[str, ...],
        roles: Roles,
        fixed: tuple[Binding, ...],
        moved: tuple[Binding, ...],
        shaped: _Shaped,
    ) -> Body:
        notes: list[str] = []
        slots = [slot for binding in (*fixed, *moved) for slot in binding.rule.slots]
        for binding in fixed:
            graph = graph.set(binding.write({}))
        graph = self._cut(graph, slots, notes)
        moving = {slot.address for binding in moved for slot in binding.rule.slots}

        def fault(address: Address, message: str) -> None:
            if address not in moving:
                self.faults.add("workflow", f"{address} {message}")

        fitted = fit_models(graph, self.schemas, self.models, shaped.main, fault)
        filled = [f"{address} is {model.name}" for address, model in fitted.filled.items() if model != shaped.main]
        notes += [f"The workflow names no model there, so {text}, the only one that fits." for text in filled]
        notes += self._random(fitted.graph)
        graph = self._finished(fitted.graph, outputs)
        return Body(
            shape=shaped.shape,
            levels=shaped.levels,
            graph=graph,
            outputs=outputs,
            tagged=self._tagged(graph, outputs),
            bindings=moved,
            fixed=fixed,
            prompts=_addresses(roles, "prompt"),
            models=_addresses(roles, "model"),
            sources=_addresses(roles, "image"),
            notes=tuple(notes),
        )

    def _cut(self, graph: Graph, slots: Sequence[Slot], notes: list[str]) -> Graph:
        """The graph without the edges that would win over the fields that are set."""
        gone = [(slot, edge) for slot in slots for edge in slot.cut]
        notes.extend(f"{slot.address} is set by {slot.target}, no longer by {edge.source}." for slot, edge in gone)
        return graph.without_edges(edge for _, edge in gone)

    def _random(self, graph: Graph) -> list[str]:
        """Nodes that give another value at each execution: two renders of the same point will differ."""
        return [
            f"{node.id} ({node.type}) draws anew at each render, so the same point does not give the same picture."
            for node in graph.nodes.values()
            if node.type in RANDOM
        ]

    def _finished(self, graph: Graph, outputs: Sequence[str]) -> Graph:
        """Outputs always make a picture of their own: a cached node would hand two points the same one."""
        return graph.set({Address(output, "use_cache"): False for output in outputs})

    def _tagged(self, graph: Graph, outputs: Sequence[str]) -> tuple[str, ...]:
        fed = {edge.destination for edge in graph.edges}
        return tuple(
            output
            for output in outputs
            if METADATA_INPUT in self.schemas[graph.nodes[output].type].fields
            and Address(output, METADATA_INPUT) not in fed
        )

    def _check_whole(self, body: Body, levels: Mapping[str, Level]) -> None:
        """What no single value tells: fields that stay empty, edges that lead nowhere."""
        self.faults.raise_any()
        try:
            graph = body.graph.set(body.values(levels))
        except DefinitionError as error:
            self.faults.add("workflow", error.message)
            return
        for problem in check_graph(graph, self.schemas):
            self.faults.add("workflow", f"workflow: {problem.message}.")


def _addresses(roles: Roles, role: str) -> tuple[Address, ...]:
    return tuple(target.address for target in roles.targets.get(role, ()))
