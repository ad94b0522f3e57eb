"""The results folder that several tests of the study read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.study_folders import KINDS, POINTS, SOURCE, painted
from tests.support.study_images import write_results


@pytest.fixture
async def results(tmp_path: Path) -> Path:
    """30 images: 5 strengths × 2 variations × 3 seeds, all completed, with their source."""
    return await write_results(tmp_path / "a study", POINTS, painted, kinds=KINDS, source=SOURCE)
