"""What a read_committed consumer is given of a fetch, and where that leaves its position."""

from __future__ import annotations

import pytest

from raftlog.client.assignment import Decoder, Partition
from raftlog.client.isolation import iter_visible
from raftlog.client.metadata import TopicPartition
from raftlog.partition.markers import Marker, encode_marker
from raftlog.records.batch import Codec, stamp
from raftlog.records.record import NewRecord, encode_batch

KEY = TopicPartition("t", 0)


class Log:
    """Batches one behind the other."""

    def __init__(self) -> None:
        self.data = b""
        self.end = 0

    def _append(self, batch: bytearray, count: int) -> int:
        first = self.end
        stamp(batch, first, 0)
        self.data += bytes(batch)
        self.end += count
        return first

    def plain(self, value: bytes) -> int:
        return self._append(encode_batch([NewRecord(0, value=value)]), 1)

    def write(self, producer: int, *values: bytes, codec: Codec = Codec.NONE) -> int:
        records = [NewRecord(0, value=value) for value in values]
        batch = encode_batch(
            records, producer_id=producer, producer_epoch=0, base_sequence=0, transactional=True, codec=codec
        )
        return self._append(batch, len(values))

    def marker(self, producer: int, *, commit: bool) -> int:
        return self._append(encode_marker(Marker(producer, 0, commit, 1, self.end), 0), 1)


def read(
    log: Log, aborted: list[tuple[int, int]], *, start: int = 0
) -> tuple[list[bytes | None], int | None]:
    """The values that come out, and the position behind them."""
    partition = Partition(KEY)
    partition.seek(start)
    partition.add(log.data, log.end, 0, aborted)
    partition.pass_gap()
    values: list[bytes | None] = []
    while partition.batches:
        records, partition.position = Decoder(None, None).next_records(partition)
        values += [record.value for record in records]
    assert (partition.buffered, partition.records_buffered) == (0, 0)
    return values, partition.position


def test_aborted_records_and_markers_are_passed() -> None:
    log = Log()
    log.plain(b"a")
    first = log.write(7, b"x", b"y", codec=Codec.GZIP)
    log.plain(b"b")
    log.marker(7, commit=False)
    assert read(log, [(7, first)]) == ([b"a", b"b"], 5)


def test_read_uncommitted_is_told_of_no_abort_and_gets_all_but_markers() -> None:
    log = Log()
    log.write(7, b"x")
    log.marker(7, commit=False)
    assert read(log, []) == ([b"x"], 2)


def test_scenario_35_of_one_producer_the_committed_middle_is_read() -> None:
    log = Log()
    one = log.write(7, b"lost")
    log.marker(7, commit=False)
    log.write(7, b"kept")
    log.marker(7, commit=True)
    two = log.write(7, b"lost too")
    log.marker(7, commit=False)
    assert read(log, [(7, one), (7, two)]) == ([b"kept"], 6)
    assert read(log, [(7, two), (7, one)])[0] == [b"kept"], "in whatever order they are named"


def test_producers_do_not_hide_one_another() -> None:
    log = Log()
    first = log.write(7, b"lost")
    log.write(8, b"kept")
    log.marker(8, commit=True)
    log.write(7, b"lost too")
    log.marker(7, commit=False)
    log.write(8, b"kept too")
    assert read(log, [(7, first)])[0] == [b"kept", b"kept too"]


def test_scenario_31_a_fetch_in_the_middle_of_an_aborted_range_or_on_its_marker() -> None:
    log = Log()
    first = log.write(7, b"lost")
    middle = Log()
    middle.end = log.end
    middle.write(7, b"lost too")
    marker = middle.marker(7, commit=False)
    middle.write(7, b"kept")
    assert read(middle, [(7, first)], start=1) == ([b"kept"], 4)
    behind = Log()
    behind.end = marker
    behind.marker(7, commit=False)
    behind.write(7, b"kept")
    assert read(behind, [(7, first)], start=marker) == ([b"kept"], 4)


def test_a_transaction_that_begins_behind_the_fetch_hides_nothing_of_it() -> None:
    log = Log()
    log.write(7, b"kept")
    assert read(log, [(7, 1)]) == ([b"kept"], 1)


def test_an_abort_marker_that_nobody_announced_changes_nothing() -> None:
    log = Log()
    log.marker(7, commit=False)
    log.write(7, b"kept")
    assert read(log, []) == ([b"kept"], 2)


def test_scenario_36_a_fetch_of_aborted_records_alone_moves_the_position_and_keeps_nothing() -> None:
    log = Log()
    for _ in range(100):
        log.write(7, b"lost" * 100)
    partition = Partition(KEY)
    partition.seek(0)
    partition.add(log.data, log.end, 0, [(7, 0)])
    assert (len(partition.batches), partition.buffered, partition.records_buffered) == (1, 0, 0)
    partition.pass_gap()
    assert (partition.position, partition.fetch_offset, len(partition.batches)) == (100, 100, 0)


def test_a_gap_is_passed_only_when_nothing_is_before_it() -> None:
    log = Log()
    log.plain(b"a")
    log.write(7, b"lost")
    partition = Partition(KEY)
    partition.seek(0)
    partition.add(log.data, log.end, 0, [(7, 1)])
    partition.pass_gap()
    assert partition.position == 0
    records, behind = Decoder(None, None).next_records(partition)
    assert ([record.value for record in records], behind) == ([b"a"], 2)


@pytest.mark.parametrize("commit", [True, False])
def test_markers_are_read_as_their_writers_mean_them(commit: bool) -> None:
    log = Log()
    log.write(7, b"x")
    log.marker(7, commit=commit)
    log.write(7, b"y")
    visible = [seen for _, _, seen in iter_visible(log.data, [(7, 0)])]
    assert visible == [False, False, not commit]
