"""A cluster for all tests of a module, and a stage for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftlog.testing import EmbeddedCluster
from tests.streams.stage import Stage


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    with EmbeddedCluster(3, data_dir=tmp_path_factory.mktemp("streams")) as brokers:
        yield brokers


@pytest.fixture
async def stage(cluster: EmbeddedCluster, tmp_path: Path) -> AsyncIterator[Stage]:
    async with cluster.client() as client:
        made = Stage(cluster, client, tmp_path)
        made.topic("in")
        made.topic("out")
        yield made
