"""The processes that measure: this module is a worker, which reads tasks from standard input and answers them.

Processes of our own rather than `multiprocessing`, because that imports the caller's main module again: a notebook, or
a script without a main guard, would break. They end when their input ends, so they never outlive their parent. What is
heavy is imported in them only: a run that starts a follower pays nothing.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from sweep.study.measuring.task import References, Task
    from sweep.study.metrics.base import Metric


NICENESS = 10
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one core a process


def start_process(module: str, *arguments: str, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """Start a module of ours with our environment and import path (a notebook may have added to it) and one thread."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return subprocess.Popen(  # noqa: S603  ourselves
        [sys.executable, "-P", "-m", f"sweep.study.measuring.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, **dict.fromkeys(SINGLE_THREADED, "1"), "PYTHONPATH": path},
        creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
    )


def start_follower(folder: Path) -> subprocess.Popen[bytes]:
    """Start to measure the images of a run as they finish. Kill the process when the run has ended.

    It writes a line whenever it has measured all that there is.
    """
    return start_process("measure", str(folder), stderr=subprocess.DEVNULL)


def step_back() -> None:
    """Take low priority, and let the parent decide when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def send(stream: BinaryIO, message: object) -> None:
    """Write a message; the other side reads it with `pickle.load`."""
    pickle.dump(message, stream)
    stream.flush()


def serve_tasks(tasks: BinaryIO, answers: BinaryIO) -> None:
    """Read the metrics, then answer one task after the other, until EOFError at the stream's end."""
    from sweep.study.measuring.task import measure_task

    try:
        metrics: tuple[Metric, ...] = pickle.loads(pickle.load(tasks))  # noqa: S301  from our parent
    except (AttributeError, ImportError, pickle.UnpicklingError) as error:
        send(answers, f"a metric cannot be imported by worker processes ({error}); define it in a module")
        return
    send(answers, None)
    references: References = OrderedDict()
    while True:
        task: Task = pickle.load(tasks)  # noqa: S301
        send(answers, measure_task(task, metrics, references))


def run_worker() -> None:
    """Serve the parent on the pipes it gave. What a metric prints goes to standard error, not into the answers."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        with suppress(EOFError, pickle.UnpicklingError):
            serve_tasks(sys.stdin.buffer, answers)
    except BrokenPipeError:
        os._exit(0)  # the parent is gone, nobody to tell


if __name__ == "__main__":
    step_back()
    run_worker()
