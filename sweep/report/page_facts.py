"""The page's fixed text: counts, findings, design, servers, failures and commands.

Addresses of servers and folders of the author's machine are left out: a report travels.
"""

from __future__ import annotations

import hashlib
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pandas as pd

from sweep.report.page_data import AxisColumn, ReportData, remove_paths, to_json_value
from sweep.text import format_value

_MOST_LEVELS: Final = 12
_MOST_FAILURES: Final = 100
_SERVER: Final = {"version": "version", "api": "API"}
RUN_OUTCOMES: Final = {
    "": "still running, or killed",
    "completed": "finished",
    "failures": "finished, some failed",
    "stopped-by-failures": "stopped: too many failures",
    "no-server": "stopped: no usable server left",
    "record-broken": "stopped: the results could not be written",
}
"""What became of a run, for people; "interrupted" and "cancelled" say it themselves."""
_HIDDEN_FACTS: Final = ("url", "sandbox")  # an address is nobody's business; the sandbox has a banner


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """One reason for failures, how often it was given, and the first point it was given for."""

    reason: str
    count: int
    example: str


def describe_page(data: ReportData, study: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Collect the variables of report.html.j2, except payload, scripts and style."""
    return {
        "name": data.name,
        "description": data.description,
        "words": _select_headlines(study),
        "findings": _order_findings(study),
        "counts": format_counts(data),
        "failed": _format_failed(data),
        "sandbox": data.sandbox,
        "problem": find_problem(data),
        "design": [(axis.name, axis.kind, *_format_levels(axis, data.frame)) for axis in data.axes],
        "study_design": _describe_design(study),
        "runs": _describe_runs(data),
        "facts": _describe_provenance(data),
        "failures": group_failures(data),
        "commands": _list_commands(data),
        "experiment": data.experiment,
        "took": _describe_duration(data),
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


def _describe_duration(data: ReportData) -> str:
    """Say how long the last run took, "" where it goes on or was killed."""
    run = data.runs[-1] if data.runs else None
    return "" if run is None or run.ended_at is None else _format_span((run.ended_at - run.begun_at).total_seconds())


def _count_status(frame: pd.DataFrame, status: str) -> int:
    return int((frame["status"] == status).sum()) if "status" in frame else 0


def _format_failed(data: ReportData) -> str:
    parts = [
        f"{count:,} {status}" for status in ("failed", "cancelled") if (count := _count_status(data.frame, status))
    ]
    return " · ".join(parts)


def find_problem(data: ReportData) -> str:
    """Return the sentence for the top of a page where images are missing altogether, "" otherwise."""
    if data.problem is not None:
        return data.problem.replace(str(data.folder), data.folder.name)
    if data.frame.empty:
        return "Nothing has been rendered in this folder yet."
    if _count_status(data.frame, "completed") == 0:
        return "All images failed. The reasons are in the cells and at the end of the page."
    return ""


def _select_headlines(study: Mapping[str, Any] | None) -> list[str]:
    return [word["text"] for word in (study or {}).get("words", ()) if word["headline"]]


def _order_findings(study: Mapping[str, Any] | None) -> list[str]:
    return [word["text"] for word in sorted((study or {}).get("words", ()), key=lambda word: not word["headline"])]


def _format_levels(axis: AxisColumn, frame: pd.DataFrame) -> tuple[int, str]:
    values = [to_json_value(value) for value in frame[axis.column].drop_duplicates()]
    levels = sorted(values, key=_level_key) if all(isinstance(value, int | float) for value in values) else values
    shown = [_format_value(level) for level in levels[:_MOST_LEVELS]]
    if len(levels) > _MOST_LEVELS:
        shown = [*shown[:-1], "…", _format_value(levels[-1])]
    return len(levels), " · ".join(shown)


def _level_key(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _format_value(value: object) -> str:
    return "none" if value is None else format_value(value)


def _describe_design(study: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    design = (study or {}).get("design")
    if not design:
        return []
    against = {"source": "the source image", "baseline": "the baseline cell", "none": "nothing"}
    missing = f"no: {design['missing']} of {design['cells']} cells have no image"
    rows = [("balanced", "yes" if design["balanced"] else missing), ("compared with", against[design["reference"]])]
    shared = "the same" if design["seeds_shared"] else "different ones"
    return [*rows, ("seeds", f"{design['seeds']}, {shared} at every other point")] if design["seed_axis"] else rows


def _describe_runs(data: ReportData) -> list[dict[str, Any]]:
    return [
        {
            "number": run.number,
            "begun": _format_moment(run.begun_at),
            "took": "" if run.ended_at is None else _format_span((run.ended_at - run.begun_at).total_seconds()),
            "ending": RUN_OUTCOMES.get(run.ending or "", run.ending or ""),
            "servers": " · ".join(_describe_server(server) for server in run.facts.servers),
            "version": run.facts.sweep_version,
        }
        for run in data.runs[-20:]
    ]


def _describe_server(server: Mapping[str, str]) -> str:
    """Describe a server, for example "gpu1 (version 6.14.2, API queue)"."""
    name = server.get("name", "")
    shown = [f"{label} {server[key]}" if label else server[key] for key, label in _SERVER.items() if server.get(key)]
    rest = [
        f"{key} {value}" for key, value in server.items() if key not in {"name", *_SERVER, *_HIDDEN_FACTS} and value
    ]
    about = ", ".join([*shown, *rest])
    return f"{name} ({about})" if name and about else name or about


def _format_moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")


def _format_span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


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
        typical, total = _format_value(float(seconds.median())), _format_span(seconds.sum())
        facts.append(("rendering", f"{typical} s per image (median), {total} in total"))
    if data.runs:
        facts.append(("definition", data.runs[-1].facts.fingerprint))
    facts.append(("images", _hash_images(frame)))
    facts.append(("made with", f"sweep {_read_version()}, Python {platform.python_version()}"))
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


def _read_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sweep-engine")
    except PackageNotFoundError:
        return "from a source tree"


def group_failures(data: ReportData) -> Sequence[FailureGroup]:
    """Group failed points by reason, the most frequent first."""
    frame = data.frame
    if "status" not in frame or "error" not in frame:
        return ()
    failed = frame[frame["status"] == "failed"]
    found: list[FailureGroup] = []
    for reason, rows in failed.groupby(failed["error"].fillna("the server gave no reason"), sort=False):
        example = name_variation(data, 0, rows)
        found.append(FailureGroup(str(reason), len(rows), example))
    return sorted(found, key=lambda failure: -failure.count)[:_MOST_FAILURES]


def name_variation(data: ReportData, row: int, frame: pd.DataFrame | None = None) -> str:
    """Describe the variation of a row (a position in `frame`, by default the whole table) by its axes."""
    cells = (data.frame if frame is None else frame).iloc[row]
    return " · ".join(f"{axis.name} {_format_value(to_json_value(cells[axis.column]))}" for axis in data.axes)


def _list_commands(data: ReportData) -> list[str]:
    commands = [remove_paths(run.facts.command) for run in data.runs[-1:] if run.facts.command]
    return [*commands, f"sweep report {shlex.quote(data.name)}"]
