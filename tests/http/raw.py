"""HTTP by hand: what a test sends is what goes over the wire."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raftlog.testing.processes import BrokerProcess, free_port, http_address

TIMEOUT_S = 30.0
CHANGE = {"Content-Type": "application/json", "X-Raftlog-CSRF": "1"}
"""What a change has to say."""


def listen(host: str = "127.0.0.1") -> tuple[str, str]:
    """Arguments that have a broker serve HTTP at a free port."""
    return ("--http-listen", f"{host}:{free_port()}")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json()["error"]["message"])


def address_of(server: BrokerProcess | str) -> str:
    """Of a broker's HTTP, or of what is named by it."""
    return server if isinstance(server, str) else http_address(server)


def connect(broker: BrokerProcess | str, source: str = "") -> socket.socket:
    """`source` is the address that the other side sees: one may have eight connections."""
    host, _, port = address_of(broker).rpartition(":")
    return socket.create_connection((host, int(port)), TIMEOUT_S, (source, 0))


def read_answer(sock: socket.socket) -> Answer | None:
    """The next answer; None when the connection ended before one."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(65536)
        if not chunk:
            assert not data, data
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    left = int(headers.get("content-length", "0")) - len(body)
    while left > 0 and (chunk := sock.recv(min(left, 65536))):
        body += chunk
        left -= len(chunk)
    return Answer(int(status.split()[1]), headers, body)


def send(broker: BrokerProcess | str, data: bytes) -> Answer | None:
    with connect(broker) as sock:
        sock.sendall(data)
        return read_answer(sock)


def is_closed(sock: socket.socket) -> bool:
    """Whether the other side ended the connection, after whatever it still said."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def ask(
    broker: BrokerProcess | str,
    path: str,
    *,
    method: str = "GET",
    body: object = None,
    headers: Mapping[str, str] | None = None,
    host: str | None = None,
) -> Answer:
    data = b"" if body is None else json.dumps(body).encode()
    all_headers = {"Host": host or address_of(broker), "Connection": "close"}
    if method not in ("GET", "HEAD"):
        all_headers |= CHANGE | {"Content-Length": str(len(data))}
    all_headers |= headers or {}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in all_headers.items())
    answer = send(broker, head.encode() + b"\r\n" + data)
    assert answer is not None, (method, path)
    return answer
