"""The client's end of a connection, on a pair of sockets."""

from __future__ import annotations

import random
import socket
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from raftlog.client.connection import Connection
from raftlog.client.connections import Connections
from raftlog.client.errors import Disconnected
from raftlog.client.settings import ClientSettings
from raftlog.client.trouble import Trouble
from raftlog.net.stream import PlainStream
from raftlog.protocol.api import ApiKey


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    return ours, theirs


async def test_a_connection_that_breaks_with_its_first_request_ends_quietly(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """It ended the client: the connection was closed before its task had begun to read. Seen where a broker
    stopped between taking a connection and reading from it."""
    ours, theirs = pair
    theirs.close()
    connection = Connection(PlainStream(ours), name="broker", client_id="test")
    answers: list[Any] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            fields = {"client_software_name": "raftlog", "client_software_version": "1"}
            connection.submit(
                ApiKey.API_VERSIONS, 3, fields, deadline=trio.current_time() + 5, on_answer=answers.append
            )
    assert isinstance(connection.closed, Disconnected)
    assert answers == [connection.closed]


async def test_a_request_of_more_pieces_than_the_kernel_takes_at_once_is_sent(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The first write of 1,024 batches failed with EMSGSIZE, and ended the connection."""
    ours, theirs = pair
    records = bytes(10_000)
    partitions = [{"index": number, "records": records} for number in range(1_100)]
    fields = {
        "transactional_id": None,
        "acks": 1,
        "timeout": 1,
        "topic_data": [{"name": "t", "partition_data": partitions}],
    }
    connection = Connection(PlainStream(ours), name="broker", client_id="test")
    received = 0
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            connection.submit(
                ApiKey.PRODUCE, 9, fields, deadline=trio.current_time() + 60, on_answer=lambda answer: None
            )
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
            while received < len(records) * len(partitions):
                assert connection.closed is None
                received += len(await stream.receive_some(1 << 20))
            nursery.cancel_scope.cancel()
    theirs.close()


async def test_who_waits_hears_of_the_attempt_that_was_waited_for(autojump_clock: MockClock) -> None:
    """Another task that tried again at once made the failure forgotten before all had looked: they waited for
    the next attempt, after its back-off."""

    async def refuse(host: str, port: int) -> socket.socket:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError(111, "refused")

    async def try_again(connections: Connections, broke: trio.Event) -> None:
        await broke.wait()
        with pytest.raises(Disconnected):
            await connections.get(1)

    for seed in range(20):  # which of the two goes on first is chance
        async with trio.open_nursery() as nursery:
            broke = trio.Event()
            connections = Connections(
                ClientSettings(bootstrap_servers="127.0.0.1:9092"),
                nursery,
                rng=random.Random(seed),
                open_socket=refuse,
                address_of=lambda broker: ("127.0.0.1", 9092),
                trouble=Trouble(),
                on_trouble=broke.set,
            )
            nursery.start_soon(try_again, connections, broke)
            began = trio.current_time()
            with pytest.raises(Disconnected, match="nothing listens there"):
                await connections.get(1)
            assert trio.current_time() == began, seed
