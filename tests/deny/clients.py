"""The administrator, the one who is denied, and a writer; by hand, so that nothing is tried again unseen.

Brokers know nobody's name here, only addresses: the administrator comes from 127.0.0.1, the one who is denied
from 127.0.0.2.
"""

from __future__ import annotations

import itertools
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import decode_response, encode_request
from raftlog.records.record import NewRecord, decode_batch, encode_batch
from tests.deny.judge import NEVER, Op

ADMIN_HOST: Final = "127.0.0.1"
DENIED_HOST: Final = "127.0.0.2"
TOPIC: Final = "denied" * 33
"""So long that each of many denies is of a prefix that no other is of."""
PARTITIONS: Final = 6
BUSY: Final = range(3)
"""Partitions in which a record comes at any moment."""
QUIET: Final = range(3, PARTITIONS)
"""Those in which one comes about once a second: who waits there when a deny begins waits still when it has
returned."""
ANSWER_S: Final = 12.0
POLL_MS: Final = 1500
LONG_POLL_MS: Final = 5000
"""Longer than a deny takes."""
LITERAL: Final = 3
PREFIXED: Final = 4
_AT: Final = struct.Struct(">d")

IsDenied = Callable[[float], bool]
"""Whether somebody was surely denied at a moment."""

now = time.monotonic


class Wire:
    """A connection to one broker, from an address."""

    def __init__(self, port: int, source: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), ANSWER_S, source_address=(source, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ids = itertools.count(1)

    def close(self) -> None:
        self._socket.close()

    def ask(self, api: ApiKey, version: int, **fields: Any) -> Any:
        """Raises OSError, also when no answer comes in time."""
        number = next(self._ids)
        self._socket.sendall(b"".join(encode_request(api, version, number, "deny", fields)))
        size = int.from_bytes(self._exactly(4), "big")
        return decode_response(api, version, self._exactly(size))[1]

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return bytes(data)


def rule(
    host: str, permission: int, kind: int = 2, name: str = TOPIC, pattern: int = LITERAL
) -> dict[str, Any]:
    """Of everybody, who has no name here, from an address: All on a resource."""
    return {
        "resource_type": kind,
        "resource_name": name,
        "resource_pattern_type": pattern,
        "principal": "User:*",
        "host": host,
        "operation": 2,
        "permission_type": permission,
    }


def create_acls(wire: Wire, *rules: dict[str, Any]) -> None:
    answer = wire.ask(ApiKey.CREATE_ACLS, 3, creations=list(rules))
    for row in answer.results:
        if row.error_code:
            raise OSError(f"CreateAcls: {row.error_code.name} {row.error_message}")


def deny(prefix: str) -> dict[str, Any]:
    return rule(DENIED_HOST, 2, name=prefix, pattern=PREFIXED)


def delete_denies(wire: Wire, prefixes: Iterable[str]) -> None:
    filters = [
        {
            "resource_type_filter": 2,
            "resource_name_filter": prefix,
            "pattern_type_filter": PREFIXED,
            "principal_filter": None,
            "host_filter": DENIED_HOST,
            "operation": 1,
            "permission_type": 2,
        }
        for prefix in prefixes
    ]
    for row in wire.ask(ApiKey.DELETE_ACLS, 3, filters=filters).filter_results:
        if row.error_code:
            raise OSError(f"DeleteAcls: {row.error_code.name} {row.error_message}")


def produce(wire: Wire, partition: int, begun: float) -> bool:
    """Whether it was acknowledged; the record says when its writing began."""
    batch = bytes(encode_batch([NewRecord(1000, None, _AT.pack(begun), ())]))
    rows = [{"name": TOPIC, "partition_data": [{"index": partition, "records": batch}]}]
    answer = wire.ask(ApiKey.PRODUCE, 9, transactional_id=None, acks=-1, timeout=5000, topic_data=rows)
    return int(answer.responses[0].partition_responses[0].error_code) == 0


class Loop(threading.Thread):
    """Does one thing again and again at one broker, over a connection that it opens anew when it fails."""

    def __init__(
        self, connect: Callable[[], Wire], step: Callable[[Wire], float], stop: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self._connect, self._step, self._stopping = connect, step, stop
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # shown by who waits for all of them
            self.failure = error

    def _loop(self) -> None:
        wire: Wire | None = None
        try:
            while not self._stopping.is_set():
                try:
                    wire = wire or self._connect()
                    pause = self._step(wire)
                except OSError:
                    if wire is not None:
                        wire.close()
                    wire, pause = None, 0.05
                self._stopping.wait(pause)
        finally:
            if wire is not None:
                wire.close()


class Denied:
    """Does one thing at one broker, and keeps what succeeds."""

    def __init__(self, broker: int, ops: list[Op], rng: random.Random, is_denied: IsDenied) -> None:
        self._broker, self._ops, self._rng, self._is_denied = broker, ops, rng, is_denied
        self._offsets = [-1] * PARTITIONS
        self.tried = 0
        self.checked = 0
        """Calls that were begun while a deny was surely in force."""

    def write(self, wire: Wire) -> float:
        begun = self._begin()
        self._end("a write", begun, produce(wire, self._rng.choice(BUSY), NEVER))
        return self._rng.uniform(0, 0.01)

    def read(self, wire: Wire) -> float:
        """One partition, from its end on."""
        return self._read(wire, self._rng.choice(BUSY), POLL_MS)

    def wait(self, wire: Wire) -> float:
        """The same, where a record is rare."""
        return self._read(wire, self._rng.choice(QUIET), LONG_POLL_MS)

    def _read(self, wire: Wire, at: int, max_wait_ms: int) -> float:
        begun = self._begin()
        wanted = {
            "partition": at,
            "current_leader_epoch": -1,
            "fetch_offset": max(self._offsets[at], 0),
            "last_fetched_epoch": -1,
            "log_start_offset": -1,
            "partition_max_bytes": 1 << 20,
        }
        answer = wire.ask(
            ApiKey.FETCH,
            12,
            max_wait=max_wait_ms,
            min_bytes=1,
            max_bytes=1 << 20,
            isolation_level=0,
            session_id=0,
            session_epoch=-1,
            topics=[{"topic": TOPIC, "partitions": [wanted]}],
            forgotten_topics_data=[],
            rack_id="",
        )
        row = answer.responses[0].partitions[0]
        if row.error_code:
            self._end("a read", begun, False)
            if int(row.error_code) == 1:  # out of range, after a kill of everybody
                self._offsets[at] = -1
            return 0.01
        youngest = -NEVER
        for batch in _batches(bytes(row.records or b"")):
            for record in decode_batch(batch):
                (written,) = _AT.unpack(record.value or _AT.pack(NEVER))
                if written != NEVER:
                    youngest = max(youngest, written)
        self._offsets[at] = max(self._offsets[at], int(row.high_watermark))
        # A poll that ends without a record succeeded, too: it was not refused.
        self._end("a read", begun, True, NEVER if youngest < 0 else youngest)
        return 0.0

    def look(self, wire: Wire) -> float:
        """Whether the topic is there: any broker answers that, within a second if it hears no leader."""
        begun = self._begin()
        answer = wire.ask(
            ApiKey.METADATA,
            9,
            topics=[{"name": TOPIC}],
            allow_auto_topic_creation=False,
            include_topic_authorized_operations=False,
            include_cluster_authorized_operations=False,
        )
        self._end("a look", begun, not answer.topics[0].error_code)
        return 0.01

    def describe(self, wire: Wire) -> float:
        """How the topic is set up: any broker answers that at once, whomever it hears."""
        begun = self._begin()
        resource = {"resource_type": 2, "resource_name": TOPIC, "configuration_keys": ["retention.ms"]}
        answer = wire.ask(
            ApiKey.DESCRIBE_CONFIGS,
            4,
            resources=[resource],
            include_synonyms=False,
            include_documentation=False,
        )
        self._end("a description", begun, not answer.results[0].error_code)
        return 0.01

    def _begin(self) -> float:
        self.tried += 1
        return now()

    def _end(self, what: str, begun: float, succeeded: bool, written: float = NEVER) -> None:
        ended = now()
        self.checked += self._is_denied(begun)
        if succeeded:
            self._ops.append(Op(what, self._broker, begun, ended, written))


def _batches(data: bytes) -> list[memoryview]:
    view, found = memoryview(data), []
    while len(view) >= 12:
        size = 12 + int.from_bytes(view[8:12], "big")
        if size > len(view):
            break
        found.append(view[:size])
        view = view[size:]
    return found
