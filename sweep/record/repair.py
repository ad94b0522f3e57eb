"""Puts variations whose pictures are damaged back among those to render."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweep.record.journal import SqliteJournal
from sweep.record.lock import FolderLock
from sweep.record.verify import Finding, damaged_keys


async def reopen_damaged(folder: Path, findings: Sequence[Finding]) -> int:
    """How many variations are open again. Raises FolderInUseError while a run writes there, RecordError otherwise."""
    async with FolderLock(folder), await SqliteJournal.open(folder, create=False) as journal:
        return await journal.forget(damaged_keys(list(findings)))
