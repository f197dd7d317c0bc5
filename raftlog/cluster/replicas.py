"""The partitions that this broker keeps: started and stopped as the catalog says.

Invariants: a partition is in `by_id` exactly while its Raft group is in the driver; a topic that was
deleted and made again has another id, so nothing of the old one is ever served under the new.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.cluster.this_broker import ThisBroker
from raftlog.config import TopicConfig
from raftlog.memory import MemoryBudget
from raftlog.metadata.catalog import Topic
from raftlog.metadata.topics import COMPACTION_LEVEL
from raftlog.partition.partition import Partition
from raftlog.partition.values import PartitionSettings
from raftlog.raft.driver import Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.values import Membership
from raftlog.types import (
    METADATA_GROUP,
    BrokerId,
    GroupKey,
    PartitionId,
    RaftIndex,
    TopicName,
    group_key,
)

STEP: Final = 20
"""Replicas that are started or stopped before all else gets its turn: about three milliseconds."""

_Difference = tuple[tuple[bytes, int], Topic | None]
"""A replica, and the topic by which it should run; None: it should not."""

log = logging.getLogger("raftlog.cluster")


class Replicas:
    """Every replica of this broker, by its topic's name and by its id."""

    def __init__(
        self,
        me: ThisBroker,
        driver: Driver,
        metadata: MetadataGroup,
        memory: MemoryBudget,
        *,
        on_leadership: Callable[[RaftGroup], None],
        on_reconciled: Callable[[], None],
        on_lacking: Callable[[BrokerId, GroupKey], None] = lambda broker, group: None,
        step: int = STEP,
    ) -> None:
        """`on_leadership` gets a partition's group when who leads it, or whether the leader is ready, may
        have changed; `on_reconciled` is called when what runs here agrees with the catalog again;
        `on_lacking`, now and then, with a follower that lacks what was compacted here."""
        self._me = me
        self._driver = driver
        self._store = driver.store
        self._metadata = metadata
        self._catalog = metadata.catalog
        self._memory = memory
        self._on_leadership = on_leadership
        self._on_reconciled = on_reconciled
        self._on_lacking = on_lacking
        self._step = step
        self.by_name: dict[tuple[str, int], Partition] = {}
        self.by_id: dict[tuple[bytes, int], Partition] = {}
        self._seen = (RaftIndex(-1), False)
        self._seen_change = True
        """Something may be left for `reconcile`."""
        self._to_do = deque[_Difference]()
        self._is_behind = False
        self._configured: dict[tuple[bytes, int], Topic] = {}
        """By which topic's settings each replica goes; one whose settings change is another object."""

    @property
    def partitions(self) -> list[Partition]:
        return list(self.by_id.values())

    @property
    def has_damage(self) -> bool:
        """Whether something that is kept here was found damaged, and is not repaired yet."""
        return any(log.damage.problem is not None for log in self._driver.store.logs.values())

    def partition(self, topic: str, partition: int) -> Partition | None:
        """The replica that this broker keeps, if any."""
        return self.by_name.get((topic, partition))

    def partition_by_id(self, topic_id: bytes, partition: int) -> Partition | None:
        return self.by_id.get((topic_id, partition))

    def catalog_changed(self) -> None:
        """Something was applied; `reconcile` will look whether it concerns this broker."""
        self._seen_change = True

    def reconcile(self, now: float) -> bool:
        """Take a step towards what the catalog says runs here; whether more are to come. Nothing happens
        when the catalog stood still."""
        if not self._seen_change:
            return False
        seen = (self._catalog.topology_index, self._knows_all)
        if seen != self._seen:  # also between two steps
            self._seen = seen
            self._to_do = self._differences()
            self._is_behind = True
        for _ in range(min(self._step, len(self._to_do))):
            self._follow(*self._to_do.popleft(), now)
        if self._to_do:
            return True
        self._seen_change = False
        if self._is_behind:
            self._is_behind = False
            if self._knows_all:
                self._delete_strays()
            self._on_reconciled()
        return False

    def _differences(self) -> deque[_Difference]:
        """Replicas to stop, and then those to start or to configure."""
        wanted = {(topic.topic_id, number): topic for topic, number in self._catalog.hosted_by(self._me.id)}
        differences = deque[_Difference]()
        if self._knows_all:  # else it knows too little to say what is not wanted
            differences.extend((key, None) for key in self.by_id if key not in wanted)
        differences.extend(
            (key, topic) for key, topic in wanted.items() if self._configured.get(key) is not topic
        )
        return differences

    def _follow(self, key: tuple[bytes, int], topic: Topic | None, now: float) -> None:
        """The catalog has not changed since the difference was seen; the group may have."""
        existing = self.by_id.get(key)
        if topic is None:
            # The group may have taken this broker in again, by a newer catalog. Then it counts on what this
            # replica has acknowledged since, and the replica stays.
            as_of = self._catalog.topology_index
            if existing is not None and existing.group.membership.as_of <= as_of:
                self._stop(key)
        elif existing is not None:
            self._configure(existing, topic)
        elif self._knows_all or group_key(*key) in self._store.logs:
            self._start(topic, key[1], now)

    @property
    def _knows_all(self) -> bool:
        """Whether the catalog is as new as this start of the broker, and as its own log of the metadata.

        An older catalog misleads in three ways. It may name a replica that has been moved away since: the
        broker would make it again, empty, and it would vote as if it had never held anything. It may name
        this broker alone where others have joined since: the replica would lead without them. It may lack a
        replica that has come here since: the broker would delete it.
        """
        return self._metadata.is_caught_up and self.registered_index is not None

    def _start(self, topic: Topic, number: int, now: float) -> None:
        me, store = self._me, self._store
        key = group_key(topic.topic_id, number)
        group_log = store.logs.get(key)
        assignment = topic.partitions[number]
        voters, learners = frozenset(assignment.replicas), frozenset(assignment.adding)
        if group_log is None:
            # A broker that joins may have been in the group before, and have deleted what it acknowledged.
            joins = me.id not in voters
            is_lost = store.is_rejoining and self._may_have_been_lost(topic)
            if is_lost and not joins:
                # Brokers that are joining may be voters by now, with entries that were lost here. They count
                # as voters from the start, so that nobody is elected without being compared with them.
                voters, learners = voters | learners, frozenset()
            # The log keeps this membership. A restart goes by it, since its catalog may be an older one.
            membership = Membership(voters, learners - voters).encode()
            dirname = f"{topic.name}-{number}.{topic.topic_id.hex()}"
            group_log = store.create_log(key, dirname, membership=membership, may_lack=joins or is_lost)
        if group_log.damage.lost is not None:
            log.error("%s-%d is damaged and not served: %s", topic.name, number, group_log.damage.lost)
        group = RaftGroup(
            key,
            me.id,
            group_log,
            voters,
            learners=learners,
            timing=me.timing,
            rng=me.rng,
            now=now,
            preferred=assignment.preferred_leader == me.id,
        )
        partition = Partition(
            TopicName(topic.name),
            PartitionId(number),
            topic.topic_id,
            group,
            group_log,
            PartitionSettings(),
            now_ms=me.now_ms(),
            on_leadership=lambda: self._on_leadership(group),
            memory=self._memory,
        )
        partition.compacting.may_copy = lambda: self._catalog.metadata_level >= COMPACTION_LEVEL
        partition.compacting.on_lacking = lambda broker: self._on_lacking(broker, key)
        self._configure(partition, topic)
        self.by_id[topic.topic_id, number] = partition
        self.by_name[topic.name, number] = partition
        self._driver.add(group, partition)

    def _may_have_been_lost(self, topic: Topic) -> bool:
        """Whether this broker, whose folder was empty, may have kept a replica before: the topic is older
        than its registration."""
        assert self.registered_index is not None, "no log is made before"
        return topic.created_index < self.registered_index

    @property
    def registered_index(self) -> RaftIndex | None:
        """Where this start of the broker was registered; None while that has not been applied here."""
        me = self._catalog.brokers.get(self._me.id)
        return me.registered_index if me is not None and me.incarnation == self._me.incarnation else None

    def note_rejoined(self) -> None:
        """A folder that began empty is like any other once all of its groups have been filled. When this
        start is registered, every group that may have been here before is known."""
        if not self._store.is_rejoining or self.registered_index is None or self._seen_change:
            return
        if all(group.is_trusted and group.leader is not None for group in self._driver.groups.values()):
            self._store.set_rejoined()

    def _configure(self, partition: Partition, topic: Topic) -> None:
        config = TopicConfig(topic.configs, self._me.config)
        self._configured[topic.topic_id, int(partition.partition)] = topic
        partition.settings = settings_of(config, self._me.config.int("producer.id.expiration.ms"))
        roll_ms = config.int("segment.ms")
        if partition.settings.compacts:  # else what is written last could wait for longer (KIP-354)
            roll_ms = min(roll_ms, partition.settings.max_compaction_lag_ms)
        partition.log.retention.configure(segment_bytes=config.int("segment.bytes"), roll_ms=roll_ms)

    def _stop(self, key: tuple[bytes, int]) -> None:
        """The topic is gone, or the replica was moved away: the group ends and its files go."""
        partition = self.by_id.pop(key)
        del self._configured[key]
        if self.by_name.get((partition.topic, partition.partition)) is partition:
            del self.by_name[partition.topic, partition.partition]
        self._driver.remove(partition.group.key)
        self._store.delete_log(partition.group.key)
        partition.close()
        log.info("%s-%d is no longer kept here", partition.topic, partition.partition)

    def _delete_strays(self) -> None:
        """Delete the logs that no replica goes by. A crash left them, between the deletion of a topic and the
        deletion of its files."""
        keys = {METADATA_GROUP, *(partition.group.key for partition in self.by_id.values())}
        for key in [key for key in self._store.logs if key not in keys]:
            self._store.delete_log(key)


def settings_of(config: TopicConfig, producer_expiration_ms: int) -> PartitionSettings:
    """The topic configs that a partition acts on."""
    policy = config.list("cleanup.policy")
    return PartitionSettings(
        max_message_bytes=config.int("max.message.bytes"),
        log_append_time=config.str("message.timestamp.type") == "LogAppendTime",
        timestamp_before_max_ms=config.int("message.timestamp.before.max.ms"),
        timestamp_after_max_ms=config.int("message.timestamp.after.max.ms"),
        retention_ms=config.int("retention.ms") if "delete" in policy else -1,
        retention_bytes=config.int("retention.bytes") if "delete" in policy else -1,
        producer_expiration_ms=producer_expiration_ms,
        compacts="compact" in policy,
        min_dirty_ratio=config.float("min.cleanable.dirty.ratio"),
        min_compaction_lag_ms=config.int("min.compaction.lag.ms"),
        max_compaction_lag_ms=config.int("max.compaction.lag.ms"),
        delete_retention_ms=config.int("delete.retention.ms"),
    )
