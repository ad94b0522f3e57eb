"""Starts processes that measure, without importing what is heavy in them.

`start_follower` starts one that measures the images of a run while it renders. It has a process of its own, so that
reading the table takes no time from the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one core a worker


def start_follower(folder: Path) -> subprocess.Popen[bytes]:
    """Start to measure the images of a run as they finish. Kill the process when the run has ended.

    It writes a line whenever it has measured all that there is. It ends when its standard input ends, so it never
    outlives its parent.
    """
    return subprocess.Popen(  # noqa: S603  ourselves
        [sys.executable, "-P", "-m", "sweep.study.measuring.measure", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=make_worker_environment(),
        creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
    )


def make_worker_environment() -> dict[str, str]:
    """Return our environment with our import path (a notebook may have added to it) and one thread a worker."""
    path = os.pathsep.join(entry or str(os.getcwd()) for entry in sys.path)  # noqa: PTH109
    return {**os.environ, **dict.fromkeys(SINGLE_THREADED, "1"), "PYTHONPATH": path}
