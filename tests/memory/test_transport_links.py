"""Connections between brokers, over loopback sockets."""

from __future__ import annotations

import logging
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing

from raftlog.net.stream import PlainStream
from raftlog.raft.messages import Append, AppendReply, Heartbeat, Message
from raftlog.storage.entry import Entry, EntryKind
from raftlog.testing.network import Network
from raftlog.transport.lanes import LANE_BYTES_MAX, WHOLE_BYTES_MAX, Lane
from raftlog.transport.link import Connection, Link
from raftlog.transport.links import COMPLAINTS_EACH, Address, Links
from raftlog.transport.securing import Securing
from raftlog.types import BrokerId, GroupKey
from tests.memory.slow_link import throttle
from tests.unit.raft_cluster import KEY


def reply(number: int) -> AppendReply:
    return AppendReply(KEY, 1, number)  # type: ignore[arg-type]


def append(payload: bytes) -> Append:
    entry = Entry(1, 1, EntryKind.BATCH, payload, 0, 1)  # type: ignore[arg-type]
    return Append(KEY, 1, 0, 0, 0, [entry])  # type: ignore[arg-type]


class End:
    """One broker's links and what came in."""

    def __init__(
        self,
        broker: int,
        cluster: str | None = "c1",
        process: bytes = b"first",
        securing: Securing | None = None,
    ) -> None:
        self.broker = BrokerId(broker)
        self.cluster = cluster
        self.messages: list[tuple[int, Message]] = []
        self.notes: list[tuple[int, bytes]] = []
        self.links = Links(
            self.broker,
            process=process,
            cluster_id=lambda: self.cluster,
            receive=self._receive,
            rng=random.Random(broker),
            securing=securing,
            on_note=lambda sender, body: self.notes.append((sender, body)),
            on_bytes=self._hear_part,
        )
        self.network = Network()
        self.links.through = self.network.through
        self.parts_heard = 0

    def _hear_part(self, peer: BrokerId) -> None:
        self.parts_heard += 1

    def _receive(self, sender: BrokerId, messages: Sequence[Message]) -> None:
        self.messages += [(sender, message) for message in messages]


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 (sockets of the system, no event to wait for)
            await trio.sleep(0.002)


@asynccontextmanager
async def running(
    *ends: End, known: dict[int, Sequence[int]] | None = None, bytes_a_second: float | None = None
) -> AsyncIterator[None]:
    addresses: dict[BrokerId, list[Address]] = {}
    async with trio.open_nursery() as nursery:
        for end in ends:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            if bytes_a_second is not None:
                port = await nursery.start(throttle, port, bytes_a_second)
            addresses[end.broker] = [Address("127.0.0.1", port)]
            nursery.start_soon(end.links.run, listeners)
        await trio.testing.wait_all_tasks_blocked()
        for end in ends:
            peers = addresses
            if known is not None and end.broker in known:
                peers = {b: a for b, a in addresses.items() if b in known[end.broker]}
            end.links.set_peers(peers)
        yield
        nursery.cancel_scope.cancel()


def connected(*ends: End) -> bool:
    return all(a.links.is_connected(b.broker) for a in ends for b in ends if a is not b)


async def test_messages_go_both_ways_over_one_connection() -> None:
    one, two = End(1), End(2)
    async with running(one, two):
        await until(lambda: connected(one, two))
        one.links.send(two.broker, [reply(1), append(b"payload")])
        two.links.send(one.broker, [reply(2)])
        assert two.links.send_note(one.broker, b"hint")
        await until(lambda: len(two.messages) == 2 and one.messages != [] and one.notes != [])
        assert two.messages[0] == (1, reply(1))
        assert one.messages == [(2, reply(2))]
        assert one.notes == [(2, b"hint")]


async def test_large_and_small_frames_arrive_whole_and_in_order() -> None:
    one, two = End(1), End(2)
    rng = random.Random(5)
    async with running(one, two):
        await until(lambda: connected(one, two))
        sent = []
        for number in range(60):
            size = rng.choice([0, 1, 100, 5_000, 200_000, 300_000, 3_000_000])
            payload = rng.randbytes(size)
            sent.append(payload)
            one.links.send(two.broker, [reply(number), append(payload)])
        await until(lambda: len(two.messages) == 120)
        assert [m.match_index for _, m in two.messages if isinstance(m, AppendReply)] == list(range(60))
        received = [bytes(m.entries[0].payload) for _, m in two.messages if isinstance(m, Append)]
        assert received == sent


async def test_heartbeats_pass_a_large_append_on_a_slow_link() -> None:
    """At 100 Mbit/s 8 MB take 0.7 s. Here they are fewer, and slower."""
    one, two = End(1), End(2)
    async with running(one, two, bytes_a_second=1 << 20):
        await until(lambda: connected(one, two))
        one.links.send(two.broker, [append(bytes(2 << 20)), append(b"behind it")])
        for number in range(20):
            one.links.send(two.broker, [Heartbeat(KEY, 1, 0, number)])  # type: ignore[arg-type]
            await trio.sleep(0.02)
        await until(lambda: sum(isinstance(m, Append) for _, m in two.messages) == 2)
        kinds = [type(message) for _, message in two.messages]
        assert kinds[:10] == [Heartbeat] * 10, "they waited for it"
        assert [len(m.entries[0].payload) for _, m in two.messages if isinstance(m, Append)] == [2 << 20, 9]
        assert two.parts_heard > 10, "what is under way is a sign of life"


async def test_three_brokers_are_connected_pairwise_and_find_back() -> None:
    ends = [End(1), End(2), End(3)]
    async with running(*ends):
        await until(lambda: connected(*ends))
        ends[0].links._links[BrokerId(3)].connection.stream.shut_down()  # type: ignore[union-attr]
        await until(lambda: not ends[0].links.is_connected(BrokerId(3)))
        await until(lambda: connected(*ends))
        ends[0].links.send(BrokerId(3), [reply(7)])
        await until(lambda: ends[2].messages == [(1, reply(7))])


async def test_a_broker_of_another_cluster_is_refused_and_both_sides_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, two = End(1, "ours"), End(2, "theirs")
    with caplog.at_level(logging.WARNING, "raftlog.peers"):
        async with running(one, two):
            await until(lambda: len(caplog.messages) >= 2)
            assert not one.links.is_connected(two.broker)
    assert any("cluster 'theirs', this broker is of cluster 'ours'" in m for m in caplog.messages)
    assert any("broker 1 refused us" in m or "no connection to broker 1" in m for m in caplog.messages)


async def test_noise_at_the_peer_port_costs_a_few_lines_and_no_peer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, two = End(1), End(2)
    rng = random.Random(3)
    with caplog.at_level(logging.WARNING, "raftlog.peers"):
        async with running(one, two):
            await until(lambda: connected(one, two))
            address = two.links._peers[BrokerId(1)][0]
            for number in range(200):
                stream = await trio.open_tcp_stream(address.host, address.port)
                noise = b"GET / HTTP/1.1\r\n\r\n" if number == 0 else rng.randbytes(40)
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(noise)
                    await stream.send_eof()
                    await stream.receive_some()
                await stream.aclose()
            assert connected(one, two)
            one.links.send(two.broker, [reply(1)])
            await until(lambda: two.messages == [(1, reply(1))])
    said = [message for message in caplog.messages if "refused a connection" in message]
    assert 1 <= len(said) <= COMPLAINTS_EACH
    assert "127.0.0.1: it begins with b'GET ', which no broker sends" in said[0]


def test_an_address_is_written_as_it_is_read() -> None:
    assert str(Address("::1", 9192)) == "[::1]:9192"
    assert str(Address("a.example", 9192)) == "a.example:9192"


async def test_a_second_process_with_the_id_of_one_that_is_there_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, two, twin = End(1), End(2), End(2, process=b"second")
    async with running(one, two), trio.open_nursery() as nursery:
        await until(lambda: connected(one, two))
        nursery.start_soon(twin.links.run, [])
        twin.links.set_peers({BrokerId(1): two.links._peers[BrokerId(1)]})
        await until(lambda: any("refused us: 'broker 2 is connected already" in m for m in caplog.messages))
        two.links.send(one.broker, [reply(1)])
        await until(lambda: one.messages == [(2, reply(1))])
        nursery.cancel_scope.cancel()


async def test_a_peer_is_looked_for_where_it_may_be(caplog: pytest.LogCaptureFixture) -> None:
    one, two = End(1), End(2)
    async with running(one, two):
        await until(lambda: connected(one, two))
        (here,) = two.links._peers[BrokerId(1)]
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            two.links.set_peers({BrokerId(1): [Address("127.0.0.1", nobody.getsockname()[1]), here]})
            two.links._links[BrokerId(1)].connection.stream.shut_down()  # type: ignore[union-attr]
            await until(lambda: any(m.endswith(": Connection refused") for m in caplog.messages))
            await until(lambda: connected(one, two))


async def test_a_cluster_without_a_name_yet_is_let_in() -> None:
    one, two = End(1, "ours"), End(2, None)
    async with running(one, two):
        await until(lambda: connected(one, two))


async def test_an_unknown_broker_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    one, two = End(1), End(2)
    with caplog.at_level(logging.WARNING, "raftlog.peers"):
        async with running(one, two, known={1: []}):
            await until(lambda: any("broker 2 is no peer of broker 1" in m for m in caplog.messages))
            assert not two.links.is_connected(one.broker)


@pytest.mark.parametrize(
    "greeting",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\4\0\0\0\0", b"\xff" * 100, b"\0\0\x10\x01" + b"\0" * 50],
)
async def test_a_stranger_is_refused(caplog: pytest.LogCaptureFixture, greeting: bytes) -> None:
    one, two = End(1), End(2)
    with caplog.at_level(logging.WARNING, "raftlog.peers"):
        async with running(one, two):
            await until(lambda: connected(one, two))
            (address,) = two.links._peers[BrokerId(1)]
            async with await trio.open_tcp_stream(address.host, address.port) as stream:
                try:
                    await stream.send_all(greeting)
                    await stream.send_eof()
                    with trio.fail_after(5):
                        assert await stream.receive_some() == b""
                except trio.BrokenResourceError:
                    pass  # reset: it was refused before it had said everything
            await until(lambda: any("refused a connection" in m for m in caplog.messages))
            one.links.send(two.broker, [reply(1)])
            await until(lambda: two.messages == [(1, reply(1))])


async def test_a_probe_costs_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    one, two = End(1), End(2)
    with caplog.at_level(logging.WARNING, "raftlog.peers"):
        async with running(one, two):
            await until(lambda: connected(one, two))
            (address,) = two.links._peers[BrokerId(1)]
            async with await trio.open_tcp_stream(address.host, address.port) as stream:
                await stream.send_eof()
                with trio.fail_after(5):
                    assert await stream.receive_some() == b""
            assert not any("refused" in message for message in caplog.messages)


async def test_what_is_cut_is_lost_and_the_connection_with_it(caplog: pytest.LogCaptureFixture) -> None:
    one, two = End(1), End(2)
    async with running(one, two):
        await until(lambda: connected(one, two))
        one.network.cut(frozenset({two.broker}))
        one.links.send(two.broker, [reply(1)])
        two.links.send(one.broker, [reply(2)])
        assert one.links.send_note(two.broker, b"lost"), "a network does not say what it drops"
        await trio.sleep(0.05)
        assert two.messages == one.messages == []
        assert connected(one, two), "nobody knows yet"
        one.network.cut(frozenset())
        await until(lambda: not connected(one, two))
        await until(lambda: connected(one, two))
        one.links.send(two.broker, [reply(3)])
        await until(lambda: two.messages == [(1, reply(3))])


def test_a_full_queue_drops_and_stays_bounded() -> None:
    ours, theirs = socket.socketpair()
    link = Link(BrokerId(2))
    assert not link.send(Lane.LOG, [b"nobody there"])
    connection = Connection(PlainStream(ours), in_pieces=True)
    link.attach(connection)
    payload = bytes(1 << 20)
    accepted = 0
    while link.send(Lane.LOG, [payload]):
        accepted += 1
        assert accepted < 200
    assert link.dropped_frames == 2
    assert link.bytes_queued <= LANE_BYTES_MAX + WHOLE_BYTES_MAX
    assert accepted >= LANE_BYTES_MAX // len(payload) - 1
    link.detach(connection)
    assert link.bytes_queued == 0
    ours.close()
    theirs.close()


async def test_a_peer_that_sends_garbage_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    one, two = End(1), End(2)
    async with running(one, two):
        await until(lambda: connected(one, two))
        with caplog.at_level(logging.WARNING, "raftlog.peers"):
            two.links._links[BrokerId(1)].send(Lane.LOG, [b"\0\0\0\x08\0\0\0\x04\xff\xff\xff\xff"])
            await until(lambda: any("lost broker 2" in m for m in caplog.messages))
        await until(lambda: connected(one, two))
        assert one.messages == []


def test_keys_have_the_size_that_frames_expect() -> None:
    assert len(GroupKey(KEY)) == 20
