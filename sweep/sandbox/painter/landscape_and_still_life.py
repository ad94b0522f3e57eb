"""The two scenes, a landscape of hills before a lake and a still life of vessels and fruit, and the noise and blends in
them.

Images in the making are 3 × height × width, so that a plane times a colour runs along memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

PaintPlane = NDArray[np.float32]
PaintedImage = NDArray[np.uint8]
Rng = np.random.Generator
_SHAPES = json.loads((resources.files(__package__) / "still_life.json").read_text("utf-8"))
_VESSELS, _GLAZES, _FRUIT = (tuple(_SHAPES[kind].items()) for kind in ("vessels", "glazes", "fruit"))


class Palette(NamedTuple):
    """Five colours of a scene, as `colour` makes them."""

    zenith: PaintPlane
    horizon: PaintPlane
    light: PaintPlane
    far: PaintPlane
    near: PaintPlane


def colour(value: Sequence[float]) -> PaintPlane:
    """Convert sRGB from 0 to 1 to an array of 3 × 1 × 1."""
    return np.array(value, np.float32).reshape(3, 1, 1)


def smooth_paint(values: Any) -> Any:
    """Map 0 to 1 onto a smooth curve from 0 to 1; values outside are clipped."""
    t = np.clip(values, 0, 1)
    return t * t * (3 - 2 * t)


def mix(a: Any, b: Any, t: Any) -> Any:
    """Interpolate from `a` at t = 0 to `b` at t = 1."""
    return a + (b - a) * t


def resize(values: PaintPlane, height: int, width: int, how: Image.Resampling = Image.Resampling.BICUBIC) -> PaintPlane:
    """Resize a plane smoothly."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(values, np.float32)).resize((width, height), how))


def clouds(rng: Rng, height: int, width: int, rows: int, columns: int, octaves: int = 3) -> PaintPlane:
    """Make smooth noise around 0 of about unit spread; the coarsest octave has `rows` × `columns` cells."""
    total = np.zeros((1, 1), np.float32)
    for octave in range(octaves):
        cells = (min(height, rows * 2**octave + 2), min(width, columns * 2**octave + 2))
        total = resize(total, *cells) + rng.standard_normal(cells, np.float32) * np.float32(0.55**octave)
    return resize(total, height, width)


def grain(rng: Rng, height: int, width: int) -> PaintPlane:
    """Make white noise of unit spread; large planes repeat a tile, which nobody sees."""
    tile = rng.standard_normal((min(height, 160), min(width, 160)), np.float32)
    again = (-(-height // tile.shape[0]), -(-width // tile.shape[1]))
    return np.tile(tile, again)[:height, :width]


def line(rng: Rng, width: int, cells: int, octaves: int = 5, roughness: float = 0.5) -> PaintPlane:
    """Draw a ragged line from about −1 to 1, one value a column."""
    x = np.linspace(0, 1, width, dtype=np.float32)
    total = np.zeros(width, np.float32)
    for octave in range(octaves):
        count = cells * 2**octave + 2
        points = rng.uniform(-1, 1, count).astype(np.float32)
        place = x * (count - 1)
        left = np.minimum(place.astype(int), count - 2)
        total += mix(points[left], points[left + 1], smooth_paint(place - left)) * np.float32(roughness**octave)
    return total


@lru_cache(maxsize=8)
def grid(height: int, width: int) -> tuple[PaintPlane, PaintPlane]:
    """Return row and column of each pixel, from 0 to 1. Shared: do not write to them."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return y / np.float32(height), x / np.float32(width)


def to_pixels(values: PaintPlane) -> PaintedImage:
    """Return 3 × height × width floats from 0 to 1 as height × width × 3 bytes."""
    scaled = np.clip(values, 0, 1) * np.float32(255) + np.float32(0.5)
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(1, 2, 0))


def to_floats(pixels: PaintedImage) -> PaintPlane:
    """Return height × width × 3 bytes as 3 × height × width floats from 0 to 1."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) * np.float32(1 / 255)


def blur_paint(values: PaintPlane, radius: float) -> PaintPlane:
    """Blur an image by `radius` pixels; computed small, as blur needs no detail."""
    factor = max(1, int(radius / 2))
    image = Image.fromarray(to_pixels(values))
    height, width = values.shape[1:]
    small = image.reduce(factor) if factor > 1 else image
    soft = small.filter(ImageFilter.BoxBlur(max(1, round(radius / factor))))
    return to_floats(np.asarray(soft.resize((width, height), Image.Resampling.BICUBIC)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenePlan:
    """The places of sun, horizon and hills, drawn from the seed. Lengths are shares of the image's height."""

    sun: tuple[float, float]  # row, column
    sun_size: float
    horizon: float
    ridges: int
    peaked: float
    cover: float  # of the sky by clouds


def paint_landscape(rng: Rng, height: int, width: int, palette: Palette) -> PaintPlane:
    """Paint a landscape of `height` × `width`: ranges of hills under a sky, before a lake."""
    plan = ScenePlan(
        sun=(rng.uniform(0.16, 0.46), rng.uniform(0.15, 0.85)),
        sun_size=rng.uniform(0.022, 0.05),
        horizon=rng.uniform(0.56, 0.68),
        ridges=int(rng.integers(3, 6)),
        peaked=rng.uniform(0.15, 0.9),
        cover=rng.uniform(-0.5, 0.6),
    )
    out = _paint_sky(rng, height, width, palette, plan)
    for layer in range(plan.ridges):
        _paint_ridge(out, rng, palette, plan, (layer + 1) / plan.ridges)
    _paint_water(out, rng, palette, plan, min(0.86, plan.horizon + 0.13))
    return out


def _paint_sky(rng: Rng, height: int, width: int, palette: Palette, plan: ScenePlan) -> PaintPlane:
    y, x = grid(height, width)
    high, low, light = palette.zenith, palette.horizon, palette.light
    out = mix(high, low, smooth_paint(y / plan.horizon * 0.95) ** np.float32(0.85))
    ratio = width / height
    distance = np.hypot(y - plan.sun[0], (x - plan.sun[1]) * ratio)
    out = mix(out, light, (np.float32(0.75) * np.exp(-distance / 0.16)))
    out = mix(out, light, (np.float32(0.35) * np.exp(-distance / 0.5)))
    field = clouds(rng, height, width, 7, 3, 4) + 0.45 * clouds(rng, height, width, 16, 4, 2)
    veil = smooth_paint((field + plan.cover) * 0.55) * smooth_paint(1.1 - y / plan.horizon * 0.55)
    lit = mix(mix(high, low, np.float32(0.7)), light, 0.5 + 0.45 * np.exp(-distance / 0.35))
    shade = mix(np.float32(1), np.float32(0.93), smooth_paint(field * 0.7 - 0.4))
    out = mix(out, lit * shade, (0.75 * veil))
    disc = smooth_paint((plan.sun_size - distance) * height / 3 + 0.5) * (1 - 0.6 * veil)
    if high.mean() < 0.2:
        stars = smooth_paint(grain(rng, height, width) * 2.2 - 5.6) * (1 - veil) * smooth_paint(1.1 - y / plan.horizon)
        out = mix(out, light, 0.9 * stars)
    return np.asarray(mix(out, np.float32(0.25) * light + np.float32(0.75), disc), np.float32)


def _paint_ridge(out: PaintPlane, rng: Rng, palette: Palette, plan: ScenePlan, near: float) -> None:
    """Paint one range of hills over those behind it. `near` goes from 0 to 1."""
    height, width = out.shape[1:]
    crest = line(rng, width, 2 + int(3 * near), 7, 0.5)
    sharp = 1 - 2 * np.abs(line(rng, width, 3, 6, 0.55))
    shape = mix(crest, sharp, np.float32(plan.peaked * (1 - 0.7 * near)))
    base = plan.horizon - 0.05 + 0.20 * near**1.5
    top = base - (0.17 - 0.09 * near) * (0.45 + shape)
    y, x = grid(height, width)
    first = max(0, int(height * float(top.min())) - 2)
    rows = slice(first, height)
    depth = y[rows] - top
    mask = smooth_paint(depth * height / 1.6 + 0.5)
    texture = clouds(rng, height - first, width, max(2, int(10 + 20 * near)), max(2, int(12 + 20 * near)), 3)
    slope = np.gradient(top) * width / 7
    lit = np.sign(x[rows] - plan.sun[1]) * slope * (0.4 + 0.6 * smooth_paint(1 - depth * 6))
    tone = mix(palette.far, palette.near, np.float32(near**1.25))
    body = tone * (1 + 0.10 * np.clip(lit, -1.5, 1.5) + 0.085 * texture * (0.35 + near))
    glow = palette.light - tone
    body = body + glow * (0.10 * np.clip(lit, 0, 1.2) * (1 - 0.5 * near))
    haze = (1 - near) * smooth_paint(depth / 0.16) * 0.75
    body = mix(body, mix(palette.horizon, palette.far, np.float32(near)), haze)
    out[:, rows] = mix(out[:, rows], body, mask)


def _paint_water(out: PaintPlane, rng: Rng, palette: Palette, plan: ScenePlan, shore: float) -> None:
    """Paint the water: the part above the shore mirrored, rippled and darkened, with the light's path."""
    height, width = out.shape[1:]
    first = int(shore * height)
    count = height - first
    if count < 2:
        return
    _, x = grid(height, width)
    near = np.linspace(0, 1, count, dtype=np.float32)[:, None]
    waves = clouds(rng, count, width, max(2, count // 5), 3, 2) * (0.25 + near)
    source = np.clip(first - 1 - np.arange(count)[:, None] * 1.15 + waves * height * 0.012, 0, first - 1).astype(int)
    columns = np.broadcast_to(np.arange(width), (count, width))
    mirror = out[:, source, columns]
    deep = mix(palette.zenith, palette.near, np.float32(0.6))
    water = mix(mirror * np.float32(0.86), deep, (0.12 + 0.5 * near))
    path = np.exp(-(((x[first:] - plan.sun[1]) / (0.03 + 0.10 * near)) ** 2)) * smooth_paint(waves * 1.4 + 0.1)
    water = mix(water, palette.light, (0.55 * path * (1 - 0.5 * near)))
    edge = smooth_paint(near * 22)
    out[:, first:] = mix(mix(out[:, first - 1 : first], water, np.float32(0.65)), water, edge)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """An object of a still life, in shares of the image's height; `profile` is the half-width from top to foot."""

    middle: float
    foot: float
    tall: float
    profile: list[float]
    body: PaintPlane
    shine: float
    glaze: float  # where a second glaze begins, from the top; above 1 there is none


def paint_still_life(rng: Rng, height: int, width: int, palette: Palette, accent: float, white: float) -> PaintPlane:
    """Paint a still life of `height` × `width`; `accent` is the main object's hue, `white` the backdrop's whiteness."""
    edge = rng.uniform(0.60, 0.70)
    light = -1.0 if rng.random() < 0.6 else 1.0
    out = _paint_table(rng, height, width, palette, edge, light, white)
    for thing in _arrange_things(rng, width / height, edge, palette, accent):
        _paint_shadow(out, thing, light)
        _paint_thing(out, rng, thing, light, palette)
    return out


def _arrange_things(rng: Rng, ratio: float, edge: float, palette: Palette, accent: float) -> list[Thing]:
    """Arrange from back to front: a tall vessel, one or two more, and fruit."""
    first = int(accent * len(_GLAZES))
    second = (first + int(rng.integers(2, len(_GLAZES) - 1))) % len(_GLAZES)
    glazes = (colour(_GLAZES[first][1]), mix(palette.light, palette.horizon, 0.4), colour(_GLAZES[second][1]))
    centre = 0.5 * ratio + rng.uniform(-0.08, 0.08)
    things = []
    for place in range(int(rng.integers(2, 4))):
        name, shape = _VESSELS[int(rng.integers(len(_VESSELS)))]
        squat = name in ("bowl", "cup")
        tall = rng.uniform(0.15, 0.23) if squat else rng.uniform(0.32, 0.5) * (1 - 0.16 * place)
        offset = (0, -0.25, 0.26)[place] * rng.uniform(0.85, 1.15)
        wide = tall * (0.5 if squat else rng.uniform(0.34, 0.44))
        things.append(
            Thing(
                middle=centre + offset,
                foot=edge + 0.07 + 0.055 * place + rng.uniform(0, 0.03),
                tall=tall,
                profile=[share * wide for share in shape],
                body=glazes[place],
                shine=rng.uniform(0.25, 0.9),
                glaze=rng.uniform(0.2, 0.6) if rng.random() < 0.5 else 2.0,
            )
        )
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform(0.05, 0.075)
        things.append(
            Thing(
                middle=centre + rng.uniform(-0.36, 0.36),
                foot=edge + rng.uniform(0.16, 0.24),
                tall=2 * size,
                profile=[size * float(np.sqrt(max(0.0, 1 - t * t))) for t in np.linspace(-0.999, 0.97, 16)],
                body=colour(_FRUIT[int(rng.integers(len(_FRUIT)))][1]),
                shine=rng.uniform(0.3, 0.7),
                glaze=2.0,
            )
        )
    return sorted(things, key=lambda thing: thing.foot)


def _paint_table(
    rng: Rng, height: int, width: int, palette: Palette, edge: float, light: float, white: float
) -> PaintPlane:
    y, x = grid(height, width)
    wall = mix(palette.far, palette.horizon, np.float32(0.45))
    table = mix(palette.near, palette.horizon, np.float32(0.42))
    paper = colour((0.93, 0.93, 0.925))
    share = np.float32(np.clip(white, 0, 1) * 0.85)
    wall, table = mix(wall, paper, share), mix(table, paper * np.float32(0.94), share)
    pool = np.exp(-(((x - (0.5 + 0.24 * light)) / 0.5) ** 2) - ((y - 0.3) / 0.45) ** 2)
    plaster = clouds(rng, height, width, 5, 5, 4)
    back = wall * (0.70 + 0.42 * pool + 0.022 * plaster)
    grainy = clouds(rng, height, width, max(2, height // 6), 4, 2)
    depth = np.clip((y - edge) / (1 - edge), 0, 1)
    front = table * (0.82 + 0.22 * smooth_paint(1 - np.abs(x - 0.5 - 0.2 * light) * 1.3) - 0.16 * depth)
    front = front * (1 + 0.028 * grainy * (1 - share))
    seam = smooth_paint((y - edge) * height / (height * (0.006 + 0.05 * share)) + 0.5)
    return np.asarray(mix(back, front, seam), np.float32)


def _crop(out: PaintPlane, top: float, bottom: float, left: float, right: float) -> tuple[slice, slice]:
    height, width = out.shape[1:]
    rows = slice(max(0, int(top * height)), min(height, int(bottom * height) + 2))
    columns = slice(max(0, int(left * height)), min(width, int(right * height) + 2))
    return rows, columns


def _paint_shadow(out: PaintPlane, thing: Thing, light: float) -> None:
    """Paint a long soft shadow away from the light, and the dark line where the object stands."""
    wide = max(thing.profile)
    reach = wide + thing.tall * 0.9
    rows, columns = _crop(out, thing.foot - 0.1, thing.foot + 0.09, thing.middle - reach, thing.middle + reach)
    height, width = out.shape[1:]
    y, x = grid(height, width)
    across = x[rows, columns] * (width / height) - thing.middle
    down = y[rows, columns] - thing.foot
    away = -light * across
    long = np.exp(-(((down - 0.12 * np.clip(away, 0, None) * -0.25) / (0.018 + 0.05 * np.clip(away, 0, 1))) ** 2))
    cast = long * smooth_paint(away / wide + 1.0) * np.exp(-np.clip(away - wide * 0.6, 0, None) / (thing.tall * 0.42))
    stand = np.exp(-((across / (thing.profile[-1] + 0.012)) ** 4) - (down / 0.011) ** 2)
    out[:, rows, columns] *= (1 - 0.5 * cast) * (1 - 0.5 * stand)


def _paint_thing(out: PaintPlane, rng: Rng, thing: Thing, light: float, palette: Palette) -> None:
    height, width = out.shape[1:]
    wide = max(thing.profile)
    top = thing.foot - thing.tall
    rows, columns = _crop(out, top - 0.01, thing.foot + 0.012, thing.middle - wide - 0.01, thing.middle + wide + 0.01)
    y, x = (plane[rows, columns] for plane in grid(height, width))
    if not y.size:
        return
    across = x * (width / height) - thing.middle
    along = (y - top) / thing.tall
    column = along[:, 0]
    half = _spline(column, np.array(thing.profile, np.float32))
    flare = np.gradient(half, column * thing.tall) if column.size > 2 else np.zeros_like(half)
    half, flare = half[:, None].astype(np.float32), np.clip(flare, -3, 3)[:, None].astype(np.float32)
    side = np.clip(across / np.maximum(half, 1e-4), -1, 1)
    bulge = np.sqrt(np.clip(1 - side * side, 0, 1))
    bent = along + 0.035 * (bulge - 1) * wide / thing.tall  # the foot's curve, seen a little from above
    mask = smooth_paint((half - np.abs(across)) * height / 1.5 + 0.5)
    mask = mask * smooth_paint((1 - along - 0.05 * (1 - bulge) * wide / thing.tall) * thing.tall * height / 1.5 + 0.5)
    mask = mask * smooth_paint(along * thing.tall * height / 1.5 + 0.5)
    length = np.sqrt(1 + flare * flare)
    normal = (side / length, -flare / length, bulge / length)
    toward = (0.62 * light, -0.52, 0.59)
    lambert = normal[0] * toward[0] + normal[1] * toward[1] + normal[2] * toward[2]
    speckle = clouds(rng, y.shape[0], y.shape[1], 9, 9, 3)
    tone = mix(thing.body, np.float32(0.82), (0.75 * smooth_paint((bent - thing.glaze) * 26)))
    diffuse = 0.20 + 0.92 * smooth_paint(0.12 + 0.88 * lambert)
    body = tone * (diffuse * (1 + 0.035 * speckle))
    body = body + palette.horizon * (0.13 * smooth_paint(-lambert) * (1 - bulge))
    spot = np.clip(0.5 * lambert + 0.5 * (normal[2] * 0.5 + 0.5 * lambert) + 0.08, 0, 1)
    body = body + np.float32(thing.shine) * (spot**26) * palette.light
    body = body * mix(np.float32(0.72), np.float32(1), smooth_paint((1 - along) * 5))
    out[:, rows, columns] = mix(out[:, rows, columns], body, mask)


def _spline(at: PaintPlane, values: PaintPlane) -> PaintPlane:
    """Draw a Catmull-Rom spline through evenly spaced knots."""
    place = np.clip(at, 0, 1) * (len(values) - 1)
    left = np.minimum(place.astype(int), len(values) - 2)
    t = place - left
    padded = np.concatenate([values[:1], values, values[-1:]])
    a, b, c, d = (padded[left + k] for k in range(4))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.asarray(curve, np.float32)
