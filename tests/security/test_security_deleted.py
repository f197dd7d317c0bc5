"""Scenario 11: who reads slowly what retention deletes meanwhile, in TLS and beside it in plain text."""

from __future__ import annotations

import itertools
import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from raftlog.net.stream import FileRange, PlainStream
from raftlog.net.tls import TlsStream
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import decode_response, encode_request
from raftlog.records.record import NewRecord, decode_batch, encode_batch
from raftlog.testing import running_broker
from raftlog.testing.cluster import EmbeddedCluster
from tests.certificates import client_context, write_certificate

pytestmark = [pytest.mark.slow, pytest.mark.long]

TOPIC: Final = "orders"
OTHERS: Final = "others"
RECORD_BYTES: Final = 100_000
RECORDS_A_BATCH: Final = 8
BATCHES: Final = 77
SMALL_BUFFER: Final = 16 << 10
OUT_OF_RANGE: Final = 1
PATIENCE_S: Final = 60.0


class Wire:
    """A connection by hand, which may leave an answer where it is."""

    def __init__(self, port: int, *, is_tls: bool) -> None:
        plain = socket.socket()
        plain.settimeout(PATIENCE_S)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        plain.connect(("127.0.0.1", port))
        self._socket = client_context().wrap_socket(plain, server_hostname="127.0.0.1") if is_tls else plain
        self._ids = itertools.count(1)

    def close(self) -> None:
        self._socket.close()

    def send(self, api: ApiKey, version: int, **fields: Any) -> None:
        self._socket.sendall(b"".join(encode_request(api, version, next(self._ids), "slow", fields)))

    def size(self) -> int:
        """Of an answer, which comes then."""
        return int.from_bytes(self._exactly(4), "big")

    def ask(self, api: ApiKey, version: int, **fields: Any) -> Any:
        self.send(api, version, **fields)
        return decode_response(api, version, self._exactly(self.size()))[1]

    def _exactly(self, count: int) -> bytes:
        data, done = bytearray(count), 0
        while done < count:
            received = self._socket.recv_into(memoryview(data)[done:])
            if not received:
                raise ConnectionResetError(f"{done} of {count} bytes")
            done += received
        return bytes(data)

    def begin_fetch(self, offset: int) -> int:
        """The size of the answer, which is under way."""
        wanted = {
            "partition": 0,
            "current_leader_epoch": -1,
            "fetch_offset": offset,
            "last_fetched_epoch": -1,
            "log_start_offset": -1,
            "partition_max_bytes": 1 << 30,
        }
        self.send(
            ApiKey.FETCH,
            12,
            max_wait=100,
            min_bytes=1,
            max_bytes=1 << 30,
            isolation_level=0,
            session_id=0,
            session_epoch=-1,
            topics=[{"topic": TOPIC, "partitions": [wanted]}],
            forgotten_topics_data=[],
            rack_id="",
        )
        return self.size()

    def end_fetch(self, size: int) -> Any:
        return decode_response(ApiKey.FETCH, 12, self._exactly(size))[1].responses[0].partitions[0]


@pytest.fixture(params=["plain", "TLS"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def broker(way: str, tmp_path: Path) -> Iterator[EmbeddedCluster]:
    settings: dict[str, Any] = {"log_segment_bytes": 8 << 20, "log_retention_check_interval_ms": 1000}
    if way == "TLS":
        settings |= {
            "listener_security_protocol_map": "PLAINTEXT:SSL",
            "ssl_keystore_location": str(write_certificate(tmp_path, "127.0.0.1")),
        }
    with running_broker(data_dir=tmp_path / "data", **settings) as broker:
        broker.create_topic(TOPIC)
        broker.create_topic(OTHERS)
        yield broker


@dataclass(slots=True)
class Sent:
    """Bytes of files that the broker's connections have taken."""

    in_all: int = 0
    by_the_kernel: int = 0
    """As they are, by sendfile."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    counted, sendfile = Sent(), os.sendfile

    def by_the_kernel(out: int, file: int, offset: int, count: int) -> int:
        taken = sendfile(out, file, offset, count)
        counted.by_the_kernel += taken
        return taken

    def watch(stream: type[PlainStream | TlsStream]) -> None:
        send_file = stream.send_file

        def watched(self: Any, part: FileRange) -> int:
            taken = send_file(self, part)
            counted.in_all += taken
            return taken

        monkeypatch.setattr(stream, "send_file", watched)

    monkeypatch.setattr(os, "sendfile", by_the_kernel)
    watch(PlainStream)
    watch(TlsStream)
    return counted


def test_what_is_deleted_while_it_is_sent_arrives_whole(
    broker: EmbeddedCluster, way: str, tmp_path: Path, sent: Sent
) -> None:
    values = random.Random(11)
    written = [values.randbytes(RECORD_BYTES) for _ in range(BATCHES * RECORDS_A_BATCH)]
    with ExitStack() as opened:

        def connected() -> Wire:
            return opened.enter_context(closing(Wire(broker.port, is_tls=way == "TLS")))

        admin = connected()
        for begin in range(0, len(written), RECORDS_A_BATCH):
            _produce(admin, written[begin : begin + RECORDS_A_BATCH])
        before = _segments(tmp_path)
        begins = sorted(int(path.stem) for path in before)
        readers = [connected() for _ in begins]  # an answer is of one segment
        waiting = [reader.begin_fetch(offset) for reader, offset in zip(readers, begins, strict=True)]
        _delete_by_retention(admin)
        _write_elsewhere_until_gone(admin, tmp_path, before)
        assert sent.in_all < 40_000_000  # half of each answer waits, and its file is gone
        sizes = [
            _check(reader.end_fetch(size), offset, written)
            for reader, size, offset in zip(readers, waiting, begins, strict=True)
        ]
        assert sum(sizes) > 50_000_000, sizes
        size = readers[0].begin_fetch(0)
        assert int(readers[0].end_fetch(size).error_code) == OUT_OF_RANGE
    assert sent.in_all > 50_000_000
    assert sent.by_the_kernel == (0 if way == "TLS" else sent.in_all)


def _produce(wire: Wire, values: list[bytes], topic: str = TOPIC) -> None:
    now_ms = time.time_ns() // 1_000_000  # or it would be deleted for its age at once
    batch = bytes(encode_batch([NewRecord(now_ms, None, value, ()) for value in values]))
    rows = [{"name": topic, "partition_data": [{"index": 0, "records": batch}]}]
    answer = wire.ask(ApiKey.PRODUCE, 9, transactional_id=None, acks=-1, timeout=5000, topic_data=rows)
    assert not answer.responses[0].partition_responses[0].error_code


def _delete_by_retention(wire: Wire) -> None:
    change = {"name": "retention.bytes", "config_operation": 0, "value": "1"}
    resource = {"resource_type": 2, "resource_name": TOPIC, "configs": [change]}
    answer = wire.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=[resource], validate_only=False)
    assert not answer.responses[0].error_code


def _segments(folder: Path) -> set[Path]:
    return set(folder.glob(f"**/{TOPIC}-0.*/*.log"))


def _write_elsewhere_until_gone(wire: Wire, folder: Path, before: set[Path]) -> None:
    """All but the last segment, which is written to: the files go at a checkpoint, which takes writing."""
    assert len(before) > 3, before
    end = time.monotonic() + PATIENCE_S
    while len(before & _segments(folder)) > 1:
        assert time.monotonic() < end, _segments(folder)
        _produce(wire, [bytes(RECORD_BYTES)] * RECORDS_A_BATCH, OTHERS)
        time.sleep(0.05)


def _check(answer: Any, offset: int, written: list[bytes]) -> int:
    """The size of the records, which are those that were written there, one after the other."""
    assert not answer.error_code
    view, size = memoryview(bytes(answer.records)), 0
    while len(view) - size >= 12:
        length = 12 + int.from_bytes(view[size + 8 : size + 12], "big")
        batch = view[size : size + length]
        begin = int.from_bytes(batch[:8], "big")
        assert begin <= offset
        for number, record in enumerate(decode_batch(batch), begin):
            assert bytes(record.value or b"") == written[number], number
            offset = number + 1
        size += length
    assert size == len(view)
    return size
