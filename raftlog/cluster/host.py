"""What the parts of a node that only decide ask of the node they belong to.

`raftlog.cluster.node.Node` is one host; the simulator's node, without an event loop, is the other. Both are
checked against this by mypy, so that neither falls behind the other.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import TYPE_CHECKING, Final, Protocol

from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.config import BrokerConfig, TopicConfig
from raftlog.memory import MemoryBudget
from raftlog.metadata.catalog import Catalog, Topic
from raftlog.raft.driver import Driver
from raftlog.raft.engine import RaftGroup
from raftlog.raft.values import RaftTiming
from raftlog.storage.store import Store
from raftlog.types import METADATA_GROUP, BrokerId

if TYPE_CHECKING:
    from raftlog.cluster.replicas import Replicas


class Host(Protocol):
    """A broker's disk, groups and metadata, as `Replicas` and `Upkeep` see them."""

    broker_id: BrokerId
    incarnation: bytes
    config: BrokerConfig
    store: Store
    rng: random.Random
    timing: RaftTiming
    memory: MemoryBudget
    driver: Driver
    metadata: MetadataGroup
    replicas: Replicas

    @property
    def catalog(self) -> Catalog: ...

    def topic_config(self, topic: Topic) -> TopicConfig: ...

    def now_ms(self) -> int: ...

    def led(self, group: RaftGroup) -> None:
        """The leadership of a partition moved, or its leader became ready."""

    def changed(self) -> None:
        """Wake whoever waits for leaders or for the metadata."""

    def is_settled(self, broker: BrokerId, now: float) -> bool:
        """Whether a broker has been connected for a while: leaders go home only to one that stays."""

    def may_take_over(self) -> Collection[BrokerId]:
        """The brokers that leaderships can be handed to: connected, and not stopping themselves."""


def timing_of(config: BrokerConfig) -> RaftTiming:
    """The time-outs of every group of a broker."""
    election = config.int("raftlog.election.timeout.ms") / 1000
    return RaftTiming(
        heartbeat=config.int("raftlog.heartbeat.interval.ms") / 1000,
        election_min=election,
        election_max=1.5 * election,  # a round of votes takes a tenth of the difference
        lease=0.0,  # see Peers.probe_lost: elections do not wait out a lease
    )


METADATA_DIRNAME: Final = "__cluster_metadata-0"


def open_metadata_group(host: Host, founders: frozenset[BrokerId], now: float) -> RaftGroup:
    """The metadata group on this broker's disk. A broker that is no founder learns first."""
    group_log = host.store.logs.get(METADATA_GROUP)
    if group_log is None:
        may_lack = host.store.is_rejoining
        group_log = host.store.create_log(METADATA_GROUP, METADATA_DIRNAME, may_lack=may_lack)
    return RaftGroup(
        METADATA_GROUP,
        host.broker_id,
        group_log,
        founders,
        learners=frozenset({host.broker_id}) - founders,
        timing=host.timing,
        rng=host.rng,
        now=now,
        preferred=host.broker_id == min(founders),
        eager_commit=True,
    )
