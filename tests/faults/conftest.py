"""Processes to kill, one zygote for all tests of a process of the suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Bench, Zygote, open_zygote


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with open_zygote(tmp_path_factory.mktemp("zygote")) as process:
        yield process


@pytest.fixture
def bench(tmp_path: Path, forks: Zygote) -> Bench:
    return Bench(tmp_path / "a folder", forks)
