from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pandas as pd
import pytest

from sweep.errors import DiskFullError, RecordError
from sweep.record.base import ExperimentAxis, ExperimentFacts, Failure, Times
from sweep.record.images import ImageStore
from sweep.record.metric_cache import MetricCache, MetricKey
from sweep.record.results_folder import RecordedResults, write_tables
from sweep.record.sqlite.journal import SqliteJournal
from sweep.testing.journals import TIMES, an_intent
from sweep.types import Scalar
from tests.support.record_writing import AXES, a_folder, complete, facts, point

BAD = Failure(kind="ValueError", message='noise | and "image"\nsizes, differ')


async def mixed(folder: Path) -> None:
    """Index 0 has two images, 1 failed, 2 is under way, 3 was cancelled, 4 was tried once and waits, 5 is done."""
    async with await SqliteJournal.open(folder) as journal:
        store = ImageStore(folder, 8)
        await journal.begin_run(facts(8))
        await complete(journal, store, point(5))
        await journal.fail(point(1), BAD)
        for index in (2, 3, 4):
            await journal.intend(point(index), an_intent(point(index)))
        await journal.cancel(point(3).key)
        await journal.mark_attempt_failed(point(4).key, BAD)
        await complete(journal, store, point(0), images=2)


@pytest.fixture
def results(tmp_path: Path) -> RecordedResults:
    asyncio.run(mixed(tmp_path / "cup"))
    return RecordedResults.open(tmp_path / "cup")


def run_in(folder: Path, *steps: Coroutine[Any, Any, object]) -> None:
    async def all_of_them() -> None:
        for step in steps:
            await step

    asyncio.run(all_of_them())


STANDARD = [
    *("status", "error", "attempts", "server", "model", "image_path", "image_name", "width", "height", "sha256"),
    *("queued_at", "started_at", "finished_at", "render_seconds"),
]


def test_the_table_is_the_designs(results: RecordedResults) -> None:
    table = results.table()
    assert list(table.columns) == ["index", "key", "denoise_strength", "variation", "seed", "prompt", *STANDARD]
    assert list(table["index"]) == [0, 0, 1, 3, 5]
    assert list(table["status"]) == ["completed", "completed", "failed", "cancelled", "completed"]
    assert list(table["seed"]) == [2**53 + 1 + n for n in (0, 0, 1, 3, 5)]
    assert table["render_seconds"].tolist()[0] == 2.0
    assert table["started_at"][0] == TIMES.started_at
    assert table["error"][2] == f"ValueError: {BAD.message}"
    assert table["image_path"][1] == "images/0000_s0.00_studio-lighting_seed9007199254740993_2.png"
    failed = table.iloc[2]
    assert failed[["image_path", "image_name", "width", "height", "sha256", "queued_at"]].isna().all()


def test_dtypes_hold_whatever_the_rows_are(results: RecordedResults, tmp_path: Path) -> None:
    expected = {
        **dict.fromkeys(["index", "seed", "attempts", "width", "height"], "Int64"),
        **dict.fromkeys(["denoise_strength", "render_seconds"], "float64"),
        **dict.fromkeys(["queued_at", "started_at", "finished_at"], "datetime64[us, UTC]"),
    }
    asyncio.run(_begun(tmp_path / "new"))
    for table in (
        results.table(),
        RecordedResults.open(tmp_path / "new").table(),
        results.table(where=lambda _: False),
    ):
        for name in table.columns:
            assert str(table[name].dtype) == expected.get(name, "str"), name


async def _begun(folder: Path) -> None:
    async with await SqliteJournal.open(folder) as journal:
        await journal.begin_run(facts())


def test_a_journal_before_its_first_run_has_an_empty_table(tmp_path: Path) -> None:
    async def opened() -> None:
        async with await SqliteJournal.open(tmp_path):
            pass

    asyncio.run(opened())
    results = RecordedResults.open(tmp_path)
    assert len(results.table()) == 0
    assert results.axes == ()
    assert results.experiment_text is None
    assert results.counts().points == 0


def test_rows_are_chosen_by_a_predicate(results: RecordedResults) -> None:
    assert list(results.table(where=lambda row: row["status"] == "failed")["index"]) == [1]
    rows = list(results.rows(where=lambda row: row["denoise_strength"] == 0.5))
    assert [row["seed"] for row in rows] == [2**53 + 6]
    assert len(results.table(where=lambda _: False)) == 0


def test_counts_and_runs(results: RecordedResults) -> None:
    counts = results.counts()
    assert (counts.points, counts.completed, counts.failed, counts.cancelled, counts.open) == (8, 2, 1, 1, 1)
    assert results.axes == AXES
    assert results.experiment_text == "name: cup\n"
    (run,) = results.runs()
    assert run.ending is None
    assert run.facts == facts(8)


def test_points_the_experiment_no_longer_has(results: RecordedResults) -> None:
    async def edit() -> None:
        async with await SqliteJournal.open(results.folder) as journal:
            await journal.begin_run(facts(2, "edited", [("seed", "seed"), ("look", "text"), ("prompt", "text")]))
            new = replace(point(9), index=1, values={"seed": 7, "look": "warm", "prompt": "a cup"})
            await complete(journal, ImageStore(results.folder, 2), new)
            moved: dict[str, str | int | float | bool | None] = {"seed": 8, "look": "cold", "prompt": "tea"}
            await journal.rebase([replace(point(5), index=0, values=moved, prompt=None, model=None)])

    asyncio.run(edit())
    now = results.table()
    assert list(now["index"]) == [0, 1]
    assert list(now["look"]) == ["cold", "warm"]
    assert list(now["prompt"]) == ["tea", "a cup"]
    assert set(now["rendered_prompt"]) == {"a cup, studio lighting"}
    everything = results.table(all=True)
    assert list(everything["index"]) == [0, 1, 0, 0, 1, 3]
    assert list(everything["former"]) == [False, False, True, True, True, True]
    assert list(everything["seed"])[:3] == [8, 7, 2**53 + 1]
    assert everything["look"].isna().tolist() == [False, False, True, True, True, True]
    assert results.counts().former == 3


def test_axes_may_have_any_name_and_kind(tmp_path: Path) -> None:
    axes = [("width", "integer"), ("status", "text"), ("flag", "boolean"), ("mixed", "label"), ("odd", "number")]
    values: dict[str, Scalar] = {"width": 64, "status": "new", "flag": True, "mixed": 0.5, "odd": 3}

    async def make() -> None:
        async with await SqliteJournal.open(tmp_path) as journal:
            await journal.begin_run(facts(2, axes=axes))
            await complete(journal, ImageStore(tmp_path, 2), replace(point(0), values=values))
            await journal.fail(replace(point(1), values=dict.fromkeys(values)), BAD)

    asyncio.run(make())
    table = RecordedResults.open(tmp_path).table()
    assert table["width"].tolist() == [64, pd.NA]
    assert table["rendered_width"].tolist() == [24, pd.NA]
    assert table["axis_status"][0] == "new"
    assert table["status"].tolist() == ["completed", "failed"]
    assert str(table["flag"].dtype) == "boolean"
    assert table["mixed"][0] == "0.5"
    assert table["odd"][0] == 3.0
    assert table[["flag", "mixed", "odd"]].iloc[1].isna().all()


def test_whole_numbers_beyond_int64_are_kept(tmp_path: Path) -> None:
    """Seeds of a ComfyUI reach 2⁶⁴."""

    async def write(folder: Path, seeds: list[int]) -> None:
        async with await SqliteJournal.open(folder) as journal:
            await journal.begin_run(replace(facts(2), axes=(("3.seed", "seed"),)))
            for index, seed in enumerate(seeds):
                await journal.fail(replace(point(index), values={"3.seed": seed}), BAD)

    for name, seeds, dtype in (("a", [2**64 - 1, 7], "UInt64"), ("b", [2**64, -1], "float64"), ("c", [8, 7], "Int64")):
        asyncio.run(write(tmp_path / name, seeds))
        write_tables(tmp_path / name)
        column = RecordedResults.open(tmp_path / name).table()["3.seed"]
        assert (column.tolist(), str(column.dtype)) == (seeds, dtype)
        assert (tmp_path / name / "results.csv").read_text().splitlines()[1].split(",")[2] == str(seeds[0])


def test_csv_is_derived_anew_to_the_byte(results: RecordedResults) -> None:
    path = results.write_file(results.folder / "results.csv", "csv")
    first = path.read_bytes()
    path.unlink()
    assert results.write_file(path, "csv").read_bytes() == first
    rows = list(csv.reader(io.StringIO(first.decode())))
    assert rows[0] == list(results.table().columns)
    assert len({len(row) for row in rows}) == 1
    assert rows[3][rows[0].index("error")] == f"ValueError: {BAD.message}"
    assert rows[1][rows[0].index("started_at")] == "2026-01-01T00:00:00+00:00"
    read = pd.read_csv(path, dtype={"seed": "Int64"})
    assert list(read["seed"]) == list(results.table()["seed"])


def test_parquet_keeps_every_dtype(results: RecordedResults) -> None:
    path = results.write_file(results.folder / "results.parquet", "parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(path), results.table())


def test_an_empty_table_can_be_exported_too(tmp_path: Path) -> None:
    asyncio.run(_begun(tmp_path))
    files, hint = write_tables(tmp_path)
    assert [file.name for file in files] == ["results.csv", "results.parquet"]
    assert hint is None
    assert len(pd.read_parquet(files[1])) == 0
    out = io.StringIO()
    RecordedResults.open(tmp_path).stream(out, "json")
    assert json.loads(out.getvalue()) == []


def test_without_pyarrow_there_is_csv_and_a_hint(results: RecordedResults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    files, hint = write_tables(results.folder)
    assert [file.name for file in files] == ["results.csv"]
    assert hint is not None
    assert "sweep-engine[parquet]" in hint
    with pytest.raises(RecordError, match="pyarrow"):
        results.write_file(results.folder / "results.parquet", "parquet")


def test_json_and_markdown(results: RecordedResults) -> None:
    out = io.StringIO()
    results.stream(out, "json")
    rows = json.loads(out.getvalue())
    assert [row["index"] for row in rows] == [0, 0, 1, 3, 5]
    assert rows[0]["seed"] == 2**53 + 1
    assert rows[2]["sha256"] is None
    out = io.StringIO()
    results.stream(out, "md", where=lambda row: row["index"] == 1)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert 'ValueError: noise \\| and "image" sizes, differ' in lines[2]
    assert lines[2].replace("\\|", "").count("|") == lines[0].count("|")


def test_a_table_that_cannot_be_written_leaves_the_old_one(results: RecordedResults) -> None:
    path = results.write_file(results.folder / "results.csv", "csv")
    before = path.read_bytes()

    def stop(row: object) -> bool:
        raise OSError(28, "No space left on device")

    with pytest.raises(DiskFullError):
        results.write_file(path, "csv", where=stop)
    assert path.read_bytes() == before
    assert not list(results.folder.glob("*.part"))
    assert not list(results.folder.glob(".*.part"))


def test_sources_lie_in_the_folder(tmp_path: Path) -> None:
    async def make() -> None:
        async with await SqliteJournal.open(tmp_path) as journal:
            await journal.begin_run(facts())
            await journal.keep_input("ab" * 32, "inputs/cup.png", "cup.png", 8, 8)
            await journal.fail(replace(point(0), source="ab" * 32), BAD)
            await journal.fail(point(1), BAD)

    asyncio.run(make())
    assert dict(RecordedResults.open(tmp_path).sources) == {point(0).key: tmp_path / "inputs" / "cup.png"}


def test_times_learnt_earlier_are_kept(tmp_path: Path) -> None:
    async def make() -> None:
        async with await SqliteJournal.open(tmp_path) as journal:
            await journal.begin_run(facts())
            await journal.intend(point(0), an_intent(point(0)))
            await journal.mark_rendered(point(0).key, TIMES)
            await journal.mark_rendered(point(0).key, Times(queued_at=TIMES.started_at))
            await journal.fail(point(0), BAD)

    asyncio.run(make())
    (row,) = RecordedResults.open(tmp_path).rows()
    assert row["queued_at"] == row["started_at"] == TIMES.started_at
    assert row["render_seconds"] == 2.0


def test_a_table_that_a_spreadsheet_holds_open_is_left_and_said(
    results: RecordedResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Windows does it: the other table is written, and the run goes on."""
    write_tables(results.folder)
    before = (results.folder / "results.csv").read_bytes()
    real = Path.replace

    def replace_unless_open(part: Path, target: Path) -> Path:
        if target.name == "results.csv":
            raise PermissionError(13, "The process cannot access the file because it is being used")
        return real(part, target)

    monkeypatch.setattr(Path, "replace", replace_unless_open)
    files, hint = write_tables(results.folder)
    assert [file.name for file in files] == ["results.parquet"]
    assert hint is not None
    assert "results.csv is open in another program" in hint
    assert (results.folder / "results.csv").read_bytes() == before
    assert not list(results.folder.glob("*.part")), "nothing is left beside it"
    (results.folder / "results.csv").unlink()
    with pytest.raises(RecordError):
        write_tables(results.folder)  # then the folder cannot be written


def test_the_table_as_a_text_file_is_what_is_streamed(tmp_path: Path) -> None:
    results = RecordedResults.open(asyncio.run(a_folder(tmp_path, 3)))
    first = results.write_file(tmp_path / "a.md", "md", where=lambda row: row["index"] == 0)
    assert first.read_text().count("\n") == 3


def test_a_column_that_a_label_sets_is_read_by_the_axis_whatever_its_name(tmp_path: Path) -> None:
    """The axis `status` stands in the column `axis_status`."""
    settings = {"new": {"cfg_scale": 7.5}, "old": {"cfg_scale": 3.0}}
    axis = ExperimentAxis(name="status", kind="label", levels=("new", "old"), settings=settings)
    run = replace(facts(2, axes=[("status", "label")]), experiment_facts=ExperimentFacts(axes=(axis,)))

    async def write() -> None:
        async with await SqliteJournal.open(tmp_path) as journal:
            await journal.begin_run(run)
            for index, level in enumerate(settings):
                await journal.fail(replace(point(index), values={"status": level}), BAD)

    asyncio.run(write())
    assert RecordedResults.open(tmp_path).table(columns=["cfg_scale"])["cfg_scale"].tolist() == [7.5, 3.0]


def test_columns_of_rated_images_can_be_chosen_without_their_paths(tmp_path: Path) -> None:
    """Whether a row has an image, so a rating, is read from the whole row."""
    results = RecordedResults.open(asyncio.run(a_folder(tmp_path, 2)))
    mark = {"stars": 4, "rejected": False, "note": "ok"}
    ratings = {"schema": 1, "ratings": {point(0).key: mark}, "choices": []}
    (tmp_path / "ratings.json").write_text(json.dumps(ratings))
    rows = list(results.rows(columns=["rating", "index"]))
    assert rows == [{"rating": 4.0, "index": 0}, {"rating": None, "index": 1}]


def test_ratings_stand_beside_an_axis_called_note_and_a_metric_called_rating(tmp_path: Path) -> None:
    async def write() -> None:
        async with await SqliteJournal.open(tmp_path) as journal:
            await journal.begin_run(facts(1, axes=[("note", "label")]))
            await complete(journal, ImageStore(tmp_path, 1), replace(point(0), values={"note": "plain"}))

    asyncio.run(write())
    mark = {"stars": 4, "rejected": False, "note": "ok"}
    (tmp_path / "ratings.json").write_text(json.dumps({"schema": 1, "ratings": {point(0).key: mark}, "choices": []}))
    with MetricCache.open(tmp_path) as cache:
        cache.put_many({MetricKey(image="0" * 64, metric="rating", version="1"): 0.5})
    (row,) = RecordedResults.open(tmp_path).rows()
    assert (row["note"], row["rating"], row["given_rating"], row["given_note"]) == ("plain", None, 4.0, "ok")


def test_a_workbook_keeps_seeds_that_excel_would_round(tmp_path: Path) -> None:
    """Excel counts to 10¹⁵ exactly: longer numbers are texts."""
    results = RecordedResults.open(asyncio.run(a_folder(tmp_path, 1)))
    results.write_file(tmp_path / "a.xlsx", "xlsx", columns=["seed", "width"])
    with ZipFile(tmp_path / "a.xlsx") as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert f"<t>{2**53 + 1}</t>" in sheet
    assert "<v>24</v>" in sheet
