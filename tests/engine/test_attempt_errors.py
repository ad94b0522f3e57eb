"""What rows say of failures, how often they are tried, and what a cancelled run leaves on record."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import pytest

from sweep.engine import events
from sweep.engine.shutdown import Stop
from sweep.record import RecordedResults, read_folder_status
from sweep.sandbox.running_sandbox import Sandbox
from tests.support.engine_bench import MOST_OPEN, ONE_BY_ONE, Bench
from tests.support.mutating_proxy import Exchange, open_proxy


def fail_items(kind: str, message: str) -> Callable[[Exchange], None]:
    """Have the server say of every completed item that its sampling failed."""

    def mutate(exchange: Exchange) -> None:
        if "/i/" in exchange.path and "images" not in exchange.path:
            item = exchange.json
            session = item["session"]
            node = next(n for n, source in session["prepared_source_mapping"].items() if source.startswith("denoise"))
            session["errors"] = {node: message}
            exchange.json = {
                **item,
                "status": "failed",
                "error_type": kind,
                "error_message": message,
                "session": {**session, "results": {}},
            }
        elif "item_summaries_by_ids" in exchange.path:
            exchange.json = [
                {**each, "status": "failed" if each["status"] == "completed" else each["status"]}
                for each in exchange.json
            ]

    return mutate


def drop_cancellations(text: str) -> str:
    """Leave out events that an item was cancelled, as a server does that tells it of whole batches."""
    return "6" if re.search(r'"status": ?"canceled"|queue_items_canceled', text) else text


@pytest.mark.parametrize(
    ("kind", "message", "hint", "renders"),
    [
        ("OutOfMemoryError", "CUDA out of memory.", "Render smaller images", 2),
        ("UnknownModelException", "Unknown model", "Install the model", 1),
        ("ValueError", "A tensor with NaN was produced in half precision", "VAE precision", 1),
        ("ValueError", "sizes differ", "", 1),
    ],
)
async def test_failed_row_names_its_node_and_what_to_do(
    bench: Bench, sandbox: Sandbox, kind: str, message: str, hint: str, renders: int
) -> None:
    async with open_proxy(sandbox.url, fail_items(kind, message)) as proxy:
        proxy.mutate_event = lambda text: "6" if text.startswith("42") else text
        summary = await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url)
    (failed,) = bench.of(events.Failed)
    assert summary.failed == 1
    assert failed.error.startswith(f"{kind}: denoise")
    assert hint in failed.error
    assert list(sandbox.renders.values()) == [renders]


@pytest.mark.slow
async def test_images_that_are_all_gone_end_the_run_after_few_renders(bench: Bench, sandbox: Sandbox) -> None:
    def lose(exchange: Exchange) -> None:
        if exchange.path.endswith("/full"):
            exchange.status, exchange.json = 404, {"detail": "Image not found"}

    async with open_proxy(sandbox.url, lose) as proxy:
        experiment = await bench.experiment(axes={"seed": {"start": 1, "count": 40}})
        summary = await bench.run(experiment, proxy.url, options=ONE_BY_ONE)
    assert summary.exit_code == 1
    assert summary.ending == "stopped-by-failures"
    assert sum(sandbox.renders.values()) <= ONE_BY_ONE.alike + MOST_OPEN


async def test_cancelled_items_of_which_no_event_tells_are_on_record_at_once(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    stop = Stop()
    bench.watch(lambda event: stop.request(2) if isinstance(event, events.Started) else None)
    async with sandbox_with(latency=60) as server, open_proxy(server.url) as proxy:
        proxy.mutate_event = drop_cancellations
        timings = bench.quick(poll_listening=60)
        summary = await bench.run(await bench.experiment(), proxy.url, stop=stop, timings=timings)
    status = await anyio.to_thread.run_sync(read_folder_status, summary.folder)
    assert summary.ending == "cancelled"
    assert not [notice for notice in bench.of(events.Notice) if "did not answer" in notice.message]
    assert status.cancelled > 0
    assert status.open == 0


async def test_item_that_a_cancelled_run_could_not_ask_about_counts_no_attempt(
    bench: Bench, sandbox_with: Callable[..., Any]
) -> None:
    """The server cancels; its answers do not come any more: the next run knows why the item is cancelled."""
    stop, silent = Stop(), False

    def watch(event: events.Event) -> None:
        nonlocal silent
        if isinstance(event, events.Started):
            stop.request(2)
            silent = True

    def mutate(exchange: Exchange) -> None:
        if silent and ("summaries" in exchange.path or "/b/" in exchange.path or "/i/" in exchange.path):
            exchange.status, exchange.json = 500, {}

    bench.watch(watch)
    experiment = await bench.experiment(axes={"seed": [1]})
    async with sandbox_with(latency=1) as server, open_proxy(server.url, mutate) as proxy:
        proxy.mutate_event = drop_cancellations
        await bench.run(experiment, proxy.url, stop=stop)
        silent = False
        bench.watch(lambda _: None)
        summary = await bench.run(experiment, proxy.url)
        assert len(server.renders) == 1
    (row,) = await anyio.to_thread.run_sync(lambda: list(RecordedResults(summary.folder).rows()))
    assert (summary.exit_code, summary.completed) == (0, 1)
    assert not bench.of(events.Retrying)
    assert row["attempts"] == 1


async def test_an_item_that_arrives_after_its_request_broke_off_is_rendered_once(
    bench: Bench, sandbox: Sandbox
) -> None:
    """A proxy that gave up too early: the server has nothing at the first look, and the item at the second."""
    looks = 0

    def give_up(exchange: Exchange) -> None:
        nonlocal looks
        if exchange.path.endswith("enqueue_batch") and exchange.json["enqueued"] and not looks:
            exchange.status = 504
        elif re.search(r"/b/.+/status$", exchange.path):
            looks += 1
            exchange.json = {**exchange.json, "total": 0 if looks == 1 else exchange.json["total"]}

    async with open_proxy(sandbox.url, give_up) as proxy:
        summary = await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url)
    assert summary.completed == 1
    assert list(sandbox.renders.values()) == [1]
