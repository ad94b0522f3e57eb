"""Results folder -> page payload."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pandas as pd

from sweep.errors import RecordError
from sweep.record import Counts
from sweep.report.thumbnails import thumb_id

if TYPE_CHECKING:
    from sweep.record import ResultsLike, RunRecord


STANDARD = (
    *("index", "key", "prompt", "status", "error", "attempts", "server", "model", "image_path", "image_name", "width"),
    *("height", "sha256", "queued_at", "started_at", "finished_at", "render_seconds", "former"),
)
"""Columns of the results table that are neither axes nor metrics."""


@dataclass(frozen=True, slots=True)
class AxisColumn:
    """An axis and the column of the table that holds its values."""

    name: str
    kind: str
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A results folder as read at one moment. `problem` is a sentence where it could not be read, or not wholly."""

    folder: Path
    name: str
    description: str
    frame: pd.DataFrame
    axes: tuple[AxisColumn, ...]
    sources: Mapping[str, Path] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    runs: Sequence[RunRecord] = ()
    experiment: str = ""
    problem: str | None = None

    @property
    def sandbox(self) -> bool:
        """Whether any image was painted by the sandbox instead of diffused by a model."""
        names = [self.frame[column].dropna().unique() for column in ("server", "model") if column in self.frame]
        named = any(str(name).startswith("sandbox") for column in names for name in column)
        return named or any(_is_sandbox(server) for run in self.runs for server in run.facts.servers)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Numeric columns that are neither axes nor bookkeeping."""
        taken = {*STANDARD, *(axis.column for axis in self.axes), *(f"rendered_{name}" for name in STANDARD)}
        numeric = self.frame.select_dtypes(include="number").columns
        return tuple(str(name) for name in numeric if name not in taken)


def read_material(folder: Path) -> Material:
    """What `folder` holds. Never raises for what is in it: the report then says what is wrong."""
    from sweep.record import RecordedResults

    try:
        return material_of(RecordedResults.open(folder))
    except RecordError as error:
        return _unreadable(folder, str(error))
    except OSError as error:
        return _unreadable(folder, f"The results cannot be read: {error.strerror or error}.")


def material_of(results: ResultsLike) -> Material:
    """The same of results that are open. Raises RecordError."""
    frame = results.table()
    text = results.experiment_text or ""
    columns = set(frame.columns)
    axes = tuple(
        AxisColumn(name, kind, column)
        for name, kind in results.axes
        if (column := _axis_column(name, columns)) is not None
    )
    return Material(
        folder=results.folder,
        name=_yaml_line(text, "name") or results.folder.resolve().name,
        description=_yaml_line(text, "description"),
        frame=_ordered(frame),
        axes=axes,
        sources=results.sources,
        counts=results.counts(),
        runs=tuple(results.runs()),
        experiment=text,
    )


def _unreadable(folder: Path, problem: str) -> Material:
    name = folder.resolve().name
    return Material(folder=folder, name=name, description="", frame=pd.DataFrame(), axes=(), problem=problem)


def _axis_column(name: str, columns: set[str]) -> str | None:
    if name in STANDARD and name not in {"prompt", "model", "width", "height"}:
        return f"axis_{name}" if f"axis_{name}" in columns else None
    return name if name in columns else None


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values("index", kind="stable", ignore_index=True) if "index" in frame else frame


def _yaml_line(text: str, key: str) -> str:
    """A top-level text of the experiment file; "" where it has none. The page only shows it: a full reading of the
    file is the experiment layer's, which a report does not import.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    match = re.search(rf"^{key}:.*(?:\n[ \t]+.*)*", text, re.MULTILINE)
    if match is None:
        return ""
    try:
        value = YAML(typ="safe", pure=True).load(match[0])
    except YAMLError:
        return ""
    found = value.get(key) if isinstance(value, dict) else None
    return " ".join(found.split()) if isinstance(found, str) else ""


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
    "image_name": "server's name",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Where the page finds images. `prefix`: from the page to the results folder, None where it does not know;
    `thumbs` the ids that have a thumbnail; `embedded` or files under `thumb_prefix`.
    """

    prefix: str | None
    thumbs: frozenset[str]
    embedded: bool
    thumb_prefix: str = ""
    source_ids: Mapping[str, str] = field(default_factory=dict)  # by the source's path in the folder


def payload(material: Material, shown: Shown, study: Mapping[str, Any] | None = None) -> JsonObject:
    """Everything the page shows, as JSON values without NaN (its shape: web/src/payload.ts)."""
    frame = material.frame
    axes = [axis_data(axis, frame) for axis in material.axes]
    if (image := _image_axis(frame)) is not None:
        axes.append(image)
    facts = {fact["name"]: fact for fact in (study["metrics"] if study else _known_metrics(tuple(material.metrics)))}
    digits = 6 if len(frame) <= _EXACT_ROWS else 4
    return {
        "version": 1,
        "id": material.name,
        "name": material.name,
        "live": None,
        "runs": None,
        "axes": axes,
        "columns": [
            *(_metric(name, frame[name], facts.get(name), digits) for name in _in_order(material.metrics, facts)),
            *_info_columns(material),
        ],
        "key": packed(_texts(frame, "key", _KEY_DIGITS)),
        "status": packed(_texts(frame, "status")),
        "error": packed(_texts(frame, "error")),
        "images": images_data(frame, shown),
        "others": None,
        "sources": _sources(material, shown),
        "thumbs": {"mode": "embedded" if shown.embedded else "files", "prefix": shown.thumb_prefix},
        "study": None if study is None else _study(study),
        "experiment": material.experiment,
    }


def axis_data(axis: AxisColumn, frame: pd.DataFrame) -> JsonObject:
    """Levels (numbers ascending, else in order of appearance, missing last) and each row's index into them."""
    codes, found = pd.factorize(frame[axis.column], use_na_sentinel=True)
    levels = [plain_json(value) for value in found]
    if levels and all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels):
        order = sorted(range(len(levels)), key=lambda at: levels[at])  # type: ignore[arg-type,return-value]
        place = np.empty(len(levels) + 1, dtype=np.int64)
        place[order] = np.arange(len(levels))
        levels = [levels[at] for at in order]
    else:
        place = np.arange(len(levels) + 1, dtype=np.int64)
    place[-1] = len(levels)
    at = place[codes]
    if bool((codes < 0).any()):
        levels.append(None)
    return {"name": axis.name, "kind": axis.kind, "levels": [_safe(level) for level in levels], "at": at.tolist()}


def _image_axis(frame: pd.DataFrame) -> JsonObject | None:
    """An axis of its own where one point gave several images."""
    if "key" not in frame or "index" not in frame or not frame.duplicated(["index", "key"]).any():
        return None
    number = frame.groupby(["index", "key"], sort=False).cumcount()
    return {
        "name": "image",
        "kind": "integer",
        "levels": list(range(1, int(number.max()) + 2)),
        "at": number.tolist(),
    }


def plain_json(value: object) -> LevelJson:
    """A cell as a JSON value: numpy and pandas scalars unwrapped, anything missing or not finite None."""
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


def _safe(value: LevelJson) -> LevelJson:
    """JavaScript cannot hold integers beyond 2^53: those become text."""
    return str(value) if isinstance(value, int) and abs(value) > _SAFE_INTEGER else value


def packed(values: Sequence[LevelJson]) -> JsonObject:
    """Plain values, or indices into the distinct ones where that is shorter; missing is index -1."""
    distinct: dict[tuple[type, LevelJson], int] = {}
    for value in values:
        if value is not None:
            distinct.setdefault((type(value), value), len(distinct))
    if len(distinct) * 2 > len(values) and len(values) > 1:
        return {"v": list(values)}
    at = [-1 if value is None else distinct[type(value), value] for value in values]
    return {"d": [value for _, value in distinct], "i": at}


def _texts(frame: pd.DataFrame, name: str, most: int | None = None) -> list[LevelJson]:
    if name not in frame:
        return [None] * len(frame)
    return [None if cell is None else str(cell)[:most] for cell in cells(frame[name])]


def cells(column: pd.Series) -> list[LevelJson]:
    """A column as JSON values, as `plain_json` gives them; whole columns of texts or integers go the short way."""
    values = column.astype(object).tolist()
    if not (pd.api.types.is_integer_dtype(column) or isinstance(column.dtype, pd.StringDtype)):
        return [plain_json(value) for value in values]
    return [None if missing else value for value, missing in zip(values, column.isna().tolist(), strict=True)]


def round_floats(values: pd.Series, digits: int) -> list[LevelJson]:
    """Numbers to `digits` significant digits, as short as they print; not finite is None."""
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
def _known_metrics(names: tuple[str, ...]) -> Sequence[Mapping[str, Any]]:
    """What the study would say of them, where the page is made without one; in the order of its panel."""
    from sweep.study import known_facts, standard

    rank = {metric.name: place for place, metric in enumerate(standard())}
    ordered = sorted(names, key=lambda name: rank.get(name, len(rank)))
    return known_facts(ordered, dict.fromkeys(ordered, (0, 0)))


def _in_order(names: Iterable[str], facts: Mapping[str, Any]) -> list[str]:
    """As the study lists them, by what they measure; what it does not know last."""
    ranks = {name: rank for rank, name in enumerate(facts)}
    return sorted(names, key=lambda name: ranks.get(name, len(ranks)))


def _metric(name: str, values: pd.Series, fact: Mapping[str, Any] | None, digits: int) -> JsonObject:
    return {
        "name": name,
        "label": (fact or {}).get("label") or name.replace("_", " "),
        "kind": "metric",
        "direction": (fact or {}).get("direction") or "neutral",
        "summary": (fact or {}).get("summary") or "",
        "values": {"v": round_floats(values, digits)},
    }


def _info_columns(material: Material) -> Iterable[JsonObject]:
    frame = material.frame
    taken = {axis.column for axis in material.axes}
    for name, label in _INFO.items():
        if name not in frame or name in taken or frame[name].isna().all():
            continue
        values = round_floats(frame[name], 3) if name == "render_seconds" else cells(frame[name])
        yield {
            "name": name,
            "label": label,
            "kind": "info",
            "direction": "neutral",
            "summary": "",
            "values": packed(values),
        }


def images_data(frame: pd.DataFrame, shown: Shown) -> JsonObject:
    """Each row's image: its path in the folder, its thumbnail (None where there is none), its size in px."""
    width, height = _size_columns(frame)
    thumbs = [
        identity if text is not None and (identity := thumb_id(str(text))) in shown.thumbs else None
        for text in _texts(frame, "sha256")
    ]
    return {
        "prefix": shown.prefix,
        "path": packed(_texts(frame, "image_path")),
        "thumb": packed(thumbs),
        "width": packed(cells(frame[width]) if width in frame else [None] * len(frame)),
        "height": packed(cells(frame[height]) if height in frame else [None] * len(frame)),
    }


def _size_columns(frame: pd.DataFrame) -> tuple[str, str]:
    width = "rendered_width" if "rendered_width" in frame else "width"
    height = "rendered_height" if "rendered_height" in frame else "height"
    return width, height


def source_name(material: Material, key: str) -> str | None:
    """The path in the results folder of the image a variation started from."""
    source = material.sources.get(key)
    if source is None:
        return None
    return source.relative_to(material.folder).as_posix() if source.is_relative_to(material.folder) else source.name


def _sources(material: Material, shown: Shown) -> JsonObject:
    known: dict[str, int] = {}
    listed: list[JsonObject] = []
    at: list[int] = []
    for key in material.frame.get("key", ()):
        name = source_name(material, key)
        if name is not None and name not in known:
            known[name] = len(listed)
            listed.append({"path": name, "thumb": shown.source_ids.get(name), "label": name.rsplit("/", 1)[-1]})
        at.append(-1 if name is None else known[name])
    return {"list": listed, "at": at}


def rows_of(material: Material, shown: Shown) -> list[JsonObject]:
    """The same table row by row, with plain values: what a live page is told (web/src/table.ts, LiveRow)."""
    data = payload(material, shown)
    columns = {column["name"]: unpacked(column["values"]) for column in data["columns"]}
    images = {name: unpacked(data["images"][name]) for name in ("path", "thumb", "width", "height")}
    axes = {axis["name"]: [axis["levels"][at] for at in axis["at"]] for axis in data["axes"]}
    number = axes.pop("image", None) if not _has_axis(material, "image") else None
    keys, status, error = (unpacked(data[name]) for name in ("key", "status", "error"))
    sources = data["sources"]
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


def _has_axis(material: Material, name: str) -> bool:
    return any(axis.name == name for axis in material.axes)


def unpacked(values: JsonObject) -> list[LevelJson]:
    """The values that `packed` was given."""
    if "v" in values:
        return list(values["v"])
    return [None if at < 0 else values["d"][at] for at in values["i"]]


def _study(study: Mapping[str, Any]) -> JsonObject:
    """The part of a study that the page draws; everything else it computes from the rows in sight."""
    curves = [
        {name: curve[name] for name in ("metric", "axis", "group", "half")}
        for curve in study.get("curves", ())
        if curve["half"]["value"] is not None
    ]
    return {"curves": curves, "effects": study.get("effects", []), "words": study.get("words", [])}
