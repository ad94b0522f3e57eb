"""Writes `report.html` and the overview of runs: their facts in words, templates, scripts, images and the bundle.

The page must open from a file without a server, so everything is inside it. The policy names our scripts by hash, so
that nothing in a prompt, a file name or a server's error message can ever run. Addresses of servers and folders of the
author's machine are left out: a report travels.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import mimetypes
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined, Template
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from sweep.errors import RecordError
from sweep.record import JOURNAL_FILE, RUN_OUTCOMES, RecordedResults, list_runs, replace_atomically
from sweep.report.page_json import JsonObject, build_page_json, encode_axis, encode_page_json
from sweep.report.report_data import (
    AxisColumn,
    ReportData,
    add_study_columns,
    choose_axes,
    format_level,
    is_locked,
    name_variation,
    read_report_data,
    remove_paths,
    study_folder,
)
from sweep.report.thumbnails import ImageLinks, Thumbnails, build_relative_url, make_thumb_id
from sweep.text import format_count, format_seconds, quote_argument
from sweep.version import VERSION

if TYPE_CHECKING:
    from sweep.record import RunRecord
    from sweep.study import MeasureProgress, Study, StudyJson


_MOST_LEVELS: Final = 12
_MOST_FAILURES: Final = 100
_UNTOLD_FACTS: Final = ("name", "url", "sandbox")  # addresses are private; the sandbox has a banner


def describe_page(data: ReportData, study: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Collect the variables of report.html.j2, except payload, scripts and style."""
    words = (study or {}).get("words", ())
    counts = [(_count_status(data, status), status) for status in ("failed", "cancelled")]
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
        "commands": [*commands, f"sweep report {quote_argument(data.folder.name or data.name)}"],
        "experiment": data.experiment,
        "took": _describe_duration(data.runs),
        "previews": False,
        "plain_images": [],
        "more_images": 0,
    }


def format_counts(data: ReportData) -> str:
    """Format the counts, for example "131 of 132 points"; with the images where a point has several."""
    done, points = _count_status(data, "completed"), data.counts.points
    if points == 0:
        return format_count(done, "image") if done else "no points"
    line = f"{data.counts.completed or done:,} of {format_count(points, 'point')}"
    return line if done <= max(data.counts.completed, 1) else f"{line}, {done:,} images"


def _describe_duration(runs: Sequence[RunRecord]) -> str:
    """Say how long runs took together, "" where there is none or the last one goes on or was killed."""
    if not runs or runs[-1].ended_at is None:
        return ""
    return format_seconds(sum((run.ended_at - run.begun_at).total_seconds() for run in runs if run.ended_at))


def _count_status(data: ReportData, status: str) -> int:
    return int((data.column("status") == status).sum())


def _find_problem(data: ReportData) -> str:
    """Return the sentence for the top of a page where images are missing altogether, "" otherwise."""
    if data.problem is not None:
        return data.problem.replace(str(data.folder), data.folder.name)
    if data.frame.empty:
        return "Nothing has been rendered in this folder yet."
    if _count_status(data, "completed"):
        return ""
    what = "All images failed" if _count_status(data, "failed") == len(data.frame) else "No image was rendered"
    return f"{what}. The reasons are in the cells and at the end of the page."


def _format_levels(axis: AxisColumn, frame: pd.DataFrame) -> tuple[int, str]:
    levels = encode_axis(axis, frame)["levels"]
    shown = [format_level(level) for level in levels[:_MOST_LEVELS]]
    if len(levels) > _MOST_LEVELS:
        shown = [*shown[:-1], "…", format_level(levels[-1])]
    return len(levels), " · ".join(shown)


def _describe_design(study: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    design = (study or {}).get("design")
    if not design:
        return []
    against = {"source": "the source image", "baseline": "the baseline cell", "none": "nothing"}
    uneven = f"{design['missing']} of {design['cells']} cells have no image"
    balance = "yes" if design["balanced"] else f"no: {uneven if design['missing'] else 'some cells have more images'}"
    rows = [("balanced", balance), ("compared with", against[design["reference"]])]
    shared = "the same" if design["seeds_shared"] else "different ones"
    return [*rows, ("seeds", f"{design['seeds']}, {shared} at every other point")] if design["seed_axis"] else rows


def _describe_run(run: RunRecord) -> dict[str, Any]:
    return {
        "number": run.number,
        "begun": run.begun_at.strftime("%Y-%m-%d %H:%M UTC"),
        "took": _describe_duration([run]),
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
    facts: list[tuple[str, str]] = []
    for column, label in (("server", "servers"), ("model", "models")):
        if column not in {axis.column for axis in data.axes}:
            facts.append((label, " · ".join(str(name) for name in data.column(column).dropna().unique()[:20])))
    seconds = data.column("render_seconds").dropna()
    if len(seconds):
        typical, total = format_level(float(seconds.median())), format_seconds(float(seconds.sum()))
        facts.append(("rendering", f"{typical} s per image (median), {total} in total"))
    if data.runs:
        facts.append(("definition", data.runs[-1].facts.fingerprint))
    facts.append(("images", _hash_images(data)))
    facts.append(("made with", f"sweep {VERSION}, Python {platform.python_version()}"))
    return [(label, text) for label, text in facts if text]


def _hash_images(data: ReportData) -> str:
    """Hash all keys and images: equal where two folders hold the same images of the same points."""
    images = zip(data.column("key"), data.column("sha256"), strict=True)
    lines = sorted(f"{key} {sha}\n" for key, sha in images if isinstance(sha, str))
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
    return f"{len(lines)}, together {digest} (SHA-256 over keys and files)" if lines else ""


def _group_failures(data: ReportData) -> list[dict[str, Any]]:
    """Group failed points by reason, the most frequent first, each with the first point it was given for."""
    failed = data.frame[data.column("status") == "failed"]
    reasons = data.column("error")[failed.index].fillna("the server gave no reason")
    found: list[dict[str, Any]] = [
        {"reason": str(reason), "count": len(rows), "example": name_variation(data, 0, rows)}
        for reason, rows in failed.groupby(reasons, sort=False)
    ]
    return sorted(found, key=lambda group: group["count"], reverse=True)[:_MOST_FAILURES]


def list_run_folders(root: Path) -> list[str]:
    """List the names of the results folders directly in `root`, the last changed first."""
    return sorted(list_runs(root), key=lambda name: _find_change_time(root / name), reverse=True)


def _find_change_time(folder: Path) -> float:
    times = [0.0]
    for name in (JOURNAL_FILE, f"{JOURNAL_FILE}-wal"):
        with contextlib.suppress(OSError):  # a run may end, or be deleted, meanwhile
            found = (folder / name).stat()
            if found.st_size or name == JOURNAL_FILE:  # who only reads leaves an empty log behind
                times.append(found.st_mtime)
    return max(times)


def summarise_run(folder: Path) -> JsonObject:
    """Summarize a run for one row of the overview."""
    changed = _find_change_time(folder)
    age = _format_age(datetime.now(UTC).timestamp() - changed)
    return {**_summarise(folder, changed, is_locked(folder)), "changed": changed, "age": age}


@lru_cache(maxsize=500)
def _summarise(folder: Path, changed: float, locked: bool) -> JsonObject:  # noqa: ARG001  with either, the answer changes
    """Summarize what only a change of the journal changes, with the first finding of what was measured before."""
    data = read_report_data(folder)
    ending = (data.runs[-1].ending if data.runs else None) or ""
    state = RUN_OUTCOMES.get(ending, ending) if ending else "stopped"
    study = study_folder(folder) if data.metrics and not data.is_running else None
    finding = next((word["text"] for word in study["words"] if word["headline"]), "") if study else ""
    return {
        "folder": folder.name,
        "name": data.name,
        "description": data.description,
        "images": _choose_images(data),
        "state": "running" if data.is_running else "cannot be read" if data.problem is not None else state,
        "done": data.counts.completed,
        "failed": data.counts.failed,
        "points": data.counts.points,
        "counts": format_counts(data),
        "finding": re.sub(r" \([^()]*\)", "", finding),
    }


def _choose_images(data: ReportData) -> list[str]:
    """Choose three thumbnails: the first, middle and last level of the widest axis, everything else equal."""
    ids = list(data.files.images)
    across, others = choose_axes(data)
    if across is None:
        return ids[:3]
    widest = max([across, *others], key=lambda axis: (axis.kind != "seed", data.frame[axis.column].nunique()))
    rows = data.frame[data.column("sha256").notna()]
    for axis in data.axes:
        if axis.name != widest.name and len(rows):
            rows = rows[rows[axis.column] == rows[axis.column].iloc[0]]
    order = np.argsort(encode_axis(widest, rows)["at"], kind="stable")
    found = [make_thumb_id(sha) for sha in rows["sha256"].iloc[order]]
    return list(dict.fromkeys([found[0], found[len(found) // 2], found[-1]])) if found else ids[:3]


def _format_age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"


_THUMBS_A_CHUNK = 60
_CHUNKS_BEFORE_SCRIPT = 5  # what the page opens with is there when the script begins


@cache
def read_asset(name: str) -> str:
    """Read a built file of the front end as text."""
    return resources.files("sweep.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _load_template(name: str) -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(read_asset(name))


def build_policy(*scripts: str, is_live: bool = False) -> str:
    """Build the content security policy: our scripts and stylesheet by their hashes, images, and nothing else.

    A page that `is_live` may also ask its own server, and shows no files.
    """
    hashes = " ".join(f"'{_hash_source(read_asset(name))}'" for name in scripts or ("explorer.js", "charts.js"))
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {hashes}",
            f"style-src '{_hash_source(read_asset('explorer.css'))}'",
            f"img-src 'self' data: blob:{'' if is_live else ' file:'}",
            "connect-src 'self'" if is_live else "connect-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash_source(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def render_page(
    payload: JsonObject, facts: Mapping[str, Any], thumbs: Mapping[str, str], *, is_live: bool = False
) -> Iterator[str]:
    """Render the page in parts.

    Args:
        payload: What the page's script reads.
        facts: Variables of the template's fixed text, see `describe_page`.
        thumbs: Thumbnails to embed, as base64 by id.
        is_live: The page is served and asks its server; else it is opened from a file.
    """
    text, is_packed = encode_page_json(payload)
    chunks = _split_thumbs(thumbs)
    yield from _load_template("report.html.j2").generate(
        **facts,
        payload=text
        if is_packed
        else htmlsafe_json_dumps(None, dumps=lambda _: text),  # as JSON that no parser takes for markup
        packed=is_packed,
        script=_read_markup("explorer.js"),
        charts=_read_markup("charts.js"),
        style=_read_markup("explorer.css"),
        csp=build_policy(is_live=is_live),
        first_chunks=islice(chunks, _CHUNKS_BEFORE_SCRIPT),
        chunks=chunks,
    )


def render_overview(root: Path) -> str:
    """Render the page that lists the runs in `root`; its script fills in the rows."""
    runs = [summarise_run(root / name) for name in list_run_folders(root)]
    folder = root.resolve().name
    return _load_template("overview.html.j2").render(
        folder=f"{folder}/",
        count=len(runs),
        payload=htmlsafe_json_dumps({"folder": folder, "runs": runs}),
        script=_read_markup("overview.js"),
        style=_read_markup("explorer.css"),
    )


def _split_thumbs(thumbs: Mapping[str, str]) -> Iterator[Markup]:
    items = iter(thumbs.items())
    while part := dict(islice(items, _THUMBS_A_CHUNK)):
        yield htmlsafe_json_dumps(part)


def _read_markup(name: str) -> Markup:
    return Markup(read_asset(name))  # noqa: S704  our own file


def list_first_thumbs(data: ReportData) -> list[str]:
    """List thumbnail ids of the rows that the page opens with: two axes whole, the others at their first level.

    Where the page chooses other axes (`firstView` of web/src/state.ts), it is only slower to paint.
    """
    seen = data.column("sha256").notna()
    for axis in choose_axes(data)[1][1:]:
        seen &= data.frame[axis.column] == data.frame[axis.column].iloc[0]
    return [make_thumb_id(sha) for sha in data.column("sha256")[seen]]


EMBED_UP_TO: Final = 2_000
REPORT_FILES: Final = "report-files"


def write_report(
    folder: Path,
    *,
    out: Path | str | None = None,
    study: StudyJson | None = None,
    embed_up_to: int = EMBED_UP_TO,
    originals: bool = False,
) -> Path:
    """Write the report of the results in `folder` to `out` (by default `report.html` in it) and return its path.

    Up to `embed_up_to` images, their thumbnails are inside the page. Above that they are files beside it: in
    `thumbs/` of the results folder, or in `report-files/` where the page lies elsewhere. `study` is what
    `Study.to_json()` gives. Raises RecordError where the page cannot be written.
    """
    data = add_study_columns(read_report_data(Path(folder)), study)
    target = Path(folder) / "report.html" if out is None else Path(out)
    is_beside = target.resolve().parent == data.folder.resolve()
    links, thumbs = link_images(data, target, embedded=len(data.files.images) <= embed_up_to, beside=is_beside)
    inside = dict(thumbs)
    if originals:
        links = replace(links, originals="inside")
        inside |= _encode_originals(data)
    facts = {**describe_page(data, study), **describe_images(data, links, thumbs)}
    return write_page(target, build_page_json(data, links, study), facts, inside)


_MOST_PLAIN: Final = 24  # images of a page without JavaScript; they are in it a second time


def describe_images(data: ReportData, links: ImageLinks, thumbs: Mapping[str, str]) -> dict[str, Any]:
    """List the images of a page without JavaScript, with their variations, and tell whether it has previews only.

    `thumbs`: those inside the page, as base64 by id.
    """
    ids = [(row, make_thumb_id(sha)) for row, sha in enumerate(data.column("sha256")) if isinstance(sha, str)]
    shown = [(row, identity) for row, identity in ids if identity in links.thumbs][:_MOST_PLAIN]
    listed = []
    for row, identity in shown:
        beside = f"{links.thumb_prefix}{identity[:2]}/{identity}.webp"
        address = f"data:image/webp;base64,{thumbs[identity]}" if identity in thumbs else beside
        listed.append({"address": address, "text": name_variation(data, row)})
    return {
        "plain_images": listed,
        "more_images": max(0, len(data.files.images) - len(listed)),
        "previews": links.prefix is None and links.originals != "inside" and bool(links.thumbs),
    }


def _encode_originals(data: ReportData) -> dict[str, str]:
    """Encode the original images and sources as data addresses, by "o:" and thumbnail id."""
    found: dict[str, str] = {}
    for identity, path in data.files.by_id.items():
        if path.is_file():
            kind, _ = mimetypes.guess_type(path.name, strict=False)  # not strict: WebP too
            kind = kind if kind and kind.startswith("image/") else "image/png"
            found[f"o:{identity}"] = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return found


def describe_embedding(folder: Path) -> str:
    """Say how many originals a page would hold and how large they make it: "18 originals, about 8.2 MB"."""
    images = read_report_data(folder).files.images.values()
    sizes = [path.stat().st_size for path in images if path.is_file()]
    return f"{format_count(len(sizes), 'original')}, about {sum(sizes) * 4 / 3 / 1e6:.1f} MB"


def write_bundle(folder: Path, out: Path, *, study: StudyJson | None = None) -> Path:
    """Write a zip file with the page, its images and the results table, to be unpacked anywhere. Raises RecordError."""
    data = read_report_data(folder)
    names = dict.fromkeys((*data.column("image_path").dropna(), *data.files.sources, "results.csv"))
    files = [folder / name for name in names]
    if len(data.files.images) > EMBED_UP_TO:
        files += [Thumbnails(folder).path(identity) for identity in data.files.by_id]
    page = folder / f".{uuid4().hex}.html"  # in the folder, so that its links are those of the bundle
    try:
        write_report(folder, out=page, study=study)
        with replace_atomically(out) as file, ZipFile(file, "w", ZIP_STORED) as bundle:
            bundle.write(page, "report.html", ZIP_DEFLATED)
            for path in files:
                if path.is_file():
                    bundle.write(path, path.relative_to(folder).as_posix())
    finally:
        page.unlink(missing_ok=True)
    return out


def link_images(data: ReportData, target: Path, *, embedded: bool, beside: bool) -> tuple[ImageLinks, dict[str, str]]:
    """Make the thumbnails and say where a page at `target` finds them and the images.

    Args:
        embedded: The thumbnails go into the page. Else they are files.
        beside: The page lies in the results folder, or is served with it.

    Returns:
        The links, and the thumbnails to embed as base64 by id: sources, the images the page opens with, the rest.
    """
    kept = beside or (embedded and os.access(data.folder, os.W_OK))  # a folder that can only be read keeps none
    thumbs = Thumbnails(data.folder, None if kept else target.parent / REPORT_FILES)
    made = thumbs.make(data.files.by_id)
    links = ImageLinks(
        prefix=build_relative_url(target.parent, data.folder),
        thumbs=frozenset(made),
        embedded=embedded,
        thumb_prefix="" if embedded else f"{thumbs.place.name}/",
        source_ids={name: identity for name, identity in data.files.sources.items() if identity in made},
    )
    if not embedded:
        return links, {}
    wanted = dict.fromkeys([*data.files.sources.values(), *list_first_thumbs(data), *data.files.images])
    return links, thumbs.encode(identity for identity in wanted if identity in made)


def write_page(target: Path, payload: Mapping[str, Any], facts: Mapping[str, Any], thumbs: Mapping[str, str]) -> Path:
    """Write the page whole or not at all. Raises RecordError."""
    with replace_atomically(target) as file:
        for part in render_page(dict(payload), facts, thumbs):  # with embedded images it is too large to hold twice
            file.write(part.encode())
    return target


def make_report(
    results: RecordedResults | Path | str,
    *,
    out: Path | str | None = None,
    study: Study | None = None,
    progress: MeasureProgress | None = None,
    workers: int | None = None,
    originals: bool = False,
) -> Path:
    """Write the page of a results folder to `out` (by default `report.html` in it) and return its path.

    Args:
        study: The study that stands on top. Without one it is made here: images not measured yet are measured.
        progress: Called as `progress(done, total)` while images are measured.
        workers: Processes that measure, by default one per core.
        originals: Put the original images into the page, too.

    Raises:
        RecordError: There is no such folder, or the page cannot be written.

    A folder without results, with damaged ones or with failures only gives a page that says so. Blocking; from an event
    loop use `anyio.to_thread.run_sync`.
    """
    from sweep.study import make_study

    folder = results.folder if isinstance(results, RecordedResults) else Path(results)
    if not folder.is_dir():
        raise RecordError(f"There is no folder {folder}.")
    if study is None:
        with contextlib.suppress(RecordError):  # the page says why the folder cannot be read
            study = make_study(folder, progress=progress, workers=workers)
    return write_report(folder, out=out, study=study.to_json() if study else None, originals=originals)
