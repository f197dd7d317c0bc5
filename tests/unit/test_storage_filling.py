"""The compacted part of a log, taken over by another disk: whole or not at all, wherever power goes off."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from raftlog.errors import DamagedLog
from raftlog.storage.entry import HardState
from raftlog.storage.filling import DESCRIPTION, MARK_NAME, Filling, Part
from raftlog.storage.inspect import log_folders, verify
from raftlog.storage.snapshot import encode
from raftlog.types import BrokerId, RaftIndex, Term
from tests.compaction_world import KEY, PART_BYTES, World, describe, follow, take
from tests.sim.virtual_disk import PowerLost
from tests.unit.test_storage_cleaned_log import filled, records_of


def giver() -> World:
    """A log of two terms that was compacted, and has some entries behind that."""
    world = filled(30)
    world.clean()
    world.checkpoint()
    for number in range(30, 60):
        world.put(b"k%d" % (number % 4), b"%d" % number, term=2)
    world.commit()
    world.reopen()
    world.log.commit_to(world.log.last_index)
    return world


def behind(count: int = 5) -> World:
    """A log that has the first entries, and voted."""
    world = filled(count, is_checkpointed=False)
    world.log.promises.hard_state = HardState(Term(2), BrokerId(7))
    world.log.promises.may_lack = True
    world.flush()
    return world


def test_the_log_is_the_givers_and_goes_on_with_entries() -> None:
    source, world = giver(), behind()
    with pytest.raises(LookupError):
        source.log.entries.read(RaftIndex(6), 1000, 10)
    copy = source.log.cleaning.copy()
    take(world, copy)
    log, clean_index = world.log, source.log.cleaning.clean_index
    assert log.commit_index == log.last_index == log.entries.synced_index == clean_index
    assert (log.saved.state, log.saved.index) == (b"state", clean_index)
    assert log.promises.may_lack and log.promises.hard_state == HardState(Term(2), BrokerId(7))
    assert [log.term_at(RaftIndex(index)) for index in range(clean_index + 1)] == [
        source.log.term_at(RaftIndex(index)) for index in range(clean_index + 1)
    ]
    follow(world, source.log)
    assert records_of(log) == records_of(source.log)
    for step in (world.reopen, world.checkpoint, world.reopen):
        step()
        world.log.commit_to(world.log.last_index)  # Raft learns how far that is; a restart does not know all
        assert records_of(world.log) == records_of(source.log)
    assert len(log_folders(world.disk, "/data")) == 1
    assert verify(world.disk, "/data").findings == []


def test_it_is_cleaned_like_any_other() -> None:
    source, world = giver(), behind()
    take(world, source.log.cleaning.copy())
    follow(world, source.log)
    world.log.saved.save(b"state", world.log.commit_index)
    before = records_of(world.log)
    assert world.log.cleaning.passes.clean_to == source.log.cleaning.passes.clean_to
    world.checkpoint()
    world.clean()
    world.checkpoint()
    world.reopen()
    after = records_of(world.log)
    assert len(after) < len(before)
    assert {each.key: each.value for each in after} == {each.key: each.value for each in before}


@pytest.mark.parametrize("seed", range(3))
def test_power_may_go_off_anywhere(seed: int) -> None:
    """Scenarios 58 and 59: the old log, or the giver's, and never a mixture; no folder is left over."""
    source = giver()
    copy = source.log.cleaning.copy()
    old, taken_over = records_of(behind().log), 0
    for stop in range(10_000):
        world = behind()
        world.disk.rng = random.Random(f"{seed} {stop}")
        world.disk.crash_after = world.disk.operations + stop
        is_done = False
        try:
            take(world, copy)
            follow(world, source.log)
            world.checkpoint()
            is_done = True
        except PowerLost:
            pass
        world.disk.power_loss()
        world.store = world.open()
        log = world.log = world.store.logs[KEY]
        assert (
            log.damage.lost is None
            and log.promises.hard_state == HardState(Term(2), BrokerId(7))
            and log.promises.may_lack
        )
        assert log_folders(world.disk, "/data") == [log.dirname]
        assert not [path for path in world.disk.files("/data") if path.endswith(MARK_NAME)] or is_done
        clean_index = copy.image.commit.index
        if log.commit_index < clean_index:
            assert records_of(log) == old[: log.high_watermark]
        else:  # entries behind the copy may be lost again, and come again
            taken_over += 1
            log.commit_to(log.last_index)
            follow(world, source.log)
            assert records_of(log) == records_of(source.log)
        assert verify(world.disk, "/data").findings == []
        if is_done:
            break
    assert stop > 20 and 5 < taken_over < stop


def test_the_files_of_a_copy_stay_until_it_ends() -> None:
    """A second pass and retention replace them meanwhile."""
    source = giver()
    copy = source.log.cleaning.copy()
    expected = [each for each in records_of(source.log) if each.offset < copy.image.commit.offset]
    source.log.saved.save(b"state", source.log.commit_index)
    source.clean()
    source.checkpoint()
    source.checkpoint()
    world = behind()
    take(world, copy)
    assert records_of(world.log)[: len(expected)] == expected
    source.log.cleaning.end_copy(copy)
    source.put(b"k", b"v", term=2)
    source.checkpoint()
    named = {path.rpartition("/")[2] for path in source.disk.files("/data")}
    gone = {f"{each.file_name}.log" for each in copy.image.segments}
    assert not named & gone


def test_a_flipped_bit_on_the_way_ends_the_filling() -> None:
    """Scenario 57: what the giver's disk has damaged is nobody else's."""
    source = giver()
    copy = source.log.cleaning.copy()
    path = next(iter(copy.paths))
    source.disk.flip_bit(path, 8 * 66)
    world = behind()
    before = records_of(world.log)
    with pytest.raises(DamagedLog, match="crc"):
        take(world, copy)
    assert records_of(world.log) == before


def test_a_part_of_the_wrong_size_is_refused() -> None:
    source, world = giver(), behind()
    copy = source.log.cleaning.copy()
    filling = world.store.aside.fill("x", describe(copy))
    part = next(filling.parts(PART_BYTES))
    with pytest.raises(DamagedLog):
        filling.add(part, b"short")


def test_only_what_was_compacted_is_taken_for_a_copy() -> None:
    source = giver()
    with pytest.raises(DamagedLog):
        source.store.aside.fill("x", b"no description")
    image = source.log.cleaning.copy().image
    for generation in (0, -1, "../../x"):
        segments = [each._replace(generation=generation) for each in image.segments]  # type: ignore[arg-type]
        with pytest.raises(DamagedLog):
            Filling(source.disk, "/data/y", b"".join(encode(replace(image, segments=segments))), 100)
    assert not source.disk.exists("/data/y")


def test_a_copy_gives_nothing_that_it_does_not_have() -> None:
    copy = giver().log.cleaning.copy()
    size = copy.image.segments[0].size
    assert copy.read(Part(len(copy.image.segments), 0, 10)) is None
    assert copy.read(Part(0, size, 10)) is None
    assert copy.read(Part(DESCRIPTION, copy.description_size, 10)) is None
    assert len(copy.read(Part(0, size - 5, 10)) or b"") == 5
