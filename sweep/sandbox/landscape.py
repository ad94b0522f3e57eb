"""A landscape in layers: sky and sun, clouds, ridges fading into haze, and water, trees or meadow in front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweep.sandbox.canvas import Floats, Rng, clouds, colour, grain, grid, line, mix, smooth
from sweep.sandbox.mood import Palette


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where things are; drawn from the seed. Lengths are shares of the picture's height."""

    sun: tuple[float, float]  # row, column
    sun_size: float
    horizon: float
    ridges: int
    peaked: float
    cover: float  # of the sky by clouds
    front: str  # water, trees or meadow

    @classmethod
    def draw(cls, rng: Rng, scene_chance: float) -> Plan:
        """A plan; what stands in front follows the subject, everything else the seed."""
        return cls(
            sun=(rng.uniform(0.16, 0.46), rng.uniform(0.15, 0.85)),
            sun_size=rng.uniform(0.022, 0.05),
            horizon=rng.uniform(0.56, 0.68),
            ridges=int(rng.integers(3, 6)),
            peaked=rng.uniform(0.15, 0.9),
            cover=rng.uniform(-0.5, 0.6),
            front=("water", "trees", "meadow")[int(scene_chance * 3)],
        )


def landscape(rng: Rng, height: int, width: int, palette: Palette, subject: float) -> Floats:
    """A picture of `height` × `width`; `subject`, from 0 to 1, decides what stands in front."""
    plan = Plan.draw(rng, subject)
    out = _sky(rng, height, width, palette, plan)
    shore = plan.horizon
    for layer in range(plan.ridges):
        near = (layer + 1) / (plan.ridges + (0 if plan.front == "water" else 1))
        _ridge(out, rng, palette, plan, near)
    if plan.front == "water":
        _water(out, rng, palette, plan, min(0.86, shore + 0.13))
    else:
        _ground(out, rng, palette, plan)
    return out


def _sky(rng: Rng, height: int, width: int, palette: Palette, plan: Plan) -> Floats:
    y, x = grid(height, width)
    high, low, light = colour(palette.zenith), colour(palette.horizon), colour(palette.light)
    out = mix(high, low, smooth(y / plan.horizon * 0.95) ** np.float32(0.85))
    ratio = width / height
    distance = np.hypot(y - plan.sun[0], (x - plan.sun[1]) * ratio)
    out = mix(out, light, (np.float32(0.75) * np.exp(-distance / 0.16)))
    out = mix(out, light, (np.float32(0.35) * np.exp(-distance / 0.5)))
    field = clouds(rng, height, width, 7, 3, 4) + 0.45 * clouds(rng, height, width, 16, 4, 2)
    veil = smooth((field + plan.cover) * 0.55) * smooth(1.1 - y / plan.horizon * 0.55)
    lit = mix(mix(high, low, np.float32(0.7)), light, 0.5 + 0.45 * np.exp(-distance / 0.35))
    shade = mix(np.float32(1), np.float32(0.93), smooth(field * 0.7 - 0.4))
    out = mix(out, lit * shade, (0.75 * veil))
    disc = smooth((plan.sun_size - distance) * height / 3 + 0.5) * (1 - 0.6 * veil)
    if high.mean() < 0.2:
        stars = smooth(grain(rng, height, width) * 2.2 - 5.6) * (1 - veil) * smooth(1.1 - y / plan.horizon)
        out = mix(out, light, 0.9 * stars)
    return np.asarray(mix(out, np.float32(0.25) * light + np.float32(0.75), disc), np.float32)


def _ridge(out: Floats, rng: Rng, palette: Palette, plan: Plan, near: float) -> None:
    """One range of hills, drawn over what is behind it. `near` goes from 0 to 1."""
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
    mask = smooth(depth * height / 1.6 + 0.5)
    texture = clouds(rng, height - first, width, max(2, int(10 + 20 * near)), max(2, int(12 + 20 * near)), 3)
    slope = np.gradient(top) * width / 7
    lit = np.sign(x[rows] - plan.sun[1]) * slope * (0.4 + 0.6 * smooth(1 - depth * 6))
    tone = mix(colour(palette.far), colour(palette.near), np.float32(near**1.25))
    body = tone * (1 + 0.10 * np.clip(lit, -1.5, 1.5) + 0.085 * texture * (0.35 + near))
    glow = colour(palette.light) - tone
    body = body + glow * (0.10 * np.clip(lit, 0, 1.2) * (1 - 0.5 * near))
    haze = (1 - near) * smooth(depth / 0.16) * 0.75
    body = mix(body, mix(colour(palette.horizon), colour(palette.far), np.float32(near)), haze)
    out[:, rows] = mix(out[:, rows], body, mask)


def _water(out: Floats, rng: Rng, palette: Palette, plan: Plan, shore: float) -> None:
    """What is above the shore, mirrored, rippled and darkened, with the light's path."""
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
    deep = mix(colour(palette.zenith), colour(palette.near), np.float32(0.6))
    water = mix(mirror * np.float32(0.86), deep, (0.12 + 0.5 * near))
    path = np.exp(-(((x[first:] - plan.sun[1]) / (0.03 + 0.10 * near)) ** 2)) * smooth(waves * 1.4 + 0.1)
    water = mix(water, colour(palette.light), (0.55 * path * (1 - 0.5 * near)))
    edge = smooth(near * 22)
    out[:, first:] = mix(mix(out[:, first - 1 : first], water, np.float32(0.65)), water, edge)


def _ground(out: Floats, rng: Rng, palette: Palette, plan: Plan) -> None:
    """The foreground: a slope with grass, and pines on it where the plan has them."""
    height, width = out.shape[1:]
    y, _ = grid(height, width)
    top = 0.83 - 0.05 * line(rng, width, 2, 4, 0.45)
    if plan.front == "trees":
        top = np.minimum(top, top - _pines(rng, width, width / height))
    first = max(0, int(height * float(top.min())) - 2)
    rows = slice(first, height)
    depth = y[rows] - top
    mask = smooth(depth * height / 1.3 + 0.5)
    grass = clouds(rng, height - first, width, max(2, (height - first) // 9), max(2, width // 3), 1)
    patches = clouds(rng, height - first, width, 5, 6, 3)
    tone = colour(palette.near) * np.float32(0.8)
    lit = mix(tone, mix(colour(palette.far), colour(palette.light), np.float32(0.25)), np.float32(0.28))
    body = mix(tone, lit, smooth(0.35 + 0.3 * patches - depth * 2.2) * np.float32(0.8))
    if plan.front == "meadow":
        body = body * (1 + 0.13 * grass)
        blossom = smooth((patches + 0.7 * grass - 2.0) * 2.5) * smooth(depth * 14)
        body = mix(body, colour(palette.light), (0.6 * blossom))
    else:
        body = body * (0.72 + 0.06 * grass)
    out[:, rows] = mix(out[:, rows], body, mask)


def _pines(rng: Rng, width: int, ratio: float) -> Floats:
    """Height of the treetops above the ground, one value a column."""
    x = np.linspace(0, ratio, width, dtype=np.float32)
    tops = np.zeros(width, np.float32)
    gap = rng.uniform(0.1, 0.9) * ratio
    for place in np.sort(rng.uniform(-0.02, ratio + 0.02, int(34 * ratio))):
        tall = rng.uniform(0.07, 0.2) * (0.35 + 0.65 * smooth(abs(place - gap) / (0.35 * ratio)))
        spread = tall * rng.uniform(0.16, 0.24)
        reach = np.clip(1 - np.abs(x - place) / spread, 0, 1)
        boughs = 1 - 0.16 * (1 + np.sin(reach * 34 + rng.uniform(0, 6)))
        tops = np.maximum(tops, tall * reach * mix(boughs, 1.0, reach**3))
    return np.asarray(tops, np.float32)
