from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from sweep.record.base import Failure
from sweep.record.results import RecordedResults
from sweep.record.sqlite.journal import SqliteJournal
from sweep.record.status import failures, marginals, read_past
from tests.support.record_writing import a_folder, facts, point


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


def test_the_seeds_forecast_are_the_length_asked_for_even_where_stand_ins_were_drawn(tmp_path: Path) -> None:
    async def draw() -> None:
        stand_ins = iter([0, 1, 2])
        async with await SqliteJournal.open(tmp_path, draw=lambda _: next(stand_ins)) as journal:
            await journal.begin_run(facts())
            await journal.seeds("seed", 3)

    asyncio.run(draw())
    assert read_past(tmp_path).seeds_for("seed", 6) == (0, 1, 2, 3, 4, 5)


def test_marginals_count_a_variation_once(tmp_path: Path) -> None:
    folder = asyncio.run(a_folder(tmp_path, 3))
    rows = [row for row in RecordedResults(folder).rows() for _ in range(2)]
    found = marginals(rows, ["denoise_strength", "variation"])
    assert [(each.axis, each.value, each.done, each.failed) for group in found.values() for each in group] == [
        ("denoise_strength", "0", 1, 0),
        ("denoise_strength", "0.1", 1, 0),
        ("denoise_strength", "0.2", 1, 0),
        ("variation", "studio lighting", 3, 0),
    ]
    assert found["variation"][0].seconds.value == 2.0


def test_marginals_average_metrics_where_there_are_values() -> None:
    rows = [
        {"index": at, "key": str(at), "seed": at % 2, "status": status, "render_seconds": None, "ssim": ssim}
        for at, (status, ssim) in enumerate([("completed", 0.5), ("failed", None), ("completed", 1.0)])
    ]
    even, odd = marginals(rows, ["seed"], ["ssim"])["seed"]
    assert (even.metrics["ssim"].value, odd.metrics["ssim"].value, odd.failed) == (0.75, None, 1)
    assert even.seconds.value is None


def test_what_failed_rows_say_is_counted() -> None:
    rows: list[dict[str, Any]] = [{"status": "failed", "error": "a"}, {"status": "completed", "error": None}]
    assert failures([*rows, rows[0]]) == {"a": 2}


def test_the_table_as_a_text_file_is_what_is_streamed(tmp_path: Path) -> None:
    results = RecordedResults.open(asyncio.run(a_folder(tmp_path, 3)))
    first = results.write_file(tmp_path / "a.md", "md", where=lambda row: row["index"] == 0)
    assert first.read_text().count("\n") == 3
