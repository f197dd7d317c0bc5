"""Everything is read again, a piece at a time, and what is damaged is found."""

from __future__ import annotations

import pytest

from raftlog.errors import DamagedLog
from raftlog.storage.entry import EntryKind
from raftlog.storage.group_log import GroupLog
from raftlog.storage.scrub import Scrub
from raftlog.types import RaftIndex, Term
from tests.property.test_storage_damage import LOG, checkpointed, written_entries
from tests.sim.raft_disk_store import DiskStore, batch_of
from tests.unit.raft_cluster import KEY


def full_pass(scrub: Scrub) -> tuple[int, list[str]]:
    """The bytes that were read, and what was found; what is damaged is gone round."""
    size, found = 0, []
    scrub.begin()
    while (piece := scrub.next()) is not None:
        data = piece.read()
        if isinstance(data, memoryview):
            size += len(data)
        try:
            scrub.check(piece, data)
        except DamagedLog as error:
            found.append(str(error))
            scrub.skip()
    return size, found


def filled() -> tuple[DiskStore, GroupLog]:
    """Many small segments, the last one still written to."""
    disk = DiskStore(1)
    log = disk.create_log(KEY)
    for number in range(60):
        log.append(Term(1), EntryKind.BATCH, batch_of(b"v%d" % number, log, 1), 1)
        ticket = disk.write()
        ticket.sync()
        disk.synced(ticket)
        log.commit_to(log.last_index)
    return disk, log


def test_a_pass_reads_every_byte_of_every_segment_once() -> None:
    _, log = filled()
    assert log.retention.segment_count >= 3
    assert full_pass(Scrub({KEY: log})) == (log.retention.size, [])


def test_it_finds_what_nobody_reads() -> None:
    disk, log = filled()
    paths = [path for path in disk.disk.files("/data/group-0") if path.endswith(".log")]
    for path in paths[:2]:
        disk.disk.flip_bit(path, 8 * 100)
    _, found = full_pass(Scrub({KEY: log}))
    assert [error.split(":")[0] for error in found] == paths[:2]
    assert log.damage.rot is not None and "crc" in log.damage.rot.problem and log.damage.lost is None


def test_a_sector_that_cannot_be_read_is_found() -> None:
    disk, log = filled()
    disk.disk.fail_next("read", where=lambda path: path.endswith(".log"))
    _, found = full_pass(Scrub({KEY: log}))
    assert len(found) == 1 and log.damage.rot is not None


def test_a_log_that_is_deleted_or_grows_meanwhile_ends_the_pass() -> None:
    world = checkpointed()
    store = world.open()
    scrub = Scrub(store.logs)
    scrub.begin()
    piece = scrub.next()
    assert piece is not None
    store.delete_log(piece.key)
    scrub.check(piece, piece.read())
    assert scrub.next() is None


@pytest.mark.parametrize("byte", [0, 8, 16, 70])
def test_damage_is_named_by_file_and_byte(byte: int) -> None:
    world = checkpointed()
    first = len(written_entries(world)[0].payload)
    world.disk.flip_bit(LOG, 8 * (first + byte))
    _, found = full_pass(Scrub(world.open().logs))
    assert len(found) == 1 and found[0].startswith(f"{LOG}: byte {first}: ")


def test_a_read_names_the_batch_whose_header_is_damaged_and_not_the_one_behind_it() -> None:
    """A read that looks for its batch goes by the headers before it. Nobody could repair the next batch under
    an offset that a damaged header made up."""
    disk, log = filled()
    path = min(path for path in disk.disk.files("/data/group-0") if path.endswith(".log"))
    size = len(log.entries.read(RaftIndex(1), 1, 1)[0].payload)
    last_offset_delta = size + 25  # of the second batch
    disk.disk.flip_bit(path, 8 * last_offset_delta)
    with pytest.raises(DamagedLog):
        log.entries.read(RaftIndex(3), 1, 1)
    assert log.damage.rot is not None
    assert log.damage.rot.place == (1, 2, size) and "crc" in log.damage.rot.problem
