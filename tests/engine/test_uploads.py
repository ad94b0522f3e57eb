"""Input images are uploaded once per server and content, over runs and experiments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio.to_thread
import pytest

from sweep.engine.uploads import find_user_cache
from sweep.sandbox.service import Sandbox
from tests.support.engine_bench import AT_ONCE, Bench
from tests.support.mutating_proxy import Exchange, open_proxy

UPLOAD = "POST /api/v1/images/upload"


def hide_the_sandbox(exchange: Exchange) -> None:
    """A sandbox is not remembered in the user's file; as an InvokeAI it is."""
    if exchange.path.endswith("/app/version"):
        exchange.json = {"version": exchange.json["version"]}


async def test_resumed_run_uploads_no_image_again(bench: Bench, sandbox: Sandbox) -> None:
    await bench.run(await bench.experiment(axes={"seed": [1]}), sandbox.url)
    summary = await bench.run(await bench.experiment(axes={"seed": [1, 2]}), sandbox.url)
    assert (summary.rendered, sandbox.requests[UPLOAD]) == (1, 1)


async def test_image_that_the_server_lost_is_uploaded_again(bench: Bench, sandbox: Sandbox) -> None:
    lost = False

    def lose(exchange: Exchange) -> None:
        if lost and exchange.method == "GET" and "/images/i/" in exchange.path and not exchange.path.endswith("/full"):
            exchange.status, exchange.json = 404, {"detail": "no"}

    async with open_proxy(sandbox.url, lose) as proxy:
        await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url)
        lost = True
        summary = await bench.run(await bench.experiment(axes={"seed": [1, 2]}), proxy.url)
    assert (summary.rendered, proxy.seen[UPLOAD]) == (1, 2)


@pytest.mark.parametrize("damage", ["", "[1]", "{", '{"http://x": 3}'])
async def test_other_experiment_finds_the_upload_in_the_users_file(
    bench: Bench, sandbox: Sandbox, tmp_path: Path, damage: str
) -> None:
    cache = tmp_path / "cache" / "uploads.json"
    options = replace(AT_ONCE, user_cache=cache)
    async with open_proxy(sandbox.url, hide_the_sandbox) as proxy:
        await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url, options=options)
        if damage:
            await anyio.to_thread.run_sync(cache.write_text, damage)
        other = await bench.experiment(name="other", axes={"seed": [2]})
        summary = await bench.run(other, proxy.url, options=options)
    assert (summary.exit_code, proxy.seen[UPLOAD]) == (0, 2 if damage else 1)


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"SWEEP_CACHE": "/c", "HOME": "/h"}, "/c/sweep/uploads.json"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/sweep/uploads.json"),
        ({"HOME": "/h"}, "/h/.cache/sweep/uploads.json"),
        ({}, None),
    ],
)
def test_users_file_lies_where_the_system_keeps_caches(environ: dict[str, str], path: str | None) -> None:
    assert find_user_cache(environ) == (Path(path) if path else None)
