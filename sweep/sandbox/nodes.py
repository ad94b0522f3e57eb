"""Nodes: how each type computes its output, be it a value, a prompt, latents or an image.

Nodes that InvokeAI runs on a GPU exchange names and digests only. An image is painted where latents are decoded.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sweep.sandbox.image_library import ImageLibrary, ImageRecord, PixelArray, encode
from sweep.sandbox.item_queue import QueueItem
from sweep.sandbox.model_catalogue import identifier
from sweep.sandbox.painter.painting import Control, Painting, paint
from sweep.sandbox.sandbox_options import FaultDice
from sweep.workflow import Model, NodeSchemas

NodeFields = dict[str, Any]
STEP_FIELDS = {"denoise_latents": "steps", "flux_denoise": "num_steps"}  # of the nodes that denoise
_CACHED = 512  # outputs of nodes that a sandbox keeps
_MOST_KEPT = 50_000  # values behind names: more than the cached outputs refer to


class NodeError(Exception):
    """The failure of a node; `kind` is the exception class that InvokeAI would name."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Prompt(NamedTuple):
    """An encoded prompt, stored under a conditioning name."""

    text: str
    clip_skip: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Latents:
    """Latents, stored under a latents name: noise, an encoded image, or a painting, perhaps over other latents."""

    width: int
    height: int
    seed: int = 0  # of noise
    image: str | None = None  # the image's name
    digest: str | None = None
    painting: Painting | None = None
    below: Latents | None = None
    controls: tuple[str, ...] = ()  # names of the control images

    @property
    def content(self) -> str | None:
        """Hash the image it shows."""
        return self.painting.digest() if self.painting else self.digest


class RecentlyUsed(OrderedDict[str, Any]):
    """A dictionary that forgets the entry not used for longest when it has more than `most`."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        self.move_to_end(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        if len(self) > self._most:
            del self[next(iter(self))]


@dataclass(slots=True, kw_only=True)
class NodeContext:
    """The models and images that nodes use, and the prompts and latents that earlier nodes stored under a name."""

    schemas: NodeSchemas
    models: Mapping[str, Model]
    images: ImageLibrary
    dice: FaultDice
    threads: Executor | None = None  # that paint
    outputs: RecentlyUsed = field(default_factory=lambda: RecentlyUsed(_CACHED))  # by the nodes' inputs
    values: RecentlyUsed = field(default_factory=lambda: RecentlyUsed(_MOST_KEPT))

    def put(self, prefix: str, value: Any) -> str:
        """Keep a value under a new name."""
        name = f"{prefix}_{uuid.uuid4()}"
        self.values[name] = value
        return name

    def put_latents(self, latents: Latents, seed: int | None = None) -> NodeFields:
        """Keep latents and return the reference to them; that of noise names its seed."""
        return {"latents_name": self.put("Tensor", latents), "seed": seed}

    def get_latents(self, reference: NodeFields | None) -> Latents | None:
        """Return the latents that a node's input refers to; None without a reference."""
        return self.values[reference["latents_name"]] if reference else None

    def model(self, reference: Mapping[str, Any]) -> Model:
        """Get a model. Raises NodeError as InvokeAI does."""
        if reference["key"] not in self.models:
            raise NodeError("Exception", f"Unknown model {reference['key']}")
        return self.models[reference["key"]]

    def check_inputs(self, node: NodeFields) -> None:
        """Check that the node has the inputs that it needs. Raises NodeError as InvokeAI does."""
        kind = node["type"]
        for name, needed in self.schemas[kind].fields.items():
            if needed.required and node[name] is None:
                if needed.takes_value:
                    raise NodeError(
                        "MissingInputException", f"Node {kind} missing value or connection for field {name}"
                    )
                raise NodeError("RequiredConnectionException", f"Node {kind} missing connections for field {name}")

    def image(self, node: NodeFields) -> ImageRecord:
        """Get the record of a node's input image. Raises RefusedError."""
        return self.images.get_record(node["image"]["image_name"])


def _draw_integers(node: NodeFields, draw: random.Random, count: int) -> list[int]:
    low, high = sorted((node["low"], node["high"]))
    return [draw.randrange(low, max(high, low + 1)) for _ in range(count)]


def _iterate(node: NodeFields, _: NodeContext) -> NodeFields:
    items = node["collection"]
    return {"item": items[node["index"]], "index": node["index"], "total": len(items)}


def _keep_metadata(node: NodeFields, _: NodeContext) -> NodeFields:
    """Return all inputs as metadata, also those that the schema does not name."""
    hidden = {"id", "type", "is_intermediate", "use_cache"}
    kept = {name: value for name, value in node.items() if name not in hidden and value is not None}
    return {"metadata": {**kept, "app_version": "6.14.2"}}


def _skip_layers(node: NodeFields, _: NodeContext) -> NodeFields:
    clip = node["clip"]
    return {"clip": {**clip, "skipped_layers": clip["skipped_layers"] + node["skipped_layers"]}}


_MODEL_PARTS = {
    "main_model_loader": ("unet", "clip", "vae"),
    "sdxl_model_loader": ("unet", "clip", "clip2", "vae"),
    "sdxl_refiner_model_loader": ("unet", "clip2", "vae"),
    "flux_model_loader": ("transformer", "clip", "t5_encoder", "vae"),
}


def _load_model(node: NodeFields, context: NodeContext) -> NodeFields:
    """Return the parts of a model. Each names it, and lists the LoRAs and counts the layers that later nodes change."""
    if node["type"] == "flux_model_loader":  # it has its parts apart
        for name in ("model", "t5_encoder_model", "clip_embed_model", "vae_model"):
            if node[name] and node[name]["key"] not in context.models:
                raise NodeError("ValueError", f"Unknown model: {node[name]['key']}")
    part = {"model": identifier(context.model(node["model"])), "loras": [], "skipped_layers": 0}
    return {**dict.fromkeys(_MODEL_PARTS[node["type"]], part), "max_seq_len": 512}


def _load_vae(node: NodeFields, context: NodeContext) -> NodeFields:
    return {"vae": {"model": identifier(context.model(node["vae_model"]))}}


def _load_loras(node: NodeFields, context: NodeContext) -> NodeFields:
    """Add one LoRA or several to all parts of a model among the inputs."""
    asked = _as_list(node.get("loras", node))
    added = [{**identifier(context.model(entry["lora"])), "weight": entry["weight"]} for entry in asked]
    return {
        part: {**node[part], "loras": [*node[part]["loras"], *added]} if node[part] else None
        for part in ("unet", "clip", "clip2", "transformer", "t5_encoder")
        if part in node
    }


def _as_list(value: Any) -> list[Any]:
    """Return the value of a field that takes one or a list as a list."""
    return value if isinstance(value, list) else [value] if value else []


def _encode_prompt(node: NodeFields, context: NodeContext) -> NodeFields:
    clip = node.get("clip") or node.get("clip2") or {}
    words = [node.get("prompt") or "", node.get("style") or ""]
    text = ", ".join(dict.fromkeys(part for part in words if part))
    prompt = Prompt(text, clip.get("skipped_layers", 0))
    return {"conditioning": {"conditioning_name": context.put("ConditioningFieldData", prompt)}}


def _make_noise(node: NodeFields, context: NodeContext) -> NodeFields:
    noise = Latents(seed=node["seed"] % 2**32, width=node["width"], height=node["height"])
    return {"noise": context.put_latents(noise, noise.seed), "width": noise.width, "height": noise.height}


def _encode_image(node: NodeFields, context: NodeContext) -> NodeFields:
    """Encode an image as latents: its size is floored to a multiple of 8."""
    record = context.image(node)
    width, height = record["width"] // 8 * 8, record["height"] // 8 * 8
    latents = Latents(width=width, height=height, image=record["image_name"], digest=record["digest"])
    return {"latents": context.put_latents(latents), "width": width, "height": height}


def _make_control(node: NodeFields, context: NodeContext) -> NodeFields:
    context.image(node)
    names = ("image", "control_model", "control_weight", "begin_step_percent", "end_step_percent", "resize_mode")
    return {"control": {name: node[name] for name in (*names, "control_mode") if name in node}}


def _denoise(node: NodeFields, context: NodeContext) -> NodeFields:
    """Describe a painting, over the latents that it starts from; it is painted only where latents are decoded."""
    start = context.get_latents(node["latents"])
    strength = max(0.0, node["denoising_end"] - node["denoising_start"])
    if node["type"] == "flux_denoise":  # which has size and seed itself; its strength grows with the fifth power
        part, kind, guidance, strength = "transformer", "text_conditioning", node["guidance"], strength**5
        size = start or Latents(width=node["width"], height=node["height"])
        seed = node["seed"] % 2**32
    else:
        part, kind, guidance = "unet", "conditioning", node["cfg_scale"]
        size, seed = _measure_noise(context.get_latents(node["noise"]), start)
    positive, negative = (_read_prompt(node[f"{side}_{kind}"], context) for side in ("positive", "negative"))
    used = _as_list(node["control"])
    painting = Painting(
        width=size.width,
        height=size.height,
        seed=seed,
        prompt=positive.text,
        negative=negative.text,
        model=context.model(node[part]["model"]).name,
        steps=node[STEP_FIELDS[node["type"]]],
        cfg_scale=_first_number(guidance),
        scheduler=node.get("scheduler") or "euler",
        strength=strength if start else 1.0,
        loras=tuple((lora["name"], lora["weight"]) for lora in node[part]["loras"]),
        controls=tuple(_read_control(control, context) for control in used),
        clip_skip=positive.clip_skip,
        source=start.content if start else None,
    )
    names = tuple(control["image"]["image_name"] for control in used)
    latents = replace(size, painting=painting, below=start, controls=names)
    return {"latents": context.put_latents(latents), "width": size.width, "height": size.height}


def _measure_noise(noise: Latents | None, start: Latents | None) -> tuple[Latents, int]:
    """Return latents of the size to paint, and the seed. Raises NodeError as InvokeAI does."""
    size = start or noise
    if size is None:
        raise NodeError("ValueError", "'latents' or 'noise' must be provided!")
    if noise and start and (noise.width, noise.height) != (start.width, start.height):
        shapes = (f"torch.Size([1, 4, {it.height // 8}, {it.width // 8}])" for it in (noise, start))
        message = "Incompatible 'noise' and 'latents' shapes: noise={} latents={}".format(*shapes)
        raise NodeError("Exception", message)
    return size, noise.seed if noise else 0


def _read_control(control: NodeFields, context: NodeContext) -> Control:
    return Control(
        model=context.model(control["control_model"]).name,
        image=context.image(control)["digest"],
        weight=_first_number(control["control_weight"]),
        begin=control["begin_step_percent"],
        end=control["end_step_percent"],
    )


def _read_prompt(conditioning: Any, context: NodeContext) -> Prompt:
    prompts = [context.values[entry["conditioning_name"]] for entry in _as_list(conditioning)]
    return prompts[0]._replace(text=", ".join(prompt.text for prompt in prompts)) if prompts else Prompt("", 0)


def _first_number(value: Any) -> float:
    """Return a number, or the first of those given for each step."""
    return float(value[0] if isinstance(value, list) else value)


def _pass_inputs(node: NodeFields, context: NodeContext) -> NodeFields:
    return {name: node[name] for name in context.schemas[node["type"]].outputs}


def _pass_image(node: NodeFields, context: NodeContext) -> NodeFields:
    record = context.image(node)
    return {"image": node["image"], "width": record["width"], "height": record["height"]}


_PASSING = frozenset({"integer", "float", "string", "boolean", "scheduler", "model_identifier", "seamless", "freeu"})
_PASSING |= {f"{kind}_collection" for kind in ("integer", "float", "string", "image")}
_FUNCTIONS: dict[str, Callable[[NodeFields, NodeContext], NodeFields]] = {
    **dict.fromkeys((*_PASSING, "collect"), _pass_inputs),
    "rand_int": lambda node, _: {"value": _draw_integers(node, random.Random(), 1)[0]},
    "random_range": lambda node, _: {"collection": _draw_integers(node, random.Random(node["seed"]), node["size"])},
    "add": lambda node, _: {"value": node["a"] + node["b"]},
    "sub": lambda node, _: {"value": node["a"] - node["b"]},
    "mul": lambda node, _: {"value": node["a"] * node["b"]},
    "div": lambda node, _: {"value": int(node["a"] / node["b"])},
    "range": lambda node, _: {"collection": list(range(node["start"], node["stop"], node["step"] or 1))},
    "iterate": _iterate,
    "core_metadata": _keep_metadata,
    "lora_selector": lambda node, _: {"lora": {name: node[name] for name in ("lora", "weight")}},
    "clip_skip": _skip_layers,
    **dict.fromkeys(_MODEL_PARTS, _load_model),
    "vae_loader": _load_vae,
    **dict.fromkeys(
        (f"{base}lora{kind}_loader" for base in ("", "sdxl_", "flux_") for kind in ("", "_collection")), _load_loras
    ),
    **dict.fromkeys(
        ("compel", "sdxl_compel_prompt", "sdxl_refiner_compel_prompt", "flux_text_encoder"), _encode_prompt
    ),
    "noise": _make_noise,
    **dict.fromkeys(("i2l", "flux_vae_encode"), _encode_image),
    **dict.fromkeys(("controlnet", "flux_controlnet"), _make_control),
    **dict.fromkeys(STEP_FIELDS, _denoise),
    "image": _pass_image,
}


def compute_output(node: NodeFields, context: NodeContext) -> NodeFields:
    """Return the output of a node that makes no image; fails with whatever its computation raises."""
    output_class = context.schemas[node["type"]].output_class
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", output_class).lower()  # IntegerOutput → integer_output
    return {**_FUNCTIONS[node["type"]](node, context), "type": kind}


_HOSTILE = (  # names that a client must not make a path of; {} is the image's own
    "../../../../tmp/{}",
    "/etc/{}",
    "C:\\Windows\\{}",
    "CON.{}",
    "a\0b{}",
    "x" * 300 + "{}",
    "<img src=x onerror=alert(1)>{}",
)
DECODERS = frozenset({"l2i", "flux_vae_decode"})


async def _make_image(node: NodeFields, context: NodeContext, item: QueueItem, graph: str) -> NodeFields:
    """Make and store the image of a node of `IMAGE_NODES`. Raises NodeError and RefusedError."""
    images, metadata = context.images, node.get("metadata")
    latents: Latents | None = None
    rendered, bad, content = None, None, None
    if node["type"] in DECODERS:
        latents = context.get_latents(node["latents"])
        assert latents is not None
        rendered = str((metadata or {}).get("sweep_key") or latents.content)
        bad = context.dice.choose_bad_image()
    if not (images.plain and rendered):
        run = asyncio.get_running_loop().run_in_executor
        content = await run(context.threads, _draw, node, latents, images)
    record = await images.keep(
        content,
        rendered=rendered,
        is_intermediate=node["is_intermediate"],
        board_id=(node.get("board") or {}).get("board_id"),
        session_id=item.session_id,
        node_id=node["id"],
        metadata=json.dumps(metadata) if metadata else None,
        graph=graph,
        bad=bad,
        **({"digest": latents.content} if latents else {}),
    )
    name = record["image_name"]
    if bad == "hostile-name":
        name = _HOSTILE[(context.dice.committed["bad_image"] - 1) % len(_HOSTILE)].format(name)
        images.aliases[name] = record["image_name"]
    size = {"width": record["width"], "height": record["height"]}
    return {"image": {"image_name": name}, **size, "type": "image_output"}


def _draw(node: NodeFields, latents: Latents | None, images: ImageLibrary) -> bytes:
    if latents is not None:
        return encode(Image.fromarray(_decode(latents, images)))
    if node["type"] == "blank_image":
        color = tuple(node["color"][name] for name in "rgba")
        return encode(Image.new(node["mode"], (node["width"], node["height"]), color))
    return encode(_EDITS[node["type"]](node, Image.fromarray(images.decode(node["image"]["image_name"]))))


def _decode(latents: Latents, images: ImageLibrary) -> PixelArray:
    size = (latents.width, latents.height)
    if latents.painting is None:
        if latents.image is None:
            raise ValueError("These latents hold no image.")
        return _fit(images.decode(latents.image), size)
    source = _decode(latents.below, images) if latents.below else None
    controls = [_fit(images.decode(name), size) for name in latents.controls]
    return paint(latents.painting, source, controls)


def _fit(pixels: PixelArray, size: tuple[int, int]) -> PixelArray:
    return np.asarray(_resize(Image.fromarray(pixels), size))


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _lerp(node: NodeFields, image: Image.Image) -> Image.Image:
    low, high = node["min"], node["max"]
    return Image.fromarray((low + np.asarray(image) / 255 * (high - low)).astype(np.uint8))


def _find_edges(node: NodeFields, image: Image.Image) -> Image.Image:
    steep = np.hypot(*np.gradient(np.asarray(image).mean(2)))
    return Image.fromarray(steep > node.get("low_threshold", 100) / 8).convert("RGB")


_EDITS: dict[str, Callable[[NodeFields, Image.Image], Image.Image]] = {  # of an input image, by the node's type
    "img_resize": lambda node, image: _resize(image, (node["width"], node["height"])),
    "save_image": lambda _, image: image,
    "canvas_output": lambda _, image: image,
    "img_lerp": _lerp,
    "canny_edge_detection": _find_edges,
}
IMAGE_NODES = frozenset({"blank_image", *DECODERS, *_EDITS})


async def run_node(node: NodeFields, context: NodeContext, item: QueueItem, graph: str) -> NodeFields:
    """Return a node's output; fails with whatever the node raises, and with NodeError for an unknown type."""
    kind = node["type"]
    if kind in _FUNCTIONS:
        return compute_output(node, context)
    if kind in IMAGE_NODES:
        return await _make_image(node, context, item, graph)
    message = f"The sandbox paints without a {kind} node: run this workflow on a real InvokeAI."
    raise NodeError("SandboxUnsupportedNode", message)
