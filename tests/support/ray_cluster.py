"""A real Ray cluster on this machine, in a folder of its own, to be killed and started anew."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import sweep
from sweep.servers import join_cluster
from tests.support.ports import free_port

TOKEN = "c0ffee" * 8
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": str(Path(sweep.__file__).parents[1]),
}
START_SECONDS = 90
GAVE_UP = "The current node timed out during startup."
ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass(slots=True)
class RayCluster:
    """One head, and nodes beside it on the same machine."""

    folder: Path  # short: Ray puts sockets below it
    port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the head; return when it can be joined. Tries again where Ray gave up: it waits for 30 s of its own."""
        for tries_left in (2, 1, 0):
            done = self._run("--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.folder}")
            if done.returncode == 0:
                return
            said = done.stdout + done.stderr
            assert tries_left, said
            assert GAVE_UP in said, said
            self.kill()

    def add_node(self) -> None:
        """Start another node."""
        done = self._run(f"--address={self.address}")
        assert done.returncode == 0, done.stdout + done.stderr

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("ray")), "start", *arguments]
        command += ["--num-cpus=2", "--object-store-memory=100000000", "--disable-usage-stats"]
        first = free_port()
        while first <= self.port <= first + 200:
            first = free_port()
        command += [f"--min-worker-port={first}", f"--max-worker-port={first + 200}"]
        environment = {**os.environ, **ENVIRONMENT, **self.environment}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=START_SECONDS, check=False
        )

    def kill(self) -> None:
        """End every process of the cluster with SIGKILL, workers too."""
        while pids := self.processes():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def processes(self, text: str = "") -> list[int]:
        """Find the processes of the cluster, those with `text` in their title or command where it is given."""
        words: dict[int, str] = {}
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                with suppress(OSError):
                    state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                    if state not in "ZX":
                        words[int(entry.name)] = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
                        parents[int(entry.name)] = int(parent)
        ours = {pid for pid, line in words.items() if str(self.folder) in line}
        while more := {pid for pid, parent in parents.items() if parent in ours and pid not in ours}:
            ours |= more
        return sorted(pid for pid in ours if text in words[pid])


@contextmanager
def open_cluster(*, join: bool = True, **environment: str) -> Iterator[RayCluster]:
    """Start a cluster for as long as the block lasts, and join it from this process if asked to."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets have short paths
    cluster = RayCluster(folder, environment=environment)
    with pytest.MonkeyPatch.context() as patch:
        if join:
            for name, value in ENVIRONMENT.items():
                patch.setenv(name, value)
        try:
            cluster.start()
            if join:
                join_cluster(cluster.address)
            yield cluster
        finally:
            if join:
                importlib.import_module("ray").shutdown()
            cluster.kill()
            shutil.rmtree(folder, ignore_errors=True)


def needs_ray(test: Callable[..., object]) -> Callable[..., object]:
    """Mark a test that starts a cluster; Ray's own warnings are none of ours."""
    for mark in (pytest.mark.ray, pytest.mark.timeout(180), pytest.mark.filterwarnings("ignore")):
        test = mark(test)
    return test


def can_separate_processes() -> bool:
    """Tell whether processes can be started that see no others of this machine."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
