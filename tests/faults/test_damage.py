"""Journal and images torn, truncated and with flipped bits: never a wrong row, always a sentence, and a way out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import RecordError
from tests.support.processes import Bench, SandboxProcess, Zygote

pytestmark = pytest.mark.slow  # each test starts several processes


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, forks: Zygote) -> Iterator[tuple[Bench, SandboxProcess]]:
    """A run that is complete, to be damaged and mended again by each test."""
    folder = tmp_path_factory.mktemp("damage")
    bench = Bench(folder / "a folder", forks)
    server = bench.sandbox()
    code, said = render(bench, server)
    assert code == 0, said
    yield bench, server
    server.kill()


def render(bench: Bench, server: SandboxProcess) -> tuple[int, str]:
    return bench.sweep("run", str(bench.write()), "--server", server.url, "--progress", "none", "--no-report")


def images(bench: Bench) -> list[Path]:
    return sorted((bench.results.folder / "images").glob("*.png"))


def spoil(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
        return
    if how == "truncated":
        del data[len(data) // 2 :]
    elif how == "torn":  # what a file system may leave of a file that was never synced
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    elif how == "emptied":
        data.clear()
    else:
        data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


@pytest.mark.parametrize("how", ["flipped", "gone", "truncated", "torn", "emptied"])
def test_a_damaged_image_is_found_told_and_rendered_again_alone(
    finished: tuple[Bench, SandboxProcess], how: str
) -> None:
    bench, server = finished
    before = server.renders()
    victim = images(bench)[2]
    spoil(victim, how)
    code, said = bench.sweep("verify", "small")
    assert (code, victim.name in said, "1 problem" in said) == (4, True, True)
    code, said = bench.sweep("verify", "small", "--repair", "--server", server.url)
    assert (code, "1 point will be rendered again" in said, "6 of 6 done" in said) == (0, True, True)
    assert bench.sweep("verify", "small")[0] == 0
    after = server.renders()
    assert sum(after.values()) == sum(before.values()) + 1
    assert [row["status"] for row in bench.results.rows()] == ["completed"] * 6


@pytest.mark.parametrize(
    ("command", "how"),
    [
        *(("run", how) for how in ("truncated", "torn", "emptied", "gone")),
        *((command, "torn") for command in ("verify", "table", "status")),
    ],
)
def test_a_damaged_journal_is_a_sentence_and_exit_4(
    finished: tuple[Bench, SandboxProcess], how: str, command: str
) -> None:
    bench, server = finished
    journal = bench.results.folder / "journal.sqlite"
    whole, renders = journal.read_bytes(), server.renders()
    for side in ("-wal", "-shm"):
        Path(f"{journal}{side}").unlink(missing_ok=True)
    spoil(journal, how)
    try:
        code, said = render(bench, server) if command == "run" else bench.sweep(command, "small")
    finally:
        journal.write_bytes(whole)
        for side in ("-wal", "-shm"):
            Path(f"{journal}{side}").unlink(missing_ok=True)
    assert code == 4, said
    assert "Traceback" not in said
    assert "journal.sqlite" in said
    assert server.renders() == renders


def test_a_flipped_bit_in_a_row_is_found_by_its_seal(finished: tuple[Bench, SandboxProcess]) -> None:
    bench, server = finished
    journal = bench.results.folder / "journal.sqlite"
    whole = journal.read_bytes()
    at = whole.rindex(b"a cup")
    flipped = bytearray(whole)
    flipped[at] ^= 0x01
    journal.write_bytes(flipped)
    try:
        for code, said in (render(bench, server), bench.sweep("table", "small"), bench.sweep("verify", "small")):
            assert code == 4, said
            assert "Traceback" not in said
    finally:
        journal.write_bytes(whole)


def test_bits_flipped_anywhere_give_the_same_rows_or_a_sentence(finished: tuple[Bench, SandboxProcess]) -> None:
    """A flip may hit free space; then nothing changes. It must never change what a row says."""
    bench, _ = finished
    journal = bench.results.folder / "journal.sqlite"
    whole, rows = journal.read_bytes(), list(bench.results.rows())
    try:
        for number in range(40):
            flipped = bytearray(whole)
            flipped[(number * 7919 + 101) % len(whole)] ^= 1 << (number % 8)
            journal.write_bytes(flipped)
            check_same_or_told(bench, rows)
    finally:
        journal.write_bytes(whole)


def check_same_or_told(bench: Bench, rows: list[dict[str, Any]]) -> None:
    try:
        found = list(bench.results.rows())
    except RecordError as error:
        found, said = rows, str(error)
        assert "journal.sqlite" in said, said
    assert found == rows


def test_a_folder_in_use_is_said(bench: Bench, forks: Zygote) -> None:
    server = bench.sandbox(latency=60)
    pid, _ = bench.command("run", str(bench.write()), "--server", server.url, "--progress", "none", "--no-report")
    server.until(lambda each: bool(each.batches()))
    code, said = render(bench, server)
    assert (code, "is in use by process" in said) == (4, True)
    forks.signal(pid, 9)
    forks.wait(pid)
    server.kill()


def test_a_folder_moved_away_is_said_and_the_same_command_goes_on_once_it_is_back(bench: Bench) -> None:
    """Nothing about a missing journal, which is what the command finds when it wants to sum up the run."""
    server = bench.sandbox(latency=0.3)
    options = ("--progress", "plain", "--no-report", "--fuse", "off")
    arguments = ("run", str(bench.write()), "--server", server.url, *options)
    pid, output = bench.command(*arguments)
    folder, away = bench.folder / "results" / "small", bench.folder / "elsewhere"
    server.until(lambda _: len(list(folder.glob("images/*.png"))) > 1)
    folder.rename(away)
    code, _ = bench.zygote.wait(pid)
    said = output.read_text(encoding="utf-8")
    assert (code, folder.exists()) == (4, False)
    assert "was moved or deleted while the run was writing to it" in said
    assert "There are no results" not in said
    away.rename(folder)
    assert bench.sweep(*arguments)[0] == 0
    assert sorted(server.renders().values()) == [1] * 6
    server.kill()
