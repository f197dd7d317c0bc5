"""Reading a segment that compaction has written: offsets ascend with gaps, and Raft reads no entries from it.

A cleaned segment stands for all entries and offsets of the segments that it replaced, and holds the records
that compaction kept. It does not have the Raft index of a batch's entry: each `Place` in it has the segment's
first index. A batch must have the term that the log had at the batch's offset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from crc32c import crc32c

from raftlog.records.batch import CRC_START, HEADER_SIZE, MAGIC, BatchHeader, read_header
from raftlog.storage.compaction.job import Cleaned
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.extent import SegmentExtent
from raftlog.storage.index import Place
from raftlog.storage.segment import Segment
from raftlog.storage.segment_pool import SegmentPool
from raftlog.storage.segment_reader import SegmentBytes, SegmentReader, TermAt
from raftlog.types import FilePosition, Offset, RaftIndex, Term

_WALK_CHUNK = 8192

TermOf = Callable[[int], Term | None]
"""The term of the entry that took an offset."""


class CleanedReader(SegmentReader):
    """See the module. The segment may be empty: then what it covers is gone."""

    def __init__(self, segment: SegmentBytes, pool: SegmentPool, term_of: TermOf) -> None:
        super().__init__(segment, pool, lambda index: segment.base_index)
        self._term_of = term_of

    def place_of_offset(self, offset: int, interval: int) -> Place | None:
        if not self._segment.size:
            return None
        place = self._cursors.get(offset)
        if place is None:
            start = self.index(interval).floor_offset(offset)
            place = next((at for at, header in self.walk(start) if header.next_offset > offset), None)
        return place if place is not None and place.position < self._segment.size else None

    def walk(self, place: Place) -> Iterator[tuple[Place, BatchHeader]]:
        file, end = self._segment.file(), self._segment.size
        offset, index, position = place
        chunk, chunk_at = b"", 0
        while position < end:
            at, here = position - chunk_at, Place(offset, index, position)
            if len(chunk) - at < HEADER_SIZE:
                chunk, chunk_at, at = self._pread(file, min(_WALK_CHUNK, end - position), here), position, 0
            if len(chunk) - at < HEADER_SIZE:
                raise self._damage(here, f"ends at byte {position + len(chunk)}, not at {end}")
            header = read_header(chunk, at)
            next_position = FilePosition(position + header.size)
            if not self._may_follow(header, offset) or next_position > end:
                raise self._damage(here, f"is no batch at or behind offset {offset}")
            yield Place(Offset(header.base_offset), index, position), header
            offset, position = Offset(header.next_offset), next_position

    def _may_follow(self, header: BatchHeader, offset: int) -> bool:
        return (
            offset <= header.base_offset < header.next_offset <= self._segment.next_offset
            and header.magic == MAGIC
            and header.size >= HEADER_SIZE
        )

    def _check(
        self,
        data: memoryview,
        place: Place,
        end: Place,
        term_at: TermAt,
        count_max: int,
        entries: list[Entry] | None = None,
    ) -> tuple[Place, int]:
        offset, index, begin = place
        count = at = 0
        available = len(data)
        while count < count_max and available - at >= HEADER_SIZE:
            header = read_header(data, at)
            here, stop = Place(offset, index, FilePosition(begin + at)), at + header.size
            if stop > available and count:
                break  # the rest comes with the next chunk
            if not self._may_follow(header, offset) or header.leader_epoch != self._term_of(
                header.base_offset
            ):
                problem = (
                    f"is offset {header.base_offset} of term {header.leader_epoch}, at {offset} or behind"
                )
                raise self._damage(here, problem)
            if available < stop <= end.position - begin:
                break  # and so does the file
            if stop > available or crc32c(data[at + CRC_START : stop]) != header.crc:
                raise self._damage(here, "does not have the crc of its header")
            next_offset = Offset(header.next_offset)
            if entries is not None:
                term = Term(header.leader_epoch)
                base_offset = Offset(header.base_offset)
                payload = data[at:stop]
                entries.append(Entry(index, term, EntryKind.BATCH, payload, base_offset, next_offset))
            offset, at = next_offset, stop
            count += 1
        if not count:
            problem = f"the file ends at byte {begin + available}, not at {end.position}"
            raise self._damage(place, problem)
        return Place(offset, RaftIndex(index), FilePosition(begin + at)), count


def merged(covered: Sequence[Segment], file: Cleaned, generation: int) -> SegmentExtent:
    """Of the file that stands for the segments `covered`."""
    first, last = covered[0], covered[-1]
    return SegmentExtent(
        first.base_offset,
        first.base_index,
        last.last_index,
        last.next_offset,
        file.size,
        file.max_timestamp,
        file.first_timestamp,
        first.first_written_ms,
        last.last_written_ms,
        generation,
    )
