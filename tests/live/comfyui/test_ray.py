"""The contract of `Server` against a real ComfyUI behind an agent on a Ray cluster."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.servers import AgentSettings, start_agent
from sweep.testing import SERVER_CASES
from sweep.testing.servers import ServerCase
from sweep.workflow import load_core_schemas
from tests.support.comfyui_scenes import comfyui_subject
from tests.support.live_comfyui import LiveComfyUI
from tests.support.ray_cluster import open_cluster
from tests.support.scenes import PATIENT

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def agent(comfyui: LiveComfyUI) -> Iterator[str]:
    load_core_schemas()  # read from disk here, where no event loop runs
    with open_cluster():
        yield start_agent(AgentSettings(name="beside-comfyui", url=comfyui.url, timings=PATIENT)).name


@pytest.mark.parametrize("check_case", SERVER_CASES, ids=lambda case: case.__name__)
async def test_comfyui_behind_an_agent_conforms(check_case: ServerCase, agent: str, tmp_path: Path) -> None:
    async with comfyui_subject(f"ray:{agent}", tmp_path) as under_test:
        await check_case(under_test)
