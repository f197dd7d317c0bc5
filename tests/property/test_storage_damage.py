"""Files that were cut or flipped: recovery gives a prefix, or says that it is damaged; never other bytes."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.errors import ConfigError, DamagedLog
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.inspect import verify
from raftlog.storage.store import Store
from raftlog.types import GroupKey, Offset, RaftIndex, Term
from tests.storage_world import ROOT, SETTINGS, World, all_bytes, all_entries, batch, plain

WAL = f"{ROOT}/wal/00000001.wal"
LOG = f"{ROOT}/t-0.x/00000000000000000000.log"
FLIPS = settings(max_examples=120, deadline=None)


def filled(blocks: int) -> World:
    """A store with one group and `blocks` blocks of one entry each behind the first, all synced."""
    world = World(1, replace(SETTINGS, wal_file_bytes=64 << 10, segment_bytes=1 << 20))
    world.do_create(0)
    world.do_turn(0)
    (log,) = world
    for number in range(blocks):
        entry = log.append(Term(1), EntryKind.BATCH, batch(log, 1, 2, 50 + number), 2)
        world.now[log.key].entries.append(plain(entry))
        world.do_turn(0)
    return world


def checkpointed() -> World:
    """A store with everything committed, checkpointed and stopped cleanly."""
    world = filled(6)
    (log,) = world
    log.commit_to(log.last_index)
    world.do_snapshot(1)
    world.store.close()
    return world


def key_of(world: World) -> GroupKey:
    (key,) = world.now
    return key


def written_entries(world: World) -> list[Entry]:
    return world.now[key_of(world)].entries


def end_of_wal(world: World) -> int:
    content = world.disk.content(WAL)
    return len(content.rstrip(b"\0"))


@given(data=st.data())
@FLIPS
def test_a_wal_cut_anywhere_recovers_to_a_prefix(data: st.DataObject) -> None:
    world = filled(4)
    world.disk.kill()
    size = data.draw(st.integers(0, end_of_wal(world)))
    first_block = len(world.disk.content(WAL)[:4096].rstrip(b"\0"))  # what formatting writes
    world.disk.cut(WAL, size)
    if size < first_block:
        with pytest.raises(DamagedLog, match=r"lost|missing"):
            world.open()
        return
    store = world.open()
    found = all_entries(store.logs[key_of(world)]) if store.logs else []
    assert found == written_entries(world)[: len(found)]


@given(bit=st.integers(0, 8 * 4096 * 7))
@FLIPS
def test_a_flipped_bit_in_a_synced_wal_is_harmless_or_reported(bit: int) -> None:
    world = filled(4)
    world.disk.kill()
    world.disk.flip_bit(WAL, bit)
    try:
        store = world.open()
    except DamagedLog:
        assert verify(world.disk, ROOT).findings
        return
    assert all_entries(store.logs[key_of(world)]) == written_entries(world)


def unsealed(world: World) -> int:
    """Let the last block be written and not synced; where it begins."""
    (log,) = world
    before = end_of_wal(world) // 4096 * 4096
    log.append(Term(1), EntryKind.BATCH, batch(log, 1, 1, 900), 1)
    world.store.write().write()
    return before


@given(data=st.data())
@FLIPS
def test_a_flipped_bit_in_what_was_not_acknowledged_recovers_to_a_prefix(data: st.DataObject) -> None:
    world = filled(3)
    begin = unsealed(world)
    world.disk.kill()
    world.disk.flip_bit(WAL, 8 * begin + data.draw(st.integers(0, 8 * (end_of_wal(world) - begin) - 1)))
    store = world.open()
    assert all_entries(store.logs[key_of(world)]) == written_entries(world)


def reads(store: Store, key: GroupKey, expected: bytes) -> bool:
    """Read everything, forwards and to followers: all of it is right, or damage is reported."""
    log = store.logs[key]
    try:
        assert all_bytes(log) == expected
        all_entries(log)
    except DamagedLog:
        assert log.damage.problem is not None
        return False
    return log.damage.problem is None


@given(data=st.data())
@FLIPS
def test_a_flipped_bit_in_a_segment_is_reported_and_never_served(data: st.DataObject) -> None:
    world = checkpointed()
    expected = b"".join(bytes(entry.payload) for entry in written_entries(world))
    size = len(world.disk.content(LOG))
    world.disk.flip_bit(LOG, data.draw(st.integers(0, 8 * size - 1)))
    if data.draw(st.booleans()):
        world.disk.unlink(f"{LOG[:-4]}.index")
    store = world.open()
    assert not reads(store, key_of(world), expected)
    assert verify(world.disk, ROOT).findings
    with suppress(DamagedLog):
        piece = store.logs[key_of(world)].reader.read(Offset(11), 100)  # straight to the last one
        assert piece is not None and piece.read() == written_entries(world)[-1].payload


@given(data=st.data())
@FLIPS
def test_a_flipped_bit_in_bytes_that_this_process_wrote_is_never_served(data: st.DataObject) -> None:
    """However often they have been read since: the page may have been read from the disk again."""
    world = filled(6)
    (log,) = world
    log.commit_to(log.last_index)
    log.entries.forget_to(log.last_index)
    expected = b"".join(bytes(entry.payload) for entry in written_entries(world))
    assert reads(world.store, log.key, expected)
    world.disk.flip_bit(LOG, data.draw(st.integers(0, 8 * len(expected) - 1)))
    assert not reads(world.store, log.key, expected)
    with pytest.raises(DamagedLog):
        for entry in written_entries(world):
            for found in log.entries.read(entry.index, 1, 1):
                assert found.payload == entry.payload


def test_damage_in_one_batch_leaves_the_others_readable() -> None:
    world = checkpointed()
    entries = written_entries(world)
    world.disk.flip_bit(LOG, 8 * (len(entries[0].payload) + 70))
    log = world.open().logs[key_of(world)]
    piece = log.reader.read(Offset(0), len(entries[0].payload))
    assert piece is not None and piece.read() == entries[0].payload
    with pytest.raises(DamagedLog):
        log.reader.read(Offset(2), 1)
    piece = log.reader.read(Offset(4), 1)
    assert piece is not None and piece.read() == entries[2].payload
    assert log.damage.rot is not None and log.damage.lost is None


@given(data=st.data())
@FLIPS
def test_a_segment_cut_anywhere_is_damage_of_that_log_only(data: st.DataObject) -> None:
    world = checkpointed()
    expected = b"".join(bytes(entry.payload) for entry in written_entries(world))
    world.disk.cut(LOG, data.draw(st.integers(0, len(expected) - 1)))
    store = world.open()
    log = store.logs[key_of(world)]
    assert not reads(store, log.key, expected)
    assert log.damage.lost is None and log.damage.rot is not None and "ends at byte" in log.damage.rot.problem
    assert log.last_index == RaftIndex(6)
    added = log.append(Term(2), EntryKind.BATCH, batch(log, 2, 1, 10), 1)
    ticket = store.write()
    ticket.sync()
    store.synced(ticket)
    log.commit_to(log.last_index)  # it goes on, in a state that no reader mistakes
    store.close()
    # What lies before the new batch is a hole now, of zeros: sound only where zeros were cut off.
    reads(world.open(), log.key, expected + bytes(added.payload))


@given(data=st.data())
@FLIPS
def test_a_flipped_bit_in_the_snapshot_file_is_damage_until_a_reset(data: st.DataObject) -> None:
    world = checkpointed()
    path = f"{ROOT}/t-0.x/snapshot"
    world.disk.flip_bit(path, data.draw(st.integers(0, 8 * len(world.disk.content(path)) - 1)))
    assert verify(world.disk, ROOT).findings
    store = world.open()
    log = store.logs[key_of(world)]
    assert log.damage.lost is not None
    assert log.reader.read(Offset(0), 100) is None
    assert (log.last_index, log.last_term, log.high_watermark) == (6, 1, 12)
    store.close()
    store = world.open()
    log = store.logs[key_of(world)]
    assert log.damage.lost is not None
    log.reset(RaftIndex(0), Term(0), Offset(0), b"")
    store.close()
    assert world.open().logs[key_of(world)].damage.lost is None


def test_no_bit_of_meta_toml_turns_over_unnoticed() -> None:
    """It says whose folder this is, and whether its logs may lack something."""
    world = checkpointed()
    path = f"{ROOT}/meta.toml"
    content = world.disk.content(path)
    for bit in range(8 * len(content)):
        world.disk.flip_bit(path, bit)
        with pytest.raises((DamagedLog, ConfigError)):
            world.open()
        world.disk.flip_bit(path, bit)
    world.open()


def test_a_meta_toml_of_before_checksums_is_read() -> None:
    world = checkpointed()
    path = f"{ROOT}/meta.toml"
    before = world.disk.content(path).replace(b"format_version = 2", b"format_version = 1")
    world.disk.put(path, before[: before.rindex(b"crc")])
    world.open()


@given(data=st.data())
@FLIPS
def test_an_index_file_may_say_anything(data: st.DataObject) -> None:
    """It is a map that can be drawn again: flipped, cut or gone, readers get the same bytes."""
    world = checkpointed()
    path = f"{LOG[:-4]}.index"
    size = len(world.disk.content(path))
    what = data.draw(st.sampled_from(("flip", "cut", "gone")))
    if what == "flip":
        world.disk.flip_bit(path, data.draw(st.integers(0, 8 * size - 1)))
    elif what == "cut":
        world.disk.cut(path, data.draw(st.integers(0, size)))
    else:
        world.disk.unlink(path)
    expected = b"".join(bytes(entry.payload) for entry in written_entries(world))
    assert reads(world.open(), key_of(world), expected)


@given(seed=st.integers(0, 50), data=st.data())
@settings(max_examples=40, deadline=None)
def test_an_old_copy_of_a_wal_file_is_harmless_or_reported(seed: int, data: st.DataObject) -> None:
    world = World(seed)
    rng = random.Random(seed)
    world.do_create(0)
    copies: list[tuple[str, bytes]] = []
    for _ in range(12):
        copies += [(path, world.disk.content(path)) for path in world.disk.files(f"{ROOT}/wal")]
        for _ in range(4):
            world.do_append(rng.randrange(60))
            world.do_turn(0)
            world.do_commit(5)
        world.do_run_checkpoint(0)
        world.do_finish_checkpoint(0)
    world.disk.kill()
    path, content = data.draw(st.sampled_from(copies))
    last = world.disk.content(path)
    world.disk.put(path, content)
    try:
        store = world.open()
    except DamagedLog:
        return
    found = all_entries(store.logs[key_of(world)])
    assert found == written_entries(world)[: len(found)]
    if content == last:
        assert found == written_entries(world)
