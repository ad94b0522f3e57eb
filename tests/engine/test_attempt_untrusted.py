"""What a server sends is not believed: bad images are rows that say so, names never become paths."""

from __future__ import annotations

import asyncio
import contextlib
import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web
from anyio.abc import TaskStatus

from sweep.engine import attempt, events, run
from sweep.errors import SweepError
from sweep.sandbox import FaultInjection
from sweep.sandbox.running_sandbox import Sandbox
from sweep.sandbox.sandbox_options import BadImage
from sweep.servers import ConnectOptions, InvokeAI, ServerImage
from sweep.servers.http import LARGEST_ANSWER, LARGEST_SCHEMA
from tests.support.engine_bench import AT_ONCE, QUICK, Bench
from tests.support.mutating_proxy import Exchange, open_proxy


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


async def test_hostile_names_are_data_only(bench: Bench, sandbox_with: Callable[..., Any], tmp_path: Path) -> None:
    before = await anyio.to_thread.run_sync(files, tmp_path)
    async with sandbox_with(faults=FaultInjection(bad_image=1.0, bad_images=("hostile-name",))) as hostile:
        summary = await bench.run(await bench.experiment(), hostile.url)
    assert summary.completed + summary.failed == 6  # names that a URL cannot hold in safety are not asked for
    assert summary.completed
    made = await anyio.to_thread.run_sync(files, tmp_path) - before
    assert all(path.is_relative_to(summary.folder) for path in made)
    images = {path.name for path in made if path.parent.name == "images"}
    assert len(images) == summary.completed
    assert not any(strange in name for name in images for strange in ("..", "CON", "onerror", "\\"))


async def test_error_of_a_server_steers_no_terminal_from_a_file(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    hostile = "\x1b[2J\x1b]0;x\x07 \x9b2J \u202e \u200f \u2066 " + "A" * 100_000

    def quote(exchange: Exchange) -> None:
        if b"error_message" in exchange.body:
            exchange.json = _replace_errors(exchange.json, hostile)

    async with sandbox_with(faults=FaultInjection(fail_rate=1.0)) as broken, open_proxy(broken.url, quote) as proxy:
        summary = await bench.run(await bench.experiment(), proxy.url, options=replace(AT_ONCE, attempts=1))
    rows = await anyio.to_thread.run_sync(table, summary.folder)
    assert len(rows) == 6
    for row in rows:
        assert "\\x1b[2J\\x1b]0;x\\x07 \\x9b2J \\u202e \\u200f \\u2066 AAA" in row["error"]
        assert row["error"].isprintable()
        assert len(row["error"]) < 600


def _replace_errors(value: Any, text: str) -> Any:
    if isinstance(value, list):
        return [_replace_errors(each, text) for each in value]
    if not isinstance(value, dict):
        return value
    told = ("error_type", "error_message")
    return {key: text if key in told and each else _replace_errors(each, text) for key, each in value.items()}


@pytest.mark.parametrize("bad", ["truncated", "html", "bomb"])
async def test_what_is_no_image_is_a_row_that_says_so(
    bench: Bench, sandbox_with: Callable[..., Any], bad: BadImage
) -> None:
    async with sandbox_with(faults=FaultInjection(bad_image=1.0, bad_images=(bad,))) as broken:
        experiment = await bench.experiment(axes__denoise_strength=[0.5])
        summary = await bench.run(experiment, broken.url, options=replace(AT_ONCE, attempts=2))
    rows = await anyio.to_thread.run_sync(table, summary.folder)
    assert (summary.exit_code, len(rows)) == (1, 2)
    assert {row["status"] for row in rows} == {"failed"}
    assert all(row["error"].startswith("BadImage: ") and row["attempts"] == "2" for row in rows)
    assert not list((summary.folder / "images").glob("*"))


@pytest.mark.full
async def test_faults_of_every_class_together(bench: Bench, sandbox_with: Callable[..., Any]) -> None:
    """One answer in twenty is replaced: every good point completes, every bad one says what it met."""
    faults = FaultInjection(
        fail_rate=0.05,
        error_500=0.05,
        error_503=0.05,
        error_429=0.05,
        reset=0.05,
        lost_answer=0.05,
        truncated=0.05,
        missing_event=0.05,
        doubled_event=0.05,
        bad_image=0.05,
        socket_drop=0.01,
    )
    experiment = await bench.experiment(axes__seed={"start": 1, "count": 34})
    async with sandbox_with() as server:
        bench.watch(lambda e: setattr(server, "faults", faults) if isinstance(e, events.RunStarted) else None)
        summary = await bench.run(experiment, server.url, options=replace(AT_ONCE, attempts=6))
        rows = await anyio.to_thread.run_sync(table, summary.folder)
        assert len(rows) == 102
        assert summary.completed + summary.failed == 102
        assert summary.completed >= 90
        known = ("OutOfMemoryError", "BadImage", "HTTP 500", "NoAnswer", "Incomplete", "ItemLostError", "BadAnswer")
        assert all(row["error"].startswith(known) for row in rows if row["status"] == "failed")
        assert all(row["image_path"] for row in rows if row["status"] == "completed")
        print(f"\n{summary.completed} completed, {summary.failed} failed, {dict(server.dice.committed)}")


FIVE_GIGABYTES = 5 * 2**30


class Endless:
    """Passes everything on to a sandbox, but answers every download of an image with more than anybody wants."""

    def __init__(self, target: str, declared: int | None) -> None:
        self._target = target
        self._head = f"Content-Length: {declared}" if declared else "Transfer-Encoding: chunked"
        self.sent = 0
        self.url = ""

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if b"/full HTTP" in head.splitlines()[0]:
                await self._pour(writer)
            else:
                await self._pass(head, reader, writer)
        writer.close()

    async def _pour(self, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n{self._head}\r\n\r\n".encode())
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()
            self.sent += 0x10000

    async def _pass(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection, so that every one of them is looked at; the socket of events is one, too."""
        host, port = self._target.removeprefix("http://").split(":")
        there, here = await asyncio.open_connection(host, int(port))
        keep = b"upgrade: websocket" in head.lower()
        here.write(head if keep else head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        async with anyio.create_task_group() as group:
            group.start_soon(_pump, reader, here)
            await _pump(there, writer)
            group.cancel_scope.cancel()
        here.close()

    async def serve(self, ready: TaskStatus[None]) -> None:
        async with await asyncio.start_server(self._meet, "127.0.0.1", 0) as server:
            self.url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
            ready.started()
            await server.serve_forever()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(2**16):
            sink.write(data)
            await sink.drain()


@pytest.mark.parametrize("declared", [FIVE_GIGABYTES, None], ids=["declared", "without-end"])
async def test_what_is_far_too_large_is_a_row_and_not_taken_in(
    bench: Bench, sandbox_with: Callable[..., Any], declared: int | None
) -> None:
    most = 2 * 2**20
    async with sandbox_with() as server, anyio.create_task_group() as group:
        between = Endless(server.url, declared)
        await group.start(lambda *, task_status: between.serve(task_status))
        experiment = await bench.experiment(axes__denoise_strength=[0.5])
        summary = await bench.run(experiment, between.url, options=replace(AT_ONCE, max_image_bytes=most))
        group.cancel_scope.cancel()
    rows = await anyio.to_thread.run_sync(table, summary.folder)
    assert (summary.exit_code, [row["status"] for row in rows]) == (1, ["failed", "failed"])
    assert all(row["error"].startswith("TooLarge: ") and row["attempts"] == "1" for row in rows)
    assert between.sent < 2 * (most + 32 * 2**20), "beside what was read there is what sockets hold"
    assert not list((summary.folder / "images").glob("*"))


async def test_image_that_its_host_saves_takes_no_memory_here_and_is_asked_for_once(
    bench: Bench, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else those of all hosts would be fetched twice, and the second time one after the other."""
    monkeypatch.setattr(attempt, "COMMON_SIZE", 10)
    limits: list[int] = []

    class Host(InvokeAI):
        results = bench.root

        async def save(self, image: ServerImage, limit: int, write: Callable[[bytes], Any]) -> Any:
            limits.append(limit)
            return await anyio.to_thread.run_sync(write, await self.fetch(image, limit))

    host = Host(sandbox.url, ConnectOptions(timings=QUICK))
    summary = await run(await bench.experiment(), [host], options=AT_ONCE, results=bench.root / "results")
    assert (summary.exit_code, limits) == (0, [AT_ONCE.max_image_bytes] * 6)


DEEP = b"[" * 1_000 + b"]" * 1_000


@pytest.mark.parametrize(
    "answer",
    [
        DEEP,
        b'{"version": ' + DEEP + b"}",
        b"<html>Bad gateway</html>",
        b"\xff\xfe\x00",
        b'{"version": "6.14.2"',
        b'{"version": 7}',
        b"null",
        b'{"version": "\\ud800"}',
        b"1e999999",
    ],
    ids=["deep", "deep-inside", "html", "no-text", "cut", "number", "null", "half-surrogate", "infinite"],
)
async def test_any_first_answer_is_a_sentence(bench: Bench, answer: bytes) -> None:
    async def say(_: web.Request) -> web.Response:
        return web.Response(body=answer, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", say)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        with pytest.raises(SweepError) as told:
            await bench.run(await bench.experiment(), f"http://{host}:{port}")
        assert told.value.exit_code == 3
    finally:
        await runner.cleanup()


async def test_an_answer_that_is_too_large_before_the_run_is_the_servers_fault(bench: Bench, sandbox: Sandbox) -> None:
    for path, limit in (("openapi.json", LARGEST_SCHEMA), ("enqueue_batch", LARGEST_ANSWER)):

        def grow(exchange: Exchange, path: str = path, limit: int = limit) -> None:
            if path in exchange.path:
                exchange.body = bytes(limit + 1)

        async with open_proxy(sandbox.url, grow) as proxy:
            with pytest.raises(SweepError, match=rf"^{proxy.url} sent more than \d+ bytes while ") as told:
                await bench.run(await bench.experiment(), proxy.url)
        assert told.value.exit_code == 3, path


async def test_a_version_of_thousands_of_digits_ends_nothing(bench: Bench, sandbox: Sandbox) -> None:
    def count_on(exchange: Exchange) -> None:
        if exchange.path.endswith("/app/version"):
            exchange.json = {**exchange.json, "version": f"6.14.{'9' * 5000}"}

    async with open_proxy(sandbox.url, count_on) as proxy:
        assert (await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url)).completed == 1
