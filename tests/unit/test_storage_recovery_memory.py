"""A restart does not take the whole write-ahead log into memory."""

from __future__ import annotations

import random
import shutil
import tracemalloc
from pathlib import Path

from raftlog.storage.disk import RealDisk
from raftlog.storage.recovery import GATHERED_MAX
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, GroupKey
from tests.unit.test_storage_group_log import add, flush

GROUPS = 30
RECENT = 1 << 20


def _open(folder: Path) -> Store:
    settings = StoreSettings(
        node_id=BrokerId(1), wal_file_bytes=8 << 20, checkpoint_bytes=1 << 40, recent_bytes_max=RECENT
    )
    return Store.open(RealDisk(), str(folder), settings, rng=random.Random(1))


def test_a_replay_holds_a_bounded_part_of_the_write_ahead_log(tmp_path: Path) -> None:
    store = _open(tmp_path / "data")
    logs = [store.create_log(GroupKey(bytes([number]) * 20), f"t-{number}.x") for number in range(GROUPS)]
    for _ in range(20):
        for log in logs:
            add(log, size=100_000)
        flush(store)
        for log in logs:
            log.commit_to(log.last_index)
    for log in logs:
        add(log)  # says what was committed
    flush(store)
    shutil.copytree(tmp_path / "data", tmp_path / "copy")  # as a dead process leaves it
    store.close()
    del store, logs, log

    tracemalloc.start()
    try:
        again = _open(tmp_path / "copy")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {log.commit_index for log in again.logs.values()} == {20}
    # What is gathered, what stays as recent, and a block of the log, which a turn wrote at once.
    assert peak < GATHERED_MAX + RECENT + 2 * GROUPS * 100_000 + (4 << 20)
    again.close()
