"""Where LoRAs and ControlNets lie in a scene, and the pictures that ControlNets follow."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.workflow.graph import Address
from sweep.workflow.scene import Candidate, Scene, first_field, model_path
from sweep.workflow.sources import picture_sources
from sweep.workflow.wiring import Wiring, of_type

STEERING = ("control_weight", "control_context_scale", "weight")  # how the nodes call it
_CONTROLS = ("control", "control_lllite")


def loras(scene: Scene, field: str) -> Iterator[Candidate]:
    """The LoRAs on the way from the loader, the loader's side first; collected ones by their selectors."""
    for node in scene.denoising:
        for found in reversed(list(model_path(scene.wiring, node))):
            if scene.wiring.has(found, "lora"):
                yield Candidate((Address(found, field),))
            collected = Address(found, "loras")
            for chosen in scene.wiring.upstream(collected, of_type("LoRAField"), lambda _: False):
                if scene.wiring.has(chosen, "lora"):
                    yield Candidate((Address(chosen, field),))


def control_nodes(scene: Scene) -> Iterator[str]:
    """The ControlNet nodes of all denoising nodes, each once, in the order of the graph."""
    wiring = scene.wiring
    kinds = {schema.outputs["control"] for schema in wiring.schemas.values() if "control" in schema.outputs}
    seen: set[str] = set()
    for node in scene.denoising:
        for field in _CONTROLS:
            found = wiring.upstream(Address(node, field), of_type(*kinds), lambda n: wiring.has(n, "control_model"))
            seen.update(n for n in found if wiring.has(n, "control_model"))
    return (node for node in wiring.graph.nodes if node in seen)


def control_pictures(wiring: Wiring, node: str) -> Iterator[Address]:
    """Where the picture comes in that a ControlNet follows: its own field, or before what works on it."""
    image = Address(node, "image")
    return picture_sources(wiring, image) if wiring.feeding(image) else iter((image,))


def control_images(scene: Scene) -> Iterator[Candidate]:
    """The pictures that ControlNets follow."""
    for node in control_nodes(scene):
        yield from (Candidate((source,)) for source in control_pictures(scene.wiring, node))


def of_controls(scene: Scene, *names: str) -> Iterator[Candidate]:
    """The first of these fields on each ControlNet."""
    for node in control_nodes(scene):
        address = first_field(scene.wiring, node, names)
        if address is not None:
            yield Candidate((address,))
