"""The JSON of a page for its script: axes, columns and images by row, without NaN, packed where that is shorter."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from sweep.record import ExperimentFacts, sort_numbers
from sweep.report.report_data import AxisColumn, ReportData, shorten_path, to_json_value
from sweep.report.thumbnails import ImageLinks, make_thumb_id
from sweep.types import Scalar

JsonObject: TypeAlias = dict[str, Any]

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


def build_page_json(
    data: ReportData, links: ImageLinks, study: Mapping[str, Any] | None = None, described: Sequence[JsonObject] = ()
) -> JsonObject:
    """Build everything the page shows, as JSON values without NaN (its shape: web/src/payload.ts).

    `described`: labels and summaries of metrics that no study describes, in the order in which the page lists them.
    """
    axes = _encode_axes(data)
    return {
        "version": 1,
        "id": data.name,
        "name": data.name,
        "live": None,
        "runs": None,
        "axes": axes,
        "columns": [
            {**column, "values": {"v": column["values"]} if column["kind"] == "metric" else pack(column["values"])}
            for column in _list_columns(data, study["metrics"] if study else described)
        ],
        "key": pack(_encode_texts(data, "key", _KEY_DIGITS)),
        "status": pack(_encode_texts(data, "status")),
        "error": pack(_encode_texts(data, "error")),
        "images": encode_images(data, links),
        "others": None,
        "sources": _encode_sources(data, links),
        "thumbs": {"mode": "embedded" if links.embedded else "files", "prefix": links.thumb_prefix},
        "originals": links.originals,
        "ratings": data.ratings,
        "leftOut": _encode_left_out(data.facts, axes),
        "conditions": list(data.facts.conditions),
        "inputs": {
            name: shorten_path(value) if isinstance(value, str) else value
            for name, value in data.facts.inputs.items()
            if value is None or isinstance(value, str | int | float | bool)
        },
        "retry": data.retry_command,
        "study": None if study is None else _select_study_parts(study),
        "experiment": data.experiment,
    }


_PLAIN_JSON: Final = 4_000_000  # characters, parsed in 40 ms; longer data is packed, which the page has to wait for


def encode_page_json(payload: JsonObject) -> tuple[str, bool]:
    """Encode it as text for the page, and say whether that is packed (gzip in base64)."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if len(text) <= _PLAIN_JSON:
        return text, False
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode(), True


def _encode_axes(data: ReportData) -> list[JsonObject]:
    """Encode the axes; where one point gave several images, an axis "image" numbers them."""
    frame = data.frame
    axes = [_add_levels(encode_axis(axis, frame), data.facts) for axis in data.axes]
    if "key" in frame and "index" in frame and frame.duplicated(["index", "key"]).any():
        number = frame.groupby(["index", "key"], sort=False).cumcount()
        levels = list(range(1, int(number.max()) + 2))
        axes.append({"name": "image", "kind": "integer", "levels": levels, "at": number.tolist()})
    return axes


def _add_levels(axis: JsonObject, facts: ExperimentFacts) -> JsonObject:
    """Add levels that no row has yet, in their place: the experiment knows them before they are rendered."""
    known = [known.levels for known in facts.axes if known.name == axis["name"] and known.size == len(known.levels)]
    wanted = sort_numbers([_keep_exact(to_json_value(level)) for levels in known for level in levels])
    if not set(axis["levels"]) < set(wanted):
        return axis
    places = [wanted.index(level) for level in axis["levels"]]
    return {**axis, "levels": wanted, "at": [places[at] for at in axis["at"]]}


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
    levels = sort_numbers(values)
    rank = {level: place for place, level in enumerate(levels)}
    place = np.array([*(rank[value] for value in values), len(levels)])  # the last is that of missing ones, code -1
    if bool((codes < 0).any()):
        levels.append(None)
    kept = [_keep_exact(level) for level in levels]
    return {"name": axis.name, "kind": axis.kind, "levels": kept, "at": place[codes].tolist()}


def _keep_exact(value: Scalar) -> Scalar:
    """Turn integers beyond 2^53 into text: JavaScript cannot hold them."""
    return str(value) if isinstance(value, int) and abs(value) > _SAFE_INTEGER else value


def pack(values: Sequence[Scalar]) -> JsonObject:
    """Pack values as they are, or as indices into the distinct ones where that is shorter; missing is index -1."""
    distinct: dict[tuple[type, Scalar], int] = {}
    for value in values:
        if value is not None:
            distinct.setdefault((type(value), value), len(distinct))
    if len(distinct) * 2 > len(values) and len(values) > 1:
        return {"v": list(values)}
    at = [-1 if value is None else distinct[type(value), value] for value in values]
    return {"d": [value for _, value in distinct], "i": at}


def _encode_texts(data: ReportData, name: str, most: int | None = None) -> list[Scalar]:
    return [None if cell is None else str(cell)[:most] for cell in data.list_values(name)]


def round_floats(values: pd.Series, digits: int) -> list[Scalar]:
    """Round numbers to `digits` significant digits, as short as they print; not finite becomes None.

    Of whole columns, since a live page does this for 100,000 images again and again.
    """
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    finite = np.isfinite(numbers) & (numbers != 0)
    places = np.zeros(len(numbers))
    places[finite] = digits - 1 - np.floor(np.log10(np.abs(numbers[finite])))
    scale = 10.0 ** np.abs(np.clip(places, -300, 300))
    with np.errstate(all="ignore"):
        short = np.where(places >= 0, np.round(numbers * scale) / scale, np.round(numbers / scale) * scale)
    return [value if math.isfinite(value) else None for value in short.tolist()]


@cache
def describe_metrics(names: tuple[str, ...]) -> list[JsonObject]:
    """Describe metrics that no study describes, in the order of the study's panel."""
    from sweep.study import describe_columns, list_standard

    rank = {metric.name: place for place, metric in enumerate(list_standard())}
    ordered = sorted(names, key=lambda name: rank.get(name, len(rank)))
    return [{**fact} for fact in describe_columns(ordered, dict.fromkeys(ordered, (0, 0)))]


def _list_columns(data: ReportData, described: Sequence[JsonObject] = ()) -> Iterator[JsonObject]:
    """List the metrics, those `described` first, and what else the page tells of an image, with plain values."""
    known = {fact["name"]: fact for fact in described if fact["name"] in data.metrics}
    others = describe_metrics(tuple(name for name in data.metrics if name not in known))
    digits = 6 if len(data.frame) <= _EXACT_ROWS else 4
    for fact in (*known.values(), *others):
        told = {name: fact[name] for name in ("name", "label", "direction", "summary")}
        yield {**told, "kind": "metric", "values": round_floats(data.frame[fact["name"]], digits)}
    taken = {axis.column for axis in data.axes}
    is_open = bool(data.runs) and data.runs[-1].ended_at is None  # rows to come may have what no row has yet
    for name, label in _INFO.items():
        if name in data.frame and name not in taken and (is_open or data.frame[name].notna().any()):
            values = round_floats(data.frame[name], 3) if name == "render_seconds" else data.list_values(name)
            about = {"name": name, "label": label, "kind": "info", "direction": "neutral", "summary": ""}
            yield {**about, "values": values}


def encode_images(data: ReportData, links: ImageLinks) -> JsonObject:
    """Encode each row's image: path in the folder, thumbnail (None where there is none), size in px."""
    return {"prefix": links.prefix, **{name: pack(values) for name, values in _list_images(data, links).items()}}


def _list_images(data: ReportData, links: ImageLinks) -> dict[str, list[Scalar]]:
    thumbs = [sha and make_thumb_id(str(sha)) for sha in _encode_texts(data, "sha256")]
    return {
        "path": _encode_texts(data, "image_path"),
        "thumb": [identity if identity in links.thumbs else None for identity in thumbs],
        "width": data.list_values(data.name_rendered("width")),
        "height": data.list_values(data.name_rendered("height")),
    }


def _encode_sources(data: ReportData, links: ImageLinks) -> JsonObject:
    names = [data.sources.get(key) for key in data.column("key")]
    at, found = pd.factorize(np.array(names, dtype=object))
    listed = [{"path": name, "thumb": links.source_ids.get(name), "label": name.rsplit("/", 1)[-1]} for name in found]
    return {"list": listed, "at": at.tolist()}


def build_live_rows(data: ReportData, links: ImageLinks) -> list[JsonObject]:
    """Build the table row by row, with plain values, for a live page (web/src/table.ts, LiveRow)."""
    columns = {column["name"]: column["values"] for column in _list_columns(data)}
    images, sources = _list_images(data, links), _encode_sources(data, links)
    axes = {axis["name"]: [axis["levels"][at] for at in axis["at"]] for axis in _encode_axes(data)}
    number = None if any(axis.name == "image" for axis in data.axes) else axes.pop("image", None)
    keys, status, error = (_encode_texts(data, name) for name in ("key", "status", "error"))
    return [
        {
            "key": str(keys[row])[:_KEY_DIGITS],
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


def _select_study_parts(study: Mapping[str, Any]) -> JsonObject:
    """Select the parts of a study that the page draws; it computes the rest from the rows in view."""
    curves = [
        {name: curve[name] for name in ("metric", "axis", "group", "half")}
        for curve in study.get("curves", ())
        if curve["half"]["value"] is not None
    ]
    words = [{**word, "text": word["text"].replace(" %", "\u00a0%")} for word in study.get("words", ())]  # on one line
    names = ("effects", "recommendations", "holds", "distances", "choices")
    parts = {name: study.get(name, []) for name in names}
    return {"curves": curves, "words": words, **parts, "adaptive": study.get("adaptive")}
