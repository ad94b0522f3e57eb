"""`ray stop` during a run with --with: prints which processes outlive it.

Run it where it sees no process of others (`unshare --pid`), because `ray stop` ends every cluster that it sees, below
a shell that takes in orphans, because it waits until they are gone.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.support.ray_cluster import RayCluster


def list_processes(*known: int) -> dict[int, str]:
    """List the processes that still run, but for these, this one and the first, by their commands."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) not in (1, os.getpid(), *known):
            with suppress(OSError):
                if (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX":
                    found[int(entry.name)] = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
    return found


def main(file: Path) -> None:
    """Start a cluster and a run, stop the cluster, and wait for the end of everything but the run."""
    cluster = RayCluster(Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp")))
    cluster.start()
    command = shlex.join([sys.executable, "-m", "sweep", "sandbox", "--port", "{port}"])
    options = ["--on", f"ray:{cluster.address}", "--no-report", "--progress", "json", "--with", command]
    run = subprocess.Popen(
        [sys.executable, "-m", "sweep", "run", str(file), *options], cwd=file.parent, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    while "Completed" not in (line := run.stdout.readline()):
        assert line, "the run ended early"
    assert any("sweep sandbox" in line for line in list_processes().values())
    subprocess.run([Path(sys.executable).with_name("ray"), "stop"], check=True)
    until = time.monotonic() + 30
    while (left := list_processes(run.pid)) and time.monotonic() < until:
        time.sleep(0.1)
    assert run.poll() is None, "the run did not wait for its cluster"
    run.send_signal(signal.SIGINT)
    run.communicate()
    assert run.returncode == 130, f"the run ended with {run.returncode}"
    print("\n".join(left.values()) or "nothing is left")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
