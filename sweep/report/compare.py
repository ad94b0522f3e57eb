"""Two runs side by side: pairs their rows, measures each pair, and writes the page that `sweep compare` opens."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from sweep.errors import UsageError
from sweep.record import ExperimentFacts
from sweep.report.contact_sheet import format_level
from sweep.report.page_data import (
    AxisColumn,
    ImageLinks,
    JsonObject,
    ReportData,
    build_payload,
    encode_images,
    read_report_data,
    to_json_value,
)
from sweep.report.page_facts import describe_page
from sweep.report.page_writer import EMBED_UP_TO, REPORT_FILES, build_relative_url, find_image_files, write_page
from sweep.report.thumbnails import FOLDER, Thumbnails
from sweep.text import format_value, truncate

if TYPE_CHECKING:
    from sweep.study import DecodedImage


MEASURED: Final = ("ssim", "structure_coarse", "delta_e")
"""Metrics of the study's panel that say how far an image of one run is from its pair in the other."""
BETWEEN: Final = "between_"
CHANGE: Final = "change_"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows of two runs, paired.

    `both`, `only_a` and `only_b` hold positions in the frames; `axes` are those that both runs have, `lost` those that
    only one has.
    """

    axes: tuple[AxisColumn, ...]
    lost: tuple[str, ...]
    both: Sequence[tuple[int, int]]
    only_a: Sequence[int]
    only_b: Sequence[int]


def pair_rows(a: ReportData, b: ReportData) -> Pairs:
    """Pair the rows of two runs by the values of their common axes, and by number where a point has several."""
    names_b = {axis.name for axis in b.axes}
    axes = tuple(axis for axis in a.axes if axis.name in names_b)
    lost = sorted({axis.name for axis in a.axes} ^ names_b)
    rows_a, rows_b = _index_rows(a, axes), _index_rows(b, axes)
    return Pairs(
        axes,
        tuple(lost),
        [(row, rows_b[point]) for point, row in rows_a.items() if point in rows_b],
        [row for point, row in rows_a.items() if point not in rows_b],
        [row for point, row in rows_b.items() if point not in rows_a],
    )


def _index_rows(data: ReportData, axes: Sequence[AxisColumn]) -> dict[Hashable, int]:
    columns = {axis.name: axis.column for axis in data.axes}
    values = [[to_json_value(value) for value in data.frame[columns[axis.name]]] for axis in axes]
    found: dict[Hashable, int] = {}
    number: dict[Hashable, int] = {}
    for row in range(len(data.frame)):
        point = tuple(column[row] for column in values)
        at = number[point] = number.get(point, -1) + 1
        found[point, at] = row
    return found


def measure_pairs(a: ReportData, b: ReportData, pairs: Pairs) -> pd.DataFrame:
    """Measure each pair: the image of b, with the image of a as its reference.

    Returns:
        One row per pair. `same` is true where the files are equal byte for byte; the metrics are missing where one of
        the images is missing or cannot be read.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="compare") as pool:
        rows = list(pool.map(lambda at: _measure_pair(a, b, *at), pairs.both))
    columns = ["same", *(f"{BETWEEN}{name}" for name in MEASURED)]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"same": "boolean", **dict.fromkeys(columns[1:], "float64")})


def _measure_pair(a: ReportData, b: ReportData, row_a: int, row_b: int) -> tuple[bool | None, ...] | tuple[object, ...]:
    hash_a, hash_b = (_read_text(run, row, "sha256") for run, row in ((a, row_a), (b, row_b)))
    path_a, path_b = (_read_text(run, row, "image_path") for run, row in ((a, row_a), (b, row_b)))
    if hash_a is None or hash_b is None or path_a is None or path_b is None:
        return (None, *(None for _ in MEASURED))
    if hash_a == hash_b:
        return (True, 1.0, 1.0, 0.0)
    return (False, *measure_distances(a.folder / path_a, b.folder / path_b))


def _read_text(data: ReportData, row: int, name: str) -> str | None:
    value = to_json_value(data.frame[name].iloc[row])
    return value if isinstance(value, str) else None


def measure_distances(a: Path, b: Path) -> tuple[float | None, ...]:
    """Measure image `b` with `a` as its reference by each metric of `MEASURED`; None where one is unreadable."""
    from sweep.study import ImagePair, UnreadableImageError, decode, reduced, resolve_metrics, working_shape

    metrics = resolve_metrics(MEASURED)
    try:
        first, second = decode(a), decode(b)
    except UnreadableImageError:
        return tuple(None for _ in metrics)
    by_size: dict[int, tuple[DecodedImage, DecodedImage]] = {}
    found: list[float | None] = []
    for metric in metrics:
        size = metric.working_size
        if size not in by_size:
            shape = working_shape(first.width, first.height, size)
            by_size[size] = reduced(first, shape), reduced(second, shape)
        reference, image = by_size[size]
        found.append(float(metric.measure(ImagePair(image=image, reference=reference))))
    return tuple(found)


def join_rows(a: ReportData, b: ReportData, pairs: Pairs, between: pd.DataFrame) -> tuple[ReportData, pd.DataFrame]:
    """Join the rows of two runs into the table that the page shows.

    Returns:
        The rows of b with what changed since a, followed by the points that only a has; and the rows of a (sha256,
        image_path, width, height) in the same order, empty where a has none.
    """
    order_b = [row_b for _, row_b in pairs.both] + list(pairs.only_b)
    order_a = [row_a for row_a, _ in pairs.both]
    shown = b.frame.iloc[order_b].reset_index(drop=True)
    paired = len(pairs.both)
    nothing = pd.Series([float("nan")] * len(pairs.only_b), dtype="float64")
    for name in between.columns.drop("same"):
        shown[name] = pd.concat([between[name], nothing], ignore_index=True)
    for name in (name for name in b.metrics if name in a.metrics):
        before = pd.concat([a.frame[name].iloc[order_a], nothing])
        shown[f"{CHANGE}{name}"] = shown[name] - before.reset_index(drop=True)
    missing = a.frame.iloc[list(pairs.only_a)].copy()
    missing["status"], missing["error"] = "missing", None
    missing[["image_path", "sha256"]] = None
    own = {axis.name: axis.column for axis in a.axes}
    wanted = {own[axis.name]: axis.column for axis in b.axes if axis.name in own}
    kept = [*wanted, "index", "key", "status", "error"]
    table = pd.concat([shown, missing[kept].rename(columns=wanted)], ignore_index=True)
    table["index"] = range(len(table))
    columns = ["sha256", "image_path", "width", "height"]
    places = [*order_a, *([-1] * len(pairs.only_b)), *pairs.only_a]
    others = a.frame.reindex(columns=columns).reset_index(drop=True).reindex(places).reset_index(drop=True)
    assert len(others) == len(table) == paired + len(pairs.only_b) + len(pairs.only_a)
    names_a = {axis.name for axis in a.axes}
    return replace(b, frame=table, axes=tuple(axis for axis in b.axes if axis.name in names_a)), others


_MOST_TEXT: Final = 60  # characters of a value


def list_changed_inputs(before: ExperimentFacts, after: ExperimentFacts) -> list[str]:
    """List the workflow and the inputs that are fixed in both experiments, or in one, and differ.

    For example ["cfg_scale 7.5 → 4"].
    """
    a, b = ({"workflow": facts.workflow or None, **facts.inputs} for facts in (before, after))
    names = dict.fromkeys([*a, *b])
    return [f"{name} {_shorten(a.get(name))} → {_shorten(b.get(name))}" for name in names if a.get(name) != b.get(name)]


def _shorten(value: object) -> str:
    return truncate("not set" if value is None else format_value(value), _MOST_TEXT)


_MOVED_BELOW: Final = 0.995  # SSIM: below, a person who blinks between the two sees a change
_MOVED_ABOVE: Final = 1.0  # ΔE (OKLab × 100): above, the same for colour and tone


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs compared, A (before) and B (after).

    `table` has one row per paired point: the common axes, `same`, the metrics between the two images (`between_…`) and
    the change of each metric (`change_…`, B minus A).
    """

    table: pd.DataFrame
    same: int  # pairs whose files are equal byte for byte
    alike: int  # others that the eye cannot tell apart (SSIM 0.995 and above, ΔE up to 1)
    moved: int
    unmeasured: int  # pairs in which an image is missing
    only_a: int
    only_b: int
    words: tuple[str, ...]
    page: Path


def compare_runs(a: Path, b: Path, *, out: Path | None = None, embed_up_to: int = EMBED_UP_TO) -> Comparison:
    """Compare two results folders and write the page to `out`, by default `compare-A-B.html` beside folder `b`.

    Points are paired by the values of the axes that both runs have.

    Raises:
        UsageError: A folder holds nothing, or the runs have no axis in common.
        RecordError: The page cannot be written.
    """
    before, after = _read_run(Path(a)), _read_run(Path(b))
    pairs = pair_rows(before, after)
    if not pairs.axes:
        raise UsageError(
            f"{before.name} and {after.name} have no axis in common.",
            hint=f"{before.name} has {_list_axes(before)}; {after.name} has {_list_axes(after)}.",
        )
    between = measure_pairs(before, after, pairs)
    data, others = join_rows(before, after, pairs, between)
    found = _summarize(data, between, pairs, _name_runs(before, after))
    if differing := list_changed_inputs(before.facts, after.facts):
        found = replace(found, words=(*found.words, f"Settings that differ: {'; '.join(differing)}."))
    target = out or Path(b).resolve().parent / f"compare-{_name_folder(a)}-{_name_folder(b)}.html"
    payload, thumbs = _build_comparison_payload(data, others, before, target, _name_runs(before, after), embed_up_to)
    facts = {**describe_page(data), **_describe_comparison(before, after, found, _name_runs(before, after))}
    write_page(target, payload, facts, thumbs)
    return replace(found, page=target)


def _read_run(folder: Path) -> ReportData:
    data = read_report_data(folder)
    if data.problem is not None:
        raise UsageError(data.problem)
    if data.frame.empty:
        raise UsageError(f"Nothing has been rendered in {folder} yet.")
    return data


def _list_axes(data: ReportData) -> str:
    return ", ".join(axis.name for axis in data.axes) or "none"


def _name_folder(folder: Path) -> str:
    return folder.resolve().name


def _name_runs(before: ReportData, after: ReportData) -> tuple[str, str]:
    """Return two names that tell the runs apart."""
    if before.name != after.name:
        return before.name, after.name
    names = _name_folder(before.folder), _name_folder(after.folder)
    if names[0] != names[1]:
        return names
    return f"{before.folder.resolve().parent.name}/{names[0]}", f"{after.folder.resolve().parent.name}/{names[1]}"


def _summarize(data: ReportData, between: pd.DataFrame, pairs: Pairs, titles: tuple[str, str]) -> Comparison:
    same = int(between["same"].fillna(False).sum())
    likeness = between[f"{BETWEEN}ssim"]
    unmeasured = int(likeness.isna().sum())
    moved = int(((likeness < _MOVED_BELOW) | (between[f"{BETWEEN}delta_e"] > _MOVED_ABOVE)).sum())
    columns = [axis.column for axis in data.axes]
    made = [name for name in data.frame.columns if str(name).startswith((BETWEEN, CHANGE))]
    table = data.frame[[*columns, "key", *made]].iloc[: len(pairs.both)].assign(same=between["same"])
    counted = Comparison(
        table=table,
        same=same,
        alike=len(between) - same - unmeasured - moved,
        moved=moved,
        unmeasured=unmeasured,
        only_a=len(pairs.only_a),
        only_b=len(pairs.only_b),
        words=(),
        page=Path(),
    )
    return replace(counted, words=tuple(_write_sentences(counted, data, pairs, titles)))


def _write_sentences(found: Comparison, data: ReportData, pairs: Pairs, titles: tuple[str, str]) -> list[str]:
    a, b = titles
    counts = {
        "are the same file": found.same,
        "look the same": found.alike,
        f"differ visibly (SSIM below {_MOVED_BELOW} or ΔE above 1)": found.moved,
        "lack an image in one run": found.unmeasured,
    }
    parts = [f"{count} {what}" for what, count in counts.items() if count] or ["none could be compared"]
    words = [f"Of {len(pairs.both)} points in both runs, {', '.join(parts)}."]
    if not pairs.both and (hint := _explain_no_pairs(data, pairs)):
        words.append(hint)
    if found.moved:
        worst = int(np.nanargmin(found.table[f"{BETWEEN}ssim"].to_numpy(dtype="float64")))
        values = [
            f"{axis.name} {format_level(to_json_value(data.frame[axis.column].iloc[worst]), axis.kind)}"
            for axis in data.axes
        ]
        likeness = float(found.table[f"{BETWEEN}ssim"].iloc[worst])
        words.append(f"The largest difference is at {', '.join(values)}: SSIM {likeness:.3g}.")
    for count, name in ((found.only_a, a), (found.only_b, b)):
        if count:
            words.append(f"{count} {'point is' if count == 1 else 'points are'} only in {name}.")
    if pairs.lost:
        words.append(f"Not compared: {', '.join(pairs.lost)}, because only one run has this axis.")
    return words


def _explain_no_pairs(data: ReportData, pairs: Pairs) -> str:
    """Say why no point of one run is in the other: as a rule because seeds were drawn anew."""
    seeds = [axis.name for axis in pairs.axes if axis.kind == "seed"]
    if not seeds:
        return "The runs have no level in common on one of their axes."
    name = seeds[0]
    return (
        f"No point is in both because the two runs drew different values of {name}: give them in the experiment file, "
        f"as in {name}: {{start: 1, count: {max(1, data.frame[name].nunique())}}}, and run one of them again."
    )


def _describe_comparison(
    before: ReportData, after: ReportData, found: Comparison, titles: tuple[str, str]
) -> dict[str, Any]:
    return {
        "name": f"{titles[0]} → {titles[1]}",
        "description": "Two runs compared point by point",
        "words": list(found.words),
        "findings": [],
        "counts": f"{len(found.table)} points in both",
        "sandbox": before.sandbox or after.sandbox,
        "problem": "",
        "failed": "",
        "commands": [f"sweep compare {_name_folder(before.folder)} {_name_folder(after.folder)}"],
    }


def _build_comparison_payload(
    data: ReportData,
    others: pd.DataFrame,
    before: ReportData,
    target: Path,
    titles: tuple[str, str],
    embed_up_to: int,
) -> tuple[JsonObject, dict[str, str]]:
    """Build the payload with the images of both runs, and collect the thumbnails that go into the page."""
    after_images, sources = find_image_files(data)
    before_images, _ = find_image_files(replace(before, frame=others, sources={}))
    embedded = len(after_images) + len(before_images) <= embed_up_to
    beside = None if embedded else target.parent / REPORT_FILES
    thumbs = [Thumbnails(data.folder, beside), Thumbnails(before.folder, beside)]
    wanted = {**after_images, **{identity: data.folder / name for name, identity in sources.items()}}
    made = [thumbs[0].make(wanted), thumbs[1].make(before_images)]
    links = ImageLinks(
        prefix=build_relative_url(target.parent, data.folder),
        thumbs=frozenset(made[0] | made[1]),
        embedded=embedded,
        thumb_prefix="" if embedded else f"{REPORT_FILES if beside else FOLDER}/",
        source_ids={name: identity for name, identity in sources.items() if identity in made[0]},
    )
    payload = build_payload(data, links)
    payload["name"] = payload["id"] = f"{titles[0]} → {titles[1]}"
    payload["others"] = encode_images(others, replace(links, prefix=build_relative_url(target.parent, before.folder)))
    payload["runs"] = {"shown": titles[1], "other": titles[0]}
    payload["columns"] = _order_columns(payload["columns"])
    inside = {**thumbs[1].encode(made[1]), **thumbs[0].encode(made[0])} if embedded else {}
    return payload, inside


_IDENTICAL: Final = {"ssim": 1, "structure_coarse": 1, "delta_e": 0}


def _summarize_column(prefix: str, name: str) -> str:
    if prefix == CHANGE:
        return "How much the metric changed from the first run to the second."
    kind = "Difference" if _IDENTICAL[name] == 0 else "Similarity"
    return f"{kind} of the two runs' images; {_IDENTICAL[name]} = identical."


def _order_columns(columns: Sequence[JsonObject]) -> list[JsonObject]:
    """Order and label the columns: differences between the runs, then changes, then the metrics themselves."""
    labels = {column["name"]: column["label"] for column in columns}
    from sweep.study import resolve_metrics

    labels |= {metric.name: metric.label for metric in resolve_metrics(MEASURED)}
    known = {BETWEEN: "A–B", CHANGE: "Δ"}
    found: dict[str, list[JsonObject]] = {BETWEEN: [], CHANGE: [], "": []}
    for column in columns:
        prefix = next(begin for begin in found if str(column["name"]).startswith(begin))
        if prefix:
            name = str(column["name"]).removeprefix(prefix)
            summary = _summarize_column(prefix, name)
            column = {**column, "label": f"{known[prefix]} {labels.get(name, name)}", "summary": summary}
        found[prefix].append(column)
    rank = {f"{CHANGE}{column['name']}": place for place, column in enumerate(found[""])}
    found[CHANGE].sort(key=lambda column: rank.get(str(column["name"]), len(rank)))
    return [column for group in found.values() for column in group]
