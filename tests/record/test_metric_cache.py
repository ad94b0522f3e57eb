from __future__ import annotations

import asyncio
import subprocess
import sys
from asyncio import to_thread
from pathlib import Path

import pytest

from sweep.errors import RecordError
from sweep.record.base import Failure
from sweep.record.metric_cache import MetricCache, MetricKey
from sweep.record.results_folder import RecordedResults
from sweep.record.sqlite.journal import SqliteJournal
from tests.support.record_writing import a_folder, facts, point

SSIM = MetricKey(image="a" * 64, reference="b" * 64, metric="ssim", version="1", working_size=512)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return asyncio.run(a_folder(tmp_path / "run", 3))


def test_a_value_is_kept_under_everything_that_decides_it(folder: Path) -> None:
    others = [
        MetricKey(image="c" * 64, reference="b" * 64, metric="ssim", version="1", working_size=512),
        MetricKey(image="a" * 64, metric="ssim", version="1", working_size=512),
        MetricKey(image="a" * 64, reference="b" * 64, metric="ssim", version="2", working_size=512),
        MetricKey(image="a" * 64, reference="b" * 64, metric="ssim", version="1", working_size=256),
    ]
    with MetricCache.open(folder) as cache:
        cache.put_many({SSIM: 0.5, MetricKey(image="a" * 64, metric="entropy", version="1"): None})
        assert cache.get_many([SSIM, *others]) == {SSIM: 0.5}
        cache.put_many({SSIM: 0.75, others[0]: 1})
    with MetricCache.open(folder) as cache:
        assert cache.get_many([SSIM, *others]) == {SSIM: 0.75, others[0]: 1.0}
        assert cache.get_many([MetricKey(image="a" * 64, metric="entropy", version="1")]) == {
            MetricKey(image="a" * 64, metric="entropy", version="1"): None
        }
    assert [column.name for column in RecordedResults.open(folder).columns()][-2:] == ["entropy", "ssim"]


def test_the_table_joins_them_newest_last_and_against_its_own_source_first(folder: Path) -> None:
    results = RecordedResults.open(folder)
    images = [str(row["sha256"]) for row in results.rows()]
    with MetricCache.open(folder) as cache:
        cache.put_many({MetricKey(image=images[0], metric="ssim", version="1"): 0.1})
        cache.put_many({MetricKey(image=images[0], metric="ssim", version="2"): 0.2})
        cache.put_many({MetricKey(image=images[0], metric="ssim", version="2", reference="x"): 0.9})
        cache.put_many({MetricKey(image=images[1], metric="ssim", version="2", reference="x"): 0.3})
        cache.put_many({MetricKey(image=images[1], metric="delta_e", version="1"): float("nan")})
        cache.put_many({MetricKey(image="nobody's", metric="ssim", version="1"): 0.7})
    table = results.table()
    assert list(table.columns)[-2:] == ["delta_e", "ssim"]
    assert table["ssim"].tolist()[:2] == [0.2, 0.3]
    assert table["ssim"].isna().tolist() == [False, False, True]
    assert table["delta_e"].isna().all()
    assert str(table["ssim"].dtype) == "float64"


async def test_it_is_filled_by_others_while_a_run_writes(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from sweep.record.metric_cache import MetricCache, MetricKey
with MetricCache.open(Path(sys.argv[1])) as cache:
    for start in range(0, 3000, 300):
        cache.put_many({MetricKey(image=str(n), metric="m", version="1"): n for n in range(start, start + 300)})
"""
    async with await SqliteJournal.open(tmp_path) as journal:
        await journal.begin_run(facts(400))
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, tmp_path)
        for index in range(400):
            await journal.fail(point(index), Failure(kind="A", message="b"))
        assert await child.wait() == 0
        assert (await journal.counts()).failed == 400

    def read() -> dict[MetricKey, float | None]:
        with MetricCache.open(tmp_path) as cache:
            return cache.get_many(MetricKey(image=str(n), metric="m", version="1") for n in range(3000))

    found = await to_thread(read)
    assert sum(value or 0 for value in found.values()) == sum(range(3000))


def test_no_folder_no_cache(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"journal\.sqlite is missing"), MetricCache.open(tmp_path):
        pass


def test_a_very_large_cache_costs_no_start(folder: Path) -> None:
    """Only what is asked for is read: the module is imported and opened without pandas."""
    program = "import sys, sweep.record.metric_cache, sweep.record.results_folder; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
