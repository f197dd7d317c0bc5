"""One broker, asked by hand: no client that retries, caches or asks somebody else."""

from __future__ import annotations

import itertools
import socket
import ssl
from typing import Any, Final

from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import decode_response, encode_request
from raftlog.protocol.encode import Fields
from raftlog.protocol.sasl import PLAIN, write_plain
from raftlog.testing.processes import BrokerProcess
from raftlog.testing.security import USER, TestSecurity

ANSWER_S: Final = 30.0


class RawClient:
    """A connection to one broker, logged in where it asks for that. A context manager."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._socket = socket.create_connection((broker.host, broker.port), timeout=ANSWER_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ids = itertools.count(1)
        if broker._security is not None:
            self._log_in(broker._security, broker.host)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def ask(self, api: ApiKey, version: int, fields: Fields) -> Any:
        """The answer to one request. Raises OSError, also when it does not come in time."""
        correlation_id = next(self._ids)
        self._socket.sendall(b"".join(encode_request(api, version, correlation_id, "raw", fields)))
        size = int.from_bytes(self._exactly(4), "big")
        echoed, answer = decode_response(api, version, self._exactly(size))
        assert echoed == correlation_id, (echoed, correlation_id)
        return answer

    def _log_in(self, security: TestSecurity, host: str) -> None:
        context = ssl.create_default_context(cafile=str(security.authority))
        self._socket = context.wrap_socket(self._socket, server_hostname=host)
        assert self.ask(ApiKey.SASL_HANDSHAKE, 1, {"mechanism": PLAIN}).error_code == 0
        token = write_plain(USER, security.passwords[USER])
        assert self.ask(ApiKey.SASL_AUTHENTICATE, 2, {"auth_bytes": token}).error_code == 0

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise ConnectionResetError(f"closed after {len(data)} of {count} bytes")
            data += piece
        return bytes(data)


def coordinator_of(client: RawClient, group: str) -> int:
    """Who coordinates a group, as this broker says; -1 for nobody."""
    return int(client.ask(ApiKey.FIND_COORDINATOR, 3, {"key": group, "key_type": 0}).node_id)
