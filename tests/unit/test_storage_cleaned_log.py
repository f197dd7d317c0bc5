"""A log after a pass of compaction: what readers find, what Raft is told, what a restart brings back."""

from __future__ import annotations

import random

import pytest

from raftlog.errors import DamagedLog
from raftlog.records.batch import iter_headers
from raftlog.records.record import Record, decode_batch
from raftlog.storage import segment_reader
from raftlog.storage.entry import EntryKind
from raftlog.storage.group_log import GroupLog
from raftlog.storage.inspect import verify
from raftlog.storage.scrub import Scrub
from raftlog.types import Offset, RaftIndex
from tests.compaction_world import KEY, World
from tests.steps import run


def records_of(log: GroupLog, offset: int = 0, max_bytes: int = 400) -> list[Record]:
    """What a consumer reads that begins at `offset`: it goes on behind the last record that it got."""
    found: list[Record] = []
    while (piece := log.reader.read(Offset(offset), max_bytes)) is not None:
        data = bytes(piece.read())
        records = [each for at, _ in iter_headers(data) for each in decode_batch(data, at)]
        found += [each for each in records if each.offset >= offset]
        assert found and found[-1].offset >= offset, (offset, records)
        offset = found[-1].offset + 1
    assert offset == log.high_watermark
    return found


def folded(records: list[Record]) -> dict[bytes | None, bytes | None]:
    return {record.key: record.value for record in records}


def filled(count: int = 40, keys: int = 4, *, is_checkpointed: bool = True) -> World:
    world = World()
    world.command()
    for number in range(count):
        world.put(b"k%d" % (number % keys), b"%d" % number)
        if number % 7 == 0:
            world.command()
    world.commit()
    if is_checkpointed:
        world.checkpoint()
    return world


def test_a_reader_gets_the_last_value_of_each_key_from_any_offset() -> None:
    """Scenario 55: gaps, between segments, a removed last offset."""
    world = filled()
    before = records_of(world.log)
    world.clean()
    after = records_of(world.log)

    assert len(after) < len(before) and after == [each for each in before if each in after]
    assert folded(after) == folded(before)
    for offset in range(40):
        assert records_of(world.log, offset) == [each for each in after if each.offset >= offset]
    assert (world.log.retention.start_offset, world.log.high_watermark) == (0, 40)


def test_the_last_segment_is_never_cleaned() -> None:
    """Scenario 54: else a consumer would never come to the end."""
    world = World()
    for _ in range(20):
        world.put(b"k", b"1")
    world.commit()
    world.log.retention.roll_if_due(0)
    last = world.find().segments[-1].next_offset
    world.clean()
    assert last < 20
    assert [each.offset for each in records_of(world.log)] == list(range(last - 1, 20))


def test_a_pass_keeps_to_its_limits() -> None:
    world = filled()
    whole = world.find().segments
    assert len(whole) > 4 and whole[-1].next_offset < 40
    middle = whole[2].extent
    assert len(world.find(offset=middle.next_offset).segments) == 3
    assert len(world.find(offset=middle.next_offset - 1).segments) == 2
    assert len(world.find(index=middle.last_index).segments) == 3
    assert len(world.find(index=RaftIndex(middle.last_index - 1)).segments) == 2
    assert len(world.find(newest_ms=middle.max_timestamp).segments) == 3
    assert len(world.find(newest_ms=middle.max_timestamp - 1).segments) == 2


def test_raft_is_told_that_entries_are_gone() -> None:
    world = filled()
    world.log.entries.forget_to(world.log.commit_index)
    world.clean()
    clean_index = world.log.cleaning.clean_index
    assert 0 < clean_index < world.log.commit_index
    assert not world.log.entries.has_from(clean_index)
    with pytest.raises(LookupError):
        world.log.entries.read(clean_index, 1000, 10)
    assert world.log.entries.has_from(RaftIndex(clean_index + 1))
    found = world.log.entries.read(RaftIndex(clean_index + 1), 1 << 20, 1000)
    assert [each.index for each in found] == list(range(clean_index + 1, world.log.last_index + 1))


def test_entries_that_are_still_in_memory_are_still_given() -> None:
    world = filled()
    world.clean()
    assert world.log.entries.has_from(RaftIndex(1))
    assert [each.index for each in world.log.entries.read(RaftIndex(1), 1 << 20, 1000)][:2] == [1, 2]


def test_entries_without_an_offset_go_but_the_newest_membership() -> None:
    world = World()
    world.command(kind=EntryKind.MEMBERSHIP)
    newest = world.command(kind=EntryKind.MEMBERSHIP)
    for number in range(20):
        world.command()
        world.put(b"k", b"%d" % number)
    world.commit()
    before = world.log.retention.internal_count
    world.clean()
    assert world.log.retention.internal_count < before / 2
    world.checkpoint()
    world.reopen()
    assert [each.index for each in world.log.memberships] == [newest]


def test_a_restart_finds_the_cleaned_log_and_removes_what_it_replaced() -> None:
    world = filled()
    files = {name for name in world.disk.listdir("/data/t-0.x") if name.endswith(".log")}
    world.clean()
    after = records_of(world.log)
    world.checkpoint()
    left = {name for name in world.disk.listdir("/data/t-0.x") if name.endswith(".log")}
    assert len(left) < len(files) and not any(name in left for name in sorted(files)[:-2])
    world.store.close()
    world.reopen()
    assert records_of(world.log) == after
    assert world.log.cleaning.passes.clean_to == world.log.cleaning.passes.saved()[-1][0] > 0
    assert verify(world.disk, "/data").findings == []


def test_a_second_pass_goes_on_where_the_first_one_ended() -> None:
    world = filled()
    world.clean()
    world.checkpoint()
    for number in range(40, 80):
        world.put(b"k%d" % (number % 4), b"%d" % number, term=2)
    world.commit()
    expected = folded(records_of(world.log))
    found = world.find()
    assert 0 < found.dirty_ratio < 1 and found.clean_bytes > 0
    world.clean()
    world.checkpoint()
    assert folded(records_of(world.log)) == expected
    assert len(records_of(world.log)) < 12
    world.reopen()
    assert folded(records_of(world.log)) == expected
    assert verify(world.disk, "/data").findings == []


def test_a_tombstone_and_then_nothing() -> None:
    """Scenario 51."""
    world = World()
    world.put(b"gone", b"1")
    world.put(b"gone", None)
    for number in range(20):
        world.put(b"k", b"%d" % number)
    world.commit()
    world.clean()
    assert folded(records_of(world.log))[b"gone"] is None
    passes = world.log.cleaning.passes
    passes.advance(999)
    assert passes.purge_to(1000) == 0
    passes.advance(1)
    assert passes.purge_to(1000) == passes.clean_to
    world.checkpoint()
    world.clean(purge_to=passes.purge_to(1000))
    assert b"gone" not in folded(records_of(world.log))


def test_a_log_that_has_lost_a_source_takes_nothing() -> None:
    world = filled()
    found = world.find()
    result = world.run_pass(found)
    world.log.retention.delete_before(found.segments[0].next_offset)
    assert world.log.retention.drop_deleted(world.log.commit_index)
    assert not world.log.cleaning.take(found, result)
    assert [each.offset for each in records_of(world.log, world.log.retention.start_offset)][-1] == 39


def test_a_log_that_is_deleted_takes_nothing() -> None:
    world = filled()
    found = world.find()
    result = world.run_pass(found)
    cleaning = world.log.cleaning
    world.store.delete_log(KEY)
    assert not cleaning.take(found, result)


def test_slices_outlive_the_swap() -> None:
    world = filled()
    piece = world.log.reader.read(Offset(0), 100)
    assert piece is not None
    world.clean()
    world.checkpoint()
    data = piece.file.pread(piece.length, piece.position)
    assert [each.offset for each in decode_batch(data)] == [0]


def test_the_start_moves_through_a_cleaned_log() -> None:
    world = filled()
    world.clean()
    world.log.retention.delete_before(Offset(36))
    world.log.retention.drop_deleted(world.log.commit_index)
    world.checkpoint()
    world.reopen()
    assert world.log.retention.start_offset == 36
    assert [each.offset for each in records_of(world.log, 36)][-1] == 39


def test_what_was_cleaned_and_then_deleted_holds_up_no_entries() -> None:
    """There is no copy to be made of it: who lacks it is given where the log begins."""
    world = filled()
    world.clean()
    world.log.retention.delete_before(world.log.high_watermark)
    world.log.retention.drop_deleted(world.log.commit_index)
    assert world.log.cleaning.clean_index == 0
    assert world.log.entries.has_from(world.log.first_index)


def test_damage_in_a_cleaned_segment_is_found_by_readers_and_by_the_scrub() -> None:
    world = filled()
    world.clean()
    world.checkpoint()
    name = next(name for name in world.disk.listdir("/data/t-0.x") if name.endswith(".1.log"))
    file = world.disk.open(f"/data/t-0.x/{name}")
    file.pwritev([bytes([file.pread(1, 70)[0] ^ 1])], 70)
    with pytest.raises(DamagedLog):
        records_of(world.log)
    assert world.log.damage.rot is not None and world.log.damage.lost is None
    scrub = Scrub(world.store.logs)
    scrub.begin()
    piece = scrub.next()
    assert piece is not None
    with pytest.raises(DamagedLog):
        scrub.check(piece, piece.read())
    assert len(verify(world.disk, "/data").findings) == 1
    with pytest.raises(DamagedLog):
        world.run_pass(world.find())


@pytest.mark.parametrize("is_read", [True, False])
def test_a_scrub_that_is_in_the_middle_of_what_is_swapped_finds_no_damage(
    is_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sound would be dropped, and the replica filled anew."""
    monkeypatch.setattr(segment_reader, "CHECK_CHUNK", 100)
    world = filled()
    scrub = Scrub(world.store.logs)
    scrub.begin()
    piece = scrub.next()
    assert piece is not None
    data = piece.read()
    if is_read:
        world.clean()
    scrub.check(piece, data)
    if not is_read:
        world.clean()
    while (piece := scrub.next()) is not None:
        scrub.check(piece, piece.read())
    assert world.log.damage.problem is None


def test_a_time_is_found_in_a_cleaned_log() -> None:
    world = filled()
    world.clean()
    left = records_of(world.log)
    for timestamp in range(1000, 1040):
        found = run(world.log.reader.offset_for_timestamp_steps(timestamp))
        expected = next(each for each in left if each.timestamp >= timestamp)
        assert found == (expected.offset, expected.timestamp)


@pytest.mark.parametrize("is_checkpointed", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_power_may_go_off_anywhere_in_a_swap(seed: int, is_checkpointed: bool) -> None:
    """Scenario 56: afterwards the old log is there or the new one, and they fold to the same."""
    stop, is_over = 0, False
    seen = set[int]()
    while not is_over:
        world = filled(is_checkpointed=is_checkpointed)
        world.disk.rng = random.Random(seed * 1000 + stop)
        expected = folded(before := records_of(world.log))
        found = world.find()
        begun = world.disk.operations
        world.disk.crash_after = begun + stop
        try:
            assert world.log.cleaning.take(found, world.run_pass(found))
            world.checkpoint()
            is_over = True
        except BaseException as error:
            if type(error).__name__ != "PowerLost":
                raise
        world.disk.crash_after = None
        if not is_over:
            world.disk.power_loss()
        world.reopen()
        world.commit()
        after = records_of(world.log)
        assert folded(after) == expected
        assert all(each in before for each in after)
        assert verify(world.disk, "/data").findings == []
        seen.add(len(after))
        stop += 1
    assert len(seen) == 2, seen
