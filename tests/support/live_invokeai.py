"""A real InvokeAI 6.14.2 on CPU with tiny models, on a machine that has never seen one.

Installed once (a virtual environment and five models, 3 GB, some minutes) under $SWEEP_LIVE or ~/.cache/sweep-live;
after that a server starts in about half a minute, with a root folder of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.support.ports import free_port

HERE = Path(__file__).parent
PACKAGE = "invokeai-6.14.2"
STEPS = (
    ("torch==2.13.0",),
    ("invokeai==6.14.2", "torch==2.13.0", "torchvision==0.28.0"),
    ("--no-deps", "open_clip_torch==3.3.0"),  # for its CLIP vocabulary alone
)
MODELS = {
    "tiny-sd": "tiny-sd",
    "tiny-sdxl": "tiny-sdxl",
    "tiny-controlnet": "tiny-controlnet",
    "tiny-lora": "tiny-lora.safetensors",
    "tiny-sdxl-lora": "tiny-sdxl-lora.safetensors",
}
SETTINGS = {"schema_version": "4.0.3", "host": "127.0.0.1", "device": "cpu", "precision": "float32"}
START_SECONDS = 180.0
STOP_SECONDS = 20.0
LAST_LINES = 40  # of a log, in an error


class HarnessError(Exception):
    """The server could not be installed or started; the message ends with the last lines of the log."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where InvokeAI and the models lie."""

    home: Path

    @classmethod
    def default(cls) -> Installation:
        given = os.environ.get("SWEEP_LIVE")
        return cls(Path(given) if given else Path.home() / ".cache" / "sweep-live")

    @property
    def python(self) -> Path:
        return self.home / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def package(self) -> Path | None:
        """The folder of the installed invokeai package; None where it is not installed."""
        found = sorted((self.home / "venv").glob(f"**/site-packages/{PACKAGE}.dist-info"))
        return found[0].with_name("invokeai") if found else None

    def ensure(self) -> None:
        """Install what is missing. One process at a time; others wait."""
        self.home.mkdir(parents=True, exist_ok=True)
        with alone(self.home / "installing.lock"):
            if self.package is None or not list((self.home / "venv").glob("**/site-packages/open_clip")):
                self._make_venv()
            if not all((self.home / "models" / source).exists() for source in MODELS.values()):
                run_command([self.python, HERE / "tiny_models.py", self.home / "models"], self.home / "models.log")

    def _make_venv(self) -> None:
        log = self.home / "install.log"
        if not self.python.exists():
            run_command([suitable_python(), "-m", "venv", self.home / "venv"], log)
        for step in STEPS:
            run_command([self.python, "-m", "pip", "install", "-q", *step], log)


def suitable_python() -> str:
    """InvokeAI 6.14.2 runs on Python 3.11 and 3.12."""
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return sys.executable
    found = shutil.which("python3.12") or shutil.which("python3.11")
    if found is None:
        raise HarnessError("InvokeAI 6.14.2 needs Python 3.11 or 3.12; neither is on the PATH.")
    return found


def run_command(command: list[str | Path], log: Path) -> None:
    with log.open("ab") as out:
        done = subprocess.run([str(part) for part in command], stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise HarnessError(f"{command[1:4]} failed with {done.returncode}; {last_lines(log)}")


def last_lines(log: Path) -> str:
    """How a log ends, to be read where the machine that has it is gone."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join([f"the end of {log}:", *lines])


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Only one process at a time comes past here; the lock goes with the process that holds it."""
    with lock.open("a") as held:
        if os.name == "posix":
            import fcntl

            fcntl.flock(held, fcntl.LOCK_EX)
        yield


@dataclass(slots=True)
class LiveServer:
    """One server with a root folder of its own, which may be killed, frozen and started again on the same port."""

    installation: Installation
    root: Path
    port: int = field(default_factory=free_port)
    settings: Mapping[str, Any] = field(default_factory=dict)  # into invokeai.yaml, over the usual ones
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    def start(self) -> None:
        """Return when it answers. Raises HarnessError where it ends before, or does not answer for too long."""
        self.root.mkdir(parents=True, exist_ok=True)
        lines = {**SETTINGS, "port": self.port, **self.settings}
        (self.root / "invokeai.yaml").write_text("".join(f"{name}: {json.dumps(v)}\n" for name, v in lines.items()))
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "INVOKEAI_ROOT": str(self.root)}
        command = [str(self.installation.python), str(HERE / "serve_invokeai.py"), "--root", str(self.root)]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
            )
        self.wait_until(self.answers, "answered")

    def install_models(self) -> None:
        """Make the tiny models known to it; they stay where they are."""
        for name, source in MODELS.items():
            query = urlencode({"source": str(self.installation.home / "models" / source), "inplace": "true"})
            self.ask("POST", f"/api/v2/models/install?{query}", {"name": name})
        self.wait_until(
            lambda: set(MODELS) <= {m["name"] for m in self.ask("GET", "/api/v2/models/")["models"]}, "installed"
        )

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            self.ask("GET", "/api/v1/app/version")
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
        self._reap()

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

    def _reap(self) -> None:
        if self.process is not None:
            self.process.wait()
            self.process = None

    def wait_until(self, ready: Callable[[], bool], word: str) -> None:
        until = time.monotonic() + START_SECONDS
        while not ready():
            if self.process is None or self.process.poll() is not None:
                status = None if self.process is None else self.process.returncode
                raise HarnessError(f"InvokeAI ended ({status}) before it {word}; {last_lines(self.log)}")
            if time.monotonic() > until:
                self.stop()
                raise HarnessError(f"InvokeAI has not {word} within {START_SECONDS:.0f} s; {last_lines(self.log)}")
            time.sleep(0.25)


@contextmanager
def serving(root: Path, settings: Mapping[str, Any] | None = None) -> Iterator[LiveServer]:
    """A server with the tiny models, installed and started for as long as the context lasts."""
    installation = Installation.default()
    installation.ensure()
    server = LiveServer(installation, root, settings=settings or {})
    try:
        server.start()
        server.install_models()
        yield server
    finally:
        server.stop()
