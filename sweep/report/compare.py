"""`sweep compare A B`: what changed between two runs, point by point, in the explorer with both pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from sweep.errors import UsageError
from sweep.report.choice import label
from sweep.report.data import Json, Shown, payload, pictures_data, plain
from sweep.report.definitions import differences
from sweep.report.explorer import EMBED_UP_TO, FILES, picture_files, way, write_page
from sweep.report.facts import page_facts
from sweep.report.material import Material, read_material
from sweep.report.pairing import BETWEEN, CHANGE, MEASURED, Pairs, joined, measured, pair
from sweep.report.thumbs import FOLDER, Thumbnails

_MOVED_BELOW: Final = 0.995  # SSIM: below, a person who blinks between the two sees a change
_MOVED_ABOVE: Final = 1.0  # ΔE (OKLab × 100): above, the same for colour and tone


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs, A (before) and B (after). `table` has a row a paired point: the common axes, `same`, the metrics
    between the pictures (`between_…`) and how the metrics of both runs changed (`change_…`, B minus A).
    """

    table: pd.DataFrame
    same: int  # pairs whose files are equal byte for byte
    alike: int  # others that the eye cannot tell apart (SSIM 0.995 and above, ΔE up to 1)
    moved: int
    unmeasured: int  # pairs in which a picture is missing
    only_a: int
    only_b: int
    words: tuple[str, ...]
    page: Path


def write_comparison(a: Path, b: Path, *, out: Path | None = None, embed_up_to: int = EMBED_UP_TO) -> Comparison:
    """Compares two results folders and writes the page to `out`, by default `compare-A-B.html` beside folder `b`.

    Points are paired by the values of the axes that both have. Raises UsageError where one of the folders holds
    nothing, or they have no axis in common; OSError where the page cannot be written.
    """
    before, after = _readable(Path(a)), _readable(Path(b))
    pairs = pair(before, after)
    if not pairs.axes:
        raise UsageError(
            f"{before.name} and {after.name} have no axis in common.",
            hint=f"{before.name} has {_names(before)}; {after.name} has {_names(after)}.",
        )
    between = measured(before, after, pairs)
    material, others = joined(before, after, pairs, between)
    found = _found(material, between, pairs, _titles(before, after))
    if differing := differences(before.experiment, after.experiment):
        found = replace(found, words=(*found.words, f"Set differently: {'; '.join(differing)}."))
    target = out or Path(b).resolve().parent / f"compare-{_file(a)}-{_file(b)}.html"
    data, thumbs = _page_data(material, others, before, target, _titles(before, after), embed_up_to)
    facts = {**page_facts(material), **_said(before, after, found, _titles(before, after))}
    write_page(target, data, facts, thumbs)
    return replace(found, page=target)


def _readable(folder: Path) -> Material:
    material = read_material(folder)
    if material.problem is not None:
        raise UsageError(material.problem)
    if material.frame.empty:
        raise UsageError(f"Nothing has been rendered in {folder} yet.")
    return material


def _names(material: Material) -> str:
    return ", ".join(axis.name for axis in material.axes) or "none"


def _file(folder: Path) -> str:
    return folder.resolve().name


def _titles(before: Material, after: Material) -> tuple[str, str]:
    """Names that tell the two apart."""
    if before.name != after.name:
        return before.name, after.name
    names = _file(before.folder), _file(after.folder)
    if names[0] != names[1]:
        return names
    return f"{before.folder.resolve().parent.name}/{names[0]}", f"{after.folder.resolve().parent.name}/{names[1]}"


def _found(material: Material, between: pd.DataFrame, pairs: Pairs, titles: tuple[str, str]) -> Comparison:
    same = int(between["same"].fillna(False).sum())
    likeness = between[f"{BETWEEN}ssim"]
    unmeasured = int(likeness.isna().sum())
    moved = int(((likeness < _MOVED_BELOW) | (between[f"{BETWEEN}delta_e"] > _MOVED_ABOVE)).sum())
    columns = [axis.column for axis in material.axes]
    made = [name for name in material.frame.columns if str(name).startswith((BETWEEN, CHANGE))]
    table = material.frame[[*columns, "key", *made]].iloc[: len(pairs.both)].assign(same=between["same"])
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
    return replace(counted, words=tuple(_words(counted, material, pairs, titles)))


def _words(found: Comparison, material: Material, pairs: Pairs, titles: tuple[str, str]) -> list[str]:
    a, b = titles
    parts = [
        f"{found.same} are the same file",
        f"{found.moved} differ visibly (SSIM below {_MOVED_BELOW} or ΔE above 1)",
    ]
    if found.alike:
        parts.insert(1, f"{found.alike} look the same")
    if found.unmeasured:
        parts.append(f"{found.unmeasured} lack a picture in one run")
    words = [f"Of {len(pairs.both)} points in both runs, {', '.join(parts)}."]
    if found.moved:
        worst = int(np.nanargmin(found.table[f"{BETWEEN}ssim"].to_numpy(dtype="float64")))
        values = [
            f"{axis.name} {label(plain(material.frame[axis.column].iloc[worst]), axis.kind)}" for axis in material.axes
        ]
        likeness = float(found.table[f"{BETWEEN}ssim"].iloc[worst])
        words.append(f"The farthest apart are those at {', '.join(values)}: SSIM {likeness:.3g}.")
    for count, name in ((found.only_a, a), (found.only_b, b)):
        if count:
            words.append(f"{count} {'point is' if count == 1 else 'points are'} only in {name}.")
    if pairs.lost:
        words.append(f"Not compared: {', '.join(pairs.lost)}, which only one of them has.")
    return words


def _said(before: Material, after: Material, found: Comparison, titles: tuple[str, str]) -> dict[str, Any]:
    return {
        "name": f"{titles[0]} → {titles[1]}",
        "description": "two runs, point by point",
        "words": list(found.words),
        "findings": [],
        "counts": f"{len(found.table)} points in both",
        "sandbox": before.sandbox or after.sandbox,
        "problem": "",
        "failed": "",
        "commands": [f"sweep compare {_file(before.folder)} {_file(after.folder)}"],
    }


def _page_data(
    material: Material,
    others: pd.DataFrame,
    before: Material,
    target: Path,
    titles: tuple[str, str],
    embed_up_to: int,
) -> tuple[Json, dict[str, str]]:
    """The payload with the pictures of both runs, and the thumbnails that go into the page."""
    after_pictures, sources = picture_files(material)
    before_pictures, _ = picture_files(replace(before, frame=others, sources={}))
    embedded = len(after_pictures) + len(before_pictures) <= embed_up_to
    beside = None if embedded else target.parent / FILES
    thumbs = [Thumbnails(material.folder, beside), Thumbnails(before.folder, beside)]
    wanted = {**after_pictures, **{identity: material.folder / name for name, identity in sources.items()}}
    made = [thumbs[0].make(wanted), thumbs[1].make(before_pictures)]
    shown = Shown(
        prefix=way(target.parent, material.folder),
        thumbs=frozenset(made[0] | made[1]),
        embedded=embedded,
        thumb_prefix="" if embedded else f"{FILES if beside else FOLDER}/",
        source_ids={name: identity for name, identity in sources.items() if identity in made[0]},
    )
    data = payload(material, shown)
    data["name"] = data["id"] = f"{titles[0]} → {titles[1]}"
    data["others"] = pictures_data(others, replace(shown, prefix=way(target.parent, before.folder)))
    data["runs"] = {"shown": titles[1], "other": titles[0]}
    data["columns"] = _columns(data["columns"])
    inside = {**thumbs[1].embedded(made[1]), **thumbs[0].embedded(made[0])} if embedded else {}
    return data, inside


def _columns(columns: Sequence[Json]) -> list[Json]:
    """What differs between the runs first, then what changed, then the metrics themselves; under their own names."""
    labels = {column["name"]: column["label"] for column in columns}
    from sweep.study.registry import resolve

    labels |= {metric.name: metric.label for metric in resolve(MEASURED)}
    known = {BETWEEN: "A–B", CHANGE: "Δ"}
    found: dict[str, list[Json]] = {BETWEEN: [], CHANGE: [], "": []}
    for column in columns:
        prefix = next(begin for begin in found if str(column["name"]).startswith(begin))
        if prefix:
            name = str(column["name"]).removeprefix(prefix)
            column = {**column, "label": f"{known[prefix]} {labels.get(name, name)}"}
        found[prefix].append(column)
    rank = {f"{CHANGE}{column['name']}": place for place, column in enumerate(found[""])}
    found[CHANGE].sort(key=lambda column: rank.get(str(column["name"]), len(rank)))
    return [column for group in found.values() for column in group]
