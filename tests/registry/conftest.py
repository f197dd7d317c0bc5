from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlog.testing.processes import BrokerProcess, broker_process
from tests.registry.process import RegistryProcess

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The clients' own warnings are not ours to be strict about."""
    for item in items:
        if "tests/registry/" in item.path.as_posix():
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_process(tmp_path_factory.mktemp("registry") / "broker") as process:
        yield process


@pytest.fixture(scope="package")
def registry(broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """One for all tests that take subjects of their own."""
    with RegistryProcess(broker.bootstrap, tmp_path_factory.mktemp("log") / "registry") as process:
        yield process


@pytest.fixture
def topic() -> str:
    """The name of a topic for schemas that nobody else has."""
    return f"_schemas-{next(_numbers)}"


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> str:
    return f"subject-{next(_numbers)}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "registry.log"
