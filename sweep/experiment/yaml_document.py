"""Documents: YAML 1.2 read into plain data, with line and column of every key and value, and files that include others.

Built on ruamel.yaml's parser, not on its constructors: nothing but text, numbers, booleans, null, lists and mappings
can come out of a hostile file, aliases are counted as they expand, and nesting is bounded before anything recurses.
"""

from __future__ import annotations

import codecs
import io
import math
import os
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

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
)
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import SafeRepresenter

from sweep.errors import IMAGE_ENDINGS, ExperimentError, Problem, did_you_mean_file
from sweep.experiment.problems import DocumentPath, Mark, make_problem
from sweep.experiment.range_notation import MAX_DIGITS, parse_number
from sweep.role_table import describe_missing
from sweep.text import quote_argument


@dataclass(slots=True)
class Document:
    """The data that a YAML text holds, and the place of each key and value. Relative paths start from `folder`."""

    data: Any
    folder: Path
    keys: dict[DocumentPath, Mark] = field(default_factory=dict)
    values: dict[DocumentPath, Mark] = field(default_factory=dict)

    def find_mark(self, place: DocumentPath, /, *, value: bool = False) -> Mark | None:
        """Find the mark of the key (or the value) at `place`, or else of the nearest thing above it."""
        first, second = (self.values, self.keys) if value else (self.keys, self.values)
        above = (place[:length] for length in range(len(place), -1, -1))
        return next((mark for each in above if (mark := first.get(each) or second.get(each))), None)

    def replace_marks(self, place: DocumentPath, other: Document) -> None:
        """Replace the marks of `place`, and of all that is in it, by those of another document."""
        for own, new in ((self.keys, other.keys), (self.values, other.values)):
            for old in [each for each in own if each[: len(place)] == place]:
                del own[old]
            own.update((each, mark) for each, mark in new.items() if each[: len(place)] == place)


_WORDS: Final = (  # what the parser says, and what that comes of
    (
        r"mapping values are not allowed|expected ',' or '[]}]', but got ':'",
        "a second colon in the line, or a wrong indent; text with ': ' in it needs quotes",
    ),
    (r"expected the node content, but found '<stream end>'", "a value or a closing bracket is missing at the end"),
    (r"found character '(.)' that cannot start any token", r"put text that begins with \1 in quotes"),
    (r"found unexpected end of stream", "this quote is never closed"),
    (r"could not find expected ':'", "a key without its colon, or text that goes on too far left"),
    (r"expected <block end>, but found", "the indentation fits nothing above it"),
    (r"expected alphabetic or numeric character", "a name is missing after & or *; text that begins so needs quotes"),
    (r"expected ',' or '([]}])', but got '<stream end>'", r"this bracket is never closed; \1 is missing"),
)
_TOLD_LATE: Final = ("found unexpected end of stream", "'<stream end>'", "could not find expected ':'")


def _describe_syntax_error(error: MarkedYAMLError, text: str) -> Problem:
    """Describe a YAML error with its place: where it begins, for an error that the parser notices only further down."""
    said = " ".join(str(error.problem or error.context or "is not YAML").split())
    mark: Any = error.problem_mark or error.context_mark
    if error.context_mark is not None and any(words in said for words in _TOLD_LATE):
        mark = error.context_mark
    if mark is None:
        return Problem(message=said)
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: mark.column + 1]:
        said = "this line is indented with a tab; replace the tab with spaces"
    translated = (found.expand(words) for pattern, words in _WORDS if (found := re.search(pattern, said)))
    return Problem(message=next(translated, said), line=mark.line + 1, column=mark.column + 1)


def path_kind(path: Path) -> Literal["file", "folder", ""]:
    """Tell whether a file or a folder is at a path; neither where no system takes such a path."""
    try:
        return "file" if path.is_file() else "folder" if path.is_dir() else ""
    except (OSError, ValueError):
        return ""


def expand_path(folder: Path, written: str) -> Path:
    """Return the absolute path of a path that starts from `folder`, or from a home where it begins with a tilde."""
    try:
        path = Path(written).expanduser()
    except RuntimeError:  # the home of nobody
        path = Path(written)
    return Path(os.path.normpath(folder / path))


MAX_DOCUMENT_BYTES: Final = 2_000_000
MAX_NODES: Final = 100_000
MAX_DOCUMENT_DEPTH: Final = 40
_TOO_DEEP: Final = f"nested deeper than {MAX_DOCUMENT_DEPTH} levels; does an alias hold itself?"

_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_OTHER_INT = re.compile(r"(?:0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_NOT_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_HALVES = re.compile("[\ud800-\udfff]")
_TAGS: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))


def read_file(path: Path, shown: str, source: str | None = None) -> Document:
    """Read the document in the file at `path`, which errors call `shown`. Raises ExperimentError."""
    try:
        if path.is_dir() or not path.exists():
            raise ExperimentError(describe_missing(shown, path), source=shown)
        with path.open("rb") as stream:
            raw = stream.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise ExperimentError(f"{shown} cannot be read: {error.strerror or error}.", source=shown) from error
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise ExperimentError(f"{shown} is larger than {MAX_DOCUMENT_BYTES // 1_000_000} MB; experiments are smaller.")
    if path.suffix.lower() in IMAGE_ENDINGS or raw.startswith(b"\x89PNG"):
        hint = f"sweep run img2img --image {quote_argument(shown)} renders variations of it."
        if raw.startswith(b"\x89PNG"):
            hint += f" sweep init {quote_argument(shown)} writes an experiment for the workflow in it."
        raise ExperimentError(f"{shown} is an image, not an experiment.", source=shown, hint=hint)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        is_utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        message = "is UTF-16 text; save it as UTF-8" if is_utf16 else "is not UTF-8 text from here on"
        raise ExperimentError.of([_make_problem_after(error.object[: error.start].decode(), message)], shown) from error
    return read_text(text, folder=path.resolve().parent, shown=shown, source=source)


def read_text(text: str, *, folder: Path, shown: str, source: str | None = None) -> Document:
    """Read the document in `text`. Raises ExperimentError with line and column where it is not YAML."""
    reader = _Reader(Document(data=None, folder=folder), shown, source)
    try:
        return reader.read(YAML(typ="safe", pure=True).parse(text))
    except MarkedYAMLError as error:
        raise ExperimentError.of([_describe_syntax_error(error, text)], shown) from error
    except ReaderError as error:
        at = int(error.position)
        message = f"a control character, U+{ord(text[at]):04X}, is not allowed in YAML"
        raise ExperimentError.of([_make_problem_after(text[:at], message)], shown) from error
    except YAMLError as error:
        message = " ".join(str(error).split())
        raise ExperimentError.of([Problem(message=f"is not YAML: {message}")], shown) from error


def _make_problem_after(text: str, message: str) -> Problem:
    return Problem(message=message, line=text.count("\n") + 1, column=len(text) - text.rfind("\n"))


class _Reader:
    """Makes plain data of the parser's events, and notes where each key and value stands; keys are text as written."""

    def __init__(self, document: Document, shown: str, source: str | None) -> None:
        self.document = document
        self.shown = shown
        self.source = source
        self.problems: list[Problem] = []
        self._anchors: dict[str, tuple[DocumentPath, Any]] = {}
        self._open: list[Any] = []  # the values that are being read, from the outermost one in

    def read(self, events: Iterator[Any]) -> Document:
        for event in events:
            if isinstance(event, NodeEvent):
                self.document.data = self._read_node(event, events, ())
            elif isinstance(event, DocumentStartEvent) and self.document.values:
                self._refuse(self._make_mark(event), "a second document begins here; a file holds one experiment")
        if self.problems:
            raise ExperimentError.of(self.problems, self.shown)
        return self.document

    def _make_mark(self, event: Any) -> Mark:
        return Mark(event.start_mark.line + 1, event.start_mark.column + 1, self.source)

    def _refuse(self, mark: Mark, message: str) -> NoReturn:
        raise ExperimentError.of([make_problem(mark, message)], self.shown)

    def _read_node(self, event: Any, events: Iterator[Any], place: DocumentPath) -> Any:
        """Read the value that begins with this event, and all events in it."""
        mark = self._make_mark(event)
        if isinstance(event, AliasEvent):
            return self._copy_anchor(event.anchor, place, mark)
        tag = str(event.tag) if event.tag else None
        if tag is not None and tag not in (*_TAGS, "!"):
            self._refuse(mark, f"the tag {tag} is not allowed; an experiment is plain data")
        if isinstance(event, ScalarEvent):
            value = self._read_scalar(event, tag, place, mark)
        else:
            value = {} if isinstance(event, MappingStartEvent) else []
            self._note_value(place, mark)
            if len(place) >= MAX_DOCUMENT_DEPTH:
                self._refuse(mark, f"nested deeper than {MAX_DOCUMENT_DEPTH} levels")
        if event.anchor:
            self._anchors[event.anchor] = (place, value)
        self._open.append(value)
        if isinstance(value, dict):
            while not isinstance(inner := next(events), MappingEndEvent):
                key = self._read_key(inner, place, value)
                value[key] = self._read_node(next(events), events, (*place, key))
        elif isinstance(value, list):
            while not isinstance(inner := next(events), SequenceEndEvent):
                value.append(self._read_node(inner, events, (*place, len(value))))
        self._open.pop()
        return value

    def _read_key(self, event: Any, place: DocumentPath, holder: Mapping[str, Any]) -> str:
        mark = self._make_mark(event)
        if not isinstance(event, ScalarEvent):
            self._refuse(mark, "a key must be plain text")
        key = self._check_text(str(event.value), mark)
        if key == "<<" and event.style is None:
            self._refuse(mark, "merge keys (<<) are not part of YAML 1.2; use include: to build on another file")
        first = self.document.keys.setdefault((*place, key), mark)
        if key in holder:
            self.problems.append(make_problem(mark, f"{key} appears twice; first in line {first.line}"))
        return key

    def _note_value(self, place: DocumentPath, mark: Mark) -> None:
        self.document.values[place] = mark
        if len(self.document.values) > MAX_NODES:
            found = "aliases expand to" if self._anchors else "the file holds"
            self._refuse(mark, f"{found} more than {MAX_NODES} values")

    def _copy_anchor(self, name: str, place: DocumentPath, mark: Mark) -> Any:
        if name not in self._anchors:
            self._refuse(mark, f"*{name} refers to nothing: there is no &{name} before it")
        origin, value = self._anchors[name]
        if any(value is holder for holder in self._open):
            self._refuse(self.document.values[origin], _TOO_DEEP)
        return self._copy(value, origin, place)

    def _copy(self, value: Any, origin: DocumentPath, place: DocumentPath) -> Any:
        """Copy a value with its marks: an alias costs what it stands for each time it is used."""
        document = self.document
        self._note_value(place, document.values[origin])
        if len(place) > MAX_DOCUMENT_DEPTH:
            self._refuse(document.values[origin], _TOO_DEEP)
        if isinstance(value, list):
            return [self._copy(part, (*origin, at), (*place, at)) for at, part in enumerate(value)]
        if isinstance(value, dict):
            document.keys |= {(*place, key): document.keys[*origin, key] for key in value}
            return {key: self._copy(part, (*origin, key), (*place, key)) for key, part in value.items()}
        return value

    def _read_scalar(self, event: ScalarEvent, tag: str | None, place: DocumentPath, mark: Mark) -> Any:
        text = self._check_text(str(event.value), mark)
        plain = event.style is None and tag in (None, *_TAGS - {"tag:yaml.org,2002:str"})
        if plain and not text:
            mark = self.document.keys.get(place, mark)  # its own is where the next thing begins, further down
        value = self._parse_scalar(text, mark) if plain else text
        written = "" if isinstance(value, str) else text
        self._note_value(place, replace(mark, opening=_count_opening(event, text), written=written))
        return value

    def _check_text(self, text: str, mark: Mark) -> str:
        """Put characters above U+FFFF, which JSON writes as two escapes, together again."""
        if not _HALVES.search(text):
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.problems.append(make_problem(mark, "a \\ud… without the second \\ud… that it needs to be a character"))
            return ""

    def _parse_scalar(self, text: str, mark: Mark) -> Any:
        if _NULL.match(text):
            return None
        if _BOOL.match(text):
            return text[0] in "tT"
        is_long = len(text) > MAX_DIGITS
        number = parse_number(text)
        if _OTHER_INT.match(text):
            number = math.inf if is_long else int(text, 0)
        if number == math.inf or number == -math.inf or _NOT_FINITE.match(text):
            few = f"a number of more than {MAX_DIGITS} digits"
            self.problems.append(make_problem(mark, few if is_long else f"{text} is not a number that can be set"))
            return 0
        return text if number is None else number


def _count_opening(event: ScalarEvent, text: str) -> int | None:
    """Count the characters before the text itself, such as a quote; None where they do not follow as they are."""
    if event.start_mark.line != event.end_mark.line:
        return None
    around = event.end_mark.column - event.start_mark.column - len(text)
    return {0: 0, 2: 1}.get(around) if event.style in (None, "'", '"') else None


def make_plain(value: Any) -> Any:
    """Copy a value as a file would hold it: lists for tuples, ranges and arrays, text for paths, values for enums."""
    if isinstance(value, Enum):
        value = value.value
    if getattr(value, "dtype", None) in ("float16", "float32"):  # else 7.1 becomes 7.099999904632568
        value = value.astype(str).astype(float)
    if hasattr(value, "tolist"):  # of numpy and pandas
        return make_plain(value.tolist())
    if hasattr(value, "to_dict"):  # a DataFrame, for zip
        return {str(name): make_plain(value[name]) for name in value}
    if isinstance(value, Mapping):
        return {str(key): make_plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | range):
        return [make_plain(part) for part in value]
    return value.as_posix() if isinstance(value, Path) else value


def quote_source(document: Document, place: DocumentPath, message: str) -> str:
    """Let a message that asks for quotes show the text as it is written at `place`: "007", not "7"."""
    mark = document.values.get(place)
    if mark is None or not mark.written:
        return message
    return re.sub(r'needs quotes: "[^"]*"', lambda _: f'needs quotes: "{mark.written}"', message)


def write_as_run(data: Mapping[str, Any], name: str, folder: Path, rewritten: Mapping[DocumentPath, Any]) -> str:
    """Write an experiment so that it loads again from any place: named, `folder` absolute, included paths rewritten."""
    result = deepcopy(dict(data))
    for place, path in rewritten.items():
        holder: Any = result
        for part in place[:-1]:
            holder = holder[part]
        holder[place[-1]] = path
    body = {key: value for key, value in result.items() if key not in ("name", "folder", "include")}
    return dump_yaml({"name": name, "folder": folder.as_posix(), **body})


class _Representer(SafeRepresenter):
    """Quotes the texts that the emitter writes plainly, and that are then read as something else."""

    def represent_str(self, data: str) -> Any:
        is_unsafe = data.startswith((":", "?", "<<")) or not _BREAKS.isdisjoint(data)
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if is_unsafe else None)


_BREAKS: Final = frozenset("\x85\u2028\u2029")
_Representer.add_representer(str, _Representer.represent_str)


def dump_yaml(data: Mapping[str, Any]) -> str:
    """Write plain data as YAML in the order given, short lists and mappings on one line."""
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = True
    yaml.width = 10_000
    yaml.dump(dict(data), stream)
    return stream.getvalue()


MAX_INCLUDES: Final = 20
MERGED: Final = ("inputs", "axes", "roles")  # sections that are merged entry by entry; all else is replaced


def include_files(document: Document, path: Path, shown: str, parents: tuple[Path, ...] = ()) -> Document:
    """Lay `document` over the files its `include` names, nearest last. Raises ExperimentError."""
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
    layer.values = {
        at: mark if mark.folder else replace(mark, folder=layer.folder) for at, mark in layer.values.items()
    }
    return layer


def merge_documents(base: Document, top: Document) -> Document:
    """Lay `top` over `base`. Sections are merged entry by entry, and null takes an entry out; an entry itself
    (an axis, an input) is replaced whole, since half of one axis and half of another make none.
    """
    result = Document(dict(base.data), top.folder, dict(base.keys), dict(base.values))
    result.values[()] = top.values.get((), Mark(1, 1))
    for key, value in top.data.items():
        below = result.data.get(key)
        if key in MERGED and isinstance(value, dict) and isinstance(below, dict):
            merged = {**below, **value}
            gone = [name for name in value if value[name] is None and key == "axes"]
            result.data[key] = {name: entry for name, entry in merged.items() if name not in gone}
            for name in value:
                result.replace_marks((key, name), top)
        else:
            result.data[key] = value
            result.replace_marks((key,), top)
    return result
