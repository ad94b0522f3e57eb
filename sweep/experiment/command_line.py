"""Experiments from a command line: `--axis NAME=VALUES` makes the file of one, `--set PATH=VALUE` changes one."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sweep.errors import ExperimentError, Problem, UsageError, did_you_mean
from sweep.experiment.file_schema import AXIS_KEYS, list_section_keys
from sweep.experiment.problems import DocumentPath, Mark, join_path
from sweep.experiment.range_notation import parse_number, parse_numbers, suggest_axis
from sweep.experiment.yaml_document import MERGED, Document, dump_yaml, make_plain, read_text
from sweep.role_table import INPUT_NAMES, ROLE_NAMES, find_role, is_address, parse_numbered, quote
from sweep.text import make_list, truncate

_GLOB: Final = ("*", "?", "[")
_FORMS: Final = "Write a list (0.2,0.4,0.8), a range (0.2:0.8:0.2) or a file (@values.txt)."


def write_experiment(
    workflow: str,
    axes: str | Sequence[str],
    inputs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    paths_from: Path | None = None,
    saved_in: Path | None = None,
    overrides: Sequence[str] = (),
) -> str:
    """Write the experiment file for what a command line gives.

    Args:
        workflow: A template's name, or the path of a workflow.
        axes: One text an axis, as in "denoise_strength=0.2:0.8:0.2"; see `parse_axis`.
        inputs: What is fixed, role or node.field → value.
        name: The experiment's name; its file's where it is not given.
        paths_from: The folder that relative paths start from.
        saved_in: The folder the file is saved in, where that is another one.
        overrides: Texts as in "inputs.steps=30", applied in order.

    Returns:
        YAML text. `Experiment.from_text` loads it, and a file that holds it gives the same keys.

    Raises:
        UsageError: An axis cannot be read, or two have one name.

    Example::

        text = write_experiment("txt2img", ["seed=1,2,3", "steps=10-30 (+5)"], {"prompt": "a lighthouse"})
        experiment = Experiment.from_text(text)
    """
    parsed: dict[str, Any] = {}
    for text in make_list(axes):
        axis, values = parse_axis(text)
        if axis in parsed:
            raise UsageError(f"--axis {axis} is given twice.", hint=f"Give all its values at once. {_FORMS}")
        parsed[axis] = values
    data: dict[str, Any] = {"name": name} if name else {}
    if paths_from is not None and saved_in is not None and paths_from.resolve() != saved_in.resolve():
        data["folder"] = Path(os.path.relpath(paths_from.resolve(), saved_in.resolve())).as_posix()
    data |= {"workflow": workflow, "inputs": make_plain(inputs or {}), "axes": parsed}
    document = Document({key: part for key, part in data.items() if part != {}}, Path())
    apply_overrides(document, overrides)
    return dump_yaml(document.data)


def parse_axis(text: str) -> tuple[str, Any]:
    """Parse an axis as "name=values" into its name, and what an experiment file would hold under it.

    Raises UsageError where there is no name or no value, or a range is incomplete; the hint shows the right form.
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


def _parse_values(name: str, text: str) -> Any:
    role = find_role(name)
    kind = role.kind if role is not None else None
    if text.startswith("@"):
        return _parse_file(name, text[1:].strip())
    if text[0] in "[{" and (inside := _parse_yaml(text)) is not None:
        return inside
    if kind in ("integer", "number"):
        return parse_numbers(text, name)
    if kind == "image" and text.startswith("board:"):
        return {"board": text.removeprefix("board:")}
    if kind == "image":
        paths = _split(text)
        return {"images": paths} if any(sign in path for path in paths for sign in _GLOB) else paths
    if kind is None:
        try:
            return parse_numbers(text, name)
        except ValueError:
            words = _split(text)
            return [word.lower() == "true" for word in words] if {w.lower() for w in words} <= _TRUTHS else words
    return [None if word == "null" and role is not None and role.optional else word for word in _split(text)]


_TRUTHS: Final = {"true", "false"}


def parse_input(name: str, text: str) -> Any:
    """Parse the value of an input as an experiment file would hold it: what the input takes decides, not its look.

    A field of the workflow takes a number, true, false or null where the text is written so.
    """
    role = find_role(name)
    if text == "null" and (role is None or role.optional):
        return None
    if role is not None and role.kind in ("stack", "controls"):
        return _parse_yaml(text) or text
    if role is not None and role.kind not in ("integer", "number"):
        return text
    if role is None and text.lower() in _TRUTHS:
        return text.lower() == "true"
    number = parse_number(text)
    return text if number is None or math.isinf(number) else number


def _parse_file(name: str, written: str) -> dict[str, Any]:
    """Parse what follows an @: lines of a text, a column of a table (FILE:COLUMN), settings, or images."""
    table = re.fullmatch(r"(.*?\.[ct]sv):(.*)", written, re.IGNORECASE)  # C:\looks.csv:Look has two colons
    path, column = (table[1], table[2]) if table else (written, "")
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


def apply_overrides(document: Document, texts: str | Iterable[str]) -> None:
    """Apply `path=value` texts, as given to --set, in place. Raises UsageError where one changes nothing."""
    changed = [_apply_override(document, text) for text in make_list(texts)]
    axes = document.data.get("axes")
    for section, *names in changed:
        if section == "inputs" and isinstance(axes, dict) and names and names[0] in axes:
            message = f"--set inputs.{names[0]} changes nothing: the axis {names[0]} sets this input."
            raise UsageError(message, hint=f"Write --set axes.{names[0]}=[VALUE, VALUE].")


def _apply_override(document: Document, text: str) -> DocumentPath:
    """Apply one text; return the place that it changed."""
    path, equals, written = text.partition("=")
    path = path.strip()
    if not equals or not path:
        raise UsageError(f"--set {text} has no value.", hint="It is written --set path=value, as in inputs.steps=20.")
    literal = json.dumps(written.strip(), ensure_ascii=False)
    quoted = f"Quote text for the shell and for YAML: --set '{path}={literal}'"
    try:
        value = read_text(written, folder=document.folder, shown=f"--set {path}").data
    except ExperimentError as error:
        problems = [Problem(message=p.message) for p in error.problems]
        hint = None if "'" in written or written.strip().startswith(('"', "[")) else quoted
        raise UsageError(f"--set {text}: {problems[0] if problems else error.message}", hint=hint) from error
    place = _resolve(document.data, path)
    if place[0] == "include":
        raise UsageError("--set include: a file is included before --set is applied.", hint="Write it in the file.")
    if place[:-1] == ("axes",) and isinstance(value, str) and (meant := suggest_axis(str(place[1]), value)):
        hint = f'Write --set {path}="{meant}".'
        raise UsageError(f"--set {path}: only --axis takes the short form {value}.", hint=hint)
    if misread := _find_misreading(place, value, written.strip()):
        raise UsageError(f"--set {path}: YAML reads {written} as {misread}.", hint=quoted)
    mark = Mark(1, 1, f"--set {path}", written="" if isinstance(value, str) else written.strip())
    document.replace_marks(place, Document(None, document.folder, {place: mark}, {place: mark}))
    axes = document.data.get("axes")
    if value is None and written.strip() and place[:-1] == ("axes",) and isinstance(axes, dict) and place[1] in axes:
        del axes[place[1]]  # as null does in a file that builds on another
    else:
        _assign(document.data, place, value, path)
    return place


def _find_misreading(place: DocumentPath, value: Any, written: str) -> str | None:
    """Name what YAML reads in place of a text whose quotes the shell took away; None where it reads that text."""
    role = find_role(str(place[1])) if len(place) == 2 and place[0] == "inputs" else None
    if role is None or role.kind not in ("text", "name"):
        return None
    if isinstance(value, Mapping | list):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    if value is None and written.startswith(("#", "&", "!")):
        return "a comment" if written.startswith("#") else "nothing"
    is_cut = isinstance(value, str) and written[:1] not in ("'", '"', "|", ">") and value.split() != written.split()
    return quote(value) if is_cut else None


def _resolve(data: Mapping[str, Any], path: str) -> DocumentPath:
    """Find the place that a path means: names of axes and addresses may have dots in them."""
    sections = list_section_keys()
    section, dot, rest = path.partition(".")
    inside = data.get(section if section in sections else "axes")
    inside = inside if isinstance(inside, Mapping) else {}
    if section not in sections:
        known = {name: f"inputs.{name}" for name in INPUT_NAMES} | {name: f"axes.{name}" for name in inside}
        raise UsageError(f"--set: there is no key {path}.{did_you_mean(section, [*known, *sections], known)}")
    if not dot:
        return (section,)
    held = [key for key in inside if f"{rest}.".startswith(f"{key}.")]
    if section in MERGED and held:
        key = max(held, key=len)
        return (section, key, *_split_steps(rest[len(key) + 1 :]))
    words = (INPUT_NAMES if section == "inputs" else ROLE_NAMES) if section in MERGED else sections[section]
    if not words:
        raise UsageError(f"--set {path}: {section} is one value.", hint=f"Write --set {section}=….")
    head, _, tail = rest.partition(".")
    if section not in MERGED and head in words:
        return (section, head, *_split_steps(tail))
    axes = data.get("axes") if section == "inputs" else None
    known_axes = axes if isinstance(axes, Mapping) else {}
    names = (*words, *(inside if section in MERGED else ()))
    meant = {name: f"{'axes' if name in known_axes else section}.{name}" for name in names}
    near = did_you_mean(head, meant, meant)
    slip = near and section == "axes" and rest.rpartition(".")[2] in AXIS_KEYS  # axes.sed.count is no address
    if section in MERGED and (rest in words or parse_numbered(rest) or (is_address(rest) and not slip)):
        return (section, rest)
    raise UsageError(f"--set: there is no key {path}.{near}")


def _split_steps(tail: str) -> DocumentPath:
    return tuple(int(part) if part.isdecimal() else part for part in tail.split(".")) if tail else ()


def _assign(data: dict[str, Any], place: DocumentPath, value: Any, path: str) -> None:
    target: Any = data
    for at, part in enumerate(place):
        key: Any = str(part) if isinstance(target, dict) else part
        if not (isinstance(target, dict) or (isinstance(target, list) and isinstance(key, int) and key < len(target))):
            raise UsageError(f"--set {path}: {join_path(place[:at])} holds no {part}.")
        if at == len(place) - 1:
            target[key] = value
        elif isinstance(target, dict) and target.get(key) is None:
            target[key] = {}
        target = target[key]
