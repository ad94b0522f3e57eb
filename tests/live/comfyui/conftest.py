"""A real ComfyUI for the tests of this folder, started once for them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.live_comfyui import LiveComfyUI, serving_comfyui


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveComfyUI]:
    """A server that all tests of the session share: cancel only what is yours."""
    with serving_comfyui(tmp_path_factory.mktemp("comfyui")) as server:
        yield server


@pytest.fixture(scope="session")
def other_comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveComfyUI]:
    """A second server, to be killed and filled with models: leave it running."""
    with serving_comfyui(tmp_path_factory.mktemp("other-comfyui")) as server:
        yield server
