"""A sandbox for tests that run a whole command, which has a loop of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

from anyio.from_thread import start_blocking_portal

_T = TypeVar("_T")


@contextmanager
def on_its_own_loop(context: AbstractAsyncContextManager[_T]) -> Iterator[_T]:
    """What `context` gives, held open on an event loop in another thread."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(context) as given:
        yield given
