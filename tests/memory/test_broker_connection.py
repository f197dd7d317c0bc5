"""What a connection does with frames, order, limits and bad clients."""

from __future__ import annotations

import gc
import logging
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from raftlog.broker.admission import RESERVED
from raftlog.broker.registry import COMMITS_PIPELINED, PRODUCE_PIPELINED
from raftlog.protocol.api import ApiKey
from raftlog.records.record import NewRecord, encode_batch
from tests.memory.broker_fakes import FakeNode, FakePartition, Peer, Served


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0.02)


@pytest.fixture
async def served(nursery: trio.Nursery) -> AsyncIterator[Served]:
    node = FakeNode()
    node.add_topic("t", 2)
    served = Served(node, nursery)
    yield served
    await served.aclose()


@pytest.fixture
async def serve(nursery: trio.Nursery) -> AsyncIterator[Callable[[FakeNode], Served]]:
    """Serves a node of the test's own."""
    all_served: list[Served] = []

    def serve(node: FakeNode) -> Served:
        all_served.append(Served(node, nursery))
        return all_served[-1]

    yield serve
    for served in all_served:
        await served.aclose()


def batch(*values: bytes) -> bytes:
    return bytes(encode_batch([NewRecord(1000, None, value, ()) for value in values]))


def produce(*values: bytes, partition: int = 0, acks: int = -1, timeout: int = 30_000) -> dict[str, Any]:
    return {
        "acks": acks,
        "timeout": timeout,
        "topic_data": [
            {"name": "t", "partition_data": [{"index": partition, "records": batch(*values)}]},
        ],
    }


def partition_of(served: Served, index: int = 0) -> FakePartition:
    return served.node.partitions["t", index]


async def test_frames_may_come_byte_by_byte_and_many_at_once(served: Served) -> None:
    peer = await served.connect()
    sent: list[bytes] = []

    class Recorder:
        async def send_all(self, data: bytes) -> None:
            sent.append(data)

    recorder = Peer(Recorder())  # type: ignore[arg-type]
    for _ in range(3):
        await recorder.send(ApiKey.API_VERSIONS, 0)
    await recorder.send(ApiKey.PRODUCE, 9, **produce(b"x" * 20_000))
    await recorder.send(ApiKey.API_VERSIONS, 0)
    data = b"".join(sent)
    for at in range(120):
        await peer.stream.send_all(data[at : at + 1])
    await peer.stream.send_all(data[120:])
    for expected in (1, 2, 3):
        assert (await peer.receive(ApiKey.API_VERSIONS, 0))[0] == expected
    assert (await peer.receive(ApiKey.PRODUCE, 9))[0] == 4
    assert (await peer.receive(ApiKey.API_VERSIONS, 0))[0] == 5


async def test_a_large_request_arrives_whole(served: Served) -> None:
    peer = await served.connect()
    served_partition = partition_of(served)
    answer = await peer.ask(ApiKey.PRODUCE, 9, **produce(bytes(range(256)) * 40_000))
    assert answer.responses[0].partition_responses[0].error_code == 0
    assert served_partition.high_watermark == 1
    fetched = await peer.ask(ApiKey.FETCH, 12, **fetch(0, max_bytes=50_000_000))
    assert bytes(range(256)) * 40_000 in fetched.responses[0].partitions[0].records


def fetch(
    offset: int, *, max_wait: int = 500, min_bytes: int = 1, max_bytes: int = 1 << 20
) -> dict[str, Any]:
    return {
        "max_wait": max_wait,
        "min_bytes": min_bytes,
        "max_bytes": max_bytes,
        "topics": [
            {
                "topic": "t",
                "partitions": [{"partition": 0, "fetch_offset": offset, "partition_max_bytes": max_bytes}],
            }
        ],
        "forgotten_topics_data": [],
    }


async def test_produce_is_pipelined_and_answered_in_order(served: Served) -> None:
    slow, fast = partition_of(served, 0), partition_of(served, 1)
    slow.hold = True
    peer = await served.connect()
    first = await peer.send(ApiKey.PRODUCE, 9, **produce(b"a"))
    second = await peer.send(ApiKey.PRODUCE, 9, **produce(b"b", partition=1))
    await trio.sleep(0.1)
    assert fast.high_watermark == 1  # the second was handled while the first waits
    slow.commit()
    assert (await peer.receive(ApiKey.PRODUCE, 9))[0] == first
    assert (await peer.receive(ApiKey.PRODUCE, 9))[0] == second


async def test_what_follows_a_produce_sees_its_outcome(served: Served) -> None:
    slow = partition_of(served)
    slow.hold = True
    peer = await served.connect()
    await peer.send(ApiKey.PRODUCE, 9, **produce(b"a"))
    await peer.send(
        ApiKey.LIST_OFFSETS,
        4,
        replica_id=-1,
        isolation_level=0,
        topics=[{"name": "t", "partitions": [{"partition_index": 0, "timestamp": -1}]}],
    )
    await trio.sleep(0.2)
    slow.commit()
    await peer.receive(ApiKey.PRODUCE, 9)
    _, answer = await peer.receive(ApiKey.LIST_OFFSETS, 4)
    assert answer.topics[0].partitions[0].offset == 1


async def test_unanswered_requests_are_bounded(clock: MockClock, served: Served) -> None:
    slow = partition_of(served)
    slow.hold = True
    peer = await served.connect()
    for _ in range(PRODUCE_PIPELINED + 20):
        await peer.send(ApiKey.PRODUCE, 9, **produce(b"a"))
    await trio.sleep(1)
    assert slow.log_end_offset == PRODUCE_PIPELINED
    slow.hold = False
    slow.commit()
    for expected in range(1, PRODUCE_PIPELINED + 21):
        assert (await peer.receive(ApiKey.PRODUCE, 9))[0] == expected


def offset_commit(offset: int) -> dict[str, Any]:
    partitions = [{"partition_index": 0, "committed_offset": offset, "committed_metadata": ""}]
    return {
        "group_id": "g",
        "generation_id_or_member_epoch": -1,
        "member_id": "",
        "retention_time": -1,
        "topics": [{"name": "t", "partitions": partitions}],
    }


def committed_offset(served: Served) -> int | None:
    row = served.node.catalog.committed_offset("g", "t", 0)
    return None if row is None else row.offset


async def test_commits_are_pipelined_behind_commits_and_answered_in_order(served: Served) -> None:
    held = served.node.held_commits = list[Callable[[], None]]()
    peer = await served.connect()
    for offset in range(COMMITS_PIPELINED + 5):
        await peer.send(ApiKey.OFFSET_COMMIT, 2, **offset_commit(offset))
    await trio.sleep(1)
    assert len(held) == COMMITS_PIPELINED
    served.node.held_commits = None
    for release in (*held[1:], held[0]):  # the answers keep the order of the requests all the same
        release()
    for expected in range(1, COMMITS_PIPELINED + 6):
        assert (await peer.receive(ApiKey.OFFSET_COMMIT, 2))[0] == expected
    assert committed_offset(served) == COMMITS_PIPELINED + 4


async def test_what_follows_a_commit_waits_for_it(served: Served) -> None:
    held = served.node.held_commits = list[Callable[[], None]]()
    peer = await served.connect()
    await peer.send(ApiKey.OFFSET_COMMIT, 2, **offset_commit(7))
    topics = [{"name": "t", "partition_indexes": [0]}]
    await peer.send(ApiKey.OFFSET_FETCH, 1, group_id="g", topics=topics)
    await trio.sleep(1)
    held[0]()
    assert (await peer.receive(ApiKey.OFFSET_COMMIT, 2))[0] == 1
    _, answer = await peer.receive(ApiKey.OFFSET_FETCH, 1)
    assert answer.topics[0].partitions[0].committed_offset == 7


async def test_a_commit_waits_for_what_was_produced_before_it(served: Served) -> None:
    slow = partition_of(served)
    slow.hold = True
    peer = await served.connect()
    await peer.send(ApiKey.PRODUCE, 9, **produce(b"a"))
    await peer.send(ApiKey.OFFSET_COMMIT, 2, **offset_commit(7))
    await trio.sleep(1)
    assert committed_offset(served) is None
    slow.commit()
    await peer.receive(ApiKey.PRODUCE, 9)
    await peer.receive(ApiKey.OFFSET_COMMIT, 2)
    assert committed_offset(served) == 7


async def test_a_produce_that_takes_too_long_times_out(clock: MockClock, served: Served) -> None:
    slow = partition_of(served)
    slow.hold = True
    peer = await served.connect()
    answer = await peer.ask(ApiKey.PRODUCE, 9, **produce(b"a", timeout=1500))
    assert answer.responses[0].partition_responses[0].error_code.name == "request_timed_out"
    slow.commit()  # too late: nobody is told twice
    assert (await peer.ask(ApiKey.PRODUCE, 9, **produce(b"b", partition=1))).responses


async def test_acks_0_is_not_answered(served: Served) -> None:
    peer = await served.connect()
    await peer.send(ApiKey.PRODUCE, 9, **produce(b"a", acks=0))
    assert (await peer.ask(ApiKey.API_VERSIONS, 0)).api_keys
    assert partition_of(served).high_watermark == 1


async def test_acks_0_that_fails_closes_the_connection(served: Served) -> None:
    partition_of(served).is_leader = False
    peer = await served.connect()
    await peer.send(ApiKey.PRODUCE, 9, **produce(b"a", acks=0))
    assert await peer.is_closed()


@pytest.mark.parametrize("length", [0, -1, -(2**31), 2**31 - 1, 100 * 1024 * 1024 + 1])
async def test_a_length_out_of_bounds_closes_the_connection(
    served: Served, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    peer = await served.connect()
    await peer.stream.send_all(struct.pack(">i", length))
    assert await peer.is_closed()
    await trio.sleep(0.1)
    assert f"a frame of {length} bytes" in caplog.text


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0",
        b"\0\x03\0\x0c\0\0\0\x01\xff\xff\0\xff\xff\xff\xff\x0f",  # Metadata of four billion topics
        b"\0\x03\0\x63\0\0\0\x01\xff\xff",  # Metadata v99
        b"\x27\x0f\0\0\0\0\0\x01\xff\xff",  # API 9999
        b"\0\0\0\x09\0\0\0\x01\xff\xff\0\0\xff",  # a Produce cut off
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",  # TLS on the plain port
    ],
)
async def test_bad_requests_cost_their_connection_and_no_other(served: Served, frame: bytes) -> None:
    good, bad = await served.connect(), await served.connect()
    await bad.stream.send_all(struct.pack(">i", len(frame)) + frame)
    assert await bad.is_closed()
    assert (await good.ask(ApiKey.API_VERSIONS, 0)).api_keys


async def test_an_error_of_ours_costs_one_connection_and_is_logged(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    partition_of(served).failure = KeyError("a bug")
    good, unlucky = await served.connect(), await served.connect()
    await unlucky.send(ApiKey.PRODUCE, 9, **produce(b"a"))
    assert await unlucky.is_closed()
    assert "a bug" in caplog.text
    assert (await good.ask(ApiKey.API_VERSIONS, 0)).api_keys


async def test_who_does_not_read_holds_nobody_up(served: Served) -> None:
    """Answers that are never read stay with the socket, and the connection's next request waits."""
    writer = await served.connect()
    await writer.ask(ApiKey.PRODUCE, 9, **produce(bytes(8_000_000)))
    deaf = await served.connect()
    for _ in range(10):
        await deaf.send(ApiKey.FETCH, 12, **fetch(0, max_bytes=50_000_000))
    with trio.fail_after(5):
        for _ in range(20):
            assert (await writer.ask(ApiKey.API_VERSIONS, 0)).api_keys
    for _ in range(10):  # and then it reads, and everything is there
        _, answer = await deaf.receive(ApiKey.FETCH, 12)
        assert len(answer.responses[0].partitions[0].records) > 8_000_000


async def test_who_never_reads_is_given_up(clock: MockClock, serve: Callable[[FakeNode], Served]) -> None:
    served = serve(FakeNode(connections_max_idle_ms="10000"))
    served.node.add_topic("t")
    writer = await served.connect()
    await writer.ask(ApiKey.PRODUCE, 9, **produce(bytes(8_000_000)))
    await writer.stream.aclose()
    deaf = await served.connect()
    await deaf.send(ApiKey.FETCH, 12, **fetch(0, max_bytes=50_000_000))
    await trio.sleep(15)
    assert served.listener.statistics()["connections"] == 0


async def test_a_connection_ends_with_its_certificate(clock: MockClock, served: Served) -> None:
    peer = await served.connect()
    await peer.ask(ApiKey.API_VERSIONS, 0)
    (connection,) = served.listener.connections
    connection.origin = replace(connection.origin, until=trio.current_time() + 5)
    await trio.sleep(4)
    assert (await peer.ask(ApiKey.API_VERSIONS, 0)).api_keys
    await trio.sleep(3)
    assert await peer.is_closed() and connection.end_reason == "its certificate has ended"


async def test_idle_and_trickling_connections_are_closed(
    clock: MockClock, serve: Callable[[FakeNode], Served]
) -> None:
    served = serve(FakeNode(connections_max_idle_ms="10000"))
    idle, trickling, busy = [await served.connect() for _ in range(3)]
    for _ in range(30):
        await trio.sleep(0.5)
        try:
            await trickling.stream.send_all(b"\0")
        except trio.BrokenResourceError:
            break
        await busy.ask(ApiKey.API_VERSIONS, 0)
    assert await idle.is_closed()
    assert await trickling.is_closed()
    assert (await busy.ask(ApiKey.API_VERSIONS, 0)).api_keys


async def test_waiting_for_the_broker_is_not_idling(
    clock: MockClock, serve: Callable[[FakeNode], Served]
) -> None:
    served = serve(FakeNode(connections_max_idle_ms="5000"))
    served.node.add_topic("t")
    peer = await served.connect()
    answer = await peer.ask(ApiKey.FETCH, 12, **fetch(0, max_wait=20_000))
    assert answer.responses[0].partitions[0].records == b""


async def test_connections_are_bounded(serve: Callable[[FakeNode], Served]) -> None:
    served = serve(FakeNode(max_connections="2"))
    first, *others = [await served.connect() for _ in range(2 + RESERVED)]
    for peer in (first, *others):
        await peer.ask(ApiKey.API_VERSIONS, 0)
    assert await (await served.connect()).is_closed()
    await first.stream.aclose()
    await trio.sleep(0.1)
    assert (await (await served.connect()).ask(ApiKey.API_VERSIONS, 0)).api_keys


async def test_a_flood_of_small_requests_lets_others_have_their_turn(served: Served) -> None:
    flooder, other = await served.connect(), await served.connect()
    frame = b"\0\0\0\x0a" + b"\0\x12\0\0\0\0\0\x01\xff\xff"
    await flooder.stream.send_all(frame * 5000)  # ApiVersions, answered without any waiting
    await other.ask(ApiKey.API_VERSIONS, 0)
    assert served.listener.statistics()["requests"] < 2500


@contextmanager
def _cycles() -> Iterator[list[object]]:
    """What only the collector frees of what is made in the block; filled in at its end."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += [one for one in gc.garbage if type(one).__module__.startswith(("raftlog.", "trio"))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_the_search_for_cycles_finds_one() -> None:
    with _cycles() as found:
        event = trio.Event()
        event._tasks.add(event)  # type: ignore[arg-type]
        del event
    assert [type(one) for one in found] == [trio.Event]


async def test_a_request_is_forgotten_when_it_is_answered(served: Served) -> None:
    """No cycle keeps it, and the frame with its records, until the collector comes."""
    peer = await served.connect()
    await peer.ask(ApiKey.PRODUCE, 9, **produce(b"a"))
    with _cycles() as found:
        for _ in range(20):
            await peer.send(ApiKey.PRODUCE, 9, **produce(b"a"))
        for _ in range(20):
            await peer.frame()
    assert found == []


async def test_a_fetch_that_waited_is_forgotten(clock: MockClock, served: Served) -> None:
    peer = await served.connect()
    await peer.ask(ApiKey.PRODUCE, 9, **produce(b"a"))
    with _cycles() as found:
        for _ in range(20):
            await peer.ask(ApiKey.FETCH, 12, **fetch(1, max_wait=10, min_bytes=1))
            await peer.ask(ApiKey.FETCH, 12, **fetch(0))
    assert found == []


async def test_a_connection_that_ended_is_forgotten(served: Served) -> None:
    await (await served.connect()).ask(ApiKey.API_VERSIONS, 0)
    with _cycles() as found:
        for _ in range(20):
            peer = await served.connect()
            await peer.ask(ApiKey.PRODUCE, 9, **produce(b"a"))
            await peer.stream.aclose()
            del peer
        await trio.testing.wait_all_tasks_blocked()
        assert served.listener.statistics()["connections"] == 1
    assert found == []


async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(
    clock: MockClock, served: Served
) -> None:
    slow = partition_of(served)
    slow.hold = True
    peer = await served.connect()
    await peer.send(ApiKey.PRODUCE, 9, **produce(b"a"))
    await trio.sleep(0.1)
    await peer.stream.send_all(b"\0\0")
    await peer.stream.aclose()
    await trio.sleep(1)
    slow.commit()
    assert served.listener.statistics()["connections"] == 0


async def test_an_address_has_a_number_of_connections_by_all_listeners_together(
    serve: Callable[[FakeNode], Served],
) -> None:
    served = serve(FakeNode(max_connections_per_ip="2"))
    first, second = await served.connect("INTERNAL"), await served.connect("EXTERNAL")
    assert (await first.ask(ApiKey.API_VERSIONS, 0)).error_code == 0
    assert (await second.ask(ApiKey.API_VERSIONS, 0)).error_code == 0
    refused = await served.connect("INTERNAL")
    assert await refused.is_closed()
    await first.stream.aclose()
    with trio.fail_after(30):
        while served.listener.statistics()["connections"] == 2:  # noqa: ASYNC110  the other side closes
            await trio.sleep(0.01)
        again = await served.connect("EXTERNAL")
        assert (await again.ask(ApiKey.API_VERSIONS, 0)).error_code == 0


async def test_how_long_answers_take_is_known_by_api(clock: MockClock, served: Served) -> None:
    peer = await served.connect()
    partition = served.node.partitions["t", 0]
    partition.hold = True
    await peer.send(ApiKey.PRODUCE, 9, **produce(b"a"))
    await trio.sleep(2)
    partition.commit()
    await peer.receive(ApiKey.PRODUCE, 9)
    for _ in range(2):
        await peer.ask(ApiKey.API_VERSIONS, 0)
    latencies = served.listener.latencies
    assert {api: latency.count for api, latency in latencies.items()} == {
        ApiKey.PRODUCE: 1,
        ApiKey.API_VERSIONS: 2,
    }
    assert latencies[ApiKey.PRODUCE].longest_s >= 1
    assert latencies[ApiKey.API_VERSIONS].longest_s < 1
