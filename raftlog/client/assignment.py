"""The partitions that a consumer reads: where each one is, what was fetched of it and not handed out yet.

Pure: answers of Fetch go in as bytes, lists of records come out, a batch at a time. Batches are decoded when
they are handed out, so what waits is bounded by the bytes that were fetched.

What is never handed out, markers and aborted records, is a gap: it costs no memory, and the position moves
over it as soon as nothing before it is left.

Invariants: the records of a partition come out in the order of their offsets, each once; what was fetched
before a seek or a revocation never comes out (an `era` counts them).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any, Final, TypeAlias

from raftlog.client.errors import DeserializationError
from raftlog.client.isolation import Aborted, iter_visible
from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.client.settings import Deserializer
from raftlog.errors import InvalidInput
from raftlog.records.batch import BatchHeader
from raftlog.records.record import Columns, Headers, decode_columns

EARLIEST: Final = -2
LATEST: Final = -1
NEVER: Final = float("-inf")


_Row: TypeAlias = tuple[str, int, int, int, Any, Any, Headers]
_new_record = partial(tuple.__new__, Record)  # a third of the cost of Record(...)
_NO_RECORDS: Final = Columns((), (), (), (), ())


@dataclass(slots=True, eq=False)
class Partition:
    """One partition of the assignment. `position` is the offset of the next record to hand out, None until
    it is known; then `reset` says where to look: EARLIEST, LATEST, or a time in milliseconds."""

    key: TopicPartition
    position: int | None = None
    reset: int | None = None
    wants_committed: bool = False
    fetch_offset: int = -1
    era: int = 0
    paused: bool = False
    fetching: bool = False
    retry_at: float = 0.0
    failures: int = 0
    end_offset: int | None = None
    """The end of what may be read: the high watermark, or the last stable offset."""
    log_start_offset: int | None = None
    asked_at: float = NEVER
    """When the fetch was sent whose answer says `end_offset`: the log had that end then, or later. A seek
    forgets it."""
    batches: deque[tuple[bytes, int, BatchHeader]] = field(default_factory=deque)
    """Bytes, where in them a batch begins, its header. A gap has no bytes, and its last batch's header."""
    unpacked: tuple[bytes, int, Columns | InvalidInput] | None = None
    """What a thread made of a batch, or why it could not."""
    buffered: int = 0
    records_buffered: int = 0

    @property
    def lag(self) -> int | None:
        """Records between the position and the end of the log as of the last fetch."""
        if self.position is None or self.end_offset is None:
            return None
        return max(0, self.end_offset - self.position)

    def seek(self, offset: int) -> None:
        """Go to an offset; what was fetched is dropped unless it starts there."""
        self.reset = None
        self.wants_committed = False
        self.era += 1
        self.position = self.fetch_offset = offset
        self.retry_at, self.failures, self.asked_at = 0.0, 0, NEVER
        self.drop()

    def seek_to(self, reset: int) -> None:
        """Look up where to go: EARLIEST, LATEST, or the first record at or after a time in milliseconds."""
        self.era += 1
        self.position, self.reset = None, reset
        self.wants_committed = False
        self.retry_at, self.failures, self.asked_at = 0.0, 0, NEVER
        self.drop()

    def drop(self) -> None:
        """Forget what was fetched and not handed out."""
        self.batches.clear()
        self.unpacked = None
        self.buffered = self.records_buffered = 0
        if self.position is not None:
            self.fetch_offset = self.position

    def add(self, data: bytes, end_offset: int, log_start_offset: int, aborted: Aborted = ()) -> None:
        """Take in what a fetch at `fetch_offset` gave, and the transactions that it names as aborted."""
        self.end_offset, self.log_start_offset = end_offset, log_start_offset
        self.failures = 0
        for position, header, visible in iter_visible(data, aborted):
            self.fetch_offset = max(self.fetch_offset, header.next_offset)
            if visible:
                self.batches.append((data, position, header))
                self.buffered += header.size
                self.records_buffered += header.record_count
            else:
                if self.batches and not self.batches[-1][0]:
                    self.batches.pop()
                self.batches.append((b"", 0, header))

    def pass_gap(self) -> None:
        """Move the position over a gap, when it is what comes next."""
        if self.batches and not self.batches[0][0]:
            _, _, header = self.batches.popleft()
            self.position = header.next_offset

    def __repr__(self) -> str:
        return f"<Partition {self.key!r} position={self.position} buffered={self.buffered}>"


class Decoder:
    """Makes the user's records of batches."""

    def __init__(self, key: Deserializer | None, value: Deserializer | None) -> None:
        self._key = key
        self._value = value

    def next_records(self, partition: Partition) -> tuple[list[Record[Any, Any]], int]:
        """The records of the next batch from the position on, and the offset after them.

        There may be none: of a gap, of what compaction left. A gap behind the batch is passed with it. Before
        a record that a deserializer does not take the list ends, and when it would begin with that one,
        DeserializationError is raised and the position is on it: the batch stays the next one. Raises
        CorruptBatch, and the batch stays as well.
        """
        records: list[Record[Any, Any]] = []
        topic, number = map(repeat, partition.key)
        rows = zip(topic, number, *_columns(partition), strict=False)
        if self._key is None and self._value is None:
            records = list(map(_new_record, rows))
        else:
            bad = self._deserialize(rows, records)
            if bad is not None and not records:
                partition.position = bad.offset
                raise bad
            if bad is not None:
                return records, bad.offset
        return records, _pass(partition)

    def _deserialize(
        self, rows: Iterable[_Row], records: list[Record[Any, Any]]
    ) -> DeserializationError | None:
        """Add the records of these rows, up to the first that a deserializer does not take. A key or a value
        that is not there (a tombstone) reaches no deserializer."""
        for row in rows:
            topic, number, offset, timestamp, key, value, headers = row
            field = "key"
            try:
                if self._key is not None and key is not None:
                    key = self._key(key)
                field = "value"
                if self._value is not None and value is not None:
                    value = self._value(value)
            except Exception as error:  # whatever the user's function raises
                return DeserializationError(_new_record(row), field, error)
            records.append(_new_record((topic, number, offset, timestamp, key, value, headers)))
        return None


def unpack(partition: Partition, bytes_max: int, records_max: int) -> None:
    """Decode the batch that comes next, for `Decoder.next_records` to find, if it is not larger than that.
    Safe in a thread: it changes nothing but `unpacked`."""
    data, start, header = partition.batches[0]
    if not data:
        return
    try:
        if header.record_count > records_max:
            raise InvalidInput(f"a batch of {header.record_count} records, and {records_max} are taken")
        columns: Columns | InvalidInput = decode_columns(data, start, bytes_max)
    except InvalidInput as error:
        columns = error
    partition.unpacked = (data, start, columns)


def next_columns(partition: Partition, *, keys_only: bool) -> tuple[Columns, int]:
    """As `Decoder.next_records`, for who makes no records of the next batch. With `keys_only` there are no
    values and no headers in them: nobody looks at those."""
    return _columns(partition, keys_only), _pass(partition)


def _columns(partition: Partition, keys_only: bool = False) -> Columns:
    """The records of the next batch from the position on, field by field."""
    data, start, _ = partition.batches[0]
    unpacked, partition.unpacked = partition.unpacked, None
    if not data:
        return _NO_RECORDS
    if unpacked is None or unpacked[0] is not data or unpacked[1] != start:
        columns = decode_columns(data, start, keys_only=keys_only)
    elif isinstance(unpacked[2], InvalidInput):
        raise unpacked[2]
    else:
        columns = unpacked[2]
    position = partition.position
    first = 0 if position is None else bisect_left(columns.offsets, position)
    return columns if first == 0 else Columns._make(column[first:] for column in columns)


def _pass(partition: Partition) -> int:
    """Leave the next batch behind, with a gap behind it; the offset after them."""
    batches = partition.batches
    data, _, header = batches.popleft()
    if data:
        partition.buffered -= header.size
        partition.records_buffered -= header.record_count
    if batches and not batches[0][0]:
        _, _, header = batches.popleft()
    return header.next_offset
