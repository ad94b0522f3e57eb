"""The protocol note, case by case, over the wire of the sandbox: what a real InvokeAI does, it does."""

from __future__ import annotations

import pytest

from sweep.sandbox import SandboxOptions, sandbox_server
from tests.support.protocol_cases import PROTOCOL, WireCase
from tests.support.wire import wire


@pytest.mark.parametrize("check_case", PROTOCOL, ids=lambda case: case.__name__)
async def test_the_sandbox_does(check_case: WireCase) -> None:
    options = SandboxOptions(queue_limit=30, step_latency=0.005)
    async with sandbox_server(options) as sandbox, wire(sandbox.url) as found:
        await check_case(found)
