"""Nodes that make images: painted and encoded in a thread, stored with their texts, counted as renders."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sweep.sandbox import images as png
from sweep.sandbox.images import ImageLibrary, UnknownImageError
from sweep.sandbox.nodes import ImageAccess, Latents, NodeError, NodeFields
from sweep.sandbox.options import BadImage, FaultDice
from sweep.sandbox.painter.paint import paint
from sweep.sandbox.queue import QueueItem

PixelArray = NDArray[np.uint8]
DECODERS = frozenset({"l2i", "flux_vae_decode"})


class Facts:
    """Sizes and digests of images, for the nodes."""

    def __init__(self, images: ImageLibrary) -> None:
        self._images = images

    def size(self, name: str) -> tuple[int, int]:
        """Width and height in pixels. Raises NodeError where there is no such image."""
        record = self._record(name)
        return record["width"], record["height"]

    def digest(self, name: str) -> str:
        """Hash an image's content. Raises NodeError."""
        return str(self._record(name)["digest"])

    def _record(self, name: str) -> dict[str, Any]:
        try:
            return self._images.record(name)
        except UnknownImageError:
            raise NodeError("ImageRecordNotFoundException", "Image record not found") from None


class Studio:
    """Makes the images of one sandbox. `renders` counts decoded latents by key."""

    def __init__(self, images: ImageLibrary, threads: Executor, dice: FaultDice, *, plain: bool) -> None:
        self.renders: Counter[str] = Counter()
        self._images = images
        self._threads = threads
        self._dice = dice
        self._plain = plain

    async def make(self, node: NodeFields, desk: ImageAccess, item: QueueItem, graph: str) -> NodeFields:
        """Run a node of `_IMAGES` or `DECODERS`. Raises NodeError."""
        metadata = node.get("metadata")
        digest, rendered = None, None
        if node["type"] in DECODERS:
            latents: Latents = desk.get(node["latents"]["latents_name"])
            digest = latents.content
            rendered = str((metadata or {}).get("sweep_key") or digest)
        bad = self._dice.bad_image() if rendered else None
        content = None
        if not (self._plain and rendered):
            run = asyncio.get_running_loop().run_in_executor
            content = await run(self._threads, _make, node, desk, self._images)
        record = await self._images.keep(
            content,
            rendered=rendered,
            is_intermediate=node["is_intermediate"],
            board_id=(node.get("board") or {}).get("board_id"),
            session_id=item.session_id,
            node_id=node["id"],
            metadata=json.dumps(metadata) if metadata else None,
            graph=graph,
            workflow=json.dumps(item.workflow) if item.workflow else None,
            bad=bad,
            **({"digest": digest} if digest else {}),
        )
        if rendered:
            self.renders[rendered] += 1
        name = record["image_name"]
        if bad == "hostile-name":
            name = _HOSTILE[(self._dice.committed["bad_image"] - 1) % len(_HOSTILE)].format(name)
            self._images.aliases[name] = record["image_name"]
        size = {"width": record["width"], "height": record["height"]}
        return {"image": {"image_name": name}, **size, "type": "image_output"}


_HOSTILE = (  # names a client must not make a path of; {} is the image's own
    "../../../../tmp/{}",
    "/etc/{}",
    "C:\\Windows\\{}",
    "CON.{}",
    "a\0b{}",
    "x" * 300 + "{}",
    "<img src=x onerror=alert(1)>{}",
)


def spoil_image(content: bytes, bad: BadImage | None) -> tuple[bytes, str]:
    """Spoil an image as `bad` says; its file and content type as served."""
    if bad == "truncated":
        return content[: len(content) * 2 // 3], "image/png"
    if bad == "html":
        return b"<!DOCTYPE html><html><body>Bad gateway</body></html>", "image/png"
    if bad == "bomb":
        return png.bomb(), "image/png"
    return content, "image/png"


def _make(node: NodeFields, desk: ImageAccess, images: ImageLibrary) -> bytes:
    try:
        if node["type"] in DECODERS:
            return png.encode(_pixels(desk.get(node["latents"]["latents_name"]), images))
        return png.encode(_IMAGES[node["type"]](node, images))
    except UnknownImageError:
        raise NodeError("ImageRecordNotFoundException", "Image record not found") from None


def _pixels(latents: Latents, images: ImageLibrary) -> PixelArray:
    size = (latents.width, latents.height)
    if latents.painting is None:
        if latents.image is None:
            raise NodeError("ValueError", "These latents hold no image.")
        return _fit(images.pixels(latents.image), size)
    source = _pixels(latents.below, images) if latents.below else None
    controls = [_fit(images.pixels(name), size) for name in latents.controls]
    return paint(latents.painting, source, controls)


def _fit(pixels: PixelArray, size: tuple[int, int]) -> PixelArray:
    if pixels.shape[1::-1] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _input(node: NodeFields, images: ImageLibrary) -> PixelArray:
    return images.pixels(node["image"]["image_name"])


def _blank(node: NodeFields, _images: ImageLibrary) -> PixelArray:
    color = node["color"]
    channels = [color["r"], color["g"], color["b"], color["a"]][: 4 if node["mode"] == "RGBA" else 3]
    return np.broadcast_to(np.array(channels, np.uint8), (node["height"], node["width"], len(channels))).copy()


def _resize(node: NodeFields, images: ImageLibrary) -> PixelArray:
    return _fit(_input(node, images), (node["width"], node["height"]))


def _scale(node: NodeFields, images: ImageLibrary) -> PixelArray:
    pixels = _input(node, images)
    height, width = (max(1, int(side * node["scale_factor"])) for side in pixels.shape[:2])
    return _fit(pixels, (width, height))


def _crop(node: NodeFields, images: ImageLibrary) -> PixelArray:
    x, y = node["x"], node["y"]
    cut = Image.fromarray(_input(node, images)).crop((x, y, x + node["width"], y + node["height"]))
    return np.asarray(cut)


def _blur(node: NodeFields, images: ImageLibrary) -> PixelArray:
    kind = ImageFilter.GaussianBlur if node["blur_type"] == "gaussian" else ImageFilter.BoxBlur
    return np.asarray(Image.fromarray(_input(node, images)).filter(kind(node["radius"])))


def _same(node: NodeFields, images: ImageLibrary) -> PixelArray:
    return _input(node, images)


def _lerp(node: NodeFields, images: ImageLibrary) -> PixelArray:
    low, high = node["min"], node["max"]
    lerped: PixelArray = (low + _input(node, images) / 255 * (high - low)).astype(np.uint8)
    return lerped


def _edges(node: NodeFields, images: ImageLibrary) -> PixelArray:
    grey = _input(node, images).mean(2)
    steep = np.hypot(*np.gradient(grey))
    return np.repeat(((steep > node.get("low_threshold", 100) / 8) * 255).astype(np.uint8)[..., None], 3, 2)


_IMAGES: dict[str, Callable[[NodeFields, ImageLibrary], PixelArray]] = {
    "blank_image": _blank,
    "img_resize": _resize,
    "img_scale": _scale,
    "img_crop": _crop,
    "img_blur": _blur,
    "save_image": _same,
    "canvas_output": _same,
    "img_lerp": _lerp,
    "canny_edge_detection": _edges,
}


@cache
def plain_image(side: int = 512) -> bytes:
    """Make a square image, of 512 pixels a side about 300 kB, for sandboxes that do not paint."""
    rng = np.random.default_rng(7)
    slope = np.linspace(40, 200, side)[:, None, None] + np.linspace(0, 30, side)[None, :, None]
    grain = rng.normal(0, 0.85, (side, side, 3))
    return png.encode(np.clip(slope + grain, 0, 255).astype(np.uint8))


def image_graph_key(nodes: dict[str, NodeFields]) -> str:
    """Hash a graph's nodes, whatever they are called on the server."""
    return hashlib.blake2b(json.dumps(nodes, sort_keys=True).encode(), digest_size=16).hexdigest()
