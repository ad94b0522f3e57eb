"""The overview: all runs of a results folder in a list, with what each is about, how far it is, and what it found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from sweep.errors import RecordError, SweepError
from sweep.record import JOURNAL_FILE, in_use
from sweep.report.compare import pair_rows
from sweep.report.page_data import JsonObject, ReportData, read_report_data, to_json_value
from sweep.report.page_facts import RUN_OUTCOMES, format_counts
from sweep.report.page_writer import find_image_files, render_overview_page

_MOST_PIXEL_PAIRS: Final = 200  # images compared pixel by pixel before the overview says "not compared"


def list_run_folders(root: Path) -> list[str]:
    """List the names of the results folders directly in `root`, the last changed first."""
    found = [path.parent for path in root.glob(f"*/{JOURNAL_FILE}")]
    return [folder.name for folder in sorted(found, key=_changed_at, reverse=True)]


def _changed_at(folder: Path) -> float:
    files = (folder / JOURNAL_FILE, folder / f"{JOURNAL_FILE}-wal")
    return max(path.stat().st_mtime for path in files if path.exists())


def summarize_run(folder: Path) -> JsonObject:
    """Summarize a run for one row of the overview."""
    data = read_report_data(folder)
    changed = _changed_at(folder)
    is_running = _is_running(data)
    return {
        "folder": folder.name,
        "name": data.name,
        "description": data.description,
        "images": _choose_images(data),
        "state": "running" if is_running else _describe_state(data),
        "done": data.counts.completed,
        "failed": data.counts.failed,
        "points": data.counts.points,
        "counts": format_counts(data),
        "finding": "" if is_running else _first_finding(folder, changed),
        "changed": changed,
        "age": _format_age(datetime.now(UTC).timestamp() - changed),
    }


def _is_running(data: ReportData) -> bool:
    if not data.runs or data.runs[-1].ended_at is not None:
        return False
    try:
        return in_use(data.folder)
    except RecordError:
        return False


def _describe_state(data: ReportData) -> str:
    if data.problem is not None:
        return "cannot be read"
    ending = (data.runs[-1].ending if data.runs else None) or ""
    return RUN_OUTCOMES.get(ending, ending) if ending else "stopped"


def _choose_images(data: ReportData) -> list[str]:
    """Choose three thumbnails: the first, middle and last level of the widest axis, everything else equal."""
    images, _ = find_image_files(data)
    ids = list(images)
    varied = [axis for axis in data.axes if data.frame[axis.column].nunique() > 1]
    if not varied or "sha256" not in data.frame:
        return ids[:3]
    widest = max((axis for axis in varied if axis.kind != "seed"), key=_levels(data), default=varied[0])
    rows = data.frame[data.frame["sha256"].notna()]
    for axis in data.axes:
        if axis.name != widest.name and len(rows):
            rows = rows[rows[axis.column] == rows[axis.column].iloc[0]]
    found = [str(sha)[:16] for sha in rows.sort_values(widest.column)["sha256"]]
    return list(dict.fromkeys([found[0], found[len(found) // 2], found[-1]])) if found else ids[:3]


def _levels(data: ReportData) -> Any:
    return lambda axis: data.frame[axis.column].nunique()


@lru_cache(maxsize=500)
def _first_finding(folder: Path, changed: float) -> str:  # noqa: ARG001  a new time of change is a new question
    """Return the first finding of the study, from values measured before; "" where nothing is measured."""
    from sweep.study import make_study

    try:
        if not read_report_data(folder).metrics:
            return ""
        words = make_study(folder).to_json()["words"]
    except SweepError:
        return ""
    text = next((word["text"] for word in words if word["headline"]), "")
    return re.sub(r" \([^()]*\)", "", text)


def _format_age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"


def count_shared(a: Path, b: Path) -> str:
    """Say what two runs share, before they are compared: their cells, and whether the images are the same."""
    first, second = read_report_data(a), read_report_data(b)
    if first.problem or second.problem:
        return "One of the two cannot be read."
    pairs = pair_rows(first, second)
    names = f"{first.name} and {second.name}"
    if not pairs.axes:
        return f"{names} have no axis in common: there is nothing to compare."
    if not pairs.both:
        return f"{names} have no cell in common."
    axes = ", ".join(axis.name.replace("_", " ") for axis in pairs.axes)
    text = f"{names} have {len(pairs.both)} cells in common, by {axes}."
    if len(pairs.both) > _MOST_PIXEL_PAIRS:
        return text
    same = sum(_is_same_image(first, second, *at) for at in pairs.both)
    if same == len(pairs.both):
        return f"{text} All {same} images are the same, pixel for pixel."
    return f"{text} {same} of the images are the same, pixel for pixel." if same else text


def _is_same_image(a: ReportData, b: ReportData, row_a: int, row_b: int) -> bool:
    """Compare pixels: the files of equal images differ by the texts that servers write into them."""
    hashes = [to_json_value(data.frame["sha256"].iloc[row]) for data, row in ((a, row_a), (b, row_b))]
    if hashes[0] is None or hashes[1] is None:
        return False
    if hashes[0] == hashes[1]:
        return True
    try:
        paths = [data.folder / str(data.frame["image_path"].iloc[row]) for data, row in ((a, row_a), (b, row_b))]
        with Image.open(paths[0]) as first, Image.open(paths[1]) as second:
            return first.size == second.size and np.array_equal(np.asarray(first), np.asarray(second))
    except (OSError, ValueError):
        return False


def render_overview(root: Path) -> str:
    """Render the page that lists the runs in `root`."""
    runs = [summarize_run(root / name) for name in list_run_folders(root)]
    return render_overview_page({"folder": root.resolve().name, "runs": runs}, _facts(root, runs))


def _facts(root: Path, runs: list[JsonObject]) -> Mapping[str, Any]:
    return {"folder": f"{root.resolve().name}/", "count": len(runs)}
