"""The contract of `Server` against a real ComfyUI: the same cases that the sandbox and a real InvokeAI pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.testing import SERVER_CASES
from sweep.testing.servers import ServerCase
from tests.support.comfyui_scenes import comfyui_subject
from tests.support.live_comfyui import LiveComfyUI


@pytest.mark.parametrize("check_case", SERVER_CASES, ids=lambda case: case.__name__)
async def test_a_real_comfyui_conforms(check_case: ServerCase, comfyui: LiveComfyUI, tmp_path: Path) -> None:
    async with comfyui_subject(comfyui.url, tmp_path) as under_test:
        await check_case(under_test)
