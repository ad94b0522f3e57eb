"""A process that measures the images of a run while it renders: `python -m sweep.study.measuring.follower FOLDER`.

It has a process of its own, so that reading the table takes no time from the run, and low priority. It ends when its
standard input ends, so it never outlives its parent; what it measured until then is kept. What is heavy is imported in
this process only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one core a worker
PAUSE = 3.0  # seconds between two looks at the journal; longer where a look takes long


def start_follower(folder: Path) -> subprocess.Popen[bytes]:
    """Start to measure the images of a run as they finish. Kill the process when the run has ended.

    It writes a line whenever it has measured all that there is.
    """
    return subprocess.Popen(  # noqa: S603  ourselves
        [sys.executable, "-P", "-m", "sweep.study.measuring.follower", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=make_worker_environment(),
        creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
    )


def measure_finished(folder: Path) -> None:
    """Measure the images that a folder has now.

    Metrics of several images together (diversity of seeds) are left for the end, when all of them are there. What
    cannot be measured is reported at the end of the run, too.
    """
    from sweep.errors import SweepError
    from sweep.record import RecordedResults
    from sweep.study.measuring.measure import measure_now
    from sweep.study.metrics.registry import resolve_metrics

    with suppress(SweepError):
        facts = RecordedResults.open(folder).facts
        single = [metric for metric in resolve_metrics(facts.metrics) if metric.reference != "cell"]
        measure_now(folder, metrics=single, workers=0)


def follow(folder: Path) -> None:
    """Measure what is finished, again and again."""
    while True:
        began = time.monotonic()
        measure_finished(folder)
        print(flush=True)
        time.sleep(max(PAUSE, time.monotonic() - began))


def make_worker_environment() -> dict[str, str]:
    """Ours, with our import path (a notebook may have added to it) and one thread a worker."""
    path = os.pathsep.join(entry or str(os.getcwd()) for entry in sys.path)  # noqa: PTH109
    return {**os.environ, **dict.fromkeys(SINGLE_THREADED, "1"), "PYTHONPATH": path}


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    if hasattr(os, "nice"):
        os.nice(10)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    follow(Path(sys.argv[1]))
