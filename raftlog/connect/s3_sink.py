"""`s3-sink`: records become objects of lines in a bucket of S3, `PREFIX TOPIC/PARTITION/FIRST.jsonl.gz`.

Exactly once: the objects of a partition are a chain. Each is named by the offset where the one before ends,
and says where it ends itself; whoever opens the partition goes on behind the last. An object is only made
where there is none (If-None-Match), so that of two who go on at one place, one of them paused or given up,
the second changes nothing, and goes on behind what the first has made. A request that was not answered may
have made its object all the same: it is found then.

Objects are whole or not there, and what is not whole yet is in memory: a crash leaves nothing behind.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import trio

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.connect import lines
from raftlog.connect.contract import Offsets, Sink
from raftlog.connect.errors import ConnectError
from raftlog.connect.options import option
from raftlog.connect.s3 import WIDTH, Bucket, S3Config
from raftlog.errors import ConfigError

T = TypeVar("T")

ENDS: Final = "raftlog-next-offset"
"""Metadata of an object: the offset behind its last record."""
OPENS_AT_ONCE: Final = 8
"""Partitions whose last object is looked for at the same time."""
GZIP: Final = 31
"""zlib's number for gzip. Its header has no time: the same records are the same bytes."""

FORMATS: Final = {"jsonl": (".jsonl", "application/x-ndjson"), "lines": (".txt", "text/plain")}
"""What a format's objects are called, and what they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3SinkConfig(S3Config):
    prefix: str = option("", doc="What names of objects begin with: archive/, or nothing.")
    format: Literal["jsonl", "lines"] = option(
        "jsonl", doc="Lines of JSON, or values as they are, of which none may have a line feed."
    )
    place: bool = option(
        True, doc="Whether lines of JSON have _topic, _partition, _offset, _timestamp and _key as well."
    )
    compression: Literal["gzip", "none"] = option("gzip", doc="How objects are compressed.")
    roll_records: int = option(100_000, doc="An object is whole with so many records.", least=1)
    roll_bytes: int = option(32 << 20, doc="Or with so many bytes, before they are compressed.", least=1)
    roll_s: float = option(60.0, doc="Or after so many seconds.", least=0)
    memory_bytes: int = option(
        64 << 20,
        doc="What all that is not whole may take, compressed; the largest are cut short then.",
        least=1,
    )
    if_none_match: bool = option(
        True,
        doc="Whether an object is only made where there is none. With false, for a store that cannot do "
        "that, a worker that was paused may replace an object by one that has less.",
    )

    def __post_init__(self) -> None:
        S3Config.__post_init__(self)
        if self.prefix.startswith("/") or "//" in self.prefix:
            raise ConfigError("prefix begins with a slash, or has two together: no object is called so")


@dataclass
class _Part:
    """An object that grows."""

    first: int
    """Where the one before ends: its name."""
    begun_at: float
    squeeze: zlib._Compress | None
    body: bytearray = field(default_factory=bytearray)
    records: int = 0
    size: int = 0
    next_offset: int = 0
    is_whole: bool = False

    def add(self, line: bytes) -> None:
        """Take one more."""
        self.body += line if self.squeeze is None else self.squeeze.compress(line)
        self.records += 1
        self.size += len(line)

    def end(self) -> None:
        """Take no more."""
        if not self.is_whole:
            self.is_whole = True
            if self.squeeze is not None:
                self.body += self.squeeze.flush()


class S3Sink(Sink):
    """Writes objects to S3."""

    Config = S3SinkConfig
    config: S3SinkConfig

    def __init__(self, config: S3SinkConfig, name: str) -> None:
        super().__init__(config, name)
        self._bucket = Bucket(config, overwrites=not config.if_none_match)
        suffix, kind = FORMATS[config.format]
        is_gzip = config.compression == "gzip"
        self._suffix = suffix + (".gz" if is_gzip else "")
        self._kind = "application/gzip" if is_gzip else kind
        self._next: Offsets = {}
        """As the bucket has it."""
        self._parts: dict[TopicPartition, list[_Part]] = {}
        """In their order; all but the last are whole."""
        self._threads = trio.CapacityLimiter(OPENS_AT_ONCE)

    async def open(self, partitions: frozenset[TopicPartition]) -> Offsets:
        """What the last object of each says."""
        found: Offsets = {}
        failed: list[ConnectError] = []

        async def look(key: TopicPartition) -> None:
            try:
                end = await self._end_of(key)
            except ConnectError as error:
                failed.append(error)
            else:
                if end is not None:
                    found[key] = end

        async with trio.open_nursery() as nursery:
            for key in partitions:
                nursery.start_soon(look, key)
        if failed:
            raise failed[0]
        self._next |= found
        return found

    async def write(self, records: Sequence[Record]) -> None:
        """Into memory."""
        await trio.to_thread.run_sync(self._take, records, trio.current_time(), limiter=self._threads)

    async def skip(self, record: Record) -> None:
        """It is in no object, and an object covers it: an empty one, when nothing else comes."""
        key = TopicPartition(record.topic, record.partition)
        if record.offset >= self._next.get(key, 0):
            self._part(key, record.offset, trio.current_time()).next_offset = record.offset + 1

    async def flush(self) -> Offsets:
        """Objects that are whole are made; what is in them is safe."""
        now = trio.current_time()
        for key, parts in list(self._parts.items()):
            if parts and (self._is_full(parts[-1]) or now - parts[-1].begun_at >= self.config.roll_s):
                parts[-1].end()
            await self._make_whole(key)
        while self._held() > self.config.memory_bytes:
            key = max(self._parts, key=lambda one: sum(len(part.body) for part in self._parts[one]))
            self._parts[key][-1].end()
            await self._make_whole(key)
        return dict(self._next)

    async def close(self, partitions: frozenset[TopicPartition]) -> None:
        """Whoever has the partitions reads again what is in no object."""
        for key in partitions:
            self._next.pop(key, None)
            self._parts.pop(key, None)

    async def _end_of(self, key: TopicPartition) -> int | None:
        last = await self._in_thread(self._bucket.last, self._folder(key))
        if last is None:
            return None
        told = last.told.get(ENDS, "")
        if not told.isdecimal():
            raise ConnectError(
                f"{last.path} in bucket {self.config.bucket} does not say where it ends, by metadata {ENDS}: "
                "another has made it, or has copied it without"
            )
        return int(told)

    # -- what grows

    def _folder(self, key: TopicPartition) -> str:
        return f"{self.config.prefix}{key.topic}/{key.partition}"

    def _held(self) -> int:
        return sum(len(part.body) for parts in self._parts.values() for part in parts)

    def _take(self, records: Sequence[Record], now: float) -> None:
        """In a thread: to compress takes time."""
        config = self.config
        if config.format == "lines":
            made = [lines.as_it_is(record) for record in records]
        else:
            made = [lines.as_json(record, place=config.place) for record in records]
        for record, line in zip(records, made, strict=True):
            key = TopicPartition(record.topic, record.partition)
            if record.offset < self._next.get(key, 0):
                continue
            part = self._part(key, record.offset, now)
            part.add(line + b"\n")
            part.next_offset = record.offset + 1

    def _is_full(self, part: _Part) -> bool:
        return part.records >= self.config.roll_records or part.size >= self.config.roll_bytes

    def _part(self, key: TopicPartition, offset: int, now: float) -> _Part:
        """The one that grows. Records of one offset, which a transform made of one, are not parted: an object
        ends behind an offset."""
        parts = self._parts.setdefault(key, [])
        if parts and offset >= parts[-1].next_offset and self._is_full(parts[-1]):
            parts[-1].end()
        if not parts or parts[-1].is_whole:
            first = parts[-1].next_offset if parts else self._next.get(key, offset)
            squeeze = zlib.compressobj(wbits=GZIP) if self.config.compression == "gzip" else None
            parts.append(_Part(first, now, squeeze))
        return parts[-1]

    async def _make_whole(self, key: TopicPartition) -> None:
        """Make the objects of a partition that are whole. Raises Unavailable: also when one of them is there
        already, after which the partition is opened behind it."""
        parts = self._parts[key]
        while parts and parts[0].is_whole:
            part = parts[0]
            told = {"Content-Type": self._kind, ENDS: str(part.next_offset)}
            path = f"{self._folder(key)}/{part.first:0{WIDTH}}{self._suffix}"
            await self._in_thread(self._bucket.create, path, bytes(part.body), told)
            self._next[key] = part.next_offset
            del parts[0]

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """A request. One that nobody waits for any more may still be carried out: no harm, where it can only
        make what is not there."""
        return await trio.to_thread.run_sync(
            work, *arguments, abandon_on_cancel=self.config.if_none_match, limiter=self._threads
        )
