"""What a person should know of denoise strengths: how they are written where that is no straight line, and which of
them come to the same number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Final

from sweep.experiment import Setting
from sweep.plan.targets import Uses
from sweep.workflow import Graph, Roles, Target, Value

STRENGTH: Final = "denoise_strength"
_WHOLE: Final = frozenset({"denoise_latents", "tiled_multi_diffusion_denoise_latents"})  # the others begin in between
_LOOKED_AT: Final = 1_000  # strengths, and numbers of steps
_MOST: Final = 1_000  # steps tried to tell strengths apart
_LISTED: Final = 4


def strength_notes(graph: Graph, roles: Roles, uses: Uses) -> Iterator[str]:
    """Sentences for a plan of a graph with these roles."""
    if STRENGTH not in uses:
        return
    strengths = roles.targets.get(STRENGTH, ())
    for target in strengths:
        if target.encode.name == "one_minus_fifth_root":
            written = f"{target.address} is {target.encode.formula(STRENGTH)}"
            yield f"{written}, as InvokeAI's own page has it for these models (optimized denoising)."
    if any(graph.nodes[target.address.node].type in _WHOLE for target in strengths):
        values = [value for value in _numbers(uses.settings(STRENGTH)) if 0 <= value <= 1]
        said = (
            uses.settings("steps")
            if "steps" in uses
            else iter([_held(graph, target) for target in roles.targets.get("steps", ())])
        )
        counts = [int(count) for count in _numbers(said) if count >= 1]
        if counts and values:
            yield from _alike(sorted(set(values)), min(counts))


def steps_run(strength: float, steps: int) -> int:
    """How many of so many steps are run at a strength from 0 to 1: those whose time lies below it, rounded up.

    InvokeAI 6.14.2 slices the scheduler's list of timesteps there (`init_scheduler` of `denoise_latents`), so two
    strengths that run equally many begin with the same noise, and give the same image. Counted for timesteps spaced
    as Stable Diffusion's own schedulers space them (`leading`); `linspace` moves the bounds by less than a step.
    """
    return math.ceil(Decimal(repr(strength)) * steps)


def _alike(strengths: Sequence[float], steps: int) -> Iterator[str]:
    groups: dict[int, list[float]] = {}
    for strength in strengths:
        groups.setdefault(steps_run(strength, steps), []).append(strength)
    count, alike = next(((count, found) for count, found in groups.items() if len(found) > 1), (0, []))
    if not alike:
        return
    apart = next((n for n in range(steps + 1, _MOST) if len({steps_run(s, n) for s in strengths}) == len(strengths)), 0)
    others = "; others do, too" if sum(len(found) > 1 for found in groups.values()) > 1 else ""
    same = f"come to {count} of them with the usual spacing, and then give the same image{others}."
    yield f"With {steps} steps, {STRENGTH} {_listed(alike)} {same}" + (
        f" {apart} steps tell all of them apart." if apart else ""
    )


def _listed(numbers: Sequence[float]) -> str:
    first, rest = numbers[:_LISTED], len(numbers) - _LISTED
    words = [f"{number:g}" for number in first] + ([f"{rest} more"] if rest > 0 else [])
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _numbers(values: Iterable[Setting | Value]) -> list[float]:
    found = islice(values, _LOOKED_AT)
    return [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]


def _held(graph: Graph, target: Target) -> Value:
    return graph.nodes[target.address.node].fields.get(target.address.field)
