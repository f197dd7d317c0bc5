"""`http-sink`: records are posted to an address, one by one or several in one request. At least once.

What the server has taken is remembered, and not sent again by this run; a request that was not answered is.
So each says which records it has, `Idempotency-Key: TOPIC-PARTITION-OFFSET`, of several
`TOPIC-PARTITION-FIRST-LAST`: a server that keeps the keys that it has seen has each record once, if they come
one by one. Of several the same records may come again in other parts.

Records of a partition are sent in their order, one request after the other; partitions do not wait for each
other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import trio

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.connect import lines
from raftlog.connect.contract import Offsets, Sink
from raftlog.connect.errors import ConnectError, Refused, Unavailable
from raftlog.connect.options import option
from raftlog.connect.progress import Progress
from raftlog.connect.web import HttpConfig, Web, check_header, check_statuses, is_token
from raftlog.errors import ConfigError

CONNECTIONS: Final = 8
"""Partitions that are sent at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSinkConfig(HttpConfig):
    method: Literal["POST", "PUT", "PATCH"] = option("POST", doc="How it is asked.")
    format: Literal["value", "array", "lines"] = option(
        "value", doc="A request has one value as it is, or several as an array of JSON, or as lines of JSON."
    )
    place: bool = option(
        False, doc="Whether JSON has _topic, _partition, _offset, _timestamp and _key as well."
    )
    per_request: int = option(100, doc="Values of an array, or lines, at most.", least=1)
    request_bytes: int = option(1 << 20, doc="Bytes of several at most; one may be larger.", least=1)
    content_type: str | None = option(
        None, doc="The header Content-Type: application/json, or application/x-ndjson, unless it is given."
    )
    key_header: str = option(
        "Idempotency-Key", doc="The header that says which records a request has. Empty: none does."
    )
    refuse_on: tuple[str, ...] = option(
        ("400", "409", "413", "422"),
        doc="Statuses of a record that will never be taken. All that is in no list ends the connector.",
    )

    def __post_init__(self) -> None:
        HttpConfig.__post_init__(self)
        check_header("content_type", self.content_type or "")
        check_statuses("refuse_on", self.refuse_on)
        both = set(self.refuse_on) & set(self.retry_on)
        if both:
            raise ConfigError(f"{min(both)} is in retry_on and in refuse_on")
        if self.key_header and not is_token(self.key_header):
            raise ConfigError(f"key_header = {self.key_header!r}: no header is called so")


@dataclass(frozen=True, slots=True)
class _Request:
    """What is sent at once."""

    records: Sequence[Record]
    body: bytes
    key: str


class HttpSink(Sink):
    """Posts records."""

    Config = HttpSinkConfig
    config: HttpSinkConfig

    def __init__(self, config: HttpSinkConfig, name: str) -> None:
        super().__init__(config, name)
        self._web = Web(config)
        self._progress = Progress()

    async def open(self, partitions: frozenset[TopicPartition]) -> Offsets:
        """The server does not say."""
        return {}

    async def write(self, records: Sequence[Record]) -> None:
        """Send them. What the server has taken of those that are given again is not sent again."""
        there = self._progress.offsets
        by_partition: dict[TopicPartition, list[Record]] = {}
        for record in records:
            key = TopicPartition(record.topic, record.partition)
            if record.offset >= there.get(key, 0):
                by_partition.setdefault(key, []).append(record)
        failed: list[ConnectError] = []
        turns = trio.CapacityLimiter(CONNECTIONS)

        async def send(key: TopicPartition, mine: list[Record]) -> None:
            async with turns:
                try:
                    for request in self._requests(key, mine):
                        if failed:
                            return  # what is sent now would come again
                        await self._send(request)
                except ConnectError as error:
                    failed.append(error)

        async with trio.open_nursery() as nursery:
            for key, mine in by_partition.items():
                nursery.start_soon(send, key, mine)
        if failed:  # what all would fail with goes before what one record is refused for
            error = min(failed, key=_weight)
            if isinstance(error, Unavailable):
                error.safe = self._progress.offsets
            raise error

    async def skip(self, record: Record) -> None:
        """Not to be sent."""
        self._progress.took([record])

    async def flush(self) -> Offsets:
        """What the server has taken."""
        return self._progress.offsets

    async def close(self, partitions: frozenset[TopicPartition]) -> None:
        """Others send them."""
        self._progress.forget(partitions)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._web.aclose()

    async def _send(self, request: _Request) -> None:
        config = self.config
        kind = "application/x-ndjson" if config.format == "lines" else "application/json"
        headers = {"Content-Type": config.content_type or kind}
        if config.key_header:
            headers[config.key_header] = request.key
        answer = await self._web.ask(config.method, config.url, headers, request.body)
        if answer.is_good:
            self._progress.took(request.records)
            return
        told = f"{self._web.origin} {answer.told()}"
        if str(answer.status) in config.refuse_on:
            raise Refused(told)
        raise ConnectError(f"{told}; it is in neither retry_on nor refuse_on")

    # -- what is sent

    def _requests(self, key: TopicPartition, records: Sequence[Record]) -> Iterator[_Request]:
        """Records of one partition in their order. Those of one offset, which a transform made of one record,
        are told apart, and several of them are not parted. Raises Refused, after what comes before."""
        config = self.config
        if config.format == "value":
            for offset, same in _by_offset(records):
                for number, record in enumerate(same):
                    name = f"{key.topic}-{key.partition}-{offset}" + (f".{number}" if number else "")
                    # What a record became is there when all of it is.
                    yield _Request(same if number == len(same) - 1 else (), self._body([record]), name)
            return
        some: list[Record] = []
        texts: list[bytes] = []
        refused: Refused | None = None
        for _, same in _by_offset(records):
            try:
                more = [lines.as_json(record, place=config.place) for record in same]
            except Refused as error:
                refused = error
                break
            size = sum(map(len, texts)) + sum(map(len, more))
            if some and (len(some) + len(same) > config.per_request or size > config.request_bytes):
                yield self._several(key, some, texts)
                some, texts = [], []
            some += same
            texts += more
        if some:
            yield self._several(key, some, texts)
        if refused is not None:
            raise refused

    def _several(self, key: TopicPartition, records: list[Record], texts: list[bytes]) -> _Request:
        name = f"{key.topic}-{key.partition}-{records[0].offset}-{records[-1].offset}"
        if self.config.format == "lines":
            return _Request(records, b"".join(text + b"\n" for text in texts), name)
        return _Request(records, b"[" + b",".join(texts) + b"]", name)

    def _body(self, records: list[Record]) -> bytes:
        (record,) = records
        return lines.as_json(record, place=True) if self.config.place else record.value or b""


def _weight(error: ConnectError) -> int:
    return 2 if isinstance(error, Refused) else 1 if isinstance(error, Unavailable) else 0


def _by_offset(records: Sequence[Record]) -> Iterator[tuple[int, list[Record]]]:
    some: list[Record] = []
    for record in records:
        if some and some[0].offset != record.offset:
            yield some[0].offset, some
            some = []
        some.append(record)
    if some:
        yield some[0].offset, some
