"""Who may speak to a sandbox: programs of this machine, not pages of other sites; with users, those who log in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
import socketio

from sweep.sandbox.api_routes import sandbox_server
from sweep.sandbox.http_requests import Accounts
from sweep.sandbox.running_sandbox import Sandbox
from sweep.sandbox.sandbox_options import SandboxOptions

EMAIL, PASSWORD = "me@example.org", "a secret"
USERS = {EMAIL: PASSWORD}
API = "/api/v1"


@asynccontextmanager
async def guarded() -> AsyncIterator[tuple[Sandbox, aiohttp.ClientSession]]:
    """A sandbox that wants a login, and somebody who has none yet."""
    async with sandbox_server(SandboxOptions(users=USERS)) as sandbox, aiohttp.ClientSession(sandbox.url) as session:
        yield sandbox, session


async def connects(sandbox: Sandbox, auth: dict[str, str] | None) -> bool:
    """Whether a socket with this auth is let in."""
    client = socketio.AsyncClient(reconnection=False)
    try:
        await client.connect(sandbox.url, auth=auth, socketio_path="/ws/socket.io", transports=["websocket"])
    except socketio.exceptions.ConnectionError:
        return False
    finally:
        await client.disconnect()
    return True


def test_accounts_tokens_expire() -> None:
    accounts = Accounts(USERS)
    token = accounts.log_in(EMAIL, PASSWORD)
    assert token is not None
    fresh = accounts.renew(token)
    for valid in (token, fresh):
        assert accounts.explain_refusal({"Authorization": f"Bearer {valid}"}) is None
        assert accounts.explain_refusal({}, {"token": valid}) is None
    accounts.expire()
    assert accounts.explain_refusal({"Authorization": f"Bearer {token}"}) == "Invalid or expired token"
    assert accounts.renew(token) is None


@pytest.mark.parametrize(("path", "status"), [("app/version", 200), ("auth/status", 200), ("queue/q/status", 401)])
async def test_accounts_refuse_requests_without_a_token(path: str, status: int) -> None:
    async with guarded() as (_, session), session.get(f"{API}/{path}") as answer:
        assert answer.status == status


async def test_accounts_refuse_a_wrong_password() -> None:
    async with guarded() as (_, session):
        wrong = {"email": EMAIL, "password": "guessed"}
        async with session.post(f"{API}/auth/login", json=wrong) as answer:
            assert (answer.status, await answer.json()) == (401, {"detail": "Incorrect email or password"})


async def test_accounts_renew_tokens_on_changes() -> None:
    async with guarded() as (sandbox, session):
        async with session.post(f"{API}/auth/login", json={"email": EMAIL, "password": PASSWORD}) as answer:
            old = (await answer.json())["token"]
        headers = {"Authorization": f"Bearer {old}"}
        async with session.get(f"{API}/queue/default/status", headers=headers) as answer:
            assert (answer.status, "X-Refreshed-Token" in answer.headers) == (200, False)
        async with session.post(f"{API}/boards/?board_name=x", headers=headers) as answer:
            fresh = answer.headers["X-Refreshed-Token"]
        assert fresh != old
        assert sandbox.accounts.explain_refusal({"Authorization": f"Bearer {fresh}"}) is None


async def test_accounts_hold_for_sockets() -> None:
    async with guarded() as (sandbox, _):
        token = sandbox.accounts.log_in(EMAIL, PASSWORD)
        assert token is not None
        assert await connects(sandbox, {"token": token})
        assert not await connects(sandbox, {"token": "made up"})
        assert not await connects(sandbox, None)


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
