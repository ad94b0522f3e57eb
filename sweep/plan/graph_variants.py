"""Which nodes a point's graph needs (base model, LoRA count, VAE)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from sweep.errors import PlanError, WorkflowError
from sweep.experiment import Axis, Condition, Dimension, Level, Setting, base_role, is_address, numbered
from sweep.plan.models import ModelFinder, main_bases, main_fields, model_fields, own_model
from sweep.plan.rules import control_list, lora_stack
from sweep.plan.targets import Uses, step
from sweep.roles import CONTROL_ROLES
from sweep.types import Scalar
from sweep.workflow import (
    TEMPLATES,
    Address,
    Graph,
    ModelRef,
    NodeSchemas,
    Workflow,
    find_address,
)

_SHAPING: Final = ("model", "lora", "vae", "controls", *CONTROL_ROLES)
_VAE_NODE: Final = "vae"
_EXTENDED: Final = frozenset({"lora", "controlnet"})  # txt2img with as many LoRAs or ControlNets as the shape has


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides which nodes a graph has. `base` is that of the main model, None where the graph has none."""

    base: str | None
    loras: int = 0
    controls: int = 0
    vae: bool = False


def shape_of(workflow: str | Workflow, settings: Mapping[str, Setting], model: ModelRef | None) -> Shape:
    """The shape for these settings of the shaping targets."""
    steered = workflow == "controlnet" or any(role in settings for role in CONTROL_ROLES)
    listed = len(control_list(settings.get("controls"))) if "controls" in settings else int(steered)
    named = 1 if workflow == "lora" and "lora" not in settings else len(lora_stack(settings.get("lora")))
    return Shape(
        base=model.base if model else None,
        loras=max(named, _highest(settings, "lora")),
        controls=max(listed, *(_highest(settings, role) for role in CONTROL_ROLES)),
        vae=settings.get("vae") is not None,
    )


def _highest(settings: Mapping[str, Setting], role: str) -> int:
    """The highest number that a role is set with: lora_2 wants two LoRAs."""
    found = [number for target in settings for name, number in [numbered(target) or ("", 0)] if name == role]
    return max(found, default=0)


def shaping_targets(uses: Uses) -> tuple[str, ...]:
    """What the experiment sets of the targets that may change the shape."""
    return tuple(target for target in uses if base_role(target) in _SHAPING)


def shaping_axes(uses: Uses) -> tuple[Axis, ...]:
    """The axes that may change the shape: not those of single LoRAs and ControlNets, of which every point has all."""
    targets = [target for target in _SHAPING if target not in CONTROL_ROLES]
    found = {axis.name: axis for target in targets for axis in uses.axes.get(target, ())}
    return tuple(found.values())


def shaping_levels(axes: tuple[Axis, ...], dimensions: Sequence[Dimension]) -> Iterator[dict[str, Level]]:
    """Every combination of levels of the axes that shape, with those that step together with them."""
    names = {axis.name for axis in axes}
    moving = [d for d in dimensions if not names.isdisjoint(axis.name for axis in d.axes)]
    for positions in product(*(range(len(dimension)) for dimension in moving)):
        levels: dict[str, Level] = {}
        for dimension, position in zip(moving, positions, strict=True):
            levels.update(step(dimension, position))
        yield levels


def build(workflow: str | Workflow, shape: Shape, schemas: NodeSchemas) -> Graph:
    """The graph of this shape: the template of that name, or the user's own. Raises WorkflowError."""
    if isinstance(workflow, Workflow):
        graph = workflow.for_base(shape.base or "").graph
        return with_vae(graph, schemas) if shape.vae else graph
    plain = workflow if workflow == "img2img" else "txt2img" if workflow in _EXTENDED else workflow
    graph = schemas.dialect.template(plain, shape.base or "", shape.loras, shape.controls)
    return with_vae(graph, schemas) if shape.vae else graph


def with_vae(graph: Graph, schemas: NodeSchemas) -> Graph:
    """The graph with a VAE loader of its own in the place of the main model's VAE; as it is where it has one."""
    if any("vae" in taken for _, taken in model_fields(graph, schemas)):
        return graph
    name = _VAE_NODE
    while name in graph.nodes:
        name += "_"
    return schemas.dialect.add_vae_loader(graph, name)


def is_template(workflow: str) -> bool:
    """Whether the name is a built-in template's."""
    return workflow in TEMPLATES


def at_home(workflow: Workflow, schemas: NodeSchemas, models: ModelFinder, uses: Uses) -> Workflow:
    """A portable workflow whose main model, where the server lacks it, is left open for the plan to choose (`lacking`
    is its name), and whose VAE is then the model's own, with a note. Any other workflow stays as it is: it names what
    its author rendered with, and another model would be another image.
    """
    translate = workflow.translate
    if translate is None:
        return workflow
    settled = _settled(workflow, schemas, models, uses)
    return replace(settled, translate=lambda base: _settled(translate(base), schemas, models, uses))


def portable_bases(workflow: Workflow, models: ModelFinder) -> tuple[str, ...]:
    """Return the bases of installed main models that the document has nodes for."""
    bases = dict.fromkeys(model.base for model in models.installed if model.type == "main")
    return tuple(base for base in bases if base in workflow.bases)


def _settled(workflow: Workflow, schemas: NodeSchemas, models: ModelFinder, uses: Uses) -> Workflow:
    graph, notes, lacking = workflow.graph, list(workflow.notes), ""
    for address, types in list(model_fields(graph, schemas)):
        said = graph.nodes[address.node].fields.get(address.field)
        if not isinstance(said, ModelRef) or _has(models, said, types):
            continue
        if "main" in types:
            graph, lacking = _without(graph, address), said.name
        elif "vae" in types and "vae" not in uses:
            graph = schemas.dialect.remove_vae_loader(graph, address.node)
            notes.append(f"The server has no VAE {said.name}, so the model's own is used; inputs.vae names another.")
    return replace(workflow, graph=graph, notes=tuple(notes), lacking=lacking)


def _has(models: ModelFinder, said: ModelRef, types: tuple[str, ...]) -> bool:
    try:
        models.find(said, types)
    except PlanError:
        return False
    return True


def _without(graph: Graph, address: Address) -> Graph:
    node = graph.nodes[address.node]
    left = {name: value for name, value in node.fields.items() if name != address.field}
    return replace(graph, nodes={**graph.nodes, node.id: replace(node, fields=left)})


class Shapes:
    """Shapes by the levels of the few axes that decide them; each combination is worked out once."""

    def __init__(
        self,
        workflow: str | Workflow,
        schemas: NodeSchemas,
        models: ModelFinder,
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


def _bases(workflow: str | Workflow, schemas: NodeSchemas, models: ModelFinder) -> tuple[str, ...] | None:
    """What the main model may be: empty for anything, None where there is none."""
    if not isinstance(workflow, Workflow):
        return ()
    return main_bases(workflow.graph, schemas) if workflow.translate is None else portable_bases(workflow, models)
