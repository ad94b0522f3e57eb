"""The overview of all runs in a folder: description, progress, images and first finding of each."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from sweep.record import JOURNAL_FILE
from sweep.report.page import RUN_OUTCOMES, format_counts, render_overview_page, study_folder
from sweep.report.payload import JsonObject
from sweep.report.report_data import ReportData, read_report_data


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
    running = data.is_running
    ending = (data.runs[-1].ending if data.runs else None) or ""
    state = RUN_OUTCOMES.get(ending, ending) if ending else "stopped"
    return {
        "folder": folder.name,
        "name": data.name,
        "description": data.description,
        "images": _choose_images(data),
        "state": "running" if running else "cannot be read" if data.problem is not None else state,
        "done": data.counts.completed,
        "failed": data.counts.failed,
        "points": data.counts.points,
        "counts": format_counts(data),
        "finding": "" if running else _first_finding(folder, changed),
        "changed": changed,
        "age": _format_age(datetime.now(UTC).timestamp() - changed),
    }


def _choose_images(data: ReportData) -> list[str]:
    """Choose three thumbnails: the first, middle and last level of the widest axis, everything else equal."""
    ids = list(data.files.images)
    varied = [axis for axis in data.axes if data.frame[axis.column].nunique() > 1]
    if not varied or "sha256" not in data.frame:
        return ids[:3]
    widest = max(
        [axis for axis in varied if axis.kind != "seed"],
        key=lambda axis: data.frame[axis.column].nunique(),
        default=varied[0],
    )
    rows = data.frame[data.frame["sha256"].notna()]
    for axis in data.axes:
        if axis.name != widest.name and len(rows):
            rows = rows[rows[axis.column] == rows[axis.column].iloc[0]]
    found = [str(sha)[:16] for sha in rows.sort_values(widest.column)["sha256"]]
    return list(dict.fromkeys([found[0], found[len(found) // 2], found[-1]])) if found else ids[:3]


@lru_cache(maxsize=500)
def _first_finding(folder: Path, changed: float) -> str:  # noqa: ARG001  a new time of change is a new question
    """Return the first finding of the study, from values measured before; "" where nothing is measured."""
    study = study_folder(folder) if read_report_data(folder).metrics else None
    text = next((word["text"] for word in study["words"] if word["headline"]), "") if study else ""
    return re.sub(r" \([^()]*\)", "", text)


def _format_age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"


def render_overview(root: Path) -> str:
    """Render the page that lists the runs in `root`."""
    runs = [summarize_run(root / name) for name in list_run_folders(root)]
    name = root.resolve().name
    return render_overview_page({"folder": name, "runs": runs}, {"folder": f"{name}/", "count": len(runs)})
