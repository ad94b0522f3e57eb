"""What the clients' tests share: a fake server, and clients that do not wait long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sweep.servers.http import ConnectOptions, Timings
from sweep.servers.invokeai.invokeai_client import InvokeAI
from tests.servers.fake import Fake, fake_server

QUICK = Timings(connect=10, read=20, retry=0, poll_listening=30, poll_deaf=0.02, reconnect=0.02, patience=0.2, gone=0.2)


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    """A server that says what the test tells it to."""
    async with fake_server() as found:
        yield found


@pytest.fixture
async def client(fake: Fake) -> AsyncIterator[InvokeAI]:
    """A client of the fake, open."""
    server = InvokeAI(fake.url, ConnectOptions(timings=QUICK))
    await server.open()
    yield server
    await server.aclose()
