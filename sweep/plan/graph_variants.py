"""Variants of an experiment's graph: which one a point needs, and each with its fixed inputs applied.

Values cannot add nodes to a graph, so points whose graphs differ in more than values have different variants: another
family of models, another number of LoRAs or ControlNets, a VAE of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final

from sweep.errors import PlanError, WorkflowError
from sweep.experiment import Dimension, Level, Setting
from sweep.plan.field_rules import FieldRule, PlanContext, Written, list_controls, list_loras
from sweep.plan.model_finder import ModelFinder, find_own_model, list_main_bases, list_main_fields, list_model_fields
from sweep.role_table import CONTROL_ROLES, is_address, parse_numbered, strip_number
from sweep.types import Scalar
from sweep.workflow import (
    Address,
    Dialect,
    Digests,
    Graph,
    ImageRef,
    ModelRef,
    NodeSchemas,
    Value,
    Workflow,
    find_address,
)

_DECIDING: Final = ("model", "lora", "vae", "controls", *CONTROL_ROLES)
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

    Axes of single LoRAs and ControlNets are not among these: every point has all of them.
    """

    def __init__(self, context: PlanContext) -> None:
        uses = context.uses
        self.experiment = context.experiment
        self._workflow = context.workflow
        self._schemas = context.schemas
        self._models = context.models
        self.bases = _list_bases(context.workflow, context.schemas, context.models)
        self._uses = uses
        self._targets = [target for target in uses if strip_number(target) in _DECIDING]
        deciding = [axis for target in _DECIDING if target not in CONTROL_ROLES for axis in uses.axes.get(target, ())]
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
        """Find the dimensions of the deciding axes, by number."""
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
        moved = {**levels, **self.experiment.dimensions[at].levels_at(position)}
        values = {axis: level.value for axis, level in moved.items()}
        if all(clause.holds(values) for clause in self.experiment.clauses):
            return moved
        deciding = {number: each.find_position(values) or 0 for number, each in self._find_deciding().items()}
        return self.experiment.grid.find_levels({**deciding, at: position}) or moved

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
        """Find the main model at these levels: named, else the workflow's own, else the server's only one.

        Returns:
            None where the workflow loads none.

        Raises:
            PlanError: The server does not have it, or has several.
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
        return _read_field(graph, self.role_fields[role]) if role in self.role_fields else None

    @cached_property
    def _image_fields(self) -> tuple[Address, ...]:
        """Return the fields that hold input images, or may."""
        slots = [slot for rule in self.rules for slot in rule.slots]
        moved = {slot.address for slot in slots if "ImageField" in (slot.schema.type, slot.schema.items)}
        fields = [
            (Address(node.id, name), value) for node in self.graph.nodes.values() for name, value in node.fields.items()
        ]
        return tuple(sorted(moved | {address for address, value in fields if _list_image_hashes(value)}))

    def images(self, graph: Graph) -> list[str]:
        """List the SHA-256 of every input image in `graph`."""
        return [sha for address in self._image_fields for sha in _list_image_hashes(_read_field(graph, address))]


def _list_image_hashes(value: Value) -> Sequence[str]:
    """List the SHA-256 of the images a field's value holds."""
    if isinstance(value, ImageRef):
        return (value.sha256,)
    return [sha for item in value for sha in _list_image_hashes(item)] if isinstance(value, list) else ()


def _read_field(graph: Graph, address: Address) -> Value:
    node = graph.nodes.get(address.node)
    return node.fields.get(address.field) if node else None
