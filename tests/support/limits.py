"""Limits that hold for the suite itself: signals that children heed, fixtures that end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

IS_POSIX = os.name == "posix"


@contextmanager
def default_signals() -> Iterator[None]:
    """Start children with the usual response to SIGINT and SIGHUP, also where this process ignores them.

    A shell without job control starts background jobs with SIGINT ignored, nohup with SIGHUP, and children inherit
    that. A signal with a handler, even one that does nothing, is reset to its default in a child.
    """
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: _ignore} if IS_POSIX else {}
    ignored = [number for number in handlers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, handlers[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing about a signal."""


@contextmanager
def limit_time(seconds: float) -> Iterator[None]:
    """Fail what is going on after `seconds`, and again after as much, in place of the limit that held before."""
    if not IS_POSIX:
        yield
        return

    def fail(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"A fixture did not end within {seconds} s.")

    handler, timer = signal.signal(signal.SIGALRM, fail), signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
