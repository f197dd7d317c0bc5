"""Three broker processes for the run, the Java tools and node as commands, and fresh names."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import pytest

from raftlog.testing.processes import ClusterProcesses, free_port
from tests.connect.postgres_server import PostgresServer, serving
from tests.foreign.commands import DEBEZIUM_KAFKA, Flink, Go, JavaTools, Node, Spark, debezium

T = TypeVar("T")
OPTIONS: Final = {"group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": 1000}


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The brokers that the tests share, none of which is killed."""
    given = os.environ.get("RAFTLOG_TEST_BOOTSTRAP")
    if given:
        yield given
        return
    with ClusterProcesses(tmp_path_factory.mktemp("foreign"), 3, options=OPTIONS) as cluster:
        yield cluster.start().bootstrap


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[ClusterProcesses]:
    """Three brokers of the test's own, to be killed."""
    with ClusterProcesses(tmp_path, 3, options=OPTIONS) as cluster:
        yield cluster.start()


def found(tool: Callable[[], T], what: str) -> T:
    """A tool of this machine; without it the test is skipped, by what it needs."""
    try:
        return tool()
    except FileNotFoundError as missing:
        pytest.skip(f"needs {what}: {missing}")


@pytest.fixture(scope="session")
def java() -> JavaTools:
    return found(JavaTools, "Java and Maven")


@pytest.fixture(scope="session")
def apps() -> JavaTools:
    """Java with Kafka Streams, Connect and MirrorMaker."""
    return found(lambda: JavaTools("apps"), "Java and Maven")


@pytest.fixture(scope="session")
def newer_apps() -> JavaTools:
    """Connect as Debezium needs it."""
    return found(lambda: JavaTools("apps", DEBEZIUM_KAFKA), "Java and Maven")


@pytest.fixture(scope="session")
def plugins() -> Path:
    """A worker's `plugin.path` with Debezium."""
    return found(debezium, "Java and Maven")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """One that Java reaches, too."""
    yield from serving(port=free_port())


@pytest.fixture(scope="session")
def go() -> Go:
    return found(Go, "Go")


@pytest.fixture(scope="session")
def node() -> Node:
    return found(Node, "node and npm")


@pytest.fixture(scope="session")
def spark() -> Spark:
    return found(Spark, "Java and Maven")


@pytest.fixture(scope="session")
def flink() -> Flink:
    return found(Flink, "Java, its compiler and Maven")


@pytest.fixture
def name() -> Callable[[str], str]:
    return lambda what: f"{what}-{uuid.uuid4().hex[:8]}"
