"""One Ray cluster for all tests of this folder, and an agent beside a sandbox."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ray_cluster import ENVIRONMENT, RayCluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """A cluster that demands a token; this process joins it."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    cluster = RayCluster(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value if name != "PYTHONPATH" else os.environ.get(name, value))
        cluster.start()
        try:
            from sweep.servers.ray.cluster import join_cluster

            join_cluster(cluster.address)
            yield cluster
        finally:
            import ray

            ray.shutdown()
            cluster.kill()
            shutil.rmtree(folder, ignore_errors=True)
