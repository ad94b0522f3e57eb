"""The table of roles: the names by which an experiment sets a workflow's inputs, their meanings, and values that fit.

One table for the experiment, which checks what is set by name, and for the workflow, which finds the fields. Values are
checked only for what holds on every server, as a strength from 0 to 1; the rest is the server's to say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from sweep.errors import did_you_mean, did_you_mean_file
from sweep.text import escape_breaks, truncate

SEED_MAX: Final = 2**32 - 1
MAX_SIDE: Final = 16_384  # pixels of an image: no server renders more at once
SettingKind: TypeAlias = Literal["integer", "number", "text", "name", "image", "model", "stack", "controls", "board"]


@dataclass(frozen=True, slots=True)
class Role:
    """The meaning of a role in words for people, and the values that make sense for it on any server."""

    kind: SettingKind
    means: str
    low: float | None = None
    high: float | None = None
    optional: bool = False  # null is a value: none of it


ROLE_TABLE: Final[Mapping[str, Role]] = MappingProxyType(
    {
        "prompt": Role("text", "The text that the image should show."),
        "negative_prompt": Role("text", "The text that the image should avoid."),
        "variation": Role("text", "Appended to the prompt, after a comma, or put where the prompt says {variation}."),
        "denoise_strength": Role("number", "Strength of img2img: 0 keeps the source, 1 ignores it.", low=0, high=1),
        "seed": Role("integer", "Seed of the noise, 0 to 4294967295.", low=0, high=SEED_MAX),
        "steps": Role("integer", "Denoising steps, at least 1.", low=1),
        "cfg_scale": Role("number", "How closely the prompt is followed (classifier-free guidance).", low=0),
        "scheduler": Role("name", "Name of the scheduler, as the server calls it (euler, dpmpp_2m_k, …)."),
        "sampler": Role("name", "Name of the sampler, on servers that set the noise schedule separately."),
        "model": Role("model", "Main model: a name, name@base if the name is ambiguous, or the server's key."),
        "vae": Role("model", "VAE model; null uses the VAE of the main model.", optional=True),
        "image": Role("image", "The source image: a file path, or gallery:NAME for one on the server."),
        "width": Role("integer", "Width of the image in pixels.", low=1, high=MAX_SIDE),
        "height": Role("integer", "Height of the image in pixels.", low=1, high=MAX_SIDE),
        "lora": Role(
            "stack", "LoRA model, or a list of them; each a name or {name, weight}. null is none.", optional=True
        ),
        "lora_weight": Role("number", "Weight of the LoRA, or of each LoRA without a weight of its own."),
        "clip_skip": Role(
            "integer",
            "How many of the text encoder's last layers are skipped; 0 uses all (elsewhere called clip skip 1).",
            low=0,
            high=23,
        ),
        "control_image": Role("image", "The image that a ControlNet follows: a file path, or gallery:NAME."),
        "control_weight": Role("number", "Weight of the ControlNet, -1 to 2.", low=-1, high=2),
        "control_model": Role("model", "The ControlNet's model, by name."),
        "control_begin": Role("number", "Point of denoising where the ControlNet begins, 0 to 1.", low=0, high=1),
        "control_end": Role("number", "Point of denoising where the ControlNet ends, 0 to 1.", low=0, high=1),
        "board": Role("board", "Board on the server for the images, by name.", optional=True),
    }
)
ROLE_NAMES: Final[tuple[str, ...]] = tuple(ROLE_TABLE)
COMPOSED_ROLES: Final = frozenset({"variation", "vae", "board"})  # the plan applies them; any workflow has one of each
FOUND_ROLES: Final = tuple(name for name in ROLE_NAMES if name not in COMPOSED_ROLES)  # found by following edges
CONTROL_ROLES: Final = tuple(name for name in ROLE_NAMES if name.startswith("control_"))

SLOT: Final = "{variation}"  # in a prompt: where the variation goes
TEMPLATE_NAMES: Final = ("txt2img", "img2img", "controlnet", "lora")
_IMAGES: Final = frozenset({"image", "control_image"})

CONTROLS: Final = Role(
    kind="controls", means="ControlNets: a list of {model, image, weight, begin, end}; begin and end are 0 to 1."
)
INPUT_NAMES: Final[tuple[str, ...]] = (*(name for name in ROLE_NAMES if name != "board"), "controls")

NUMBERED: Final = f"^({'|'.join(FOUND_ROLES)})_([1-9][0-9]*)$"
_NUMBERED = re.compile(NUMBERED)
MAX_VALUE_LENGTH: Final = 20_000  # characters of one value
_TOO_LARGE: Final = 1e300  # for any number
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # the last are halves of a character
_ADDRESS = re.compile(r"\S(.*\S)?\.[A-Za-z_]\w*\Z")
_CONTROL_KEYS: Final = ("model", "image", "weight", "begin", "end")


def is_address(text: str) -> bool:
    """Tell whether `text` has the shape node.field; the last dot divides, node ids may hold dots."""
    return _ADDRESS.match(text) is not None


def parse_numbered(target: str) -> tuple[str, int] | None:
    """Split `lora_weight_2`, the second of several that a workflow has of a role, into role and number; None for any
    other target.
    """
    found = _NUMBERED.fullmatch(target)
    return (found[1], int(found[2])) if found else None


def strip_number(target: str) -> str:
    """Return the target without its number: lora_weight for lora_weight_2."""
    found = parse_numbered(target)
    return found[0] if found else target


def is_target(text: str, names: Collection[str] = ROLE_NAMES) -> bool:
    """Tell whether `text` is one of these roles, one of them with a number, or has the shape of an address."""
    return text in names or parse_numbered(text) is not None or is_address(text)


def describe_no_target(text: str, names: Sequence[str] = ROLE_NAMES) -> str:
    """Say that a text is no target, as the end of a sentence that begins with its place."""
    return f"is neither an input (such as prompt) nor a NODE.FIELD.{did_you_mean(text, names)}"


def describe_missing(written: str, path: Path) -> str:
    """Say why `path`, written so by a person, is no file: what is there, or what else the person may have meant."""
    if os.path.isdir(path):  # noqa: PTH112  False also for a path that no system takes
        return f"{written} is a folder, not a file."
    if written in TEMPLATE_NAMES:
        return f"{written} is a built-in workflow, not a file. In an experiment, write workflow: {written}"
    file, template = did_you_mean_file(path, Path(written).parent), did_you_mean(written, TEMPLATE_NAMES)
    if path.suffix or Path(written).name != written:
        return f"{written} does not exist.{file or template}"
    near = template or file or f" Built-in workflows: {', '.join(TEMPLATE_NAMES)}."
    return f"{written} is neither a built-in workflow nor a file.{near}"


def is_image(target: str) -> bool:
    """Tell whether the target takes an image."""
    return strip_number(target) in _IMAGES


def find_role(target: str) -> Role | None:
    """Find the role of `target`; None for a node.field address, which only a workflow can judge.

    One LoRA of several is a model, and leaving it out is a weight of 0.
    """
    found = parse_numbered(target)
    if found:
        role = ROLE_TABLE[found[0]]
        return replace(role, kind="model", optional=False) if role.kind == "stack" else role
    return CONTROLS if target == "controls" else ROLE_TABLE.get(target)


def as_written(target: str, value: Any) -> Any:
    """Make a whole number of one that is written with decimals, 20.0, where the role takes whole numbers."""
    role = find_role(target)
    if role is not None and role.kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def quote(value: object) -> str:
    """Write a value as a person would name it in a sentence."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{escape_breaks(truncate(value, 40))}"'
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence):
        return "a list"
    return f"{value:g}" if isinstance(value, float) else str(value)


def find_value_problem(target: str, value: object) -> str | None:
    """Find what is wrong with setting `target` to `value`.

    Returns:
        The end of a sentence that begins with its place; None where nothing is wrong, or only a workflow can tell.
    """
    role = find_role(target)
    if isinstance(value, str) and (problem := find_text_problem(value)):
        return problem
    if role is None or (value is None and role.optional):
        return None
    if value is None and strip_number(target) == "lora":
        return f"must be a name; none of it is {target.replace('lora', 'lora_weight')} at 0"
    match role.kind:
        case "integer" | "number":
            return _check_number(role, value)
        case "stack":
            return _check_stack(value)
        case "controls":
            return _check_controls(value)
        case "model" if isinstance(value, Mapping):
            return None if isinstance(value.get("name"), str) else "needs the model's name"
        case _:
            return _check_text(role, value)


def find_text_problem(text: str) -> str | None:
    """Find what no server can take in a text: control characters, or more of it than any prompt has."""
    found = _CONTROL.search(text)
    if found:
        kind = "half a character" if found[0] >= "\ud800" else "a control character"
        return f"holds {kind}, U+{ord(found[0]):04X}"
    return f"has {len(text):,} characters; the most is {MAX_VALUE_LENGTH:,}" if len(text) > MAX_VALUE_LENGTH else None


def _check_number(role: Role, value: object) -> str | None:
    wrong = f"must be a {'whole number' if role.kind == 'integer' else 'number'}, not {quote(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _TOO_LARGE:  # also of nan
        return wrong
    if role.kind == "integer" and value != int(value):
        return wrong
    low, high = role.low, role.high
    if (low is not None and value < low) or (high is not None and value > high):
        return f"is {quote(value)}, but must be {describe_bounds(low, high)}"
    return None


def describe_bounds(low: float | None, high: float | None) -> str:
    """Write a range in words: 0 to 1, at least 1, at most 2."""
    if low is not None and high is not None:
        return f"{low:.10g} to {high:.10g}"
    return f"at least {low:.10g}" if low is not None else f"at most {high:.10g}"


def _check_text(role: Role, value: object) -> str | None:
    if isinstance(value, str):
        return None if value.strip() or role.kind == "text" else "must not be empty"
    way = f'; text that looks like something else needs quotes: "{quote(value)}"'
    wanted = "the path of an image" if role.kind == "image" else "text"
    return f"must be {wanted}, not {quote(value)}{way if isinstance(value, int | float) else ''}"


def _check_stack(value: object) -> str | None:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, Mapping):
            if problem := _check_entry(item, ("name", "weight"), "name"):
                return problem
        elif not isinstance(item, str) or not item.strip():
            return f"must be a name, {{name, weight}} or a list of these, not {quote(item)}"
    return None


def _check_controls(value: object) -> str | None:
    if not isinstance(value, list):
        return f"must be a list of {{{', '.join(_CONTROL_KEYS)}}}, not {quote(value)}"
    for item in value:
        if not isinstance(item, Mapping):
            return f"must hold mappings {{{', '.join(_CONTROL_KEYS)}}}, not {quote(item)}"
        if problem := _check_entry(item, _CONTROL_KEYS, "model", "image"):
            return problem
    return None


def _check_entry(entry: Mapping[str, Any], keys: Sequence[str], *needed: str) -> str | None:
    for key, value in entry.items():
        if key not in keys:
            return f"has {key}, which is not known there; known are {', '.join(keys)}"
        if key in ("weight", "begin", "end") and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f"has {key} {quote(value)}, which is not a number"
        if key in ("begin", "end") and not 0 <= value <= 1:
            return f"has {key} {quote(value)}, but it must be 0 to 1"
    missing = [key for key in needed if not entry.get(key)]
    if missing:
        return f"needs {' and '.join(missing)}"
    return "begins after its end" if entry.get("begin", 0) > entry.get("end", 1) else None
