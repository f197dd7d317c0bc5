"""A client's first bytes at a listener in TLS."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing
from pathlib import Path

import pytest
import trio
import trio.testing

from raftlog.broker.origin import ANONYMOUS
from raftlog.broker.securing import lasts_s, secure_client
from raftlog.errors import InvalidInput
from raftlog.net.doorstep import Doorstep
from raftlog.net.stream import PlainStream
from raftlog.net.tls import secure
from tests.certificates import authority, client_context, server_context


def sockets() -> tuple[socket.socket, PlainStream]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, PlainStream(server.accept()[0])


async def dial(connected: socket.socket, context: ssl.SSLContext) -> None:
    """And leave."""
    with closing(await secure(PlainStream(connected), context, "localhost")):
        pass


@pytest.mark.parametrize("shows", [False, True])
async def test_a_client_is_called_as_its_certificate_says(shows: bool, tmp_path: Path) -> None:
    one, other = sockets()
    asks, dials = server_context("localhost"), client_context()
    asks.verify_mode = ssl.CERT_OPTIONAL
    authority().configure_trust(asks)
    if shows:
        authority().issue_cert("alice.example", common_name="alice").configure_cert(dials)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial, one, dials)
            stream, principal = await secure_client(other, asks, "SSL")
    left_s = lasts_s(stream)
    stream.close()
    if not shows:
        assert principal == ANONYMOUS and left_s == float("inf")
    else:
        assert principal.startswith("User:CN=alice,OU=Testing cert \\#"), principal
        assert principal.count("CN=") == 1 and 3600 < left_s < float("inf")


@pytest.mark.parametrize(
    ("begins", "told"),
    [
        (b"\0\0\0\x0a\0\x12\0\0", "set the client's security.protocol to SSL"),
        (b"GET / HTTP/1.1\r\n\r\n", "an HTTP request"),
        (b"\x16\x03\x01\x00\x05hello", "no TLS handshake"),
    ],
)
async def test_who_begins_otherwise_is_found_out(begins: bytes, told: str) -> None:
    one, other = sockets()
    with closing(one), trio.fail_after(20):
        one.sendall(begins)
        with pytest.raises(InvalidInput, match=told):
            await secure_client(other, server_context("localhost"), "SSL")


async def test_who_leaves_without_a_word_has_left() -> None:
    one, other = sockets()
    one.close()
    with trio.fail_after(20), pytest.raises(ConnectionError):
        await secure_client(other, server_context("localhost"), "SSL")


async def test_when_too_many_wait_the_oldest_goes() -> None:
    doorstep, gone = Doorstep(2), []

    async def wait(number: int) -> None:
        with doorstep.stand() as scope:
            await trio.sleep_forever()
        if scope.cancelled_caught:
            gone.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(wait, number)
            await trio.testing.wait_all_tasks_blocked()
        assert gone == [0, 1]
        nursery.cancel_scope.cancel()


async def test_as_many_go_as_are_too_many_when_they_come_all_at_once() -> None:
    doorstep = Doorstep(10)
    here: set[int] = set()

    async def wait(number: int) -> None:
        with doorstep.stand():
            here.add(number)
            try:
                await trio.sleep_forever()
            finally:
                here.remove(number)

    async with trio.open_nursery() as nursery:
        for number in range(500):
            nursery.start_soon(wait, number)
            if number % 3 == 0:
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert len(here) == 10
        nursery.cancel_scope.cancel()


async def test_who_takes_too_long_goes(autojump_clock: trio.testing.MockClock) -> None:
    with Doorstep(2).stand(10) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 10
