"""What is refused at the entrance (scenarios 15, 16 and 17 of the console's guide)."""

from __future__ import annotations

import contextlib
import time

import pytest

from raftlog.http.connection import CONNECTIONS_EACH_MAX, HEAD_S
from raftlog.http.server import BEYOND_MAX
from raftlog.testing.processes import BrokerProcess
from tests.http.raw import ask, connect, is_closed, read_answer, send

HOST = b"Host: localhost\r\n"
HIDDEN = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
TLS_HELLO = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(64))
KAFKA_FRAME = b"\x00\x00\x00\x0e\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04raft"

SMUGGLED = {
    "a length and an encoding": (
        b"POST /livez HTTP/1.1\r\n"
        + HOST
        + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
    "two lengths": (
        b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        {400},
    ),
    "an unknown encoding": (
        b"POST /livez HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        {400, 501},
    ),
    "a bad chunk end": (
        b"POST /api/v1/topics HTTP/1.1\r\n"
        + HOST
        + b"Content-Type: application/json\r\nX-Raftlog-CSRF: 1\r\n"
        + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabXX",
        {400, 404, 405},
    ),
    "a signed length": (b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length: +4\r\n\r\nabcd", {400}),
    "a space before the colon": (b"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n", {400}),
    "no Host": (b"GET /livez HTTP/1.1\r\n\r\n", {400}),
    "two Hosts": (b"GET /livez HTTP/1.1\r\n" + HOST + HOST + b"\r\n", {400}),
    "a head of 20 kB": (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 20_000 + b"\r\n\r\n", {431}),
    "2,000 headers": (b"GET /livez HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 2_000 + b"\r\n", {431}),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 405, 505}),
    "HTTP/2.0": (b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n", {400, 505}),
    "an absolute target": (b"GET http://evil/livez HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "CONNECT": (b"CONNECT evil:443 HTTP/1.1\r\n" + HOST + b"\r\n", {405}),
    "TRACE": (b"TRACE /livez HTTP/1.1\r\n" + HOST + b"\r\n", {405}),
    "NUL in the target": (b"GET /live\x00z HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "a TLS hello": (TLS_HELLO, {400, None}),
    "a Kafka frame": (KAFKA_FRAME + b"\r\n\r\n", {400}),
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_16_what_is_no_plain_request_is_refused_and_nothing_behind_it_is_run(
    broker: BrokerProcess, name: str
) -> None:
    request, statuses = SMUGGLED[name]
    with connect(broker) as sock:
        sock.sendall(request + HIDDEN)
        if name == "a TLS hello":  # no line ends in it: it is over when the client says so
            sock.shutdown(1)
        answer = read_answer(sock)
        assert (answer.status if answer else None) in statuses, answer
        if answer is not None:
            assert answer.headers["connection"] == "close"
        with contextlib.suppress(ConnectionResetError):
            assert read_answer(sock) is None
        assert is_closed(sock)
    assert ask(broker, "/livez").status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/livez//",
        "/\\etc\\passwd",
        "/%5cetc",
        "/%00",
        "/vendor/..;/x",
        "/%ff",
        "/index.html.bak",
        "/livez?x=1",
        "/livez?x",
    ],
)
def test_17_a_path_that_means_something_else_to_somebody_finds_nothing(
    broker: BrokerProcess, target: str
) -> None:
    assert ask(broker, target).status in (400, 404)


def test_15_who_sends_a_head_slowly_is_closed_and_a_probe_is_answered_meanwhile(
    broker: BrokerProcess,
) -> None:
    """The address has eight connections; seven of them are slow. The probe needs no more than the last."""
    slow = [connect(broker) for _ in range(CONNECTIONS_EACH_MAX - 1)]
    try:
        began = time.monotonic()
        for sock in slow:
            sock.sendall(b"G")
        assert ask(broker, "/livez").status == 200
        for sock in slow:
            answer = read_answer(sock)
            assert answer is not None and answer.status == 408
            assert is_closed(sock)
        assert HEAD_S - 1 < time.monotonic() - began < HEAD_S + 60
    finally:
        for sock in slow:
            sock.close()


def _wait_until_alone(broker: BrokerProcess) -> None:
    """The connections of earlier tests are over for the broker, too."""
    until = time.monotonic() + 30
    while b"\nraftlog_http_connections 1\n" not in ask(broker, "/metrics").body:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_an_address_that_has_too_many_connections_is_told_and_served_when_one_has_gone(
    broker: BrokerProcess,
) -> None:
    _wait_until_alone(broker)
    held = [connect(broker) for _ in range(CONNECTIONS_EACH_MAX)]
    try:
        refused = ask(broker, "/metrics")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    finally:
        for sock in held:
            sock.close()
    until = time.monotonic() + 60
    while ask(broker, "/metrics").status != 200:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_probes_are_answered_however_many_connections_there_are(broker: BrokerProcess) -> None:
    """A flood of browsers made the orchestrator start the broker again."""
    held = [connect(broker) for _ in range(CONNECTIONS_EACH_MAX + 2 * BEYOND_MAX)]
    try:
        for _ in range(3):
            assert ask(broker, "/livez").status == 200
            assert ask(broker, "/readyz").status == 200
        with connect(broker) as sock:
            sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = read_answer(sock)
            assert answer is not None and answer.status == 200
            assert is_closed(sock), "it keeps no place"
    finally:
        for sock in held:
            sock.close()
    _wait_until_alone(broker)


def test_a_connection_serves_one_request_after_the_other(broker: BrokerProcess) -> None:
    with connect(broker) as sock:
        for _ in range(3):
            sock.sendall(HIDDEN)
            answer = read_answer(sock)
            assert answer is not None and answer.status == 200
        sock.sendall(HIDDEN + HIDDEN)  # both at once: both are answered, one behind the other
        data = b""
        while data.count(b"HTTP/1.1 200") < 2 or not data.endswith(b"}"):
            chunk = sock.recv(65536)
            assert chunk, data
            data += chunk


def test_head_is_get_without_a_body(broker: BrokerProcess) -> None:
    with connect(broker) as sock:
        sock.sendall(b"HEAD /livez HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN)
        data = b""
        while data.count(b"\r\n\r\n") < 2 or not data.endswith(b"}"):
            data += sock.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert rest.startswith(b"HTTP/1.1 200")


def test_http_1_0_is_answered_and_closed(broker: BrokerProcess) -> None:
    with connect(broker) as sock:
        sock.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        answer = read_answer(sock)
        assert answer is not None and answer.status == 200
        assert is_closed(sock)


def test_a_body_that_is_too_large_is_refused_before_it_is_read(broker: BrokerProcess) -> None:
    head = b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 900000000000\r\n\r\n"
    answer = send(broker, head)
    assert answer is not None and answer.status in (405, 413)
