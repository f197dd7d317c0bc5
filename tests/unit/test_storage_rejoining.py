"""A folder that was made empty remembers which of its groups have been filled since."""

from __future__ import annotations

import random

from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, GroupKey
from tests.sim.virtual_disk import VirtualDisk

ONE, TWO = GroupKey(bytes(20)), GroupKey(b"\x01" * 20)
SETTINGS = StoreSettings(node_id=BrokerId(1), wal_file_bytes=65536)


def test_groups_are_trusted_one_by_one() -> None:
    """Found by the simulation: it was all or none, so a broker that restarted before its last group was
    filled trusted none of them; a cluster that lost its power like that never elected a leader again."""
    disk = VirtualDisk(random.Random(1))
    store = Store.open(disk, "/data", SETTINGS)
    assert store.may_lack(ONE) and store.may_lack(TWO)
    store.note_rejoined([ONE])
    disk.power_loss()
    store = Store.open(disk, "/data", SETTINGS)
    assert store.is_rejoining
    assert not store.may_lack(ONE) and store.may_lack(TWO)
    syncs = disk.syncs
    store.note_rejoined([ONE])
    assert disk.syncs == syncs, "no news"
    store.set_rejoined()
    disk.power_loss()
    store = Store.open(disk, "/data", SETTINGS)
    assert not store.is_rejoining and not store.may_lack(TWO)
