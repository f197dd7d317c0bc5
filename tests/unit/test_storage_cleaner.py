"""One pass of the cleaner, by example: what stays, what goes, and what its bytes are."""

from __future__ import annotations

import random
import time
from typing import Any

import cbor2
import pytest

from raftlog.errors import DamagedLog
from raftlog.partition.markers import Marker, encode_marker
from raftlog.records.batch import Codec, check_batch, iter_headers, stamp
from raftlog.records.record import NewRecord, Record, decode_batch, encode_batch
from raftlog.storage.compaction.cleaner import clean
from raftlog.storage.compaction.job import AbortedRange, CleaningJob, CleaningResult, Source
from raftlog.storage.disk import Disk
from tests.sim.virtual_disk import VirtualDisk

Pair = tuple[bytes | None, bytes | None]


class Log:
    """Segments of batches, one term, as a producer would have written them."""

    def __init__(self) -> None:
        self.disk: Disk = VirtualDisk(random.Random(1))
        self.disk.mkdir("/log")
        self.sources: list[Source] = []
        self.end = 0
        self._bytes = bytearray()
        self._base = 0

    def put(self, *pairs: Pair, codec: Codec = Codec.NONE, **producer: Any) -> int:
        records = [NewRecord(1000 + self.end + n, key, value) for n, (key, value) in enumerate(pairs)]
        return self.add(encode_batch(records, codec=codec, **producer), len(records))

    def end_transaction(self, producer_id: int, *, commit: bool) -> int:
        return self.add(encode_marker(Marker(producer_id, 0, commit, 1, 1), 1000 + self.end), 1)

    def add(self, batch: bytearray, count: int) -> int:
        offset = self.end
        stamp(batch, offset, 1)
        self._bytes += batch
        self.end += count
        return offset

    def roll(self) -> None:
        path = f"/log/{self._base:020d}.log"
        self.disk.open(path, create=True).pwritev([bytes(self._bytes)], 0)
        self.sources.append(Source(path, self._base, self._base + 1, self.end, self.end, len(self._bytes)))
        self._bytes, self._base = bytearray(), self.end

    def job(self, **changes: Any) -> CleaningJob:
        fields: dict[str, Any] = {
            "sources": self.sources,
            "dirty_from": 0,
            "purge_to": 0,
            "aborted": [],
            "epochs": [(1, 0)],
            "target": "/log/new",
            "segment_bytes": 1 << 20,
            "index_interval_bytes": 64,
            "key_map_bytes": 1 << 20,
            "bytes_per_second": 0,
        }
        return CleaningJob(**(fields | changes))

    def clean(self, **changes: Any) -> CleaningResult:
        return clean(self.disk, self.job(**changes))

    def bytes_of(self, result: CleaningResult) -> bytes:
        return b"".join(self.disk.open(file.path).pread(file.size, 0) for file in result.files)


def records_of(data: bytes) -> list[Record]:
    found = []
    for position, header in iter_headers(data):
        check_batch(data, position)
        if not header.is_control:
            found += decode_batch(data, position)
    return found


def values_of(data: bytes) -> list[tuple[int, bytes | None, bytes | None]]:
    return [(record.offset, record.key, record.value) for record in records_of(data)]


@pytest.mark.parametrize("codec", list(Codec))
def test_the_last_value_of_each_key_stays_with_its_offset_and_time(codec: Codec) -> None:
    log = Log()
    log.put((b"a", b"1"), (b"b", b"1"), (b"a", b"2"), codec=codec)
    log.put((b"c", b"1"), (b"b", b"2"), codec=codec)
    log.roll()

    data = log.bytes_of(result := log.clean())

    assert values_of(data) == [(2, b"a", b"2"), (3, b"c", b"1"), (4, b"b", b"2")]
    assert [record.timestamp for record in records_of(data)] == [1002, 1003, 1004]
    assert (result.clean_to, result.records_read, result.records_kept) == (5, 5, 3)
    (first, second) = [header for _, header in iter_headers(data)]
    assert (first.base_offset, first.next_offset, first.record_count, first.codec) == (0, 3, 1, codec)
    assert (first.leader_epoch, first.max_timestamp) == (1, 1002)
    assert (second.base_offset, second.next_offset) == (3, 5)


def test_a_batch_that_keeps_everything_is_copied_byte_for_byte() -> None:
    log = Log()
    log.put((b"a", b"1"), (b"b", b"1"), codec=Codec.GZIP, producer_id=7, producer_epoch=2, base_sequence=9)
    log.roll()
    before = log.disk.open(log.sources[0].path).pread(1 << 20, 0)

    assert log.bytes_of(log.clean()) == before


def test_records_without_a_key_go() -> None:
    log = Log()
    log.put((None, b"1"), (b"a", b"1"), (None, None))
    log.roll()
    assert values_of(log.bytes_of(log.clean())) == [(1, b"a", b"1")]


def test_a_tombstone_stays_until_it_may_be_purged() -> None:
    log = Log()
    log.put((b"a", b"1"))
    log.put((b"a", None), (b"b", b"1"))
    log.roll()
    assert values_of(log.bytes_of(log.clean(purge_to=1))) == [(1, b"a", None), (2, b"b", b"1")]
    assert values_of(log.bytes_of(log.clean(purge_to=2, target="/log/later"))) == [(2, b"b", b"1")]


def test_what_was_aborted_supersedes_nothing_and_goes() -> None:
    """Scenario 49."""
    log = Log()
    log.put((b"k", b"1"))
    log.put((b"k", b"2"))
    first = log.put((b"k", b"3"), producer_id=5, producer_epoch=0, base_sequence=0, transactional=True)
    marker = log.end_transaction(5, commit=False)
    log.roll()

    data = log.bytes_of(log.clean(aborted=[AbortedRange(5, first, marker)]))

    assert values_of(data) == [(1, b"k", b"2")]
    assert [header.base_offset for _, header in iter_headers(data)] == [1, marker]


def test_the_same_producer_may_commit_behind_what_it_aborted() -> None:
    log = Log()
    mine: dict[str, Any] = {"producer_id": 5, "producer_epoch": 0, "transactional": True}
    first = log.put((b"k", b"1"), base_sequence=0, **mine)
    marker = log.end_transaction(5, commit=False)
    log.put((b"k", b"2"), base_sequence=1, **mine)
    log.end_transaction(5, commit=True)
    log.roll()
    data = log.bytes_of(log.clean(aborted=[AbortedRange(5, first, marker)]))
    assert values_of(data) == [(2, b"k", b"2")]


def test_markers_of_many_producers_do_not_shadow_each_other() -> None:
    """Scenario 50: their keys are all alike."""
    log = Log()
    markers = [log.end_transaction(producer, commit=producer % 2 == 0) for producer in range(20)]
    log.roll()
    data = log.bytes_of(log.clean())
    assert [header.base_offset for _, header in iter_headers(data)] == markers
    purged = log.bytes_of(log.clean(purge_to=10, target="/log/later"))
    assert [header.base_offset for _, header in iter_headers(purged)] == markers[10:]


def test_a_full_map_ends_the_pass_and_the_rest_is_copied() -> None:
    log = Log()
    for n in range(30):
        log.put((b"%d" % (n % 10), b"%d" % n))
    log.roll()

    result = log.clean(key_map_bytes=162 * 5)

    assert result.clean_to == 5
    data = log.bytes_of(result)
    assert [offset for offset, _, _ in values_of(data)] == list(range(30))
    again = log.clean(dirty_from=5, key_map_bytes=162 * 10, target="/log/later")
    assert again.clean_to == 15
    assert [offset for offset, _, _ in values_of(log.bytes_of(again))] == list(range(5, 30))


def test_a_marker_outlives_the_last_batch_of_its_transaction_when_the_map_is_full_half_way() -> None:
    """Scenario 52."""
    log = Log()
    mine: dict[str, Any] = {"producer_id": 5, "producer_epoch": 0, "transactional": True}
    first = log.put((b"a", b"aborted"), base_sequence=0, **mine)
    log.put((b"0", b"kept"), (b"1", b"kept"))
    log.roll()
    last = log.put((b"b", b"aborted"), base_sequence=1, **mine)
    log.put((b"2", b"kept"), (b"3", b"kept"))
    marker = log.end_transaction(5, commit=False)
    log.put((b"4", b"kept"))
    log.roll()
    aborted = [AbortedRange(5, first, marker)]

    def offsets(result: CleaningResult) -> set[int]:
        return {header.base_offset for _, header in iter_headers(log.bytes_of(result))}

    half = log.clean(aborted=aborted, key_map_bytes=162 * 2)
    assert first < half.clean_to <= last
    assert first not in offsets(half) and {last, marker} <= offsets(half)
    whole = log.clean(aborted=aborted, dirty_from=half.clean_to, purge_to=half.clean_to, target="/log/2")
    assert whole.clean_to == log.end and last not in offsets(whole) and marker in offsets(whole)
    later = log.clean(aborted=aborted, dirty_from=log.end, purge_to=log.end, target="/log/3")
    assert marker not in offsets(later)


def test_small_segments_are_merged_and_cover_what_they_stand_for() -> None:
    log = Log()
    for n in range(6):
        log.put((b"a", b"%d" % n), (b"b%d" % n, b""))
        log.roll()
    size = log.sources[0].size

    result = log.clean(segment_bytes=3 * size)

    assert [file.source_count for file in result.files] == [3, 3]
    assert values_of(log.bytes_of(result))[-2:] == [(10, b"a", b"5"), (11, b"b5", b"")]


def test_nothing_may_be_left() -> None:
    log = Log()
    log.put((None, b"1"))
    log.roll()
    result = log.clean()
    (file,) = result.files
    assert (file.size, file.max_timestamp, file.source_count) == (0, -1, 1)


@pytest.mark.parametrize("at", [0, 13, 20, 70])
def test_damage_in_a_source_ends_the_pass(at: int) -> None:
    """Scenario 57: base offset, term, crc, a record."""
    log = Log()
    log.put((b"a", b"1"), (b"a", b"2"))
    log.roll()
    file = log.disk.open(log.sources[0].path)
    file.pwritev([bytes([file.pread(1, at)[0] ^ 1])], at)
    with pytest.raises(DamagedLog):
        log.clean()


def test_a_batch_that_its_producer_made_unreadable_stays_whole_and_keeps_tombstones() -> None:
    log = Log()
    junk = encode_batch([NewRecord(5, b"k", b"1")])
    junk[-3] ^= 0xFF  # a length that lies; sealed again, as a producer could
    from raftlog.records.batch import stamp_append_time

    stamp_append_time(junk, 5)
    log.add(junk, 1)
    log.put((b"k", None))
    log.roll()
    for dirty_from in (0, 2):  # the pass that sees the batch first, and a later one
        data = log.bytes_of(log.clean(purge_to=2, dirty_from=dirty_from))
        assert [header.base_offset for _, header in iter_headers(data)] == [0, 1]


def test_job_and_result_go_to_another_process_and_back() -> None:
    log = Log()
    log.put((b"a", b"1"))
    log.roll()
    job = log.job(aborted=[AbortedRange(1, 2, 3)])
    assert CleaningJob.decode(job.encode()) == job
    result = log.clean()
    assert CleaningResult.decode(result.encode()) == result


def test_a_job_with_many_aborted_transactions_is_encoded_soon() -> None:
    """The event loop does it."""
    log = Log()
    log.put((b"a", b"1"))
    log.roll()
    job = log.job(aborted=[AbortedRange(7, number, number + 1) for number in range(90_000)])
    begun = time.process_time()
    for _ in range(5):
        encoded = job.encode()
    assert time.process_time() - begun < 0.65
    assert CleaningJob.decode(encoded) == job


NO_RESULTS = [b"", b"hello", cbor2.dumps([2, {}]), cbor2.dumps([1, {}]), cbor2.dumps([1, 5])]


@pytest.mark.parametrize("said", NO_RESULTS, ids=bytes.hex)
def test_what_is_no_result_is_told_from_one(said: bytes) -> None:
    with pytest.raises(ValueError, match=r"no result|version 2"):
        CleaningResult.decode(said)
