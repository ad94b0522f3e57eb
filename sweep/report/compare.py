"""Two runs side by side: pairs their rows, measures each pair, and writes the page that `sweep compare` opens."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from PIL import Image

from sweep.errors import UsageError
from sweep.record import ExperimentFacts
from sweep.report.page_json import JsonObject, build_page_json, describe_metrics, encode_images
from sweep.report.report_data import AxisColumn, ReportData, name_variation, read_rendered, read_report_data
from sweep.report.report_writer import EMBED_UP_TO, describe_images, describe_page, link_images, write_page
from sweep.text import format_count, format_value, quote_argument, truncate

_IDENTICAL: Final = {"ssim": 1, "structure_coarse": 1, "delta_e": 0}
MEASURED: Final = tuple(_IDENTICAL)
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
    found: dict[Hashable, int] = {}
    numbers: Counter[Hashable] = Counter()
    for row, point in enumerate(zip(*(data.read_levels(axis.name) for axis in axes), strict=True)):
        found[point, numbers[point]] = row
        numbers[point] += 1
    return found


def measure_pairs(a: ReportData, b: ReportData, pairs: Pairs) -> pd.DataFrame:
    """Measure each pair: the image of b, with the image of a as its reference.

    Returns:
        One row per pair. `same` is true where the files are equal byte for byte; the metrics are missing where one of
        the images is missing or cannot be read.
    """
    from sweep.study import Task, measure_task, resolve_metrics

    metrics = resolve_metrics(MEASURED)

    def measure(at: tuple[int, int]) -> tuple[object, ...]:
        files = find_pair_files(a, b, *at)
        if files is None:
            return (None, *(None for _ in metrics))
        first, second, is_same = files
        if is_same:
            return (True, *_IDENTICAL.values())
        task = Task(rows=(at[1],), images=(second,), metrics=tuple(range(len(metrics))), reference=first)
        (measured,) = measure_task(task, metrics)
        return (False, *measured.values)

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="compare") as pool:
        rows = list(pool.map(measure, pairs.both))
    columns = ["same", *(f"{BETWEEN}{name}" for name in MEASURED)]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"same": "boolean", **dict.fromkeys(columns[1:], "float64")})


def find_pair_files(a: ReportData, b: ReportData, row_a: int, row_b: int) -> tuple[Path, Path, bool] | None:
    """Find the images of a pair, and say whether they are equal byte for byte; None where one is missing."""
    rows = ((a, row_a), (b, row_b))
    paths, hashes = ([data.frame[name].iloc[row] for data, row in rows] for name in ("image_path", "sha256"))
    if any(pd.isna(value) for value in (*paths, *hashes)):
        return None
    return a.folder / paths[0], b.folder / paths[1], hashes[0] == hashes[1]


def join_rows(a: ReportData, b: ReportData, pairs: Pairs, between: pd.DataFrame) -> tuple[ReportData, pd.DataFrame]:
    """Join the rows of two runs into the table that the page shows.

    Returns:
        The rows of b with what changed since a, followed by the points that only a has; and the rows of a (sha256,
        image_path, width, height) in the same order, empty where a has none.
    """
    order_a = [row_a for row_a, _ in pairs.both]
    shown = b.frame.iloc[[*(row_b for _, row_b in pairs.both), *pairs.only_b]].reset_index(drop=True)
    for name in between.columns.drop("same"):
        shown[name] = between[name]  # by position: missing for the points that only b has
    for name in (name for name in b.metrics if name in a.metrics):
        shown[f"{CHANGE}{name}"] = shown[name] - a.frame[name].iloc[order_a].reset_index(drop=True)
    own = {axis.name: axis.column for axis in a.axes}
    axes = tuple(axis for axis in b.axes if axis.name in own)
    wanted = {own[axis.name]: axis.column for axis in axes}
    missing = a.frame.iloc[list(pairs.only_a)].assign(status="missing", error=None)
    kept = missing[[*wanted, "index", "key", "status", "error"]].rename(columns=wanted)
    table = pd.concat([shown, kept], ignore_index=True)
    table["index"] = range(len(table))
    places = [*order_a, *([-1] * len(pairs.only_b)), *pairs.only_a]
    others = a.frame.reindex(index=places, columns=["sha256", "image_path", "width", "height"]).reset_index(drop=True)
    return replace(b, frame=table, axes=axes), others


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

    table: pd.DataFrame = field(repr=False)
    same: int  # pairs whose files are equal byte for byte
    alike: int  # others that the eye cannot tell apart (SSIM 0.995 and above, ΔE up to 1)
    moved: int
    unmeasured: int  # pairs in which an image is missing
    only_a: int
    only_b: int
    page: Path
    words: tuple[str, ...] = ()


def compare_runs(a: Path | str, b: Path | str, *, out: Path | str | None = None) -> Comparison:
    """Compare two results folders and write the page to `out`, by default `compare-A-B.html` beside folder `b`.

    Points are paired by the values of the axes that both runs have.

    Raises:
        UsageError: Nothing has been rendered in a folder, or the runs have no axis in common.
        RecordError: A folder cannot be read, or the page cannot be written.
    """
    before, after = read_rendered(a), read_rendered(b)
    pairs = pair_rows(before, after)
    if not pairs.axes:
        known = [f"{run.name} has {', '.join(axis.name for axis in run.axes) or 'none'}" for run in (before, after)]
        raise UsageError(f"{before.name} and {after.name} have no axis in common.", hint=f"{'; '.join(known)}.")
    between = measure_pairs(before, after, pairs)
    data, others = join_rows(before, after, pairs, between)
    titles, folders = _name_runs(before, after), [run.folder.resolve().name for run in (before, after)]
    target = Path(out or after.folder.resolve().parent / f"compare-{folders[0]}-{folders[1]}.html")
    found = _summarise(data, between, pairs, target)
    words = _write_sentences(found, data, pairs, (before, after), titles)
    if differing := list_changed_inputs(before.facts, after.facts):
        words.append(f"Settings that differ: {'; '.join(differing)}.")
    facts = {
        "name": f"{titles[0]} → {titles[1]}",
        "description": "Two runs compared point by point",
        "words": words,
        "findings": [],
        "counts": f"{format_count(len(found.table), 'point')} in both",
        "sandbox": before.sandbox or after.sandbox,
        "problem": "",
        "failed": "",
        "commands": [f"sweep compare {quote_argument(folders[0])} {quote_argument(folders[1])}"],
    }
    _write_comparison(target, data, replace(before, frame=others, axes=(), sources={}), titles, facts)
    return replace(found, words=tuple(words))


def _name_runs(before: ReportData, after: ReportData) -> tuple[str, str]:
    """Return two names that tell the runs apart."""
    if before.name != after.name:
        return before.name, after.name
    a, b = before.folder.resolve(), after.folder.resolve()
    return (a.name, b.name) if a.name != b.name else (f"{a.parent.name}/{a.name}", f"{b.parent.name}/{b.name}")


def _summarise(data: ReportData, between: pd.DataFrame, pairs: Pairs, page: Path) -> Comparison:
    same = int(between["same"].fillna(False).sum())
    likeness = between[f"{BETWEEN}ssim"]
    unmeasured = int(likeness.isna().sum())
    moved = int(((likeness < _MOVED_BELOW) | (between[f"{BETWEEN}delta_e"] > _MOVED_ABOVE)).sum())
    columns = [axis.column for axis in data.axes]
    made = [name for name in data.frame.columns if str(name).startswith((BETWEEN, CHANGE))]
    return Comparison(
        table=data.frame[[*columns, "key", *made]].iloc[: len(pairs.both)].assign(same=between["same"]),
        same=same,
        alike=len(between) - same - unmeasured - moved,
        moved=moved,
        unmeasured=unmeasured,
        only_a=len(pairs.only_a),
        only_b=len(pairs.only_b),
        page=page,
    )


def _write_sentences(
    found: Comparison, data: ReportData, pairs: Pairs, runs: tuple[ReportData, ReportData], titles: tuple[str, str]
) -> list[str]:
    a, b = titles
    common = {axis.name for axis in pairs.axes}
    counts = (
        ("has", "have", "the same image file", found.same),
        ("has", "have", "images that look the same", found.alike),
        ("has", "have", f"visibly different images (SSIM below {_MOVED_BELOW} or ΔE above 1)", found.moved),
        ("lacks", "lack", "an image in one run", found.unmeasured),
    )
    parts = [f"{count} {one if count == 1 else many} {what}" for one, many, what, count in counts if count]
    if pairs.both:
        words = [f"Of {format_count(len(pairs.both), 'point')} in both runs, {', '.join(parts)}."]
    else:
        words = ["No point is in both runs.", _explain_no_pairs(*runs, pairs)]
    if found.moved:
        worst, measured = _find_largest_difference(found.table)
        words.append(f"The largest difference is at {name_variation(data, worst)}: {measured}.")
    for count, name in ((found.only_a, a), (found.only_b, b)):
        if count:
            words.append(f"{count} {'point is' if count == 1 else 'points are'} only in {name}.")
    if pairs.lost:
        verb, them = ("this axis", "it") if len(pairs.lost) == 1 else ("these axes", "them")
        text = f"Not compared: {', '.join(pairs.lost)}, because only one run has {verb}"
        shared = ([axis.column for axis in run.axes if axis.name in common] for run in runs)
        if pairs.both and any(run.frame.duplicated(names).any() for run, names in zip(runs, shared, strict=True)):
            text += f"; points that differ in {them} alone are paired in the order of their tables"
        words.append(f"{text}.")
    return words


def _find_largest_difference(table: pd.DataFrame) -> tuple[int, str]:
    """Find the pair that is least alike, by colour where only colours differ, and write what tells it."""
    likeness, colour = (table[f"{BETWEEN}{name}"].to_numpy(dtype="float64") for name in ("ssim", "delta_e"))
    worst = int(np.nanargmin(likeness))
    if likeness[worst] < _MOVED_BELOW:
        return worst, f"SSIM {likeness[worst]:.3g}"
    worst = int(np.nanargmax(colour))
    return worst, f"ΔE {colour[worst]:.3g}"


def _explain_no_pairs(before: ReportData, after: ReportData, pairs: Pairs) -> str:
    """Name the axes on which no level of one run is in the other; of drawn seeds, say how to give them."""
    levels = {axis.name: [set(run.read_levels(axis.name)) for run in (before, after)] for axis in pairs.axes}
    apart = [axis for axis in pairs.axes if set.isdisjoint(*levels[axis.name])]
    if not apart:
        return "They have levels in common on each axis, but not in the same combination."
    names = " and of ".join(axis.name for axis in apart)
    if [axis.kind for axis in apart] != ["seed"]:
        return f"They have no level of {names} in common."
    return (
        f"They have different values of {names}: give them in the experiment file, "
        f"as in {names}: {{start: 1, count: {max(1, len(levels[names][1]))}}}, and run one of them again."
    )


def _write_comparison(
    target: Path, data: ReportData, before: ReportData, titles: tuple[str, str], facts: JsonObject
) -> None:
    """Write the page with the images of both runs; the rows of `before` stand in the order of those of `data`."""
    embedded = len(data.files.images) + len(before.files.images) <= EMBED_UP_TO
    links, thumbs = link_images(data, target, embedded=embedded, beside=False)
    other, other_thumbs = link_images(before, target, embedded=embedded, beside=False)
    whole = replace(links, thumbs=links.thumbs | other.thumbs)
    own = [name for name in data.metrics if not name.startswith((BETWEEN, CHANGE))]
    payload = build_page_json(data, whole, described=[*_describe_changes(own)])
    payload["name"] = payload["id"] = facts["name"]
    payload["others"] = encode_images(before, replace(whole, prefix=other.prefix))
    payload["runs"] = {"shown": titles[1], "other": titles[0]}
    facts = {**describe_page(data), **describe_images(data, links, thumbs), **facts}
    write_page(target, payload, facts, {**other_thumbs, **thumbs})


def _describe_changes(metrics: Sequence[str]) -> Iterator[JsonObject]:
    """Describe the columns that the page of two runs lists first: differences between images, changes of metrics."""
    for fact in describe_metrics(MEASURED):
        name, label, identical = f"{BETWEEN}{fact['name']}", f"A–B {fact['label']}", _IDENTICAL[fact["name"]]
        summary = f"{'Similarity' if identical else 'Difference'} of the two runs' images; {identical} = identical."
        yield {"name": name, "label": label, "direction": "neutral", "summary": summary}
    for fact in describe_metrics(tuple(metrics)):
        name, label = f"{CHANGE}{fact['name']}", f"Δ {fact['label']}"
        summary = "How much the metric changed from the first run to the second."
        yield {"name": name, "label": label, "direction": "neutral", "summary": summary}


_MOST_PIXEL_PAIRS: Final = 200  # pairs that the overview compares pixel by pixel at most


def count_shared(a: Path, b: Path) -> str:
    """Say what two runs share, before they are compared: their cells, and whether the images are the same."""
    first, second = read_report_data(a), read_report_data(b)
    if first.problem or second.problem:
        return "One of the two cannot be read."
    pairs = pair_rows(first, second)
    names = " and ".join(_name_runs(first, second))
    if not pairs.axes:
        return f"{names} have no axis in common: there is nothing to compare."
    if not pairs.both:
        return f"{names} have no cell in common."
    axes = ", ".join(axis.name.replace("_", " ") for axis in pairs.axes)
    text = f"{names} have {format_count(len(pairs.both), 'cell')} in common, by {axes}."
    if len(pairs.both) > _MOST_PIXEL_PAIRS:
        return text
    same = sum(_is_same_image(first, second, *at) for at in pairs.both)
    if same == len(pairs.both):
        whole = f"All {same} images are" if same > 1 else "The image is"
        return f"{text} {whole} the same, pixel for pixel."
    return f"{text} {same} of the images {'is' if same == 1 else 'are'} the same, pixel for pixel." if same else text


def _is_same_image(a: ReportData, b: ReportData, row_a: int, row_b: int) -> bool:
    """Compare pixels: the files of equal images differ by the texts that servers write into them."""
    files = find_pair_files(a, b, row_a, row_b)
    if files is None or files[2]:
        return files is not None
    try:
        with Image.open(files[0]) as first, Image.open(files[1]) as second:
            return first.size == second.size and np.array_equal(np.asarray(first), np.asarray(second))
    except (OSError, ValueError):
        return False
