"""Clients and servers in processes of their own, to be killed, frozen and started again."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sweep.record import RecordedResults
from tests.support.ports import free_port

DEFINITION: Mapping[str, Any] = {
    "name": "small",
    "workflow": "img2img",
    "inputs": {"image": "photo.png", "prompt": "a cup", "steps": 2, "width": 64, "height": 64},
    "axes": {"denoise_strength": [0.2, 0.5, 0.8], "seed": {"count": 2}},
}


class Zygote:
    """A process that forks others (see `zygote.py`), started when it is first needed and again after it got stuck."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._alive: set[int] = set()

    def start(self, kind: str, *, first_word: bool = False, **order: Any) -> tuple[int, str]:
        """Start a process; its pid and, if asked for, its first word."""
        answer = self._ask({"do": "start", "kind": kind, "log": str(self._log), "first_word": first_word, **order})
        self._alive.add(answer["pid"])
        return answer["pid"], answer["word"]

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a process of ours that nobody has waited for yet."""
        if pid in self._alive:
            os.kill(pid, number)

    def wait(self, pid: int) -> tuple[int, str]:
        """Wait until a process ends: minus the signal, or the exit code; and its last words."""
        if pid not in self._alive:
            return -signal.SIGKILL, ""  # it was killed with a zygote that got stuck
        answer = self._ask({"do": "wait", "pid": pid})
        self._alive.discard(pid)
        return answer["code"], answer["said"]

    def is_running(self, pid: int) -> bool:
        """Tell whether a process is still at work (a dead child stays a zombie until it is waited for)."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return False
        return text.rpartition(")")[2].split()[0] not in "ZX"

    def close(self) -> None:
        """Kill the zygote and all that is left of its processes."""
        self._alive.clear()
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # it leads a group of its own
            self._process.communicate()
            self._process = None

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Give an order and wait for its answer. A test that runs out of time while it waits leaves no process."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.support.zygote"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except BaseException:
            self.close()
            raise
        return answer


@contextmanager
def open_zygote(folder: Path) -> Iterator[Zygote]:
    """Keep a zygote for as long as the block lasts."""
    process = Zygote(folder / "children.log")
    try:
        yield process
    finally:
        process.close()


@dataclass(slots=True)
class SandboxProcess:
    """A sandbox with a root, so that it can be killed and started again at the same address."""

    zygote: Zygote
    root: Path
    options: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    pid: int | None = None
    cut_short: Counter[str] = field(default_factory=Counter)  # keys it had in progress when it was killed

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> SandboxProcess:
        options = {"port": self.port, "root": str(self.root), **self.options}
        self.pid, word = self.zygote.start("sandbox", first_word=True, options=options)
        assert word == self.url, word
        return self

    def kill(self) -> None:
        assert self.pid is not None
        self.zygote.signal(self.pid, signal.SIGKILL)
        self.zygote.wait(self.pid)
        self.pid = None
        self.cut_short.update(self._in_progress())

    def send(self, number: int) -> None:
        assert self.pid is not None
        self.zygote.signal(self.pid, number)

    def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, method=method, data=data, headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def batches(self) -> dict[str, list[str]]:
        """Statuses of all items, by destination."""
        found: dict[str, list[str]] = {}
        for item in self.ask("/api/v1/queue/default/list_all"):
            found.setdefault(item["destination"] or "", []).append(item["status"])
        return found

    def until(self, ready: Callable[[SandboxProcess], bool]) -> None:
        """Wait until something is so at this server; the test's own limit ends it where it never is."""
        while not ready(self):
            time.sleep(0.02)

    def renders(self) -> dict[str, int]:
        """How often each key was rendered, over all its lives."""
        counts: dict[str, int] = self.ask("/sandbox/renders")
        return counts

    def _in_progress(self) -> list[str]:
        with closing(sqlite3.connect(self.root / "sandbox.sqlite")) as db:
            query = "SELECT body FROM records WHERE kind = 'item' AND json_extract(body, '$.status') = 'in_progress'"
            rows = db.execute(query)
            return [key for (body,) in rows for key in re.findall(r'"sweep_key": *"([0-9a-f]+)"', body)]


class Bench:
    """A folder with a photograph, an experiment over it, and processes that render it."""

    def __init__(self, folder: Path, zygote: Zygote, definition: Mapping[str, Any] = DEFINITION) -> None:
        self.folder = folder
        self.zygote = zygote
        self.definition = dict(definition)
        self._commands = 0
        folder.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(folder / "photo.png")

    def sandbox(self, name: str = "server", **options: Any) -> SandboxProcess:
        """A sandbox that answers."""
        return SandboxProcess(self.zygote, self.folder / name, options).start()

    def begin(self, *servers: SandboxProcess, **order: Any) -> int:
        """Start a client; its pid."""
        urls = [server.url for server in servers]
        order = {"root": str(self.folder), "definition": self.definition, "servers": urls, **order}
        return self.zygote.start("client", **order)[0]

    def run(self, *servers: SandboxProcess, **order: Any) -> tuple[int, str]:
        """Run a client to its end."""
        return self.zygote.wait(self.begin(*servers, **order))

    def write(self) -> Path:
        """The experiment's file."""
        file = self.folder / "experiment.yaml"
        file.write_text(json.dumps(self.definition), encoding="utf-8")  # JSON is YAML
        return file

    def command(self, *arguments: str, **environment: str) -> tuple[int, Path]:
        """Start `sweep …`; its pid, and the file that takes its output."""
        self._commands += 1
        output = self.folder / f"output-{self._commands}.txt"
        output.touch()
        order: dict[str, Any] = {
            "root": str(self.folder),
            "arguments": arguments,
            "output": str(output),
            "environment": environment,
        }
        return self.zygote.start("cli", **order)[0], output

    def sweep(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run `sweep …` to its end: exit code, and what it printed."""
        pid, output = self.command(*arguments, **environment)
        code, _ = self.zygote.wait(pid)
        return code, output.read_text(encoding="utf-8")

    @property
    def results(self) -> RecordedResults:
        return RecordedResults.open(self.folder / "results" / self.definition["name"])

    def statuses(self) -> Counter[str]:
        return Counter(str(row["status"]) for row in self.results.rows())

    def log(self) -> str:
        """What children wrote where a person would have seen a traceback."""
        file = self.folder.parent / "children.log"
        return file.read_text(encoding="utf-8") if file.exists() else ""
