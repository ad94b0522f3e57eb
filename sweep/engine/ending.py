"""The last writes of a run: how it ended, and the tables."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread

from sweep.engine import events
from sweep.engine.preparing import Preparation
from sweep.engine.stopping import Stop
from sweep.engine.summary import Ending, RunSummary
from sweep.engine.verdict import Verdict
from sweep.errors import RecordError, SweepError
from sweep.record.base import Counts
from sweep.record.table import CSV, write_tables


async def end(
    prepared: Preparation,
    verdict: Verdict,
    stop: Stop,
    error: SweepError | None,
    seconds: float,
    listener: events.Listener,
) -> RunSummary:
    """Write them, as far as the disk lets us, and sum up. `error` is what ended the run before its time, if anything.

    Shielded: a run that is told to stop still says how it ended.
    """
    hint, counts = "", prepared.before
    with anyio.CancelScope(shield=True):
        try:
            counts = await prepared.journal.counts()
            await prepared.journal.end_run(prepared.run, _ending(counts, verdict, stop, error))
            hint = await anyio.to_thread.run_sync(_tables, prepared.folder, bool(verdict.outcomes))
        except RecordError as broken:
            error = error or broken
    ending = _ending(counts, verdict, stop, error)
    listener(
        events.RunEnded(
            ending=ending,
            completed=counts.completed,
            failed=counts.failed,
            points=counts.points,
            rendered=verdict.succeeded,
            seconds=seconds,
        )
    )
    return RunSummary(
        folder=prepared.folder,
        ending=ending,
        points=counts.points,
        completed=counts.completed,
        failed=counts.failed,
        former=counts.former,
        rendered=verdict.succeeded,
        seconds=seconds,
        reason=verdict.reason or (error.message if error else ""),
        error=error,
        hint=hint,
    )


def _ending(counts: Counts, verdict: Verdict, stop: Stop, error: SweepError | None) -> Ending:
    if isinstance(error, RecordError):
        return "record-broken"
    if error is not None:
        return "no-server"
    if stop.stage and counts.completed + counts.failed < counts.points:
        return "cancelled" if stop.stage == 2 else "interrupted"
    if verdict.reason:
        return "stopped-by-failures"
    return "failures" if counts.failed else "completed"


def _tables(folder: Path, changed: bool) -> str:
    """Derive the tables anew where anything changed or they are gone; a hint if there could be more of them."""
    if not changed and (folder / CSV).is_file():
        return ""
    return write_tables(folder)[1] or ""
