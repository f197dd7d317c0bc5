"""Each typical mistake ends within its time-out, with an error that names the cause and the cure."""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

import raftlog
from raftlog.testing import running_broker
from raftlog.testing.processes import BrokerProcess, free_port, http_address
from tests.certificates import write_authority, write_certificate
from tests.client.mistakes import SECONDS_MAX, TABLE, Mistake, World

pytestmark = pytest.mark.slow

TOGETHER_MAX_S = 30.0
Outcomes = dict[str, tuple[BaseException | None, float]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What each mistake came to, and after how many seconds: all are made at once."""
    with _world(tmp_path_factory.mktemp("mistakes")) as world:
        return trio.run(_make_all, world)


class _world:
    """The brokers, and what is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> World:
        folder, stack = self._folder, self._stack
        tls, elsewhere = self._process("tls"), self._process("elsewhere")
        stack.callback(tls.kill)
        stack.callback(elsewhere.kill)
        tls.launch()
        elsewhere.launch()
        good = stack.enter_context(running_broker(auto_create_topics_enable=False))
        good.create_topic("orders", partitions=3)
        good.create_topic("broken")
        mortal = stack.enter_context(running_broker())
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
        tls.wait_ready()
        elsewhere.wait_ready()
        return World(
            good=good.bootstrap,
            nobody=f"127.0.0.1:{free_port()}",
            tls=f"localhost:{tls.port}",
            http=http_address(tls),
            silent=f"127.0.0.1:{silent.getsockname()[1]}",
            elsewhere=elsewhere.bootstrap,
            mortal=mortal.bootstrap,
            kill=mortal.brokers[0].kill,
            authority=str(write_authority(folder)),
            other_authority=str(write_authority(folder, "another")),
        )

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _process(self, name: str) -> BrokerProcess:
        port, folder = free_port(), self._folder
        if name == "tls":
            options = {
                "listeners": f"SSL://localhost:{port}",
                "ssl.keystore.location": write_certificate(folder, "localhost"),
            }
            http = ("--http-listen", f"127.0.0.1:{free_port()}")
            return BrokerProcess(folder / name, port=port, options=options, arguments=http)
        advertised = ("--advertise", "elsewhere.invalid:9092")
        return BrokerProcess(folder / name, port=port, arguments=advertised)


async def _make_all(world: World) -> Outcomes:
    outcomes: Outcomes = {}

    async def make(one: Mistake) -> None:
        began, error = trio.current_time(), None
        with trio.move_on_after(SECONDS_MAX):
            try:
                await one.make(world)
            except Exception as raised:
                error = raised
        outcomes[one.name] = (error, trio.current_time() - began)

    async with raftlog.open_client(world.good) as client, client.producer() as producer:
        await producer.send("broken", b"seven", partition=0)
    async with trio.open_nursery() as nursery:
        for one in TABLE:
            nursery.start_soon(make, one)
    return outcomes


def test_there_are_fifty() -> None:
    assert len({one.name for one in TABLE}) == len(TABLE) >= 50


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.name)
def test_the_error_says_cause_and_cure(outcomes: Outcomes, one: Mistake) -> None:
    error, after = outcomes[one.name]
    assert error is not None, f"nothing was said within {after:.1f} s"
    assert isinstance(error, one.error), repr(error)
    for words in one.says:
        assert re.search(words, str(error)), f"{words!r} is not in: {error}"
    if isinstance(error, raftlog.RequestTimedOut):
        assert error.__cause__ is not None, "the last reason is the cause"


def test_all_at_once_are_quick(outcomes: Outcomes) -> None:
    assert max(after for _, after in outcomes.values()) < min(SECONDS_MAX, TOGETHER_MAX_S)


def test_the_log_says_who_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    """A consumer that waits for ever says why, after some seconds, once."""

    async def wait() -> None:
        async with (
            raftlog.open_client(f"127.0.0.1:{free_port()}") as client,
            client.consumer("orders") as consumer,
        ):
            with trio.move_on_after(7):
                await anext(consumer)

    began = time.monotonic()
    trio.run(wait)
    (line,) = [r for r in caplog.records if r.name == "raftlog.client"]
    assert line.levelname == "WARNING"
    assert re.search(r"no broker has answered for \d s: 127.*Connection refused \(nothing", line.getMessage())
    assert time.monotonic() - began >= 5
