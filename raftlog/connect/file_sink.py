"""`file-sink`: records into files of lines, whose names say what is in them by its offsets:
`TOPIC/PARTITION/FIRST-LAST.jsonl`.

Exactly once: a file is written as `FIRST.part`, synced, and renamed when it is whole; only then are its
offsets committed. What a crash leaves as a `.part` is removed, and written anew. A partition's folder is
locked by who writes it, so that one who was paused, and wakes, writes nothing beside its successor.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Final

import trio

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.connect.contract import Offsets, Sink
from raftlog.connect.errors import ConnectError, Refused, Unavailable
from raftlog.connect.options import option

WIDTH: Final = 20
"""Digits of an offset, so that names sort as their records do."""
_WHOLE: Final = re.compile(r"(\d{20})-(\d{20})\.jsonl")
PART: Final = ".part"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSinkConfig:
    path: str = option(doc="The directory. It is made when it is missing.")
    roll_bytes: int = option(64 << 20, doc="A file is whole with so many bytes.", least=1)
    roll_s: float = option(10.0, doc="Or after so many seconds.", least=0)


@dataclass
class _Part:
    """A file that grows."""

    file: IO[bytes]
    path: str
    first: int
    next_offset: int
    size: int
    begun_at: float


class FileSink(Sink):
    """Writes files."""

    Config = FileSinkConfig
    config: FileSinkConfig

    def __init__(self, config: FileSinkConfig, name: str) -> None:
        super().__init__(config, name)
        self._parts: dict[TopicPartition, _Part] = {}
        self._next: Offsets = {}
        self._locks: dict[TopicPartition, int] = {}

    async def open(self, partitions: frozenset[TopicPartition]) -> Offsets:
        """What the names say."""
        return await trio.to_thread.run_sync(self._open, partitions)

    async def write(self, records: Sequence[Record]) -> None:
        """Into the growing files."""
        await trio.to_thread.run_sync(self._write, records, trio.current_time())

    async def skip(self, record: Record) -> None:
        """It is in no file, and a file's name covers it: an empty one's, when nothing else comes."""
        await trio.to_thread.run_sync(self._skip, record, trio.current_time())

    async def flush(self) -> Offsets:
        """Files that are whole get their names; what is in them is safe."""
        return await trio.to_thread.run_sync(self._roll, trio.current_time())

    async def close(self, partitions: frozenset[TopicPartition]) -> None:
        """Growing files are removed: whoever has the partition writes them anew."""
        await trio.to_thread.run_sync(self._forget, partitions)

    async def aclose(self) -> None:
        """Let go of what a worker that fails has left open."""
        for part in self._parts.values():
            part.file.close()
        for lock in self._locks.values():
            os.close(lock)
        self._parts.clear()
        self._locks.clear()

    # -- in a thread

    def _folder(self, key: TopicPartition) -> str:
        return os.path.join(self.config.path, key.topic, str(key.partition))

    def _open(self, partitions: frozenset[TopicPartition]) -> Offsets:
        found: Offsets = {}
        try:
            for key in partitions:
                folder = self._folder(key)
                self._make(folder)
                self._lock(key, folder)
                for name in os.listdir(folder):
                    if name.endswith(PART):
                        os.unlink(os.path.join(folder, name))
                    elif match := _WHOLE.fullmatch(name):
                        found[key] = max(found.get(key, 0), int(match[2]) + 1)
        except (OSError, Unavailable) as error:
            self._forget(partitions)
            raise (_told(error) if isinstance(error, OSError) else error) from error
        self._next |= found
        return found

    def _make(self, folder: str) -> None:
        """Have a partition's folder outlive a power cut: also one that a crash left unsynced."""
        top = os.path.abspath(self.config.path)
        above = [os.path.dirname(folder), top]
        while not os.path.exists(top):
            top = os.path.dirname(top)
            above.append(top)
        os.makedirs(folder, exist_ok=True)
        for each in above:
            _sync(each)

    def _lock(self, key: TopicPartition, folder: str) -> None:
        if key in self._locks:
            return
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Unavailable(f"{folder} is written by another worker") from None
        self._locks[key] = lock

    def _write(self, records: Sequence[Record], now: float) -> None:
        if any(b"\n" in (record.value or b"") for record in records):
            raise Refused("the value has a line feed, and this is a file of lines")
        try:
            for record in records:
                key = TopicPartition(record.topic, record.partition)
                if record.offset < self._next.get(key, 0):
                    continue
                part = self._parts.get(key) or self._begin(key, record.offset, now)
                line = (record.value or b"") + b"\n"
                part.file.write(line)
                part.size += len(line)
                part.next_offset = record.offset + 1
        except OSError as error:
            raise _told(error) from error

    def _skip(self, record: Record, now: float) -> None:
        key = TopicPartition(record.topic, record.partition)
        if record.offset < self._next.get(key, 0):
            return
        try:
            part = self._parts.get(key) or self._begin(key, record.offset, now)
        except OSError as error:
            raise _told(error) from error
        part.next_offset = record.offset + 1

    def _begin(self, key: TopicPartition, first: int, now: float) -> _Part:
        path = os.path.join(self._folder(key), f"{first:0{WIDTH}}{PART}")
        file = open(path, "wb")  # noqa: SIM115 - it grows over many calls
        part = self._parts[key] = _Part(file, path, first, first, 0, now)
        return part

    def _roll(self, now: float) -> Offsets:
        try:
            for key, part in list(self._parts.items()):
                if part.size >= self.config.roll_bytes or now - part.begun_at >= self.config.roll_s:
                    self._finish(key, part)
        except OSError as error:
            raise _told(error) from error
        return dict(self._next)

    def _finish(self, key: TopicPartition, part: _Part) -> None:
        part.file.flush()
        os.fsync(part.file.fileno())
        part.file.close()
        folder = self._folder(key)
        name = f"{part.first:0{WIDTH}}-{part.next_offset - 1:0{WIDTH}}.jsonl"
        os.rename(part.path, os.path.join(folder, name))
        _sync(folder)
        self._next[key] = part.next_offset
        del self._parts[key]

    def _forget(self, partitions: frozenset[TopicPartition]) -> None:
        for key in partitions:
            self._next.pop(key, None)
            part = self._parts.pop(key, None)
            if part is not None:
                try:
                    part.file.close()
                    os.unlink(part.path)
                except OSError:
                    pass  # the next one who opens the partition removes it
            if key in self._locks:
                os.close(self._locks.pop(key))


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _told(error: OSError) -> ConnectError:
    """The disk may have room again, or be there again: wrong rights are for somebody to look at."""
    return ConnectError(str(error)) if isinstance(error, PermissionError) else Unavailable(str(error))
