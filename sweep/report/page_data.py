"""Reads a results folder and builds the payload of the page: JSON without NaN, columns packed where that is shorter."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pandas as pd

from sweep.errors import RecordError, UsageError
from sweep.record import RATINGS_JSON, Counts, ExperimentFacts, RecordedResults
from sweep.report.thumbnails import make_thumb_id
from sweep.text import format_value

if TYPE_CHECKING:
    from sweep.record import OpenPoint, RunRecord


STANDARD = (
    *("index", "key", "prompt", "status", "error", "attempts", "server", "model", "image_path", "image_name", "width"),
    *("height", "sha256", "queued_at", "started_at", "finished_at", "render_seconds", "former"),
    *("rating", "rejected", "note"),
)
"""Columns of the results table that are neither axes nor metrics."""
_NO_RATINGS: Final[Mapping[str, Any]] = {"schema": 1, "ratings": {}, "choices": []}
_HASHES: Final = ("pixel_hash",)  # measured, but only to be compared for equality


@dataclass(frozen=True, slots=True)
class AxisColumn:
    """An axis and the column of the table that holds its values."""

    name: str
    kind: str
    column: str


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The files of a results folder: the images by thumbnail id, in order; the sources' ids by path in the folder."""

    images: Mapping[str, Path]
    sources: Mapping[str, str]
    by_id: Mapping[str, Path]  # images and sources


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """A results folder as read at one moment. `problem` says why it could not be read, or not wholly."""

    folder: Path
    name: str
    description: str
    frame: pd.DataFrame
    axes: tuple[AxisColumn, ...]
    sources: Mapping[str, Path] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    runs: Sequence[RunRecord] = ()
    experiment: str = ""
    facts: ExperimentFacts = field(default_factory=ExperimentFacts)
    problem: str | None = None
    ratings: Mapping[str, Any] = field(default_factory=lambda: _NO_RATINGS)
    open_points: Sequence[OpenPoint] = ()

    @classmethod
    def empty(cls, folder: Path, name: str, problem: str | None = None) -> ReportData:
        """Describe a folder of which nothing has been read."""
        return cls(folder=folder, name=name, description="", frame=pd.DataFrame(), axes=(), problem=problem)

    @property
    def retry_command(self) -> str:
        """The command that tries failed points again, "" where none failed."""
        command = self.runs[-1].facts.command if self.runs and self.counts.failed else ""
        return f"{remove_paths(command)} --retry-failed" if command and "--retry-failed" not in command else command

    @property
    def sandbox(self) -> bool:
        """Whether the sandbox painted any image, instead of a model."""
        names = [self.frame[column].dropna().unique() for column in ("server", "model") if column in self.frame]
        named = any(str(name).startswith("sandbox") for column in names for name in column)
        return named or any(_is_sandbox(server) for run in self.runs for server in run.facts.servers)

    @cached_property
    def files(self) -> ImageFiles:
        """The file of every image and source that the table names."""
        images: dict[str, Path] = {}
        if "sha256" in self.frame:
            whole = self.frame[self.frame["sha256"].notna() & self.frame["image_path"].notna()]
            for sha, path in zip(whole["sha256"], whole["image_path"], strict=True):
                images.setdefault(make_thumb_id(sha), self.folder / path)
        sources: dict[str, str] = {}
        for key in self.frame.get("key", ()):
            name = find_source_path(self, key)
            if name is not None and name not in sources and (self.folder / name).is_file():
                with (self.folder / name).open("rb") as file:
                    sources[name] = make_thumb_id(hashlib.file_digest(file, "sha256").hexdigest())
        return ImageFiles(images, sources, {**{sources[name]: self.folder / name for name in sources}, **images})

    @property
    def metrics(self) -> tuple[str, ...]:
        """Numeric columns that are neither axes nor bookkeeping nor hashes."""
        taken = {*_HASHES, *STANDARD, *(axis.column for axis in self.axes), *(f"rendered_{name}" for name in STANDARD)}
        numeric = self.frame.select_dtypes(include="number").columns
        return tuple(str(name) for name in numeric if name not in taken)


def _read_ratings(folder: Path) -> Mapping[str, Any]:
    """Read the ratings kept in a results folder; none where there is no file, or one that cannot be read."""
    try:
        found = json.loads((folder / RATINGS_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return _NO_RATINGS
    return found if isinstance(found, dict) and found.get("schema") == 1 else _NO_RATINGS


def remove_paths(command: str) -> str:
    """Remove the folders of the author's machine from a command: a report travels."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    return shlex.join(map(_shorten_path, words))


def _shorten_path(text: str) -> str:
    """Reduce an absolute path to its name."""
    return re.split(r"[\\/]", text)[-1] if re.match(r"(/|~|[A-Za-z]:[\\/])", text) else text


def read_report_data(folder: Path) -> ReportData:
    """Read what `folder` holds. Never raises for what is in it: the report then says what is wrong."""
    try:
        return _collect(RecordedResults.open(folder))
    except RecordError as error:
        problem = str(error)
    except OSError as error:
        problem = f"The results cannot be read: {error.strerror or error}."
    return ReportData.empty(folder, folder.resolve().name, problem)


def read_rendered(folder: Path) -> ReportData:
    """Read the results in `folder`. Raises UsageError where there is nothing to show."""
    data = read_report_data(Path(folder))
    if data.problem is not None:
        raise UsageError(data.problem)
    if data.frame.empty:
        raise UsageError(f"Nothing has been rendered in {folder} yet.")
    return data


def _collect(results: RecordedResults) -> ReportData:
    frame, facts = results.table(), results.facts
    if "index" in frame:
        frame = frame.sort_values("index", kind="stable", ignore_index=True)
    named = [(name, kind, _name_axis_column(name)) for name, kind in results.axes]
    axes = tuple(AxisColumn(name, kind, column) for name, kind, column in named if column in frame)
    return ReportData(
        folder=results.folder,
        name=facts.name or results.folder.resolve().name,
        description=" ".join(facts.description.split()),
        frame=frame,
        axes=axes,
        sources=results.sources,
        counts=results.counts(),
        runs=tuple(results.runs()),
        experiment=FOLDER_LINE.sub("", results.experiment_text or ""),
        facts=facts,
        ratings=_read_ratings(results.folder),
        open_points=tuple(results.open_points()),
    )


def _name_axis_column(name: str) -> str:
    return f"axis_{name}" if name in STANDARD and name not in {"prompt", "model", "width", "height"} else name


def _is_sandbox(server: Mapping[str, str]) -> bool:
    return any("sandbox" in str(server.get(name, "")) for name in ("name", "version", "kind")) or (
        str(server.get("sandbox", "")).lower() == "true"
    )


JsonObject: TypeAlias = dict[str, Any]
LevelJson: TypeAlias = str | int | float | bool | None

_EXACT_ROWS: Final = 20_000  # above, metrics keep 4 digits, which the eye cannot tell from 6
_SAFE_INTEGER: Final = 2**53 - 1
_KEY_DIGITS: Final = 16
_INFO = {
    "prompt": "prompt",
    "rendered_prompt": "prompt",
    "model": "model",
    "rendered_model": "model",
    "server": "server",
    "attempts": "attempts",
    "render_seconds": "seconds",
    "finished_at": "finished",
    "image_name": "file name on server",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLinks:
    """Where the page finds images.

    `prefix` leads from the page to the results folder, None where it is unknown. `thumbs` are the ids that have a
    thumbnail; they are `embedded`, or files under `thumb_prefix`.
    """

    prefix: str | None
    thumbs: frozenset[str]
    embedded: bool
    originals: str = "beside"  # "inside" the page, "beside" it, or "none"
    thumb_prefix: str = ""
    source_ids: Mapping[str, str] = field(default_factory=dict)  # by the source's path in the folder


def build_payload(data: ReportData, links: ImageLinks, study: Mapping[str, Any] | None = None) -> JsonObject:
    """Build everything the page shows, as JSON values without NaN (its shape: web/src/payload.ts)."""
    frame = data.frame
    axes = [_add_levels(encode_axis(axis, frame), data.facts) for axis in data.axes]
    if (image := _encode_image_axis(frame)) is not None:
        axes.append(image)
    facts = {fact["name"]: fact for fact in (study["metrics"] if study else _load_metric_facts(tuple(data.metrics)))}
    ranks = {name: rank for rank, name in enumerate(facts)}
    metrics = sorted(data.metrics, key=lambda name: ranks.get(name, len(ranks)))  # as the study lists them
    digits = 6 if len(frame) <= _EXACT_ROWS else 4
    return {
        "version": 1,
        "id": data.name,
        "name": data.name,
        "live": None,
        "runs": None,
        "axes": axes,
        "columns": [
            *(_encode_metric(name, frame[name], facts.get(name, {}), digits) for name in metrics),
            *_encode_info_columns(data),
        ],
        "key": pack(_encode_texts(frame, "key", _KEY_DIGITS)),
        "status": pack(_encode_texts(frame, "status")),
        "error": pack(_encode_texts(frame, "error")),
        "images": encode_images(frame, links),
        "others": None,
        "sources": _encode_sources(data, links),
        "thumbs": {"mode": "embedded" if links.embedded else "files", "prefix": links.thumb_prefix},
        "originals": links.originals,
        "ratings": data.ratings,
        "leftOut": _encode_left_out(data.facts, axes),
        "conditions": list(data.facts.conditions),
        "inputs": {
            name: _shorten_path(value) if isinstance(value, str) else value
            for name, value in data.facts.inputs.items()
            if value is None or isinstance(value, str | int | float | bool)
        },
        "retry": data.retry_command,
        "study": None if study is None else _select_study_parts(study),
        "experiment": data.experiment,
    }


FOLDER_LINE: Final = re.compile(r"^folder:.*\n", re.MULTILINE)  # where the author's file lies: nobody's business


def _add_levels(axis: JsonObject, facts: ExperimentFacts) -> JsonObject:
    """Add levels that no row has yet, in their place: the experiment knows them before they are rendered."""
    known = [known.levels for known in facts.axes if known.name == axis["name"] and known.size == len(known.levels)]
    wanted = sort_levels([_keep_exact(to_json_value(level)) for levels in known for level in levels])
    if not set(axis["levels"]) < set(wanted):
        return axis
    places = [wanted.index(level) for level in axis["levels"]]
    return {**axis, "levels": wanted, "at": [places[at] for at in axis["at"]]}


def sort_levels(levels: Sequence[LevelJson]) -> list[LevelJson]:
    """Sort numbers; leave other levels in their order."""
    if all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels):
        return sorted(levels, key=lambda level: level)  # type: ignore[arg-type,return-value]
    return list(levels)


def format_level(level: LevelJson, kind: str = "") -> str:
    """Format a level for people: short numbers, file names without their folder."""
    if level is None:
        return "none"
    return str(level).rsplit("/", 1)[-1] if kind == "image" else format_value(level)


def _encode_left_out(facts: ExperimentFacts, axes: Sequence[JsonObject]) -> list[list[int]]:
    """Encode the combinations that conditions leave out: for each axis of the page the index of a level."""
    known_axes = {known.name: at for at, known in enumerate(facts.axes)}
    if not all(axis["name"] in known_axes for axis in axes):
        return []
    places: list[tuple[int, dict[int, int]]] = []
    for axis in axes:
        at = known_axes[axis["name"]]
        levels = [_keep_exact(to_json_value(level)) for level in facts.axes[at].levels]
        places.append((at, {n: axis["levels"].index(v) for n, v in enumerate(levels) if v in axis["levels"]}))
    return [[known.get(point[at], 0) for at, known in places] for point in facts.left_out]


def encode_axis(axis: AxisColumn, frame: pd.DataFrame) -> JsonObject:
    """Encode an axis: its levels and each row's index into them.

    Numbers ascend, other levels stand in order of appearance, missing ones last.
    """
    codes, found = pd.factorize(frame[axis.column], use_na_sentinel=True)
    values = [to_json_value(value) for value in found]
    levels = sort_levels(values)
    rank = {level: place for place, level in enumerate(levels)}
    place = np.array([*(rank[value] for value in values), len(levels)])  # the last is that of missing ones, code -1
    if bool((codes < 0).any()):
        levels.append(None)
    kept = [_keep_exact(level) for level in levels]
    return {"name": axis.name, "kind": axis.kind, "levels": kept, "at": place[codes].tolist()}


def _encode_image_axis(frame: pd.DataFrame) -> JsonObject | None:
    """Encode an axis "image" where one point gave several images, None elsewhere."""
    if "key" not in frame or "index" not in frame or not frame.duplicated(["index", "key"]).any():
        return None
    number = frame.groupby(["index", "key"], sort=False).cumcount()
    levels = list(range(1, int(number.max()) + 2))
    return {"name": "image", "kind": "integer", "levels": levels, "at": number.tolist()}


def to_json_value(value: object) -> LevelJson:
    """Convert a cell to a JSON value: numpy and pandas scalars unwrapped, missing or not finite to None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float):
        return (int(value) if value.is_integer() and abs(value) < 1e15 else value) if math.isfinite(value) else None
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def _keep_exact(value: LevelJson) -> LevelJson:
    """Turn integers beyond 2^53 into text: JavaScript cannot hold them."""
    return str(value) if isinstance(value, int) and abs(value) > _SAFE_INTEGER else value


def pack(values: Sequence[LevelJson]) -> JsonObject:
    """Pack values as they are, or as indices into the distinct ones where that is shorter; missing is index -1."""
    distinct: dict[tuple[type, LevelJson], int] = {}
    for value in values:
        if value is not None:
            distinct.setdefault((type(value), value), len(distinct))
    if len(distinct) * 2 > len(values) and len(values) > 1:
        return {"v": list(values)}
    at = [-1 if value is None else distinct[type(value), value] for value in values]
    return {"d": [value for _, value in distinct], "i": at}


def _encode_texts(frame: pd.DataFrame, name: str, most: int | None = None) -> list[LevelJson]:
    if name not in frame:
        return [None] * len(frame)
    return [None if cell is None else str(cell)[:most] for cell in encode_column(frame[name])]


def encode_column(column: pd.Series) -> list[LevelJson]:
    """Encode a column as JSON values like `to_json_value`, quickly for whole columns of texts or integers."""
    values = column.astype(object).tolist()
    if not (pd.api.types.is_integer_dtype(column) or isinstance(column.dtype, pd.StringDtype)):
        return [to_json_value(value) for value in values]
    return [None if missing else value for value, missing in zip(values, column.isna().tolist(), strict=True)]


def round_floats(values: pd.Series, digits: int) -> list[LevelJson]:
    """Round numbers to `digits` significant digits, as short as they print; not finite becomes None."""
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    finite = np.isfinite(numbers) & (numbers != 0)
    places = np.zeros(len(numbers))
    places[finite] = digits - 1 - np.floor(np.log10(np.abs(numbers[finite])))
    scale = 10.0 ** np.abs(np.clip(places, -300, 300))
    with np.errstate(all="ignore"):
        short = np.where(places >= 0, np.round(numbers * scale) / scale, np.round(numbers / scale) * scale)
    known = np.isfinite(short).tolist()
    return [value if is_known else None for value, is_known in zip(short.tolist(), known, strict=True)]


@cache
def _load_metric_facts(names: tuple[str, ...]) -> Sequence[Mapping[str, Any]]:
    """Load facts about metrics where the page has no study, in the order of the study's panel."""
    from sweep.study import describe_columns, list_standard

    rank = {metric.name: place for place, metric in enumerate(list_standard())}
    ordered = sorted(names, key=lambda name: rank.get(name, len(rank)))
    return describe_columns(ordered, dict.fromkeys(ordered, (0, 0)))


def _encode_metric(name: str, values: pd.Series, fact: Mapping[str, Any], digits: int) -> JsonObject:
    return {
        "name": name,
        "label": fact.get("label") or name.replace("_", " "),
        "kind": "metric",
        "direction": fact.get("direction") or "neutral",
        "summary": fact.get("summary") or "",
        "values": {"v": round_floats(values, digits)},
    }


def _encode_info_columns(data: ReportData) -> Iterable[JsonObject]:
    taken = {axis.column for axis in data.axes}
    for name, label in _INFO.items():
        if name in data.frame and name not in taken and data.frame[name].notna().any():
            column = data.frame[name]
            values = round_floats(column, 3) if name == "render_seconds" else encode_column(column)
            described = {"name": name, "label": label, "kind": "info", "direction": "neutral", "summary": ""}
            yield {**described, "values": pack(values)}


def encode_images(frame: pd.DataFrame, links: ImageLinks) -> JsonObject:
    """Encode each row's image: path in the folder, thumbnail (None where there is none), size in px."""
    thumbs = [
        identity if text is not None and (identity := make_thumb_id(str(text))) in links.thumbs else None
        for text in _encode_texts(frame, "sha256")
    ]
    sizes = {side: f"rendered_{side}" if f"rendered_{side}" in frame else side for side in ("width", "height")}
    return {
        "prefix": links.prefix,
        "path": pack(_encode_texts(frame, "image_path")),
        "thumb": pack(thumbs),
        **{
            side: pack(encode_column(frame[column]) if column in frame else [None] * len(frame))
            for side, column in sizes.items()
        },
    }


def find_source_path(data: ReportData, key: str) -> str | None:
    """Find the path, in the results folder, of the image that a variation started from."""
    source = data.sources.get(key)
    if source is None:
        return None
    return source.relative_to(data.folder).as_posix() if source.is_relative_to(data.folder) else source.name


def _encode_sources(data: ReportData, links: ImageLinks) -> JsonObject:
    names = [find_source_path(data, key) for key in data.frame.get("key", ())]
    at, found = pd.factorize(np.array(names, dtype=object))
    listed = [{"path": name, "thumb": links.source_ids.get(name), "label": name.rsplit("/", 1)[-1]} for name in found]
    return {"list": listed, "at": at.tolist()}


def build_live_rows(data: ReportData, links: ImageLinks) -> list[JsonObject]:
    """Build the table row by row, with plain values, for a live page (web/src/table.ts, LiveRow)."""
    payload = build_payload(data, links)
    columns = {column["name"]: unpack(column["values"]) for column in payload["columns"]}
    images = {name: unpack(payload["images"][name]) for name in ("path", "thumb", "width", "height")}
    axes = {axis["name"]: [axis["levels"][at] for at in axis["at"]] for axis in payload["axes"]}
    number = None if any(axis.name == "image" for axis in data.axes) else axes.pop("image", None)
    keys, status, error = (unpack(payload[name]) for name in ("key", "status", "error"))
    sources = payload["sources"]
    return [
        {
            "key": keys[row],
            "image": 1 if number is None else number[row],
            "status": status[row],
            "error": error[row],
            **{name: values[row] for name, values in images.items()},
            "source": None if sources["at"][row] < 0 else sources["list"][sources["at"][row]],
            "axes": {name: values[row] for name, values in axes.items()},
            "columns": {name: values[row] for name, values in columns.items()},
        }
        for row in range(len(keys))
    ]


def build_open_rows(data: ReportData, steps: Mapping[str, float]) -> list[JsonObject]:
    """Build a row for each point at a server now, or between two attempts; `steps` are the shares done, by key."""
    empty: JsonObject = dict.fromkeys(("error", "path", "thumb", "width", "height", "source"))
    return [
        {
            **empty,
            "key": point.key[:_KEY_DIGITS],
            "image": 1,
            "status": point.state,
            "share": None if point.state == "pending" else steps.get(point.key),
            "axes": {axis.name: _keep_exact(to_json_value(point.values.get(axis.name))) for axis in data.axes},
            "columns": {},
        }
        for point in data.open_points
    ]


def unpack(values: JsonObject) -> list[LevelJson]:
    """Return the values that `pack` was given."""
    if "v" in values:
        return list(values["v"])
    return [None if at < 0 else values["d"][at] for at in values["i"]]


def _select_study_parts(study: Mapping[str, Any]) -> JsonObject:
    """Select the parts of a study that the page draws; it computes the rest from the rows in view."""
    curves = [
        {name: curve[name] for name in ("metric", "axis", "group", "half")}
        for curve in study.get("curves", ())
        if curve["half"]["value"] is not None
    ]
    names = ("effects", "recommendations", "holds", "distances", "choices")
    words = [{**word, "text": _read_well(word["text"], study)} for word in study.get("words", ())]
    parts = {name: study.get(name, []) for name in names}
    return {"curves": curves, "words": words, **parts, "adaptive": study.get("adaptive")}


def _read_well(text: str, study: Mapping[str, Any]) -> str:
    """Write names of axes as words, and keep a number and its % on one line."""
    for axis in (study.get("design") or {}).get("axes", ()):
        text = text.replace(axis["name"], axis["name"].replace("_", " "))
    return text.replace(" %", "\u00a0%")
