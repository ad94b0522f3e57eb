"""Behaviour of node types: those that handle values only, and those that InvokeAI would run on a GPU.

The latter keep names and digests only; an image is painted where InvokeAI would decode latents.
"""

from __future__ import annotations

import math
import operator
import random
import re
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sweep.sandbox.options import ModelRecord, identifier
from sweep.sandbox.painter.paint import Control, Painting

NodeFields = dict[str, Any]


class NodeError(Exception):
    """A node failed; `kind` is the class InvokeAI would name."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


ValueBehaviour = Callable[[NodeFields], NodeFields]
VALUES: dict[str, ValueBehaviour] = {}


def value(*kinds: str) -> Callable[[ValueBehaviour], ValueBehaviour]:
    """Register a function as the behaviour of these node types."""

    def register(run: ValueBehaviour) -> ValueBehaviour:
        VALUES.update(dict.fromkeys(kinds, run))
        return run

    return register


@value("integer", "float", "string", "boolean")
def primitive(node: NodeFields) -> NodeFields:
    """Return a constant."""
    return {"value": node["value"], "type": f"{node['type']}_output"}


@value("rand_int")
def random_integer(node: NodeFields) -> NodeFields:
    """Draw another number each time, as on the real server."""
    low, high = sorted((node["low"], node["high"]))
    return {"value": random.randrange(low, max(high, low + 1)), "type": "integer_output"}


@value("add", "sub", "mul", "div")
def arithmetic(node: NodeFields) -> NodeFields:
    """Compute with whole numbers."""
    a, b = node["a"], node["b"]
    if node["type"] == "div" and b == 0:
        raise NodeError("ZeroDivisionError", "division by zero")
    results = {"add": a + b, "sub": a - b, "mul": a * b}
    return {"value": results[node["type"]] if node["type"] in results else int(a / b), "type": "integer_output"}


@value("integer_math", "float_math")
def calculation(node: NodeFields) -> NodeFields:
    """Compute numbers under a named operation."""
    a, b = node["a"], node["b"]
    try:
        result = _OPERATIONS[node["operation"]](a, b)
    except (ArithmeticError, ValueError) as error:
        raise NodeError(type(error).__name__, str(error)) from None
    whole = node["type"] == "integer_math"
    kind = "integer_output" if whole else "float_output"
    return {"value": int(result) if whole else result, "type": kind}


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "ADD": operator.add,
    "SUB": operator.sub,
    "MUL": operator.mul,
    "DIV": operator.truediv,
    "EXP": operator.pow,
    "MOD": operator.mod,
    "ABS": lambda a, _: abs(a),
    "SQRT": lambda a, _: math.sqrt(a),
    "MIN": min,
    "MAX": max,
}


@value("float_to_int")
def round_value(node: NodeFields) -> NodeFields:
    """Round a number to a multiple of a whole one."""
    share, multiple = node["value"] / node["multiple"], node["multiple"]
    ways: dict[str, Callable[[float], int]] = {"Floor": math.floor, "Ceiling": math.ceil, "Truncate": math.trunc}
    return {"value": ways.get(node["method"], round)(share) * multiple, "type": "integer_output"}


@value("string_join", "string_join_three")
def join_values(node: NodeFields) -> NodeFields:
    """Join texts."""
    parts = (node.get(f"string_{place}") or "" for place in ("left", "middle", "right"))
    return {"value": "".join(parts), "type": "string_output"}


@value("string_replace")
def replace_text(node: NodeFields) -> NodeFields:
    """Replace text; InvokeAI ignores case unless it is a regular expression."""
    pattern = node["search_string"] if node["use_regex"] else re.escape(node["search_string"])
    put = node["replace_string"] if node["use_regex"] else lambda _: node["replace_string"]
    try:
        value = re.sub(pattern, put, node["string"], flags=0 if node["use_regex"] else re.IGNORECASE)
    except re.error as error:
        raise NodeError("error", str(error)) from None
    return {"value": value if pattern else node["string"], "type": "string_output"}


@value("scheduler", "model_identifier")
def pass_choice(node: NodeFields) -> NodeFields:
    """Return the value that was chosen."""
    name = "scheduler" if node["type"] == "scheduler" else "model"
    return {name: node[name], "type": f"{node['type']}_output"}


@value("seamless", "freeu")
def adjust_model(node: NodeFields) -> NodeFields:
    """Return a model's parts unchanged: the painter ignores these settings."""
    parts: NodeFields = {name: node[name] for name in ("unet", "vae") if name in node}
    return {**parts, "type": "seamless_output" if node["type"] == "seamless" else "unet_output"}


@value("random_range")
def random_numbers(node: NodeFields) -> NodeFields:
    """Draw whole numbers, the same for the same seed."""
    draw = random.Random(node["seed"])
    low, high = sorted((node["low"], node["high"]))
    numbers = [draw.randrange(low, max(high, low + 1)) for _ in range(node["size"])]
    return {"collection": numbers, "type": "integer_collection_output"}


@value("range")
def number_range(node: NodeFields) -> NodeFields:
    """List whole numbers from start up to stop."""
    numbers = list(range(node["start"], node["stop"], node["step"] or 1))
    return {"collection": numbers, "type": "integer_collection_output"}


@value("integer_collection", "float_collection", "string_collection", "image_collection")
def collection(node: NodeFields) -> NodeFields:
    """Return a list as it is."""
    return {"collection": node["collection"] or [], "type": f"{node['type']}_output"}


@value("iterate")
def iterate(node: NodeFields) -> NodeFields:
    """Return one item of a list."""
    items = node["collection"]
    output = {"item": items[node["index"]], "index": node["index"], "total": len(items)}
    return {**output, "type": "iterate_output"}


@value("collect")
def collect(node: NodeFields) -> NodeFields:
    """Return the list of values that edges brought."""
    return {"collection": node["collection"], "type": "collect_output"}


@value("core_metadata")
def core_metadata(node: NodeFields) -> NodeFields:
    """Return all it is given, extra keys too."""
    hidden = {"id", "type", "is_intermediate", "use_cache"}
    kept = {name: value for name, value in node.items() if name not in hidden and value is not None}
    return {"metadata": {**kept, "app_version": "6.14.2"}, "type": "metadata_output"}


@value("metadata_item")
def metadata_item(node: NodeFields) -> NodeFields:
    """Make one label and value."""
    label = node["label"]
    return {"item": {"label": label, "value": node["value"]}, "type": "metadata_item_output"}


@value("metadata")
def metadata(node: NodeFields) -> NodeFields:
    """Put labels and values together."""
    items = node["items"] if isinstance(node["items"], list) else [node["items"]]
    return {"metadata": {item["label"]: item["value"] for item in items}, "type": "metadata_output"}


@value("merge_metadata")
def merge_metadata(node: NodeFields) -> NodeFields:
    """Merge metadata, later ones first."""
    merged: NodeFields = {}
    for entry in node["collection"] or []:
        merged |= entry
    return {"metadata": merged, "type": "metadata_output"}


@value("lora_selector")
def select_lora(node: NodeFields) -> NodeFields:
    """Return a LoRA and its weight, to be collected."""
    return {"lora": {"lora": node["lora"], "weight": node["weight"]}, "type": "lora_selector_output"}


@value("clip_skip")
def skip_layers(node: NodeFields) -> NodeFields:
    """Fewer layers of the text encoder."""
    clip = node["clip"]
    skipped = clip["skipped_layers"] + node["skipped_layers"]
    return {"clip": {**clip, "skipped_layers": skipped}, "type": "clip_skip_output"}


_THINGS = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The value behind a conditioning name."""

    text: str
    clip_skip: int = 0
    loras: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseValue:
    """The value behind a noise name."""

    seed: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Latents:
    """The value behind a latents name: an image, by name and digest, or a painting over other latents or nothing."""

    width: int
    height: int
    image: str | None = None  # the image's name
    digest: str | None = None
    painting: Painting | None = None
    below: Latents | None = None
    controls: tuple[str, ...] = ()  # names of the control images

    @property
    def content(self) -> str | None:
        """Hash the image it shows."""
        return self.painting.digest() if self.painting else self.digest


class NodeImageFacts(Protocol):
    """The access to images that cheap nodes have."""

    def size(self, name: str) -> tuple[int, int]:
        """Width and height in pixels. Raises NodeError where there is no such image."""
        ...

    def digest(self, name: str) -> str:
        """Hash an image's content. Raises NodeError."""
        ...


@dataclass(slots=True, kw_only=True)
class ImageAccess:
    """The models, the images, and the values behind names that nodes made earlier."""

    models: Mapping[str, ModelRecord]
    images: NodeImageFacts
    things: OrderedDict[str, Any] = field(default_factory=OrderedDict)

    def put(self, prefix: str, thing: Any) -> str:
        """Keep a thing under a new name. Those not used for longest are forgotten when there are more than a node cache
        refers to.
        """
        name = f"{prefix}_{uuid.uuid4()}"
        self.things[name] = thing
        if len(self.things) > _THINGS:
            self.things.popitem(last=False)
        return name

    def get(self, name: str) -> Any:
        """Return the thing of that name."""
        self.things.move_to_end(name)
        return self.things[name]

    def model(self, reference: Mapping[str, Any] | None, node: str) -> ModelRecord:
        """Get the record of a model. Raises NodeError as InvokeAI does."""
        key = (reference or {}).get("key", "")
        if key not in self.models:
            if node == "flux_model_loader":
                raise NodeError("ValueError", f"Unknown model: {key}")
            raise NodeError("Exception", f"Unknown model {key}")
        return self.models[key]


NodeBehaviour = Callable[[NodeFields, ImageAccess], NodeFields]
NODES: dict[str, NodeBehaviour] = {}


def node(*kinds: str) -> Callable[[NodeBehaviour], NodeBehaviour]:
    """Register a function as the behaviour of these node types."""

    def register(run: NodeBehaviour) -> NodeBehaviour:
        NODES.update(dict.fromkeys(kinds, run))
        return run

    return register


@node("main_model_loader", "sdxl_model_loader", "sdxl_refiner_model_loader")
def load_model(node: NodeFields, desk: ImageAccess) -> NodeFields:
    """Return a model's parts."""
    record = desk.model(node["model"], node["type"])

    def part(name: str) -> NodeFields:
        return identifier(record, name)

    vae = {"vae": part("vae"), "seamless_axes": []}
    weights = {"unet": part("unet"), "scheduler": part("scheduler")}
    unet: NodeFields = {**weights, "loras": [], "seamless_axes": [], "freeu_config": None}
    clips = [
        {"tokenizer": part(f"tokenizer{n}"), "text_encoder": part(f"text_encoder{n}"), "skipped_layers": 0, "loras": []}
        for n in ("", "_2")
    ]
    if node["type"] == "main_model_loader":
        return {"vae": vae, "type": "model_loader_output", "clip": clips[0], "unet": unet}
    if node["type"] == "sdxl_refiner_model_loader":
        return {"unet": unet, "clip2": clips[1], "vae": vae, "type": "sdxl_refiner_model_loader_output"}
    return {"unet": unet, "clip": clips[0], "clip2": clips[1], "vae": vae, "type": "sdxl_model_loader_output"}


@node("flux_model_loader")
def load_flux(node: NodeFields, desk: ImageAccess) -> NodeFields:
    """Return a FLUX model's parts, each a model of its own."""
    main = desk.model(node["model"], node["type"])
    t5 = desk.model(node["t5_encoder_model"], node["type"])
    clip = desk.model(node["clip_embed_model"], node["type"])
    vae = desk.model(node["vae_model"] or node["model"], node["type"])
    encoder = {"tokenizer": identifier(t5, "tokenizer_2"), "text_encoder": identifier(t5, "text_encoder_2")}
    clips = {"tokenizer": identifier(clip, "tokenizer"), "text_encoder": identifier(clip, "text_encoder")}
    return {
        "transformer": {"transformer": identifier(main, "transformer"), "loras": []},
        "clip": {**clips, "loras": [], "skipped_layers": 0},
        "t5_encoder": {**encoder, "loras": []},
        "vae": {"vae": identifier(vae, "vae"), "seamless_axes": []},
        "max_seq_len": 256 if main.get("variant") == "schnell" else 512,
        "type": "flux_model_loader_output",
    }


@node("vae_loader")
def load_vae(node: NodeFields, desk: ImageAccess) -> NodeFields:
    """Return a VAE loaded on its own."""
    record = desk.model(node["vae_model"], node["type"])
    return {"vae": {"vae": identifier(record), "seamless_axes": []}, "type": "vae_output"}


@node("lora_loader", "sdxl_lora_loader", "flux_lora_loader")
def load_lora(node: NodeFields, desk: ImageAccess) -> NodeFields:
    """Put one LoRA on everything that comes along."""
    return _with_loras(node, [{"lora": node["lora"], "weight": node["weight"]}], desk)


@node("lora_collection_loader", "sdxl_lora_collection_loader", "flux_lora_collection_loader")
def load_loras(node: NodeFields, desk: ImageAccess) -> NodeFields:
    """Apply several LoRAs to all parts of a model."""
    wanted = node["loras"] or []
    return _with_loras(node, wanted if isinstance(wanted, list) else [wanted], desk)


def _with_loras(node: NodeFields, wanted: list[NodeFields], desk: ImageAccess) -> NodeFields:
    added = []
    for entry in wanted:
        record = desk.models.get((entry["lora"] or {}).get("key", ""))
        if record is None:
            raise NodeError("Exception", f"Unknown lora: {(entry['lora'] or {}).get('key')}!")
        added.append({**identifier(record), "weight": entry["weight"]})
    parts = ("unet", "clip", "clip2", "transformer", "t5_encoder")
    output = {
        part: {**node[part], "loras": [*node[part].get("loras", []), *added]} if node.get(part) else None
        for part in parts
        if part in node
    }
    return {**output, "type": f"{node['type']}_output"}


@node("compel", "sdxl_compel_prompt", "sdxl_refiner_compel_prompt", "flux_text_encoder")
def encode_prompt(node: NodeFields, desk: ImageAccess) -> NodeFields:
    """Encode a prompt, with the encoder's settings that change its meaning."""
    clip = node.get("clip") or node.get("clip2") or {}
    words = [node.get("prompt") or "", node.get("style") or ""]
    text = ", ".join(dict.fromkeys(part for part in words if part))
    loras = tuple((lora["name"], lora["weight"]) for lora in clip.get("loras", []))
    prompt = Prompt(text=text, clip_skip=clip.get("skipped_layers", 0), loras=loras)
    name = desk.put("ConditioningFieldData", prompt)
    return {"conditioning": {"conditioning_name": name, "mask": None}, "type": _CONDITIONINGS[node["type"]]}


_CONDITIONINGS = {
    "compel": "conditioning_output",
    "sdxl_compel_prompt": "conditioning_output",
    "sdxl_refiner_compel_prompt": "conditioning_output",
    "flux_text_encoder": "flux_conditioning_output",
}


@node("noise")
def make_noise(node: NodeFields, desk: ImageAccess) -> NodeFields:
    """Noise of a size and a seed."""
    thing = NoiseValue(seed=node["seed"] % 2**32, width=node["width"], height=node["height"])
    noise = {"latents_name": desk.put("Tensor", thing), "seed": node["seed"]}
    return {"noise": noise, "width": thing.width, "height": thing.height, "type": "noise_output"}


@node("i2l", "flux_vae_encode")
def encode_image(node: NodeFields, desk: ImageAccess) -> NodeFields:
    """Encode an image as latents: its size is floored to a multiple of 8."""
    name = node["image"]["image_name"]
    width, height = desk.images.size(name)
    latents = Latents(width=width // 8 * 8, height=height // 8 * 8, image=name, digest=desk.images.digest(name))
    return _latents(latents, desk)


def _latents(latents: Latents, desk: ImageAccess) -> NodeFields:
    named = {"latents_name": desk.put("Tensor", latents), "seed": None}
    return {"latents": named, "width": latents.width, "height": latents.height, "type": "latents_output"}


@node("controlnet", "flux_controlnet")
def make_control(node: NodeFields, desk: ImageAccess) -> NodeFields:
    """Return a ControlNet with its image and weight."""
    desk.images.size(node["image"]["image_name"])
    names = ("image", "control_model", "control_weight", "begin_step_percent", "end_step_percent", "resize_mode")
    control = {name: node[name] for name in names}
    if "control_mode" in node:
        control["control_mode"] = node["control_mode"]
    kind = "control_output" if node["type"] == "controlnet" else "flux_controlnet_output"
    return {"control": control, "type": kind}


@node("denoise_latents")
def denoise(node: NodeFields, desk: ImageAccess) -> NodeFields:
    """Describe a painting, which is painted only where latents are decoded."""
    noise: NoiseValue | None = desk.get(node["noise"]["latents_name"]) if node["noise"] else None
    start: Latents | None = desk.get(node["latents"]["latents_name"]) if node["latents"] else None
    if noise is None and start is None:
        raise NodeError("ValueError", "'latents' or 'noise' must be provided!")
    if noise and start and (noise.width, noise.height) != (start.width, start.height):
        shapes = [f"torch.Size([1, 4, {it.height // 8}, {it.width // 8}])" for it in (noise, start)]
        raise NodeError(
            "Exception", f"Incompatible 'noise' and 'latents' shapes: noise={shapes[0]} latents={shapes[1]}"
        )
    unet = node["unet"]["unet"]
    positive, negative = (_prompt(node[f"{side}_conditioning"], desk) for side in ("positive", "negative"))
    size = start or noise
    assert size is not None
    scale = node["cfg_scale"]
    painting = Painting(
        width=size.width,
        height=size.height,
        seed=noise.seed if noise else 0,
        prompt=positive.text,
        negative=negative.text,
        model=desk.model(unet, node["type"])["name"],
        steps=node["steps"],
        cfg_scale=float(scale[0] if isinstance(scale, list) else scale),
        scheduler=node["scheduler"],
        strength=max(0.0, node["denoising_end"] - node["denoising_start"]) if start else 1.0,
        loras=tuple((lora["name"], lora["weight"]) for lora in node["unet"].get("loras", [])),
        clip_skip=positive.clip_skip,
        source=start.content if start else None,
    )
    return _latents(_over(start, _add_controls(painting, node["control"], desk), node["control"]), desk)


@node("flux_denoise")
def denoise_flux(node: NodeFields, desk: ImageAccess) -> NodeFields:
    """Denoise as `denoise` does, where the size and seed are the node's own and strength grows with the fifth power."""
    start: Latents | None = desk.get(node["latents"]["latents_name"]) if node["latents"] else None
    width, height = (start.width, start.height) if start else (node["width"], node["height"])
    painting = Painting(
        width=width,
        height=height,
        seed=node["seed"] % 2**32,
        prompt=_prompt(node["positive_text_conditioning"], desk).text,
        negative=_prompt(node["negative_text_conditioning"], desk).text,
        model=desk.model(node["transformer"]["transformer"], node["type"])["name"],
        steps=node["num_steps"],
        cfg_scale=float(node["guidance"]),
        scheduler=str(node.get("scheduler") or "euler"),
        strength=max(0.0, node["denoising_end"] - node["denoising_start"]) ** 5 if start else 1.0,
        loras=tuple((lora["name"], lora["weight"]) for lora in node["transformer"].get("loras", [])),
        source=start.content if start else None,
    )
    return _latents(_over(start, _add_controls(painting, node["control"], desk), node["control"]), desk)


def _prompt(conditioning: Any, desk: ImageAccess) -> Prompt:
    several = conditioning if isinstance(conditioning, list) else [conditioning] if conditioning else []
    prompts = [desk.get(entry["conditioning_name"]) for entry in several]
    return replace(prompts[0], text=", ".join(prompt.text for prompt in prompts)) if prompts else Prompt(text="")


def _add_controls(painting: Painting, controls: Any, desk: ImageAccess) -> Painting:
    several = controls if isinstance(controls, list) else [controls] if controls else []
    found = []
    for control in several:
        record = desk.model(control["control_model"], "controlnet")
        weight = control["control_weight"]
        found.append(
            Control(
                model=record["name"],
                image=desk.images.digest(control["image"]["image_name"]),
                weight=float(weight[0] if isinstance(weight, list) else weight),
                begin=control["begin_step_percent"],
                end=control["end_step_percent"],
            )
        )
    return replace(painting, controls=tuple(found))


def _over(start: Latents | None, painting: Painting, controls: Any) -> Latents:
    several = controls if isinstance(controls, list) else [controls] if controls else []
    names = tuple(control["image"]["image_name"] for control in several)
    return Latents(width=painting.width, height=painting.height, painting=painting, below=start, controls=names)


@node("image")
def pass_image(node: NodeFields, desk: ImageAccess) -> NodeFields:
    """Return an image that exists already."""
    width, height = desk.images.size(node["image"]["image_name"])
    return {"image": node["image"], "width": width, "height": height, "type": "image_output"}
