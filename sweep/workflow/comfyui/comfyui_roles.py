"""Finds the roles of a ComfyUI graph by the types of what is wired to its sampling nodes, whatever their names are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from sweep.errors import did_you_mean
from sweep.workflow.dialect import IDENTITY, Candidate, Encoding, NodeSchemas
from sweep.workflow.graph import Address, Graph, Value, find_nodes_before
from sweep.workflow.node_schemas import NodeSchema
from sweep.workflow.wiring import Wiring

_PARTS: Final = frozenset({"NOISE", "GUIDER", "SAMPLER", "SIGMAS"})  # what a sampling node is put together from
_IMAGE_TYPES: Final = ("LATENT", "IMAGE", "CLIP_VISION_OUTPUT")
_POSITIVE: Final = ("positive", "conditioning", "cond1")
_NEGATIVE: Final = "negative"
SAMPLER_NAMES: Final[Mapping[str, str]] = {  # InvokeAI's word → ComfyUI's sampler
    "euler_a": "euler_ancestral",
    "kdpm_2": "dpm_2",
    "kdpm_2_a": "dpm_2_ancestral",
    "dpmpp_2s": "dpmpp_2s_ancestral",
    "dpmpp_3m": "dpmpp_3m_sde",
    "unipc": "uni_pc",
}


@dataclass(frozen=True, slots=True)
class SamplerEncoding(Encoding):
    """A scheduler in one word, as `euler_a` or `dpmpp_2m_k`, written as the name of a sampler.

    `own` is what the graph says: a word that only names a noise schedule (`karras`) leaves it as it is.
    """

    words: ClassVar = "the sampler of {role}"
    own: str = "euler"
    schedules: tuple[str, ...] = ()
    samplers: tuple[str, ...] = ()  # those of the field; empty where they are not known

    def __call__(self, value: Value) -> Value:
        """Return the sampler's name. Raises ValueError for a word that names no sampler and no schedule."""
        if not isinstance(value, str):
            return value
        if value in self.schedules:
            return self.own
        word = value.removesuffix("_k")
        name = SAMPLER_NAMES.get(word, word)
        if self.samplers and name not in self.samplers:
            near = did_you_mean(value, [*self.samplers, *self.schedules])
            raise ValueError(f"neither a sampler nor a noise schedule is called {value!r}{near and '.'}{near}")
        return name


@dataclass(frozen=True, slots=True)
class ScheduleEncoding(Encoding):
    """A scheduler in one word written as a noise schedule: `dpmpp_2m_k` is karras, `euler` is normal."""

    words: ClassVar = "the noise schedule of {role}"
    schedules: tuple[str, ...] = ()

    def __call__(self, value: Value) -> Value:
        if not isinstance(value, str) or value in self.schedules:
            return value
        return "karras" if value.endswith("_k") else "normal"


@dataclass(frozen=True, slots=True)
class ClipSkipEncoding(Encoding):
    """Layers to skip written as the layer at which the text encoder stops: 0 is -1, the last one."""

    words: ClassVar = "−1 − {role}"

    def __call__(self, value: Value) -> Value:
        return -1 - value if isinstance(value, int) else value


class SamplingNodes(Wiring):
    """A graph with its schemas and the nodes that sample, in order, among those that lead to its outputs.

    They give a LATENT and take a MODEL with CONDITIONING, or a GUIDER.
    """

    def __init__(self, graph: Graph, schemas: NodeSchemas, outputs: tuple[str, ...]) -> None:
        super().__init__(graph, schemas)
        wanted = find_nodes_before(graph, outputs or graph.nodes)
        self.nodes = [node for node in graph.nodes if node in wanted and _is_sampling(self, node)]

    def fields(self, *names: str) -> Iterator[Address]:
        """Yield the first of these fields on each sampling node or its parts."""
        return (found for node in self.nodes for found in self.part_fields(node, *names))

    def part_fields(self, node: str, *names: str) -> list[Address]:
        """Return the first of these fields on a sampling node, else on each of the nodes wired to it as its parts."""
        own = self.first(node, *names)
        return [own] if own else list(self.first_fields(self.parts(node), *names))

    def parts(self, node: str) -> Iterator[str]:
        """Yield the nodes that give a sampling node its noise, guider, sampler and sigmas."""
        for address in self.inputs(node, *_PARTS):
            yield from self.upstream(address, _PARTS)

    def iterate_latents(self, node: str) -> Iterator[str]:
        """Yield the nodes from which latents and images lead to a sampling node, not beyond another one."""
        for start in self.inputs(node, "LATENT"):
            yield from self.upstream(start, ("LATENT", "IMAGE"), until=self.nodes.__contains__)

    def conditions(self, node: str, *names: str) -> Iterator[str]:
        """Yield the nodes from which conditioning of one side leads to a sampling node or its guider, up to texts."""
        for holder in (node, *self.parts(node)):
            start = self.first(holder, *names)
            if start is not None:
                yield from _walk_conditioning(self, start)


def _is_sampling(wiring: Wiring, node: str) -> bool:
    schema = wiring.schema(node)
    if schema is None or "LATENT" not in schema.outputs.values():
        return False
    types = {field.type for field in schema.fields.values()}
    return {"MODEL", "CONDITIONING"} <= types or "GUIDER" in types


def _walk_conditioning(wiring: Wiring, start: Address) -> Iterator[str]:
    """Yield the nodes upstream through conditioning. A node with both sides gives the positive one at its slot 0."""
    waiting = list(wiring.list_edges_into(start))
    seen: set[str] = set()
    for edge in waiting:  # grows while it is walked
        node = edge.source.node
        if node in seen:
            continue
        seen.add(node)
        yield node
        if list_texts(wiring, node) or wiring.kind(node) == "ConditioningZeroOut":
            continue
        inputs = wiring.inputs(node, "CONDITIONING")
        if {"positive", "negative"} <= {address.field for address in inputs}:
            inputs = [Address(node, ("positive", "negative")[edge.source.field == "1"])]
        waiting.extend(before for address in inputs for before in wiring.list_edges_into(address))


def list_texts(wiring: Wiring, node: str) -> tuple[Address, ...]:
    """Return the text fields of a node that encodes a prompt: of SDXL's and FLUX's encoders both."""
    schema = wiring.schema(node)
    if schema is None or "CONDITIONING" not in schema.outputs.values():
        return ()
    return tuple(address for address in wiring.inputs(node, "string") if not schema.fields[address.field].choices)


def _find_texts(wiring: SamplingNodes, *side: str) -> Iterator[Candidate]:
    """Yield the texts of each encoder; of one that encodes both sides those whose names tell this side."""
    other = "positive" if side[0] == _NEGATIVE else _NEGATIVE
    for node in wiring.nodes:
        for texts in filter(None, (list_texts(wiring, each) for each in wiring.conditions(node, *side))):
            own = [text for text in texts if side[0] in text.field]
            yield dict.fromkeys(own or [text for text in texts if other not in text.field] or texts, IDENTITY)


def _find_strengths(wiring: SamplingNodes) -> Iterator[Address]:
    """Yield the strength of the nodes whose latents come from an image."""
    for node in wiring.nodes:
        if any(wiring.inputs(each, "ImageField") for each in wiring.iterate_latents(node)):
            yield from wiring.part_fields(node, "denoise")


def _find_guidance(wiring: SamplingNodes) -> Iterator[Address]:
    """Yield `guidance` where a node distils it into the conditioning, else the cfg of the sampling node or guider."""
    for node in wiring.nodes:
        holders = wiring.conditions(node, *_POSITIVE)
        distilled = [Address(each, "guidance") for each in holders if wiring.has(each, "guidance")]
        yield from distilled or wiring.part_fields(node, "cfg", "cfg_conds")


def _find_schedulers(wiring: SamplingNodes) -> Iterator[Candidate]:
    for node in wiring.nodes:
        samplers, schedules = (wiring.part_fields(node, name) for name in ("sampler_name", "scheduler"))
        words = tuple(word for address in schedules for word in wiring.choices(address))
        encodings: dict[Address, Encoding] = {}
        for address in samplers:
            own, known = wiring.value(address), wiring.choices(address)
            encodings[address] = SamplerEncoding(own if isinstance(own, str) else "euler", words, known)
        if encodings := encodings | dict.fromkeys(schedules, ScheduleEncoding(words)):
            yield encodings


def _find_clip_skips(wiring: SamplingNodes) -> Iterator[Candidate]:
    """Yield the layer at which each sampling node's text encoders stop; they are set together."""
    for node in wiring.nodes:
        encoders = [*wiring.conditions(node, *_POSITIVE), *wiring.conditions(node, _NEGATIVE)]
        before = (found for each in encoders for found in wiring.upstream(Address(each, "clip"), ("CLIP",)))
        if layers := dict.fromkeys(wiring.first_fields(before, "stop_at_clip_layer"), ClipSkipEncoding()):
            yield layers


def _list_model_path(wiring: SamplingNodes, node: str) -> Iterator[str]:
    for holder in (node, *wiring.parts(node)):
        for start in wiring.inputs(holder, "MODEL"):
            yield from wiring.upstream(start, ("MODEL",))


def _list_model_fields(wiring: Wiring, node: str, kind: str) -> list[Address]:
    schema = wiring.schema(node)
    return [Address(node, name) for name, field in schema.fields.items() if kind in field.model_types] if schema else []


def _find_models(wiring: SamplingNodes) -> Iterator[Address]:
    for node in wiring.nodes:
        for found in _list_model_path(wiring, node):
            yield from _list_model_fields(wiring, found, "main")


def _find_loras(wiring: SamplingNodes) -> Iterator[Address]:
    """Yield the name fields of LoRAs on the way from the model, the loader's side first."""
    for node in wiring.nodes:
        for found in reversed(list(dict.fromkeys(_list_model_path(wiring, node)))):
            yield from _list_model_fields(wiring, found, "lora")


def list_lora_weights(schema: NodeSchema | None, node: str) -> tuple[Address, ...]:
    """Return the weights of a LoRA: of the model and, where it has one, of the text encoder."""
    fields = schema.fields if schema else ()
    return tuple(Address(node, name) for name in ("strength_model", "strength_clip", "strength") if name in fields)


def _find_lora_weights(wiring: SamplingNodes) -> Iterator[Candidate]:
    for lora in _find_loras(wiring):
        if weights := list_lora_weights(wiring.schema(lora.node), lora.node):
            yield dict.fromkeys(weights, IDENTITY)


def find_control_parts(wiring: Wiring, node: str) -> dict[str, Address]:
    """Return the field of each part of a node that applies a ControlNet; the model's is on its loader."""
    model, image = Address(node, "control_net"), Address(node, "image")
    loaders = wiring.upstream(model, ("CONTROL_NET",))
    models = [address for loader in loaders for address in _list_model_fields(wiring, loader, "controlnet")]
    found = wiring.upstream(image, ("IMAGE",))
    sources = [address for each in found for address in wiring.inputs(each, "ImageField")]
    source = {"source": sources[0]} if len(sources) == 1 else {}
    return {
        "model": models[0] if models else model,
        "image": image,
        "weight": Address(node, "strength"),
        "begin": Address(node, "start_percent"),
        "end": Address(node, "end_percent"),
        **source,
    }


def list_control_appliers(wiring: Wiring) -> list[str]:
    """Return the nodes that apply a ControlNet to conditioning, in the order of the graph."""
    nodes = wiring.graph.nodes
    return [node for node in nodes if wiring.has(node, "control_net") and wiring.has(node, "strength")]


def _find_controls(wiring: SamplingNodes, part: str) -> Iterator[Address]:
    reached = {found for node in wiring.nodes for found in wiring.conditions(node, *_POSITIVE)}
    for node in list_control_appliers(wiring):
        address = find_control_parts(wiring, node).get(part)
        if node in reached and address is not None and wiring.has(address.node, address.field):
            yield address


def _find_images(wiring: SamplingNodes) -> Iterator[Address]:
    """Yield the images that latents are made of, else those that prompts refer to; without sampling, all there are."""
    begun_with = (found for node in wiring.nodes for found in wiring.iterate_latents(node))
    sources: list[Iterable[str]] = [begun_with, _list_referred(wiring)] if wiring.nodes else [wiring.graph.nodes]
    for nodes in sources:
        images = [address for node in nodes for address in wiring.inputs(node, "ImageField")]
        if images:
            yield from images
            return


def _list_referred(wiring: SamplingNodes) -> Iterator[str]:
    """Yield the nodes from which images lead into conditioning, but for those of ControlNets."""
    for holder in (each for node in wiring.nodes for each in wiring.conditions(node, *_POSITIVE)):
        for start in wiring.inputs(holder, *_IMAGE_TYPES) if not wiring.has(holder, "control_net") else ():
            yield from wiring.upstream(start, _IMAGE_TYPES)


def _find_sizes(wiring: SamplingNodes, side: str) -> Iterator[Address]:
    """Yield the field of the nearest node that decides the size of each sampling node's latents."""
    for node in wiring.nodes:
        sized = [
            each for each in wiring.iterate_latents(node) if wiring.has(each, "width") and wiring.has(each, "height")
        ]
        yield from (Address(each, side) for each in sized[:1])


ROLE_FINDERS: Final[Mapping[str, Callable[[SamplingNodes], Iterator[Candidate]]]] = {
    "prompt": lambda wiring: _find_texts(wiring, *_POSITIVE),
    "negative_prompt": lambda wiring: _find_texts(wiring, _NEGATIVE),
    "denoise_strength": _find_strengths,
    "seed": lambda wiring: wiring.fields("seed", "noise_seed"),
    "steps": lambda wiring: wiring.fields("steps"),
    "cfg_scale": _find_guidance,
    "scheduler": _find_schedulers,
    "sampler": lambda wiring: wiring.fields("sampler_name"),
    "model": _find_models,
    "image": _find_images,
    "width": lambda wiring: _find_sizes(wiring, "width"),
    "height": lambda wiring: _find_sizes(wiring, "height"),
    "lora": _find_loras,
    "lora_weight": _find_lora_weights,
    "clip_skip": _find_clip_skips,
    "control_image": lambda wiring: _find_controls(wiring, "source"),
    "control_weight": lambda wiring: _find_controls(wiring, "weight"),
    "control_model": lambda wiring: _find_controls(wiring, "model"),
    "control_begin": lambda wiring: _find_controls(wiring, "begin"),
    "control_end": lambda wiring: _find_controls(wiring, "end"),
}
