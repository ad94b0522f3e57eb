"""Folders of one definition become one: files, rows and attempts, none twice, and nothing that is damaged."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sweep.errors import FolderInUseError, RecordError, UsageError
from sweep.record import FolderLock, ImageStore, RecordedResults, SqliteJournal, merge_results, read_submitted
from sweep.record.base import Failure
from sweep.record.sqlite.connection import build_update, connect_writer
from sweep.testing.journals import TIMES, an_intent
from tests.support.record_writing import complete, facts, image, point, rendering

POINTS = 8


async def _write(folder: Path, indices: Sequence[int], failed: Sequence[int] = (), size: int = POINTS) -> None:
    async with FolderLock(folder), await SqliteJournal.open(folder) as journal:
        store = ImageStore(folder, size)
        await journal.begin_run(facts(size))
        for index in indices:
            await complete(journal, store, point(index))
        for index in failed:
            await journal.fail(point(index), Failure(kind="ValueError", message="no"))


def write(folder: Path, indices: Sequence[int], failed: Sequence[int] = ()) -> Path:
    """Write a results folder with these points completed or failed."""
    asyncio.run(_write(folder, indices, failed))
    return folder


def write_one(folder: Path, content: bytes) -> Path:
    """Write a results folder whose first point has this image."""

    async def write_it() -> None:
        async with FolderLock(folder), await SqliteJournal.open(folder) as journal:
            await journal.begin_run(facts(POINTS))
            one, store = point(0), ImageStore(folder, POINTS)
            await journal.intend(one, an_intent(one))
            saved = await store.save(content, "0000", one.key, 0)
            await journal.complete(one.key, [rendering(saved)], TIMES)

    asyncio.run(write_it())
    return folder


def statuses(folder: Path) -> dict[object, object]:
    """Read the status of each point."""
    return {row["index"]: row["status"] for row in RecordedResults.open(folder).rows()}


def test_merge_takes_points_files_and_attempts_once(tmp_path: Path) -> None:
    parts = [write(tmp_path / "a", [0, 2, 4], failed=[1]), write(tmp_path / "b", [1, 3, 4])]
    whole = write(tmp_path / "whole", range(5))
    for taken in (5, 0):  # the second time it is all there
        summary = merge_results(parts, tmp_path / "both")
        assert summary.taken >= taken
        assert (summary.missing, summary.conflicts) == (POINTS - 5, ())
    merged, same = RecordedResults.open(tmp_path / "both"), RecordedResults.open(whole)
    assert merged.verify() == []
    hidden = {"queued_at", "started_at", "finished_at", "render_seconds"}
    assert [{k: v for k, v in row.items() if k not in hidden} for row in merged.rows()] == [
        {k: v for k, v in row.items() if k not in hidden} for row in same.rows()
    ]
    sent = [
        set(work.items.values()) for folder in (*parts, tmp_path / "both") for work in read_submitted(folder).values()
    ]
    assert sent[0] | sent[1] == sent[2]
    assert len(merged.runs()) == 2
    assert (tmp_path / "both" / "results.csv").is_file()


def test_merge_prefers_a_completed_point_and_keeps_a_failed_one(tmp_path: Path) -> None:
    parts = [
        write(tmp_path / "a", [], failed=[0, 1]),
        write(tmp_path / "b", [0]),
        write(tmp_path / "c", [], failed=[0]),
    ]
    merge_results(parts, tmp_path / "all")
    assert statuses(tmp_path / "all") == {0: "completed", 1: "failed"}


def test_merge_keeps_one_state_of_points_that_share_a_key(tmp_path: Path) -> None:
    """One shard rendered it, and another failed: the next run gives the second point the image of the first."""
    done, twin = write(tmp_path / "a", [0]), tmp_path / "b"

    async def fail() -> None:
        async with FolderLock(twin), await SqliteJournal.open(twin) as journal:
            await journal.begin_run(facts(POINTS))
            await journal.fail(replace(point(0), index=4), Failure(kind="ValueError", message="no"))

    asyncio.run(fail())
    for number, parts in enumerate(([done, twin], [twin, done])):
        both = tmp_path / f"both{number}"
        assert merge_results(parts, both).missing == POINTS - 1
        assert statuses(both) == {0: "completed"}
        assert RecordedResults.open(both).verify() == []


def test_merge_reports_other_images_of_one_point_and_keeps_the_first(tmp_path: Path) -> None:
    parts = [write(tmp_path / "a", [0, 1]), write(tmp_path / "b", [2])]
    merge_results(parts[:1], tmp_path / "all")
    before = [row["sha256"] for row in RecordedResults.open(tmp_path / "all").rows()]
    other = write_one(tmp_path / "other", image(shade=77))
    summary = merge_results([other, parts[1]], tmp_path / "all")
    assert [(conflict.index, conflict.source) for conflict in summary.conflicts] == [(0, other)]
    assert [row["sha256"] for row in RecordedResults.open(tmp_path / "all").rows()][:2] == before


def test_merge_takes_equal_pixels_for_one_image_whatever_text_their_files_hold(tmp_path: Path) -> None:
    """Servers write ids of their own into each file: two renderings of one point never have the same bytes."""
    parts = [write_one(tmp_path / name, image(shade=5, note=name)) for name in ("a", "b")]
    assert merge_results(parts, tmp_path / "both").conflicts == ()
    next((parts[1] / "images").rglob("*.png")).unlink()  # what cannot be looked at is not known to be the same
    assert [each.index for each in merge_results(parts, tmp_path / "both").conflicts] == [0]


def test_merge_compares_colours_of_palettes_and_all_frames(tmp_path: Path) -> None:
    def save(*frames: Image.Image, **options: object) -> bytes:
        file = io.BytesIO()
        frames[0].save(file, "PNG", append_images=frames[1:], **options)
        return file.getvalue()

    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    palettes = [save(each.convert("P", palette=Image.Palette.ADAPTIVE)) for each in (red, blue)]
    animations = [save(red, second, save_all=True, duration=50) for second in (blue, Image.new("RGB", (8, 8), "green"))]
    for kind, contents in enumerate((palettes, animations)):
        parts = [write_one(tmp_path / f"{kind}{name}", one) for name, one in zip("ab", contents, strict=True)]
        assert len(merge_results(parts, tmp_path / f"{kind}").conflicts) == 1


def test_merge_removes_what_a_killed_merge_left_half_written(tmp_path: Path) -> None:
    part, both = write(tmp_path / "a", [0]), tmp_path / "both"
    (both / "images").mkdir(parents=True)
    (both / "images" / f".{'a' * 32}.part").write_bytes(b"half")
    merge_results([part], both)
    assert RecordedResults.open(both).verify() == []


def test_merge_refuses_damaged_sources(tmp_path: Path) -> None:
    parts = [write(tmp_path / "a", [0]), write(tmp_path / "b", [1])]
    file = next((parts[1] / "images").rglob("*.png"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(RecordError, match=rf"{file.name} is missing or changed"):
        merge_results(parts, tmp_path / "both")
    file.write_bytes(whole)
    journal = parts[1] / "journal.sqlite"
    kept = journal.read_bytes()
    journal.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(RecordError, match="is damaged"):
        merge_results(parts, tmp_path / "both")
    journal.write_bytes(kept)
    assert merge_results(parts, tmp_path / "both").missing == POINTS - 2
    assert RecordedResults.open(tmp_path / "both").verify() == []


def test_merge_writes_no_file_outside_of_the_folder(tmp_path: Path) -> None:
    """A folder of somebody else may name any path, with a seal that fits."""
    part = write(tmp_path / "a", [0])
    kept = next((part / "images").rglob("*.png"))
    (tmp_path / "mine.png").write_bytes(kept.read_bytes())
    with closing(connect_writer(part, create=False)) as db:
        for path in ("../mine.png", "images/../../mine.png", str(tmp_path / "mine.png"), "journal.sqlite"):
            db.execute(build_update("images", (("path", ":path"),), "ordinal = 0"), {"path": path})
            with pytest.raises(RecordError, match="names a file outside of its images"):
                merge_results([part], tmp_path / "both" / "deep")
    assert not list((tmp_path / "both").rglob("*.png"))


def test_merge_refuses_other_definitions_itself_and_folders_in_use(tmp_path: Path) -> None:
    part, other = write(tmp_path / "a", [0]), tmp_path / "b"
    asyncio.run(_write(other, [0], size=POINTS + 1))
    with pytest.raises(UsageError, match="different definitions"):
        merge_results([part, other], tmp_path / "both")
    assert not (tmp_path / "both").exists()
    with pytest.raises(UsageError, match="into itself"):
        merge_results([part], part)
    with FolderLock(part), pytest.raises(FolderInUseError):
        merge_results([part], tmp_path / "both")
