"""Completed images that are gone from the folder, or not what was written, are rendered again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from sweep.engine import events
from sweep.errors import UsageError
from sweep.record import RecordedResults, read_painted
from sweep.sandbox.running_sandbox import Sandbox
from tests.support.engine_bench import AT_ONCE, Bench
from tests.support.left_out import mark_rest_slow
from tests.support.mutating_proxy import Exchange, open_proxy


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_with_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    path.rmdir()


@pytest.mark.parametrize("spoil", mark_rest_slow([truncate, Path.unlink, empty, replace_with_a_folder]))
@pytest.mark.parametrize("count", mark_rest_slow([6, 1]))
async def test_lost_images_are_rendered_again_and_no_others(
    bench: Bench, sandbox: Sandbox, spoil: Callable[[Path], object], count: int
) -> None:
    experiment = await bench.experiment()
    folder = (await bench.run(experiment, sandbox.url)).folder

    def spoil_some() -> None:
        for path in sorted((folder / "images").iterdir())[:count]:
            spoil(path)

    await anyio.to_thread.run_sync(spoil_some)
    summary = await bench.run(experiment, sandbox.url)
    assert (summary.exit_code, summary.completed, summary.rendered) == (0, 6, count)
    assert sorted(sandbox.renders.values()) == [1] * (6 - count) + [2] * count
    assert await anyio.to_thread.run_sync(RecordedResults(folder).verify) == []
    assert any("rendered again" in notice.message for notice in bench.of(events.Notice))


async def test_swapped_images_are_found_by_their_hash_where_that_is_asked_for(bench: Bench, sandbox: Sandbox) -> None:
    experiment = await bench.experiment()
    folder = (await bench.run(experiment, sandbox.url)).folder

    def flip_a_byte() -> None:
        path = min((folder / "images").iterdir())
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)

    await anyio.to_thread.run_sync(flip_a_byte)
    assert (await bench.run(experiment, sandbox.url)).rendered == 0
    assert len(await anyio.to_thread.run_sync(RecordedResults(folder).verify)) == 1
    assert (await bench.run(experiment, sandbox.url, options=replace(AT_ONCE, verify=True))).rendered == 1


async def test_painted_images_are_set_aside_for_real_ones(bench: Bench, sandbox: Sandbox) -> None:
    """The sandbox first, then a server: two folders, the same seeds, and nothing of the one in the other."""
    experiment = await bench.experiment(axes={"seed": {"count": 2}})
    painted = await bench.run(experiment, sandbox.url)
    async with open_proxy(sandbox.url, hide_the_sandbox) as proxy:
        real = await bench.run(experiment, proxy.url)
        again = await bench.run(experiment, proxy.url)
    assert (painted.rendered, real.rendered, again.rendered) == (2, 2, 0)
    folders = [bench.root / "results" / name for name in ("small", "small-sandbox")]
    kinds = [await anyio.to_thread.run_sync(read_painted, folder) for folder in folders]
    assert kinds == [{False}, {True}]
    seeds = [await anyio.to_thread.run_sync(read_seeds, folder) for folder in folders]
    assert seeds[0] == seeds[1]
    assert any("painted are in" in event.message for event in bench.of(events.Notice))


async def test_sandbox_paints_nothing_among_real_images(bench: Bench, sandbox: Sandbox) -> None:
    async with open_proxy(sandbox.url, hide_the_sandbox) as proxy:
        await bench.run(await bench.experiment(axes={"seed": [1]}), proxy.url)
    with pytest.raises(UsageError, match="holds images of a real server"):
        await bench.run(await bench.experiment(axes={"seed": [1, 2]}), sandbox.url)
    whole = await bench.run(await bench.experiment(axes={"seed": [1]}), sandbox.url)
    assert (whole.exit_code, whole.rendered) == (0, 0), "with nothing to render there is nothing to mix"


def read_seeds(folder: Path) -> list[object]:
    return [row["seed"] for row in RecordedResults.open(folder).rows()]


def hide_the_sandbox(exchange: Exchange) -> None:
    if exchange.path.endswith("/app/version"):
        exchange.json = {"version": exchange.json["version"]}
