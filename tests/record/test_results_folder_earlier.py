from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from sweep.record.base import Failure
from sweep.record.images import ImageStore
from sweep.record.results_folder import read_past
from sweep.record.sqlite.journal import SqliteJournal
from sweep.testing.journals import TIMES, an_intent
from tests.support.record_writing import a_folder, facts, image, point, rendering


def test_a_folder_that_is_not_there_has_no_past(tmp_path: Path) -> None:
    past = read_past(tmp_path / "nothing")
    assert (past.fingerprint, past.completed, past.pixels, past.count_states(["a"])) == (None, 0, 0, Counter())
    assert past.seeds_for("seed", 3) == (0, 1, 2)


def test_what_a_finished_run_tells_of_the_next(tmp_path: Path) -> None:
    folder = asyncio.run(a_folder(tmp_path, 3))

    async def more() -> tuple[int, ...]:
        async with await SqliteJournal.open(folder) as journal:
            await journal.fail(point(5), Failure(kind="A", message="b"))
            return await journal.seeds("seed", 2)

    drawn = asyncio.run(more())
    past = read_past(folder)
    assert (past.fingerprint, past.completed, past.counts.failed) == ("first", 3, 1)
    assert past.count_states(point(index).key for index in (2, 5, 99)) == {"completed": 1, "failed": 1}
    assert past.pixels == 24 * 16
    assert list(past.seconds) == [2.0] * 3
    assert past.seeds_for("seed", 2) == drawn
    assert past.seeds_for("seed", 1) == drawn[:1]
    assert len(set(past.seeds_for("seed", 5))) == 5


def test_the_latest_images_tell_the_size_of_the_next(tmp_path: Path) -> None:
    async def write() -> None:
        async with await SqliteJournal.open(tmp_path) as journal:
            store = ImageStore(tmp_path, 2)
            await journal.begin_run(facts(2))
            for number, side in ((0, 8), (1, 16)):  # by their keys the latest comes last
                one = point(number)
                await journal.intend(one, an_intent(one))
                saved = await store.save(image(size=(side, side)), f"{number}", one.key)
                await journal.complete(one.key, [rendering(saved)], TIMES)

    asyncio.run(write())
    assert [pixels for pixels, _ in read_past(tmp_path).sizes] == [16 * 16, 8 * 8]


def test_the_seeds_forecast_are_the_length_asked_for_even_where_stand_ins_were_drawn(tmp_path: Path) -> None:
    async def draw() -> None:
        stand_ins = iter([0, 1, 2])
        async with await SqliteJournal.open(tmp_path, draw=lambda _: next(stand_ins)) as journal:
            await journal.begin_run(facts())
            await journal.seeds("seed", 3)

    asyncio.run(draw())
    assert read_past(tmp_path).seeds_for("seed", 6) == (0, 1, 2, 3, 4, 5)
