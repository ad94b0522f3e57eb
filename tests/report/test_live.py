"""The live page: rows arrive as they are rendered, and nobody else gets in."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from anyio.to_thread import run_sync

from sweep.record import SqliteJournal
from sweep.report.live import open_view, serve_view
from tests.report.painted import Plan, add, paint_folder, points
from tests.report.parsed_page import Parsed

PENDING = frozenset(range(4, 12))


async def next_rows(stream: aiohttp.StreamReader) -> dict[str, Any]:
    while True:
        line = (await asyncio.wait_for(stream.readline(), 20)).decode()
        if line.startswith("data: "):
            told: dict[str, Any] = json.loads(line[6:])
            return told


async def test_events_bring_rows_as_they_are_rendered(tmp_path: Path) -> None:
    plan = Plan(pending=PENDING, metrics=False)
    folder = await paint_folder(tmp_path / "cups", plan, end=False)
    levels = {"denoise_strength": [0.2, 0.4, 0.6]}
    async with open_view(folder, levels=levels) as view, aiohttp.ClientSession() as session:
        async with session.get(view.url) as answer:
            told = Parsed(await answer.text()).data()
        assert told["axes"][0]["levels"] == [0.2, 0.4, 0.6]
        assert len(told["axes"][0]["at"]) == 4
        events = f"{view.url}events?since={told['live']['generation']}"
        async with session.get(events) as stream, await SqliteJournal.open(folder) as journal:
            late = [point for point in points(plan, None) if point.index in {4, 5}]
            await add(folder, journal, plan, late)
            view.heard("anything")
            news = await next_rows(stream.content)
            while len(news["rows"]) < 2:
                news["rows"] += (await next_rows(stream.content))["rows"]
        assert {row["axes"]["denoise_strength"] for row in news["rows"]} == {0.4}
        assert news["points"] == 12
        assert news["running"] is True
        thumb = news["rows"][0]["thumb"]
        async with session.get(f"{view.url}thumbs/{thumb[:2]}/{thumb}.webp") as answer:
            assert (await answer.read())[8:12] == b"WEBP"
        async with session.get(f"{view.url}{news['rows'][0]['path']}") as answer:
            assert answer.content_type == "image/png"


@pytest.mark.parametrize(
    "path",
    [
        "journal.sqlite",
        "images/../journal.sqlite",
        "images/none.png",
        "images/%2e%2e/journal.sqlite",
        "thumbs/ab/ab.webp",
    ],
)
async def test_server_serves_only_images_of_the_table(folder: Path, path: str) -> None:
    async with open_view(folder) as view, aiohttp.ClientSession() as session:
        from yarl import URL

        async with session.get(URL(f"{view.url}{path}", encoded=True)) as answer:
            assert answer.status == 404


async def test_server_answers_404_without_the_token(folder: Path) -> None:
    async with open_view(folder) as view, aiohttp.ClientSession() as session:
        root = view.url.rsplit("/", 2)[0]
        for wrong in (f"{root}/", f"{root}/wrong/", f"{root}/wrong/events"):
            async with session.get(wrong) as answer:
                assert answer.status == 404


async def test_server_refuses_another_host(folder: Path) -> None:
    elsewhere = {"Host": "evil.example:80"}
    async with (
        open_view(folder) as view,
        aiohttp.ClientSession() as session,
        session.get(view.url, headers=elsewhere) as answer,
    ):
        assert answer.status == 403


async def test_server_accepts_no_changes(folder: Path) -> None:
    async with open_view(folder) as view, aiohttp.ClientSession() as session:
        for method in ("POST", "PUT", "DELETE"):
            async with session.request(method, view.url) as answer:
                assert answer.status == 404


async def test_page_may_only_connect_to_its_own_server(folder: Path) -> None:
    async with open_view(folder) as view, aiohttp.ClientSession() as session, session.get(view.url) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "connect-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "file:" not in policy


async def test_view_waits_for_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    async with open_view(tmp_path / "later") as view, aiohttp.ClientSession() as session:
        async with session.get(f"{view.url}events?since={view.feed.generation}") as stream:
            await paint_folder(tmp_path / "later", Plan(axes={"seed": [1, 2]}, metrics=False))
            view.feed.wake()
            rows: list[dict[str, Any]] = []
            while len(rows) < 2:
                rows += (await next_rows(stream.content))["rows"]
        assert {row["axes"]["seed"] for row in rows} == {1, 2}


async def test_serve_view_reports_its_address_and_ends_when_cancelled(folder: Path) -> None:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve_view(folder, opened=told.set_result))
    address = await told
    assert address.startswith("http://127.0.0.1:")
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(aiohttp.ClientConnectionError):
        async with aiohttp.ClientSession() as session, session.get(address):
            pass


async def test_server_has_no_thumbnail_of_a_missing_image(folder: Path) -> None:
    (first, *_) = sorted(await run_sync(lambda: list((folder / "images").iterdir())))
    await run_sync(first.unlink)
    async with open_view(folder) as view, aiohttp.ClientSession() as session:
        assert view.feed.snapshot is not None
        identity = next(name for name, path in view.feed.snapshot.images.items() if path == first)
        async with session.get(f"{view.url}thumbs/{identity[:2]}/{identity}.webp") as answer:
            assert answer.status == 404
        async with session.get(f"{view.url}images/{first.name}") as answer:
            assert answer.status == 404
