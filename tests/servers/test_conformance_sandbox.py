"""The contract of `Server` against the sandbox, by each API it speaks: the same cases that a real InvokeAI passes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from sweep.sandbox import SandboxOptions, sandbox_server
from sweep.testing import SERVER_CASES
from sweep.testing import servers as conformance
from sweep.testing.servers import ServerCase
from tests.support.scenes import subject

BEYOND_SESSIONS = (conformance.others_are_counted_apart_from_us,)  # the API tells nothing of others
BEYOND_RELEASE_3 = (*BEYOND_SESSIONS, conformance.what_others_cancel_is_lost)  # and nothing of a cancellation


async def check_conformance(case: ServerCase, api: Literal["queue", "sessions", "portable"], folder: Path) -> None:
    options = SandboxOptions(step_latency=0.005, api=api)
    async with sandbox_server(options) as sandbox, subject(sandbox.url, folder) as under_test:
        await case(under_test)


@pytest.mark.parametrize("case", SERVER_CASES, ids=lambda case: case.__name__)
async def test_the_queue_conforms(case: ServerCase, tmp_path: Path) -> None:
    await check_conformance(case, "queue", tmp_path)


@pytest.mark.parametrize("case", [c for c in SERVER_CASES if c not in BEYOND_RELEASE_3], ids=lambda case: case.__name__)
async def test_the_sessions_of_release_3_conform(case: ServerCase, tmp_path: Path) -> None:
    await check_conformance(case, "sessions", tmp_path)


@pytest.mark.parametrize("case", [c for c in SERVER_CASES if c not in BEYOND_SESSIONS], ids=lambda case: case.__name__)
async def test_the_portable_sessions_conform(case: ServerCase, tmp_path: Path) -> None:
    await check_conformance(case, "portable", tmp_path)
