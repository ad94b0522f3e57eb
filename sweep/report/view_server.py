"""The server of live pages: the page of one run, or an overview of all runs with the page of each.

A feed reads the journal instead of listening to the engine: so the same page serves a run in this process, a run in
another one, and a folder that is finished. Everything lies under a token that nobody can guess: whoever has the address
may look, rate and choose, and nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import re
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler
from anyio import CapacityLimiter, move_on_after
from anyio.to_thread import run_sync

from sweep.errors import SweepError, UsageError
from sweep.report.compare import compare_runs, count_shared
from sweep.report.page_json import JsonObject, build_live_rows, build_open_rows, build_page_json
from sweep.report.report_data import ReportData, add_study_columns, read_report_data, study_folder
from sweep.report.report_writer import (
    EMBED_UP_TO,
    build_policy,
    describe_page,
    link_images,
    list_run_folders,
    render_overview,
    render_page,
    summarise_run,
)
from sweep.report.thumbnails import FOLDER, ImageLinks, Thumbnails, make_thumb_id

if TYPE_CHECKING:
    from sweep.study import StudyJson


_PAUSE: Final = 1.0  # seconds between two looks at the journal; longer where a look takes long
_SETTLE: Final = 0.2  # seconds in which several events become one look


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A folder as read at one moment."""

    data: ReportData
    links: ImageLinks
    rows: Mapping[str, JsonObject]
    served: frozenset[str]  # paths in the folder that may be asked for
    is_running: bool


def read_snapshot(folder: Path, steps: Mapping[str, float]) -> Snapshot:
    """Read `folder` for a live page; `steps` are the shares done of points at a server. Blocking."""
    data = read_report_data(folder)
    ids, sources = frozenset(data.files.by_id), data.files.sources
    links = ImageLinks(prefix="", thumbs=ids, embedded=False, thumb_prefix=f"{FOLDER}/", source_ids=sources)
    rows = {f"{row['key']}.{row['image']}": row for row in build_live_rows(data, links)}
    known = {row["path"] for row in rows.values() if row["path"] is not None}
    rows |= {f"{row['key']}.1": row for row in build_open_rows(data, steps)}
    return Snapshot(data, links, rows, frozenset({*known, *sources}), data.is_running)


class Feed:
    """Follows a results folder. Call `wake` and await the rest on the event loop; reading is done in a thread.

    A run that has ended is studied, in a thread too: by `studies`, or by whom the run belongs to, who then calls
    `finish`. With the study a page becomes the report.
    """

    def __init__(self, folder: Path, *, studies: bool = True) -> None:
        self.folder = folder
        self._studies = studies
        self._reading = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._woken = asyncio.Event()
        self._since: dict[str, int] = {}  # by name of a row: the generation that changed it, or took it away
        self._progress: JsonObject = {}
        self._steps: dict[str, float] = {}  # by key of a point at a server: the share of it that is done
        self._studied: tuple[object, ...] | None = None
        self.generation = 0
        nothing = ImageLinks(prefix="", thumbs=frozenset(), embedded=False)
        self.snapshot = Snapshot(ReportData.empty(folder, folder.name), nothing, {}, frozenset(), is_running=False)
        self.study: StudyJson | None = None
        self.is_reported = False  # the page can become the report
        self.delivered = asyncio.Event()  # a page has become the report

    def wake(self) -> None:
        """Look at the journal soon instead of at the next turn."""
        self._woken.set()

    def note_step(self, key: str, share: float) -> None:
        """Note how far an image is, for the next look at the journal."""
        self._steps[key] = share

    async def refresh(self) -> None:
        """Read the folder and note what changed; one reader at a time, so that no older state replaces a newer one."""
        async with self._reading:
            await self._read()

    async def _read(self) -> None:
        snapshot = await run_sync(read_snapshot, self.folder, dict(self._steps))
        rendering = {point.key for point in snapshot.data.open_points}
        self._steps = {key: share for key, share in self._steps.items() if key in rendering}
        before, rows = self.snapshot.rows, snapshot.rows
        changed = [name for name in {**before, **rows} if before.get(name) != rows.get(name)]
        progress, clock = summarise_progress(snapshot), {"seconds": None, "left": None}
        async with self._changed:
            self.snapshot = snapshot
            if snapshot.is_running:
                self.is_reported, self._studied = False, None  # it may end as it was before
            if changed or {**progress, **clock} != {**self._progress, **clock}:
                self.generation += 1
                self._since.update(dict.fromkeys(changed, self.generation))
                self._changed.notify_all()
            self._progress = progress

    async def follow(self) -> None:
        """Refresh for ever: after an event, and every second or so without one."""
        while True:
            started = time.monotonic()
            await self.refresh()
            await self._study_if_due()
            pause = max(_PAUSE, 8 * (time.monotonic() - started))
            try:
                await asyncio.wait_for(self._woken.wait(), pause)
                await asyncio.sleep(_SETTLE)
            except TimeoutError:
                pass
            self._woken.clear()

    async def _study_if_due(self) -> None:
        snapshot = self.snapshot
        if not self._studies or snapshot.is_running or not snapshot.data.runs:
            return
        state = (len(snapshot.data.runs), snapshot.data.counts)
        if state != self._studied:
            self._studied = state
            await self.finish(await run_sync(study_folder, self.folder))

    async def finish(self, study: StudyJson | None) -> None:
        """Give the study of a run that has ended: pages become its report."""
        await self.refresh()
        async with self._changed:
            self.study = study
            self.is_reported = not self.snapshot.is_running  # it may have been resumed
            self.generation += 1
            self._changed.notify_all()

    async def wait_for_news(self, since: int, patience: float) -> JsonObject | None:
        """Wait up to `patience` seconds for changes after generation `since`; None where there are none."""
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: self.generation > since), patience)
            except TimeoutError:
                return None
            changed, rows = [name for name, at in self._since.items() if at > since], self.snapshot.rows
            fresh = [rows[name] for name in changed if name in rows]
            gone = [name.partition(".")[0] for name in changed if name not in rows]
            return {"generation": self.generation, **self._state, "rows": fresh, "gone": gone}

    @property
    def _state(self) -> JsonObject:
        return {"report": self.is_reported, **self._progress}

    def build_page_data(self, links: ImageLinks | None = None) -> JsonObject:
        """Build the payload of a page that goes on listening."""
        generation = self.generation  # before the snapshot, which may be replaced meanwhile: then the page hears of it
        data, study = self.snapshot.data, self.study if self.is_reported else None
        payload = build_page_json(add_study_columns(data, study), links or self.snapshot.links, study)
        live = {"events": "events", "ratings": "ratings", "generation": generation, **self._state}
        return {**payload, "live": {**live, "rows": build_open_rows(data, self._steps)}}

    def find_image(self, identity: str) -> Path | None:
        """Find the image that a thumbnail id stands for, None where no row has it."""
        return self.snapshot.data.files.by_id.get(make_thumb_id(identity))


def summarise_progress(snapshot: Snapshot) -> JsonObject:
    """Summarize the progress of a run: counts, seconds, and the seconds left (None before the first image)."""
    data = snapshot.data
    counts = data.counts
    run = data.runs[-1] if data.runs else None
    seconds = 0.0 if run is None else ((run.ended_at or datetime.now(UTC)) - run.begun_at).total_seconds()
    fresh = 0
    if run is not None and "finished_at" in data.frame:
        fresh = data.frame.loc[data.frame["finished_at"] >= run.begun_at, "index"].nunique()
    open_count = counts.points - counts.completed - counts.failed - counts.cancelled
    return {
        "done": counts.completed,
        "failed": counts.failed,
        "points": counts.points,
        "running": snapshot.is_running,
        "rendering": sum(point.state != "pending" for point in data.open_points),
        "retrying": sum(point.state == "pending" for point in data.open_points),
        "seconds": round(seconds, 1),
        "left": round(seconds / fresh * open_count, 1) if fresh and snapshot.is_running else None,
    }


HOST: Final = "127.0.0.1"
_PATIENCE: Final = 15.0  # seconds after which a silent stream says that it is still there
_MOST_BODY: Final = 4 * 2**20  # bytes of ratings
_TO_ARRIVE: Final = 0.5  # seconds for a page to arrive at the browser before the server may end
_TO_CLOSE: Final = 5.0  # seconds for the server to close its connections
_TO_REPORT: Final = 20.0  # seconds that the end of a run waits for its page to become the report
_OnOpened: TypeAlias = Callable[[str], object]
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


async def serve_view(
    folder: Path, *, host: str = HOST, port: int = 0, opened: _OnOpened | None = None, all_runs: bool = False
) -> None:
    """Serve the results in `folder` until cancelled; call `opened` with the address once it answers.

    Args:
        host: The address to listen at. Any but loopback can be reached by other machines, with the token only.
        all_runs: `folder` holds results folders; an overview lists them.

    Raises OSError where the port is taken; 0 takes any free one.
    """
    async with open_view(folder, host=host, port=port, all_runs=all_runs) as view:
        if opened is not None:
            opened(view.url)
        await asyncio.Event().wait()


@asynccontextmanager
async def open_view(
    folder: Path, *, host: str = HOST, port: int = 0, all_runs: bool = False, studies: bool = True
) -> AsyncIterator[LiveView]:
    """Serve live pages for as long as the block lasts. With `studies` a run that has ended is studied here."""
    view = LiveView(Path(folder), host, studies=studies, all_runs=all_runs)
    runner = web.AppRunner(view.make_app(), access_log=None, shutdown_timeout=1.0)
    try:
        if not all_runs:
            await view.follow("")
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        view.port = runner.addresses[0][1]
        yield view
    finally:
        with move_on_after(_TO_CLOSE, shield=True):  # also when the caller is cancelled: the socket must close
            await view.stop()
            await runner.cleanup()


class LiveView:
    """The server of live pages: of one run, or of all runs in a folder."""

    def __init__(self, folder: Path, host: str, *, studies: bool, all_runs: bool) -> None:
        self.port = 0
        self._token = secrets.token_urlsafe(24)
        self._folder = folder
        self._host = host
        self._studies = studies
        self._all_runs = all_runs
        self._feeds: dict[str, Feed] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._opening = asyncio.Lock()
        self._listing = asyncio.Lock()
        self._making = CapacityLimiter(2)
        self._streams: dict[asyncio.Task[None], Feed] = {}

    @property
    def url(self) -> str:
        """Return the address, with the token without which the server answers nothing."""
        host = socket.gethostname() if self._host in ("0.0.0.0", "::") else self._host  # noqa: S104  only compared
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{self._token}/"

    @property
    def feed(self) -> Feed:
        """Return the feed of the one run."""
        return self._feeds[""]

    async def finish(self, *, measure: bool = True) -> None:
        """Turn open pages into the report of a run that has ended, and wait until one has it; at once if none is open.

        With `measure`, images not measured yet are measured for it.
        """
        await self.feed.finish(await run_sync(study_folder, self.feed.folder) if measure else None)
        if self._streams:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.feed.delivered.wait(), _TO_REPORT)

    def make_app(self) -> web.Application:
        """Build the routes: those of a run directly under the token, or under its name beside the overview."""
        app = web.Application(middlewares=[self._guard], client_max_size=_MOST_BODY)
        add = app.router.add_get
        run = "/{token}/{run}" if self._all_runs else "/{token}"
        if self._all_runs:
            add("/{token}/", self._serve_overview)
            add("/{token}/runs", self._serve_runs)
            add("/{token}/shared", self._serve_shared)
            add("/{token}/compare", self._serve_compare)
        add(f"{run}/", self._serve_page)
        add(f"{run}/events", self._serve_events)
        add(f"{run}/thumbs/{{head}}/{{name}}.webp", self._serve_thumb)
        add(f"{run}/{{path:(?:images|inputs)/.+}}", self._serve_file)
        app.router.add_post(f"{run}/ratings", self._keep_ratings)
        return app

    async def follow(self, name: str) -> Feed:
        """Return the feed of a run and keep it up to date. Raises HTTPNotFound if there is no such run."""
        feed, following = await self._read(name), self._following.get(name)
        if following is None or following.done():
            self._following[name] = asyncio.create_task(feed.follow())
        return feed

    async def _read(self, name: str) -> Feed:
        """Return the feed of a run, read at least once: the overview shows images of runs that nobody has opened."""
        async with self._opening:
            if name not in self._feeds:
                if self._all_runs and name not in await run_sync(list_run_folders, self._folder):
                    raise web.HTTPNotFound
                feed = Feed(self._folder / name, studies=self._studies)
                await feed.refresh()
                self._feeds[name] = feed
        return self._feeds[name]

    async def stop(self) -> None:
        """End the streams, which browsers would keep open for ever, and stop following."""
        following = self._following.values()
        for task in (*self._streams, *following):
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Allow only pages from our own address, with our token: DNS rebinding sends another Host header."""
        own = {f"{HOST}:{self.port}", f"localhost:{self.port}"}
        host = request.headers.get("Host", "")
        if self._host in (HOST, "localhost") and host not in own:
            raise web.HTTPForbidden(text="This page is served to its own address only.")
        token = request.match_info.get("token", "")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            raise web.HTTPNotFound
        origin = request.headers.get("Origin")
        if request.method != "GET" and origin is not None and origin != f"http://{host}":
            raise web.HTTPForbidden(text="Only this page may write.")
        response = await handler(request)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _serve_page(self, request: web.Request) -> web.Response:
        feed = await self.follow(_name_run(request))
        await feed.refresh()
        is_report = feed.is_reported
        answer = _answer_page(await run_sync(_render, feed))
        if is_report:
            asyncio.get_running_loop().call_later(_TO_ARRIVE, feed.delivered.set)
        return answer

    async def _serve_thumb(self, request: web.Request) -> web.StreamResponse:
        feed, identity = await self._read(_name_run(request)), request.match_info["name"]
        image = feed.find_image(identity)
        if image is None and _name_run(request) not in self._following:
            await feed.refresh()
            image = feed.find_image(identity)
        if image is None:
            raise web.HTTPNotFound
        content = await run_sync(Thumbnails(feed.folder).read, identity, image, limiter=self._making)
        if content is None:
            raise web.HTTPNotFound
        return web.Response(body=content, content_type="image/webp")

    async def _serve_file(self, request: web.Request) -> web.StreamResponse:
        feed, path = await self._read(_name_run(request)), request.match_info["path"]
        if not (path in feed.snapshot.served and await run_sync((feed.folder / path).is_file)):
            raise web.HTTPNotFound
        return web.FileResponse(feed.folder / path)

    async def _keep_ratings(self, request: web.Request) -> web.Response:
        """Add the ratings and choices that were changed on the page to those of the results folder."""
        from sweep.study import merge_ratings, parse_ratings

        feed = await self.follow(_name_run(request))
        try:
            ratings = parse_ratings(await request.read(), "What was sent")
            async with self._opening:  # one at a time: each is added to what the file holds
                await run_sync(merge_ratings, feed.folder, ratings)
        except UsageError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        feed.wake()
        return web.json_response({"kept": len(ratings.marks)})

    async def _serve_events(self, request: web.Request) -> web.StreamResponse:
        """Send server-sent events: `rows` with what changed since the generation the page has."""
        feed = await self.follow(_name_run(request))
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", **_HEADERS})
        await stream.prepare(request)
        task = asyncio.current_task()
        if task is not None:
            self._streams[task] = feed
            task.add_done_callback(lambda done: self._streams.pop(done, None))
        since = request.headers.get("Last-Event-ID") or request.query.get("since", "")
        seen = int(since) if re.fullmatch("[0-9]{1,19}", since) else 0  # we never send a longer one
        with contextlib.suppress(ConnectionError):
            while True:
                news = await feed.wait_for_news(seen, _PATIENCE)
                if news is None:
                    await stream.write(b": still here\n\n")
                    continue
                seen = news["generation"]
                text = json.dumps(news, allow_nan=False)
                await stream.write(f"id: {seen}\nevent: rows\ndata: {text}\n\n".encode())
        return stream

    async def _serve_overview(self, _request: web.Request) -> web.Response:
        async with self._listing:  # one at a time: the first of a run studies it
            return _answer_page(await run_sync(render_overview, self._folder), "overview.js")

    async def _serve_runs(self, _request: web.Request) -> web.Response:
        async with self._listing:
            names = await run_sync(list_run_folders, self._folder)
            return web.json_response([await run_sync(summarise_run, self._folder / name) for name in names])

    async def _find_two_folders(self, request: web.Request) -> tuple[Path, Path]:
        names = [request.query.get(name, "") for name in ("a", "b")]
        known = await run_sync(list_run_folders, self._folder)
        if any(name not in known for name in names):
            raise web.HTTPNotFound
        return self._folder / names[0], self._folder / names[1]

    async def _serve_shared(self, request: web.Request) -> web.Response:
        return web.json_response({"text": await run_sync(count_shared, *await self._find_two_folders(request))})

    async def _serve_compare(self, request: web.Request) -> web.Response:
        a, b = await self._find_two_folders(request)
        try:
            text = await run_sync(lambda: compare_runs(a, b).page.read_text(encoding="utf-8"))
        except SweepError as error:
            raise web.HTTPConflict(text=str(error)) from error
        return _answer_page(text)


def _name_run(request: web.Request) -> str:
    return request.match_info.get("run", "")


def _answer_page(text: str, *scripts: str) -> web.Response:
    policy = f"{build_policy(*scripts, is_live=True)}; frame-ancestors 'none'"
    return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})


def _render(feed: Feed) -> str:
    """Render the page of a feed. A report has its thumbnails inside: it outlives the server of `sweep run --view`."""
    data = feed.snapshot.data
    study = feed.study if feed.is_reported else None
    links: ImageLinks | None = None
    inside: dict[str, str] = {}
    if feed.is_reported and not data.frame.empty:
        embedded = len(data.files.images) <= EMBED_UP_TO
        links, inside = link_images(data, data.folder / "report.html", embedded=embedded, beside=True)
    facts = describe_page(data, study)
    if feed.snapshot.is_running:  # the page counts by itself, and nothing is wrong yet
        facts |= {"counts": "", "failed": "", "problem": ""}
    return "".join(render_page(feed.build_page_data(links), facts, inside, is_live=True))
