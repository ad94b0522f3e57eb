"""A real InvokeAI for the tests of this folder, started once for them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_invokeai import Installation, LiveServer, serving


@pytest.fixture(scope="session")
def installation() -> Installation:
    """InvokeAI and the tiny models, installed where they are missing."""
    found = Installation.default()
    found.ensure()
    return found


@pytest.fixture(scope="session")
def live_python(installation: Installation) -> Path:
    """The Python that has InvokeAI."""
    return installation.python


@pytest.fixture(scope="session")
def invokeai_package(installation: Installation) -> Path:
    """The folder of the installed invokeai package, with its default workflows."""
    found = installation.package
    assert found is not None
    return found


@pytest.fixture(scope="session")
def live(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that all tests of the session share: cancel and delete only what is yours."""
    with serving(tmp_path_factory.mktemp("invokeai")) as server:
        yield server


@pytest.fixture(scope="session")
def live_server(live: LiveServer) -> str:
    """Its address."""
    return live.url


@pytest.fixture
def own_live_server(installation: Installation, tmp_path: Path) -> Iterator[LiveServer]:
    """A server of one's own, to kill, freeze and start again."""
    with serving(tmp_path / "invokeai") as server:
        yield server
