"""The option `--axis NAME=VALUES`: axes as people type them, and the experiment file that they make.

Ranges are understood as other grid tools write them: `0.2:0.8:0.2`, `1, 2, ..., 10`, `10-30 (+5)`, `10-30 [5]`.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias

from sweep.errors import ExperimentError, UsageError
from sweep.experiment.file_schema import AXIS_KEYS
from sweep.experiment.yaml_document import dump_yaml, read_text
from sweep.role_table import find_role, strip_number
from sweep.text import truncate

Number: TypeAlias = int | float
MAX_TYPED: Final = 10_000  # values that a typed list with ranges in it is expanded to

_NUMBER: Final = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_COLONS = re.compile(rf"({_NUMBER})\s*:\s*({_NUMBER})(?:\s*:\s*({_NUMBER}))?")
_DASH = re.compile(rf"({_NUMBER})\s*(?:-|–|\.\.\.?|…)\s*({_NUMBER})(?:\s*\(\s*({_NUMBER})\s*\)|\s*\[\s*(\d+)\s*\])?")
_ELLIPSIS: Final = ("...", "..", "…")
_DRAWN = re.compile(r"(?:random|count)\s*[:=*x]?\s*(\d+)", re.IGNORECASE)
_GLOB: Final = ("*", "?", "[")
_FORMS: Final = "Write a list (0.2,0.4,0.8), a range (0.2:0.8:0.2) or a file (@values.txt)."


def write_experiment(
    workflow: str,
    axes: Sequence[str],
    inputs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    paths_from: Path | None = None,
    saved_in: Path | None = None,
) -> str:
    """Write the experiment file for what a command line gives.

    Args:
        workflow: A template's name, or the path of a workflow.
        axes: One text an axis, as in "denoise_strength=0.2:0.8:0.2"; see `parse_axis`.
        inputs: What is fixed, role or node.field → value.
        name: The experiment's name; its file's where it is not given.
        paths_from: The folder that relative paths start from.
        saved_in: The folder the file is saved in, where that is another one.

    Returns:
        YAML text. `Experiment.from_text` loads it, and a file that holds it gives the same keys.

    Raises:
        UsageError: An axis cannot be read, or two have one name.

    Example::

        text = write_experiment("txt2img", ["seed=1,2,3", "steps=10-30 (+5)"], {"prompt": "a lighthouse"})
        experiment = Experiment.from_text(text)
    """
    parsed: dict[str, Any] = {}
    for text in axes:
        axis, values = parse_axis(text)
        if axis in parsed:
            raise UsageError(f"--axis {axis} is given twice.", hint=f"Give all its values at once. {_FORMS}")
        parsed[axis] = values
    data: dict[str, Any] = {"name": name} if name else {}
    if paths_from is not None and saved_in is not None and paths_from.resolve() != saved_in.resolve():
        data["folder"] = Path(os.path.relpath(paths_from.resolve(), saved_in.resolve())).as_posix()
    data |= {"workflow": workflow, "inputs": dict(inputs or {}), "axes": parsed}
    return dump_yaml({key: part for key, part in data.items() if part != {}})


def parse_axis(text: str) -> tuple[str, Any]:
    """Parse an axis as "name=values".

    Returns:
        Its name, and what an experiment file would hold under it.

    Raises:
        UsageError: There is no name or no value, or a range is incomplete; the hint shows the right form.
    """
    name, equals, written = text.partition("=")
    name, written = name.strip(), written.strip()
    if not equals or not name or not written:
        lacking = "values" if name else "name"
        raise UsageError(f"--axis {truncate(text, 60)} has no {lacking}.", hint="Write NAME=VALUES.")
    try:
        return name, _parse_values(name, written)
    except ValueError as error:
        raise UsageError(f"--axis {name}: {error}.", hint=_FORMS) from error


def suggest_axis(name: str, text: str) -> str | None:
    """Suggest how an experiment file holds an axis that somebody typed as one text; None where it is no range."""
    try:
        found = _parse_numbers(text, name)
    except ValueError:
        return None
    if isinstance(found, list) and len(found) < 2:
        return None
    if isinstance(found, dict):
        return "{" + ", ".join(f"{key}: {value}" for key, value in found.items()) + "}"
    return f"[{', '.join(map(str, found))}]"


def _parse_values(name: str, text: str) -> Any:
    role = find_role(name)
    kind = role.kind if role is not None else None
    if text.startswith("@"):
        return _parse_file(name, text[1:].strip())
    if text[0] in "[{" and (inside := _parse_yaml(text)) is not None:
        return inside
    if kind in ("integer", "number"):
        return _parse_numbers(text, name)
    if kind == "image" and text.startswith("board:"):
        return {"board": text.removeprefix("board:")}
    if kind == "image":
        paths = _split(text)
        return {"images": paths} if any(sign in path for path in paths for sign in _GLOB) else paths
    if kind is None:
        try:
            return _parse_numbers(text, name)
        except ValueError:
            words = _split(text)
            return [word.lower() == "true" for word in words] if {w.lower() for w in words} <= _TRUTHS else words
    return [None if word == "null" and role is not None and role.optional else word for word in _split(text)]


_TRUTHS: Final = {"true", "false"}


def _parse_file(name: str, written: str) -> dict[str, Any]:
    """Parse what follows an @: lines of a text, a column of a table (FILE:COLUMN), settings, or images."""
    path, _, column = written.partition(":") if ".csv:" in written.lower() else (written, "", "")
    if not path:
        raise ValueError("@ needs the path of a file")
    ending = Path(path).suffix.lower()
    if ending in (".csv", ".tsv"):
        return {"csv": path, "column": column or name}
    if ending in (".yaml", ".yml", ".json"):
        return {"settings": path}
    if ending in (".png", ".jpg", ".jpeg", ".webp") or any(sign in path for sign in _GLOB):
        return {"images": [path]}
    return {"lines": path}


def _parse_yaml(text: str) -> Any:
    """Parse a value written as in a file; None for a text that only begins like one, as {red|blue} does."""
    try:
        found = read_text(text, folder=Path(), shown="--axis").data
    except ExperimentError:
        return None
    if isinstance(found, dict) and not set(found) & set(AXIS_KEYS):
        return None
    return found if isinstance(found, dict | list) and found else None


def _split(text: str) -> list[str]:
    """Split a list at its commas, or at || where values hold commas; a value in double quotes may hold anything."""
    try:
        cells = text.split("||") if "||" in text else next(csv.reader([text], skipinitialspace=True))
    except csv.Error as error:
        raise ValueError("these are not values between commas on one line") from error
    words = [cell.strip() for cell in cells]
    if not all(words):
        raise ValueError("a value is empty")
    return words


def _parse_numbers(text: str, name: str) -> list[Number] | dict[str, Any]:
    """Parse numbers and ranges between commas; one range alone stays a range, however long it is."""
    if strip_number(name) == "seed" and (drawn := _DRAWN.fullmatch(text)):
        return {"count": int(drawn[1])}
    tokens = [token.strip() for token in text.split(",")]
    parts = list(_group(tokens))
    if len(parts) == 1 and isinstance(parts[0], dict):
        return parts[0]
    values: list[Number] = []
    for part in parts:
        values += _expand(part) if isinstance(part, dict) else [part]
        if len(values) > MAX_TYPED:
            raise ValueError(f"these are more than {MAX_TYPED:,} values; one range alone may be longer")
    return values


def _group(tokens: Sequence[str]) -> Iterator[Number | dict[str, Any]]:
    """Yield numbers and ranges; `1, 2, ..., 10` is one range."""
    at = 0
    while at < len(tokens):
        for before in (2, 1):
            end = at + before + 1
            if end < len(tokens) and tokens[end - 1] in _ELLIPSIS:
                first, *second = [_read_number(token) for token in tokens[at : end - 1]]
                step = _plain(_exact(second[0]) - _exact(first)) if second else None
                yield _make_range(first, _read_number(tokens[end]), step)
                at = end + 1
                break
        else:
            yield _parse_token(tokens[at])
            at += 1


def _parse_token(token: str) -> Number | dict[str, Any]:
    if re.fullmatch(_NUMBER, token):
        return _read_number(token)
    if found := _COLONS.fullmatch(token) or _DASH.fullmatch(token):
        start, stop, step = _read_number(found[1]), _read_number(found[2]), found[3]
        if found.re is _DASH and found[4]:
            return {"start": start, "stop": stop, "num": int(found[4])}
        return _make_range(start, stop, _read_number(step) if step else None)
    if token in _ELLIPSIS:
        raise ValueError(f"{token} stands between numbers, as in 1, 2, ..., 10")
    raise ValueError(f'"{truncate(token, 40)}" is not a number or a range' if token else "a value is empty")


def _make_range(start: Number, stop: Number, step: Number | None) -> dict[str, Any]:
    if step is None and not (isinstance(start, int) and isinstance(stop, int)):
        raise ValueError(f"the range from {start} to {stop} needs a step, as in {start}:{stop}:0.1")
    return {"start": start, "stop": stop, "step": (1 if stop >= start else -1) if step is None else step}


def _expand(part: Mapping[str, Any]) -> list[Number]:
    first, last = _exact(part["start"]), _exact(part["stop"])
    if "num" in part:
        step = (last - first) / max(part["num"] - 1, 1)
        count = part["num"]
    else:
        step = _exact(part["step"])
        if step == 0 or (last - first) / step < 0:
            raise ValueError(f"a step of {part['step']} does not lead from {part['start']} to {part['stop']}")
        count = int((last - first) / step) + 1
    if count > MAX_TYPED:
        raise ValueError(f"these are more than {MAX_TYPED:,} values; one range alone may be longer")
    return [_plain(first + step * at) for at in range(count)]


def _read_number(text: str) -> Number:
    if not re.fullmatch(_NUMBER, text):
        raise ValueError(f'"{truncate(text, 40)}" is not a number')
    number = int(text) if re.fullmatch(r"[+-]?\d{1,300}", text) else float(text)
    if not math.isfinite(number):
        raise ValueError(f"{truncate(text, 40)} is not a number that can be set")
    return number


def _exact(number: Number) -> Decimal:
    return Decimal(repr(number))


def _plain(number: Decimal) -> Number:
    return int(number) if number == number.to_integral_value() and "." not in str(number) else float(number)
