"""A folder that was made empty remembers that it was; a log that was made in it, what it may lack."""

from __future__ import annotations

import random

from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, GroupKey
from tests.sim.virtual_disk import VirtualDisk

ONE, TWO = GroupKey(bytes(20)), GroupKey(b"\x01" * 20)
SETTINGS = StoreSettings(node_id=BrokerId(1), wal_file_bytes=65536)


def _sync(store: Store) -> None:
    while store.has_pending:
        ticket = store.write()
        ticket.sync()
        store.synced(ticket)


def test_groups_are_trusted_one_by_one() -> None:
    """Found by the simulation: it was all or none, so a broker that restarted before its last group was
    filled trusted none of them; a cluster that lost its power like that never elected a leader again."""
    disk = VirtualDisk(random.Random(1))
    store = Store.open(disk, "/data", SETTINGS)
    assert store.is_rejoining
    one = store.create_log(ONE, "one-0", may_lack=True)
    store.create_log(TWO, "two-0", may_lack=True)
    _sync(store)
    one.promises.may_lack = False  # it has been filled
    _sync(store)
    disk.power_loss()
    store = Store.open(disk, "/data", SETTINGS)
    assert store.is_rejoining
    assert not store.logs[ONE].promises.may_lack
    assert store.logs[TWO].promises.may_lack
    store.set_rejoined()
    disk.power_loss()
    assert not Store.open(disk, "/data", SETTINGS).is_rejoining
