"""The client suite: the same tests against raftlog and against any broker of Kafka's protocol.

RAFTLOG_TEST_BOOTSTRAP names the broker to use; without it a raftlog broker is started for the run, or a
cluster of as many as RAFTLOG_TEST_NODES says.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from raftlog import Client
from tests import secured

Name = Callable[[str], str]


@pytest.fixture(scope="package")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the broker under test is."""
    given = os.environ.get("RAFTLOG_TEST_BOOTSTRAP")
    if given:
        yield given
        return
    nodes = int(os.environ.get("RAFTLOG_TEST_NODES", "1"))
    with secured.running(nodes, data_dir=tmp_path_factory.mktemp("client")) as cluster:
        yield cluster.bootstrap


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Name:
    """A name nobody else uses: brokers outlive tests."""
    return lambda what: f"{what}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def client(bootstrap: str) -> AsyncIterator[Client]:
    """A client, impatient enough for tests."""
    async with secured.open_client(bootstrap, default_api_timeout_ms=20_000) as client:
        yield client


@pytest.fixture
async def topic(client: Client, name: Name) -> str:
    """A topic of one partition."""
    made = name("topic")
    await client.admin.create_topic(made, partitions=1)
    return made


@pytest.fixture
async def wide_topic(client: Client, name: Name) -> str:
    """A topic of four partitions."""
    made = name("wide")
    await client.admin.create_topic(made, partitions=4)
    return made
