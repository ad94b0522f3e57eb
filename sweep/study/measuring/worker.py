"""A process that measures images: reads tasks from its standard input, writes values to its standard output.

A process of its own rather than `multiprocessing`, because that imports the caller's main module again: a notebook, or
a script without a main guard, would break. Ends when its input ends, so it never outlives its parent.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, BinaryIO

from sweep.study.measuring.task import References, Task, measure_task

if TYPE_CHECKING:
    from sweep.study.metrics.base import Metric


LENGTH = struct.Struct("!Q")
NICENESS = 10


def send(stream: BinaryIO, message: Any) -> None:
    """Make one pickled message, after its length."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read the next message; EOFError where the other side is gone. Nothing but our own processes writes here."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (length,) = LENGTH.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)  # noqa: S301


def serve_tasks(tasks: BinaryIO, answers: BinaryIO) -> None:
    """First message: the metrics. Then tasks, each answered, until the stream ends."""
    try:
        metrics: tuple[Metric, ...] = pickle.loads(receive(tasks))  # noqa: S301  from our parent
    except (AttributeError, ImportError, pickle.UnpicklingError) as error:
        send(answers, f"a metric cannot be imported by worker processes ({error}); define it in a module")
        return
    except EOFError:
        return
    send(answers, None)
    references: References = OrderedDict()
    while True:
        try:
            task: Task = receive(tasks)
        except EOFError:
            return
        send(answers, measure_task(task, metrics, references))


def run_worker() -> None:
    """Serve the parent on the pipes it gave. What a metric prints goes to standard error, not into the answers."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        serve_tasks(sys.stdin.buffer, answers)
    except BrokenPipeError:
        os._exit(0)  # the parent is gone, nobody to tell


if __name__ == "__main__":
    run_worker()
