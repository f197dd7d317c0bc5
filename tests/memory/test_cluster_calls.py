"""Questions between brokers: answered, late, lost, or not understood."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
import trio

from raftlog.cluster.calls import Calls, Handler, Reply, Unreachable
from raftlog.errors import InvalidInput
from raftlog.types import BrokerId

ONE, TWO = BrokerId(1), BrokerId(2)


class Pair:
    """Two brokers and a link between them that can be cut."""

    def __init__(self, **handlers: Handler) -> None:
        self.is_up = True
        self.asker = Calls(lambda to, frame: self._send(ONE, self.answerer, frame))
        self.answerer = Calls(lambda to, frame: self._send(TWO, self.asker, frame))
        for method, handler in handlers.items():
            self.answerer.serve(method, handler)

    def _send(self, sender: BrokerId, receiver: Calls, frame: bytes) -> bool:
        if self.is_up:
            receiver.receive(sender, frame)
        return self.is_up


def echo(sender: BrokerId, body: Any, reply: Reply) -> None:
    reply([int(sender), body])


async def test_an_answer_comes_back_to_who_asked() -> None:
    pair = Pair(echo=echo)
    answers = {}

    async def ask(number: int) -> None:
        answers[number] = await pair.asker.ask(TWO, "echo", number, timeout=1)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(ask, number)
    assert answers == {number: [1, number] for number in range(10)}


async def test_silence_ends_in_a_time_out(autojump_clock: trio.testing.MockClock) -> None:
    pair = Pair(ignore=lambda sender, body, reply: None)
    for method in ("ignore", "unknown"):
        with pytest.raises(Unreachable, match="did not answer"):
            await pair.asker.ask(TWO, method, None, timeout=5)
    assert trio.current_time() == pytest.approx(10, abs=0.1)


async def test_the_end_of_the_link_ends_the_waiting(autojump_clock: trio.testing.MockClock) -> None:
    pair = Pair(ignore=lambda sender, body, reply: None)

    async def ask() -> None:
        with pytest.raises(Unreachable):
            await pair.asker.ask(TWO, "ignore", None, timeout=60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.1)
        pair.asker.link_ended(BrokerId(3))
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert nursery.child_tasks
        pair.asker.link_ended(TWO)
    assert trio.current_time() < 1


async def test_no_link_is_said_at_once(autojump_clock: trio.testing.MockClock) -> None:
    pair = Pair(echo=echo)
    pair.is_up = False
    with pytest.raises(Unreachable, match="no link"):
        await pair.asker.ask(TWO, "echo", None, timeout=60)
    pair.asker.tell(TWO, "echo", None)
    assert trio.current_time() < 1


async def test_an_answer_of_somebody_else_does_not_count(autojump_clock: trio.testing.MockClock) -> None:
    sent: list[bytes] = []
    calls = Calls(lambda to, frame: sent.append(frame) is None)

    async def forge() -> None:
        await trio.sleep(1)
        number = cbor2.loads(sent[0])[0]
        calls.receive(BrokerId(3), cbor2.dumps([-number, "forged"]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(forge)
        with pytest.raises(Unreachable):
            await calls.ask(TWO, "echo", None, timeout=5)


@pytest.mark.parametrize(
    "frame", [b"", b"\xff", cbor2.dumps(7), cbor2.dumps([1, 2, 3]), cbor2.dumps([0, "x"])]
)
def test_what_is_no_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(InvalidInput):
        Calls(lambda to, frame: True).receive(TWO, frame)


async def test_an_answer_from_before_a_restart_answers_no_question_of_today(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It comes over the new link: a metadata leader's answer to another question would renew a lease."""
    kept: list[Reply] = []
    pair = Pair(keep=lambda sender, body, reply: kept.append(reply))
    with pytest.raises(Unreachable):
        await pair.asker.ask(TWO, "keep", None, timeout=1)
    pair.asker = Calls(lambda to, frame: pair._send(ONE, pair.answerer, frame))
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _ask() -> None:
            with pytest.raises(Unreachable, match="did not answer"):
                await pair.asker.ask(TWO, "keep", None, timeout=1)

        await trio.testing.wait_all_tasks_blocked()
        kept[0]("of yesterday")
