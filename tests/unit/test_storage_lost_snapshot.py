"""A log whose snapshot file cannot be read: it says so, and offers nothing from before where it begins."""

from __future__ import annotations

import random

from raftlog.storage.entry import EntryKind
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, GroupKey, Term
from tests.sim.virtual_disk import VirtualDisk

KEY = GroupKey(bytes(20))
SETTINGS = StoreSettings(node_id=BrokerId(1), wal_file_bytes=65536)


def test_nothing_before_the_log_is_to_be_applied_again() -> None:
    """Found by the simulation: the state machine was said to stand at entry 0 of a log that began at 14, so
    the broker asked for entry 1, and died of it at every start."""
    disk = VirtualDisk(random.Random(1))
    store = Store.open(disk, "/data", SETTINGS, rng=random.Random(1))
    log = store.create_log(KEY, "t-0")
    for _ in range(3):
        log.append(Term(1), EntryKind.NOOP, b"", 0)
    ticket = store.write()
    ticket.sync()
    store.synced(ticket)
    log.commit_to(log.last_index)
    store.close()
    disk.kill()
    disk.flip_bit("/data/t-0/snapshot", 100)
    log = Store.open(disk, "/data", SETTINGS, rng=random.Random(1)).logs[KEY]
    assert log.damage.lost is not None
    assert log.commit_index == 3
    assert log.saved.index == log.first_index - 1 == 3
