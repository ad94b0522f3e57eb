"""The live page: rows arrive as they are rendered, and nobody else gets in."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from anyio.to_thread import run_sync
from yarl import URL

from sweep.record import FolderLock, SqliteJournal
from sweep.report.page_json import build_page_json
from sweep.report.view_server import Feed, LiveView, open_view, read_snapshot, serve_view, summarise_progress
from sweep.testing.journals import an_intent
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
    async with FolderLock(folder), open_view(folder) as view, aiohttp.ClientSession() as session:
        async with session.get(view.url) as answer:
            told = Parsed(await answer.text()).data()
        assert told["axes"][0]["levels"] == [0.2, 0.4, 0.6]
        assert len(told["axes"][0]["at"]) == 4
        events = f"{view.url}events?since={told['live']['generation']}"
        async with session.get(events) as stream, await SqliteJournal.open(folder) as journal:
            late = [point for point in points(plan, None) if point.index in {4, 5}]
            await add(folder, journal, plan, late)
            view.feed.wake()
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


async def test_server_serves_only_images_of_the_table(folder: Path) -> None:
    async with open_view(folder) as view, aiohttp.ClientSession() as session:
        for path in (
            "journal.sqlite",
            "images/../journal.sqlite",
            "images/none.png",
            "images/%2e%2e/journal.sqlite",
            "thumbs/ab/ab.webp",
        ):
            async with session.get(URL(f"{view.url}{path}", encoded=True)) as answer:
                assert answer.status == 404, path


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
        identity = next(name for name, path in view.feed.snapshot.data.files.by_id.items() if path == first)
        async with session.get(f"{view.url}thumbs/{identity[:2]}/{identity}.webp") as answer:
            assert answer.status == 404
        async with session.get(f"{view.url}images/{first.name}") as answer:
            assert answer.status == 404


async def test_a_folder_that_keeps_no_thumbnails_shows_them_nevertheless(folder: Path) -> None:
    await run_sync(lambda: shutil.rmtree(folder / "thumbs", ignore_errors=True))
    (folder / "thumbs").touch()  # also root cannot make a folder there
    (first, second, *_) = sorted(await run_sync(lambda: list((folder / "images").iterdir())))
    await run_sync(first.unlink)
    async with open_view(folder) as view, aiohttp.ClientSession() as session:
        for image, status in ((second, 200), (first, 404)):
            identity = next(name for name, path in view.feed.snapshot.data.files.by_id.items() if path == image)
            async with session.get(f"{view.url}thumbs/{identity[:2]}/{identity}.webp") as answer:
                assert (answer.status, (await answer.read())[:4] == b"RIFF") == (status, status == 200)


async def test_feed_counts_what_is_at_a_server_and_ends_with_the_report(tmp_path: Path) -> None:
    plan = Plan(pending=PENDING, metrics=False)
    folder = await paint_folder(tmp_path / "cups", plan, end=False)
    feed = Feed(folder, studies=False)
    open_point = next(point for point in points(plan, None) if point.index == 4)
    async with await SqliteJournal.open(folder) as journal:
        async with FolderLock(folder):
            await journal.intend(open_point, an_intent(open_point))
            feed.note_step(open_point.key, 0.7)
            await feed.refresh()
            news = await feed.wait_for_news(0, 1)
            assert news is not None
            assert (news["done"], news["rendering"], news["running"], news["report"]) == (4, 1, True, False)
            assert [(row["status"], row["share"]) for row in feed.build_page_data()["live"]["rows"]] == [
                ("intended", 0.7)
            ]
        await journal.end_run(1, "interrupted")
    await feed.finish(None)
    news = await feed.wait_for_news(news["generation"], 1)
    assert news is not None
    assert (news["running"], news["report"]) == (False, True)


async def test_server_keeps_ratings_in_the_folder(folder: Path) -> None:
    key = points(Plan(), None)[0].key[:16]
    ratings = {
        "schema": 1,
        "ratings": {f"{key}.1": {"stars": 4, "rejected": False, "note": "the handle"}},
        "choices": [{"left": f"{key}.1", "right": "b.1", "winner": "tie", "at": "2026-11-28T10:00:00Z"}],
    }
    async with open_view(folder) as view, aiohttp.ClientSession() as session:
        async with session.post(f"{view.url}ratings", json=ratings) as answer:
            assert answer.status == 200
        async with session.get(view.url) as answer:
            assert Parsed(await answer.text()).data()["ratings"] == ratings
    assert json.loads((folder / "ratings.json").read_text()) == ratings


async def test_server_adds_ratings_to_those_of_another_page(folder: Path) -> None:
    """A page sends what was changed on it: it does not know what is said on another one, or with `sweep rate`."""
    choices = [{"left": "a.1", "right": "b.1", "winner": "tie", "at": f"2026-11-28T10:00:0{n}Z"} for n in (1, 2)]
    none = {"stars": None, "rejected": False, "note": ""}
    sent: list[dict[str, object]] = [
        {"ratings": {"a.1": {**none, "stars": 4}}, "choices": choices[:1]},
        {"ratings": {"b.1": {**none, "rejected": True}}, "choices": choices[1:]},
        {"ratings": {"b.1": {"note": "melted"}}, "choices": []},  # of a page that knows of no rejection
        {"ratings": {"a.1": none}, "choices": [], "withdrawn": [choices[0]["at"]]},
    ]
    async with open_view(folder) as view, aiohttp.ClientSession() as session:
        for part in sent:
            async with session.post(f"{view.url}ratings", json={"schema": 1, **part}) as answer:
                assert answer.status == 200
    kept = json.loads((folder / "ratings.json").read_text())
    whole = {**none, "rejected": True, "note": "melted"}
    assert kept == {"schema": 1, "ratings": {"b.1": whole}, "choices": choices[1:]}


async def test_server_refuses_ratings_of_another_shape(folder: Path) -> None:
    async with open_view(folder) as view, aiohttp.ClientSession() as session:
        for body in (
            "not JSON",
            '{"schema": 2}',
            '{"schema": 1, "ratings": {"a.1": {"stars": 9}}, "choices": []}',
            '{"schema": 1, "ratings": {}, "choices": [{"left": "a.1"}]}',
            '{"schema": 1, "ratings": {"a.1": {"stars": true}}, "choices": []}',
            '{"schema": 1, "ratings": {"a.1": {"rejected": "no"}}, "choices": []}',
            '{"schema": 1, "ratings": {}, "choices": [{"left": "a.1", "right": "b.1", "winner": "both"}]}',
        ):
            async with session.post(f"{view.url}ratings", data=body) as answer:
                assert answer.status == 400, body
            assert not (folder / "ratings.json").exists(), body


async def test_server_refuses_ratings_from_another_page(folder: Path) -> None:
    async with open_view(folder) as view, aiohttp.ClientSession() as session:
        answer = await session.post(f"{view.url}ratings", data="{}", headers={"Origin": "http://evil.example"})
        assert answer.status == 403


@pytest.mark.slow
async def test_overview_lists_runs_and_says_what_two_share(tmp_path: Path) -> None:
    await paint_folder(tmp_path / "one")
    await paint_folder(tmp_path / "two", Plan(failed={0: "out of memory"}))
    async with open_view(tmp_path, all_runs=True) as view, aiohttp.ClientSession() as session:
        async with session.get(f"{view.url}runs") as answer:
            runs = {run["folder"]: run for run in await answer.json()}
        assert set(runs) == {"one", "two"}
        assert (runs["two"]["state"], runs["two"]["failed"]) == ("finished, some failed", 1)
        assert len(runs["one"]["images"]) == 3
        async with session.get(f"{view.url}shared?a=one&b=two") as answer:
            assert "12 cells in common" in (await answer.json())["text"]
        async with session.get(f"{view.url}one/") as answer:
            assert Parsed(await answer.text()).data()["name"] == "cups"
        async with session.get(f"{view.url}..%2Fone/") as answer:
            assert answer.status == 404
        async with session.get(f"{view.url}compare?a=one&b=two") as answer:
            assert Parsed(await answer.text()).data()["runs"] == {"shown": "two", "other": "one"}


async def test_a_number_of_any_length_in_a_request_is_no_traceback(tmp_path: Path) -> None:
    folder = await paint_folder(tmp_path / "cups", Plan(pending=PENDING, metrics=False), end=False)
    async with FolderLock(folder), open_view(folder) as view, aiohttp.ClientSession() as session:
        for since in ("9" * 5_000, "-1", "x", "²"):
            async with session.get(f"{view.url}events", params={"since": since}) as answer:
                assert answer.status == 200, since


async def test_time_left_counts_points_not_images(tmp_path: Path) -> None:
    folder = await paint_folder(tmp_path / "cups", Plan(pending=PENDING, metrics=False, images=2), end=False)
    async with FolderLock(folder):
        snapshot = await run_sync(read_snapshot, folder, {})
    finished = snapshot.data.frame.assign(finished_at=snapshot.data.runs[-1].begun_at)
    told = summarise_progress(replace(snapshot, data=replace(snapshot.data, frame=finished)))
    assert (told["done"], told["points"]) == (4, 12)
    assert told["left"] == pytest.approx(2 * told["seconds"], abs=0.2)


def test_an_address_of_ipv6_has_brackets(tmp_path: Path) -> None:
    view = LiveView(tmp_path, "::1", studies=False, all_runs=False)
    assert view.url.startswith("http://[::1]:0/")


async def test_a_page_hears_of_what_changes_while_it_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(folder, studies=False)
    await feed.refresh()
    generation = feed.generation

    def change_meanwhile(*values: Any) -> Any:
        feed.generation += 1
        return build_page_json(*values)

    monkeypatch.setattr("sweep.report.view_server.build_page_json", change_meanwhile)
    assert feed.build_page_data()["live"]["generation"] == generation


async def test_a_page_made_before_the_report_does_not_count_as_the_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_meanwhile(feed: Feed) -> str:
        feed.is_reported = True
        return "live page"

    monkeypatch.setattr("sweep.report.view_server._TO_ARRIVE", 0)
    async with open_view(folder, studies=False) as view, aiohttp.ClientSession() as session:
        with monkeypatch.context() as patched:
            patched.setattr("sweep.report.view_server._render", end_meanwhile)
            async with session.get(view.url) as answer:
                assert await answer.text() == "live page"
        assert not view.feed.delivered.is_set()
        await view.feed.finish(None)
        async with session.get(view.url) as answer:
            assert answer.status == 200
        await asyncio.wait_for(view.feed.delivered.wait(), 10)


async def test_a_killed_run_is_the_report_again_after_a_resume_that_never_began(tmp_path: Path) -> None:
    """A run holds the lock while it asks its servers: where none answers, the folder stays as it was."""
    folder = await paint_folder(tmp_path / "cups", end=False)
    async with open_view(folder) as view:

        async def become_report() -> None:
            while not view.feed.is_reported:
                assert await view.feed.wait_for_news(view.feed.generation, 10) is not None, "it is never studied"

        await become_report()
        async with FolderLock(folder):
            await view.feed.refresh()
            assert not view.feed.is_reported
        view.feed.wake()
        await become_report()


async def test_a_folder_is_read_by_one_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[int] = []
    lock = threading.Lock()

    def read(*values: Any) -> Any:
        assert lock.acquire(blocking=False), "an older state could replace a newer one"
        try:
            readers.append(1)
            return read_snapshot(*values)
        finally:
            lock.release()

    monkeypatch.setattr("sweep.report.view_server.read_snapshot", read)
    feed = Feed(folder, studies=False)
    await asyncio.gather(feed.refresh(), feed.refresh())
    assert len(readers) == 2
