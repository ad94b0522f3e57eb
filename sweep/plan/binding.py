"""Binds an experiment to a workflow and to what a server has: `make_plan`, and every fault in one error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweep.errors import PlanError
from sweep.experiment.definition import Experiment, Level
from sweep.plan.adopting import adopted, batch_notes
from sweep.plan.assembly import Assembly, Shaped
from sweep.plan.bodies import Body
from sweep.plan.duplicates import check_distinct
from sweep.plan.faults import Faults
from sweep.plan.homing import at_home
from sweep.plan.models import Models
from sweep.plan.plan import Plan
from sweep.plan.replicates import REPLICATE
from sweep.plan.settings import Uses
from sweep.plan.shapes import Shape, is_template, shaping_axes, shaping_levels
from sweep.plan.shaping import Shapes
from sweep.workflow.graph import ModelRef
from sweep.workflow.loaded import Workflow
from sweep.workflow.naming import readable
from sweep.workflow.schemas import Model, NodeSchemas

__all__ = ["Plan", "make_plan"]


def make_plan(
    experiment: Experiment, schemas: NodeSchemas, models: Sequence[Model], workflow: Workflow | None = None
) -> Plan:
    """The experiment bound to its workflow, with every value checked against the field it sets.

    `workflow` is what the file holds that the experiment names; where it is not given, that file is read.
    Raises PlanError that lists every fault with its place in the experiment's file, or WorkflowError for a workflow
    file that is wrong in itself. The seeds of the experiment have to be drawn.
    """
    if experiment.undrawn:
        axes = ", ".join(experiment.undrawn)
        raise PlanError(
            f"The seeds of {axes} are not drawn yet.", hint="Experiment.with_seeds gives them their values."
        )
    installed = Models.of(models)
    own = workflow or _own_workflow(experiment)
    if own is not None:
        own = at_home(own, schemas, installed, Uses.of(experiment))
        experiment = adopted(experiment, own, schemas)
    if not len(experiment.grid):
        raise PlanError(f"{experiment.name} has no points.", hint="Its conditions exclude every combination.")
    return _Maker(experiment, schemas, installed, own or experiment.workflow).plan()


def _own_workflow(experiment: Experiment) -> Workflow | None:
    path = experiment.workflow_path
    if path is None or is_template(experiment.workflow):
        return None
    from sweep.workflow.formats import load_workflow

    return load_workflow(path)


class _Maker:
    def __init__(self, experiment: Experiment, schemas: NodeSchemas, models: Models, workflow: str | Workflow) -> None:
        self.faults = Faults(experiment)
        self.uses = Uses.of(experiment)
        self.models = models
        self.shapes = Shapes(workflow, schemas, models, self.uses, experiment.condition)
        self.mains: dict[ModelRef, None] = {}
        self.assembly = Assembly(
            experiment=experiment,
            workflow=workflow,
            schemas=schemas,
            models=models,
            uses=self.uses,
            shapes=self.shapes,
            faults=self.faults,
        )

    def plan(self) -> Plan:
        """Raises PlanError with every fault there is."""
        experiment = self.assembly.experiment
        if REPLICATE in {axis.name for axis in experiment.axes} and experiment.study.replicates > 1:
            self.faults.add(
                f"axes.{REPLICATE}", f"axes.{REPLICATE}: study.replicates makes an axis of that name already."
            )
        bodies = [body for shaped in self._shapes() if (body := self.assembly.body(shaped))]
        self.faults.raise_any()
        plan = Plan(
            experiment=experiment,
            bodies=tuple(bodies),
            shapes=self.shapes,
            schemas=self.assembly.schemas,
            models=tuple(self.mains),
            workflow_notes=self._workflow_notes(bodies),
            salted=tuple(axis.name for axis in self.uses.axes.get("board", ())),
        )
        check_distinct(plan, self.faults)
        self.faults.raise_any()
        return plan

    def _workflow_notes(self, bodies: Sequence[Body]) -> tuple[str, ...]:
        workflow = self.assembly.workflow
        if isinstance(workflow, str):
            return ()
        own = workflow.for_base(bodies[0].shape.base or "")
        said = [*own.notes, *batch_notes(self.assembly.experiment, workflow)]
        notes = tuple(readable(own.graph, note) for note in said)
        if not own.lacking or "model" in self.uses:
            return notes
        used = f"so its only one that fits, {next(iter(self.mains)).name}, is used"
        return (*notes, f"The server has no model {own.lacking}, {used}; inputs.model names another.")

    def _shapes(self) -> list[Shaped]:
        """Every shape the levels can ask for, with the first levels that do. Where a model cannot be found, the
        rest is still looked at, as far as there is any other to look at it with.
        """
        first = {axis.name: axis.levels[0] for axis in self.assembly.experiment.axes}
        found: dict[Shape, Shaped] = {}
        place = self.uses.places("model")[0]
        for levels in shaping_levels(shaping_axes(self.uses), self.assembly.experiment.dimensions):
            here = {**first, **levels}
            if not self.shapes.counts(here):
                continue
            with self.faults.at(self._place_of_model(here, place)):
                shape, main = self.shapes.at(here), self.shapes.main(here)
                found.setdefault(shape, Shaped(shape, main, here))
                if main is not None:
                    self.mains[main] = None
        if not found and (any_main := self.models.any_main(self.shapes.bases or ())):
            shape = self.shapes.with_main(first, any_main)
            return [Shaped(shape, any_main, first)]
        if not found and isinstance(self.assembly.workflow, Workflow):
            self.assembly.usable(self.assembly.workflow.graph)  # no model would mend what is wrong with that
        return list(found.values())

    def _place_of_model(self, levels: Mapping[str, Level], place: str) -> str:
        """inputs.model, or the very level of the axis that names it."""
        for axis in self.uses.axes.get("model", ()):
            at = next((at for at, level in enumerate(axis.levels) if level is levels[axis.name]), None)
            at = at if at is not None else [level.value for level in axis.levels].index(levels[axis.name].value)
            return f"axes.{axis.name}.{at}"
        return place
