"""Requirements that a run has to meet, for `sweep check`.

A requirement is a condition on the columns of the results table, for every image or for those of a `where` (`ssim >=
0.9 where denoise_strength <= 0.4`), or a condition on counts: points, completed, failed, cancelled, pending (`failed ==
0`). Metrics that it names are measured first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from sweep.errors import UsageError, did_you_mean
from sweep.experiment import NamedAxis
from sweep.notebook_results import compile_condition
from sweep.record import RecordedResults, read_folder_status, write_tables
from sweep.text import format_count, format_number, make_list
from sweep.types import Scalar

_COUNTS: Final = ("points", "completed", "failed", "cancelled", "pending")

_NAME = re.compile(r"[A-Za-z_][\w:]*")
_QUOTED = r"\"[^\"]*\"|'[^']*'"
_PARTS = re.compile(rf"((?:{_QUOTED}|.)+?)(?:\s+where\s+(.*))?", re.DOTALL)  # a quoted "where" divides nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of a requirement: how many images (or counts) were tested, and which rows missed it."""

    requirement: str
    is_met: bool
    tested: int
    summary: str  # "2 of 6 images miss it"; empty where it is met
    missed: tuple[Mapping[str, Scalar], ...] = ()  # index, axes, and the columns that the requirement names

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def check_run(
    folder: Path | str, requirements: str | Sequence[str], progress: Callable[[int, int], None] | None = None
) -> list[CheckResult]:
    """Test what a run has to meet.

    Args:
        folder: A results folder.
        requirements: Conditions, such as "ssim >= 0.9 where denoise_strength <= 0.4" or "failed == 0".
        progress: Called with images measured and images to measure.

    Returns:
        One result for each requirement, in their order. A requirement that no image can meet or miss (its `where`
        holds for none) is not met: a gate that tests nothing must not open.

    Raises:
        UsageError: A requirement cannot be read, or names no column, metric or count.
        RecordError: The folder holds no results, or they are damaged.
    """
    if not requirements:
        raise UsageError("There is nothing to check.", hint='Add --require "failed == 0".')
    results, requirements = RecordedResults.open(folder), make_list(requirements)
    _measure(results, requirements, progress)
    return [_check(results, text) for text in requirements]


def _measure(
    results: RecordedResults, requirements: Sequence[str], progress: Callable[[int, int], None] | None
) -> None:
    """Measure the metrics that the requirements name, unless every image has its value."""
    from sweep.study import make_study, resolve_metrics

    names = dict.fromkeys(chain.from_iterable(map(_find_names, requirements)))
    no_metrics = {*_COUNTS, "where", "and", "or", "not", "in", *(name for name, _ in results.axes)}
    wanted: list[str] = []
    for name in (name for name in names if name not in no_metrics):
        with suppress(UsageError):
            wanted += [metric.name for metric in resolve_metrics([name])]
    if wanted and any(row["image_path"] is not None and row.get(n) is None for row in results.rows() for n in wanted):
        make_study(results, metrics=wanted, progress=progress)
        write_tables(results.folder)


def _find_names(text: str) -> list[str]:
    """List the words of a requirement that are not quoted."""
    return _NAME.findall(re.sub(_QUOTED, "", text))


def _check(results: RecordedResults, text: str) -> CheckResult:
    if text.strip().endswith(" where"):
        raise UsageError(f"--require {text!r} ends before its condition.", hint='Write "… where seed == 1".')
    parts = _PARTS.fullmatch(text.strip())
    condition, where = parts.groups() if parts else ("", None)
    columns = results.columns()
    if where is None and set(_find_names(condition)) & set(_COUNTS) - {column.name for column in columns}:
        return _check_counts(results, text, condition)
    known = {column.name for column in columns}
    for name in _find_names(condition):
        if name not in known and (near := did_you_mean(name, _COUNTS)):
            raise UsageError(f"--require {text!r}: there is no column named {name}.{near}")
    clause = compile_condition(condition, columns, f"--require {text!r}")
    chosen = compile_condition(where, columns, f"--require {text!r}, where").holds if where is not None else None
    fixed = ["index", *(name for name, _ in results.axes)]
    order = [column.name for column in columns]  # metrics stand behind render_seconds
    measured = any(order.index(name) > order.index("render_seconds") for name in clause.names)
    rows = [row for row in results.rows(where=chosen) if row["image_path"] is not None or not measured]
    missed = [row for row in rows if not clause.holds(row)]
    shown = dict.fromkeys([*fixed, *clause.names, *(["image_path"] if measured else ["error"])])
    summary = f"{len(missed):,} of {format_count(len(rows), 'image' if measured else 'row')} miss it"
    if not missed:
        summary = "" if rows else "no image to test"
    return CheckResult(
        requirement=text,
        is_met=bool(rows) and not missed,
        tested=len(rows),
        summary=summary,
        missed=tuple({name: _simplify(row[name]) for name in shown} for row in missed),
    )


def _check_counts(results: RecordedResults, text: str, condition: str) -> CheckResult:
    status = read_folder_status(results.folder)
    counts: dict[str, Scalar] = {name: getattr(status, name) for name in _COUNTS}
    counts["pending"] = status.pending + status.open
    clause = compile_condition(condition, [NamedAxis(name, "number") for name in _COUNTS], f"--require {text!r}")
    found = ", ".join(f"{name} is {counts[name]:,}" for name in clause.names)
    is_met = clause.holds(counts)
    return CheckResult(requirement=text, is_met=is_met, tested=1, summary="" if is_met else found)


def _simplify(cell: Any) -> Scalar:
    return cell if cell is None or isinstance(cell, str | int | float | bool) else str(cell)


def describe_row(row: Mapping[str, Scalar], axes: Sequence[str]) -> str:
    """Write a row that missed a requirement on one line: its index, its axes, and what was tested."""
    values = " · ".join(f"{name} {_format_value(row[name])}" for name in axes)
    tested = "  ".join(
        f"{name} {_format_value(row[name])}" for name in row if name not in ("index", "image_path", "error", *axes)
    )
    return f"{row['index']:04}  {values}   {tested}".rstrip()


def _format_value(value: Scalar) -> str:
    if value is None:
        return "not measured"
    return format_number(round(value, 6)) if isinstance(value, float) else " ".join(str(value).split())


def write_junit(results: Sequence[CheckResult], name: str, axes: Sequence[str]) -> str:
    """Write results as a JUnit report, one test case a requirement."""
    failed = sum(not each.is_met for each in results)
    suite = ElementTree.Element(
        "testsuite", name=_drop_unprintable(name), tests=str(len(results)), failures=str(failed)
    )
    for each in results:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_drop_unprintable(name), name=_drop_unprintable(each.requirement)
        )
        if not each.is_met:
            failure = ElementTree.SubElement(case, "failure", message=_drop_unprintable(each.summary))
            failure.text = _drop_unprintable("\n".join(describe_row(row, axes) for row in each.missed))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _drop_unprintable(text: str) -> str:
    """Leave out what XML 1.0 cannot hold."""
    return re.sub(r"[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)
