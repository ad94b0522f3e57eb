"""The texts of pages: counts, outcome, servers, failures and provenance of a run, and its row in the overview.

Addresses of servers and folders of the author's machine are left out: a report travels.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from sweep.record import JOURNAL_FILE
from sweep.report.page_json import JsonObject
from sweep.report.report_data import (
    AxisColumn,
    ReportData,
    choose_axes,
    format_level,
    name_variation,
    read_report_data,
    remove_paths,
    sort_levels,
    study_folder,
    to_json_value,
)
from sweep.text import format_seconds, quote_argument
from sweep.version import VERSION

if TYPE_CHECKING:
    from sweep.record import RunRecord


_MOST_LEVELS: Final = 12
_MOST_FAILURES: Final = 100
RUN_OUTCOMES: Final = {
    "": "still running, or killed",
    "completed": "finished",
    "failures": "finished, some failed",
    "stopped-by-failures": "stopped: too many failures",
    "no-server": "stopped: no usable server left",
    "record-broken": "stopped: the results could not be written",
}
"""What became of a run, for people; "interrupted" and "cancelled" say it themselves."""
_UNTOLD_FACTS: Final = ("name", "url", "sandbox")  # addresses are private; the sandbox has a banner


def describe_page(data: ReportData, study: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Collect the variables of report.html.j2, except payload, scripts and style."""
    words = (study or {}).get("words", ())
    counts = [(_count_status(data.frame, status), status) for status in ("failed", "cancelled")]
    commands = [remove_paths(run.facts.command) for run in data.runs[-1:] if run.facts.command]
    return {
        "name": data.name,
        "description": data.description,
        "words": [word["text"] for word in words if word["headline"]],
        "findings": [word["text"] for word in sorted(words, key=lambda word: not word["headline"])],
        "counts": format_counts(data),
        "failed": " · ".join(f"{count:,} {status}" for count, status in counts if count),
        "sandbox": data.sandbox,
        "problem": _find_problem(data),
        "design": [(axis.name, axis.kind, *_format_levels(axis, data.frame)) for axis in data.axes],
        "study_design": _describe_design(study),
        "runs": [_describe_run(run) for run in data.runs[-20:]],
        "facts": _describe_provenance(data),
        "failures": _group_failures(data),
        "commands": [*commands, f"sweep report {quote_argument(data.name)}"],
        "experiment": data.experiment,
        "took": _describe_duration(data.runs[-1]) if data.runs else "",
        "previews": False,
        "plain_images": [],
        "more_images": 0,
    }


def format_counts(data: ReportData) -> str:
    """Format the counts, for example "131 of 132 points"; with the images where a point has several."""
    done = _count_status(data.frame, "completed")
    points = data.counts.points
    if points == 0:
        return "no points" if done == 0 else f"{done:,} images"
    line = f"{data.counts.completed or done:,} of {points:,} {'point' if points == 1 else 'points'}"
    return line if done <= max(data.counts.completed, 1) else f"{line}, {done:,} images"


def _describe_duration(run: RunRecord) -> str:
    """Say how long a run took, "" where it goes on or was killed."""
    return "" if run.ended_at is None else format_seconds((run.ended_at - run.begun_at).total_seconds())


def _count_status(frame: pd.DataFrame, status: str) -> int:
    return int((frame["status"] == status).sum()) if "status" in frame else 0


def _find_problem(data: ReportData) -> str:
    """Return the sentence for the top of a page where images are missing altogether, "" otherwise."""
    if data.problem is not None:
        return data.problem.replace(str(data.folder), data.folder.name)
    if data.frame.empty:
        return "Nothing has been rendered in this folder yet."
    if _count_status(data.frame, "completed") == 0:
        return "All images failed. The reasons are in the cells and at the end of the page."
    return ""


def _format_levels(axis: AxisColumn, frame: pd.DataFrame) -> tuple[int, str]:
    levels = sort_levels([to_json_value(value) for value in frame[axis.column].drop_duplicates()])
    shown = [format_level(level) for level in levels[:_MOST_LEVELS]]
    if len(levels) > _MOST_LEVELS:
        shown = [*shown[:-1], "…", format_level(levels[-1])]
    return len(levels), " · ".join(shown)


def _describe_design(study: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    design = (study or {}).get("design")
    if not design:
        return []
    against = {"source": "the source image", "baseline": "the baseline cell", "none": "nothing"}
    missing = f"no: {design['missing']} of {design['cells']} cells have no image"
    rows = [("balanced", "yes" if design["balanced"] else missing), ("compared with", against[design["reference"]])]
    shared = "the same" if design["seeds_shared"] else "different ones"
    return [*rows, ("seeds", f"{design['seeds']}, {shared} at every other point")] if design["seed_axis"] else rows


def _describe_run(run: RunRecord) -> dict[str, Any]:
    return {
        "number": run.number,
        "begun": run.begun_at.strftime("%Y-%m-%d %H:%M UTC"),
        "took": _describe_duration(run),
        "ending": RUN_OUTCOMES.get(run.ending or "", run.ending or ""),
        "servers": " · ".join(_describe_server(server) for server in run.facts.servers),
        "version": run.facts.sweep_version,
    }


def _describe_server(server: Mapping[str, str]) -> str:
    """Describe a server, for example "gpu1 (version 6.14.2, API queue)"."""
    labels = {"version": "version ", "api": "API "}
    names = [*labels, *(name for name in server if name not in {*labels, *_UNTOLD_FACTS})]
    about = ", ".join(f"{labels.get(name, f'{name} ')}{server[name]}" for name in names if server.get(name))
    name = server.get("name", "")
    return f"{name} ({about})" if name and about else name or about


def _describe_provenance(data: ReportData) -> list[tuple[str, str]]:
    frame = data.frame
    facts: list[tuple[str, str]] = []
    for column, label in (("server", "servers"), ("model", "models")):
        if column in frame and column not in {axis.column for axis in data.axes}:
            names = [str(name) for name in frame[column].dropna().unique()]
            if names:
                facts.append((label, " · ".join(names[:20])))
    if "render_seconds" in frame and frame["render_seconds"].notna().any():
        seconds = frame["render_seconds"].dropna()
        typical, total = format_level(float(seconds.median())), format_seconds(float(seconds.sum()))
        facts.append(("rendering", f"{typical} s per image (median), {total} in total"))
    if data.runs:
        facts.append(("definition", data.runs[-1].facts.fingerprint))
    facts.append(("images", _hash_images(frame)))
    facts.append(("made with", f"sweep {VERSION}, Python {platform.python_version()}"))
    return [(label, text) for label, text in facts if text]


def _hash_images(frame: pd.DataFrame) -> str:
    """Hash all keys and images: equal where two folders hold the same images of the same points."""
    if "sha256" not in frame or frame["sha256"].notna().sum() == 0:
        return ""
    whole = frame[frame["sha256"].notna()]
    digest = hashlib.sha256()
    for line in sorted(f"{key} {sha}\n" for key, sha in zip(whole["key"], whole["sha256"], strict=True)):
        digest.update(line.encode())
    return f"{len(whole)}, together {digest.hexdigest()[:16]} (SHA-256 over keys and files)"


def _group_failures(data: ReportData) -> list[dict[str, Any]]:
    """Group failed points by reason, the most frequent first, each with the first point it was given for."""
    frame = data.frame
    if "status" not in frame or "error" not in frame:
        return []
    failed = frame[frame["status"] == "failed"]
    reasons = failed["error"].fillna("the server gave no reason")
    found: list[dict[str, Any]] = [
        {"reason": str(reason), "count": len(rows), "example": name_variation(data, 0, rows)}
        for reason, rows in failed.groupby(reasons, sort=False)
    ]
    return sorted(found, key=lambda group: group["count"], reverse=True)[:_MOST_FAILURES]


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
    across, others = choose_axes(data)
    if across is None or "sha256" not in data.frame:
        return ids[:3]
    varied = [axis for axis in data.axes if axis is across or axis in others]
    widest = max(varied, key=lambda axis: (axis.kind != "seed", data.frame[axis.column].nunique()))
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
