"""Which shape of the graph, and which main model, the levels of a variation ask for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from sweep.errors import PlanError, WorkflowError
from sweep.experiment.conditions import Condition
from sweep.experiment.definition import Level, Scalar, Setting
from sweep.experiment.vocabulary import is_address, numbered
from sweep.plan.fitting import main_bases, main_fields, own_model
from sweep.plan.homing import portable_bases
from sweep.plan.models import Models
from sweep.plan.settings import Uses
from sweep.plan.shapes import Shape, shape_of, shaping_axes, shaping_targets
from sweep.workflow.graph import Graph, ModelRef
from sweep.workflow.loaded import Workflow
from sweep.workflow.naming import find_address
from sweep.workflow.schemas import NodeSchemas


class Shapes:
    """Shapes by the levels of the few axes that decide them; each combination is worked out once."""

    def __init__(
        self,
        workflow: str | Workflow,
        schemas: NodeSchemas,
        models: Models,
        uses: Uses,
        condition: Condition | None = None,
    ) -> None:
        self._workflow = workflow
        self._schemas = schemas
        self._models = models
        self.bases = _bases(workflow, schemas, models)
        self._uses = uses
        self._targets = shaping_targets(uses)
        self.axes = tuple(axis.name for axis in shaping_axes(uses))
        clauses = condition.clauses if condition else ()
        self._clauses = tuple(clause for clause in clauses if set(clause.names) <= set(self.axes))
        self._known: dict[tuple[Scalar, ...], Shape] = {}

    def counts(self, levels: Mapping[str, Level]) -> bool:
        """Whether the conditions leave any point with these levels, as far as the axes that shape tell."""
        values = {axis: levels[axis].value for axis in self.axes}
        return all(clause.holds(values) for clause in self._clauses)

    def suits(self, levels: Mapping[str, Level], shape: Shape) -> bool:
        """Whether points with these levels count and have graphs of this shape; of a model nobody has, none do."""
        try:
            return self.counts(levels) and self.at(levels) == shape
        except PlanError:
            return False

    def at(self, levels: Mapping[str, Level]) -> Shape:
        """The shape at these levels. Raises PlanError where the model they name cannot be found."""
        point = tuple([levels[axis].value for axis in self.axes])
        shape = self._known.get(point)
        if shape is None:
            shape = self._known[point] = self.with_main(levels, self.main(levels))
        return shape

    def with_main(self, levels: Mapping[str, Level], main: ModelRef | None) -> Shape:
        """The shape these levels would ask for with this main model."""
        return shape_of(self._workflow, self._uses.merged(self._targets, levels, {}), main)

    def main(self, levels: Mapping[str, Level]) -> ModelRef | None:
        """The main model at these levels: named, else the workflow's own, else the server's only one; None where the
        workflow loads none. Raises PlanError.
        """
        named = self._uses.merged(("model",), levels, {}).get("model")
        if named is not None:
            return self._models.find(named)
        if not isinstance(self._workflow, Workflow):
            return self._models.only_main()
        graph = self._workflow.graph
        if self.bases is None:
            return None
        if (named := self._at_loader(graph, levels)) is not None:
            return self._models.find(named)
        try:
            own = own_model(graph, self._schemas, self._models)
        except PlanError as error:
            raise PlanError(f"the workflow's own model is not there: {error.message}") from None
        return own or self._models.only_main(self.bases, wanted=self._workflow.lacking)

    def _at_loader(self, graph: Graph, levels: Mapping[str, Level]) -> Setting:
        """The model that is set by a loader's address or by a number: a graph may have several loaders. Else None."""
        loaders = main_fields(graph, self._schemas)
        for target in self._uses:
            single = numbered(target)
            meant = loaders[single[1] - 1 : single[1]] if single and single[0] == "model" else ()
            if is_address(target):
                with suppress(WorkflowError):  # told where the address is bound
                    meant = [find_address(graph, target)]
            if any(address in loaders for address in meant):
                named = self._uses.merged((target,), levels, {}).get(target)
                if named is not None:
                    return named
        return None


def _bases(workflow: str | Workflow, schemas: NodeSchemas, models: Models) -> tuple[str, ...] | None:
    """What the main model may be: empty for anything, None where there is none."""
    if not isinstance(workflow, Workflow):
        return ()
    return main_bases(workflow.graph, schemas) if workflow.translate is None else portable_bases(workflow, models)
