"""The lock of a results folder, which has one writer, and a note of who holds it.

The operating system drops the lock with its process. Lock and note are one file, so that `status` can say who writes
without taking anything, and so that a sweep of another version sees the lock. `filelock` was tried and not taken: it
opens a file of its own, so the note would lie beside it; where a file system has no locks it falls back to a file that
stays after a kill; and what it would replace is twenty lines. On network folders flock is a lock of bytes: an exclusive
one needs a file opened for writing, so who only looks asks for a shared one; a file system without locks is an error,
never a folder with two writers.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sweep.errors import FolderInUseError, RecordError
from sweep.record.durable_files import translate_disk_errors
from sweep.text import quote_argument

LOCK = "lock.json"
_LOOKS, _LOOK_SECONDS = 15, 0.01
_LOCKED_BYTE = 2**30  # Windows forbids others to read what is locked, so the lock lies behind the text


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The process that writes to a folder. `machine` names the running system (changes with each boot), empty where
    unknown.
    """

    pid: int
    host: str
    machine: str
    since: str  # local time, to be read by a person

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"

    def is_on_another_machine(self) -> bool:
        """Tell whether it is, or was, a process of another machine: from here it cannot be seen whether it lives."""
        machine = _identify_machine()
        return self.host != socket.gethostname() and not (machine and self.machine == machine)


class FolderLock:
    """The lock of a folder: `with FolderLock(folder):` or `async with`; raises FolderInUseError where another process
    writes there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        for looks_left in reversed(range(_LOOKS)):  # somebody may only be looking, which holds the lock for a moment
            file = self._open()
            try:
                is_free = _try_lock(file)
                # a file system that gives a file another number each time is no reason to look for ever
                if (is_free and self._is_in_place(file)) or not looks_left:
                    self._take(file, is_free)
                    self._file = file
                    break
            finally:
                if self._file is None:
                    file.close()
            time.sleep(_LOOK_SECONDS)
        return self

    def _open(self) -> IO[str]:
        with translate_disk_errors(self._folder / LOCK):
            self._folder.mkdir(parents=True, exist_ok=True)
            return (self._folder / LOCK).open("a+", encoding="utf-8")

    def _is_in_place(self, file: IO[str]) -> bool:
        """Tell whether others would open the same file: who held it before may have deleted it, or moved the folder."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), (self._folder / LOCK).stat())
        except OSError:
            return False

    def _take(self, file: IO[str], is_free: bool) -> None:
        me = Holder(
            pid=os.getpid(),
            host=socket.gethostname(),
            machine=_identify_machine(),
            since=datetime.now(UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        )
        former = _read(file)
        if not is_free:
            hint = f"Wait until it ends; sweep stop {quote_argument(self._folder)} stops a run."
            raise FolderInUseError(f"{self._folder} is in use by {former or 'another process'}.", hint=hint)
        if former is not None and former.is_on_another_machine():
            raise FolderInUseError(
                f"{self._folder} is in use by {former}, or was when that machine was last heard of.",
                hint=f"It cannot be seen from here: if that process is gone, delete {self._folder / LOCK}.",
            )
        with contextlib.suppress(OSError):  # on a full disk the lock holds without its note: `sweep rm` frees space
            _write(file, json.dumps(asdict(me)))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError), file:  # the lock goes with the file all the same
                _write(file, "")

    async def __aenter__(self) -> Self:
        from anyio.to_thread import run_sync

        return await run_sync(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        import anyio
        from anyio.to_thread import run_sync

        with anyio.CancelScope(shield=True):
            await run_sync(self.__exit__, kind, value, trace)


def read_holder(folder: Path) -> Holder | None:
    """Return who writes to `folder` now, by the note alone; None where nobody does. For `status` and `stop`.

    A process that was killed stands there until the next run: ask the system whether it lives.
    """
    try:
        with (folder / LOCK).open(encoding="utf-8") as file:
            return _read(file)
    except OSError:
        return None


def is_in_use(folder: Path) -> bool:
    """Tell whether a process holds the lock of `folder`; takes nothing and leaves nothing behind."""
    try:
        with (folder / LOCK).open(encoding="utf-8") as file:
            return not _try_lock(file, shared=True)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RecordError(f"{folder / LOCK} could not be read ({error.strerror}).") from error


def _read(file: IO[str]) -> Holder | None:
    """Read the note; None where it is empty, or torn by a crash while it was written."""
    file.seek(0)
    try:
        noted = json.loads(file.read(4096))
        texts = {name: str(noted[name]) for name in ("host", "machine", "since")}
        return Holder(pid=int(noted["pid"]), **texts)
    except (ValueError, KeyError, TypeError):
        return None


def _write(file: IO[str], text: str) -> None:
    """Replace the note in one step past all buffers: what a full disk refuses must not come up again at closing."""
    descriptor = file.fileno()
    os.ftruncate(descriptor, 0)
    os.write(descriptor, text.encode())


def _identify_machine() -> str:
    """Return the running system's own id, the same in all its containers; empty where it has none."""
    boot_session = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]  # macOS: one for each boot
    try:
        if sys.platform == "darwin":
            return subprocess.run(boot_session, capture_output=True, text=True, timeout=5, check=True).stdout.strip()  # noqa: S603
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, subprocess.SubprocessError):
        return ""


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[str], *, shared: bool = False) -> bool:  # noqa: ARG001  there are no shared ones
        file.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[str], *, shared: bool = False) -> bool:
        try:
            fcntl.flock(file.fileno(), (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # the latter on some network folders
            return False
        except OSError as error:
            raise RecordError(
                f"{file.name} cannot be locked ({error.strerror}).",
                hint="Results need a file system that has locks: point --results at another one.",
            ) from error
        return True
