"""Where each role lies in a scene: the denoising nodes of a graph and what is wired to them.

A finder gives candidates: each a group of fields that belong together (a prompt and its SDXL style). Several
candidates mean that the role is ambiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from sweep.workflow.encodings import ONE_MINUS, ONE_MINUS_FIFTH_ROOT, Encoding
from sweep.workflow.graph import Address, Value
from sweep.workflow.scene import NEGATIVE, POSITIVE, Candidate, Scene, first_field, model_path
from sweep.workflow.sizes import resizing, size_source
from sweep.workflow.sources import open_pictures, picture_sources
from sweep.workflow.steering import STEERING, control_images, loras, of_controls
from sweep.workflow.wiring import Wiring, conditioning, of_type

_REFERENCES = ("ref_image", "reference_latents", "kontext_conditioning", "style_reference", "redux_conditioning")
_FIFTH_ROOT = ("flux_", "flux2_", "sd3_")


def _own(scene: Scene, *names: str) -> Iterator[Candidate]:
    """The first of these fields on each node that denoises or draws."""
    for node in scene.denoising + scene.drawing:
        address = first_field(scene.wiring, node, names)
        if address is not None:
            yield Candidate((address,))


def _prompts(scene: Scene) -> Iterator[Candidate]:
    yield from _texts(scene, POSITIVE)
    yield from (Candidate((Address(node, "prompt"),)) for node in scene.drawing)


def _negative_prompts(scene: Scene) -> Iterator[Candidate]:
    positive = {address for candidate in _texts(scene, POSITIVE) for address in candidate.addresses}
    for candidate in _texts(scene, NEGATIVE):
        if positive.isdisjoint(candidate.addresses):
            yield candidate


def _texts(scene: Scene, side: tuple[str, ...]) -> Iterator[Candidate]:
    """One candidate a text: encoders that say the same, and the refiner's, are one."""
    wiring = scene.wiring
    groups: dict[Value, list[Address]] = {}
    for node in scene.denoising:
        for encoder in _encoders(wiring, node, side):
            fields = _texts_of(wiring, encoder)
            text = wiring.value(wiring.settle(fields[0])[0])
            groups.setdefault(text if isinstance(text, str) and text else encoder, []).extend(fields)
    followers = [f for node in scene.refining for e in _encoders(wiring, node, side) for f in _texts_of(wiring, e)]
    if len(groups) == 1:
        groups[next(iter(groups))].extend(followers)
    yield from (Candidate(tuple(dict.fromkeys(addresses))) for addresses in groups.values())


def _encoders(wiring: Wiring, node: str, side: tuple[str, ...]) -> Iterator[str]:
    start = first_field(wiring, node, side)
    if start is not None:
        for found in wiring.upstream(start, conditioning, lambda node: _is_encoder(wiring, node)):
            if _is_encoder(wiring, found):
                yield found


def _is_encoder(wiring: Wiring, node: str) -> bool:
    return wiring.has(node, "prompt") or wiring.has(node, "style")


def _texts_of(wiring: Wiring, encoder: str) -> tuple[Address, ...]:
    """The prompt and, where it says nothing of its own, the style that SDXL's second encoder reads."""
    prompt, style = Address(encoder, "prompt"), Address(encoder, "style")
    if not wiring.has(encoder, "prompt"):
        return (style,)
    if not wiring.has(encoder, "style") or wiring.feeding(style):
        return (prompt,)
    said = wiring.value(style)
    return (prompt, style) if not said or said == wiring.value(wiring.settle(prompt)[0]) else (prompt,)


def _seeds(scene: Scene) -> Iterator[Candidate]:
    for node in scene.denoising:
        noise = list(_noise(scene.wiring, node))
        if noise:
            yield from (Candidate((Address(found, "seed"),)) for found in noise)
        elif scene.wiring.has(node, "seed"):
            yield Candidate((Address(node, "seed"),))
    yield from (Candidate((Address(n, "seed"),)) for n in scene.drawing if scene.wiring.has(n, "seed"))


def _noise(wiring: Wiring, node: str) -> Iterator[str]:
    """The nodes that draw the noise a denoising node is given, where it is given any."""
    for found in wiring.upstream(Address(node, "noise"), of_type("LatentsField"), lambda n: wiring.has(n, "seed")):
        if wiring.has(found, "seed"):
            yield found


def _guidance(scene: Scene) -> Iterator[Candidate]:
    """FLUX models are guided by `guidance`; FLUX.2 Klein has that field, but heeds `cfg_scale` only."""
    for node in scene.denoising:
        klein = any("klein" in scene.wiring.kind(loader) for loader in model_path(scene.wiring, node))
        names = ("cfg_scale", "guidance_scale") if klein else ("guidance", "cfg_scale", "guidance_scale")
        address = first_field(scene.wiring, node, names)
        if address is not None:
            yield Candidate((address,))


def _strengths(scene: Scene) -> Iterator[Candidate]:
    """Where denoising begins, of nodes that begin with a picture."""
    wiring = scene.wiring
    for node in scene.denoising:
        start = Address(node, "denoising_start")
        filled = wiring.feeding(Address(node, "fill_conditioning"))
        if wiring.has(node, start.field) and wiring.feeding(Address(node, "latents")) and not filled:
            yield Candidate((start,), strength_encoding(wiring, start))


def strength_encoding(wiring: Wiring, start: Address) -> Encoding:
    """How strength is written into a `denoising_start`: by the node's family, and at most up to where it ends."""
    root = wiring.kind(start.node).startswith(_FIFTH_ROOT)
    encode = ONE_MINUS_FIFTH_ROOT if root else ONE_MINUS
    end = wiring.value(Address(start.node, "denoising_end"))
    return Encoding(encode.name, float(end)) if isinstance(end, int | float) and end < 1 else encode


def _models(scene: Scene) -> Iterator[Candidate]:
    for node in scene.denoising:
        for found in model_path(scene.wiring, node):
            if wired := first_field(scene.wiring, found, ("model",)):
                yield Candidate((wired,))
    yield from (Candidate((Address(node, "model"),)) for node in scene.drawing)


def _pictures(scene: Scene) -> Iterator[Candidate]:
    """The picture img2img begins with; else one that is referred to; without any denoising, what is worked on."""
    wiring = scene.wiring
    starts = [Address(node, "latents") for node in scene.denoising]
    starts += [Address(node, field) for node in scene.denoising for field in _REFERENCES]
    for found in (starts[: len(scene.denoising)], starts[len(scene.denoising) :]):
        sources = [source for start in found for source in picture_sources(wiring, start)]
        if sources:
            yield from (Candidate((source,)) for source in sources)
            return
    yield from (Candidate((Address(n, "init_image"),)) for n in scene.drawing if wiring.has(n, "init_image"))
    if not scene.denoising and not scene.drawing:
        for node in wiring.graph.nodes:
            if node in scene.wanted:
                yield from (Candidate((address,)) for address in open_pictures(wiring, node))


def _sizes(scene: Scene, side: str) -> Iterator[Candidate]:
    """One side of the picture: where noise is drawn, where the source is resized, and what SDXL is told of it."""
    wiring = scene.wiring
    for node in scene.denoising:
        drawn = [Address(found, side) for found in _noise(wiring, node) if wiring.has(found, side)]
        if not drawn and wiring.has(node, side):
            drawn = [Address(node, side)]
        sources = [source for address in drawn if (source := size_source(wiring, address))]
        resized = [Address(found, side) for found in resizing(wiring, Address(node, "latents"))]
        told = [address for address in _told(wiring, node, side) if wiring.value(address) in _values(wiring, sources)]
        if sources or resized:
            yield Candidate(tuple(dict.fromkeys([*sources, *resized, *told])))
    yield from (Candidate((Address(node, side),)) for node in scene.drawing if wiring.has(node, side))


def _told(wiring: Wiring, node: str, side: str) -> Iterator[Address]:
    """Fields that repeat the picture's size for those who need to know it: SDXL's prompts, encoders of references."""
    encoders = [*_encoders(wiring, node, POSITIVE), *_encoders(wiring, node, NEGATIVE)]
    told = [Address(encoder, f"{which}_{side}") for encoder in encoders for which in ("original", "target")]
    for reference in _REFERENCES:
        told += [Address(edge.source.node, side) for edge in wiring.feeding(Address(node, reference))]
    return (field for field in told if wiring.has(field.node, field.field) and not wiring.feeding(field))


def _values(wiring: Wiring, addresses: list[Address]) -> list[Value]:
    return [wiring.value(wiring.settle(address)[0]) for address in addresses]


FINDERS: Mapping[str, Callable[[Scene], Iterator[Candidate]]] = {
    "prompt": _prompts,
    "negative_prompt": _negative_prompts,
    "denoise_strength": _strengths,
    "seed": _seeds,
    "steps": lambda scene: _own(scene, "steps", "num_steps"),
    "cfg_scale": _guidance,
    "scheduler": lambda scene: _own(scene, "scheduler"),
    "model": _models,
    "image": _pictures,
    "width": lambda scene: _sizes(scene, "width"),
    "height": lambda scene: _sizes(scene, "height"),
    "lora": lambda scene: loras(scene, "lora"),
    "lora_weight": lambda scene: loras(scene, "weight"),
    "control_image": control_images,
    "control_weight": lambda scene: of_controls(scene, *STEERING),
    "control_model": lambda scene: of_controls(scene, "control_model"),
    "control_begin": lambda scene: of_controls(scene, "begin_step_percent"),
    "control_end": lambda scene: of_controls(scene, "end_step_percent"),
}
