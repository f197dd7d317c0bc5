"""The client's end of a connection, on a pair of sockets."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from raftlog.client.connection import Connection
from raftlog.client.errors import Disconnected
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
