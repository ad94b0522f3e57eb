"""Answers that a server should not give: what the run does, and how often the server renders."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sweep.engine import events
from sweep.errors import ServerUnreachableError
from sweep.sandbox.running_sandbox import Sandbox
from tests.support.engine_bench import Bench
from tests.support.left_out import mark_rest_slow
from tests.support.mutating_proxy import Exchange, open_proxy

KEY = "enqueued"


def change_json(path: str, change: Callable[[Any], Any], *, times: int = 10**9, after: int = 0) -> Callable[..., None]:
    """A mutation of the JSON answers to paths that contain `path`: some of them, not the first `after`."""
    seen = 0

    def mutate(exchange: Exchange) -> None:
        nonlocal seen
        if path in exchange.path and exchange.status == 200:
            seen += 1
            if after < seen <= after + times:
                exchange.json = change(exchange.json)

    return mutate


def fail_with(path: str, status: int, *, times: int = 1) -> Callable[..., None]:
    """A mutation that turns answers into errors."""
    seen = 0

    def mutate(exchange: Exchange) -> None:
        nonlocal seen
        if path in exchange.path:
            seen += 1
            if seen <= times:
                exchange.status, exchange.json = status, {"detail": "no"}

    return mutate


@pytest.mark.parametrize("status", mark_rest_slow([422, 400, 413, 415]))
async def test_refused_question_for_states_neither_hangs_nor_renders_twice(
    bench: Bench, sandbox: Sandbox, status: int
) -> None:
    async with open_proxy(sandbox.url, fail_with("item_summaries_by_ids", status)) as proxy:
        proxy.mutate_event = lambda text: "6" if "queue_item_status_changed" in text else text  # events do not help
        summary = await bench.run(await bench.experiment(), proxy.url)
    assert (summary.exit_code, summary.completed) == (0, 6)
    assert set(sandbox.renders.values()) == {1}


@pytest.mark.parametrize(
    "event",
    mark_rest_slow(
        [
            {"status": "completed", "created_at": "0001-01-01T00:00:00+23:59"},
            {"status": ["completed"]},
            {"status": None, "started_at": {}},
            {"batch_id": {"a": 1}},
            {"item_id": "9" * 4000},
        ],
        quick=2,
    ),
)
async def test_event_that_cannot_be_read_costs_nothing(bench: Bench, sandbox: Sandbox, event: dict[str, Any]) -> None:
    def mutate(text: str) -> str:
        if "queue_item_status_changed" not in text:
            return text
        name, data = json.loads(text[2:])
        return "42" + json.dumps([name, {**data, **event}])

    async with open_proxy(sandbox.url) as proxy:
        proxy.mutate_event = mutate
        summary = await bench.run(await bench.experiment(), proxy.url)
    assert (summary.exit_code, summary.completed) == (0, 6)
    assert set(sandbox.renders.values()) == {1}


async def test_node_name_of_another_type_restarts_the_listening(bench: Bench, sandbox: Sandbox) -> None:
    def mutate(text: str) -> str:
        if "invocation_complete" not in text:
            return text
        name, data = json.loads(text[2:])
        return "42" + json.dumps([name, {**data, "invocation_source_id": ["a"], "result": {"image": []}}])

    async with open_proxy(sandbox.url) as proxy:
        proxy.mutate_event = mutate
        summary = await bench.run(await bench.experiment(), proxy.url)
    assert (summary.exit_code, set(sandbox.renders.values())) == (0, {1})


async def test_ping_interval_of_thousands_of_digits_is_ignored(bench: Bench, sandbox: Sandbox) -> None:
    async with open_proxy(sandbox.url) as proxy:
        proxy.mutate_event = lambda text: (
            '0{"sid":"x","pingInterval":' + "9" * 4000 + ',"pingTimeout":1}' if text.startswith("0") else text
        )
        summary = await bench.run(await bench.experiment(), proxy.url)
    assert summary.exit_code == 0


@pytest.mark.parametrize("value", mark_rest_slow(["missing", "1", None, "one", True, 1.0, [], 2**80], quick=2))
async def test_enqueued_that_is_no_integer_is_looked_up_and_not_sent_again(
    bench: Bench, sandbox: Sandbox, value: object
) -> None:
    def change(answer: dict[str, Any]) -> dict[str, Any]:
        rest = {name: each for name, each in answer.items() if name != KEY}
        return rest if value == "missing" else {**rest, KEY: value}

    some = change_json("enqueue_batch", change, times=8)  # not all: a client that sends again comes to an end, too
    async with open_proxy(sandbox.url, some) as proxy:
        summary = await bench.run(await bench.experiment(), proxy.url)
    assert (summary.exit_code, summary.completed) == (0, 6)
    assert sorted(sandbox.renders.values()) == [1] * 6


@pytest.mark.parametrize(
    ("path", "change"),
    mark_rest_slow(
        [
            ("/i/", lambda answer: {**answer, "session": None}),
            ("item_summaries_by_ids", lambda _: {}),
            ("item_summaries_by_ids", lambda _: None),
            ("item_summaries_by_ids", lambda answer: [{**each, "item_id": str(each["item_id"])} for each in answer]),
            ("item_summaries_by_ids", lambda answer: [{**each, "status": 3} for each in answer]),
            ("item_summaries_by_ids", lambda answer: [None for _ in answer]),
            ("/i/", lambda answer: {**answer, "session": {"results": []}}),
            ("/i/", lambda answer: {**answer, "status": ["completed"]}),
            ("/i/", lambda _: []),
        ],
        quick=2,
    ),
)
async def test_state_that_cannot_be_read_is_asked_again_and_not_rendered_again(
    bench: Bench, sandbox: Sandbox, path: str, change: Callable[[Any], Any]
) -> None:
    mutate = change_json(path, change, times=3)
    async with open_proxy(sandbox.url, mutate) as proxy:
        proxy.mutate_event = lambda text: "6" if text.startswith("42") else text
        summary = await bench.run(await bench.experiment(), proxy.url)
    assert (summary.exit_code, summary.completed) == (0, 6)
    assert sorted(sandbox.renders.values()) == [1] * 6


@pytest.mark.parametrize("total", mark_rest_slow([None, "1", "missing", [], 1.5]))
async def test_total_that_is_no_number_never_means_that_a_batch_is_not_there(
    bench: Bench, sandbox: Sandbox, total: object
) -> None:
    def mutate(exchange: Exchange) -> None:
        if exchange.path.endswith("enqueue_batch") and b'"check-' not in exchange.request:
            if mutate.lost < 3:  # type: ignore[attr-defined]
                mutate.lost += 1  # type: ignore[attr-defined]
                exchange.status, exchange.json = 500, {}
        elif "/b/" in exchange.path and mutate.asked < 2:  # type: ignore[attr-defined]
            mutate.asked += 1  # type: ignore[attr-defined]
            answer = exchange.json
            del answer["total"]
            exchange.json = answer if total == "missing" else {**answer, "total": total}

    mutate.lost = mutate.asked = 0  # type: ignore[attr-defined]
    async with open_proxy(sandbox.url, mutate) as proxy:
        summary = await bench.run(await bench.experiment(), proxy.url)
    assert (summary.exit_code, summary.completed) == (0, 6)
    assert sorted(sandbox.renders.values()) == [1] * 6


async def test_item_whose_acceptance_arrives_as_overload_is_not_sent_again(bench: Bench, sandbox: Sandbox) -> None:
    """A proxy says 503 also where the server took the request and the connection to it broke after that."""
    async with open_proxy(sandbox.url) as proxy:

        def refuse(exchange: Exchange) -> None:
            if exchange.path.endswith("enqueue_batch") and b"check-" not in exchange.request:
                exchange.status, exchange.json = 503, {}
                proxy.mutate = lambda _: None

        proxy.mutate = refuse
        summary = await bench.run(await bench.experiment(), proxy.url)
    assert (summary.exit_code, summary.completed) == (0, 6)
    assert sorted(sandbox.renders.values()) == [1] * 6


@pytest.mark.parametrize(
    ("path", "status", "times"),
    mark_rest_slow([("/full", 502, 30), ("/full", 404, 30), ("default/i/", 404, 3), ("/full", 504, 30)], quick=3),
)
async def test_answer_of_a_proxy_whose_server_is_away_says_nothing_about_item_or_image(
    bench: Bench, sandbox: Sandbox, path: str, status: int, times: int
) -> None:
    """Some proxies say 404, as text and to every path, while the server behind them starts anew."""
    is_away = False

    def fail(exchange: Exchange) -> None:
        nonlocal times, is_away
        is_away = times > 0 and (path in exchange.path or (is_away and status == 404))
        if is_away:
            times -= 1
            exchange.status, exchange.body = status, b"404 page not found\n"
            exchange.headers["Content-Type"] = "text/plain"

    async with open_proxy(sandbox.url, fail) as proxy:
        proxy.mutate_event = lambda text: "6" if text.startswith("42") else text
        summary = await bench.run(await bench.experiment(), proxy.url)
    assert (summary.exit_code, summary.completed, times) == (0, 6, 0)
    assert sorted(sandbox.renders.values()) == [1] * 6


async def test_run_stands_a_server_whose_404s_are_pages(bench: Bench, sandbox: Sandbox) -> None:
    """Some proxies, and servers of other frameworks, write a page; an older release has not all paths, either."""
    lacking = ["item_summaries_by_ids", "counts_by_destination", "auth/status"]

    def write_page(exchange: Exchange) -> None:
        if exchange.status == 404 or any(path in exchange.path for path in lacking):
            exchange.status, exchange.body = 404, b"<h1>Not Found</h1>"
            exchange.headers["Content-Type"] = "text/html"

    async with open_proxy(sandbox.url, write_page) as proxy:
        proxy.mutate_event = lambda text: "6" if text.startswith("42") else text
        summary = await bench.run(await bench.experiment(), proxy.url)
    assert (summary.exit_code, summary.completed) == (0, 6)
    assert sorted(sandbox.renders.values()) == [1] * 6


@pytest.mark.slow  # it waits for deadlines that are long enough for all other answers, however slow this machine is
@pytest.mark.parametrize("path", ["/full", "app/version", "openapi.json", "enqueue_batch"])
async def test_answer_that_trickles_ends_at_its_deadline(bench: Bench, sandbox: Sandbox, path: str) -> None:
    """A byte now and then keeps no read from timing out; the whole answer has a deadline, too."""
    slow = 0

    def mutate(exchange: Exchange) -> None:
        nonlocal slow
        if path in exchange.path and slow < 2:
            slow += 1
            exchange.trickle = 0.05

    experiment = await bench.experiment()
    async with open_proxy(sandbox.url, mutate) as proxy:
        if path == "app/version":
            with pytest.raises(ServerUnreachableError, match="does not answer"):
                await bench.run(experiment, proxy.url, timings=bench.quick(read=4))
            return
        summary = await bench.run(experiment, proxy.url, timings=bench.quick(read=4))
    assert (summary.exit_code, summary.completed) == (0, 6)
    assert sorted(sandbox.renders.values()) == [1] * 6


async def test_paused_queue_is_reported_once(bench: Bench, sandbox: Sandbox) -> None:
    paused = True

    def mutate(exchange: Exchange) -> None:
        if exchange.path.endswith("/status") and "/b/" not in exchange.path and paused:
            exchange.json = {**exchange.json, "processor": {"is_started": False, "is_processing": False}}
        if "item_summaries_by_ids" in exchange.path and paused:
            exchange.json = [{**each, "status": "pending"} for each in exchange.json]

    def resume(event: events.Event) -> None:
        nonlocal paused
        paused = paused and not (isinstance(event, events.Notice) and "is paused" in event.message)

    bench.watch(resume)
    async with open_proxy(sandbox.url, mutate) as proxy:
        proxy.mutate_event = lambda text: "6" if text.startswith("42") else text
        summary = await bench.run(await bench.experiment(), proxy.url)
    reports = [notice.message for notice in bench.of(events.Notice) if "paused" in notice.message]
    assert summary.exit_code == 0
    assert len(reports) == 1
    assert reports[0].startswith("Waiting: the queue of")
