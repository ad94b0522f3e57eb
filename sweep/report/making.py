"""`report`: from a results folder to its page, the study included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import RecordError
from sweep.record.table import Results
from sweep.report.explorer import write_report

if TYPE_CHECKING:
    from sweep.study.measuring import Progress
    from sweep.study.study import Study


def report(
    results: Results | Path | str,
    *,
    out: Path | None = None,
    study: Study | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Path:
    """Write the page of a results folder to `out` (by default `report.html` in it) and return its path.

    `study` is what stands on top; without one it is made here, pictures not measured yet being measured by `workers`
    processes (by default one a core) and counted to `progress(done, total)`. A folder without results, with broken
    ones or with failures only gives a page that says so.

    Blocking; from an event loop use `anyio.to_thread.run_sync`. Raises OSError where the page cannot be written.
    """
    folder = results.folder if isinstance(results, Results) else Path(results)
    made = study or _study(folder, progress, workers)
    return write_report(folder, out=out, study=made.to_json() if made else None)


def _study(folder: Path, progress: Progress | None, workers: int | None) -> Study | None:
    """None where the folder cannot be read: the page says why."""
    from sweep.study.study import study

    try:
        return study(folder, progress=progress, workers=workers)
    except RecordError:
        return None
