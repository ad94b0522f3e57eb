"""Write_report: results folder -> report.html."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from sweep.errors import RecordError
from sweep.record import RecordedResults
from sweep.report import html as page
from sweep.report.data import AxisColumn, Material, Shown, payload, read_material, source_name
from sweep.report.text import page_facts
from sweep.report.thumbnails import FOLDER, Thumbnails, thumb_id

if TYPE_CHECKING:
    from sweep.study import MeasureProgress, Study, StudyJson


_NUMERIC: Final = frozenset({"number", "integer"})
_MOST_LINES: Final = 40  # levels of an axis that stands down the page
_FEW_LINES: Final = 4  # levels that are few enough to have another axis within them
_MOST_WITHIN: Final = 64  # levels of that one


def first_seen(material: Material) -> list[str]:
    """Thumbnail ids of the rows that the page opens with, in reading order.

    It follows `firstView` of web/src/state.ts; where the two differ the page is only slower to paint.
    """
    frame = material.frame
    if "sha256" not in frame or frame.empty:
        return []
    down, aside = _opening(material)
    whole = frame["sha256"].notna()
    for axis in aside:
        whole &= frame[axis.column] == frame[axis.column].iloc[0]
    seen = frame[whole]
    places = [pd.factorize(seen[axis.column])[0] for axis in reversed(down)]
    order = np.lexsort(places) if places else np.arange(len(seen))
    return [thumb_id(sha) for sha in seen["sha256"].iloc[order]]


def _opening(material: Material) -> tuple[list[AxisColumn], list[AxisColumn]]:
    """The axes that stand down the opened page, the slower first, and those that are sliders beside it."""
    levels = {axis.name: material.frame[axis.column].nunique() for axis in material.axes}
    varied = [axis for axis in material.axes if levels[axis.name] > 1]
    across = next((axis for axis in varied if axis.kind in _NUMERIC), next(iter(varied), None))
    others = [axis for axis in varied if axis is not across]
    fitting = [axis for axis in others if axis.kind != "seed" and levels[axis.name] <= _MOST_LINES]
    down = [*fitting, *others][:1]
    if down and levels[down[0].name] <= _FEW_LINES:
        down += [axis for axis in others if axis is not down[0] and levels[axis.name] <= _MOST_WITHIN][:1]
    return down, [axis for axis in others if axis not in down]


EMBED_UP_TO: Final = 2_000
REPORT_FILES: Final = "report-files"


def write_report(
    folder: Path, *, out: Path | None = None, study: StudyJson | None = None, embed_up_to: int = EMBED_UP_TO
) -> Path:
    """Writes the report of the results in `folder` to `out` (by default `report.html` in it) and returns its path.

    Up to `embed_up_to` images their thumbnails are in the page; above, they are files beside it: `thumbs/` of the
    results folder, or `report-files/` where the page lies elsewhere. `study` is what `Study.to_json()` gives: its
    words stand on top. A folder without results, with broken ones or with failures only gives a page that says so.

    Blocking, for up to 20 ms an image the first time; from an event loop use a thread. Raises OSError where the
    page cannot be written.
    """
    material = with_study_columns(read_material(Path(folder)), study)
    target = Path(folder) / "report.html" if out is None else Path(out)
    shown, thumbs = show_images(material, target, embed_up_to)
    data = payload(material, shown, study)
    embedded = thumbs.embedded(sorted_thumbs(material, shown)) if shown.embedded else {}
    return write_page(target, data, page_facts(material, study), embedded)


def with_study_columns(material: Material, study: Mapping[str, Any] | None) -> Material:
    """The study's metrics as columns, where the table was read before they were measured."""
    rows = (study or {}).get("rows")
    if not rows or material.frame.empty or len(rows["key"]) != len(material.frame):
        return material
    frame = material.frame
    missing = {name: values for name, values in rows["metrics"].items() if name not in frame}
    if not missing or list(frame["key"]) != list(rows["key"]):
        return material
    from dataclasses import replace

    columns = pd.DataFrame({name: pd.Series(values, dtype="float64") for name, values in missing.items()})
    return replace(material, frame=pd.concat([frame, columns], axis=1))


def show_images(material: Material, target: Path, embed_up_to: int) -> tuple[Shown, Thumbnails]:
    """Makes the thumbnails and says where a page at `target` finds them and the images."""
    images, sources = image_files(material)
    embedded = len(images) <= embed_up_to
    inside = target.resolve().parent == material.folder.resolve()
    place = None if inside or embedded else target.parent / REPORT_FILES
    thumbs = Thumbnails(material.folder, place)
    wanted = {**images, **{identity: material.folder / name for name, identity in sources.items()}}
    made = thumbs.make(wanted)
    shown = Shown(
        prefix=way(target.parent, material.folder),
        thumbs=frozenset(made),
        embedded=embedded,
        thumb_prefix="" if embedded else f"{FOLDER if place is None else REPORT_FILES}/",
        source_ids={name: identity for name, identity in sources.items() if identity in made},
    )
    return shown, thumbs


def image_files(material: Material) -> tuple[dict[str, Path], dict[str, str]]:
    """Thumbnail id → file of every image, in order; and the id of every source by its path in the folder."""
    frame = material.frame
    images: dict[str, Path] = {}
    if "sha256" in frame:
        whole = frame[frame["sha256"].notna() & frame["image_path"].notna()]
        for sha, path in zip(whole["sha256"], whole["image_path"], strict=True):
            images.setdefault(thumb_id(sha), material.folder / path)
    sources: dict[str, str] = {}
    for key in frame.get("key", ()):
        name = source_name(material, key)
        if name is not None and name not in sources and (material.folder / name).is_file():
            sources[name] = thumb_id(_file_hash(material.folder / name))
    return images, sources


def _file_hash(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def way(start: Path, folder: Path) -> str | None:
    """The address of `folder` seen from `start`, ending in "/"; None where it lies too far off to travel along."""
    try:
        steps = Path(os.path.relpath(folder.resolve(), start.resolve())).parts
    except ValueError:
        return None
    if steps.count("..") > 1:
        return None
    from urllib.parse import quote

    return "".join(f"{quote(os.fsencode(step))}/" for step in steps)


def sorted_thumbs(material: Material, shown: Shown) -> list[str]:
    """The ids to embed: sources, then what the page shows first, then the rest; what is seen first arrives first."""
    images, sources = image_files(material)
    wanted = dict.fromkeys([*sources.values(), *first_seen(material), *images])
    return [identity for identity in wanted if identity in shown.thumbs]


def write_page(target: Path, data: Mapping[str, Any], facts: Mapping[str, Any], thumbs: Mapping[str, str]) -> Path:
    """Writes the page whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(
        "w", dir=target.parent, suffix=".part", delete=False, encoding="utf-8", newline="\n"
    ) as part:
        try:
            page.write(part, page.render_page(dict(data), facts, thumbs))
            part.close()
            Path(part.name).chmod(0o644)
            Path(part.name).replace(target)
        except BaseException:
            part.close()
            Path(part.name).unlink(missing_ok=True)
            raise
    return target


def make_report(
    results: RecordedResults | Path | str,
    *,
    out: Path | None = None,
    study: Study | None = None,
    progress: MeasureProgress | None = None,
    workers: int | None = None,
) -> Path:
    """Write the page of a results folder to `out` (by default `report.html` in it) and return its path.

    `study` is what stands on top; without one it is made here, images not measured yet being measured by `workers`
    processes (by default one a core) and counted to `progress(done, total)`. A folder without results, with broken
    ones or with failures only gives a page that says so.

    Blocking; from an event loop use `anyio.to_thread.run_sync`. Raises OSError where the page cannot be written.
    """
    folder = results.folder if isinstance(results, RecordedResults) else Path(results)
    made = study or _study(folder, progress, workers)
    return write_report(folder, out=out, study=made.to_json() if made else None)


def _study(folder: Path, progress: MeasureProgress | None, workers: int | None) -> Study | None:
    """None where the folder cannot be read: the page says why."""
    from sweep.study import make_study

    try:
        return make_study(folder, progress=progress, workers=workers)
    except RecordError:
        return None
