"""Every fault the sandbox can be told to commit, as a client meets it."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from dataclasses import fields, replace
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from PIL import Image
from yarl import URL

from sweep.sandbox.sandbox_options import HTTP_FAULTS, FaultDice, FaultInjection, SandboxOptions
from tests.sandbox.conftest import served, until
from tests.support.wire import API, Wire, add, txt2img

STATUS = f"{API}/queue/default/status"


def _only(fault: str, base: FaultInjection) -> FaultInjection:
    """That fault at every chance."""
    change: Any = {fault: 1.0}
    return replace(base, **change)


async def _item(wire: Wire, **fields_: Any) -> dict[str, Any]:
    return await wire.run(txt2img(wire.model, **fields_))


def _image_name(item: dict[str, Any]) -> str:
    (name,) = (
        result["image"]["image_name"]
        for result in item["session"]["results"].values()
        if result["type"] == "image_output"
    )
    return str(name)


@pytest.mark.parametrize(
    ("fault", "status", "wait"),
    [
        ("error_500", 500, None),
        ("error_503", 503, "2"),
        ("error_429", 429, "2"),
        ("error_401", 401, None),
        ("error_403", 403, None),
    ],
)
async def test_injected_http_errors_are_answered(fault: str, status: int, wait: str | None) -> None:
    async with served() as (sandbox, wire):
        sandbox.faults = _only(fault, FaultInjection(retry_after=1.5))
        reply = await wire.call("GET", STATUS)
        assert (reply.status, reply.headers.get("retry-after")) == (status, wait)
        assert isinstance(reply.body["detail"], str)
        sandbox.faults = FaultInjection()
        assert sandbox.dice.committed == {fault: 1}


async def test_injected_reset_enqueues_nothing_and_a_lost_answer_does() -> None:
    async with served() as (sandbox, wire):
        for fault, made in (("reset", 0), ("lost_answer", 1)):
            sandbox.faults = _only(fault, FaultInjection(only="enqueue_batch", most=99))
            with pytest.raises(aiohttp.ClientError):
                await wire.enqueue(txt2img(wire.model), batch_id=fault)
            sandbox.faults = FaultInjection()
            assert (await wire.queue("GET", f"b/{fault}/status")).body["total"] == made


async def test_injected_truncation_cuts_a_body() -> None:
    async with served() as (sandbox, wire):
        sandbox.faults = FaultInjection(truncated=1.0, only="openapi")
        with pytest.raises(aiohttp.ClientPayloadError):
            await wire.call("GET", "/openapi.json")
        sandbox.faults = FaultInjection()


async def test_injected_delay_answers_in_the_end() -> None:
    async with served() as (sandbox, wire):
        sandbox.faults = FaultInjection(slow=1.0, slow_seconds=0.01)
        assert (await wire.call("GET", STATUS)).status == 200
        assert sandbox.dice.committed == {"slow": 1}


async def test_faults_apply_to_their_path_and_number() -> None:
    async with served() as (sandbox, wire):
        sandbox.faults = FaultInjection(error_500=1.0, only="/status", spare=1, most=2)
        replies = [(await wire.call("GET", STATUS)).status for _ in range(5)]
        assert replies == [200, 500, 500, 200, 200]
        assert (await wire.call("GET", f"{API}/app/version")).status == 200


def test_faults_are_the_same_for_the_same_seed() -> None:
    def rolls(seed: int) -> list[str | None]:
        dice = FaultDice(FaultInjection(error_500=0.2, reset=0.1), seed)
        return [dice.draw_http_fault("/x") for _ in range(200)]

    assert rolls(3) == rolls(3) != rolls(4)
    assert 20 < Counter(rolls(3))["error_500"] < 60


def test_faults_are_all_options() -> None:
    assert set(HTTP_FAULTS) < {field.name for field in fields(FaultInjection)}


async def test_injected_failures_may_succeed_when_retried() -> None:
    options = SandboxOptions(faults=FaultInjection(fail_rate=0.5), seed=5)
    async with served(options) as (sandbox, wire):
        failed = [item for item in await wire.run_seeds(range(30)) if item["status"] == "failed"]
        assert 6 < len(failed) < 24
        assert {item["error_type"] for item in failed} == {"OutOfMemoryError"}
        seeds = [item["session"]["graph"]["nodes"]["no"]["seed"] for item in failed]
        again = [item["status"] for item in await wire.run_seeds(seeds)]
        assert {"completed", "failed"} == set(again)
        assert set(sandbox.renders.values()) == {1}


@pytest.mark.parametrize("kind", ["truncated", "html", "bomb"])
async def test_injected_bad_images(kind: Any) -> None:
    options = SandboxOptions(faults=FaultInjection(bad_image=1.0, bad_images=(kind,)))
    async with served(options) as (_, wire):
        name = _image_name(await _item(wire))
        data = (await wire.call("GET", f"{API}/images/i/{name}/full")).data
        with pytest.raises((OSError, SyntaxError, Image.DecompressionBombError)):
            await asyncio.to_thread(lambda: Image.open(io.BytesIO(data)).load())
        assert len(data) < 1_000_000


async def test_injected_names_that_would_leave_the_folder() -> None:
    options = SandboxOptions(faults=FaultInjection(bad_image=1.0, bad_images=("hostile-name",)))
    async with served(options) as (_, wire):
        names = [_image_name(item) for item in await wire.run_seeds(range(7))]
        assert names[0].startswith("../../")
        assert max(map(len, names)) > 300
        for name in names:
            served_as = URL(f"{wire.url}{API}/images/i/{quote(name, safe='')}/full", encoded=True)
            async with wire.session.get(served_as) as response:
                assert (await response.read())[:4] == b"\x89PNG", name


@pytest.mark.parametrize(("fault", "count"), [("missing_event", 0), ("doubled_event", 2)])
async def test_injected_missing_and_doubled_events(fault: str, count: int) -> None:
    async with served() as (sandbox, wire), wire.events() as heard:
        sandbox.faults = _only(fault, FaultInjection())
        await _item(wire)
        sandbox.faults = FaultInjection()
        await wire.run(add(), batch_id="later")
        ended = [data["batch_id"] for _, data in heard if data.get("status") == "completed"]
        await until(lambda: any(data.get("status") == "completed" and data["batch_id"] == "later" for _, data in heard))
        assert len([batch for batch in ended if batch != "later"]) == count


async def test_injected_socket_drops() -> None:
    async with served() as (sandbox, wire), wire.events() as heard:
        sandbox.faults = FaultInjection(socket_drop=1.0)
        await _item(wire)
        assert sandbox.dice.committed["socket_drop"] == 1
        assert len(heard) <= 2
        sandbox.faults = FaultInjection()
