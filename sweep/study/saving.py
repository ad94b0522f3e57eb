"""A study on disk: its JSON, and its tidy tables as CSV."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from sweep.errors import RecordError
from sweep.study.contract import StudyJson


def save_tables(data: StudyJson, frames: Mapping[str, pd.DataFrame], folder: Path) -> tuple[Path, ...]:
    """`study.json`, and a CSV file of its name for each table, in `folder`.

    Each file is replaced whole or not at all. Raises RecordError where the folder cannot be written.
    """
    texts = {"study.json": json.dumps(data, allow_nan=False, ensure_ascii=False)}
    texts |= {f"{name}.csv": frame.to_csv(index=False, lineterminator="\n") for name, frame in frames.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(_write(folder / name, text) for name, text in texts.items())
    except OSError as error:
        raise RecordError(f"The study could not be written to {folder} ({error.strerror or error}).") from error


def _write(path: Path, text: str) -> Path:
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
