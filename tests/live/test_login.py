"""A real server with users: who logs in may render and hear events, who does not is told what to set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from sweep.errors import ServerRefusedError
from sweep.servers import ConnectOptions, ItemEnded, connect
from sweep.servers.credentials import Credentials
from sweep.testing.servers import RenderScene, submission
from sweep.workflow import Graph, Node
from tests.support.live_invokeai import Installation, LiveServer
from tests.support.scenes import PATIENT

PASSWORD = "Correct-Horse-7"
BLANK = RenderScene(graph=Graph.of([Node("b", "blank_image", {"width": 64, "height": 64})]), outputs=("b",))


@pytest.fixture(scope="module")
def multiuser(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that wants a login, with one administrator."""
    server = LiveServer(installation, tmp_path_factory.mktemp("multiuser"), settings={"multiuser": True})
    server.start()
    try:
        admin = {"email": "me@example.org", "display_name": "Me", "password": PASSWORD}
        server.ask("POST", "/api/v1/auth/setup", admin)
        yield server
    finally:
        server.stop()


async def test_email_and_password_open_a_server_with_users(multiuser: LiveServer, tmp_path: Path) -> None:
    me = Credentials(email="me@example.org", password=PASSWORD)
    server = connect(multiuser.url, ConnectOptions(credentials=me, timings=PATIENT))
    info = await server.open()
    ticket = await server.submit(submission(BLANK))
    async with aclosing(server.hear(ticket)) as events:  # type: ignore[type-var]
        told = [event async for event in events]
    end = told[-1]
    assert isinstance(end, ItemEnded)
    data = await server.fetch(end.images[0], 10_000_000)
    await server.aclose()

    assert info.api == "queue"
    assert end.status == "completed"
    assert data.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "credentials",
    [
        None,
        Credentials(token="no.such.token"),
        Credentials(email="me@example.org", password="wrong"),
        Credentials(email="nobody", password="wrong"),
    ],
)
async def test_who_is_not_known_is_refused_in_a_sentence(
    multiuser: LiveServer, credentials: Credentials | None
) -> None:
    server = connect(multiuser.url, ConnectOptions(credentials=credentials, timings=PATIENT))

    with pytest.raises(ServerRefusedError, match=multiuser.url):
        await server.open()
