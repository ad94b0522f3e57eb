"""A bench, a sandbox and sandboxes with options for the engine's end-to-end tests: real sockets, files and SQLite.

They paint where a test asks for it: each image would cost a third of what a run with it costs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep.record import results_folder
from sweep.sandbox import SandboxOptions, sandbox_server
from sweep.sandbox.running_sandbox import Sandbox
from tests.support.engine_bench import Bench

UNPAINTED = SandboxOptions(paint=False, plain_side=64)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose runs leave results.parquet empty: it costs as much as an image, and the record's tests read it."""
    monkeypatch.setattr(results_folder, "write_parquet_file", lambda path, _: path.touch())
    photo = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    photo.save(tmp_path / "photo.png")
    return Bench(tmp_path)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with sandbox_server(UNPAINTED) as server:
        yield server


@pytest.fixture
def sandbox_with() -> Callable[..., Any]:
    @asynccontextmanager
    async def make(**options: Any) -> AsyncIterator[Sandbox]:
        async with sandbox_server(replace(UNPAINTED, **options)) as server:
            yield server

    return make
