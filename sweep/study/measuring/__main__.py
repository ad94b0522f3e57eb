"""A process of low priority that measures: a worker or, given a folder, the follower of a run. Its parent ends it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

NICENESS = 10

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # before imports that take long: Ctrl-C in a terminal reaches us, too
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    if sys.argv[1:]:
        from sweep.study.measuring.measurements import follow

        follow(Path(sys.argv[1]))
    else:
        from sweep.study.measuring.workers import run_worker

        run_worker()
