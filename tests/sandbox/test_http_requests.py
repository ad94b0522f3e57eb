"""Who may speak to a sandbox: programs of this machine, not pages of other sites."""

from __future__ import annotations

import aiohttp
import pytest

from sweep.sandbox import sandbox_server


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1234"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:9091"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_sandbox_refuses_requests_of_web_pages(headers: dict[str, str], status: int) -> None:
    async with sandbox_server() as sandbox, aiohttp.ClientSession() as session:
        for path in ("/api/v1/app/version", "/sandbox/faults", "/ws/socket.io/?EIO=4&transport=polling"):
            async with session.get(f"{sandbox.url}{path}", headers=headers) as answer:
                assert (answer.status == 403) == (status == 403), path


async def test_sandbox_answers_a_page_of_its_own() -> None:
    async with (
        sandbox_server() as sandbox,
        aiohttp.ClientSession(headers={"Origin": sandbox.url}) as session,
        session.get(f"{sandbox.url}/api/v1/app/version") as answer,
    ):
        assert answer.status == 200
