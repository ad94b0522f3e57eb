"""The contract of `Server` against the sandbox: the same cases that a real InvokeAI passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.sandbox.app import SandboxOptions, sandbox_server
from sweep.servers.conformance import CASES, Case
from tests.live.scenes import subject


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_the_sandbox_conforms(case: Case, tmp_path: Path) -> None:
    async with (
        sandbox_server(SandboxOptions(step_latency=0.005)) as sandbox,
        subject(sandbox.url, tmp_path) as under_test,
    ):
        await case(under_test)
