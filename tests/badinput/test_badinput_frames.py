"""Frames and request headers: lengths that lie, requests cut off, strangers' protocols."""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import socket
import struct
import urllib.request

import pytest

from tests.badinput import requests
from tests.badinput.conftest import FRAME_MAX, Victim
from tests.badinput.wire import (
    API_VERSIONS,
    CONTROLLED_SHUTDOWN,
    METADATA,
    PRODUCE,
    Reader,
    framed,
    header,
    i8,
    i16,
    i32,
)

UNSUPPORTED_VERSION = 35
GOOD = header(METADATA, 4) + requests.metadata_body()


@pytest.mark.parametrize("length", [0, -1, -(2**31), 2**31 - 1, FRAME_MAX + 1])
def test_cve_2026_10142_a_frame_length_out_of_bounds(victim: Victim, length: int) -> None:
    """kafka-python did not check it: a negative one left the connection stuck."""
    victim.assert_closed(i32(length), f"frame of {length} bytes")


def test_the_largest_frame_is_taken(victim: Victim) -> None:
    """Bytes behind a message are ignored, as librdkafka leaves some there."""
    with victim.connect() as raw:
        raw.send(framed(GOOD + bytes(FRAME_MAX - len(GOOD))))
        assert len(raw.receive()) > 20


def test_a_connection_that_ends_after_any_byte(victim: Victim) -> None:
    whole = framed(GOOD)
    for cut in range(len(whole)):
        with victim.connect() as raw:
            raw.send(whole[:cut])
            raw.send_no_more()
            assert raw.wait_closed() == b""


@pytest.mark.parametrize("api", ["produce", "fetch", "metadata"])
def test_a_request_cut_off_after_any_byte(victim: Victim, api: str) -> None:
    """The frame is whole, what is in it is not: answered where that still makes sense, or closed."""
    request = {
        "produce": header(PRODUCE, 7) + requests.produce_body("cut", b"x" * 70),
        "fetch": header(1, 11) + requests.fetch_body("cut", 0),
        "metadata": header(METADATA, 4) + requests.metadata_body("cut-1", "cut-2", create=False),
    }[api]
    for cut in range(1, len(request)):
        with victim.connect() as raw:
            raw.send(framed(request[:cut]))
            raw.send_no_more()
            answer = raw.wait_closed()
            assert answer == b"" or len(answer) == 4 + struct.unpack(">i", answer[:4])[0]


def test_two_frames_at_once(victim: Victim) -> None:
    with victim.connect() as raw:
        first, second = (header(METADATA, 4, correlation=n) + requests.metadata_body() for n in (7, 8))
        raw.send(framed(first) + framed(second))
        assert raw.receive()[:4] == i32(7)
        assert raw.receive()[:4] == i32(8)


def test_a_frame_byte_by_byte(victim: Victim) -> None:
    with victim.connect() as raw:
        for byte in framed(GOOD):
            raw.send(bytes((byte,)))
        assert raw.receive()[:4] == i32(1)


def test_a_thousand_requests_before_the_first_answer_is_read(victim: Victim) -> None:
    with victim.connect() as raw:
        raw.send(
            b"".join(
                framed(header(METADATA, 4, correlation=n) + requests.metadata_body("none", create=False))
                for n in range(1000)
            )
        )
        assert [raw.receive()[:4] for _ in range(1000)] == [i32(n) for n in range(1000)]


@pytest.mark.parametrize("api", [-1, 999, 32767, CONTROLLED_SHUTDOWN, 4, 5, 6])
def test_an_api_that_is_not_served(victim: Victim, api: int) -> None:
    """Between them what brokers tell each other in Apache Kafka: LeaderAndIsr, StopReplica and others."""
    victim.assert_closed(framed(header(api, 0) + bytes(40)), rf"API {api}\b")


@pytest.mark.parametrize("version", [-1, 14, 99, 32767])
def test_a_version_that_is_not_served(victim: Victim, version: int) -> None:
    victim.assert_closed(framed(header(METADATA, version) + bytes(40)), f"METADATA v{version} is not served")


@pytest.mark.parametrize("version", [5, 99, 32767, -1])
def test_api_versions_of_any_version_is_answered_in_version_0(victim: Victim, version: int) -> None:
    """KIP-511: the error, and the range of ApiVersions, so that the client can ask again."""
    with victim.connect() as raw:
        reader = Reader(raw.ask(API_VERSIONS, version, b"\x01\x02\x03"))
        assert reader.i16() == UNSUPPORTED_VERSION
        ranges = {reader.i16(): (reader.i16(), reader.i16()) for _ in range(reader.i32())}
        assert ranges[API_VERSIONS][0] == 0
        assert ranges[API_VERSIONS][1] in range(3, 5)
        assert reader.is_at_end()
        again = Reader(raw.ask(API_VERSIONS, 0, b""))
        assert again.i16() == 0


@pytest.mark.parametrize("version", [0, 1, 2])
def test_produce_versions_that_are_advertised_for_librdkafka_only(victim: Victim, version: int) -> None:
    body = requests.produce_body(victim.topic(), b"")[2:]  # no transactional id yet
    with victim.connect() as raw:
        assert i16(UNSUPPORTED_VERSION) in raw.ask(PRODUCE, version, body)


@pytest.mark.parametrize("correlation", [0, -1, -(2**31), 2**31 - 1])
def test_any_correlation_id_comes_back(victim: Victim, correlation: int) -> None:
    with victim.connect() as raw:
        raw.send(framed(header(METADATA, 4, correlation=correlation) + requests.metadata_body()))
        assert raw.receive()[:4] == i32(correlation)


@pytest.mark.parametrize("client_id", [None, b"", b"x" * 32767, "ünï".encode(), b"a\0b\nc"])
def test_any_client_id_is_taken(victim: Victim, client_id: bytes | None) -> None:
    with victim.connect() as raw:
        assert raw.ask(METADATA, 4, requests.metadata_body(), client_id=client_id)


@pytest.mark.parametrize(
    "name", [i16(-2), i16(-32768), i16(100) + b"short", i16(2) + b"\xff\xfe"], ids=lambda name: name.hex()
)
def test_a_client_id_that_is_none(victim: Victim, name: bytes) -> None:
    victim.assert_closed(framed(struct.pack(">hhi", METADATA, 4, 1) + name), "client id|header")


def test_flexible_headers_where_they_do_not_belong(victim: Victim) -> None:
    """A v4 with tags, a v9 without: whatever it makes of them, the broker does not hang."""
    for version, tags in ((4, b"\0"), (4, b"\x01\x05\x01a"), (9, b""), (9, b"\xff")):
        with victim.connect() as raw:
            raw.send(framed(header(METADATA, version, tags=tags) + requests.metadata_body()))
            raw.send_no_more()
            raw.wait_closed()


STRANGERS = {
    "http": (b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n", "an HTTP request: this port speaks Kafka"),
    "post": (b"POST /topics/t HTTP/1.1\r\nHost: kafka\r\n\r\n{}", "an HTTP request: this port"),
    "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "an HTTP/2 request"),
    "tls": (bytes.fromhex("16030100c8010000c40303") + bytes(200), "a TLS handshake: this listener is in"),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH client"),
    "proxy": (b"PROXY TCP4 10.0.0.1 10.0.0.2 5 9092\r\n", "a PROXY protocol header"),
    "proxy v2": (bytes.fromhex("0d0a0d0a000d0a515549540a2111000c") + bytes(12), "a PROXY protocol header"),
    "redis": (b"*1\r\n$4\r\nPING\r\n", "frame of"),
    "newline": (b"\r\n" + b"x" * 20, "frame of"),
}


AT_HTTP = r"console and HTTP API are at http://127\.0\.0\.1:\d+/\.\n"
TOLD = {
    "http": rf"HTTP/1\.1 400 (?s:.*)speaks Kafka's protocol.*\n.*{AT_HTTP}",
    "post": rf"HTTP/1\.1 400 (?s:.*)speaks Kafka's protocol.*\n.*{AT_HTTP}",
    "tls": rf"This listener speaks plain text\.\nNo listener speaks TLS\. .*{AT_HTTP}",
}


@pytest.mark.parametrize("protocol", STRANGERS)
def test_another_protocol_on_the_kafka_port(victim: Victim, protocol: str) -> None:
    data, reason = STRANGERS[protocol]
    victim.assert_closed(data, reason, TOLD.get(protocol, ""))


def test_a_person_with_a_browser_is_told_where_to_look(victim: Victim) -> None:
    """And finds the console there."""
    connection = http.client.HTTPConnection(*victim.address, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert (answer.status, answer.headers.get_content_type()) == (400, "text/plain")
        found = re.search(
            r"speaks Kafka's protocol.*\n.*console.* at (http://\S+/)\.\n", answer.read().decode()
        )
    assert found is not None
    with urllib.request.urlopen(found[1]) as page:
        assert page.headers.get_content_type() == "text/html"


def test_random_bytes(victim: Victim) -> None:
    """Half of them behind a length that is right, so that the inside is read."""
    rng = random.Random(20261121)
    for round_number in range(300):
        data = rng.randbytes(rng.randrange(1, 300))
        with victim.connect() as raw:
            raw.send(framed(data) if round_number % 2 else data)
            raw.send_no_more()
            raw.wait_closed()


def test_random_bodies_of_every_api(victim: Victim) -> None:
    """A true header before noise, for every API and version that is served."""
    rng = random.Random(20261122)
    with victim.connect() as raw:
        reader = Reader(raw.ask(API_VERSIONS, 0, b""))
        assert reader.i16() == 0
        served = [(reader.i16(), reader.i16(), reader.i16()) for _ in range(reader.i32())]
    for api, first, last in served:
        for version in range(first, last + 1):
            body = rng.randbytes(rng.randrange(0, 60))
            if rng.random() < 0.5:
                body = bytes(byte % 4 for byte in body)  # small numbers look more like something
            with victim.connect() as raw:
                raw.send(framed(header(api, version, tags=rng.choice((b"", b"\0"))) + body))
                raw.send_no_more()
                raw.wait_closed()


def test_a_reset_in_the_middle_of_everything(victim: Victim) -> None:
    """RST instead of FIN, while answers are on their way."""
    topic = victim.topic()
    for _ in range(30):
        with victim.connect() as raw:
            raw.send(framed(header(1, 11) + requests.fetch_body(topic, 0, max_wait_ms=5)))
            raw.send(framed(GOOD) * 20 + i32(1000) + i8(1))
            raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
