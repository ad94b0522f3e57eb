"""Run a server as long as standard input is open, and end it with all its processes after that.

An agent holds the other end. However it ends, also when it is killed, the pipe closes and no server is left behind.
Ray kills the children and the process group of a process that it ends: so a child of the first process supervises, in
a session of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

_GRACE_SECONDS = 8.0


def supervise(command: list[str]) -> int:
    """Run the command until it ends or standard input closes; return its exit code."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
    code = server.wait()
    _send_signal(server, signal.SIGTERM)  # children that outlived it
    return code


def _end_with_stdin(server: subprocess.Popen[bytes]) -> None:
    sys.stdin.buffer.read()
    _send_signal(server, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(_GRACE_SECONDS)
    _send_signal(server, signal.SIGKILL)


def _send_signal(server: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(server.pid, number)
        else:
            server.terminate()


def supervise_apart() -> int:
    """Supervise in a child of this process; return the exit code of the server."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the agent decides when to end; the server inherits no handler
        signal.signal(number, lambda *_: None)
    if hasattr(os, "fork") and (child := os.fork()):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if hasattr(os, "setsid"):
        os.setsid()
    return supervise(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(supervise_apart())
