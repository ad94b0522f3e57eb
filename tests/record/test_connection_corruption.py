"""Torn, truncated and bit-flipped journals: a sentence, or rows that are all right. Never a wrong row."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from sweep.errors import RecordError
from sweep.record.metric_cache import MetricCache, MetricKey
from sweep.record.results_folder import RecordedResults
from sweep.record.results_table import Cell
from sweep.record.sqlite.connection import JOURNAL_FILE
from sweep.record.sqlite.journal import SqliteJournal
from tests.support.record_writing import a_folder, complete, facts, point

Row = dict[str, Cell]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = asyncio.run(a_folder(tmp_path_factory.mktemp("whole") / "run", 40))
    image = str(next(RecordedResults(folder).rows())["sha256"])
    with MetricCache.open(folder) as cache:
        cache.put_many({MetricKey(image=image, metric="ssim", version="1"): 0.5})
    return folder


def rows_or_sentence(folder: Path) -> list[Row] | None:
    try:
        return list(RecordedResults.open(folder).rows())
    except RecordError as error:
        if str(folder) not in str(error):
            raise
        return None


def damaged(whole: Path, folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"{JOURNAL_FILE}*"):
        old.unlink()
    (folder / JOURNAL_FILE).write_bytes(content)
    return folder


def count_told(whole: Path, folder: Path, flips: Iterable[tuple[int, int]]) -> int:
    """Flip one bit (byte, bit) at a time; count the flips that are told. The others change no row."""
    content = (whole / JOURNAL_FILE).read_bytes()
    expected = list(RecordedResults(whole).rows())
    told = 0
    for at, bit in flips:
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        rows = rows_or_sentence(damaged(whole, folder, bytes(flipped)))
        told += rows is None
        assert rows is None or rows == expected
    return told


def test_a_flipped_bit_is_told_or_harmless(whole: Path, tmp_path: Path) -> None:
    content = (whole / JOURNAL_FILE).read_bytes()
    dice = random.Random(7)
    flips = [(dice.randrange(len(content)), dice.randrange(8)) for _ in range(400)]
    assert count_told(whole, tmp_path / "run", flips) > 50


def test_a_digit_that_changed_in_a_row_is_told(whole: Path, tmp_path: Path) -> None:
    """The text stays JSON and SQLite notices nothing, so only the row's seal tells: 0.4 becomes 0.5."""
    content = (whole / JOURNAL_FILE).read_bytes()
    digits = [found.end() - 1 for found in re.finditer(rb'"denoise_strength": ?\d+(\.\d+)?', content)]
    flips = [(place, 0) for place in random.Random(8).sample(digits, 20)]
    assert count_told(whole, tmp_path / "run", flips) > 10


def test_a_truncated_journal_is_told_or_harmless(whole: Path, tmp_path: Path) -> None:
    content = (whole / JOURNAL_FILE).read_bytes()
    expected = list(RecordedResults(whole).rows())
    for length in [0, 1, 15, 16, 100, 511, *range(4096, len(content), 4096), len(content) - 1]:
        rows = rows_or_sentence(damaged(whole, tmp_path / "run", content[:length]))
        assert rows is None or rows == expected


def test_a_torn_page_is_told(whole: Path, tmp_path: Path) -> None:
    content = (whole / JOURNAL_FILE).read_bytes()
    expected = list(RecordedResults(whole).rows())
    for page in range(1, len(content) // 4096):
        torn = bytearray(content)
        torn[page * 4096 + 2048 : (page + 1) * 4096] = bytes(2048)
        rows = rows_or_sentence(damaged(whole, tmp_path / "run", bytes(torn)))
        assert rows is None or rows == expected


def test_a_damaged_write_ahead_log_loses_its_end_and_invents_nothing(tmp_path: Path) -> None:
    """As a crash of the machine may leave it. What is lost is pending again; the images are still there."""

    async def make(folder: Path) -> None:
        async with await SqliteJournal.open(folder) as journal:
            from sweep.record.images import ImageStore

            await journal.begin_run(facts(20))
            for index in range(20):
                await complete(journal, ImageStore(folder, 20), point(index))
            await asyncio.to_thread(shutil.copytree, folder, tmp_path / "crashed")

    asyncio.run(make(tmp_path / "run"))
    expected = [(row["key"], row["sha256"]) for row in RecordedResults(tmp_path / "run").rows()]
    wal = tmp_path / "crashed" / f"{JOURNAL_FILE}-wal"
    content = wal.read_bytes()
    dice = random.Random(9)
    lengths = set()
    for _ in range(40):
        flipped = bytearray(content)
        flipped[dice.randrange(len(content) // 2, len(content))] ^= 1 << dice.randrange(8)
        for shared in (tmp_path / "crashed").glob("*-shm"):
            shared.unlink()
        wal.write_bytes(flipped)
        rows = rows_or_sentence(tmp_path / "crashed")
        assert rows is None or [(row["key"], row["sha256"]) for row in rows] == expected[: len(rows)]
        lengths.add(None if rows is None else len(rows))
    assert len(lengths) > 1


def test_the_writer_refuses_a_damaged_journal(whole: Path, tmp_path: Path) -> None:
    content = bytearray((whole / JOURNAL_FILE).read_bytes())
    content[4096 * 3 : 4096 * 4] = bytes(4096)
    folder = damaged(whole, tmp_path / "run", bytes(content))
    with pytest.raises(RecordError, match="is damaged"):
        asyncio.run(SqliteJournal.open(folder))
