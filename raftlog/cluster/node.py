"""A broker's share of the cluster: its disk, its Raft groups, its view of the metadata.

Everything that the Kafka listener asks goes through a `Node`; the node knows nothing of Kafka's encoding.
One process runs one node on one Trio event loop; `Node.run` holds every task of it.
"""

from __future__ import annotations

import base64
import logging
import random
import secrets
import time
import uuid
from collections.abc import Sequence
from typing import Final

import trio

from raftlog.cluster.admin import Admin
from raftlog.cluster.groups import GroupCoordinator, GroupSettings
from raftlog.cluster.metadata_group import MetadataGroup, ProposalFailed
from raftlog.cluster.offsets import OffsetCommits
from raftlog.cluster.replicas import Replicas
from raftlog.config import BrokerConfig, TopicConfig
from raftlog.metadata.catalog import Catalog, Topic
from raftlog.metadata.commands import (
    AllocateProducerIds,
    Command,
    ExpireOffsets,
    InitializeCluster,
    RegisterBroker,
    encode_command,
)
from raftlog.metadata.results import ProducerIdsAllocated, Refused, Result
from raftlog.metadata.state import MetadataState
from raftlog.partition.partition import Partition
from raftlog.raft.driver import Driver
from raftlog.raft.engine import RaftGroup
from raftlog.raft.messages import Message
from raftlog.raft.runner import Runner
from raftlog.raft.values import RaftTiming
from raftlog.storage.disk import Disk, RealDisk
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import METADATA_GROUP, BrokerId, RaftIndex, Term

METADATA_DIRNAME: Final = "__cluster_metadata-0"
TICK_S: Final = 1.0
"""How often retention and rolling by age are looked at."""
RETRY_S: Final = 0.05
"""Between two tries of a command that found no leader."""

log = logging.getLogger("raftlog.cluster")


class Node:
    """One broker of a cluster, or a cluster of one. Made by `open`, alive inside `run`."""

    def __init__(self, config: BrokerConfig, store: Store, *, rng: random.Random) -> None:
        self.config = config
        self.store = store
        self.rng = rng
        self.broker_id = BrokerId(config.int("node.id"))
        self.incarnation = rng.randbytes(16)
        self.timing = RaftTiming()
        self.driver = Driver(store, send=self._send)
        self.metadata = self._open_metadata()
        self.replicas = Replicas(self)
        self.admin = Admin(self)
        self.offsets = OffsetCommits(self)
        self.groups = GroupCoordinator(
            settings=self._group_settings,
            new_id=lambda: str(uuid.UUID(bytes=rng.randbytes(16), version=4)),
            stored_groups=lambda: self.catalog.group_offsets,
        )
        self.advertised = ("localhost", 9092)
        """Where clients reach this broker; set before `run`, when the listener is bound."""
        self._groups_changed = trio.Event()
        self._changed = trio.Event()
        self._coordinating = False
        self._producer_ids = range(0)
        self._producer_ids_lock = trio.Lock()

    @classmethod
    def open(
        cls, config: BrokerConfig, *, disk: Disk | None = None, rng: random.Random | None = None
    ) -> Node:
        """Open the data folder and recover. Blocking.

        Raises DataDirBusy, DamagedLog, DiskFailed or ConfigError, each saying what to do.
        """
        rng = rng if rng is not None else random.Random(secrets.randbits(128))
        settings = StoreSettings(
            node_id=BrokerId(config.int("node.id")),
            wal_file_bytes=config.int("raftlog.wal.file.bytes"),
            fsync=config.str("raftlog.durability") == "fsync",
        )
        store = Store.open(
            disk if disk is not None else RealDisk(), config.str("log.dirs"), settings, rng=rng
        )
        return cls(config, store, rng=rng)

    def __repr__(self) -> str:
        return f"<Node {self.broker_id} cluster={self.cluster_id} partitions={len(self.replicas.partitions)}>"

    # What handlers read

    @property
    def catalog(self) -> Catalog:
        return self.metadata.catalog

    @property
    def cluster_id(self) -> str:
        return self.catalog.cluster_id or "unnamed"

    @property
    def controller_id(self) -> BrokerId:
        """A live broker that takes administrative requests: this one, which passes them on."""
        return self.broker_id

    @property
    def is_coordinator(self) -> bool:
        """Whether the consumer groups are coordinated here."""
        return self._coordinating

    @property
    def coordinator_id(self) -> BrokerId | None:
        return self.metadata.leader

    def partition(self, topic: str, partition: int) -> Partition | None:
        """The replica that this broker keeps, if any."""
        return self.replicas.by_name.get((topic, partition))

    def partition_by_id(self, topic_id: bytes, partition: int) -> Partition | None:
        return self.replicas.by_id.get((topic_id, partition))

    def leader_of(self, topic: Topic, partition: int) -> tuple[BrokerId | None, Term]:
        """Who leads a partition, as far as is known here, and its leader epoch."""
        replica = self.replicas.by_id.get((topic.topic_id, partition))
        if replica is None:
            return None, Term(-1)
        return replica.leader, replica.leader_epoch

    def topic_config(self, topic: Topic) -> TopicConfig:
        return TopicConfig(topic.configs, self.config)

    def new_topic_id(self) -> bytes:
        """A random UUID of version 4, never one of the reserved low ids (KIP-516)."""
        return uuid.UUID(bytes=self.rng.randbytes(16), version=4).bytes

    @staticmethod
    def now_ms() -> int:
        """The wall clock, in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    # What handlers ask for

    async def propose(self, command: Command) -> Result | ProposalFailed:
        """Have a command applied, and give what that came to, once it is applied here. A caller that is
        cancelled or times out does not know whether it was."""
        index = await self._propose_here(encode_command(command))
        if isinstance(index, ProposalFailed):
            return index
        while self.metadata.applied_index < index:
            await self._changed.wait()
        result = self.metadata.result_at(index)
        if result is None:  # a snapshot took this broker past it
            return ProposalFailed("applied, but what it came to is not known here", may_still_happen=True)
        return result

    async def _propose_here(self, command: bytes) -> RaftIndex | ProposalFailed:
        done = trio.Event()
        answer: list[RaftIndex | ProposalFailed] = []

        def on_done(outcome: RaftIndex | ProposalFailed) -> None:
            answer.append(outcome)
            done.set()

        now = trio.current_time()
        self.metadata.propose(command, now=now, now_ms=self.now_ms(), on_done=on_done)
        await done.wait()
        return answer[0]

    async def wait_for_leaders(self, topic: Topic) -> None:
        """Until every partition of `topic` has a leader that can be produced to."""
        while not all(self._is_led(topic, number) for number in range(len(topic.partitions))):
            await self._changed.wait()

    def _is_led(self, topic: Topic, partition: int) -> bool:
        replica = self.replicas.by_id.get((topic.topic_id, partition))
        return replica is not None and replica.group.is_ready

    async def allocate_producer_id(self) -> int | ProposalFailed:
        """A producer id that nobody has had; ids come in blocks, so that most need no proposal."""
        async with self._producer_ids_lock:
            if not self._producer_ids:
                result = await self.propose(AllocateProducerIds(broker_id=self.broker_id))
                if isinstance(result, ProposalFailed):
                    return result
                assert isinstance(result, ProducerIdsAllocated), result
                self._producer_ids = range(result.first, result.first + result.count)
            producer_id = self._producer_ids[0]
            self._producer_ids = self._producer_ids[1:]
            return producer_id

    # Running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; `started` when the broker can serve. Raises DiskFailed or SafetyError."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Runner(self.driver).run)
            nursery.start_soon(self._reconcile)
            await self._join()
            nursery.start_soon(self._tick)
            nursery.start_soon(self._run_groups)
            nursery.start_soon(self.offsets.run)
            for topic in list(self.catalog.topics.values()):
                await self.wait_for_leaders(topic)
            task_status.started()
            await trio.sleep_forever()

    def close(self) -> None:
        """After `run`: sync, checkpoint and release the data folder. Blocking."""
        try:
            for partition in self.replicas.partitions:
                partition.save()
            self.metadata.save()
        finally:
            self.store.close()

    async def _join(self) -> None:
        """Name the cluster if it has no name yet, and say where this broker is."""
        while not self.metadata.is_ready:
            await self._changed.wait()
        if self.catalog.cluster_id is None:
            cluster_id = self.store.cluster_id or new_cluster_id(self.rng)
            await self._insist(InitializeCluster(cluster_id=cluster_id))
        assert self.catalog.cluster_id is not None
        if self.store.cluster_id is None:
            self.store.set_cluster_id(self.catalog.cluster_id)
        await self._insist(
            RegisterBroker(
                broker_id=self.broker_id,
                incarnation=self.incarnation,
                host=self.advertised[0],
                port=self.advertised[1],
                peer_host="",
                peer_port=0,
                rack=self.config.str("broker.rack") or None,
            )
        )

    async def _insist(self, command: Command) -> Result:
        """Propose until it is applied; for commands that may be applied twice."""
        while True:
            result = await self.propose(command)
            if not isinstance(result, ProposalFailed):
                if isinstance(result, Refused):
                    log.error("%s was refused: %s", type(command).__name__, result.detail)
                return result
            await trio.sleep(RETRY_S)

    def _open_metadata(self) -> MetadataGroup:
        now = time.monotonic()
        group_log = self.store.logs.get(METADATA_GROUP)
        if group_log is None:
            group_log = self.store.create_log(METADATA_GROUP, METADATA_DIRNAME)
        group = RaftGroup(
            METADATA_GROUP,
            self.broker_id,
            group_log,
            frozenset({self.broker_id}),
            timing=self.timing,
            rng=self.rng,
            now=now,
            eager_commit=True,
        )
        metadata = MetadataGroup(group, MetadataState(), self._metadata_changed)
        self.driver.add(group, metadata)
        return metadata

    def _send(self, to: BrokerId, messages: Sequence[Message]) -> None:
        raise AssertionError(f"a cluster of one has nobody to send {messages} to")

    def _metadata_changed(self) -> None:
        self.replicas.catalog_changed()
        self.changed()

    def changed(self) -> None:
        """Wake whoever waits for leaders or for the metadata."""
        self._changed.set()
        self._changed = trio.Event()

    async def _reconcile(self) -> None:
        """Start and stop the groups that the catalog puts here or takes away."""
        while True:
            changed = self._changed
            self.replicas.reconcile(trio.current_time())
            self._coordinate()
            await changed.wait()

    def _coordinate(self) -> None:
        """Take over or give up the consumer groups with the metadata leadership."""
        leads = self.metadata.is_ready
        if leads == self._coordinating:
            return
        self._coordinating = leads
        if leads:
            self.groups.load(trio.current_time())
        else:
            self.groups.unload()
        self.groups_changed()

    def groups_changed(self) -> None:
        """A deadline of the groups may have moved."""
        self._groups_changed.set()

    async def _run_groups(self) -> None:
        while True:
            self._groups_changed = trio.Event()
            with trio.move_on_at(self.groups.next_deadline):
                await self._groups_changed.wait()
            self.groups.tick(trio.current_time())

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK_S)
            for partition in self.replicas.partitions:
                partition.tick(self.now_ms())
            if self._coordinating:
                await self._expire_offsets()

    async def _expire_offsets(self) -> None:
        retention_ms = self.config.int("offsets.retention.minutes") * 60_000
        groups = self.groups.expirable(self.catalog.group_offsets, retention_ms, trio.current_time())
        before_ms = self.now_ms() - retention_ms
        old = tuple(
            group
            for group in groups
            if any(o.commit_timestamp_ms < before_ms for o in self.catalog.group_offsets[group].values())
        )
        if old:
            await self.propose(ExpireOffsets(groups=old, before_ms=before_ms))

    def _group_settings(self) -> GroupSettings:
        config = self.config
        return GroupSettings(
            session_timeout_min_ms=config.int("group.min.session.timeout.ms"),
            session_timeout_max_ms=config.int("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms=config.int("group.initial.rebalance.delay.ms"),
            size_max=config.int("group.max.size"),
        )


def new_cluster_id(rng: random.Random) -> str:
    """A cluster id as Kafka makes them: 16 random bytes in URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(rng.randbytes(16)).decode().rstrip("=")
