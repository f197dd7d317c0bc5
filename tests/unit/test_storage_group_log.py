"""A log on a virtual disk: what it refuses, what readers get, what retention takes."""

from __future__ import annotations

import random
from struct import pack_into

import pytest
from crc32c import crc32c

from raftlog.errors import DamagedLog, DiskFailed, SafetyError
from raftlog.records.batch import stamp
from raftlog.records.record import NewRecord, encode_batch
from raftlog.storage.entry import Entry, EntryKind, HardState
from raftlog.storage.epochs import UNKNOWN, Epochs
from raftlog.storage.group_log import GroupLog
from raftlog.storage.reader import SEARCHED_MAX
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, Offset, RaftIndex, Term, group_key
from tests.sim.virtual_disk import VirtualDisk
from tests.steps import run
from tests.storage_world import all_bytes, all_entries, batch, expire, plain

KEY = group_key(b"t" * 16, 0)
FOLDER = "/data/t-0.x"


def open_store(disk: VirtualDisk, **changes: int) -> Store:
    settings = StoreSettings(node_id=BrokerId(1), wal_file_bytes=64 << 10, **changes)  # type: ignore[arg-type]
    return Store.open(disk, "/data", settings, rng=random.Random(1))


def new_log(**changes: int) -> tuple[VirtualDisk, Store, GroupLog]:
    disk = VirtualDisk(random.Random(1))
    store = open_store(disk, **changes)
    return disk, store, store.create_log(KEY, "t-0.x")


def flush(store: Store) -> None:
    while store.has_pending:
        ticket = store.write()
        ticket.sync()
        store.synced(ticket)


def checkpoint(store: Store) -> None:
    flush(store)
    job = store.begin_checkpoint()
    job.run()
    store.finish_checkpoint(job)
    flush(store)


def add(log: GroupLog, term: int = 1, records: int = 1, size: int = 50, timestamp: int = 1000) -> Entry:
    return log.append(Term(term), EntryKind.BATCH, batch(log, term, records, size, timestamp), records)


def commit_all(store: Store, log: GroupLog) -> None:
    flush(store)
    log.commit_to(log.last_index)


def test_an_append_takes_the_next_index_and_offset() -> None:
    _, store, log = new_log()
    first = log.append(Term(1), EntryKind.NOOP, b"", 0)
    second = add(log, records=3)
    assert (first.index, first.base_offset, first.next_offset) == (1, 0, 0)
    assert (second.index, second.base_offset, second.next_offset) == (2, 0, 3)
    assert (log.last_index, log.last_term, log.log_end_offset) == (2, 1, 3)
    assert (log.commit_index, log.entries.synced_index, log.high_watermark) == (0, 0, 0)
    flush(store)
    assert log.entries.synced_index == 2
    assert log.commit_to(RaftIndex(2)) == [first, second]
    assert (log.commit_index, log.high_watermark) == (2, 3)
    assert log.commit_to(RaftIndex(1)) == []
    assert repr(log) == "<GroupLog t-0.x entries=1..2 term=1 committed=2 synced=2 end=3>"


def test_what_is_not_durable_here_is_not_committed_here() -> None:
    _, store, log = new_log()
    add(log)
    with pytest.raises(SafetyError, match="not durable"):
        log.commit_to(RaftIndex(1))
    ticket = store.write()
    add(log)
    ticket.sync()
    store.synced(ticket)
    assert log.entries.synced_index == 1
    with pytest.raises(SafetyError):
        log.commit_to(RaftIndex(2))


def test_what_was_truncated_while_it_was_synced_is_not_durable() -> None:
    _, store, log = new_log()
    for _ in range(3):
        add(log)
    ticket = store.write()
    log.truncate_from(RaftIndex(2))
    add(log, term=2)
    ticket.sync()
    store.synced(ticket)
    assert (log.entries.synced_index, log.last_index) == (1, 2)
    flush(store)
    assert log.entries.synced_index == 2


def test_entries_that_do_not_fit_are_refused() -> None:
    _, _, log = new_log()
    add(log, term=2)
    good = batch(log, 2, 1, 10)
    entry = Entry(RaftIndex(2), Term(2), EntryKind.BATCH, good, Offset(1), Offset(2))
    for wrong in (
        entry._replace(index=RaftIndex(3)),
        entry._replace(index=RaftIndex(1)),
        entry._replace(base_offset=Offset(0)),
        entry._replace(term=Term(1)),
        entry._replace(term=Term(3)),  # not what it is stamped with
        entry._replace(payload=good[:-1]),
        entry._replace(payload=b""),
        entry._replace(next_offset=Offset(1)),
        entry._replace(kind=EntryKind.NOOP),
    ):
        with pytest.raises(SafetyError):
            log.append_entries([wrong])
    log.append_entries([entry])
    assert log.last_index == 2


def test_nothing_committed_is_truncated() -> None:
    _, store, log = new_log()
    add(log)
    add(log)
    flush(store)
    log.commit_to(RaftIndex(1))
    with pytest.raises(SafetyError, match="committed"):
        log.truncate_from(RaftIndex(1))
    log.truncate_from(RaftIndex(5))
    assert log.last_index == 2
    log.truncate_from(RaftIndex(2))
    assert (log.last_index, log.log_end_offset, log.term_at(RaftIndex(2))) == (1, 1, None)


def test_a_vote_is_given_once_and_terms_do_not_fall() -> None:
    _, _, log = new_log()
    log.promises.hard_state = HardState(Term(3), None)
    log.promises.hard_state = HardState(Term(3), BrokerId(2))
    log.promises.hard_state = HardState(Term(3), BrokerId(2))
    with pytest.raises(SafetyError):
        log.promises.hard_state = HardState(Term(3), BrokerId(1))
    with pytest.raises(SafetyError):
        log.promises.hard_state = HardState(Term(2), None)
    log.promises.hard_state = HardState(Term(4), None)
    assert log.promises.hard_state == HardState(Term(4), None)


def test_entries_come_from_memory_and_from_segments_alike() -> None:
    _, store, log = new_log(recent_bytes_max=1000, segment_bytes=500, index_interval_bytes=100)
    for number in range(30):
        if number % 7 == 3:
            log.append(Term(1), EntryKind.MEMBERSHIP, b"m%d" % number, 0)
        add(log, records=1 + number % 3)
    everything = [plain(entry) for entry in log.entries.read(RaftIndex(1), 1 << 30, 1 << 30)]
    commit_all(store, log)
    assert len(log.entries.memory) < 10
    assert log.retention.segment_count > 3
    assert all_entries(log) == everything
    assert log.entries.read(RaftIndex(36), 100, 1) == []
    assert [entry.index for entry in log.entries.read(RaftIndex(1), 1, 100)] == [1]
    assert [entry.index for entry in log.entries.read(RaftIndex(1), 1 << 20, 3)] == [1, 2, 3]
    with pytest.raises(LookupError):
        log.entries.read(RaftIndex(0), 1, 1)
    assert [entry.payload for entry in log.memberships] == [b"m3", b"m10", b"m17", b"m24"]


def test_readers_get_whole_batches_from_the_one_they_ask_for() -> None:
    _, store, log = new_log(segment_bytes=1000, index_interval_bytes=150)
    batches = [plain(add(log, records=2)).payload for _ in range(12)]
    assert log.reader.read(Offset(0), 100) is None
    commit_all(store, log)
    size = len(batches[0])
    for offset in range(24):
        for max_bytes in (0, 1, size, size + 1, 3 * size, 1 << 20):
            piece = log.reader.read(Offset(offset), max_bytes)
            assert piece is not None
            found = piece.read()
            count = len(found) // size
            assert found == b"".join(batches[offset // 2 : offset // 2 + count])
            assert 1 <= count <= max(1, max_bytes // size)
            assert piece.next_offset == (offset // 2 + count) * 2
    assert log.reader.read(Offset(24), 100) is None
    assert log.reader.read(Offset(-1), 100) is None
    assert all_bytes(log) == b"".join(batches)


def test_a_reader_goes_on_where_the_log_ended_before_a_noop() -> None:
    _, store, log = new_log()
    add(log)
    commit_all(store, log)
    piece = log.reader.read(Offset(0), 1000)
    assert piece is not None and piece.next_offset == 1
    log.append(Term(2), EntryKind.NOOP, b"", 0)
    entry = add(log, term=2)
    commit_all(store, log)
    piece = log.reader.read(Offset(1), 1000)
    assert piece is not None and piece.read() == entry.payload


def test_a_slice_outlives_its_segment() -> None:
    disk, store, log = new_log(segment_bytes=100)
    first = add(log)
    for _ in range(3):
        add(log)
    commit_all(store, log)
    piece = log.reader.read(Offset(0), 10)
    assert expire(log, 0, -1, 0)
    checkpoint(store)
    assert disk.listdir(FOLDER) == ["00000000000000000003.index", "00000000000000000003.log", "snapshot"]
    assert piece is not None and piece.read() == first.payload


def test_retention_by_size_time_and_request() -> None:
    _, store, log = new_log(segment_bytes=300)
    for number in range(12):
        add(log, timestamp=1000 * number)
    commit_all(store, log)
    size = log.retention.size
    assert not expire(log, 12_000, -1, -1)
    assert not expire(log, 12_000, 100_000, size)
    assert expire(log, 4_500, 1_000, -1)
    assert (log.retention.start_offset, log.first_index) == (4, 5)
    assert expire(log, 0, -1, 400)
    assert (log.retention.start_offset, log.first_index) == (8, 9)
    log.retention.delete_before(Offset(9))
    assert log.retention.start_offset == 9
    assert not expire(log, 0, -1, -1)
    assert log.reader.read(Offset(8), 100) is None
    log.retention.delete_before(Offset(100))
    assert log.retention.start_offset == log.high_watermark == 12
    assert expire(log, 0, -1, -1)
    assert (log.retention.segment_count, log.first_index, log.last_term) == (0, 13, 1)
    assert log.term_at(RaftIndex(12)) == 1
    assert log.term_at(RaftIndex(11)) is None
    add(log)
    commit_all(store, log)
    assert len(all_entries(log)) == 1


def test_a_log_start_that_was_moved_stays_moved() -> None:
    disk, store, log = new_log(segment_bytes=300)
    for _ in range(6):
        add(log)
    commit_all(store, log)
    log.retention.delete_before(Offset(3))
    flush(store)
    disk.power_loss()
    log = open_store(disk).logs[KEY]
    assert (log.retention.start_offset, log.high_watermark) == (3, 6)


def test_a_segment_is_rolled_by_the_span_of_its_records_own_times() -> None:
    """Not by the clock: an old history would be cut into a segment a second."""
    _, store, log = new_log(roll_ms=500)
    for timestamp, segments in ((1000, 1), (1500, 1), (1501, 2), (900, 2), (2001, 2), (2002, 3)):
        assert not log.retention.roll_if_due(1 << 60)
        add(log, timestamp=timestamp)
        commit_all(store, log)
        assert log.retention.segment_count == segments
    for timestamp in (3000, 3501, 4002):
        add(log, timestamp=timestamp)
    commit_all(store, log)
    assert log.retention.segment_count == 6
    log.retention.configure(segment_bytes=1)
    add(log)
    commit_all(store, log)
    assert log.retention.segment_count == 7


def test_the_age_of_a_file_counts_where_its_records_have_no_time() -> None:
    disk, store, log = new_log(roll_ms=500)
    assert not log.retention.roll_if_due(10_000)
    add(log, timestamp=-1)
    commit_all(store, log)
    assert not log.retention.roll_if_due(10_300)
    add(log, timestamp=-1)
    commit_all(store, log)
    assert log.retention.expired_to(10_400, 200, -1) == 0
    assert log.retention.expired_to(10_501, 200, -1) == 2
    checkpoint(store)
    disk.power_loss()
    store = open_store(disk, roll_ms=500)
    log = store.logs[KEY]
    assert not log.retention.roll_if_due(10_500)
    assert log.retention.roll_if_due(10_501), "a restart makes it no younger"
    add(log, timestamp=-1)
    commit_all(store, log)
    assert log.retention.segment_count == 2
    assert log.retention.expired_to(10_501, 200, -1) == 2


def test_a_segment_of_unknown_age_is_as_old_as_when_it_was_first_looked_at() -> None:
    """It was written before ages were kept."""
    _, store, log = new_log(roll_ms=500)
    add(log, timestamp=-1)
    commit_all(store, log)
    assert not log.retention.roll_if_due(10_000)
    assert log.retention.expired_to(10_200, 200, -1) == 0
    assert log.retention.expired_to(10_201, 200, -1) == 1
    assert log.retention.roll_if_due(10_501)


def test_timestamps_are_found_to_the_record() -> None:
    _, store, log = new_log(segment_bytes=600, index_interval_bytes=1)
    assert log.reader.max_timestamp == -1
    for number in range(20):
        add(log, records=3, timestamp=1000 + 10 * number)
    commit_all(store, log)
    assert log.reader.max_timestamp == 1192
    assert run(log.reader.offset_for_timestamp_steps(0)) == (0, 1000)
    assert run(log.reader.offset_for_timestamp_steps(1051)) == (16, 1051)
    assert run(log.reader.offset_for_timestamp_steps(1055)) == (18, 1060)
    assert run(log.reader.offset_for_timestamp_steps(1192)) == (59, 1192)
    assert run(log.reader.offset_for_timestamp_steps(1193)) is None
    log.retention.delete_before(Offset(17))
    assert run(log.reader.offset_for_timestamp_steps(0)) == (17, 1052)


def test_a_search_for_a_time_goes_in_steps() -> None:
    """Where the index does not help, it looks at so many headers and lets others go on."""
    _, store, log = new_log()
    add(log, timestamp=9000)  # deleted, yet it makes every place behind it late enough for the index
    for _ in range(2 * SEARCHED_MAX + 10):
        add(log, timestamp=1000, size=1)
    add(log, timestamp=5000)
    commit_all(store, log)
    log.retention.delete_before(Offset(1))
    steps = log.reader.offset_for_timestamp_steps(4000)
    result, count = None, 0
    with pytest.raises(StopIteration) as end:
        while True:
            result = steps.send(result)()
            count += 1
    assert end.value.value == (2 * SEARCHED_MAX + 11, 5000)
    assert count == 3
    assert run(log.reader.offset_for_timestamp_steps(4000)) == end.value.value
    steps = log.reader.offset_for_timestamp_steps(4000)
    assert next(steps)() is None
    store.delete_log(log.key)
    with pytest.raises(StopIteration) as end:
        steps.send(None)
    assert end.value.value is None


def test_a_batch_that_cannot_be_opened_does_not_hide_the_others() -> None:
    """Its CRC is true, its records are not: its producer must not cost all others the look-up."""
    _, store, log = new_log()
    add(log, timestamp=1000)
    poison = bytearray(batch(log, 1, 2, 50, 2000))
    poison[-40:] = b"\xff" * 40
    pack_into(">I", poison, 17, crc32c(poison[21:]))
    log.append(Term(1), EntryKind.BATCH, poison, 2)
    add(log, timestamp=3000)
    commit_all(store, log)
    assert run(log.reader.offset_for_timestamp_steps(500)) == (0, 1000)
    assert run(log.reader.offset_for_timestamp_steps(1500)) == (1, 2001)  # where it begins
    assert run(log.reader.offset_for_timestamp_steps(2500)) == (3, 3000)


def test_a_compressed_batch_is_opened_for_its_timestamps() -> None:
    _, store, log = new_log()
    from raftlog.records.batch import Codec

    data = encode_batch([NewRecord(5, None, b"x" * 100), NewRecord(9, None, b"y")], codec=Codec.GZIP)
    stamp(data, 0, 1)
    log.append(Term(1), EntryKind.BATCH, data, 2)
    commit_all(store, log)
    assert run(log.reader.offset_for_timestamp_steps(6)) == (1, 9)


def test_epochs_answer_as_kafka_does() -> None:
    _, store, log = new_log()
    for term in (2, 2, 5, 9):
        add(log, term=term)
    flush(store)
    log.commit_to(RaftIndex(3))
    assert log.reader.offset_for_term(Term(1)) == (1, 0)
    assert log.reader.offset_for_term(Term(2)) == (2, 2)
    assert log.reader.offset_for_term(Term(4)) == (2, 2)
    assert log.reader.offset_for_term(Term(5)) == (5, 3)
    assert log.reader.offset_for_term(Term(9)) == (9, 3)  # its record is not committed yet
    assert log.reader.offset_for_term(Term(10)) == UNKNOWN
    assert log.reader.offset_for_term(Term(-1)) == UNKNOWN
    assert Epochs([]).end_offset(Term(0), Offset(0)) == UNKNOWN


def test_a_reset_starts_the_log_anew() -> None:
    disk, store, log = new_log()
    for _ in range(3):
        add(log)
    commit_all(store, log)
    checkpoint(store)
    piece = log.reader.read(Offset(0), 1 << 20)
    membership = Entry(RaftIndex(70), Term(4), EntryKind.MEMBERSHIP, b"voters", Offset(900), Offset(900))
    log.reset(RaftIndex(70), Term(4), Offset(900), b"state", membership)
    assert log.entries.synced_index == 0
    assert (log.first_index, log.last_index, log.last_term, log.commit_index) == (71, 70, 4, 70)
    assert (log.retention.start_offset, log.high_watermark, log.log_end_offset) == (900, 900, 900)
    assert (log.saved.state, log.saved.index) == (b"state", 70)
    assert (log.term_at(RaftIndex(70)), log.term_at(RaftIndex(69))) == (4, None)
    entry = add(log, term=4)
    commit_all(store, log)
    assert piece is not None and len(piece.read()) == piece.length
    checkpoint(store)
    assert sorted(disk.listdir("/data")) == ["lock", "meta.toml", "t-0.x~2", "wal"]
    disk.power_loss()
    again = open_store(disk).logs[KEY]
    assert [plain(found) for found in again.memberships] == [membership]
    assert [plain(found) for found in all_entries(again)] == [plain(entry)]
    assert again.saved.state == b"state"


def test_a_snapshot_takes_the_place_of_what_is_before_it() -> None:
    disk, store, log = new_log(segment_bytes=200)
    log.append(Term(1), EntryKind.MEMBERSHIP, b"first", 0)
    for _ in range(5):
        add(log)
    log.append(Term(2), EntryKind.MEMBERSHIP, b"second", 0)
    commit_all(store, log)
    add(log, term=2)
    log.saved.save(b"image", RaftIndex(7), drop_before=True)
    assert (log.first_index, log.retention.start_offset, log.last_index) == (8, 5, 8)
    assert [entry.payload for entry in log.memberships] == [b"second"]
    assert log.term_at(RaftIndex(7)) == 2
    with pytest.raises(SafetyError):
        log.saved.save(b"", RaftIndex(8))
    with pytest.raises(SafetyError):
        log.saved.save(b"", RaftIndex(6))
    store.close()
    again = open_store(disk).logs[KEY]
    assert (again.saved.state, again.saved.index, again.first_index) == (b"image", 7, 8)
    assert [entry.payload for entry in again.memberships] == [b"second"]
    assert again.last_index == 8


def test_few_files_are_open_at_a_time() -> None:
    _, store, log = new_log(segment_bytes=100, open_files_max=4)
    for _ in range(20):
        add(log)
    commit_all(store, log)
    assert store.statistics()["unsynced_segments"] == store.statistics()["open_segments"] == 4
    checkpoint(store)
    assert all_bytes(log, 1)
    assert store.statistics()["open_segments"] <= 4
    assert all_bytes(log, 1)


def test_a_failed_write_of_a_segment_stops_everything() -> None:
    disk, store, log = new_log()
    add(log)
    flush(store)
    disk.fail_next("write", where=lambda path: path.endswith(".log"))
    with pytest.raises(DiskFailed):
        log.commit_to(RaftIndex(1))
    for refused in (
        lambda: add(log),
        lambda: log.commit_to(RaftIndex(1)),
        lambda: log.reader.read(Offset(0), 1),
        lambda: log.truncate_from(RaftIndex(2)) or log.reset(RaftIndex(0), Term(0), Offset(0), b""),
        lambda: store.create_log(group_key(b"u" * 16, 0), "u-0.x"),
        lambda: store.delete_log(KEY),
    ):
        with pytest.raises(DiskFailed):
            refused()
    store.close()
    again = open_store(disk)
    assert again.logs[KEY].last_index == 1


def test_a_sector_that_cannot_be_read_is_damage_of_its_log() -> None:
    disk, store, log = new_log()
    add(log)
    commit_all(store, log)
    store.close()
    store = open_store(disk)
    log = store.logs[KEY]
    for _ in range(3):  # once for the index, which is made anew as far as it can be
        disk.fail_next("read", where=lambda path: path.endswith(".log"))
    with pytest.raises(DamagedLog):
        log.reader.read(Offset(0), 100)
    disk.forget_faults()
    assert log.damage.problem is not None
    store.create_log(group_key(b"u" * 16, 0), "u-0.x")
    flush(store)


def test_a_deleted_log_is_not_used_any_more() -> None:
    disk, store, log = new_log()
    add(log)
    commit_all(store, log)
    store.delete_log(KEY)
    with pytest.raises(SafetyError, match="deleted"):
        add(log)
    flush(store)
    assert disk.exists(FOLDER)
    assert store.checkpoint_due
    checkpoint(store)
    assert not disk.exists(FOLDER)
    store.create_log(KEY, "t-0.x")
    flush(store)
    disk.power_loss()
    assert open_store(disk).logs[KEY].last_index == 0
