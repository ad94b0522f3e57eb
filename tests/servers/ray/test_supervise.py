"""A supervised server ends with the pipe of its agent, also where Ray has killed the agent's children before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

SERVER = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("serving", flush=True)
signal.pause()
"""


def start() -> subprocess.Popen[bytes]:
    """Start a supervised server that has come up."""
    command = [sys.executable, "-m", "sweep.servers.ray.supervise", sys.executable, "-c", SERVER]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"serving\n"
    return process


def test_supervised_server_ends_with_its_pipe() -> None:
    for killed in (False, True):
        process = start()
        if killed:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert process.communicate()[0] == b""  # closes its input, and waits until nobody holds its output
        assert process.returncode == (-9 if killed else 3)
