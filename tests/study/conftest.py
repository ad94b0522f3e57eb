"""The results folder that several tests of the study read: made once, and copied for each."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest

from sweep.study import measure_now
from tests.support.study_folders import KINDS, POINTS, SOURCE, painted
from tests.support.study_images import write_results


@pytest.fixture(scope="session")
def _painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    async def write() -> Path:
        return await write_results(folder, POINTS, painted, kinds=KINDS, source=SOURCE)

    folder = tmp_path_factory.mktemp("painted") / "a study"
    return anyio.run(write)


@pytest.fixture(scope="session")
def _measured(tmp_path_factory: pytest.TempPathFactory, _painted: Path) -> Path:
    folder = tmp_path_factory.mktemp("measured") / "a study"
    shutil.copytree(_painted, folder)
    measure_now(folder, workers=0)
    return folder


@pytest.fixture
def results(tmp_path: Path, _painted: Path) -> Path:
    """30 images: 5 strengths × 2 variations × 3 seeds, all completed, with their source."""
    return Path(shutil.copytree(_painted, tmp_path / "a study"))


@pytest.fixture
def measured_results(tmp_path: Path, _measured: Path) -> Path:
    """The same, and the standard metrics are in the folder's cache."""
    return Path(shutil.copytree(_measured, tmp_path / "a study"))
