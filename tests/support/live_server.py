"""A real server for tests, whatever family it is of: installed once in an environment of its own, started, killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.support.ports import free_port

HERE = Path(__file__).parent
START_SECONDS = 180.0
STOP_SECONDS = 20.0
LAST_LINES = 40  # of a log, in an error


class HarnessError(Exception):
    """The server could not be installed or started; the message ends with the last lines of the log."""


@dataclass(frozen=True, slots=True)
class ServerInstallation:
    """Where a server and its models lie, and how they come there."""

    home: Path

    NAME: ClassVar[str]  # in errors
    HOME: ClassVar[tuple[str, str]]  # the variable that names the folder, and its name below ~/.cache otherwise
    STEPS: ClassVar[Sequence[Sequence[str]]]  # what pip installs, one call after the other
    LAST: ClassVar[str]  # a package of the last step: where it is there, so are all

    @classmethod
    def default(cls) -> Self:
        variable, name = cls.HOME
        given = os.environ.get(variable)
        return cls(Path(given) if given else Path.home() / ".cache" / name)

    @property
    def python(self) -> Path:
        return self.home / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def ensure(self) -> None:
        """Install what is missing. One process at a time; others wait."""
        self.home.mkdir(parents=True, exist_ok=True)
        with _only_one(self.home / "installing.lock"):
            self.unpack()
            if not list((self.home / "venv").glob(f"**/site-packages/{self.LAST}")):
                self._make_venv()
            self.make_models()

    def unpack(self) -> None:
        """Fetch what pip does not install."""

    def make_models(self) -> None:
        """Write the models that are missing."""
        raise NotImplementedError

    def run(self, command: Sequence[str | Path], log: str) -> None:
        """Run a command of the installation. Raises HarnessError where it fails."""
        path = self.home / log
        with path.open("ab") as out:
            done = subprocess.run([str(part) for part in command], stdout=out, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise HarnessError(f"{command[1:4]} failed with {done.returncode}; {last_lines(path)}")

    def _make_venv(self) -> None:
        if not self.python.exists():
            self.run([self.suitable_python(), "-m", "venv", self.home / "venv"], "install.log")
        for step in self.STEPS:
            self.run([self.python, "-m", "pip", "install", "-q", *step], "install.log")

    @classmethod
    def suitable_python(cls) -> str:
        """The servers run on Python 3.11 and 3.12."""
        if (3, 11) <= sys.version_info[:2] <= (3, 12):
            return sys.executable
        found = shutil.which("python3.12") or shutil.which("python3.11")
        if found is None:
            raise HarnessError(f"{cls.NAME} needs Python 3.11 or 3.12; neither is on the PATH.")
        return found


def last_lines(log: Path) -> str:
    """How a log ends, to be read where the machine that has it is gone."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join([f"the end of {log}:", *lines])


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Only one process at a time comes past here; the lock goes with the process that holds it."""
    with lock.open("a") as held:
        if os.name == "posix":
            import fcntl

            fcntl.flock(held, fcntl.LOCK_EX)
        yield


@dataclass(slots=True)
class ServerProcess:
    """One server with a root folder of its own, which may be killed, frozen and started again on the same port."""

    installation: ServerInstallation
    root: Path
    port: int = field(default_factory=free_port)
    settings: Mapping[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    GREETING: ClassVar[str]  # the path that answers as soon as it is up

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    def command(self) -> list[str]:
        """The command that starts it; writes the files that it needs."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """What is set for it beside our own environment."""
        return {}

    def start(self) -> None:
        """Return when it answers. Raises HarnessError where it ends before, or does not answer for too long."""
        self.root.mkdir(parents=True, exist_ok=True)
        command = self.command()
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **self.environment()},
                start_new_session=True,
            )
        self.wait_until(self.answers, "answered")

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            self.ask("GET", self.GREETING)
        except OSError:
            return False
        return True

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One call, outside of any client of ours. Raises OSError (also for a status of 400 or more)."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def kill(self) -> None:
        """As a crash does: SIGKILL, no goodbye."""
        self._signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        if self.process is not None:
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Politely, then not. Safe to call twice."""
        if self.process is None:
            return
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def _signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait_until(self, ready: Callable[[], bool], word: str) -> None:
        """Wait until it is ready. Raises HarnessError where it ends before, or takes too long."""
        until = time.monotonic() + START_SECONDS
        while not ready():
            name = self.installation.NAME
            if self.process is None or self.process.poll() is not None:
                status = None if self.process is None else self.process.returncode
                raise HarnessError(f"{name} ended ({status}) before it {word}; {last_lines(self.log)}")
            if time.monotonic() > until:
                self.stop()
                raise HarnessError(f"{name} has not {word} within {START_SECONDS:.0f} s; {last_lines(self.log)}")
            time.sleep(0.25)
