"""A child process that is killed at a named point, and at random: what it acknowledged is on record and whole."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sweep.record.lock import FolderLock, read_holder
from sweep.record.maintenance import list_damaged_keys
from sweep.record.results_folder import RecordedResults
from sweep.record.sqlite.journal import SqliteJournal
from tests.support.crash_points import IMAGE_POINTS, JOURNAL_OPERATIONS, JOURNAL_POINTS
from tests.support.left_out import mark_rest_slow

CHILD = textwrap.dedent("""
    import asyncio, os, signal, sys
    from pathlib import Path
    from sweep.record.images import ImageStore
    from sweep.record.sqlite.journal import SqliteJournal
    from sweep.record.lock import FolderLock, read_holder
    from tests.support.record_writing import complete, facts, point

    folder, where, nth, points = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    seen = 0

    def checkpoint(name):
        global seen
        seen += name == where
        if name == where and seen == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    async def one(journal, store, index):
        await complete(journal, store, point(index))
        print(index, flush=True)

    async def main():
        async with FolderLock(folder), await SqliteJournal.open(folder, checkpoint=checkpoint) as journal:
            store = ImageStore(folder, points, checkpoint=checkpoint)
            await store.clean()
            await journal.begin_run(facts(points))
            for intent in await journal.open_intents():
                await journal.withdraw(intent.key)
            todo = set(range(points)) - set(await journal.indices("completed"))
            for index in sorted(todo):
                await one(journal, store, index)

    asyncio.run(main())
""")


def run(folder: Path, where: str = "", nth: int = 0, points: int = 6) -> tuple[set[int], int]:
    """What the child acknowledged, and how it ended."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, folder, where, str(nth), str(points)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return {int(line) for line in child.stdout.split()}, child.returncode


@pytest.mark.parametrize(
    "where", mark_rest_slow(["complete.before-commit", "intend.before-commit", "complete.after-commit", *IMAGE_POINTS])
)
def test_killed_at_a_named_point_nothing_acknowledged_is_lost(tmp_path: Path, where: str) -> None:
    acknowledged, code = run(tmp_path, where, 4)
    assert code == -9
    assert acknowledged == {0, 1, 2}
    on_record = [row["index"] for row in RecordedResults.open(tmp_path).rows()]
    assert on_record == ([0, 1, 2, 3] if where == "complete.after-commit" else [0, 1, 2])
    assert list_damaged_keys(RecordedResults.open(tmp_path).verify()) == []
    _, code = run(tmp_path)
    assert code == 0
    assert [row["index"] for row in RecordedResults.open(tmp_path).rows()] == list(range(6))
    assert RecordedResults.open(tmp_path).verify() == []


@pytest.mark.slow
def test_killed_from_outside_at_any_moment(tmp_path: Path) -> None:
    acknowledged: set[int] = set()
    for lines in (3, 8, 15):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, tmp_path, "", "0", "1000"], stdout=subprocess.PIPE, text=True
        )
        with child:
            assert child.stdout is not None
            for _ in range(lines):
                acknowledged.add(int(child.stdout.readline()))
            child.kill()
            acknowledged |= {int(line) for line in child.stdout if line.endswith("\n")}
        results = RecordedResults.open(tmp_path)
        assert acknowledged <= {row["index"] for row in results.rows()}
        assert list_damaged_keys(results.verify()) == []
    assert read_holder(tmp_path) is not None
    with FolderLock(tmp_path):  # of a process that is gone
        pass


def test_every_write_has_its_points() -> None:
    """The fault tests go by these names; a write that is not among them would not be tested."""
    reads = {
        *("open", "aclose", "commits", "fingerprint", "indices", "keys", "identity"),
        *("open_intents", "counts", "find_statuses", "list_ended_with", "require_in_place", "uploads"),
    }
    public = {name for name in vars(SqliteJournal) if not name.startswith("_")}
    assert public - reads == set(JOURNAL_OPERATIONS)
    assert len(JOURNAL_POINTS) == 2 * len(JOURNAL_OPERATIONS)
