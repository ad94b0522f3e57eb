"""Generators of InvokeAI's editor: nodes that make up the values of a batch from settings."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice, product
from random import Random
from typing import Any

from sweep.errors import WorkflowError

GENERATORS = frozenset({"image_generator", "string_generator", "integer_generator", "float_generator"})
_MOST = 100_000  # values of one generator; more is a slip of the pen
_LEADING_INT = re.compile(r"\s*[+-]?\d+")
_LEADING_FLOAT = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_RANDOM = ("random_distribution_uniform", "dynamic_prompts_random")
_CHOICE = re.compile(r"\{([^{}]*)\}")


def generate(node: str, settings: Mapping[str, Any]) -> list[Any]:
    """Return the values of a generator with these settings; those the editor wrote down itself count before ours.

    Random ones are drawn from the generator's seed, or from 0 where it has none: always the same here, but not
    those the editor would draw. Raises WorkflowError where only a server could tell, or for an unknown generator.
    """
    values = settings.get("values")
    if isinstance(values, list) and values:
        return values
    kind = str(settings.get("type", ""))
    make = next((make for ending, make in _MAKERS.items() if kind.endswith(ending)), None)
    if make is None:
        raise WorkflowError(f"{node}: sweep cannot work out the values of a {kind or 'generator without a type'}.")
    try:
        return make(settings, kind.startswith("integer"))
    except (TypeError, ValueError) as error:
        raise WorkflowError(f"{node}: the generator's settings are wrong: {error}.") from error


def find_seed(settings: Mapping[str, Any]) -> int | None:
    """Return the seed from which `generate` draws the values; None where nothing is drawn."""
    given = settings.get("values")
    is_random = str(settings.get("type", "")).endswith(_RANDOM)
    return int(settings.get("seed") or 0) if is_random and not (isinstance(given, list) and given) else None


def _count(settings: Mapping[str, Any]) -> int:
    count = int(settings.get("count", 10))
    if not 0 <= count <= _MOST:
        raise ValueError(f"it counts {count}")
    return count


def _arithmetic(settings: Mapping[str, Any], whole: bool) -> list[Any]:
    start, step = settings.get("start", 0), settings.get("step", 1 if whole else 0.1)
    return [start] if step == 0 else [start + index * step for index in range(_count(settings))]


def _linear(settings: Mapping[str, Any], whole: bool) -> list[Any]:
    start, end, count = settings.get("start", 0), settings.get("end", 10 if whole else 1), _count(settings)
    if count == 1:
        return [start]
    offsets = [(end - start) * (index / (count - 1)) for index in range(count)]
    # halves go up, as in the editor, where Python's round goes to the even
    return [start + (math.floor(offset + 0.5) if whole else offset) for offset in offsets]


def _uniform(settings: Mapping[str, Any], whole: bool) -> list[Any]:
    low, high = settings.get("min", 0), settings.get("max", 10 if whole else 1)
    draw = Random(settings.get("seed") or 0)
    return [draw.randint(low, high) if whole else draw.uniform(low, high) for _ in range(_count(settings))]


def _parse_numbers(settings: Mapping[str, Any], whole: bool) -> list[Any]:
    """Do as the editor reads them: the number each part begins with, parts without one left out."""
    pattern = _LEADING_INT if whole else _LEADING_FLOAT
    found = [pattern.match(part) for part in _split(settings)]
    return [int(match[0]) if whole else float(match[0]) for match in found if match]


def _split(settings: Mapping[str, Any]) -> Sequence[str]:
    text, separator = str(settings.get("input", "")), str(settings.get("splitOn", ","))
    if not separator:
        return [text]
    with suppress(ValueError):
        separator = str(json.loads(f'"{separator}"'))  # so that \n can be written
    return text.split(separator)


def _draw_prompts(settings: Mapping[str, Any], _whole: bool) -> list[Any]:
    everything = _combine(settings, _MOST)
    draw = Random(settings.get("seed") or 0)
    return [draw.choice(everything) for _ in range(_count(settings))]


def _combine(settings: Mapping[str, Any], most: int) -> list[str]:
    """List every way to choose from the `{a|b}` in a text, the last choice changing fastest; at most so many."""
    text = str(settings.get("input", ""))
    if "__" in text or "$$" in text:
        raise ValueError("wildcards and counted choices are not known here")
    choices = [part.split("|") if index % 2 else [part] for index, part in enumerate(_CHOICE.split(text))]
    return ["".join(chosen) for chosen in islice(product(*choices), max(most, 0))]


_MAKERS: Mapping[str, Callable[[Mapping[str, Any], bool], list[Any]]] = {
    "string_generator_parse_string": lambda settings, _: [part for part in _split(settings) if part],
    "integer_generator_parse_string": _parse_numbers,
    "float_generator_parse_string": _parse_numbers,
    "arithmetic_sequence": _arithmetic,
    "linear_distribution": _linear,
    "random_distribution_uniform": _uniform,
    "dynamic_prompts_combinatorial": lambda settings, _: list(_combine(settings, int(settings.get("maxPrompts", 10)))),
    "dynamic_prompts_random": _draw_prompts,
}
