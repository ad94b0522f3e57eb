"""The contract of `Server` against a real InvokeAI: the same cases that the sandbox passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.testing import SERVER_CASES
from sweep.testing.servers import ServerCase
from tests.support.scenes import subject


@pytest.mark.parametrize("check_case", SERVER_CASES, ids=lambda case: case.__name__)
async def test_the_real_server_conforms(check_case: ServerCase, live_server: str, tmp_path: Path) -> None:
    async with subject(live_server, tmp_path) as under_test:
        await check_case(under_test)
