"""Distances between images that differ in one axis alone: which word of a prompt decides, with a new seed as yardstick.

For text-to-image, which has no source to compare with. Distances are not kept: they are between two images, and a study
looks at some hundred pairs of small ones.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np

from sweep.study.design import StudyDesign
from sweep.study.metrics.colour import delta_e
from sweep.study.metrics.planes import DecodedImage, ImagePair, UnreadableImageError, decode, reduced, working_shape
from sweep.study.schema import AxisDistance

MOST_PAIRS = 120  # of one axis; of more, every so many-th is taken
SIDE = 128  # pixels of the longest side: colours need no more


def measure_axis_distances(design: StudyDesign, folder: Path) -> list[AxisDistance]:
    """Measure the colour distance of pairs of images along each axis; the axis that moves images most first.

    Empty where images are compared with a source or a baseline.
    """
    if design.reference != "none":
        return []
    axes = [*design.factors, *([design.seed] if design.seed else [])]
    chosen = {axis: _choose_pairs(design, axis) for axis in axes}
    used = sorted({row for pairs, _ in chosen.values() for pair in pairs for row in pair})
    images = {row: image for row in used if (image := _read(folder / str(design.frame["image_path"].iloc[row])))}
    found = []
    for axis, (pairs, total) in chosen.items():
        known = [(a, b) for a, b in pairs if a in images and b in images]
        known = [(a, b) for a, b in known if images[a].rgb.shape == images[b].rgb.shape]
        if known:
            values = [float(delta_e(ImagePair(image=images[a], reference=images[b]))) for a, b in known]
            found.append(
                AxisDistance(
                    metric="colour",
                    axis=axis,
                    seed=axis == design.seed,
                    mean=float(np.mean(values)),
                    pairs=total,
                    a=[a for a, _ in known],
                    b=[b for _, b in known],
                    distance=[round(value, 4) for value in values],
                )
            )
    return sorted(found, key=lambda each: -each["mean"])


def _choose_pairs(design: StudyDesign, axis: str) -> tuple[list[tuple[int, int]], int]:
    """Choose pairs of rows that differ in this axis alone, and count all of them."""
    others = design.combined([name for name in design.names if name != axis])
    rows = np.flatnonzero(design.images & (design.repeats == 0))
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(int(others[row]), []).append(int(row))
    pairs = [pair for members in groups.values() for pair in combinations(members, 2)]
    step = max(1, -(-len(pairs) // MOST_PAIRS))
    return pairs[::step], len(pairs)


def _read(path: Path) -> DecodedImage | None:
    try:
        whole = decode(path)
    except UnreadableImageError:
        return None
    return reduced(whole, working_shape(*whole.size, SIDE))
