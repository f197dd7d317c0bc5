"""A broker whose memory is all promised: who waits, who passes, who has to go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from raftlog.broker.connection import STALLED_S
from raftlog.protocol.api import ApiKey
from raftlog.records.record import NewRecord, encode_batch
from tests.memory.broker_fakes import FakeNode, Served

BYTES_MAX = 16 << 20
LARGE = BYTES_MAX // 8
"""Two of these fill a quarter."""


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0.02)


@pytest.fixture
async def served(nursery: trio.Nursery) -> AsyncIterator[Served]:
    node = FakeNode(raftlog_memory_max_bytes=str(BYTES_MAX))
    node.add_topic("t", 2)
    node.partitions["t", 0].hold = True
    served = Served(node, nursery)
    yield served
    await served.aclose()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 (sockets of the system, no event to wait for)
            await trio.sleep(0.05)


def produce(size: int = LARGE, partition: int = 0) -> dict[str, Any]:
    records = bytes(encode_batch([NewRecord(1000, None, bytes(size), ())]))
    data = [{"index": partition, "records": records}]
    return {"acks": -1, "timeout": 30_000, "topic_data": [{"name": "t", "partition_data": data}]}


async def test_large_requests_wait_for_room_and_small_ones_pass(
    clock: MockClock, served: Served, nursery: trio.Nursery
) -> None:
    memory, answered = served.node.memory, []

    async def send(number: int) -> None:
        peer = await served.connect()
        answer = await peer.ask(ApiKey.PRODUCE, 9, **produce())
        answered.append(answer.responses[0].partition_responses[0].error_code)

    for number in range(6):
        nursery.start_soon(send, number)
    await until(lambda: memory.is_waited_for and not memory.has_room)
    await trio.sleep(1)
    assert memory.requests < 3 * LARGE
    assert len(served.node.partitions["t", 0]._held) == 2
    small = await served.connect()
    assert (await small.ask(ApiKey.METADATA, 0, topics=[])).topics
    with trio.fail_after(20):
        while len(answered) < 6:
            served.node.partitions["t", 0].commit()
            await trio.sleep(0.05)
    assert answered == [0] * 6
    await trio.sleep(0.1)
    assert (memory.requests, memory.kept) == (0, 0)


async def test_who_leaves_while_it_waits_for_room_takes_nothing_along(
    clock: MockClock, served: Served
) -> None:
    memory = served.node.memory

    async def send() -> None:
        peer = await served.connect()
        try:
            await peer.send(ApiKey.PRODUCE, 9, **produce())
            await trio.sleep_forever()
        finally:
            await trio.aclose_forcefully(peer.stream)

    async with trio.open_nursery() as clients:
        for _ in range(4):
            clients.start_soon(send)
        await until(lambda: memory.is_waited_for)
        clients.cancel_scope.cancel()
    served.node.partitions["t", 0].commit()
    await until(lambda: not memory.requests and not memory.kept)
    again = await served.connect()
    assert (await again.ask(ApiKey.PRODUCE, 9, **produce(partition=1))).responses


async def test_a_request_that_stalls_goes_when_others_wait_for_its_place(
    clock: MockClock, served: Served
) -> None:
    hogs = [await served.connect() for _ in range(2)]
    for hog in hogs:
        await hog.stream.send_all((3 * LARGE).to_bytes(4, "big") + b"begun")
    await trio.sleep(STALLED_S + 2)
    assert not served.node.memory.has_room
    assert served.listener.statistics()["connections"] == 2, "nobody waits"
    peer = await served.connect()
    started = trio.current_time()
    served.node.partitions["t", 0].hold = False
    answer = await peer.ask(ApiKey.PRODUCE, 9, **produce())
    assert answer.responses[0].partition_responses[0].error_code == 0
    assert trio.current_time() - started < STALLED_S + 5
    assert await hogs[0].is_closed()


async def test_answers_that_are_not_read_make_other_answers_small(clock: MockClock, served: Served) -> None:
    node = served.node
    node.partitions["t", 0].hold = False
    peer = await served.connect()
    for _ in range(40):
        await peer.ask(ApiKey.PRODUCE, 9, **produce(20_000))
    fetch = {
        "max_wait": 0,
        "min_bytes": 1,
        "max_bytes": 1 << 30,
        "isolation_level": 0,
        "session_id": 0,
        "session_epoch": -1,
        "forgotten_topics_data": [],
        "rack_id": "",
        "topics": [
            {
                "topic": "t",
                "partitions": [
                    {
                        "partition": 0,
                        "current_leader_epoch": -1,
                        "fetch_offset": 0,
                        "last_fetched_epoch": -1,
                        "log_start_offset": -1,
                        "partition_max_bytes": 1 << 30,
                    }
                ],
            }
        ],
    }

    async def fetched() -> int:
        answer = await peer.ask(ApiKey.FETCH, 12, **fetch)
        return len(answer.responses[0].partitions[0].records)

    assert await fetched() > 40 * 20_000
    node.memory.answers = node.memory.share
    assert 20_000 < await fetched() < 2 * 20_000
