from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from sweep.record.sqlite.journal import SqliteJournal
from sweep.testing.journals import JOURNAL_CASES, JournalCase, expect_refusal


@pytest.mark.parametrize("check_case", JOURNAL_CASES, ids=lambda case: case.__name__)
async def test_the_sqlite_journal_keeps_the_contract(check_case: JournalCase, tmp_path: Path) -> None:
    await check_case(partial(SqliteJournal.open, tmp_path / "results of mine"))


async def test_the_kit_notices_a_journal_that_accepts_everything(tmp_path: Path) -> None:
    async def accept() -> None:
        return

    with pytest.raises(AssertionError):
        await expect_refusal(accept())
