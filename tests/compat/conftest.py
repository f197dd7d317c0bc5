"""A broker for the whole run, or the one that RAFTLOG_TEST_BOOTSTRAP names; a client for each test."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from tests import secured
from tests.leftovers import collect_leftovers as collect_leftovers

# Scenarios are asserts in modules that pytest does not collect.
for _table in ("producing", "consuming", "grouping", "administration", "stage", "member"):
    pytest.register_assert_rewrite(f"tests.compat.{_table}")

from tests.compat.stage import Stage, adapter  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The clients' own warnings are not ours to be strict about."""
    for item in items:
        if "tests/compat/" in item.path.as_posix():
            item.add_marker(pytest.mark.compat)
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the broker under test is."""
    given = os.environ.get("RAFTLOG_TEST_BOOTSTRAP")
    if given:
        yield given
        return
    folder = tmp_path_factory.mktemp("compat")
    options = {"group.min.session.timeout.ms": 1000}
    with secured.broker_process(folder / "data", options=options) as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def _kcat() -> str | None:
    from tests.compat.clients import kcat

    with kcat.LOCK.open("w") as lock:  # the workers of one run do not install it twice
        fcntl.flock(lock, fcntl.LOCK_EX)
        return kcat.install()


@pytest.fixture(scope="session")
def _admin(bootstrap: str) -> object:
    from confluent_kafka.admin import AdminClient

    return AdminClient({**secured.librdkafka(bootstrap), "log_level": 0})


@pytest.fixture
def stage(request: pytest.FixtureRequest, bootstrap: str, _admin: object) -> Iterator[Stage]:
    """The stage for the client that the test is parametrized with."""
    name: str = request.getfixturevalue("client_name")
    if name == "kcat" and request.getfixturevalue("_kcat") is None:
        from tests.compat.clients import kcat

        pytest.skip(kcat.HOW)
    client = adapter(name)(bootstrap)
    try:
        yield Stage(client, bootstrap, _admin)
    finally:
        client.close()
