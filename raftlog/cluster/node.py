"""A broker's share of the cluster, as its life: its parts are made, started in order, and stopped.

What the parts do is theirs. Each takes the others that it needs, none holds the node; handlers see the parts
through `raftlog.broker.backend`. One process runs one node on one Trio event loop; `Node.run` holds every
task of it.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Sequence
from typing import Final

import trio

from raftlog.cluster.admin import Admin
from raftlog.cluster.announcements import Announcements
from raftlog.cluster.authorizer import authorizer_of
from raftlog.cluster.changes import Changes
from raftlog.cluster.chronicle import Chronicle
from raftlog.cluster.compaction import Compaction
from raftlog.cluster.coordination import Coordination
from raftlog.cluster.copying import Copying
from raftlog.cluster.enforcement import Enforcement
from raftlog.cluster.expiry import OffsetExpiry
from raftlog.cluster.first_users import FirstUsers, read_first_users
from raftlog.cluster.front import Front
from raftlog.cluster.group_records import GroupRecords
from raftlog.cluster.groups import GroupCoordinator, GroupSettings
from raftlog.cluster.inside import Inside
from raftlog.cluster.joining import Joining
from raftlog.cluster.leaders import Leaders
from raftlog.cluster.liveness import Liveness
from raftlog.cluster.loop_time import LoopTime
from raftlog.cluster.metadata_group import MetadataGroup, open_metadata_group
from raftlog.cluster.offsets import OffsetCommits
from raftlog.cluster.operations import Operations
from raftlog.cluster.peers import Peers
from raftlog.cluster.presence import Presence
from raftlog.cluster.probing import Probing
from raftlog.cluster.producer_ids import ProducerIds
from raftlog.cluster.proposer import Proposer
from raftlog.cluster.quorum import MetadataQuorum
from raftlog.cluster.replicas import Replicas
from raftlog.cluster.reports import Reports
from raftlog.cluster.rounds import Rounds
from raftlog.cluster.scrubbing import Scrubbing
from raftlog.cluster.spoken import SpokenNews
from raftlog.cluster.startup import founders_of, named_founders
from raftlog.cluster.this_broker import ThisBroker
from raftlog.cluster.transactions import (
    Markers,
    TransactionCoordinator,
    TransactionTimeouts,
    Verification,
)
from raftlog.cluster.transfers import Transfers
from raftlog.cluster.upkeep import Upkeep
from raftlog.cluster.users import UserAdmin
from raftlog.cluster.visibility import Visibility
from raftlog.cluster.waiting import Waiting
from raftlog.config import BrokerConfig
from raftlog.errors import ConfigError
from raftlog.memory import MemoryBudget
from raftlog.metadata.state import MetadataState
from raftlog.raft.driver import Driver
from raftlog.raft.runner import Runner, TurnTimes
from raftlog.storage.descriptors import allowed, share_out
from raftlog.storage.disk import Disk, RealDisk
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import METADATA_GROUP, BrokerId, RaftIndex

CHECKPOINT_FILES: Final = 2
"""Files of the write-ahead log between two checkpoints: what a start after a crash replays at most."""


class Node:
    """One broker of a cluster, or a cluster of one. Made by `open`, alive inside `run`."""

    def __init__(
        self, config: BrokerConfig, store: Store, *, rng: random.Random, front: Front | None = None
    ) -> None:
        """Makes the parts, each after those that it takes. Raises ConfigError."""
        me = ThisBroker.of(config, rng=rng)
        self.me = me
        self._store = store
        self.memory = MemoryBudget(config.int("raftlog.memory.max.bytes"))
        self.memory.forget_some = store.forget_some
        self.changes = changes = Changes()
        driver = Driver(store, send=lambda to, messages: self._peers.links.send(to, messages))
        group = open_metadata_group(me, store, founders_of(config, store), time.monotonic())
        self._metadata = metadata = MetadataGroup(group, MetadataState(), self._metadata_changed)
        driver.add(group, metadata)
        self.catalog = catalog = metadata.catalog
        # The other brokers
        self._peers = peers = Peers(me, catalog, driver, store.cluster_id)
        driver.may_take_over = peers.may_take_over
        self._probing = Probing(peers, driver)
        self._announcements = Announcements(me.id, catalog, driver.groups, peers, changes)
        hints = self._announcements.hints
        self.leaders = Leaders(hints, driver.groups, catalog, changes)
        front = front or Front()
        SpokenNews(front, peers)
        # What runs here
        self._copying = Copying(me, driver, peers.calls)
        self.replicas = Replicas(
            me,
            driver,
            metadata,
            self.memory,
            on_leadership=self._announcements.leadership_moved,
            on_reconciled=changes.tell,
            on_lacking=self._copying.offer,
        )
        upkeep = Upkeep(me.id, metadata, peers)
        self._transfers = Transfers(me, driver.groups, peers)
        self._scrubbing = Scrubbing(config, store, driver.groups)
        self._compaction = Compaction(me, store, self.replicas)
        # The consumer groups, and who is fenced
        self.groups = GroupCoordinator(
            settings=lambda: _group_settings(config),
            new_id=me.new_member_id,
            stored_groups=lambda: catalog.group_offsets,
            kept=GroupRecords(me, metadata, on_answer=lambda: self.coordination.groups_changed()),
        )
        liveness = Liveness(config.int("broker.session.timeout.ms") / 1000)
        self.coordination = Coordination(me, metadata, peers, self.groups, liveness, changes)
        self.presence = Presence(me, metadata, peers, hints, changes, on_heard=self.coordination.heard)
        # Who may do what
        self.authorizer = authorizer_of(catalog, config)
        self.enforcement = Enforcement(me, metadata, peers, self.coordination, changes)
        # What changes the catalog
        self.proposer = Proposer(me, metadata, peers, changes)
        self.producer_ids = ProducerIds(me.id, self.proposer)
        self.offsets = OffsetCommits(metadata, self.proposer)
        visibility = Visibility(metadata, peers, self.leaders, changes)
        self.admin = Admin(me, catalog, self.proposer, self.presence, visibility, changes)
        self.users = UserAdmin(self.proposer, visibility, self.enforcement)
        first_users = read_first_users(config.str("raftlog.bootstrap.users.file"))
        self._first_users = FirstUsers(first_users, self.proposer, catalog)
        self.operations = Operations(
            catalog, self.proposer, self._transfers, self.leaders, visibility, changes
        )
        expiry = OffsetExpiry(
            catalog,
            self.groups,
            retention_ms=config.int("offsets.retention.minutes") * 60_000,
            interval_s=config.int("offsets.retention.check.interval.ms") / 1000,
        )
        # Transactions
        self.transactions = TransactionCoordinator(me, metadata, self.coordination, self.proposer, changes)
        self.verification = Verification(me, metadata, self.transactions, peers)
        self._markers = Markers(
            me, metadata, self.coordination, peers, self.leaders, self.replicas, self.proposer, changes
        )
        timeouts = TransactionTimeouts(
            catalog,
            term=lambda: group.term,
            expiration_ms=config.int("transactional.id.expiration.ms"),
        )
        self._rounds = Rounds(
            me,
            catalog,
            self.replicas,
            upkeep,
            self.coordination,
            liveness,
            expiry,
            timeouts,
            self.proposer,
        )
        self._joining = Joining(
            me,
            front.registration(me),
            store,
            metadata,
            self.proposer,
            changes,
            process_of=peers.links.process_of,
            removed_by=lambda: peers.links.removed_by,
        )
        self._waiting = Waiting(me.id, metadata, peers, self.leaders, self.replicas)
        self._chronicle = Chronicle(me.id, metadata, changes)
        turn_times = TurnTimes()
        reports = Reports(me, peers.calls, driver, peers.links, self.replicas.by_id, turn_times, self.groups)
        self.quorum = MetadataQuorum(metadata, reports)
        self.inside = Inside(
            me=me,
            memory=self.memory,
            metadata=metadata,
            replicas=self.replicas,
            leaders=self.leaders,
            presence=self.presence,
            groups=self.groups,
            coordination=self.coordination,
            waiting=self._waiting,
            reports=reports,
            operations=self.operations,
            driver=driver,
            links=peers.links,
            loop_time=LoopTime(),
            turn_times=turn_times,
        )

    @classmethod
    def open(
        cls,
        config: BrokerConfig,
        *,
        front: Front | None = None,
        disk: Disk | None = None,
        rng: random.Random | None = None,
    ) -> Node:
        """Open the data folder and recover. Blocking.

        Raises DataDirBusy, DamagedLog, DiskFailed or ConfigError, each saying what to do.
        """
        rng = rng if rng is not None else random.Random(secrets.randbits(128))
        wal_file_bytes = config.int("raftlog.wal.file.bytes")
        settings = StoreSettings(
            node_id=BrokerId(config.int("node.id")),
            wal_file_bytes=wal_file_bytes,
            checkpoint_bytes=CHECKPOINT_FILES * wal_file_bytes,
            fsync=config.str("raftlog.durability") == "fsync",
            cluster_id=config.str("raftlog.cluster.id") or None,
            founders=named_founders(config),
            open_files_max=share_out(allowed()).segments,
        )
        store = Store.open(
            disk if disk is not None else RealDisk(), config.str("log.dirs"), settings, rng=rng
        )
        try:
            return cls(config, store, rng=rng, front=front)
        except ConfigError:
            store.close()
            raise

    def __repr__(self) -> str:
        partitions = len(self.replicas.by_id)
        return f"<Node {self.me.id} cluster={self.catalog.cluster_id} partitions={partitions}>"

    async def run(
        self,
        peer_listeners: Sequence[trio.SocketListener] = (),
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run until cancelled; `started` when the broker can serve. Raises DiskFailed, SafetyError, or
        ConfigError when the cluster does not take this broker in."""
        trio.lowlevel.add_instrument(self.inside.loop_time)
        async with trio.open_nursery() as nursery, trio.open_nursery() as waiting:
            waiting.start_soon(self._waiting.say_what_start_waits_for)
            waiting.start_soon(self._joining.watch_for_removal)
            self._topology_changed()
            nursery.start_soon(self._peers.links.run, peer_listeners)
            nursery.start_soon(self._announcements.run)
            nursery.start_soon(self._probing.run)
            nursery.start_soon(Runner(self.inside.driver, self.inside.turn_times).run)
            nursery.start_soon(self._follow_catalog)
            nursery.start_soon(self._copying.run)
            joined = trio.Event()
            nursery.start_soon(self._transfers.give_away_until, joined)
            await self._joining.join()
            self._peers.joined()
            joined.set()
            # The catalog is as new as this broker's registration, so all groups that it may have had are
            # here: a young cluster need not wait before the loss of a broker is the loss of only one.
            while self.replicas.reconcile(trio.current_time()):
                await trio.lowlevel.checkpoint()
            self.replicas.note_rejoined()
            nursery.start_soon(self.presence.run)
            nursery.start_soon(self.enforcement.run)
            nursery.start_soon(self._rounds.run)
            nursery.start_soon(self.coordination.run)
            nursery.start_soon(self.offsets.run)
            nursery.start_soon(self._markers.run)
            nursery.start_soon(self.verification.run)
            nursery.start_soon(self._waiting.say_when_nobody_leads)
            nursery.start_soon(self._chronicle.run)
            nursery.start_soon(self._scrubbing.run)
            nursery.start_soon(self._compaction.run)
            nursery.start_soon(self.inside.reports.run)
            await self.leaders.wait_for_all()
            await self._first_users.found(self.changes)
            waiting.cancel_scope.cancel()
            task_status.started()

    async def hand_over(self, timeout: float) -> None:
        """Before a planned stop: see `Transfers.hand_over`. `timeout` in seconds."""
        await self._transfers.hand_over(timeout)

    def close(self) -> None:
        """After `run`: sync, checkpoint and release the data folder. Blocking."""
        try:
            for partition in self.replicas.partitions:
                partition.save()
            self._metadata.save()
        finally:
            self._store.close()

    def _metadata_changed(self) -> None:
        if self._metadata.is_ready:
            self._announcements.leads(METADATA_GROUP, self._metadata.group.term)
        self.replicas.catalog_changed()
        self.changes.tell()

    def _topology_changed(self) -> None:
        self._peers.catalog_changed()
        self._announcements.catalog_changed()

    async def _follow_catalog(self) -> None:
        """Start and stop the groups that the catalog puts here or takes away."""
        topology = RaftIndex(-1)
        while True:
            changed = self.changes.next
            is_behind = self.replicas.reconcile(trio.current_time())
            if topology != self.catalog.topology_index:
                topology = self.catalog.topology_index
                self._topology_changed()
            self.coordination.follow_leadership()
            if is_behind:
                await trio.lowlevel.checkpoint()
            else:
                await changed.wait()


def _group_settings(config: BrokerConfig) -> GroupSettings:
    return GroupSettings(
        session_timeout_min_ms=config.int("group.min.session.timeout.ms"),
        session_timeout_max_ms=config.int("group.max.session.timeout.ms"),
        initial_rebalance_delay_ms=config.int("group.initial.rebalance.delay.ms"),
        size_max=config.int("group.max.size"),
    )
