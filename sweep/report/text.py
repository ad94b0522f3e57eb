"""What the page says in words around the images: counts, findings, design, servers, failures, commands."""

from __future__ import annotations

import hashlib
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pandas as pd

from sweep.report.data import AxisColumn, Material, plain_json
from sweep.text import format_number

_MOST_LEVELS: Final = 12
_MOST_FAILURES: Final = 100
_SERVER: Final = {"version": "version", "api": "API"}
_UNTOLD: Final = ("url", "sandbox")  # an address is nobody's business; the sandbox has a banner


@dataclass(frozen=True, slots=True)
class Failures:
    """One reason, how often it was given, and the first point it was given for."""

    reason: str
    count: int
    example: str


def page_facts(material: Material, study: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The variables of report.html.j2, but for data, script and style."""
    return {
        "name": material.name,
        "description": material.description,
        "words": _words(study),
        "findings": _findings(study),
        "counts": counts_line(material),
        "failed": _failed(material),
        "sandbox": material.sandbox,
        "problem": problem_of(material),
        "design": [(axis.name, axis.kind, *_levels(axis, material.frame)) for axis in material.axes],
        "study_design": _study_design(study),
        "runs": _runs(material),
        "facts": _facts(material),
        "failures": failures_of(material),
        "commands": _commands(material),
        "experiment": material.experiment,
        "live": False,
    }


def counts_line(material: Material) -> str:
    """For example: 131 of 132 points; and how many images, where a point has several."""
    done = _status_count(material.frame, "completed")
    points = material.counts.points
    if points == 0:
        return "no points" if done == 0 else f"{done:,} images"
    line = f"{material.counts.completed or done:,} of {points:,} {'point' if points == 1 else 'points'}"
    return line if done <= max(material.counts.completed, 1) else f"{line}, {done:,} images"


def _status_count(frame: pd.DataFrame, status: str) -> int:
    return int((frame["status"] == status).sum()) if "status" in frame else 0


def _failed(material: Material) -> str:
    parts = [
        f"{count} {status}" for status in ("failed", "cancelled") if (count := _status_count(material.frame, status))
    ]
    return " · ".join(parts)


def problem_of(material: Material) -> str:
    """A sentence on top of the page where there is nothing, or not everything, to look at; "" otherwise."""
    if material.problem is not None:
        return material.problem.replace(str(material.folder), material.folder.name)
    if material.frame.empty:
        return "Nothing has been rendered in this folder yet."
    if _status_count(material.frame, "completed") == 0:
        return "No point of this sweep gave an image. The reasons stand in the cells and at the end of the page."
    return ""


def _words(study: Mapping[str, Any] | None) -> list[str]:
    return [word["text"] for word in (study or {}).get("words", ()) if word["headline"]]


def _findings(study: Mapping[str, Any] | None) -> list[str]:
    return [word["text"] for word in sorted((study or {}).get("words", ()), key=lambda word: not word["headline"])]


def _levels(axis: AxisColumn, frame: pd.DataFrame) -> tuple[int, str]:
    values = [plain_json(value) for value in frame[axis.column].drop_duplicates()]
    levels = sorted(values, key=_order) if all(isinstance(value, int | float) for value in values) else values
    shown = [_text(level) for level in levels[:_MOST_LEVELS]]
    if len(levels) > _MOST_LEVELS:
        shown = [*shown[:-1], "…", _text(levels[-1])]
    return len(levels), " · ".join(shown)


def _order(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _text(value: object) -> str:
    if isinstance(value, float):
        return format_number(value)
    return "none" if value is None else str(value)


def _study_design(study: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    design = (study or {}).get("design")
    if not design:
        return []
    against = {"source": "the source image", "baseline": "a baseline cell", "none": "nothing"}
    missing = f"no: {design['missing']} of {design['cells']} cells are missing"
    rows = [("balanced", "yes" if design["balanced"] else missing), ("compared with", against[design["reference"]])]
    shared = "the same" if design["seeds_shared"] else "not the same"
    return [*rows, ("seeds", f"{design['seeds']}, {shared} at every other point")] if design["seed_axis"] else rows


def _runs(material: Material) -> list[dict[str, Any]]:
    return [
        {
            "number": run.number,
            "begun": _moment(run.begun_at),
            "took": "" if run.ended_at is None else _span((run.ended_at - run.begun_at).total_seconds()),
            "ending": run.ending or "did not end",
            "servers": " · ".join(_server(server) for server in run.facts.servers),
            "version": run.facts.sweep_version,
        }
        for run in material.runs[-20:]
    ]


def _server(server: Mapping[str, str]) -> str:
    """For example: gpu1 (version 6.14.2, API queue)."""
    name = server.get("name", "")
    told = [f"{label} {server[key]}" if label else server[key] for key, label in _SERVER.items() if server.get(key)]
    rest = [f"{key} {value}" for key, value in server.items() if key not in {"name", *_SERVER, *_UNTOLD} and value]
    about = ", ".join([*told, *rest])
    return f"{name} ({about})" if name and about else name or about


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def _facts(material: Material) -> list[tuple[str, str]]:
    frame = material.frame
    facts: list[tuple[str, str]] = []
    for column, label in (("server", "servers"), ("model", "models")):
        if column in frame and column not in {axis.column for axis in material.axes}:
            names = [str(name) for name in frame[column].dropna().unique()]
            if names:
                facts.append((label, " · ".join(names[:20])))
    if "render_seconds" in frame and frame["render_seconds"].notna().any():
        seconds = frame["render_seconds"].dropna()
        facts.append(
            ("rendering", f"{_text(float(seconds.median()))} s an image (median), {_span(seconds.sum())} in all")
        )
    if material.runs:
        facts.append(("definition", material.runs[-1].facts.fingerprint))
    facts.append(("images", _digest(frame)))
    facts.append(("made with", f"sweep {_version()}, Python {platform.python_version()}"))
    return [(label, text) for label, text in facts if text]


def _digest(frame: pd.DataFrame) -> str:
    """One hash over all keys and images: equal where two folders hold the same images of the same points."""
    if "sha256" not in frame or frame["sha256"].notna().sum() == 0:
        return ""
    whole = frame[frame["sha256"].notna()]
    digest = hashlib.sha256()
    for line in sorted(f"{key} {sha}\n" for key, sha in zip(whole["key"], whole["sha256"], strict=True)):
        digest.update(line.encode())
    return f"{len(whole)}, together {digest.hexdigest()[:16]} (SHA-256 over keys and files)"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sweep-engine")
    except PackageNotFoundError:
        return "from a source tree"


def failures_of(material: Material) -> Sequence[Failures]:
    """Why points have no image, the commonest reason first."""
    frame = material.frame
    if "status" not in frame or "error" not in frame:
        return ()
    failed = frame[frame["status"] == "failed"]
    found: list[Failures] = []
    for reason, rows in failed.groupby(failed["error"].fillna("no reason is on record"), sort=False):
        first = rows.iloc[0]
        example = " · ".join(f"{axis.name} {_text(plain_json(first[axis.column]))}" for axis in material.axes)
        found.append(Failures(str(reason), len(rows), example))
    return sorted(found, key=lambda failure: -failure.count)[:_MOST_FAILURES]


def _commands(material: Material) -> list[str]:
    commands = [_without_paths(run.facts.command) for run in material.runs[-1:] if run.facts.command]
    return [*commands, f"sweep report {shlex.quote(material.name)}"]


def _without_paths(command: str) -> str:
    """The command without folders of the machine it was typed on: a report travels."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    return shlex.join(re.split(r"[\\/]", word)[-1] if _is_far_path(word) else word for word in words)


def _is_far_path(word: str) -> bool:
    return bool(re.match(r"(/|~|[A-Za-z]:[\\/])", word))
