"""A broker for the tests of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftlog.testing import EmbeddedCluster
from tests.connect.stage import Stage


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    with EmbeddedCluster(1, data_dir=tmp_path_factory.mktemp("connect")) as brokers:
        yield brokers


@pytest.fixture
async def stage(cluster: EmbeddedCluster, tmp_path: Path) -> AsyncIterator[Stage]:
    async with cluster.client() as client:
        yield Stage(cluster, client, tmp_path)
