"""The server of live pages: one run, or all runs of a results folder with an overview of them.

Everything lies under a token that nobody can guess: whoever has the address may look, rate and choose, and nobody else.
The overview says what each run is about, how far it is, and what it found.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import re
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import numpy as np
from aiohttp import web
from aiohttp.typedefs import Handler
from anyio import CapacityLimiter, move_on_after
from anyio.to_thread import run_sync
from PIL import Image
from pydantic import BaseModel, Field

from sweep.errors import SweepError
from sweep.record import JOURNAL_FILE, RATINGS_JSON, replace_atomically
from sweep.report.compare import compare_runs, find_pair_files, pair_rows
from sweep.report.live import Feed, is_running, study_folder
from sweep.report.page_data import ImageLinks, JsonObject, ReportData, read_report_data
from sweep.report.page_facts import RUN_OUTCOMES, describe_page, format_counts
from sweep.report.page_writer import (
    EMBED_UP_TO,
    build_policy,
    link_images,
    render_overview_page,
    render_page,
)
from sweep.report.thumbnails import Thumbnails

_MOST_PIXEL_PAIRS: Final = 200  # images compared pixel by pixel before the overview says "not compared"


def list_run_folders(root: Path) -> list[str]:
    """List the names of the results folders directly in `root`, the last changed first."""
    found = [path.parent for path in root.glob(f"*/{JOURNAL_FILE}")]
    return [folder.name for folder in sorted(found, key=_changed_at, reverse=True)]


def _changed_at(folder: Path) -> float:
    files = (folder / JOURNAL_FILE, folder / f"{JOURNAL_FILE}-wal")
    return max(path.stat().st_mtime for path in files if path.exists())


def summarize_run(folder: Path) -> JsonObject:
    """Summarize a run for one row of the overview."""
    data = read_report_data(folder)
    changed = _changed_at(folder)
    running = is_running(data)
    ending = (data.runs[-1].ending if data.runs else None) or ""
    state = RUN_OUTCOMES.get(ending, ending) if ending else "stopped"
    return {
        "folder": folder.name,
        "name": data.name,
        "description": data.description,
        "images": _choose_images(data),
        "state": "running" if running else "cannot be read" if data.problem is not None else state,
        "done": data.counts.completed,
        "failed": data.counts.failed,
        "points": data.counts.points,
        "counts": format_counts(data),
        "finding": "" if running else _first_finding(folder, changed),
        "changed": changed,
        "age": _format_age(datetime.now(UTC).timestamp() - changed),
    }


def _choose_images(data: ReportData) -> list[str]:
    """Choose three thumbnails: the first, middle and last level of the widest axis, everything else equal."""
    ids = list(data.files.images)
    varied = [axis for axis in data.axes if data.frame[axis.column].nunique() > 1]
    if not varied or "sha256" not in data.frame:
        return ids[:3]
    widest = max(
        [axis for axis in varied if axis.kind != "seed"],
        key=lambda axis: data.frame[axis.column].nunique(),
        default=varied[0],
    )
    rows = data.frame[data.frame["sha256"].notna()]
    for axis in data.axes:
        if axis.name != widest.name and len(rows):
            rows = rows[rows[axis.column] == rows[axis.column].iloc[0]]
    found = [str(sha)[:16] for sha in rows.sort_values(widest.column)["sha256"]]
    return list(dict.fromkeys([found[0], found[len(found) // 2], found[-1]])) if found else ids[:3]


@lru_cache(maxsize=500)
def _first_finding(folder: Path, changed: float) -> str:  # noqa: ARG001  a new time of change is a new question
    """Return the first finding of the study, from values measured before; "" where nothing is measured."""
    study = study_folder(folder) if read_report_data(folder).metrics else None
    text = next((word["text"] for word in study["words"] if word["headline"]), "") if study else ""
    return re.sub(r" \([^()]*\)", "", text)


def _format_age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"


def count_shared(a: Path, b: Path) -> str:
    """Say what two runs share, before they are compared: their cells, and whether the images are the same."""
    first, second = read_report_data(a), read_report_data(b)
    if first.problem or second.problem:
        return "One of the two cannot be read."
    pairs = pair_rows(first, second)
    names = f"{first.name} and {second.name}"
    if not pairs.axes:
        return f"{names} have no axis in common: there is nothing to compare."
    if not pairs.both:
        return f"{names} have no cell in common."
    axes = ", ".join(axis.name.replace("_", " ") for axis in pairs.axes)
    text = f"{names} have {len(pairs.both)} cells in common, by {axes}."
    if len(pairs.both) > _MOST_PIXEL_PAIRS:
        return text
    same = sum(_is_same_image(first, second, *at) for at in pairs.both)
    if same == len(pairs.both):
        return f"{text} All {same} images are the same, pixel for pixel."
    return f"{text} {same} of the images are the same, pixel for pixel." if same else text


def _is_same_image(a: ReportData, b: ReportData, row_a: int, row_b: int) -> bool:
    """Compare pixels: the files of equal images differ by the texts that servers write into them."""
    files = find_pair_files(a, b, row_a, row_b)
    if files is None or files[2]:
        return files is not None
    try:
        with Image.open(files[0]) as first, Image.open(files[1]) as second:
            return first.size == second.size and np.array_equal(np.asarray(first), np.asarray(second))
    except (OSError, ValueError):
        return False


def render_overview(root: Path) -> str:
    """Render the page that lists the runs in `root`."""
    runs = [summarize_run(root / name) for name in list_run_folders(root)]
    name = root.resolve().name
    return render_overview_page({"folder": name, "runs": runs}, {"folder": f"{name}/", "count": len(runs)})


HOST: Final = "127.0.0.1"
_PATIENCE: Final = 15.0  # seconds after which a silent stream says that it is still there
_MOST_BODY: Final = 4 * 2**20  # bytes of ratings
_TO_ARRIVE: Final = 0.5  # seconds for a page to arrive at the browser before the server may end
_TO_CLOSE: Final = 5.0  # seconds for the server to close its connections
_TO_REPORT: Final = 20.0  # seconds that the end of a run waits for its page to become the report
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
OnOpened: TypeAlias = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class LiveView:
    """A live page. `url` holds the token without which the server answers nothing."""

    url: str
    feed: Feed
    server: _Server

    def on_event(self, event: object) -> None:  # noqa: ARG002  any event means that the journal may have news
        """Look at the journal soon. Pass it to the engine as a listener; call it on the event loop."""
        self.feed.wake()

    async def finish(self, *, measure: bool = True) -> None:
        """Turn open pages into the report of a run that has ended, and wait until they have it.

        With `measure`, images not measured yet are measured for it.
        """
        await self.feed.finish(await run_sync(study_folder, self.feed.folder) if measure else None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.server.wait_for_report(self.feed), _TO_REPORT)


async def serve_view(
    folder: Path, *, host: str = HOST, port: int = 0, opened: OnOpened | None = None, all_runs: bool = False
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
    server = _Server(Path(folder), host, studies=studies, all_runs=all_runs)
    feed = Feed(Path(folder), studies=False) if all_runs else await server.feed("")
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        server.port = runner.addresses[0][1]
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104  only compared
        yield LiveView(f"http://{shown}:{server.port}/{server.token}/", feed, server)
    finally:
        with move_on_after(_TO_CLOSE, shield=True):  # also when the caller is cancelled: the socket must close
            await server.stop()
            await runner.cleanup()


class _Server:
    def __init__(self, folder: Path, host: str, *, studies: bool, all_runs: bool) -> None:
        self.token = secrets.token_urlsafe(24)
        self.port = 0
        self._folder = folder
        self._host = host
        self._studies = studies
        self._all_runs = all_runs
        self._feeds: dict[str, Feed] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._opening = asyncio.Lock()
        self._making = CapacityLimiter(2)
        self._streams: dict[asyncio.Task[None], Feed] = {}

    def app(self) -> web.Application:
        """Build the routes: those of a run directly under the token, or under its name beside the overview."""
        app = web.Application(middlewares=[self._guard], client_max_size=_MOST_BODY)
        add = app.router.add_get
        run = "/{token}/{run}" if self._all_runs else "/{token}"
        if self._all_runs:
            add("/{token}/", self._overview)
            add("/{token}/runs", self._runs)
            add("/{token}/shared", self._shared)
            add("/{token}/compare", self._compare)
        add(f"{run}/", self._page)
        add(f"{run}/events", self._events)
        add(f"{run}/thumbs/{{head}}/{{name}}.webp", self._thumb)
        add(f"{run}/{{path:(?:images|inputs)/.+}}", self._file)
        app.router.add_post(f"{run}/ratings", self._ratings)
        return app

    async def feed(self, name: str, *, follow: bool = True) -> Feed:
        """Return the feed of a run, read at least once. Raises HTTPNotFound for a name that is no run.

        Without `follow` it is not kept up to date: the overview shows images of runs that nobody has opened.
        """
        async with self._opening:
            if name not in self._feeds:
                if self._all_runs and name not in await run_sync(list_run_folders, self._folder):
                    raise web.HTTPNotFound
                feed = Feed(self._folder / name, studies=self._studies)
                await feed.refresh()
                self._feeds[name] = feed
        if follow and name not in self._following:
            self._following[name] = asyncio.create_task(self._feeds[name].follow())
        return self._feeds[name]

    async def wait_for_report(self, feed: Feed) -> None:
        """Wait until a page that listens to `feed` has become the report; at once where none listens."""
        if any(listening is feed for listening in self._streams.values()):
            await feed.delivered.wait()

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
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            raise web.HTTPNotFound
        origin = request.headers.get("Origin")
        if request.method != "GET" and origin is not None and origin != f"http://{host}":
            raise web.HTTPForbidden(text="Only this page may write.")
        response = await handler(request)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _of(self, request: web.Request, *, follow: bool = True) -> Feed:
        return await self.feed(request.match_info.get("run", ""), follow=follow)

    async def _page(self, request: web.Request) -> web.Response:
        feed = await self._of(request)
        await feed.refresh()
        answer = _answer_page(await run_sync(_render, feed))
        if feed.is_reported:
            asyncio.get_running_loop().call_later(_TO_ARRIVE, feed.delivered.set)
        return answer

    async def _thumb(self, request: web.Request) -> web.StreamResponse:
        feed, identity = await self._of(request, follow=False), request.match_info["name"]
        image = feed.find_image(identity)
        if image is None and request.match_info.get("run", "") not in self._following:
            await feed.refresh()
            image = feed.find_image(identity)
        thumbs = Thumbnails(feed.folder)
        made = image and await run_sync(thumbs.find_or_make, identity, image, limiter=self._making)
        if made is None:
            raise web.HTTPNotFound
        return web.FileResponse(made, headers={"Content-Type": "image/webp"})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        feed, path = await self._of(request, follow=False), request.match_info["path"]
        if not (path in feed.snapshot.served and await run_sync((feed.folder / path).is_file)):
            raise web.HTTPNotFound
        return web.FileResponse(feed.folder / path)

    async def _ratings(self, request: web.Request) -> web.Response:
        """Keep the ratings and choices of the page in the results folder."""
        feed = await self._of(request)
        try:
            ratings = _RatingsFile.model_validate_json(await request.text())
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"These are not ratings: {error}") from error
        await run_sync(_write_ratings, feed.folder / RATINGS_JSON, ratings)
        feed.wake()
        return web.json_response({"kept": len(ratings.ratings)})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Send server-sent events: `rows` with what changed since the generation the page has."""
        feed = await self._of(request)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", **_HEADERS})
        await stream.prepare(request)
        task = asyncio.current_task()
        if task is not None:
            self._streams[task] = feed
            task.add_done_callback(lambda done: self._streams.pop(done, None))
        since = request.headers.get("Last-Event-ID") or request.query.get("since", "")
        seen = int(since) if re.fullmatch("[0-9]{1,19}", since) else 0  # longer is none of ours
        with contextlib.suppress(ConnectionError):
            while True:
                news = await feed.news(seen, _PATIENCE)
                if news is None:
                    await stream.write(b": still here\n\n")
                    continue
                seen = news["generation"]
                text = json.dumps(news, allow_nan=False)
                await stream.write(f"id: {seen}\nevent: rows\ndata: {text}\n\n".encode())
        return stream

    async def _overview(self, _request: web.Request) -> web.Response:
        return _answer_page(await run_sync(render_overview, self._folder), "overview.js")

    async def _runs(self, _request: web.Request) -> web.Response:
        names = await run_sync(list_run_folders, self._folder)
        return web.json_response([await run_sync(summarize_run, self._folder / name) for name in names])

    async def _two(self, request: web.Request) -> tuple[Path, Path]:
        names = [request.query.get(name, "") for name in ("a", "b")]
        known = await run_sync(list_run_folders, self._folder)
        if any(name not in known for name in names):
            raise web.HTTPNotFound
        return self._folder / names[0], self._folder / names[1]

    async def _shared(self, request: web.Request) -> web.Response:
        return web.json_response({"text": await run_sync(count_shared, *await self._two(request))})

    async def _compare(self, request: web.Request) -> web.Response:
        a, b = await self._two(request)
        try:
            text = await run_sync(lambda: compare_runs(a, b).page.read_text(encoding="utf-8"))
        except SweepError as error:
            raise web.HTTPConflict(text=str(error)) from error
        return _answer_page(text)


def _answer_page(text: str, *scripts: str) -> web.Response:
    policy = f"{_build_live_policy(*scripts)}; frame-ancestors 'none'"
    return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})


def _render(feed: Feed) -> str:
    """Render the page of a feed. A report has its thumbnails inside: it outlives the server of `sweep run --view`."""
    data = feed.snapshot.data
    study = feed.study if feed.is_reported else None
    links: ImageLinks | None = None
    inside: dict[str, str] = {}
    if feed.is_reported and not data.frame.empty:
        links, inside = link_images(data, data.folder / "report.html", EMBED_UP_TO)
    facts = describe_page(data, study)
    if feed.snapshot.is_running:  # the page counts by itself, and nothing is wrong yet
        facts |= {"counts": "", "failed": "", "problem": ""}
    return "".join(render_page(feed.page_data(links), facts, inside, csp=_build_live_policy()))


class _Rating(BaseModel, extra="forbid", strict=True):
    stars: Annotated[int, Field(ge=0, le=5)] | None = None
    rejected: bool = False
    note: str = ""


class _Choice(BaseModel, extra="forbid", strict=True):
    left: str
    right: str
    winner: Literal["left", "right", "tie"]
    at: str


class _RatingsFile(BaseModel, strict=True):
    schema_number: Literal[1] = Field(alias="schema")
    ratings: dict[str, _Rating]
    choices: list[_Choice]


def _write_ratings(path: Path, ratings: _RatingsFile) -> None:
    with replace_atomically(path) as file:
        file.write(ratings.model_dump_json(by_alias=True, exclude_unset=True, indent=1).encode())


def _build_live_policy(*scripts: str) -> str:
    return build_policy(*scripts, connect="'self'", images="'self' data: blob:")
