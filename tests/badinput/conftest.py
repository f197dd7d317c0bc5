"""A broker, a bystander, and a look at both after every test."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from raftlog.testing.processes import BrokerProcess, broker_process
from tests.badinput import requests
from tests.badinput.bystander import Bystander
from tests.badinput.wire import ANSWER_S, Raw

MEMORY_GROWTH_MAX = 64 * 1024 * 1024
"""What a test may add to the broker's memory."""
FRAME_MAX = 4 * 1024 * 1024
"""socket.request.max.bytes here: small, so that a test can go over it."""


@dataclass(slots=True)
class Victim:
    """The broker under attack."""

    broker: BrokerProcess
    bystander: Bystander
    _log_from: int
    expects_errors: bool = False
    """Whether this test makes the broker log an ERROR on purpose."""

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.broker.port

    def connect(self) -> Raw:
        return Raw(self.address)

    def topic(self) -> str:
        """A new topic of one partition."""
        name = f"t-{uuid.uuid4().hex[:12]}"
        with self.connect() as raw:
            assert requests.create_topic(raw, name) == 0
        return name

    def log(self) -> str:
        """What the broker logged since the test began."""
        with self.broker.log_path.open("rb") as file:
            file.seek(self._log_from)
            return file.read().decode(errors="replace")

    def has_logged(self, pattern: str, within_s: float = ANSWER_S) -> bool:
        """Whether a line matches, now or soon."""
        deadline = time.monotonic() + within_s
        while not re.search(pattern, self.log(), re.IGNORECASE):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def assert_logs_why(self, offend: Callable[[], object], reason: str) -> None:
        """A line in the log says why. There are only so many lines a second, and other tests have taken
        theirs: so it is tried until there was room for one."""
        for _ in range(10):
            offend()
            if self.has_logged(reason, 1.0):
                return
        raise AssertionError(f"no line matches {reason!r} in:\n{self.log()}")

    def assert_closed(self, data: bytes, reason: str, answer: str = "") -> None:
        """Bytes for which the broker closes the connection with no answer but this pattern, and logs why."""

        def offend() -> None:
            with self.connect() as raw:
                raw.send(data)
                assert re.fullmatch(answer, raw.wait_closed().decode())

        self.assert_logs_why(offend, reason)


@pytest.fixture(scope="package")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BrokerProcess, Bystander]]:
    """For this folder only: a bystander that goes on to the end of the run would slow down everybody."""
    folder = tmp_path_factory.mktemp("badinput")
    options = {"socket.request.max.bytes": FRAME_MAX}
    with broker_process(
        folder / "data", options=options, arguments=("--verbose", "--http-listen", "127.0.0.1:0")
    ) as broker:
        bystander = Bystander(broker.bootstrap).start()
        try:
            yield broker, bystander
        finally:
            bystander.stop()


@pytest.fixture
def victim(_running: tuple[BrokerProcess, Bystander]) -> Iterator[Victim]:
    """After the test: the broker lives, serves the bystander, has not grown, and met no surprise."""
    broker, bystander = _running
    before = broker.memory_bytes()
    victim = Victim(broker, bystander, broker.log_path.stat().st_size)
    yield victim
    assert broker.is_running, broker.log_tail()
    bystander.check()
    grown = broker.memory_bytes() - before
    assert grown < MEMORY_GROWTH_MAX, f"the broker grew by {grown >> 20} MiB"
    if not victim.expects_errors:
        assert " ERROR " not in victim.log(), victim.log()
