"""Reads YAML 1.2 into documents: plain data with its places, and nothing that a hostile file could make of it.

Built on ruamel.yaml's parser, not on its constructors: nothing but text, numbers, booleans, null, lists and mappings
can come out, aliases are counted as they expand, and nesting is bounded before anything recurses.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from sweep.errors import ExperimentError, Problem
from sweep.experiment.document import Document, Mark, Place, problem_at
from sweep.experiment.files import did_you_mean_file
from sweep.experiment.mistakes import syntax_problem

MAX_BYTES: Final = 2_000_000
MAX_NODES: Final = 100_000
MAX_DEPTH: Final = 40
MAX_DIGITS: Final = 300

_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]+\Z")
_OTHER_INT = re.compile(r"(?:0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_HALVES = re.compile("[\ud800-\udfff]")
_TAGS: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))


def read_file(path: Path, shown: str, source: str | None = None) -> Document:
    """The document in the file at `path`. Raises ExperimentError, naming the file as `shown`, where it is none,
    is too large, is not UTF-8, or is not YAML.
    """
    try:
        if path.is_dir():
            raise ExperimentError(f"{shown} is a folder, not a file.", source=shown)
        if not path.exists():
            raise ExperimentError(f"{shown} does not exist.{did_you_mean_file(path)}", source=shown)
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ExperimentError(f"{shown} cannot be read: {error.strerror or error}.", source=shown) from error
    if len(raw) > MAX_BYTES:
        raise ExperimentError(f"{shown} is larger than {MAX_BYTES // 1_000_000} MB; that is no experiment.")
    if raw.startswith(b"\x89PNG"):
        raise ExperimentError(
            f"{shown} is a picture, not an experiment.",
            source=shown,
            hint=f"sweep init {shown} writes an experiment for the workflow in it.",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExperimentError.of([_encoding_problem(raw, error.start)], shown) from error
    return read_text(text, folder=path.resolve().parent, shown=shown, source=source)


def read_text(text: str, *, folder: Path, shown: str, source: str | None = None) -> Document:
    """The document in `text`. Raises ExperimentError with line and column where it is not YAML."""
    builder = _Builder(source)
    try:
        root = builder.build(YAML(typ="safe", pure=True).parse(text))
    except MarkedYAMLError as error:
        raise ExperimentError.of([syntax_problem(error, text)], shown) from error
    except ReaderError as error:
        raise ExperimentError.of([_character_problem(text, int(error.position))], shown) from error
    except YAMLError as error:
        message = " ".join(str(error).split())
        raise ExperimentError.of([Problem(message=f"is not YAML: {message}")], shown) from error
    except _RefusedError as refusal:
        raise ExperimentError.of([problem_at(refusal.mark, refusal.message)], shown) from refusal
    if builder.problems:
        raise ExperimentError.of(builder.problems, shown)
    document = Document(data=None, folder=folder)
    if root is not None:
        try:
            document.data = _Expander(document).expand(root, (), 0)
        except _RefusedError as refusal:
            raise ExperimentError.of([problem_at(refusal.mark, refusal.message)], shown) from refusal
    return document


def _encoding_problem(raw: bytes, at: int) -> Problem:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Problem(message="is UTF-16 text; save it as UTF-8", line=1, column=1)
    begin = raw.rfind(b"\n", 0, at) + 1
    column = len(raw[begin:at].decode("utf-8")) + 1
    return Problem(message="is not UTF-8 text from here on", line=raw[:at].count(b"\n") + 1, column=column)


def _character_problem(text: str, at: int) -> Problem:
    begin = text.rfind("\n", 0, at) + 1
    message = f"a control character, U+{ord(text[at]):04X}, stands here; YAML holds none"
    return Problem(message=message, line=text.count("\n", 0, at) + 1, column=at - begin + 1)


class _RefusedError(Exception):
    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message


@dataclass(slots=True, eq=False)
class _Node:
    mark: Mark
    scalar: Any = None
    items: list[_Node] | None = None
    entries: dict[str, tuple[Mark, _Node]] | None = None
    pending: tuple[str, Mark] | None = None  # a key that waits for its value
    nothing: bool = False  # null that is not even written


class _Builder:
    """Events to nodes without recursion; keys are text as written."""

    def __init__(self, source: str | None) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._anchors: dict[str, _Node] = {}
        self._open: list[_Node] = []
        self._root: _Node | None = None
        self._documents = 0
        self._count = 0

    def build(self, events: Iterator[Any]) -> _Node | None:
        for event in events:
            if isinstance(event, DocumentStartEvent):
                self._documents += 1
                if self._documents > 1:
                    raise _RefusedError(self._mark(event), "a second document begins here; a file holds one experiment")
            elif isinstance(event, MappingEndEvent | SequenceEndEvent):
                self._open.pop()
            elif isinstance(event, NodeEvent):
                self._node(event)
        return self._root

    def _mark(self, event: Any) -> Mark:
        return Mark(event.start_mark.line + 1, event.start_mark.column + 1, self.source)

    def _node(self, event: Any) -> None:
        mark = self._mark(event)
        self._count += 1
        if self._count > MAX_NODES:
            raise _RefusedError(mark, f"the file holds more than {MAX_NODES} values")
        parent = self._open[-1] if self._open else None
        if parent is not None and parent.entries is not None and parent.pending is None:
            self._key(parent, event, mark)
            return
        node = self._anchors.get(event.anchor) if isinstance(event, AliasEvent) else self._fresh(event, mark)
        if node is None:
            raise _RefusedError(mark, f"*{event.anchor} stands for nothing: no &{event.anchor} before it")
        self._attach(parent, node)
        if not isinstance(event, AliasEvent):
            if event.anchor:
                self._anchors[event.anchor] = node
            if not isinstance(event, ScalarEvent):
                self._open.append(node)
                if len(self._open) > MAX_DEPTH:
                    raise _RefusedError(mark, f"nested deeper than {MAX_DEPTH} levels")

    def _key(self, parent: _Node, event: Any, mark: Mark) -> None:
        if not isinstance(event, ScalarEvent):
            raise _RefusedError(mark, "a key must be plain text")
        key = self._whole(str(event.value), mark)
        if key == "<<" and event.style is None:
            raise _RefusedError(mark, "merge keys (<<) are no part of YAML 1.2; include: lays a file over a base file")
        assert parent.entries is not None
        if key in parent.entries:
            first = parent.entries[key][0]
            self.problems.append(problem_at(mark, f"{key} stands twice; first in line {first.line}"))
        parent.pending = (key, mark)

    def _attach(self, parent: _Node | None, node: _Node) -> None:
        if parent is None:
            self._root = node
        elif parent.items is not None:
            parent.items.append(node)
        elif parent.entries is not None and parent.pending is not None:
            key, mark = parent.pending
            if node.nothing:
                node.mark = mark  # its own is where the next thing begins, on a line further down
            parent.entries.setdefault(key, (mark, node))
            parent.pending = None

    def _fresh(self, event: Any, mark: Mark) -> _Node:
        tag = str(event.tag) if event.tag else None
        if tag is not None and tag not in (*_TAGS, "!"):
            raise _RefusedError(mark, f"the tag {tag} is not allowed; an experiment is plain data")
        if isinstance(event, MappingStartEvent):
            return _Node(mark, entries={})
        if isinstance(event, SequenceStartEvent):
            return _Node(mark, items=[])
        text = self._whole(str(event.value), mark)
        mark = replace(mark, opening=_opening(event, text))
        plain = event.style is None and tag in (None, *_TAGS - {"tag:yaml.org,2002:str"})
        return _Node(mark, scalar=self._scalar(text, mark) if plain else text, nothing=plain and not text)

    def _whole(self, text: str, mark: Mark) -> str:
        """Characters above U+FFFF, which JSON writes as two escapes, put together again."""
        if not _HALVES.search(text):
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.problems.append(problem_at(mark, "half a character stands here: a \\ud… without its other half"))
            return ""

    def _scalar(self, text: str, mark: Mark) -> Any:
        if _NULL.match(text):
            return None
        if _BOOL.match(text):
            return text[0] in "tT"
        if _INT.match(text) or _OTHER_INT.match(text):
            if len(text) > MAX_DIGITS:
                raise _RefusedError(mark, f"a number of more than {MAX_DIGITS} digits")
            return int(text) if _INT.match(text) else int(text, 0)
        if _NOT_FINITE.match(text) or (_FLOAT.match(text) and math.isinf(float(text))):
            self.problems.append(problem_at(mark, f"{text[:40]} is not a number that can be set"))
            return 0
        return float(text) if _FLOAT.match(text) else text


def _opening(event: ScalarEvent, text: str) -> int | None:
    """See Mark. None for a text over several lines, in a block, or with escapes in it."""
    if event.start_mark.line != event.end_mark.line:
        return None
    around = event.end_mark.column - event.start_mark.column - len(text)
    return {0: 0, 2: 1}.get(around) if event.style in (None, "'", '"') else None


class _Expander:
    """Nodes to plain values; an alias costs what it stands for each time it is used."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0

    def expand(self, node: _Node, place: Place, depth: int) -> Any:
        self._count += 1
        if self._count > MAX_NODES:
            raise _RefusedError(node.mark, f"aliases expand to more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            raise _RefusedError(node.mark, f"nested deeper than {MAX_DEPTH} levels; does an alias hold itself?")
        self._document.values[place] = node.mark
        if node.items is not None:
            return [self.expand(item, (*place, at), depth + 1) for at, item in enumerate(node.items)]
        if node.entries is not None:
            result = {}
            for key, (mark, value) in node.entries.items():
                self._document.keys[(*place, key)] = mark
                result[key] = self.expand(value, (*place, key), depth + 1)
            return result
        return node.scalar
