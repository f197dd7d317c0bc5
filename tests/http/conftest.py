from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftlog.testing.processes import BrokerProcess
from tests.http.raw import listen


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One broker with HTTP on loopback, for the tests of a file."""
    process = BrokerProcess(tmp_path_factory.mktemp("http") / "broker", arguments=listen())
    process.start()
    yield process
    process.kill()
