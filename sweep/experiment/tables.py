"""Values from files beside the experiment: lines of text, columns of CSV, mappings of settings."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sweep.errors import ExperimentError, did_you_mean
from sweep.experiment.files import did_you_mean_file
from sweep.experiment.reading import read_text
from sweep.experiment.vocabulary import said

MAX_BYTES: Final = 50_000_000


class SourceError(ValueError):
    """What is wrong with a file of values, as the end of a sentence that begins with where it is named."""


def text_of(path: Path, shown: str) -> str:
    """The file's text. Raises SourceError where it is missing, too large or not UTF-8."""
    try:
        if not path.is_file():
            raise SourceError(
                f"{shown} is a folder" if path.is_dir() else f"{shown} does not exist.{did_you_mean_file(path)}"
            )
        if path.stat().st_size > MAX_BYTES:
            raise SourceError(f"{shown} is larger than {MAX_BYTES // 1_000_000} MB")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{shown} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise SourceError(f"{shown} cannot be read ({error.strerror or error})") from error


def lines_of(path: Path, shown: str) -> list[str]:
    """Every line that is neither empty nor a comment, without the space around it. Raises SourceError."""
    lines = (line.strip() for line in text_of(path, shown).splitlines())
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise SourceError(f"{shown} holds no line")
    return found


def columns_of(path: Path, shown: str, names: Sequence[str]) -> list[list[str]]:
    """The named columns of a CSV file, comma, semicolon or tab separated as its header shows. Raises SourceError."""
    text = text_of(path, shown)
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if any(row)]
    except csv.Error as error:
        raise SourceError(f"{shown} is not CSV ({error})") from error
    if len(rows) < 2:
        raise SourceError(f"{shown} holds no row below its header")
    head = [cell.strip() for cell in rows[0]]
    missing = [name for name in names if name not in head]
    if missing:
        raise SourceError(f"{shown} has no column {missing[0]}.{did_you_mean(missing[0], head)}")
    twice = [name for name in names if head.count(name) > 1]
    if twice:
        raise SourceError(f"{shown} has the column {twice[0]} twice")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(head):
            raise SourceError(f"{shown}: row {number} has {len(row)} cells, the header {len(head)}")
    places = [head.index(name) for name in names]
    return [[row[place].strip() for row in rows[1:]] for place in places]


def settings_of(path: Path, shown: str) -> dict[str, Mapping[str, Any]]:
    """Label → targets and values, from a JSON or YAML file. Raises SourceError."""
    try:
        data = read_text(text_of(path, shown), folder=path.parent, shown=shown).data  # JSON is YAML
    except ExperimentError as error:
        raise SourceError(f"{shown}: {error.problems[0] if error.problems else error.message}") from error
    if isinstance(data, list):
        data = _numbered(data, shown)
    if not isinstance(data, dict) or not data:
        raise SourceError(f"{shown} must hold a mapping of labels, or a list of mappings, not {said(data)}")
    for label, settings in data.items():
        if not isinstance(settings, dict) or not settings:
            raise SourceError(f"{shown}: {label} must be a mapping of what it sets, not {said(settings)}")
    return data


def _numbered(items: list[Any], shown: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise SourceError(f"{shown}: entry {number} must be a mapping of what it sets, not {said(item)}")
        label = str(item.get("label", number))
        if label in result:
            raise SourceError(f"{shown}: the label {label} stands twice")
        result[label] = {key: value for key, value in item.items() if key != "label"}
    return result


def typed(cells: Sequence[str]) -> list[str] | list[int] | list[float]:
    """Cells as whole numbers where all are, as numbers where all are, else as the text they are."""
    for convert in (int, float):
        try:
            numbers = [convert(cell) for cell in cells]
        except ValueError:
            continue
        if all(abs(number) < float("inf") for number in numbers):
            return numbers
    return list(cells)
