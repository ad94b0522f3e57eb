from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from sweep.errors import CorruptRecordError, UsageError
from sweep.record.images import ImageStore
from sweep.record.maintenance import list_damaged_keys, rename_run
from sweep.record.results_folder import RecordedResults
from sweep.record.sqlite.connection import JOURNAL_FILE
from sweep.record.sqlite.journal import SqliteJournal
from tests.support.record_writing import a_folder, complete, facts, image, point


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return asyncio.run(a_folder(tmp_path / "run", 5))


def paths(folder: Path) -> list[Path]:
    return [folder / str(row["image_path"]) for row in RecordedResults(folder).rows()]


def test_a_whole_folder_has_no_findings(folder: Path) -> None:
    assert RecordedResults.open(folder).verify() == []


def test_a_new_name_with_slashes_is_refused(folder: Path) -> None:
    for name in ("a/b", "../b", "..", " ", ""):
        with pytest.raises(UsageError, match="Write a name without slashes"):
            rename_run(folder, name)
    assert folder.is_dir()


def test_every_fault_is_named_and_repair_renders_just_that(folder: Path) -> None:
    missing, truncated, changed, damaged, _ = paths(folder)
    missing.unlink()
    truncated.write_bytes(truncated.read_bytes()[:-5])
    changed.write_bytes(image(shade=7))
    damaged.write_bytes(b"<html>" + damaged.read_bytes())
    (folder / "images" / "mine.png").write_bytes(image())
    (folder / "images" / f".{'0' * 32}.part").write_bytes(b"")
    findings = RecordedResults.open(folder).verify()
    assert {(each.fault, each.path.rpartition("/")[2], each.key) for each in findings} == {
        ("missing", missing.name, point(0).key),
        ("truncated", truncated.name, point(1).key),
        ("changed", changed.name, point(2).key),
        ("damaged", damaged.name, point(3).key),
        ("orphan", "mine.png", None),
        ("leftover", f".{'0' * 32}.part", None),
    }
    assert all(each.path in each.message for each in findings)
    keys = list_damaged_keys(findings)
    assert keys == [point(n).key for n in range(4)]
    assert asyncio.run(repair(folder, keys)) == 4
    assert {each.fault for each in RecordedResults.open(folder).verify()} == {"orphan"}
    assert len(paths(folder)) == 5


async def repair(folder: Path, keys: list[str]) -> int:
    async with await SqliteJournal.open(folder) as journal:
        store = ImageStore(folder, 5)
        await store.clean()
        await journal.begin_run(facts(5))
        reopened = await journal.reopen(keys)
        done = set(await journal.indices("completed"))
        for index in set(range(5)) - done:
            await complete(journal, store, point(index))
        return reopened


def test_an_input_that_changed_is_found(folder: Path) -> None:
    async def keep() -> None:
        async with await SqliteJournal.open(folder) as journal:
            await journal.keep_input("ab" * 32, "inputs/cup.png", "cup.png", 8, 8)

    asyncio.run(keep())
    (finding,) = RecordedResults.open(folder).verify()
    assert (finding.fault, finding.path, finding.key) == ("changed", "inputs/cup.png", None)
    assert list_damaged_keys([finding]) == []


def test_a_row_changed_by_hand_is_found(folder: Path) -> None:
    db = sqlite3.connect(folder / JOURNAL_FILE)
    db.execute("UPDATE points SET axis_values = replace(axis_values, '0.1', '0.9')")
    db.execute("DELETE FROM images WHERE key = ?", (point(2).key,))
    db.commit()
    db.close()
    with pytest.raises(CorruptRecordError, match="1 row of points not as written"):
        RecordedResults.open(folder)
    faults = [each.message for each in RecordedResults(folder).verify() if each.fault == "journal"]
    assert any("1 row of points not as written" in fault for fault in faults)
    assert any("1 completed point without an image" in fault for fault in faults)


def test_a_journal_that_is_no_database_is_a_finding(folder: Path) -> None:
    results = RecordedResults.open(folder)
    (folder / JOURNAL_FILE).write_bytes(b"gone" * 3000)
    (finding,) = results.verify()
    assert finding.fault == "journal"
    assert finding.message.count("is damaged") == 1
