"""Tokens and logins: sent to this server alone, renewed, and written nowhere."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from PIL import Image

from sweep.errors import ServerError, ServerRefusedError, ServerUnreachableError, TransientError, UsageError
from sweep.sandbox import SandboxOptions, sandbox_server
from sweep.servers.base import ServerImage
from sweep.servers.credentials import Credentials, ServerAddress
from sweep.servers.discovery import connect
from sweep.servers.http import ConnectOptions, Http
from sweep.servers.invokeai.invokeai_client import InvokeAI
from sweep.servers.invokeai.socketio import open_socket
from sweep.workflow import Graph, ImageRef, Node
from tests.servers.building import Q, submission, takes_items
from tests.servers.conftest import QUICK
from tests.servers.fake import Fake, fake_server, replies, status
from tests.support.tls_proxy import TLS

CANARY = "c4n4ry-t0k3n"
LOGIN = ("POST", "/api/v1/auth/login")
ME = Credentials(email="me@example.org", password=CANARY)


def _multiuser(fake: Fake) -> None:
    fake.on("GET", "/api/v1/auth/status", {"setup_required": False, "multiuser_enabled": True})
    fake.on(*LOGIN, {"token": "first", "user": {}, "expires_in": 86400})


def _bearer(fake: Fake, path: str) -> list[str | None]:
    return [call.headers.get("Authorization") for call in fake.calls("GET", path)]


async def test_a_token_goes_with_every_call_and_the_socket(fake: Fake) -> None:
    _multiuser(fake)
    server = InvokeAI(fake.url, ConnectOptions(credentials=Credentials(token=CANARY), timings=QUICK))
    await server.open()
    await fake.connected.wait()
    await server.aclose()

    assert set(_bearer(fake, f"{Q}/status")) == {f"Bearer {CANARY}"}
    assert fake.auths == [{"token": CANARY}]
    assert fake.calls(*LOGIN) == []


async def test_email_and_password_become_a_token(fake: Fake) -> None:
    _multiuser(fake)
    server = InvokeAI(fake.url, ConnectOptions(credentials=ME, timings=QUICK))
    await server.open()
    await fake.connected.wait()
    await server.aclose()

    (asked,) = fake.calls(*LOGIN)
    assert asked.body == {"email": "me@example.org", "password": CANARY, "remember_me": True}
    assert _bearer(fake, f"{Q}/status") == [None, "Bearer first"]
    assert fake.auths == [{"token": "first"}]


async def test_connect_logs_in_too(fake: Fake) -> None:
    _multiuser(fake)
    refuse_first = replies(status(401, {"detail": "Authentication required"}), {"queue": {}})
    fake.on("GET", f"{Q}/status", refuse_first)
    server = connect(fake.url, ConnectOptions(credentials=ME, timings=QUICK))

    assert (await server.open()).api == "queue"
    await server.aclose()


async def test_no_login_is_made_where_none_is_wanted(fake: Fake, client: InvokeAI) -> None:
    assert fake.calls(*LOGIN) == []
    assert _bearer(fake, f"{Q}/status") == [None, None]


async def test_without_credentials_one_sentence_says_what_to_set(fake: Fake) -> None:
    _multiuser(fake)

    with pytest.raises(ServerRefusedError, match=r"wants a login\. Set SWEEP_TOKEN, or SWEEP_EMAIL and SWEEP_PASSWORD"):
        await InvokeAI(fake.url, ConnectOptions(timings=QUICK)).open()


@pytest.mark.parametrize("code", [401, 422])
async def test_a_wrong_password_is_refused_and_not_repeated(fake: Fake, code: int) -> None:
    _multiuser(fake)
    fake.on(*LOGIN, status(code, {"detail": [{"msg": "bad", "input": CANARY}]}))

    with pytest.raises(ServerRefusedError) as caught:
        await InvokeAI(fake.url, ConnectOptions(credentials=ME, timings=QUICK)).open()

    assert CANARY not in f"{caught.value}{caught.value!r}"
    assert "does not take this e-mail and password" in caught.value.message
    assert "Check SWEEP_TOKEN" in str(caught.value.hint)


async def test_a_token_that_is_refused_is_no_missing_login(fake: Fake) -> None:
    fake.on("GET", f"{Q}/status", status(401, {"detail": "Invalid or expired token"}))

    with pytest.raises(ServerRefusedError, match="refuses the login it was given"):
        await connect(fake.url, ConnectOptions(credentials=Credentials(token=CANARY), timings=QUICK)).open()


async def _ask_twice(fake: Fake, fresh: str) -> list[str | None]:
    """Ask a server that gives a fresh token with its answers; return the tokens that it got."""
    _multiuser(fake)
    fake.on("GET", f"{Q}/status", status(200, {"queue": {}}, X_Refreshed_Token=fresh))
    server = InvokeAI(fake.url, ConnectOptions(credentials=Credentials(token="first"), timings=QUICK))
    await server.open()
    await server.count_others_waiting("run")
    await server.aclose()
    return _bearer(fake, f"{Q}/status")


async def test_a_fresh_token_in_an_answer_is_used_from_then_on(fake: Fake) -> None:
    assert await _ask_twice(fake, "second") == ["Bearer first", "Bearer second", "Bearer second"]


async def test_a_token_that_no_header_can_carry_is_not_taken(fake: Fake) -> None:
    assert await _ask_twice(fake, "\u00e9\t") == ["Bearer first"] * 3

    fake.on(*LOGIN, {"token": "two\nlines"})
    with pytest.raises(ServerRefusedError, match="no token"):
        await InvokeAI(fake.url, ConnectOptions(credentials=ME, timings=QUICK)).open()


async def test_a_token_that_ran_out_is_renewed_once_for_all_who_ask(fake: Fake) -> None:
    _multiuser(fake)
    server = InvokeAI(fake.url, ConnectOptions(credentials=ME, timings=QUICK))
    await server.open()
    fake.on(*LOGIN, {"token": "second"})
    takes_items(fake)
    take = fake.answers["POST", f"{Q}/enqueue_batch"]

    def only_second(request: Any, data: bytes) -> Any:
        fresh = request.headers.get("Authorization") == "Bearer second"
        return take(request, data) if fresh else status(401, {"detail": "Invalid or expired token"})(request, data)

    fake.on("POST", f"{Q}/enqueue_batch", only_second)
    tickets = await asyncio.gather(*(server.submit(submission(batch_id=f"b{n}")) for n in range(4)))
    await server.aclose()

    assert len({ticket.item_id for ticket in tickets}) == 4
    assert len(fake.calls(*LOGIN)) == 2


async def test_a_server_behind_a_proxy_with_basic_authentication_gets_name_and_password(fake: Fake) -> None:
    def guard(answer: Any) -> Any:
        asks = status(401, None, WWW_Authenticate='Basic realm="proxy"')
        is_basic = re.compile("Basic ").match
        return lambda request, data: (
            answer if is_basic(request.headers.get("Authorization", "")) else asks(request, data)
        )

    for place, answer in list(fake.answers.items()):
        fake.on(*place, guard(answer))
    for token in (None, "of-another-server"):  # which the environment gives to all
        credentials = Credentials(token=token, email="me", password="secret")
        server = connect(fake.url, ConnectOptions(credentials=credentials, timings=QUICK))
        info = await server.open()
        await server.aclose()

        assert info.version == "6.14.2"
        assert _bearer(fake, "/api/v1/app/version")[-1] == "Basic bWU6c2VjcmV0"
        assert fake.calls(*LOGIN) == []
    fake.on("GET", "/system_stats", guard({"system": {"comfyui_version": "0.3.9"}}))
    comfyui = connect(fake.url, ConnectOptions(credentials=credentials, timings=QUICK))
    assert (await comfyui.open()).version == "0.3.9", "with the token of another server, too"
    await comfyui.aclose()


async def test_name_and_password_that_a_proxy_refuses_without_a_challenge_are_no_missing_login(fake: Fake) -> None:
    http = Http(ServerAddress.parse(fake.url), ConnectOptions(credentials=ME, timings=QUICK), has_login=False)
    await http.open()
    fake.on("GET", "/queue", status(401, None))
    with pytest.raises(ServerRefusedError, match="refuses the login it was given"):
        await http.get("/queue", "asking")
    await http.aclose()


async def test_a_token_that_ran_out_stops_neither_uploads_nor_downloads(tmp_path: Path) -> None:
    image = tmp_path / "in.png"
    await asyncio.to_thread(Image.new("RGB", (8, 8)).save, image)
    sha256 = hashlib.sha256(await asyncio.to_thread(image.read_bytes)).hexdigest()
    graph = Graph.of([Node("i", "image", {"image": ImageRef(sha256)})])
    async with sandbox_server(SandboxOptions(users={"me@example.org": CANARY})) as sandbox:
        server = InvokeAI(sandbox.url, ConnectOptions(credentials=ME, timings=QUICK))
        await server.open()
        sandbox.accounts.expire()
        assert await server.check([graph], {sha256: image}) == [None]
        ((name, _),) = sandbox.images.images.items()
        sandbox.accounts.expire()
        assert (await server.fetch(ServerImage(name=name, node="i"), 10_000)).startswith(b"\x89PNG")
        await server.aclose()


async def test_credentials_do_not_follow_a_redirect(fake: Fake) -> None:
    async with fake_server() as stranger:
        with_password = fake.url.replace("//", "//me:secret@")
        for place, said in ((stranger.url, f"to {stranger.url}"), (with_password, "elsewhere")):
            fake.on("GET", "/api/v1/app/version", status(307, None, Location=f"{place}/api/v1/app/version"))
            with pytest.raises(ServerError, match=rf"redirects {said}\."):
                await InvokeAI(fake.url, ConnectOptions(credentials=Credentials(token=CANARY), timings=QUICK)).open()
        assert stranger.asked == []


async def test_credentials_do_not_follow_a_redirect_of_the_event_connection(fake: Fake) -> None:
    """aiohttp itself follows redirects of a websocket's handshake, whatever they lead to."""
    credentials = Credentials(token=CANARY, headers=(("X-Api-Key", CANARY),))
    http = Http(ServerAddress.parse(fake.url), ConnectOptions(credentials=credentials, timings=QUICK))
    await http.open()
    async with fake_server() as stranger:
        elsewhere = f"{stranger.url}/ws/socket.io/?transport=websocket&EIO=4"
        fake.on("GET", "/events/", status(307, None, Location=elsewhere))
        with pytest.raises(aiohttp.ClientError):
            async with open_socket(http.session, f"{fake.url}/events", http.headers(), {"token": CANARY}):
                pass
        await http.aclose()
        assert (stranger.connections, stranger.auths) == (0, [])


async def test_an_error_that_quotes_our_credentials_does_not_tell_them(fake: Fake) -> None:
    def quote(request: Any, _data: bytes) -> Any:
        return web.json_response({"detail": f"refused: {request.headers.get('Authorization')} k3y-of-ours"}, status=500)

    credentials = Credentials(token=CANARY, headers=(("X-Api-Key", "k3y-of-ours"),))
    server = InvokeAI(fake.url, ConnectOptions(credentials=credentials, timings=QUICK))
    await server.open()
    fake.on("GET", f"{Q}/status", quote)
    with pytest.raises(TransientError, match=r"refused: Bearer \*\*\* \*\*\*"):
        await server.count_others_waiting("run")
    await server.aclose()


async def test_an_error_does_not_tell_a_token_that_is_not_in_use_any_more(fake: Fake) -> None:
    """An answer to a request with a token may come when another answer had the proxy's login take its place."""
    credentials = Credentials(token=CANARY, email="me", password="secret")
    http = Http(ServerAddress.parse(fake.url), ConnectOptions(credentials=credentials, timings=QUICK))
    await http.open()
    challenge = status(401, None, WWW_Authenticate='Basic realm="proxy"')
    fake.on("GET", "/queue", replies(challenge, status(500, {"detail": f"refused: Bearer {CANARY}"})))
    with pytest.raises(TransientError, match=r"refused: Bearer \*\*\*"):
        await http.get("/queue", "asking")
    await http.aclose()


async def test_header_whose_value_is_a_word_of_json_leaves_errors_readable(fake: Fake) -> None:
    refusal = {"detail": "no such queue", "is_final": True, "number": 1234}
    credentials = Credentials(headers=(("Skip-Warning", "true"), ("Tenant", "1234"), ("Kind", "detail")))
    server = InvokeAI(fake.url, ConnectOptions(credentials=credentials, timings=QUICK))
    await server.open()
    fake.on("GET", f"{Q}/status", lambda _request, _data: web.json_response(refusal, status=500))
    with pytest.raises(TransientError, match="no such queue"):
        await server.count_others_waiting("run")
    await server.aclose()


async def test_no_log_error_or_repr_tells_a_token(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    _multiuser(fake)
    caplog.set_level(logging.DEBUG)
    credentials = Credentials(token=CANARY, email="me", password=CANARY)
    server = connect(fake.url, ConnectOptions(credentials=credentials, timings=QUICK))
    await server.open()
    await fake.connected.wait()
    fake.on("POST", f"{Q}/enqueue_batch", status(500, {"detail": "no"}))
    with pytest.raises(Exception, match="no") as caught:
        await server.submit(submission())
    await fake.drop_sockets()
    await fake.connected.wait()
    await server.aclose()

    told = [caplog.text, repr(caught.value), str(caught.value), repr(server), repr(credentials)]
    assert all(CANARY not in text for text in told)


async def test_a_server_behind_a_private_ca_and_a_prefix() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    async with fake_server(prefix="/invoke", tls=context) as fake:
        server = InvokeAI(fake.url, ConnectOptions(ca_file=TLS / "ca.pem", timings=QUICK))
        info = await server.open()
        await fake.connected.wait()
        await server.aclose()
        assert info.url == fake.url

        with pytest.raises(ServerUnreachableError, match="--ca-file"):
            await InvokeAI(fake.url, ConnectOptions(timings=QUICK)).open()


async def test_a_ca_file_is_trusted_besides_the_authorities_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "ca.pem"))  # as a public authority would be
    async with fake_server(tls=context) as fake:
        server = InvokeAI(fake.url, ConnectOptions(ca_file=TLS / "other.pem", timings=QUICK))
        assert (await server.open()).version == "6.14.2"
        await server.aclose()


async def test_a_ca_file_that_is_none_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pem", TLS / "server.key"):
        with pytest.raises(
            UsageError, match=r"CA certificates \((it holds no readable PEM certificate|No such file or directory)\)"
        ):
            await InvokeAI("http://localhost", ConnectOptions(ca_file=path, timings=QUICK)).open()
