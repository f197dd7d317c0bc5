"""Server-sent events: the tail of a topic, what a stream costs, and how it ends (scenarios 3 and 13)."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from raftlog.http.connection import CONNECTIONS_EACH_MAX
from raftlog.testing.processes import BrokerProcess
from tests.http.raw import ask, connect, is_closed, listen


def follow(
    broker: BrokerProcess, path: str, last: str | None = None, *, source: str = "127.0.0.1"
) -> socket.socket:
    sock = connect(broker, source)
    more = "" if last is None else f"Last-Event-ID: {last}\r\n"
    sock.sendall(f"GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
    return sock


def messages(data: bytes, kind: str) -> list[Any]:
    """Those of a kind that are there whole."""
    found = []
    for block in data.split(f"event: {kind}\n".encode())[1:]:
        body, end, _ = block.partition(b"\n\n")
        if end:
            found.append(json.loads(body.partition(b"data: ")[2]))
    return found


def place_of(data: bytes) -> str:
    """How much was told, as the last event says: what a browser says when it comes back."""
    return [line[4:].decode() for line in data.split(b"\n") if line.startswith(b"id: ")][-1]


def test_13_a_tail_has_what_comes_and_counts_what_it_leaves_out(broker: BrokerProcess) -> None:
    ask(broker, "/api/v1/topics", method="POST", body={"name": "tailed", "partitions": 1})
    with follow(broker, "/topics/tailed/tail") as sock:
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        data = sock.recv(65536)  # the first second is over: it follows from here on
        record = {"value": {"as": "utf8", "text": "seen"}, "count": 1000}
        assert ask(broker, "/api/v1/topics/tailed/records", method="POST", body=record).status == 200
        until = time.monotonic() + 30
        while sum(m["skipped"] + len(m["records"]) for m in messages(data, "record")) < 1000:
            assert time.monotonic() < until, messages(data, "record")
            data += sock.recv(65536)
    told = messages(data, "record")
    assert sum(message["skipped"] for message in told) >= 800
    assert all(len(message["records"]) <= 100 for message in told)
    assert "999" in {row["offset"] for message in told for row in message["records"]}


def test_who_comes_back_is_given_what_was_missed_and_not_the_rest(broker: BrokerProcess) -> None:
    with follow(broker, "/events") as sock:
        data = b""
        while not messages(data, "raft"):
            data += sock.recv(65536)
    last = place_of(data)
    ask(broker, "/api/v1/topics", method="POST", body={"name": "missed", "partitions": 1})
    with follow(broker, "/events", last) as sock:
        data = b""
        while not messages(data, "raft"):
            data += sock.recv(65536)
    (event, *_) = [e for e in messages(data, "raft")[0] if e["kind"] == "leader"]
    assert "missed-0" in event["groups"]
    assert place_of(data) > last


def test_3_a_broker_that_stops_says_so_to_every_stream_and_ends(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", arguments=listen())
    broker.start()
    addresses = [f"127.0.1.{1 + number // CONNECTIONS_EACH_MAX}" for number in range(16)]
    streams = [follow(broker, "/events", source=address) for address in addresses]
    try:
        for sock in streams:
            data = b""
            while b"event: hello" not in data:
                data += sock.recv(65536)
        os.kill(broker.pid, signal.SIGTERM)
        for sock in streams:
            data = b""
            while chunk := sock.recv(65536):
                data += chunk
            assert b"event: bye" in data
            assert is_closed(sock)
        assert broker.wait(30) == 0
    finally:
        for sock in streams:
            sock.close()
        if broker.is_running:
            broker.kill()
