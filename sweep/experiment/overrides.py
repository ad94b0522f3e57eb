"""Layers of an experiment file: base files that it includes lie below it, `--set` overrides above it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from sweep.errors import ExperimentError, Problem, UsageError, did_you_mean
from sweep.experiment.file_schema import AXIS_KEYS, MERGED, list_section_keys
from sweep.experiment.problems import DocumentPath, Mark, did_you_mean_file, join_path, make_problem
from sweep.experiment.yaml_document import Document, expand_path, path_kind, read_file, read_text
from sweep.role_table import INPUT_NAMES, ROLE_NAMES, find_role, is_address, parse_numbered

MAX_INCLUDES: Final = 20


def include_files(document: Document, path: Path, shown: str, parents: tuple[Path, ...] = ()) -> Document:
    """Lay `document` over the files its `include` names, nearest last. Raises ExperimentError for a cycle, a file
    that is missing or wrong.
    """
    chain = (*parents, path)
    named = document.data.pop("include")
    mark = document.find_mark(("include",), value=True)
    names = named if isinstance(named, list) else [named]
    if not all(isinstance(name, str) and name for name in names):
        raise ExperimentError.of([make_problem(mark, "include must be a file, or a list of files")], shown)
    base: Document | None = None
    for name in names:
        layer = _load_include(name, document, chain, mark, shown)
        base = layer if base is None else merge_documents(base, layer)
    return document if base is None else merge_documents(base, document)


def _load_include(name: str, document: Document, chain: tuple[Path, ...], mark: Mark | None, shown: str) -> Document:
    path = expand_path(document.folder, name)
    if path in chain or len(chain) > MAX_INCLUDES:
        way = " → ".join(p.name for p in (*chain, path))
        raise ExperimentError.of([make_problem(mark, f"include goes in a circle: {way}")], shown)
    if (kind := path_kind(path)) != "file":
        what = "is a folder, not a file" if kind == "folder" else f"does not exist.{did_you_mean_file(path)}"
        raise ExperimentError.of([make_problem(mark, f"include: {name} {what}")], shown)
    layer = read_file(path, str(path.name), source=name)
    if layer.data is None:
        layer.data = {}
    if not isinstance(layer.data, dict):
        raise ExperimentError.of([make_problem(mark, f"include: {name} does not hold a mapping")], shown)
    own = layer.data.pop("folder", None)
    if isinstance(own, str):
        layer.folder = expand_path(layer.folder, own)
    if "include" in layer.data:
        layer = include_files(layer, path, str(path.name), chain)
    folders: dict[DocumentPath, Path | None] = {(key,): layer.folder for key in layer.data}
    layer.folders = folders | {place: folder or layer.folder for place, folder in layer.folders.items()}
    return layer


def merge_documents(base: Document, top: Document) -> Document:
    """Lay `top` over `base`. Sections are merged entry by entry, and null takes an entry out; an entry itself
    (an axis, an input) is replaced whole, since half of one axis and half of another make none.
    """
    result = Document(data=dict(base.data), folder=top.folder)
    result.keys, result.values, result.folders = dict(base.keys), dict(base.values), dict(base.folders)
    result.values[()] = top.values.get((), Mark(1, 1))
    for key, value in top.data.items():
        below = result.data.get(key)
        if key in MERGED and isinstance(value, dict) and isinstance(below, dict):
            result.data[key] = dict(below)
            for name, entry in value.items():
                _replace(result, top, (key, name))
                result.data[key][name] = entry
                if entry is None and key == "axes":
                    del result.data[key][name]
        else:
            _replace(result, top, (key,))
            result.data[key] = value
    return result


def _replace(result: Document, top: Document, place: DocumentPath) -> None:
    depth = len(place)
    result.forget(place)
    result.keys |= {p: m for p, m in top.keys.items() if p[:depth] == place}
    result.values |= {p: m for p, m in top.values.items() if p[:depth] == place}
    result.folders = {p: folder for p, folder in result.folders.items() if p[:depth] != place}
    result.folders[place] = top.folders.get(place, top.folders.get(place[:1]))


def apply_override(document: Document, text: str) -> None:
    """Apply a `path=value` text, as given to --set, in place.

    Raises:
        UsageError: The path leads nowhere, or the value is not YAML.
    """
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
    if _is_unquoted(place, value, written):
        nothing = "a comment" if written.strip().startswith("#") else "nothing"
        kind = "a mapping" if isinstance(value, Mapping) else nothing if value is None else "a list"
        raise UsageError(f"--set {path}: YAML reads {written} as {kind}.", hint=quoted)
    document.forget(place)
    document.keys[place] = document.values[place] = Mark(1, 1, f"--set {path}")
    document.folders[place] = None
    document.texts[place] = "" if isinstance(value, str) else written.strip()
    _assign(document.data, place, value, path)


def _is_unquoted(place: DocumentPath, value: Any, written: str) -> bool:
    """Tell whether the value is a text that YAML reads as something else, as the shell took its quotes away."""
    role = find_role(str(place[1])) if len(place) == 2 and place[0] == "inputs" else None
    taken = isinstance(value, Mapping | list) or (value is None and written.strip().startswith(("#", "&", "!")))
    return role is not None and role.kind in ("text", "name") and taken


def _resolve(data: Any, path: str) -> DocumentPath:
    fields = list_section_keys()
    section, dot, rest = path.partition(".")
    if section not in fields:
        raise UsageError(f"--set: there is no key {path}.{_suggest_key(section, data, fields)}")
    if not dot:
        return (section,)
    inside = data.get(section)
    inside = inside if isinstance(inside, dict) else {}
    if section in ("inputs", "axes", "roles"):
        return (section, *_resolve_entry(inside, section, rest, path))
    head, _, tail = rest.partition(".")
    known = fields[section]
    if known and head not in known:
        near = did_you_mean(head, known).replace("mean ", f"mean {section}.")
        raise UsageError(f"--set: there is no key {path}.{near}")
    if not known:
        raise UsageError(f"--set {path}: {section} is one value.", hint=f"Write --set {section}=….")
    return (section, head, *_split_steps(tail))


def _suggest_key(key: str, data: Mapping[str, Any], fields: Iterable[str]) -> str:
    """Suggest what a key at the top level was meant to be: an axis, an input, or a section spelled wrong."""
    axes = data.get("axes")
    if isinstance(axes, Mapping) and key in axes:
        return f" Did you mean axes.{key}?"
    if key in INPUT_NAMES:
        return f" Did you mean inputs.{key}?"
    near = did_you_mean(key, [*fields, *INPUT_NAMES])
    role = near.removeprefix(" Did you mean ").removesuffix("?")
    return f" Did you mean inputs.{role}?" if role in INPUT_NAMES else near


def _resolve_entry(inside: Mapping[str, Any], section: str, rest: str, path: str) -> DocumentPath:
    held = [key for key in inside if rest == key or rest.startswith(f"{key}.")]
    if held:
        key = max(held, key=len)
        return (key, *_split_steps(rest[len(key) + 1 :]))
    words = INPUT_NAMES if section == "inputs" else ROLE_NAMES
    head, dot, _ = rest.partition(".")
    near = did_you_mean(head if dot else rest, [*inside, *words]).replace("mean ", f"mean {section}.")
    slip = near and section == "axes" and rest.rpartition(".")[2] in AXIS_KEYS  # axes.sed.count is no address
    if rest in words or parse_numbered(rest) or (is_address(rest) and not slip):
        return (rest,)
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
