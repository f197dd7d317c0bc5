"""pytest fixtures with real brokers in them, for any client; loaded by pytest where raftlog is installed.

    def test_orders(raftlog_broker, raftlog_topic):
        producer = KafkaProducer(bootstrap_servers=raftlog_broker.bootstrap)
        producer.send(raftlog_topic, b"one apple").get()

Every test run pays for the import of this module: it imports nothing of raftlog before a fixture is used.
Workers of pytest-xdist are processes of their own and each has its own brokers.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from raftlog.testing.cluster import EmbeddedCluster, Setting

NAME_LENGTH_MAX: Final = 100
"""Of a test's name in a topic's; Kafka allows 249 characters in all."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("raftlog").addoption(
        "--raftlog-seed",
        type=int,
        metavar="N",
        help="have random faults chosen as in the run that printed this seed",
    )


@pytest.fixture(scope="session")
def raftlog_settings() -> Mapping[str, Setting]:
    """Broker settings for `raftlog_broker` and `raftlog_cluster`, by Kafka's keys; override it in a
    conftest.py."""
    return {}


@pytest.fixture(scope="session")
def raftlog_broker(
    raftlog_settings: Mapping[str, Setting], pytestconfig: pytest.Config
) -> Iterator[EmbeddedCluster]:
    """A broker for the whole run; `.bootstrap` is where clients find it."""
    from raftlog.testing.cluster import EmbeddedCluster

    seed = pytestconfig.getoption("--raftlog-seed")
    with EmbeddedCluster(1, seed=seed, settings=raftlog_settings) as broker:
        yield broker


@pytest.fixture
def raftlog_cluster(
    raftlog_settings: Mapping[str, Setting], pytestconfig: pytest.Config
) -> Iterator[EmbeddedCluster]:
    """Three brokers for one test, which may do to them what it likes with `.faults`."""
    from raftlog.testing.cluster import EmbeddedCluster

    seed = pytestconfig.getoption("--raftlog-seed")
    with EmbeddedCluster(3, seed=seed, settings=raftlog_settings) as cluster:
        yield cluster


@pytest.fixture
def raftlog_topic(raftlog_broker: EmbeddedCluster, request: pytest.FixtureRequest) -> str:
    """A topic of one partition on `raftlog_broker` that no other test has."""
    test = re.sub(r"[^A-Za-z0-9_-]+", "-", request.node.name)[:NAME_LENGTH_MAX].strip("-")
    return raftlog_broker.create_topic(f"{test}-{uuid.uuid4().hex[:8]}")
