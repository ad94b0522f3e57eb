from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import threading
from asyncio import to_thread
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from sweep.errors import CorruptRecordError, DiskFullError, RecordError
from sweep.record.base import Failure, JournalPoint
from sweep.record.results_folder import RecordedResults
from sweep.record.sqlite.connection import JOURNAL_FILE
from sweep.record.sqlite.journal import SqliteJournal
from sweep.testing.journals import TIMES, a_point, a_rendering, an_intent
from tests.support.record_writing import a_folder, facts, point


async def test_a_burst_of_completions_shares_commits(tmp_path: Path) -> None:
    points = [a_point(index) for index in range(64)]
    async with await SqliteJournal.open(tmp_path) as journal:
        await journal.begin_run(facts(64))
        await asyncio.gather(*(journal.intend(each, an_intent(each)) for each in points))
        before, burst_is_here = journal.commits, threading.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(journal._writer.do("hold", lambda _: burst_is_here.wait()))
            for each in points:
                group.create_task(journal.complete(each.key, [a_rendering(each)], TIMES))
            await anyio.wait_all_tasks_blocked()
            burst_is_here.set()
        assert 1 <= journal.commits - before <= 3


async def test_one_bad_write_of_a_burst_harms_no_other(tmp_path: Path) -> None:
    async with await SqliteJournal.open(tmp_path) as journal:
        await journal.begin_run(facts())
        first, second = a_point(0), a_point(1)
        await journal.intend(first, an_intent(first))
        await journal.intend(second, an_intent(second))
        stolen = a_rendering(first)
        answers = await asyncio.gather(
            journal.complete(first.key, [stolen], TIMES),
            journal.complete(second.key, [a_rendering(second), stolen], TIMES),
            return_exceptions=True,
        )
        assert answers[0] is None
        assert isinstance(answers[1], RecordError)
        await journal.complete(second.key, [a_rendering(second)], TIMES)
        assert list(await journal.indices("completed")) == [0, 1]


async def test_the_points_of_a_definition_are_not_computed_where_nothing_is_on_record(tmp_path: Path) -> None:
    """The keys of a million points take half a minute."""

    def never() -> Iterator[JournalPoint]:
        raise AssertionError("a point was asked for")
        yield

    async with await SqliteJournal.open(tmp_path) as journal:
        await journal.begin_run(facts(), never())
        await journal.begin_run(facts(fingerprint="edited"), never())
        assert await journal.fingerprint() == "edited"


async def test_closing_waits_for_writes_nobody_waits_for_any_more(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path)
    await journal.begin_run(facts())
    tasks = [asyncio.create_task(journal.fail(a_point(n), Failure(kind="A", message="b"))) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await journal.aclose()
    await journal.aclose()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (await to_thread(RecordedResults(tmp_path).counts)).failed == 20


async def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path)
    await journal.aclose()
    with pytest.raises(RecordError, match="closed"):
        await journal.begin_run(facts())


async def test_a_full_disk_is_told_and_nothing_is_written_after_it(tmp_path: Path) -> None:
    async with await SqliteJournal.open(tmp_path) as journal:
        await journal.begin_run(facts())
        await journal._writer.do("limit", lambda db: db.execute("PRAGMA max_page_count = 60"))
        kept = 0
        with contextlib.suppress(DiskFullError):
            while kept < 10_000:
                await journal.fail(a_point(kept), Failure(kind="A", message="x" * 2000))
                kept += 1
        assert 0 < kept < 10_000
        with pytest.raises(DiskFullError, match=r"no space is left.*Free some space"):
            await journal.cancel(a_point(0).key)
        with pytest.raises(DiskFullError):
            await asyncio.gather(journal.reopen(["a"]), journal.reopen(["b"]))
    async with await SqliteJournal.open(tmp_path) as journal:
        assert (await journal.counts()).failed == kept
        await journal.fail(a_point(kept), Failure(kind="A", message="there is room again"))


async def test_text_of_a_server_that_is_no_unicode_is_kept_readable(tmp_path: Path) -> None:
    async with await SqliteJournal.open(tmp_path) as journal:
        await journal.begin_run(facts())
        await journal.fail(point(0), Failure(kind="Odd", message="half a pair \ud800, a NUL \0, a line\nbreak"))
        await journal.fail(point(0), Failure(kind="Odd", message="half a pair \ud800, a NUL \0, a line\nbreak"))
    (row,) = await to_thread(list, RecordedResults(tmp_path).rows())
    assert row["error"] == "Odd: half a pair \\ud800, a NUL \0, a line\nbreak"


async def test_an_error_of_the_code_reaches_its_caller_and_the_journal_lives_on(tmp_path: Path) -> None:
    async with await SqliteJournal.open(tmp_path) as journal:
        with pytest.raises(ZeroDivisionError):
            await journal._writer.do("broken", lambda _: 1 // 0)
        assert await journal.begin_run(facts()) == 1


def test_a_folder_without_a_journal(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"journal\.sqlite is missing"):
        asyncio.run(SqliteJournal.open(tmp_path / "nothing", create=False))
    with pytest.raises(RecordError, match=r"journal\.sqlite is missing"):
        RecordedResults.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


async def test_images_without_a_journal_are_not_taken_over(tmp_path: Path) -> None:
    folder = await a_folder(tmp_path / "run")
    (folder / JOURNAL_FILE).write_bytes(b"")
    with pytest.raises(CorruptRecordError, match=r"holds images but its journal\.sqlite is empty"):
        await to_thread(RecordedResults.open, folder)
    with pytest.raises(CorruptRecordError, match="is empty"):
        await SqliteJournal.open(folder)
    (folder / JOURNAL_FILE).unlink()
    with pytest.raises(CorruptRecordError, match="is missing"):
        await SqliteJournal.open(folder)


def test_a_journal_of_a_newer_sweep_is_left_alone(tmp_path: Path) -> None:
    folder = asyncio.run(a_folder(tmp_path / "run"))
    db = sqlite3.connect(folder / JOURNAL_FILE)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(RecordError, match=r"newer sweep.*Upgrade"):
        asyncio.run(SqliteJournal.open(folder))
    with pytest.raises(RecordError, match="newer sweep"):
        RecordedResults.open(folder)


async def test_some_other_database_is_no_journal(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / JOURNAL_FILE)
    db.execute("CREATE TABLE mine (a)")
    db.close()
    with pytest.raises(CorruptRecordError, match="not a journal of sweep"):
        await SqliteJournal.open(tmp_path)


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RecordError, match="could not be written"):
        await SqliteJournal.open(tmp_path / "file" / "run")


def test_a_folder_may_be_moved_and_goes_on(tmp_path: Path) -> None:
    folder = asyncio.run(a_folder(tmp_path / "run", 3))
    csv = RecordedResults.open(folder).write_file(folder / "results.csv", "csv").read_bytes()
    moved = tmp_path / "else where" / "ünïcode"
    moved.parent.mkdir()
    shutil.move(folder, moved)
    (moved / "results.csv").unlink()
    results = RecordedResults.open(moved)
    assert results.write_file(moved / "results.csv", "csv").read_bytes() == csv
    assert results.verify() == []
    assert asyncio.run(_resumable(moved)) == [0, 1, 2]


async def _resumable(folder: Path) -> list[int]:
    async with await SqliteJournal.open(folder, create=False) as journal:
        await journal.begin_run(facts())
        return list(await journal.indices("completed"))


async def test_readers_and_writer_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async with await SqliteJournal.open(tmp_path) as journal:
        await journal.begin_run(facts())
        await journal.fail(point(0), Failure(kind="A", message="b"))
        await journal.fail(point(1), Failure(kind="A", message="b"))
        rows = RecordedResults(tmp_path).rows()
        assert (await to_thread(next, rows))["index"] == 0
        await journal.fail(point(2), Failure(kind="A", message="b"))
        assert [row["index"] for row in await to_thread(list, rows)] == [1]
        assert [row["index"] for row in await to_thread(list, RecordedResults(tmp_path).rows())] == [0, 1, 2]


async def test_a_fault_nobody_thought_of_is_told_to_every_caller(tmp_path: Path) -> None:
    """The thread that writes must not end with callers waiting for it."""
    armed = False

    def checkpoint(name: str) -> None:
        if armed and name == "fail.before-commit":
            raise ZeroDivisionError("in a checkpoint")

    async with await SqliteJournal.open(tmp_path, checkpoint=checkpoint) as journal:
        await journal.begin_run(facts())
        armed = True
        failure = Failure(kind="A", message="b")
        answers = await asyncio.gather(*(journal.fail(a_point(n), failure) for n in range(3)), return_exceptions=True)
        assert all(isinstance(answer, RecordError) and "in a checkpoint" in str(answer) for answer in answers)
        with pytest.raises(RecordError, match="in a checkpoint"):
            await journal.cancel(a_point(0).key)
    assert (await to_thread(RecordedResults(tmp_path).counts)).failed == 0


async def test_a_reader_that_stays_for_long_holds_up_no_write(tmp_path: Path) -> None:
    """The log grows meanwhile and is taken in afterwards."""
    async with await SqliteJournal.open(tmp_path) as journal:
        await journal.begin_run(facts())
        with contextlib.closing(sqlite3.connect(tmp_path / JOURNAL_FILE, check_same_thread=False)) as reader:
            await to_thread(reader.execute, "BEGIN")
            (before,) = (await to_thread(reader.execute, "SELECT count(*) FROM points")).fetchone()
            for start in range(0, 2000, 500):
                failure = Failure(kind="A", message="x" * 500)
                await asyncio.gather(*(journal.fail(a_point(n), failure) for n in range(start, start + 500)))
            (still,) = (await to_thread(reader.execute, "SELECT count(*) FROM points")).fetchone()
            assert before == still == 0
    assert not await to_thread((tmp_path / f"{JOURNAL_FILE}-wal").exists)
    assert (await to_thread(RecordedResults(tmp_path).counts)).failed == 2000


async def test_a_journal_that_lies_elsewhere_meanwhile_is_said(tmp_path: Path) -> None:
    async with await SqliteJournal.open(tmp_path / "here") as journal:
        await journal.require_in_place()
        await to_thread((tmp_path / "here").rename, tmp_path / "there")
        with pytest.raises(RecordError, match="was moved or deleted"):
            await journal.require_in_place()
