"""Finds the roles of an InvokeAI graph by following edges from its denoising nodes, whatever models they are for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Final, Literal

from sweep.workflow.dialect import IDENTITY, Candidate, Encoding, NodeSchemas
from sweep.workflow.graph import Address, Graph, Value, find_nodes_before
from sweep.workflow.wiring import ANYTHING, Wiring

UNDECIDING = frozenset({"is_intermediate", "use_cache", "board", "metadata"})  # fields that change no pixel
_IMAGES = frozenset({"ImageField", "LatentsField"}) | ANYTHING
_RESIZERS = frozenset({"img_resize", "heuristic_resize"})
_POSITIVE = ("positive_conditioning", "positive_text_conditioning")
_NEGATIVE = ("negative_conditioning", "negative_text_conditioning")
_WEIGHTS = ("unet", "transformer")
_STEERING = ("control_weight", "control_context_scale", "weight")  # how the nodes call it
_CONTROLS = ("control", "control_lllite")
_CONTROL_FIELDS = {
    "model": "control_model",
    "image": "image",
    "weight": "control_weight",
    "begin": "begin_step_percent",
    "end": "end_step_percent",
}
_REFERENCES = ("ref_image", "reference_latents", "kontext_conditioning", "style_reference", "redux_conditioning")
_FIFTH_ROOT = ("flux_", "flux2_", "sd3_")
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
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"a strength is a number from 0 to 1, not {value!r}")
        root = round(1.0 - math.pow(value, _EXPONENT), 9)
        return min(float(1 - Decimal(repr(value))) if self.name == "one_minus" else root, self.limit)

    def formula(self, role: str) -> str:
        turned = f"1 − {role}" if self.name == "one_minus" else f"1 − {role}^0.2"
        return turned if self.limit >= 1 else f"min({self.limit:g}, {turned})"


ONE_MINUS = StartEncoding("one_minus")
ONE_MINUS_FIFTH_ROOT = StartEncoding("one_minus_fifth_root")


class DenoisingNodes(Wiring):
    """A graph with its schemas and its denoising nodes, in order, among those that lead to its outputs.

    Refiners follow the model before them: only prompts reach them.
    """

    def __init__(self, graph: Graph, schemas: NodeSchemas, outputs: tuple[str, ...]) -> None:
        super().__init__(graph, schemas)
        wanted = find_nodes_before(graph, outputs or graph.nodes, UNDECIDING)
        self.wanted = [node for node in graph.nodes if node in wanted]
        denoising = [node for node in self.wanted if _denoises(self, node)]
        self.refining = [node for node in denoising if self.loads(node, "refiner")]
        self.denoising = [node for node in denoising if node not in self.refining]
        asked = ("prompt", "reference_images", "model")  # of nodes that do everything in one, by another service
        self.drawing = [node for node in self.wanted if all(self.has(node, field) for field in asked)]

    def fields(self, *names: str) -> Iterator[Address]:
        """Yield the first of these fields on each node that denoises or draws."""
        return self.first_fields(self.denoising + self.drawing, *names)

    def loads(self, node: str, word: str) -> bool:
        """Tell whether a node type with this word in it stands between the model and a denoising node."""
        return any(word in self.kind(found) for found in _list_model_path(self, node))

    def find_drawn(self, name: str) -> Iterator[Address]:
        """Yield this field of each node that draws."""
        return self.first_fields(self.drawing, name)


def _denoises(wiring: Wiring, node: str) -> bool:
    schema = wiring.schema(node)
    gives_latents = schema is not None and "LatentsField" in schema.outputs.values()
    return gives_latents and wiring.first(node, *_POSITIVE) is not None


def _list_model_path(wiring: Wiring, node: str) -> list[str]:
    """Return the loader of a denoising node's weights and all between the two, nearest to the denoising first."""
    start = wiring.first(node, *_WEIGHTS)
    weights = wiring.field(start) if start else None
    return wiring.upstream(start, {weights.type}) if start and weights else []


def _find_texts(wiring: DenoisingNodes, side: tuple[str, ...]) -> Iterator[Candidate]:
    """Yield a candidate for each text: encoders with the same text, and the refiner's, are one."""
    groups: dict[Value, list[Address]] = {}
    for node in wiring.denoising:
        for encoder in _find_encoders(wiring, node, side):
            fields = _find_encoder_texts(wiring, encoder)
            text = wiring.find_settled_value(fields[0])
            groups.setdefault(text if isinstance(text, str) and text else encoder, []).extend(fields)
    if len(groups) == 1:
        followers = (encoder for node in wiring.refining for encoder in _find_encoders(wiring, node, side))
        next(iter(groups.values())).extend(field for each in followers for field in _find_encoder_texts(wiring, each))
    yield from (dict.fromkeys(addresses, IDENTITY) for addresses in groups.values())


def _find_encoders(wiring: Wiring, node: str, side: tuple[str, ...]) -> Iterator[str]:
    start = wiring.first(node, *side)
    field = wiring.field(start) if start else None
    if start and field:
        kinds = (field.type, field.items)
        found = wiring.upstream(start, kinds, until=lambda node: wiring.first(node, "prompt", "style") is not None)
        yield from (node for node in found if wiring.first(node, "prompt", "style"))


def _find_encoder_texts(wiring: Wiring, encoder: str) -> tuple[Address, ...]:
    """Return the prompt and, where it says nothing of its own, the style that SDXL's second encoder reads."""
    prompt, style = Address(encoder, "prompt"), Address(encoder, "style")
    if not wiring.has(encoder, "prompt"):
        return (style,)
    if not wiring.has(encoder, "style") or wiring.list_edges_into(style):
        return (prompt,)
    said = wiring.value(style)
    return (prompt, style) if not said or said == wiring.find_settled_value(prompt) else (prompt,)


def _find_clip_skips(wiring: DenoisingNodes) -> Iterator[Candidate]:
    """Yield the layers to skip of each denoising node's encoders, which are set together."""
    for node in wiring.denoising:
        encoders = [encoder for side in (_POSITIVE, _NEGATIVE) for encoder in _find_encoders(wiring, node, side)]
        nodes = (found for each in encoders for found in wiring.upstream(Address(each, "clip"), {"CLIPField"}))
        if fields := dict.fromkeys(wiring.first_fields(nodes, "skipped_layers"), IDENTITY):
            yield fields


def _find_seeds(wiring: DenoisingNodes) -> Iterator[Address]:
    for node in wiring.denoising:
        noise = [Address(found, "seed") for found in _noise(wiring, node)]
        yield from noise or wiring.first_fields([node], "seed")
    yield from wiring.find_drawn("seed")


def _noise(wiring: Wiring, node: str) -> list[str]:
    """Return the nodes that draw the noise a denoising node is given, where it is given any."""
    has_seed = partial(wiring.has, field="seed")
    return list(filter(has_seed, wiring.upstream(Address(node, "noise"), {"LatentsField"}, until=has_seed)))


def _find_guidance(wiring: DenoisingNodes) -> Iterator[Address]:
    """Yield the fields of guidance: `guidance` for FLUX, but FLUX.2 Klein, which has it, heeds `cfg_scale` only."""
    for node in wiring.denoising:
        own = () if wiring.loads(node, "klein") else ("guidance",)
        yield from wiring.first_fields([node], *own, "cfg_scale", "guidance_scale")


def _find_strengths(wiring: DenoisingNodes) -> Iterator[Candidate]:
    """Yield the start of denoising of each node that begins with an image."""
    for start in wiring.first_fields(wiring.denoising, "denoising_start"):
        filled = wiring.list_edges_into(Address(start.node, "fill_conditioning"))
        if wiring.list_edges_into(Address(start.node, "latents")) and not filled:
            yield {start: find_strength_encoding(wiring, start)}


def find_strength_encoding(wiring: Wiring, start: Address) -> Encoding:
    """Return the encoding of strength in a `denoising_start`: by the node's models, bounded by where denoising ends."""
    encode = ONE_MINUS_FIFTH_ROOT if wiring.kind(start.node).startswith(_FIFTH_ROOT) else ONE_MINUS
    end = wiring.value(Address(start.node, "denoising_end"))
    return StartEncoding(encode.name, float(end)) if isinstance(end, int | float) and end < 1 else encode


def _find_models(wiring: DenoisingNodes) -> Iterator[Address]:
    for node in wiring.denoising:
        yield from wiring.first_fields(_list_model_path(wiring, node), "model")
    yield from wiring.find_drawn("model")


def _find_loras(wiring: DenoisingNodes, field: str) -> Iterator[Address]:
    """Yield the LoRAs on the way from the loader, the loader's side first; collected ones by their selectors."""
    for node in wiring.denoising:
        for found in reversed(_list_model_path(wiring, node)):
            chosen = wiring.upstream(Address(found, "loras"), {"LoRAField"})
            yield from (Address(each, field) for each in [found, *chosen] if wiring.has(each, "lora"))


def _find_controls(wiring: DenoisingNodes) -> Iterator[str]:
    """Yield the ControlNet nodes of all denoising nodes, each once, in the order of the graph."""
    kinds = {schema.outputs["control"] for schema in wiring.schemas.values() if "control" in schema.outputs}
    is_control = partial(wiring.has, field="control_model")
    starts = [Address(node, field) for node in wiring.denoising for field in _CONTROLS]
    found = {node for start in starts for node in wiring.upstream(start, kinds, until=is_control) if is_control(node)}
    return (node for node in wiring.graph.nodes if node in found)


def _trace_control_images(wiring: Wiring, node: str) -> list[Address]:
    """Find the fields that take in a ControlNet's image: its own, or those upstream of nodes that work on it."""
    image = Address(node, "image")
    return list(_find_image_sources(wiring, image)) if wiring.list_edges_into(image) else [image]


def find_control_fields(wiring: Wiring, node: str) -> dict[str, Address]:
    """Return the field of each part of a ControlNet, and the only field through which its image comes in, if any."""
    sources = _trace_control_images(wiring, node)
    source = {"source": sources[0]} if len(sources) == 1 else {}
    return {part: Address(node, field) for part, field in _CONTROL_FIELDS.items()} | source


def _find_images(wiring: DenoisingNodes) -> Iterator[Address]:
    """Yield the image img2img begins with; else one that is referred to; without any denoising, what is worked on."""
    starts = [Address(node, "latents") for node in wiring.denoising]
    references = [Address(node, field) for node in wiring.denoising for field in _REFERENCES]
    for found in (starts, references):
        if sources := [source for start in found for source in _find_image_sources(wiring, start)]:
            yield from sources
            return
    yield from wiring.find_drawn("init_image")
    for node in () if wiring.denoising or wiring.drawing else wiring.wanted:
        yield from _open_images(wiring, node)


def _find_image_sources(wiring: Wiring, start: Address) -> Iterator[Address]:
    """Yield the image fields without an edge from which images or latents lead to `start`."""
    for node in wiring.upstream(start, _IMAGES, skip=("noise", "denoise_mask")):
        yield from _open_images(wiring, node)


def _open_images(wiring: Wiring, node: str) -> Iterator[Address]:
    for address in wiring.inputs(node, "ImageField"):
        field = wiring.field(address)
        is_given = (field is not None and field.required) or wiring.value(address) is not None
        if is_given and "mask" not in address.field and not wiring.list_edges_into(address):
            yield address


def _find_sizes(wiring: DenoisingNodes, side: str) -> Iterator[Candidate]:
    """Yield the fields of one side of the image: of its noise, of the resized source, and repetitions for SDXL."""
    for node in wiring.denoising:
        drawn = list(wiring.first_fields(_noise(wiring, node), side)) or wiring.first_fields([node], side)
        sources = [source for address in drawn if (source := _find_size_source(wiring, address))]
        before = wiring.upstream(Address(node, "latents"), _IMAGES)
        resized = [Address(found, side) for found in before if wiring.kind(found) in _RESIZERS][:1]
        values = [wiring.find_settled_value(source) for source in sources]
        told = [address for address in _find_told_sizes(wiring, node, side) if wiring.value(address) in values]
        if sources or resized:
            yield dict.fromkeys([*sources, *resized, *told], IDENTITY)
    yield from wiring.find_drawn(side)


def _find_told_sizes(wiring: Wiring, node: str, side: str) -> Iterator[Address]:
    """Find the fields that repeat the image's size for those who use it: SDXL's prompts, encoders of references."""
    encoders = [*_find_encoders(wiring, node, _POSITIVE), *_find_encoders(wiring, node, _NEGATIVE)]
    told = [Address(encoder, f"{which}_{side}") for encoder in encoders for which in ("original", "target")]
    for reference in _REFERENCES:
        told += [Address(edge.source.node, side) for edge in wiring.list_edges_into(Address(node, reference))]
    return (field for field in told if wiring.field(field) and not wiring.list_edges_into(field))


def _find_size_source(wiring: Wiring, address: Address) -> Address | None:
    """Return the field that decides a width or height; None where that is the size of an image that is put in.

    A size that comes out of a node is what went into it under the same name, or the size of its image.
    """
    seen: set[Address] = set()
    while edges := wiring.list_edges_into(address):
        output = edges[-1].source
        if output in seen or output.field != address.field:
            schemas = (wiring.schema(node) for node in wiring.upstream(address))
            measures_image = any("ImageField" in schema.outputs.values() for schema in schemas if schema)
            return None if measures_image else address
        seen.add(output)
        before = _find_same_size(wiring, output)
        if before is None:
            return None
        address = before
    return address


def _find_same_size(wiring: Wiring, output: Address) -> Address | None:
    """Return the input that a width or height output repeats, further up where its node takes none itself."""
    images = wiring.inputs(output.node, *_IMAGES)
    nodes = [output.node, *(node for image in images for node in wiring.upstream(image, _IMAGES))]
    return next(wiring.first_fields(nodes, output.field), None)


FINDERS: Final[Mapping[str, Callable[[DenoisingNodes], Iterable[Candidate]]]] = {
    "prompt": lambda wiring: (*_find_texts(wiring, _POSITIVE), *wiring.find_drawn("prompt")),
    "negative_prompt": lambda wiring: _find_texts(wiring, _NEGATIVE),
    "denoise_strength": _find_strengths,
    "seed": _find_seeds,
    "steps": lambda wiring: wiring.fields("steps", "num_steps"),
    "cfg_scale": _find_guidance,
    "scheduler": lambda wiring: wiring.fields("scheduler"),
    "model": _find_models,
    "image": _find_images,
    "width": lambda wiring: _find_sizes(wiring, "width"),
    "height": lambda wiring: _find_sizes(wiring, "height"),
    "lora": lambda wiring: _find_loras(wiring, "lora"),
    "lora_weight": lambda wiring: _find_loras(wiring, "weight"),
    "clip_skip": _find_clip_skips,
    "control_image": lambda wiring: (
        image for node in _find_controls(wiring) for image in _trace_control_images(wiring, node)
    ),
    "control_weight": lambda wiring: wiring.first_fields(_find_controls(wiring), *_STEERING),
    "control_model": lambda wiring: wiring.first_fields(_find_controls(wiring), "control_model"),
    "control_begin": lambda wiring: wiring.first_fields(_find_controls(wiring), "begin_step_percent"),
    "control_end": lambda wiring: wiring.first_fields(_find_controls(wiring), "end_step_percent"),
}
