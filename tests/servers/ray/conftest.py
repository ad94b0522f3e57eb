"""One Ray cluster for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.ray_cluster import RayCluster, open_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """A cluster that demands a token; this process joins it."""
    with open_cluster() as found:
        yield found
