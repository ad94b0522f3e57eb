"""The graph an experiment needs before any value is in it: its template or file, with as many LoRA nodes as it names.

Values cannot add nodes to a graph, so points whose graphs differ in more than values have different shapes: another
family of models, another number of LoRAs or ControlNets, a VAE of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from sweep.experiment.definition import Axis, Dimension, Level, Setting
from sweep.experiment.vocabulary import base_role, numbered
from sweep.plan.settings import Uses, step
from sweep.plan.stacks import CONTROL_ROLES, control_list, lora_stack
from sweep.workflow.graph import Address, Edge, Graph, ModelRef, Node
from sweep.workflow.loaded import Workflow
from sweep.workflow.schemas import NodeSchemas
from sweep.workflow.templates import TEMPLATES, template

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
    graph = template(plain, shape.base or "", shape.loras, shape.controls)
    return with_vae(graph, schemas) if shape.vae else graph


def with_vae(graph: Graph, schemas: NodeSchemas) -> Graph:
    """The graph with a VAE loader of its own in the place of the main model's VAE; as it is where it has one."""
    if any("vae" in taken for _, taken in model_fields(graph, schemas)) or "vae_loader" not in schemas:
        return graph
    name = _VAE_NODE
    while name in graph.nodes:
        name += "_"
    moved = tuple(_moved(edge, name) if _gives_vae(graph, edge) else edge for edge in graph.edges)
    return replace(graph, edges=moved).adding([Node(name, "vae_loader")])


def _gives_vae(graph: Graph, edge: Edge) -> bool:
    return edge.source.field == "vae" and graph.nodes[edge.source.node].type.endswith("model_loader")


def _moved(edge: Edge, loader: str) -> Edge:
    return Edge(Address(loader, "vae"), edge.destination)


def model_fields(graph: Graph, schemas: NodeSchemas) -> Iterator[tuple[Address, tuple[str, ...]]]:
    """Every field of the graph that holds a model and is not fed by an edge, with the types of models it takes."""
    fed = {edge.destination for edge in graph.edges}
    for node in graph.nodes.values():
        schema = schemas.get(node.type)
        for name, taken in schema.fields.items() if schema else ():
            if taken.type == "ModelIdentifierField" and Address(node.id, name) not in fed:
                yield Address(node.id, name), taken.model_types


def is_template(workflow: str) -> bool:
    """Whether the name is a built-in template's."""
    return workflow in TEMPLATES
