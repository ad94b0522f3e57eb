"""A sandbox with a root, killed and started again: what a real InvokeAI does then."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sweep.errors import UsageError
from sweep.sandbox.sandbox_options import SandboxOptions
from tests.sandbox.conftest import served, until
from tests.support.wire import API, Wire, txt2img, wire

_CHILD = """
import asyncio, sys
from pathlib import Path
from sweep.sandbox import SandboxOptions, serve_sandbox
options = SandboxOptions(root=Path(sys.argv[1]), step_latency=float(sys.argv[2]))
asyncio.run(serve_sandbox(options, lambda url: print(url, flush=True)))
"""


@asynccontextmanager
async def child(root: Path, step_latency: float) -> AsyncIterator[str]:
    """A sandbox in a process of its own, killed at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD, str(root), str(step_latency), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


@pytest.mark.slow
async def test_store_root_is_used_by_one_process(tmp_path: Path) -> None:
    root = tmp_path / "a root"
    async with child(root, 0):
        with pytest.raises(UsageError, match="is in use by another sandbox"):
            async with served(SandboxOptions(root=root)):
                pass
    async with served(SandboxOptions(root=root)) as (_, wire):
        assert (await wire.call("GET", f"{API}/app/version")).status == 200


@pytest.mark.slow
async def test_store_after_a_kill_cancels_the_running_item_and_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "a root"
    async with child(root, 0) as url, wire(url) as found:
        found.queue_id = "default"
        first = await found.run(txt2img(found.model), batch_id="first")
        listed = await found.call("GET", "/sandbox/renders")
    async with child(root, 60) as url, wire(url) as found:
        found.queue_id = "default"
        ids = (await found.enqueue(txt2img(found.model, steps=3), runs=5, batch_id="b")).body["item_ids"]
        found.batches.clear()  # for the wire cancels these when it leaves, before the kill
        await until(lambda: _count(found, "in_progress", 1))
        board = (await found.call("POST", f"{API}/boards/", params={"board_name": "kept"})).body
    options = SandboxOptions(root=root)
    async with served(options) as (sandbox, found):
        found.queue_id = "default"
        await until(lambda: _count(found, "completed", 4))
        items = [await found.ended(item_id) for item_id in sorted(ids)]
        assert [item["status"] for item in items] == ["canceled"] + ["completed"] * 4
        assert items[0]["session"]["results"] == {}
        assert "error_type" not in items[0]
        before = await found.queue("GET", f"i/{first['item_id']}")
        assert before.body == first
        (name,) = (r["image"]["image_name"] for r in first["session"]["results"].values() if "image" in r)
        assert (await found.call("GET", f"{API}/images/i/{name}/full")).data[:4] == b"\x89PNG"
        boards = (await found.call("GET", f"{API}/boards/", params={"all": "true"})).body
        assert [entry["board_id"] for entry in boards] == [board["board_id"]]
        assert set(listed.body) < set(sandbox.renders)
        assert sorted(sandbox.renders.values()) == [1, 4]


async def _count(found: Wire, status: str, count: int) -> bool:
    return bool((await found.queue("GET", "b/b/status")).body[status] == count)


async def test_store_forgets_an_image_without_its_file(tmp_path: Path) -> None:
    options = SandboxOptions(root=tmp_path)
    async with served(options) as (_, found):
        await found.run(txt2img(found.model))
        await found.run(txt2img(found.model, steps=2))
    files = await asyncio.to_thread(lambda: sorted((tmp_path / "images").iterdir()))
    await asyncio.to_thread(files[0].unlink)
    async with served(options) as (_, found):
        listed = (await found.call("GET", f"{API}/images/")).body
        assert [image["image_name"] for image in listed["items"]] == [files[1].name]


async def test_store_keeps_plain_images_without_a_file(tmp_path: Path) -> None:
    options = SandboxOptions(root=tmp_path, paint=False)
    async with served(options) as (_, found):
        item = await found.run(txt2img(found.model))
    (name,) = (r["image"]["image_name"] for r in item["session"]["results"].values() if "image" in r)
    async with served(options) as (_, found):
        assert (await found.call("GET", f"{API}/images/i/{name}/full")).data[:4] == b"\x89PNG"
