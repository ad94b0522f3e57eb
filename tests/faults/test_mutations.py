"""A server whose answers are changed in every way: no traceback, no run without an end, no memory exhausted."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from PIL import Image

from sweep.sandbox import sandbox_server
from tests.support.mutating_proxy import Exchange, open_proxy

DEADLINE = 50.0  # seconds in which at least one of the runs must end; each waits a second or two for a silent server
MOST_MEGABYTES = 600
PLACES = {
    "version": "/app/version",
    "configuration": "/app/runtime_config",
    "login": "/auth/status",
    "schemas": "/openapi.json",
    "models": "/models/",
    "upload": "/images/upload",
    "enqueue": "/enqueue_batch",
    "queue": "/default/status",
    "batch": "/b/",
    "states": "/item_summaries_by_ids",
    "item": "/i/",
    "image": "/full",
}


def set_body(body: bytes) -> Callable[[Exchange], None]:
    def change(exchange: Exchange) -> None:
        exchange.body = body

    return change


def set_status(status: int) -> Callable[[Exchange], None]:
    def change(exchange: Exchange) -> None:
        exchange.status, exchange.body = status, b'{"detail": "no"}'

    return change


def spoil_values(value: Any) -> Callable[[Exchange], None]:
    """Replace every value of the answer by another, keeping the names."""

    def spoil(found: Any) -> Any:
        if isinstance(found, dict):
            return {name: spoil(each) if isinstance(each, dict | list) else value for name, each in found.items()}
        return [spoil(each) for each in found] if isinstance(found, list) else value

    def change(exchange: Exchange) -> None:
        try:
            exchange.json = spoil(exchange.json)
        except ValueError:  # an image
            exchange.body = exchange.body[: len(exchange.body) // 2]

    return change


def trickle(exchange: Exchange) -> None:
    exchange.trickle = 0.3


CHANGES: Mapping[str, Callable[[Exchange], None]] = {
    "null": set_body(b"null"),
    "array": set_body(b"[]"),
    "text": set_body(b'"no"'),
    "nothing": set_body(b""),
    "no JSON": set_body(b"<html>"),
    "deep": set_body(b"[" * 5000 + b"]" * 5000),
    "huge number": set_body(b'{"enqueued": ' + b"9" * 5000 + b"}"),
    "other types": spoil_values(["x"]),
    "nulls": spoil_values(None),
    "numbers": spoil_values(2**70),
    "status 500": set_status(500),
    "status 422": set_status(422),
    "status 413": set_status(413),
    "trickle": trickle,
}
MUTATIONS = [(place, change) for place, change in product(PLACES, CHANGES)]
ALWAYS = [(list(PLACES)[at % len(PLACES)], change) for at, change in enumerate(CHANGES)]  # every place, every change
LARGE = {
    "array": lambda: b"[" + b"{}," * 20_000_000 + b"{}]",  # 60 MB
    "bytes": lambda: paint(1000, 1000) + bytes(250_000_000),
    "pixels": lambda: paint(12_500, 8_000),
}
LARGE_ANSWERS = [
    *((place, "large array") for place in ("models", "enqueue", "states", "item", "image")),
    ("image", "large bytes"),
    ("image", "large pixels"),
]


def paint(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def mutate_by_prefix(exchange: Exchange) -> None:
    """The first step of the path says which mutation is meant: /m3,/…."""
    _, step, rest = exchange.path.split("/", 2)
    place, _, change = step.partition(",")
    if PLACES[place.replace("_", " ")] not in f"/{rest}" or b'"check-' in exchange.request:
        return
    if change.startswith("large_"):
        exchange.body = LARGE[change.removeprefix("large_")]()
    else:
        CHANGES[change.replace("_", " ")](exchange)


async def run_client(
    folder: Path, mutations: list[tuple[str, str]], *, at_once: int = 14, read: float = 1.5
) -> list[dict[str, Any]]:
    """Run an experiment against each mutation, several at once: most of the time each waits for a silent server."""

    def start() -> subprocess.Popen[str]:
        Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(folder / "photo.png")
        command = [sys.executable, "-m", "tests.support.mutation_client", str(folder), str(at_once), str(read)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(urls: list[str]) -> None:
        assert client.stdin is not None
        client.stdin.write("\n".join(urls))
        client.stdin.close()

    client = await anyio.to_thread.run_sync(start)
    assert client.stdout is not None
    answers = []
    try:
        async with sandbox_server() as server, open_proxy(server.url, mutate_by_prefix, prefixed=True) as proxy:
            urls = [f"{proxy.url}/{place},{change}".replace(" ", "_") for place, change in mutations]
            await anyio.to_thread.run_sync(send, urls)
            for _ in urls:
                with anyio.fail_after(DEADLINE + 10 * read):
                    line = await anyio.to_thread.run_sync(client.stdout.readline, abandon_on_cancel=True)
                answers.append(json.loads(line))
    finally:
        client.kill()
        client.stdout.close()
        await anyio.to_thread.run_sync(client.wait)
    return answers


def check_answers(answers: list[dict[str, Any]]) -> None:
    assert not [each for each in answers if each["traceback"]]
    assert max(each["megabytes"] for each in answers) < MOST_MEGABYTES, answers


@pytest.mark.slow
async def test_answers_changed_in_many_ways_leave_no_traceback_and_no_hang(tmp_path: Path) -> None:
    check_answers(await run_client(tmp_path, ALWAYS))


@pytest.mark.full
@pytest.mark.timeout(3600)
async def test_answers_changed_in_every_way_leave_no_traceback_and_no_hang(tmp_path: Path) -> None:
    assert len(MUTATIONS) >= 60
    check_answers(await run_client(tmp_path, MUTATIONS))


@pytest.mark.full
async def test_answers_of_many_megabytes_are_refused_within_the_memory_limit(tmp_path: Path, capsys: Any) -> None:
    """Arrays of 60 MB, images of 250 MB and of 100 megapixels."""
    answers = await run_client(tmp_path, LARGE_ANSWERS, at_once=1, read=30.0)
    with capsys.disabled():
        print(f"\npeak {max(each['megabytes'] for each in answers):.0f} MB: {[each['outcome'] for each in answers]}")
    check_answers(answers)
