"""The protocol note, case by case, over the wire of a real InvokeAI."""

from __future__ import annotations

import pytest

from tests.support.protocol_cases import PROTOCOL, WireCase
from tests.support.wire import wire


@pytest.mark.parametrize("check_case", PROTOCOL, ids=lambda case: case.__name__)
async def test_the_real_server_does(check_case: WireCase, live_server: str) -> None:
    async with wire(live_server) as found:
        await check_case(found)
