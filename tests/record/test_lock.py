from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import pytest

from sweep.errors import FolderInUseError, RecordError
from sweep.record import lock as lock_module
from sweep.record.lock import LOCK, FolderLock, Holder, is_in_use, read_holder

HOLD = """
import sys
import threading
from pathlib import Path
from sweep.record.lock import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_folder_in_use_says_by_whom_and_a_killed_holder_lets_go(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "cup"
    child = hold(folder)
    with child:
        assert is_in_use(folder)
        with pytest.raises(FolderInUseError, match=rf"cup is in use by process {child.pid} on .+ \(since \d{{4}}-"):
            FolderLock(folder).__enter__()
        noted = read_holder(folder)
        assert noted is not None
        assert noted.pid == child.pid
        child.kill()
    with FolderLock(folder):
        pass


def test_a_file_that_was_deleted_while_one_waited_for_it_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is refused deletes what it made, the lock too: two others would each have one of their own."""
    try_lock = lock_module._try_lock

    def delete_and_try(file: IO[str]) -> bool:
        monkeypatch.undo()
        (tmp_path / LOCK).unlink()
        return try_lock(file)

    monkeypatch.setattr(lock_module, "_try_lock", delete_and_try)
    with FolderLock(tmp_path):
        assert is_in_use(tmp_path)


def test_an_orderly_end_leaves_nobody(tmp_path: Path) -> None:
    assert read_holder(tmp_path) is None
    assert not is_in_use(tmp_path)
    with FolderLock(tmp_path):
        assert is_in_use(tmp_path)
        noted = read_holder(tmp_path)
        assert noted is not None
        assert noted.pid == os.getpid()
    assert not is_in_use(tmp_path)
    assert read_holder(tmp_path) is None


def test_to_look_whether_it_is_in_use_never_stops_a_run(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        pass
    looking = threading.Event()

    def look() -> None:
        while not looking.is_set():
            is_in_use(tmp_path)

    other = threading.Thread(target=look)
    other.start()
    try:
        for _ in range(20):
            with FolderLock(tmp_path):
                assert is_in_use(tmp_path)
    finally:
        looking.set()
        other.join()


def test_twice_in_one_process_is_once_too_often(tmp_path: Path) -> None:
    with FolderLock(tmp_path), pytest.raises(FolderInUseError), FolderLock(tmp_path):
        pass
    with FolderLock(tmp_path):
        pass


async def test_it_may_be_held_by_a_task(tmp_path: Path) -> None:
    async with FolderLock(tmp_path):
        with pytest.raises(FolderInUseError):
            async with FolderLock(tmp_path):
                pass


def note(folder: Path, **changes: object) -> None:
    facts = {"pid": 7, "host": "elsewhere", "machine": "another", "since": "2026-01-02 03:04:05"}
    (folder / LOCK).write_text(json.dumps({**facts, **changes}))


def test_another_machine_may_still_be_at_it(tmp_path: Path) -> None:
    note(tmp_path)
    with pytest.raises(FolderInUseError, match=re.escape(f"delete {tmp_path / LOCK}")) as caught, FolderLock(tmp_path):
        pass
    assert "process 7 on elsewhere (since 2026-01-02 03:04:05)" in str(caught.value)
    (tmp_path / LOCK).unlink()
    with FolderLock(tmp_path):
        pass


def test_another_container_on_this_machine_is_seen_by_the_lock_itself(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        mine = read_holder(tmp_path)
    assert mine is not None
    if not mine.machine:
        pytest.fail("this system has no boot id; the test needs one")
    note(tmp_path, machine=mine.machine)
    with FolderLock(tmp_path):
        taken = read_holder(tmp_path)
    assert taken is not None
    assert (taken.pid, taken.host) == (mine.pid, mine.host)


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"pid": "x"}', "\0\0\0"])
def test_a_torn_note_is_nobodys(tmp_path: Path, torn: str) -> None:
    (tmp_path / LOCK).write_text(torn)
    assert read_holder(tmp_path) is None
    with FolderLock(tmp_path):
        assert read_holder(tmp_path) is not None


def test_a_folder_that_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(RecordError), FolderLock(tmp_path):
        pass
    with pytest.raises(RecordError):
        is_in_use(tmp_path)


def mount_like_nfs(monkeypatch: pytest.MonkeyPatch, *, errors: Mapping[int, int] | None = None) -> None:
    """Have flock behave as on an NFS mount: an exclusive lock needs a file that is open for writing."""
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        kind = operation & ~fcntl.LOCK_NB
        writable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR)
        number = (errors or {}).get(kind) or (errno.EBADF if kind == fcntl.LOCK_EX and not writable else None)
        if number:
            raise OSError(number, os.strerror(number))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)


def test_lock_on_a_network_folder_is_held_and_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount_like_nfs(monkeypatch)
    with FolderLock(tmp_path):
        assert is_in_use(tmp_path)
        with pytest.raises(FolderInUseError):
            FolderLock(tmp_path).__enter__()
    assert not is_in_use(tmp_path)


def test_lock_held_by_another_client_of_a_network_folder_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount_like_nfs(monkeypatch, errors={fcntl.LOCK_EX: errno.EACCES, fcntl.LOCK_SH: errno.EACCES})
    with pytest.raises(FolderInUseError):
        FolderLock(tmp_path).__enter__()
    assert is_in_use(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_lock_that_the_file_system_lacks_is_an_error_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    mount_like_nfs(monkeypatch, errors={fcntl.LOCK_EX: number})
    with pytest.raises(RecordError, match="cannot be locked") as caught:
        FolderLock(tmp_path).__enter__()
    assert caught.value.hint


def test_macos_names_the_running_system_by_its_boot_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a run is resumed after a crash though the name of the host changed, as it does between networks."""
    asked: list[Sequence[str]] = []

    def answer(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="5F0C-UUID\n")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", answer)
    held = Holder(pid=1, host="another-name.local", machine="5F0C-UUID", since="")
    assert not held.is_on_another_machine()
    assert asked == [["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]]
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert held.is_on_another_machine(), "where it does not say, the host's name decides"


def test_a_full_disk_refuses_no_lock_so_that_a_run_can_be_deleted(tmp_path: Path) -> None:
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most[1]))  # every write fails as on a full disk
    try:
        with FolderLock(tmp_path):
            held, noted = is_in_use(tmp_path), read_holder(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert (held, noted, is_in_use(tmp_path)) == (True, None, False)
    assert (tmp_path / LOCK).read_bytes() == b""
