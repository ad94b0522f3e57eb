"""Finds the roles of a ComfyUI graph by the types of what is wired to its sampling nodes, whatever their names are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sweep.errors import did_you_mean
from sweep.workflow.dialect import Candidate, Encoding, FieldSchema
from sweep.workflow.graph import Address, Edge, Value
from sweep.workflow.traversal import Wiring, nodes_before

_PARTS: Final = frozenset({"NOISE", "GUIDER", "SAMPLER", "SIGMAS"})  # what a sampling node is put together from
_POSITIVE: Final = ("positive", "conditioning", "cond1")
_NEGATIVE: Final = ("negative",)
_SEEDS: Final = ("seed", "noise_seed")
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

    def formula(self, role: str) -> str:
        """Write the function in words."""
        return f"the sampler of {role}"


@dataclass(frozen=True, slots=True)
class ScheduleEncoding(Encoding):
    """A scheduler in one word written as a noise schedule: `dpmpp_2m_k` is karras, `euler` is normal."""

    schedules: tuple[str, ...] = ()

    def __call__(self, value: Value) -> Value:
        """Return the schedule's name."""
        if not isinstance(value, str) or value in self.schedules:
            return value
        return "karras" if value.endswith("_k") else "normal"

    def formula(self, role: str) -> str:
        """Write the function in words."""
        return f"the noise schedule of {role}"


@dataclass(frozen=True, slots=True)
class ClipSkipEncoding(Encoding):
    """Layers to skip written as the layer at which the text encoder stops: 0 is -1, the last one."""

    def __call__(self, value: Value) -> Value:
        """Return the layer, counted from the end."""
        return -1 - value if isinstance(value, int) else value

    def formula(self, role: str) -> str:
        """Write the function in words."""
        return f"−1 − {role}"


@dataclass(frozen=True, slots=True)
class SamplingNodes:
    """The nodes of a graph that sample, in order, among those that lead to its outputs."""

    wiring: Wiring
    nodes: tuple[str, ...]

    @classmethod
    def of(cls, wiring: Wiring, outputs: tuple[str, ...]) -> SamplingNodes:
        """Find them: they give a LATENT and take a MODEL with CONDITIONING, or a GUIDER."""
        wanted = nodes_before(wiring.graph, outputs or wiring.graph.nodes)
        return cls(wiring, tuple(node for node in wiring.graph.nodes if node in wanted and _samples(wiring, node)))

    def part_fields(self, node: str, names: tuple[str, ...]) -> list[Address]:
        """Return the first of these fields on a sampling node, else on each of the nodes wired to it as its parts."""
        own = first_of(self.wiring, node, names)
        if own is not None:
            return [own]
        found = [first_of(self.wiring, part, names) for part in self.parts(node)]
        return [address for address in found if address is not None]

    def parts(self, node: str) -> Iterator[str]:
        """Yield the nodes that give a sampling node its noise, guider, sampler and sigmas."""
        for name in inputs_of(self.wiring, node, *_PARTS):
            yield from self.wiring.upstream(Address(node, name), _PARTS)

    def latents(self, node: str) -> Iterator[str]:
        """Yield the nodes from which latents and images lead to a sampling node, not beyond another one."""
        schema = self.wiring.schema(node)
        starts = [Address(node, name) for name in inputs_of(self.wiring, node, "LATENT")] if schema else []
        for start in starts:
            yield from walk(self.wiring, self.wiring.feeding(start), ("LATENT", "IMAGE"), self.nodes)

    def conditions(self, node: str, names: tuple[str, ...]) -> Iterator[str]:
        """Yield the nodes from which conditioning of one side leads to a sampling node or its guider, up to texts."""
        for holder in (node, *self.parts(node)):
            start = first_of(self.wiring, holder, names)
            if start is not None:
                yield from _conditioning(self.wiring, self.wiring.feeding(start))


def _samples(wiring: Wiring, node: str) -> bool:
    schema = wiring.schema(node)
    if schema is None or "LATENT" not in schema.outputs.values():
        return False
    types = {field.type for field in schema.fields.values()}
    return {"MODEL", "CONDITIONING"} <= types or "GUIDER" in types


def inputs_of(wiring: Wiring, node: str, *types: str) -> list[str]:
    """Return the names of a node's inputs of these types."""
    schema = wiring.schema(node)
    return [name for name, field in schema.fields.items() if field.type in types] if schema else []


def first_of(wiring: Wiring, node: str, names: tuple[str, ...]) -> Address | None:
    """Return the first of these inputs that the node has."""
    return next((Address(node, name) for name in names if wiring.has(node, name)), None)


def walk(wiring: Wiring, edges: tuple[Edge, ...], types: tuple[str, ...], until: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the nodes upstream of these edges, nearest first, through inputs of these types, not beyond `until`."""
    waiting = [edge.source.node for edge in edges]
    seen: set[str] = set()
    for node in waiting:  # grows while it is walked
        if node in seen:
            continue
        seen.add(node)
        yield node
        if node not in until:
            for name in inputs_of(wiring, node, *types):
                waiting.extend(edge.source.node for edge in wiring.feeding(Address(node, name)))


def _conditioning(wiring: Wiring, edges: tuple[Edge, ...]) -> Iterator[str]:
    """Yield the nodes upstream through conditioning. A node with both sides gives the positive one at its slot 0."""
    waiting = list(edges)
    seen: set[str] = set()
    for edge in waiting:  # grows while it is walked
        node = edge.source.node
        if node in seen:
            continue
        seen.add(node)
        yield node
        if texts_of(wiring, node) or wiring.kind(node) == "ConditioningZeroOut":
            continue
        names = inputs_of(wiring, node, "CONDITIONING")
        if {"positive", "negative"} <= set(names):
            names = [("positive", "negative")[edge.source.field == "1"]]
        for name in names:
            waiting.extend(wiring.feeding(Address(node, name)))


def texts_of(wiring: Wiring, node: str) -> tuple[Address, ...]:
    """Return the text fields of a node that encodes a prompt: of SDXL's and FLUX's encoders both."""
    schema = wiring.schema(node)
    if schema is None or "CONDITIONING" not in schema.outputs.values():
        return ()
    names = [n for n, field in schema.fields.items() if field.type == "string" and not field.choices]
    return tuple(Address(node, name) for name in names)


def _texts(scene: SamplingNodes, side: tuple[str, ...]) -> Iterator[Candidate]:
    for node in scene.nodes:
        found = [texts for each in scene.conditions(node, side) if (texts := texts_of(scene.wiring, each))]
        yield from (Candidate(texts) for texts in found)


def _negatives(scene: SamplingNodes) -> Iterator[Candidate]:
    positive = {address for candidate in _texts(scene, _POSITIVE) for address in candidate.addresses}
    yield from (found for found in _texts(scene, _NEGATIVE) if positive.isdisjoint(found.addresses))


def _fields(*names: str) -> Callable[[SamplingNodes], Iterator[Candidate]]:
    def find(scene: SamplingNodes) -> Iterator[Candidate]:
        for node in scene.nodes:
            yield from (Candidate((address,)) for address in scene.part_fields(node, names))

    return find


def _strengths(scene: SamplingNodes) -> Iterator[Candidate]:
    """Yield the strength of the nodes whose latents come from an image."""
    for node in scene.nodes:
        if any(_is_image_source(scene.wiring, each) for each in scene.latents(node)):
            yield from (Candidate((address,)) for address in scene.part_fields(node, ("denoise",)))


def _is_image_source(wiring: Wiring, node: str) -> bool:
    return bool(inputs_of(wiring, node, "ImageField"))


def _guidance(scene: SamplingNodes) -> Iterator[Candidate]:
    """Yield `guidance` where a node distils it into the conditioning, else the cfg of the sampling node or guider."""
    for node in scene.nodes:
        distilled = [
            Address(each, "guidance")
            for each in scene.conditions(node, _POSITIVE)
            if scene.wiring.has(each, "guidance")
        ]
        yield from (Candidate((address,)) for address in distilled or scene.part_fields(node, ("cfg", "cfg_conds")))


def _schedulers(scene: SamplingNodes) -> Iterator[Candidate]:
    for node in scene.nodes:
        samplers, schedules = (scene.part_fields(node, (name,)) for name in ("sampler_name", "scheduler"))
        words = tuple(w for address in schedules for w in _field(scene.wiring, address).choices)
        encodings: dict[Address, Encoding] = {}
        for address in samplers:
            own = scene.wiring.value(address)
            known = _field(scene.wiring, address).choices
            encodings[address] = SamplerEncoding(own if isinstance(own, str) else "euler", words, known)
        encodings.update({address: ScheduleEncoding(words) for address in schedules})
        if encodings:
            yield Candidate(tuple(encodings), encodings=encodings)


def _field(wiring: Wiring, address: Address) -> FieldSchema:
    schema = wiring.schema(address.node)
    assert schema is not None
    return schema.fields[address.field]


def _clip_skips(scene: SamplingNodes) -> Iterator[Candidate]:
    """Yield the layer at which each sampling node's text encoders stop; they are set together."""
    wiring = scene.wiring
    for node in scene.nodes:
        encoders = [found for side in (_POSITIVE, _NEGATIVE) for found in scene.conditions(node, side)]
        edges = tuple(edge for each in encoders for edge in wiring.feeding(Address(each, "clip")))
        nodes = (found for found in walk(wiring, edges, ("CLIP",)) if wiring.has(found, "stop_at_clip_layer"))
        fields = [Address(found, "stop_at_clip_layer") for found in nodes]
        if fields:
            yield Candidate(tuple(fields), ClipSkipEncoding())


def _models_on_the_way(scene: SamplingNodes, node: str) -> Iterator[str]:
    for holder in (node, *scene.parts(node)):
        for name in inputs_of(scene.wiring, holder, "MODEL"):
            yield from walk(scene.wiring, scene.wiring.feeding(Address(holder, name)), ("MODEL",))


def _model_fields(wiring: Wiring, node: str, kind: str) -> list[Address]:
    schema = wiring.schema(node)
    return [Address(node, name) for name, field in schema.fields.items() if kind in field.model_types] if schema else []


def _models(scene: SamplingNodes) -> Iterator[Candidate]:
    for node in scene.nodes:
        for found in _models_on_the_way(scene, node):
            yield from (Candidate((address,)) for address in _model_fields(scene.wiring, found, "main"))


def _loras(scene: SamplingNodes) -> Iterator[Address]:
    """Yield the name fields of LoRAs on the way from the model, the loader's side first."""
    for node in scene.nodes:
        for found in reversed(list(dict.fromkeys(_models_on_the_way(scene, node)))):
            yield from _model_fields(scene.wiring, found, "lora")


def lora_weights(fields: Mapping[str, FieldSchema], node: str) -> tuple[Address, ...]:
    """Return the weights of a LoRA: of the model and, where it has one, of the text encoder."""
    return tuple(Address(node, name) for name in ("strength_model", "strength_clip", "strength") if name in fields)


def _lora_weights(scene: SamplingNodes) -> Iterator[Candidate]:
    for lora in _loras(scene):
        schema = scene.wiring.schema(lora.node)
        weights = lora_weights(schema.fields, lora.node) if schema else ()
        if weights:
            yield Candidate(weights)


def control_parts(wiring: Wiring, node: str) -> dict[str, Address]:
    """Return where each part of a node that applies a ControlNet is written; the model stands on its loader."""
    loaders = walk(wiring, wiring.feeding(Address(node, "control_net")), ("CONTROL_NET",))
    models = [address for loader in loaders for address in _model_fields(wiring, loader, "controlnet")]
    image = Address(node, "image")
    sources = [
        Address(found, name)
        for found in walk(wiring, wiring.feeding(image), ("IMAGE",))
        for name in inputs_of(wiring, found, "ImageField")
    ]
    parts = {
        "model": models[0] if models else Address(node, "control_net"),
        "image": image,
        "weight": Address(node, "strength"),
        "begin": Address(node, "start_percent"),
        "end": Address(node, "end_percent"),
    }
    return {**parts, "source": sources[0]} if len(sources) == 1 else parts


def control_appliers(wiring: Wiring) -> list[str]:
    """Return the nodes that apply a ControlNet to conditioning, in the order of the graph."""
    nodes = wiring.graph.nodes
    return [node for node in nodes if wiring.has(node, "control_net") and wiring.has(node, "strength")]


def _controls(part: str) -> Callable[[SamplingNodes], Iterator[Candidate]]:
    def find(scene: SamplingNodes) -> Iterator[Candidate]:
        reached = {found for node in scene.nodes for found in scene.conditions(node, _POSITIVE)}
        for node in control_appliers(scene.wiring):
            address = control_parts(scene.wiring, node).get(part)
            if node in reached and address is not None and scene.wiring.has(address.node, address.field):
                yield Candidate((address,))

    return find


def _images(scene: SamplingNodes) -> Iterator[Candidate]:
    """Yield the images that latents are made of; without any sampling node, every image that is worked on."""
    wiring = scene.wiring
    found = [node for each in scene.nodes for node in scene.latents(each)]
    for node in found if scene.nodes else wiring.graph.nodes:
        yield from (Candidate((Address(node, name),)) for name in inputs_of(wiring, node, "ImageField"))


def _sizes(side: str) -> Callable[[SamplingNodes], Iterator[Candidate]]:
    def find(scene: SamplingNodes) -> Iterator[Candidate]:
        for node in scene.nodes:
            sized = [
                each for each in scene.latents(node) if all(scene.wiring.has(each, s) for s in ("width", "height"))
            ]
            if sized:
                yield Candidate((Address(sized[0], side),))

    return find


ROLE_FINDERS: Final[Mapping[str, Callable[[SamplingNodes], Iterator[Candidate]]]] = {
    "prompt": lambda scene: _texts(scene, _POSITIVE),
    "negative_prompt": _negatives,
    "denoise_strength": _strengths,
    "seed": _fields(*_SEEDS),
    "steps": _fields("steps"),
    "cfg_scale": _guidance,
    "scheduler": _schedulers,
    "sampler": _fields("sampler_name"),
    "model": _models,
    "image": _images,
    "width": _sizes("width"),
    "height": _sizes("height"),
    "lora": lambda scene: (Candidate((address,)) for address in _loras(scene)),
    "lora_weight": _lora_weights,
    "clip_skip": _clip_skips,
    "control_image": _controls("source"),
    "control_weight": _controls("weight"),
    "control_model": _controls("model"),
    "control_begin": _controls("begin"),
    "control_end": _controls("end"),
}
