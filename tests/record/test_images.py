from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import pickle
import subprocess
import sys
import textwrap
from asyncio import gather, to_thread
from pathlib import Path

import pytest

from sweep.errors import DiskFullError, RecordError, TransientError
from sweep.record.durable_files import free_bytes, replace_atomically, translate_disk_errors
from sweep.record.images import ImageStore
from sweep.record.sqlite.connection import connect_writer
from sweep.record.sqlite.journal import SqliteJournal
from tests.support.crash_points import IMAGE_POINTS
from tests.support.record_writing import complete, facts, image, point

KEY, OTHER = "a" * 32, "b" * 32


def test_a_place_that_may_only_be_read_is_answered_with_the_way_out(tmp_path: Path) -> None:
    for code, way_out in ((errno.EROFS, "--output"), (errno.EIO, "None")):
        with pytest.raises(RecordError) as raised, translate_disk_errors(tmp_path / "a"):
            raise OSError(code, os.strerror(code))
        assert way_out in str(raised.value.hint)


async def test_the_bytes_kept_are_the_servers_own(tmp_path: Path) -> None:
    data = image(note="invokeai_graph would stand here")
    saved = await ImageStore(tmp_path, 1).save(data, "0000_cup", KEY)
    kept = await to_thread((tmp_path / saved.path).read_bytes)
    assert kept == data
    assert saved.path == "images/0000_cup.png"
    assert saved.sha256 == hashlib.sha256(data).hexdigest()
    assert (saved.size, saved.width, saved.height) == (len(data), 24, 16)


async def test_a_bad_image_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        await ImageStore(tmp_path, 1).save(image()[:-9], "0000", KEY)
    assert await to_thread(lambda: list(tmp_path.rglob("*"))) == []


async def test_an_image_makes_no_results_folder_anew_where_that_was_moved_away(tmp_path: Path) -> None:
    """It would be beside its journal, and nobody could give the folder its name back."""
    folder = tmp_path / "gone"
    with pytest.raises(RecordError, match="was moved or deleted"):
        await ImageStore(folder, 1).save(image(), "0000", KEY)
    assert not await to_thread(folder.exists)


@pytest.mark.parametrize("points", [1, 5000], ids=["flat", "in-sub-folders"])
async def test_an_image_makes_no_results_folder_anew_that_is_moved_away_while_it_is_written(
    tmp_path: Path, points: int
) -> None:
    folder, stem = tmp_path / "run", "000/0000" if points > 1 else "0000"
    folder.mkdir()

    def move(name: str) -> None:
        if name == "image.part-synced":
            folder.rename(tmp_path / "elsewhere")

    with pytest.raises(RecordError):
        await ImageStore(folder, points, checkpoint=move).save(image(), stem, KEY)
    assert not await to_thread(folder.exists)


async def test_several_images_of_one_variation(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, 5000)
    stem = store.stem(1234, {"seed": 1})
    saved = await gather(*(store.save(image(form), stem, KEY, n) for n, form in enumerate(["PNG", "JPEG", "WEBP"])))
    assert [each.path for each in saved] == [
        "images/001/1234_seed1.png",
        "images/001/1234_seed1_2.jpg",
        "images/001/1234_seed1_3.webp",
    ]


async def test_two_keys_never_share_a_file_and_names_stay_over_resumes(tmp_path: Path) -> None:
    """As after an edit of an input that no axis shows: same index, same values, another key."""
    async with await SqliteJournal.open(tmp_path) as journal:
        await journal.begin_run(facts())
        (first,) = await complete(journal, ImageStore(tmp_path, 8), point(0))
        store = ImageStore(tmp_path, 8)
        stem = store.stem(0, point(0).values, {"variation": "text"})
        second = await store.save(image(shade=1), stem, OTHER)
        assert second.path == first.path.replace(".png", "_bbbbbbbb.png")
        again = await ImageStore(tmp_path, 8).save(image(shade=1), stem, OTHER)
        assert again.path == second.path
        assert (await ImageStore(tmp_path, 8).save(image(), stem, point(0).key)).path == first.path


async def test_two_keys_in_flight_at_once_do_not_race_for_a_name(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, 8)
    saved = await gather(*(store.save(image(), "0000_cup", key) for key in (KEY, OTHER, KEY, OTHER)))
    assert sorted({each.path for each in saved}) == sorted(
        {saved[0].path, saved[1].path},
    )
    assert saved[0].path == saved[2].path != saved[1].path == saved[3].path


async def test_a_file_nobody_has_on_record_is_written_over(tmp_path: Path) -> None:
    await ImageStore(tmp_path, 8).save(image(), "0000_cup", KEY)
    saved = await ImageStore(tmp_path, 8).save(image(shade=3), "0000_cup", OTHER)
    assert saved.path == "images/0000_cup.png"


async def test_the_steps_of_a_save_are_named_in_order(tmp_path: Path) -> None:
    seen: list[str] = []
    await ImageStore(tmp_path, 1, checkpoint=seen.append).save(image(), "0000", KEY)
    assert tuple(seen) == IMAGE_POINTS


@pytest.mark.parametrize("name", IMAGE_POINTS[:2])
async def test_whatever_goes_wrong_the_old_file_stays_and_no_part_is_left(tmp_path: Path, name: str) -> None:
    def fail(at: str) -> None:
        if at == name:
            raise OSError(28, "No space left on device")

    before = await ImageStore(tmp_path, 1).save(image(), "0000", KEY)
    with pytest.raises(DiskFullError):
        await ImageStore(tmp_path, 1, checkpoint=fail).save(image(shade=9), "0000", KEY)
    kept = await to_thread(lambda: [path for path in tmp_path.rglob("*") if path.is_file()])
    assert kept == [tmp_path / before.path]
    assert hashlib.sha256(await to_thread(kept[0].read_bytes)).hexdigest() == before.sha256


async def test_an_image_that_cannot_get_its_name_leaves_no_part(tmp_path: Path) -> None:
    """Whether it was written here or, with a part writer, by another host of the folder."""
    store = ImageStore(tmp_path, 1)
    await to_thread((tmp_path / "images" / "0000.png").mkdir, parents=True)
    with pytest.raises(RecordError, match=r"images/0000\.png could not be written"):
        await store.save(image(), "0000", KEY)
    part = await to_thread(store.part_writer, image())
    with pytest.raises(RecordError, match=r"images/0000\.png could not be written"):
        await store.place(part, "0000", KEY)
    assert await to_thread(lambda: [path for path in tmp_path.rglob("*") if path.is_file()]) == []


def test_a_device_that_takes_no_more_is_a_full_disk(tmp_path: Path) -> None:
    program = """
        import asyncio, resource, sys
        from pathlib import Path
        from sweep.errors import DiskFullError
        from sweep.record.images import ImageStore
        from tests.support.record_writing import image

        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        try:
            asyncio.run(ImageStore(Path(sys.argv[1]), 1).save(image(note="x" * 5000), "0000", "a" * 32))
        except DiskFullError as full:
            print(full)
    """
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path], capture_output=True, text=True, check=True
    )
    assert "no space is left" in child.stdout
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_only_our_own_leftovers_are_removed(tmp_path: Path) -> None:
    def prepare() -> None:
        (tmp_path / "images" / "001").mkdir(parents=True)
        (tmp_path / "images" / "001" / f".{'0' * 32}.part").write_bytes(b"half")
        (tmp_path / f".{'1' * 32}.part").write_bytes(b"half a table")
        (tmp_path / "images" / "notes.part").write_text("a person's")
        (tmp_path / "images" / ".hidden.part").write_text("a person's")

    await to_thread(prepare)
    store = ImageStore(tmp_path, 1)
    assert await store.clean() == 2
    assert await store.clean() == 0
    left = await to_thread(lambda: sorted(path.name for path in tmp_path.rglob("*.part")))
    assert left == [".hidden.part", "notes.part"]
    assert await ImageStore(tmp_path / "not there", 1).clean() == 0


async def test_an_input_is_copied_once_and_checked(tmp_path: Path) -> None:
    source = tmp_path / "Überraschung (1).PNG"
    data = image()
    await to_thread(source.write_bytes, data)
    sha256 = hashlib.sha256(data).hexdigest()
    store = ImageStore(tmp_path / "run", 1)
    path = await store.copy_input(source, sha256)
    assert path == f"inputs/uberraschung-1_{sha256[:8]}.png"
    assert await store.copy_input(source, sha256) == path
    assert await to_thread((tmp_path / "run" / path).read_bytes) == data
    await to_thread((tmp_path / "run" / path).write_bytes, b"damaged")
    assert await store.copy_input(source, sha256) == path
    assert await to_thread((tmp_path / "run" / path).read_bytes) == data
    with pytest.raises(RecordError, match="was changed"):
        await store.copy_input(source, "0" * 64)
    with pytest.raises(RecordError, match="could not be read"):
        await store.copy_input(tmp_path / "gone.png", sha256)


def test_a_folder_that_may_not_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file where a folder should be")
    with pytest.raises(RecordError, match="could not be written"), replace_atomically(tmp_path / "images" / "a.png"):
        pass


async def test_free_space_is_known_before_the_folder_exists(tmp_path: Path) -> None:
    assert await to_thread(free_bytes, tmp_path / "a") > 0


async def test_an_image_written_on_another_host_gets_the_name_that_save_gives(tmp_path: Path) -> None:
    store, data = ImageStore(tmp_path, 5000), image(note="of another host")
    stem = store.stem(1234, {"seed": 1})
    write = pickle.loads(pickle.dumps(store.part_writer))
    with pytest.raises(TransientError):
        await to_thread(write, data[:-9])
    parts = [await to_thread(write, data) for _ in range(3)]
    placed = await store.place(parts[0], stem, KEY)
    assert await to_thread((tmp_path / placed.path).read_bytes) == data
    assert placed == await store.save(data, stem, KEY)
    assert (await store.place(parts[1], stem, OTHER)).path != placed.path
    assert await store.clean() == 1
    with pytest.raises(RecordError, match="could not be written"):
        await store.place(parts[2], stem, KEY)


def test_durable_files_leave_the_cache_of_a_mac_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda _, command: synced.append(command))
    with replace_atomically(tmp_path / "a.txt") as file:
        file.write(b"x")
    assert synced == [51, 51], "the file, and the folder that names it"


def test_journal_asks_sqlite_to_leave_the_cache_of_a_mac_drive(tmp_path: Path) -> None:
    with contextlib.closing(connect_writer(tmp_path, create=True)) as db:
        assert [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("fullfsync", "checkpoint_fullfsync")] == [1, 1]
