"""The metadata group on a broker whose log of it is damaged, or replaced by nothing."""

from __future__ import annotations

import random

from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.metadata.cluster import InitializeCluster
from raftlog.metadata.state import MetadataState
from raftlog.raft.group import RaftGroup
from raftlog.raft.values import RaftTiming
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import METADATA_GROUP, BrokerId, RaftIndex
from tests.sim.virtual_disk import VirtualDisk


def metadata_group() -> MetadataGroup:
    store = Store.open(
        VirtualDisk(random.Random(1)), "/data", StoreSettings(node_id=BrokerId(1), wal_file_bytes=1 << 20)
    )
    log = store.create_log(METADATA_GROUP, "__cluster_metadata-0")
    group = RaftGroup(
        METADATA_GROUP,
        BrokerId(1),
        log,
        frozenset(map(BrokerId, (1, 2, 3))),
        timing=RaftTiming(),
        rng=random.Random(1),
        now=0.0,
    )
    return MetadataGroup(group, MetadataState(), lambda: None)


def test_a_log_that_starts_from_nothing_has_an_empty_catalog() -> None:
    """Found by the simulation: a damaged log is dropped before a peer fills it, and the empty state that
    this leaves was read as a snapshot, of which the broker died."""
    metadata = metadata_group()
    metadata.state.apply(InitializeCluster(cluster_id="c"), RaftIndex(1))
    metadata.restore(b"", RaftIndex(0))
    assert metadata.catalog.cluster_id is None
    assert metadata.applied_index == 0


def test_a_log_that_was_lost_has_caught_up_when_it_is_as_far_as_it_was() -> None:
    metadata = metadata_group()
    metadata.restore(MetadataState().to_bytes(), RaftIndex(7))
    metadata.restore(b"", RaftIndex(0))
    assert not metadata.is_caught_up
    metadata.truncated(RaftIndex(3))
    metadata.restore(MetadataState().to_bytes(), RaftIndex(6))
    assert not metadata.is_caught_up
    metadata.restore(MetadataState().to_bytes(), RaftIndex(7))
    assert metadata.is_caught_up


def test_a_damaged_log_has_caught_up_with_nothing() -> None:
    """What the catalog does not name is deleted by brokers that have caught up, so this matters."""
    metadata = metadata_group()
    assert metadata.is_caught_up
    metadata.group.log.damage.lost = "the snapshot file's bytes do not have its crc"
    assert not metadata.is_caught_up
