"""Finds the roles of an InvokeAI graph by following edges from its denoising nodes, whatever models they are for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from sweep.workflow.dialect import Candidate, Encoding
from sweep.workflow.graph import Address, Value
from sweep.workflow.traversal import ANYTHING, Wiring, nodes_before

UNDECIDING = frozenset({"is_intermediate", "use_cache", "board", "metadata"})  # fields that change no pixel
IMAGES = frozenset({"ImageField", "LatentsField"}) | ANYTHING
_RESIZERS = frozenset({"img_resize", "heuristic_resize"})


def size_source(wiring: Wiring, address: Address) -> Address | None:
    """Return the field that decides a width or height; None where that is the size of an image that is put in.

    A size that comes out of a node is what went into it under the same name, or the size of its image.
    """
    seen: set[Address] = set()
    while edges := wiring.feeding(address):
        output = edges[-1].source
        if output in seen or output.field != address.field:
            return None if _measures_image(wiring, address) else address
        seen.add(output)
        before = _same_size(wiring, output)
        if before is None:
            return None
        address = before
    return address


def _same_size(wiring: Wiring, output: Address) -> Address | None:
    """Return the input that a width or height output repeats, further up where its node takes none itself."""
    waiting = [output.node]
    for node in waiting:
        if wiring.has(node, output.field):
            return Address(node, output.field)
        schema = wiring.schema(node)
        images = [name for name, field in schema.fields.items() if field.type in IMAGES] if schema else []
        for name in images:
            waiting.extend(e.source.node for e in wiring.feeding(Address(node, name)) if e.source.node not in waiting)
    return None


def _measures_image(wiring: Wiring, address: Address) -> bool:
    """Tell whether a computed size goes back to the size of some image."""
    upstream = wiring.upstream(address)
    return any("ImageField" in schema.outputs.values() for node in upstream if (schema := wiring.schema(node)))


def resizing(wiring: Wiring, latents: Address) -> Iterator[str]:
    """Yield the node that makes the source image fit before it is encoded, where there is one."""
    for node in wiring.upstream(latents, IMAGES):
        if wiring.kind(node) in _RESIZERS:
            yield node
            return


def image_sources(wiring: Wiring, start: Address) -> Iterator[Address]:
    """Yield the image fields without an edge from which images or latents lead to `start`."""
    for node in wiring.upstream(start, IMAGES, skip=("noise", "denoise_mask")):
        yield from open_images(wiring, node)


def open_images(wiring: Wiring, node: str) -> Iterator[Address]:
    schema = wiring.schema(node)
    for name, field in schema.fields.items() if schema else ():
        address = Address(node, name)
        given = field.required or wiring.value(address) is not None
        if field.type == "ImageField" and given and "mask" not in name and not wiring.feeding(address):
            yield address


_EXPONENT = 0.2  # of InvokeAI's "optimized denoising", on by default there for FLUX and SD 3


@dataclass(frozen=True, slots=True)
class StartEncoding(Encoding):
    """A denoise strength s written as the `denoising_start` of a node.

    - `one_minus`: `1 − s`; exact in decimal, so that 1 − 0.3 is 0.7.
    - `one_minus_fifth_root`: `1 − s^0.2`, as InvokeAI's own interface sends it for FLUX, FLUX.2 and SD 3 with
      "optimized denoising". Rounded to 9 decimals, so that every machine agrees.

    `limit` bounds what comes out from above: where a refiner takes over, the first model cannot start later.
    """

    name: Literal["one_minus", "one_minus_fifth_root"] = "one_minus"
    limit: float = 1.0

    def __call__(self, value: Value) -> Value:
        """Return the start for a strength. Raises ValueError with a sentence where it is none from 0 to 1."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"a strength is a number from 0 to 1, not {value!r}")  # noqa: TRY004 (a user's value)
        if not 0 <= value <= 1:
            raise ValueError(f"a strength is a number from 0 to 1, not {value}")
        return min(float(1 - Decimal(repr(value))) if self.name == "one_minus" else _root(value), self.limit)

    def formula(self, role: str) -> str:
        """Write the function in words, of a role: `1 − denoise_strength`."""
        turned = f"1 − {role}" if self.name == "one_minus" else f"1 − {role}^0.2"
        return turned if self.limit >= 1 else f"min({self.limit:g}, {turned})"


ONE_MINUS = StartEncoding("one_minus")
ONE_MINUS_FIFTH_ROOT = StartEncoding("one_minus_fifth_root")


def _root(strength: float) -> float:
    return round(1.0 - math.pow(strength, _EXPONENT), 9)


def steps_run(strength: float, steps: int) -> int:
    """Return how many of so many steps are run at a strength from 0 to 1: those whose time lies below it, rounded up.

    InvokeAI 6.14.2 slices the scheduler's list of timesteps there (`init_scheduler` of `denoise_latents`), so two
    strengths that run equally many begin with the same noise, and give the same image. Counted for timesteps spaced
    as Stable Diffusion's own schedulers space them (`leading`); `linspace` moves the bounds by less than a step.
    """
    return math.ceil(Decimal(repr(strength)) * steps)


POSITIVE = ("positive_conditioning", "positive_text_conditioning")
NEGATIVE = ("negative_conditioning", "negative_text_conditioning")
_WEIGHTS = ("unet", "transformer")


@dataclass(frozen=True, slots=True)
class DenoisingNodes:
    """A graph's denoising nodes, in order. Refiners follow the model before them: only prompts reach them."""

    wiring: Wiring
    denoising: tuple[str, ...]
    refining: tuple[str, ...]
    drawing: tuple[str, ...]  # nodes that do everything in one, by asking another service
    wanted: frozenset[str]  # the nodes that lead to the outputs

    @classmethod
    def of(cls, wiring: Wiring, outputs: tuple[str, ...]) -> DenoisingNodes:
        """Read the nodes that lead to the outputs; all nodes where there are no outputs."""
        wanted = nodes_before(wiring.graph, outputs or wiring.graph.nodes, UNDECIDING)
        nodes = [node for node in wiring.graph.nodes if node in wanted]
        denoising = [node for node in nodes if _denoises(wiring, node)]
        refining = [node for node in denoising if _refines(wiring, node)]
        drawing = [node for node in nodes if wiring.has(node, "prompt") and wiring.has(node, "reference_images")]
        return cls(
            wiring,
            tuple(node for node in denoising if node not in refining),
            tuple(refining),
            tuple(node for node in drawing if wiring.has(node, "model")),
            wanted,
        )


def _denoises(wiring: Wiring, node: str) -> bool:
    schema = wiring.schema(node)
    gives_latents = schema is not None and "LatentsField" in schema.outputs.values()
    return gives_latents and first_field(wiring, node, POSITIVE) is not None


def _refines(wiring: Wiring, node: str) -> bool:
    return any("refiner" in wiring.kind(loader) for loader in model_path(wiring, node))


def first_field(wiring: Wiring, node: str, names: tuple[str, ...]) -> Address | None:
    """Return the first of these inputs that the node has."""
    return next((Address(node, name) for name in names if wiring.has(node, name)), None)


def model_path(wiring: Wiring, node: str) -> Iterator[str]:
    """Yield the loader of a denoising node's weights and all between the two, nearest to the denoising first."""
    start = first_field(wiring, node, _WEIGHTS)
    schema = wiring.schema(node)
    if start is not None and schema is not None:
        yield from wiring.upstream(start, {schema.fields[start.field].type})


STEERING = ("control_weight", "control_context_scale", "weight")  # how the nodes call it
_CONTROLS = ("control", "control_lllite")
_CONTROL_FIELDS = {
    "model": "control_model",
    "image": "image",
    "weight": "control_weight",
    "begin": "begin_step_percent",
    "end": "end_step_percent",
}


def find_loras(scene: DenoisingNodes, field: str) -> Iterator[Candidate]:
    """Yield the LoRAs on the way from the loader, the loader's side first; collected ones by their selectors."""
    for node in scene.denoising:
        for found in reversed(list(model_path(scene.wiring, node))):
            if scene.wiring.has(found, "lora"):
                yield Candidate((Address(found, field),))
            collected = Address(found, "loras")
            for chosen in scene.wiring.upstream(collected, {"LoRAField"}):
                if scene.wiring.has(chosen, "lora"):
                    yield Candidate((Address(chosen, field),))


def control_nodes(scene: DenoisingNodes) -> Iterator[str]:
    """Yield the ControlNet nodes of all denoising nodes, each once, in the order of the graph."""
    wiring = scene.wiring
    kinds = {schema.outputs["control"] for schema in wiring.schemas.values() if "control" in schema.outputs}
    seen: set[str] = set()
    for node in scene.denoising:
        for field in _CONTROLS:
            found = wiring.upstream(Address(node, field), kinds, until=("control_model",))
            seen.update(n for n in found if wiring.has(n, "control_model"))
    return (node for node in wiring.graph.nodes if node in seen)


def trace_control_images(wiring: Wiring, node: str) -> Iterator[Address]:
    """Find where the image comes in that a ControlNet follows: its own field, or before what works on it."""
    image = Address(node, "image")
    return image_sources(wiring, image) if wiring.feeding(image) else iter((image,))


def control_fields(wiring: Wiring, node: str) -> dict[str, Address]:
    """Return where each part of a ControlNet is written, and the one place where the workflow takes in its image."""
    fields = {part: Address(node, field) for part, field in _CONTROL_FIELDS.items()}
    sources = list(trace_control_images(wiring, node))
    return {**fields, "source": sources[0]} if len(sources) == 1 else fields


def find_control_images(scene: DenoisingNodes) -> Iterator[Candidate]:
    """Yield the images that ControlNets follow."""
    for node in control_nodes(scene):
        yield from (Candidate((source,)) for source in trace_control_images(scene.wiring, node))


def of_controls(scene: DenoisingNodes, *names: str) -> Iterator[Candidate]:
    """Yield the first of these fields on each ControlNet."""
    for node in control_nodes(scene):
        address = first_field(scene.wiring, node, names)
        if address is not None:
            yield Candidate((address,))


_REFERENCES = ("ref_image", "reference_latents", "kontext_conditioning", "style_reference", "redux_conditioning")
_FIFTH_ROOT = ("flux_", "flux2_", "sd3_")


def _own(scene: DenoisingNodes, *names: str) -> Iterator[Candidate]:
    """Yield the first of these fields on each node that denoises or draws."""
    for node in scene.denoising + scene.drawing:
        address = first_field(scene.wiring, node, names)
        if address is not None:
            yield Candidate((address,))


def _prompts(scene: DenoisingNodes) -> Iterator[Candidate]:
    yield from _texts(scene, POSITIVE)
    yield from (Candidate((Address(node, "prompt"),)) for node in scene.drawing)


def _negative_prompts(scene: DenoisingNodes) -> Iterator[Candidate]:
    positive = {address for candidate in _texts(scene, POSITIVE) for address in candidate.addresses}
    for candidate in _texts(scene, NEGATIVE):
        if positive.isdisjoint(candidate.addresses):
            yield candidate


def _texts(scene: DenoisingNodes, side: tuple[str, ...]) -> Iterator[Candidate]:
    """Make one candidate a text: encoders that say the same, and the refiner's, are one."""
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
        kinds = {kind for kind in wiring.input_types if "Conditioning" in kind}
        for found in wiring.upstream(start, kinds, until=("prompt", "style")):
            if _is_encoder(wiring, found):
                yield found


def _is_encoder(wiring: Wiring, node: str) -> bool:
    return wiring.has(node, "prompt") or wiring.has(node, "style")


def _texts_of(wiring: Wiring, encoder: str) -> tuple[Address, ...]:
    """Return the prompt and, where it says nothing of its own, the style that SDXL's second encoder reads."""
    prompt, style = Address(encoder, "prompt"), Address(encoder, "style")
    if not wiring.has(encoder, "prompt"):
        return (style,)
    if not wiring.has(encoder, "style") or wiring.feeding(style):
        return (prompt,)
    said = wiring.value(style)
    return (prompt, style) if not said or said == wiring.value(wiring.settle(prompt)[0]) else (prompt,)


def _clip_skips(scene: DenoisingNodes) -> Iterator[Candidate]:
    """Yield the layers to skip of each denoising node's encoders, which are set together."""
    wiring = scene.wiring
    for node in scene.denoising:
        encoders = [encoder for side in (POSITIVE, NEGATIVE) for encoder in _encoders(wiring, node, side)]
        nodes = (found for each in encoders for found in wiring.upstream(Address(each, "clip"), {"CLIPField"}))
        fields = [Address(found, "skipped_layers") for found in nodes if wiring.has(found, "skipped_layers")]
        if fields:
            yield Candidate(tuple(dict.fromkeys(fields)))


def _seeds(scene: DenoisingNodes) -> Iterator[Candidate]:
    for node in scene.denoising:
        noise = list(_noise(scene.wiring, node))
        if noise:
            yield from (Candidate((Address(found, "seed"),)) for found in noise)
        elif scene.wiring.has(node, "seed"):
            yield Candidate((Address(node, "seed"),))
    yield from (Candidate((Address(n, "seed"),)) for n in scene.drawing if scene.wiring.has(n, "seed"))


def _noise(wiring: Wiring, node: str) -> Iterator[str]:
    """Yield the nodes that draw the noise a denoising node is given, where it is given any."""
    for found in wiring.upstream(Address(node, "noise"), {"LatentsField"}, until=("seed",)):
        if wiring.has(found, "seed"):
            yield found


def _guidance(scene: DenoisingNodes) -> Iterator[Candidate]:
    """FLUX models are guided by `guidance`; FLUX.2 Klein has that field, but heeds `cfg_scale` only."""
    for node in scene.denoising:
        klein = any("klein" in scene.wiring.kind(loader) for loader in model_path(scene.wiring, node))
        names = ("cfg_scale", "guidance_scale") if klein else ("guidance", "cfg_scale", "guidance_scale")
        address = first_field(scene.wiring, node, names)
        if address is not None:
            yield Candidate((address,))


def _strengths(scene: DenoisingNodes) -> Iterator[Candidate]:
    """Find where denoising begins, of nodes that begin with an image."""
    wiring = scene.wiring
    for node in scene.denoising:
        start = Address(node, "denoising_start")
        filled = wiring.feeding(Address(node, "fill_conditioning"))
        if wiring.has(node, start.field) and wiring.feeding(Address(node, "latents")) and not filled:
            yield Candidate((start,), strength_encoding(wiring, start))


def strength_encoding(wiring: Wiring, start: Address) -> Encoding:
    """Tell how strength is written into a `denoising_start`: by the node's family, at most up to where it ends."""
    root = wiring.kind(start.node).startswith(_FIFTH_ROOT)
    encode = ONE_MINUS_FIFTH_ROOT if root else ONE_MINUS
    end = wiring.value(Address(start.node, "denoising_end"))
    return StartEncoding(encode.name, float(end)) if isinstance(end, int | float) and end < 1 else encode


def _models(scene: DenoisingNodes) -> Iterator[Candidate]:
    for node in scene.denoising:
        for found in model_path(scene.wiring, node):
            if wired := first_field(scene.wiring, found, ("model",)):
                yield Candidate((wired,))
    yield from (Candidate((Address(node, "model"),)) for node in scene.drawing)


def _images(scene: DenoisingNodes) -> Iterator[Candidate]:
    """Yield the image img2img begins with; else one that is referred to; without any denoising, what is worked on."""
    wiring = scene.wiring
    starts = [Address(node, "latents") for node in scene.denoising]
    starts += [Address(node, field) for node in scene.denoising for field in _REFERENCES]
    for found in (starts[: len(scene.denoising)], starts[len(scene.denoising) :]):
        sources = [source for start in found for source in image_sources(wiring, start)]
        if sources:
            yield from (Candidate((source,)) for source in sources)
            return
    yield from (Candidate((Address(n, "init_image"),)) for n in scene.drawing if wiring.has(n, "init_image"))
    if not scene.denoising and not scene.drawing:
        for node in wiring.graph.nodes:
            if node in scene.wanted:
                yield from (Candidate((address,)) for address in open_images(wiring, node))


def _sizes(scene: DenoisingNodes, side: str) -> Iterator[Candidate]:
    """Make one side of the image: where noise is drawn, where the source is resized, and what SDXL is told of it."""
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
    """Find the fields that repeat the image's size for those who need to know it: SDXL's prompts, encoders of
    references.
    """
    encoders = [*_encoders(wiring, node, POSITIVE), *_encoders(wiring, node, NEGATIVE)]
    told = [Address(encoder, f"{which}_{side}") for encoder in encoders for which in ("original", "target")]
    for reference in _REFERENCES:
        told += [Address(edge.source.node, side) for edge in wiring.feeding(Address(node, reference))]
    return (field for field in told if wiring.has(field.node, field.field) and not wiring.feeding(field))


def _values(wiring: Wiring, addresses: list[Address]) -> list[Value]:
    return [wiring.value(wiring.settle(address)[0]) for address in addresses]


FINDERS: Mapping[str, Callable[[DenoisingNodes], Iterator[Candidate]]] = {
    "prompt": _prompts,
    "negative_prompt": _negative_prompts,
    "denoise_strength": _strengths,
    "seed": _seeds,
    "steps": lambda scene: _own(scene, "steps", "num_steps"),
    "cfg_scale": _guidance,
    "scheduler": lambda scene: _own(scene, "scheduler"),
    "model": _models,
    "image": _images,
    "width": lambda scene: _sizes(scene, "width"),
    "height": lambda scene: _sizes(scene, "height"),
    "lora": lambda scene: find_loras(scene, "lora"),
    "lora_weight": lambda scene: find_loras(scene, "weight"),
    "clip_skip": _clip_skips,
    "control_image": find_control_images,
    "control_weight": lambda scene: of_controls(scene, *STEERING),
    "control_model": lambda scene: of_controls(scene, "control_model"),
    "control_begin": lambda scene: of_controls(scene, "begin_step_percent"),
    "control_end": lambda scene: of_controls(scene, "end_step_percent"),
}
