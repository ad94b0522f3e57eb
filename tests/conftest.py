"""What every test gets: a loop that may not block, quick property tests, and a mended aioresponses."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from unittest.mock import Mock

import aiohttp
import aioresponses.core
import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

settings.register_profile("sweep", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sweep")


@pytest.fixture(autouse=True)
def loop_may_not_block() -> Iterator[BlockBuster]:
    """Fails a test in which code of ours blocks the event loop (file, socket, sqlite or sleep calls on it)."""
    with blockbuster_ctx("sweep") as guard:
        yield guard


class _ResponseOfToday(aiohttp.ClientResponse):
    """aioresponses 0.7.9 builds responses without `stream_writer`, which aiohttp 3.14 requires."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]


@pytest.fixture(autouse=True, scope="session")
def aioresponses_knows_aiohttp() -> Iterator[None]:
    """Only where aiohttp asks for the argument that aioresponses does not pass."""
    if "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aioresponses.core, "ClientResponse", _ResponseOfToday)
            yield
    else:
        yield
