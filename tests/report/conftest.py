"""Painted results folders, and a Chromium where the machine has one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.report import painted
from tests.report.painted import paint_folder
from tests.support.chromium import Browser, chromium, find_chromium
from tests.support.left_out import leave_out

_WHY = "tests that drive the report in a browser: no Chromium found ($SWEEP_CHROMIUM names one)"


def pytest_configure(config: pytest.Config) -> None:
    """The marker belongs to this room."""
    config.addinivalue_line("markers", "browser: drives the report in a real Chromium; left out where there is none")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Browser tests are left out where there is no browser, and the end of the run says so."""
    if find_chromium() is None:
        leave_out(config, items, [item for item in items if item.get_closest_marker("browser")], _WHY)


@pytest.fixture(autouse=True, scope="session")
def _painted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Paint each folder of a run that has ended once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(painted, "PAINTED", painted.Painted(tmp_path_factory.mktemp("painted")))
        yield


@pytest_asyncio.fixture
async def folder(tmp_path: Path) -> Path:
    """Twelve points over three axes, all rendered."""
    return await paint_folder(tmp_path / "my cups")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for a module; each test opens tabs of its own."""
    executable = find_chromium()
    assert executable is not None, "deselected where there is none"
    async with chromium(executable) as running:
        yield running
