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
from collections.abc import Callable, Sequence
from typing import Final

import trio

from raftlog.cluster.admin import Admin
from raftlog.cluster.groups import GroupCoordinator, GroupSettings
from raftlog.cluster.host import open_metadata_group, timing_of
from raftlog.cluster.joining import join
from raftlog.cluster.loop_time import LoopTime
from raftlog.cluster.metadata_group import MetadataGroup, ProposalFailed
from raftlog.cluster.offsets import OffsetCommits
from raftlog.cluster.operations import Operations
from raftlog.cluster.peers import Peers
from raftlog.cluster.replicas import Replicas
from raftlog.cluster.rounds import Rounds
from raftlog.cluster.scrubbing import scrub
from raftlog.cluster.startup import founders_of, named_founders
from raftlog.cluster.upkeep import Upkeep
from raftlog.cluster.waiting import say_what_start_waits_for, say_when_nobody_leads
from raftlog.config import BrokerConfig, TopicConfig
from raftlog.errors import ConfigError
from raftlog.memory import MemoryBudget
from raftlog.metadata.catalog import BrokerInfo, Catalog, Topic
from raftlog.metadata.commands import (
    AllocateProducerIds,
    Command,
    CreatePartitions,
    CreateTopic,
    RegisterBroker,
    encode_command,
    size_problem,
)
from raftlog.metadata.levels import level_problem, supported
from raftlog.metadata.results import ProducerIdsAllocated, Refusal, Refused, Result
from raftlog.metadata.state import MetadataState
from raftlog.partition.partition import Partition
from raftlog.raft.driver import Driver
from raftlog.raft.engine import RaftGroup
from raftlog.raft.events import Cause
from raftlog.raft.runner import Runner, TurnTimes
from raftlog.storage.descriptors import allowed, share_out
from raftlog.storage.disk import Disk, RealDisk
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey, RaftIndex, Term, group_key

CHECKPOINT_FILES: Final = 2
"""Files of the write-ahead log between two checkpoints: what a start after a crash replays at most."""
RETRY_S: Final = 0.05
"""Between two tries of a command that found no leader."""
PROPOSE_TIMEOUT_S: Final = 30.0
"""How long a command is tried; an election takes a second or two."""
LEADERS_TIMEOUT_S: Final = 5.0
"""How long a start waits for the leaders of all partitions; a majority of theirs may be down."""
LEADER_POLL_S: Final = 0.05
HAND_OVER_POLL_S: Final = 0.02
FAREWELL_S: Final = 0.3
"""How long a stopping broker stays for its clients after its leaderships have gone."""
SETTLED_S: Final = 5.0
"""How long a broker must have been connected before leaderships go back to it."""
BARRIERS_MAX: Final = 10_000
"""Brokers that wait for something to be applied here; more are not answered, and ask again."""

log = logging.getLogger("raftlog.cluster")


class Node:
    """One broker of a cluster, or a cluster of one. Made by `open`, alive inside `run`."""

    def __init__(self, config: BrokerConfig, store: Store, *, rng: random.Random) -> None:
        self.config = config
        self.store = store
        self.rng = rng
        self.broker_id = BrokerId(config.int("node.id"))
        self.incarnation = rng.randbytes(16)
        self.timing = timing_of(config)
        self.memory = MemoryBudget(config.int("raftlog.memory.max.bytes"))
        self.driver = Driver(store, send=lambda to, messages: self.peers.links.send(to, messages))
        self.metadata = self._open_metadata()
        self.peers = Peers(self)
        self.replicas = Replicas(self)
        self.upkeep = Upkeep(self)
        self.admin = Admin(self)
        self.operations = Operations(self)
        self.offsets = OffsetCommits(self)
        self.groups: GroupCoordinator = GroupCoordinator(
            settings=self._group_settings,
            new_id=lambda: str(uuid.UUID(bytes=rng.randbytes(16), version=4)),
            stored_groups=lambda: self.catalog.group_offsets,
        )
        self._rounds = Rounds(self)
        self.advertised: tuple[tuple[str, str, int], ...] = (("PLAINTEXT", "localhost", 9092),)
        self.peer_advertised = ("", 0)
        """Where clients (by the listener's name) and other brokers reach this one; set before `run`, when
        listeners are bound."""
        self.spoken: Callable[[], list[tuple[int, int]]] = list
        self.on_spoken: Callable[[list[tuple[int, int]]], None] = lambda spoken: None
        """What clients use here, as (API, version), and what to do about what those of a peer use: they will
        come here, too. Set by who serves clients."""
        self._barriers: list[tuple[RaftIndex, bytes | None, Callable[[], None]]] = []
        self.loop_time = LoopTime()
        self.turn_times = TurnTimes()
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
        wal_file_bytes = config.int("raftlog.wal.file.bytes")
        settings = StoreSettings(
            node_id=BrokerId(config.int("node.id")),
            wal_file_bytes=wal_file_bytes,
            checkpoint_bytes=CHECKPOINT_FILES * wal_file_bytes,
            fsync=config.str("raftlog.durability") == "fsync",
            founders=named_founders(config),
            open_files_max=share_out(allowed()).segments,
        )
        store = Store.open(
            disk if disk is not None else RealDisk(), config.str("log.dirs"), settings, rng=rng
        )
        try:
            return cls(config, store, rng=rng)
        except ConfigError:
            store.close()
            raise

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
    def has_metadata_leader(self) -> bool:
        return self.metadata.group.leader is not None

    def is_alive(self, broker: BrokerInfo) -> bool:
        """Whether clients should be told of a broker: the cluster hears of it, or it leads something, or it
        is this one, which the client has reached. While nobody leads the metadata nobody is fenced: then
        those count that this broker is connected with."""
        heard = not broker.fenced if self.has_metadata_leader else self.peers.links.is_connected(broker.id)
        return heard or broker.id == self.broker_id or self.peers.hints.leads(broker.id)

    def hears(self, broker: BrokerId) -> bool:
        """Whether a broker gave this one a sign of life within the last second or so."""
        return broker == self.broker_id or self.peers.hears(broker)

    def is_late(self, broker: BrokerInfo) -> bool:
        """Whether a broker was fenced for its silence although it is there: its machine is busy."""
        return broker.fenced and (broker.id == self.broker_id or self.peers.links.is_connected(broker.id))

    @property
    def is_coordinator(self) -> bool:
        """Whether the consumer groups are coordinated here."""
        return self._coordinating

    async def confirm_coordinator(self) -> bool:
        """Whether a majority still takes this broker for the metadata leader, and what it has applied is all
        that was committed when the call began."""
        if not self._coordinating:
            return False
        confirmed = trio.Event()
        answer: list[bool] = []

        def then(leads: bool) -> None:
            answer.append(leads)
            confirmed.set()

        self.metadata.group.read_barrier(trio.current_time(), then)
        if not answer:
            await confirmed.wait()
        return answer[0]

    @property
    def coordinator_id(self) -> BrokerId | None:
        """The broker that coordinates the consumer groups; nobody while that changes, as far as can be told
        here: a client that is sent to one that has ended takes seconds to ask again."""
        leader, group = self.metadata.leader, self.metadata.group
        if leader == self.broker_id:
            return leader if self._coordinating and not group.is_transferring else None
        if leader is None or not self.peers.links.is_connected(leader):
            return None
        return leader if group.may_be_led_in(group.term, trio.current_time()) else None

    def partition(self, topic: str, partition: int) -> Partition | None:
        """The replica that this broker keeps, if any."""
        return self.replicas.by_name.get((topic, partition))

    def partition_by_id(self, topic_id: bytes, partition: int) -> Partition | None:
        return self.replicas.by_id.get((topic_id, partition))

    def leader_of(self, topic: Topic, partition: int) -> tuple[BrokerId | None, Term]:
        """Who leads a partition, as last heard here, and its leader epoch, which never goes back. Nobody
        while the replica here has reason to believe that this changes: clients that are sent to a leader
        that hands over, or is silent, come back later than they would have been told of the next one."""
        key = group_key(topic.topic_id, partition)
        leader, epoch = self.peers.hints.leader(key)
        group = self.driver.groups.get(key)
        if leader is None or group is None or group.may_be_led_in(epoch, trio.current_time()):
            return leader, epoch
        return None, epoch

    def name_of(self, group: GroupKey) -> str:
        """A group's name for people."""
        topic = self.catalog.topic(group[:-4])
        return f"{topic.name if topic else 'metadata'}-{int.from_bytes(group[-4:], 'big')}"

    def topic_config(self, topic: Topic) -> TopicConfig:
        return TopicConfig(topic.configs, self.config)

    def new_topic_id(self) -> bytes:
        """A random UUID of version 4, never one of the reserved low ids (KIP-516)."""
        return uuid.UUID(bytes=self.rng.randbytes(16), version=4).bytes

    def new_cluster_id(self) -> str:
        """A cluster id as Kafka makes them: 16 random bytes in URL-safe base64 without padding."""
        return base64.urlsafe_b64encode(self.rng.randbytes(16)).decode().rstrip("=")

    @staticmethod
    def now_ms() -> int:
        """The wall clock, in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    # What handlers ask for

    async def propose(
        self, command: Command, *, timeout: float = PROPOSE_TIMEOUT_S
    ) -> Result | ProposalFailed:
        """Have a command applied, whoever leads, and give what that came to, once it is applied here.

        While there is no leader, or it changes, it is tried again: every command may be applied twice.
        After `timeout` seconds, or when the caller is cancelled, it may still be applied.
        """
        encoded = encode_command(command)
        if (problem := self._problem(command, encoded)) is not None:
            return problem
        failed = ProposalFailed("the metadata group has no leader", may_still_happen=True)
        with trio.move_on_after(timeout):
            while True:
                index = await self._propose_anywhere(encoded)
                if not isinstance(index, ProposalFailed):
                    return await self._result_at(index)
                if index.is_final:
                    return Refused(Refusal.INVALID_VALUE, str(index))
                failed = index
                await trio.sleep(RETRY_S)
        return failed

    def _problem(self, command: Command, encoded: bytes) -> Refused | None:
        """What stands against proposing it at all."""
        if (problem := size_problem(encoded)) is not None:
            return Refused(Refusal.TOO_LARGE, problem)
        if self.metadata.is_full and isinstance(command, CreateTopic | CreatePartitions):
            return Refused(Refusal.TOO_LARGE, "the cluster's metadata takes no more partitions")
        problem = level_problem(command.kind, self.catalog.metadata_level)
        return None if problem is None else Refused(Refusal.INVALID_VALUE, problem)

    async def _propose_anywhere(self, command: bytes) -> RaftIndex | ProposalFailed:
        leader = self.metadata.leader
        if leader == self.broker_id:
            return await self.propose_here(command)
        if leader is None:
            return ProposalFailed("the metadata group has no leader", may_still_happen=False)
        return await self.peers.propose(leader, command)

    async def _result_at(self, index: RaftIndex) -> Result | ProposalFailed:
        while self.metadata.applied_index < index:
            await self._changed.wait()
        result = self.metadata.result_at(index)
        if result is None:  # a snapshot took this broker past it
            return ProposalFailed("applied, but what it came to is not known here", may_still_happen=True)
        return result

    async def propose_here(self, command: bytes) -> RaftIndex | ProposalFailed:
        """Propose an encoded command as the metadata leader, once; the index at which it was applied."""
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
        """Until this broker knows a leader, ready to be produced to, of every partition of `topic`, or the
        topic is gone."""
        while topic.topic_id in self.catalog.topics_by_id and not self._is_led(topic):
            with trio.move_on_after(LEADER_POLL_S):  # nothing says that a silent leader is heard again
                await self._changed.wait()

    async def visible_everywhere(self, topic: Topic | None = None) -> None:
        """Until every live broker has applied what is applied here, and knows the leaders of `topic`: what
        makes a client read its writes through any broker."""
        if topic is not None:
            await self.wait_for_leaders(topic)
        await self.peers.applied_everywhere(topic)

    async def wait_for_change(self) -> None:
        """Until the metadata or a leadership moves, here."""
        await self._changed.wait()

    def transfer(self, key: bytes, to: BrokerId) -> str | None:
        """Hand over a group that this broker leads; None when that is under way, else why not."""
        group = self.driver.groups.get(GroupKey(key))
        if group is None:
            return "this broker keeps no replica of it"
        return group.transfer_leadership(to, trio.current_time())

    def when_applied(self, index: RaftIndex, topic_id: bytes | None, then: Callable[[], None]) -> None:
        """Call `then` once entry `index` is applied here and the leaders of the topic are known."""
        self._barriers.append((index, topic_id, then))
        self._pass_barriers()

    def _pass_barriers(self) -> None:
        waiting, self._barriers = self._barriers, []
        for barrier in waiting:
            index, topic_id, then = barrier
            topic = None if topic_id is None else self.catalog.topic(topic_id)
            if self.metadata.applied_index >= index and (topic is None or self._has_leaders(topic)):
                then()
            elif len(self._barriers) < BARRIERS_MAX:
                self._barriers.append(barrier)

    def _has_leaders(self, topic: Topic) -> bool:
        """Whether every partition has had a leader that this broker has heard of."""
        keys = (group_key(topic.topic_id, number) for number in range(len(topic.partitions)))
        return all(self.peers.hints.leader(key)[0] is not None for key in keys)

    def _is_led(self, topic: Topic) -> bool:
        return all(self.leader_of(topic, number)[0] is not None for number in range(len(topic.partitions)))

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

    async def run(
        self,
        peer_listeners: Sequence[trio.SocketListener] = (),
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run until cancelled; `started` when the broker can serve. Raises DiskFailed, SafetyError, or
        ConfigError when the cluster does not take this broker in."""
        trio.lowlevel.add_instrument(self.loop_time)
        async with trio.open_nursery() as nursery, trio.open_nursery() as waiting:
            waiting.start_soon(say_what_start_waits_for, self)
            self.peers.catalog_changed()
            nursery.start_soon(self.peers.links.run, peer_listeners)
            nursery.start_soon(self.peers.announce)
            nursery.start_soon(self.peers.probe_lost)
            nursery.start_soon(Runner(self.driver, self.turn_times).run)
            nursery.start_soon(self._reconcile)
            await join(self)
            # The catalog is as new as this broker's registration, so all groups that it may have had are
            # here: a young cluster need not wait before the loss of a broker is the loss of only one.
            while self.replicas.reconcile(trio.current_time()):
                await trio.lowlevel.checkpoint()
            self.replicas.note_rejoined()
            nursery.start_soon(self.peers.say_alive)
            nursery.start_soon(self._rounds.run)
            nursery.start_soon(self._run_groups)
            nursery.start_soon(self.offsets.run)
            nursery.start_soon(say_when_nobody_leads, self)
            nursery.start_soon(scrub, self)
            with trio.move_on_after(LEADERS_TIMEOUT_S):
                for topic in list(self.catalog.topics.values()):
                    await self.wait_for_leaders(topic)
            waiting.cancel_scope.cancel()
            task_status.started()

    async def hand_over(self, timeout: float) -> None:
        """Give every leadership to another voter, so that stopping this broker leaves no gap; returns when
        that is done, when nobody can take one, or after `timeout` seconds. Then clients that come here with
        a request are told for a moment who leads now: better than finding out that they are disconnected."""
        self.peers.leave()
        stay_until = trio.current_time()
        with trio.move_on_after(timeout):
            while True:
                led = [group for group in self.driver.groups.values() if group.is_leader]
                moving = [self._hand_over(group) for group in led]
                if any(moving):
                    stay_until = trio.current_time() + FAREWELL_S
                elif trio.current_time() >= stay_until:
                    return
                await trio.sleep(HAND_OVER_POLL_S)

    def _hand_over(self, group: RaftGroup) -> bool:
        """Whether somebody is taking the group over, or was asked to."""
        if group.is_transferring:
            return True
        others = [broker for broker in self.may_take_over() if broker in group.voters]
        self.rng.shuffle(others)
        now = trio.current_time()
        return any(group.transfer_leadership(to, now, Cause.STOPPING) is None for to in others)

    def close(self) -> None:
        """After `run`: sync, checkpoint and release the data folder. Blocking."""
        try:
            for partition in self.replicas.partitions:
                partition.save()
            self.metadata.save()
        finally:
            self.store.close()

    def registration(self) -> RegisterBroker:
        """What this start of the broker says of itself."""
        peer_host, peer_port = self.peer_advertised
        _, host, port = self.advertised[0]
        return RegisterBroker(
            broker_id=self.broker_id,
            incarnation=self.incarnation,
            host=host,
            port=port,
            peer_host=peer_host,
            peer_port=peer_port,
            rack=self.config.str("broker.rack") or None,
            listeners=self.advertised if len(self.advertised) > 1 else (),
            metadata_level=supported(),
        )

    async def insist(self, command: Command) -> Result:
        """Propose until it is applied; for commands that may be applied twice."""
        while True:
            result = await self.propose(command)
            if not isinstance(result, ProposalFailed):
                return result
            await trio.sleep(RETRY_S)

    def _open_metadata(self) -> MetadataGroup:
        founders = founders_of(self.config, self.store)
        group = open_metadata_group(self, founders, time.monotonic())
        metadata = MetadataGroup(group, MetadataState(), self._metadata_changed)
        self.driver.add(group, metadata)
        return metadata

    def _metadata_changed(self) -> None:
        if self.metadata.is_ready:
            self.peers.leads(METADATA_GROUP, self.metadata.group.term)
        self.replicas.catalog_changed()
        self.changed()

    def led(self, group: RaftGroup) -> None:
        """The leadership of a partition moved, or its leader became ready."""
        if group.is_ready:
            self.peers.leads(group.key, group.term)
        elif not group.is_leader:
            # A leader that was cut off must not go on sending clients to itself.
            self.peers.hints.stepped_down(group.key, self.broker_id)
        self.changed()

    def changed(self) -> None:
        """Wake whoever waits for leaders or for the metadata."""
        if self._barriers:
            self._pass_barriers()
        self._changed.set()
        self._changed = trio.Event()

    def heard(self, broker: BrokerId, incarnation: bytes) -> None:
        """A broker gave a sign of life: noted by the metadata leader."""
        if self._coordinating:
            self._rounds.heard(broker, incarnation)

    def is_settled(self, broker: BrokerId, now: float) -> bool:
        since = self.peers.connected_since(broker)
        return since is not None and now - since >= SETTLED_S

    def may_take_over(self) -> list[BrokerId]:
        return self.peers.may_take_over()

    async def _reconcile(self) -> None:
        """Start and stop the groups that the catalog puts here or takes away."""
        topology = RaftIndex(-1)
        while True:
            changed = self._changed
            is_behind = self.replicas.reconcile(trio.current_time())
            if topology != self.catalog.topology_index:
                topology = self.catalog.topology_index
                self.peers.catalog_changed()
            self._coordinate()
            if is_behind:
                await trio.lowlevel.checkpoint()
            else:
                await changed.wait()

    def _coordinate(self) -> None:
        """Take over or give up the consumer groups with the metadata leadership."""
        leads = self.metadata.is_ready
        if leads == self._coordinating:
            return
        self._coordinating = leads
        if leads:
            self._rounds.take_office()
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

    def _group_settings(self) -> GroupSettings:
        config = self.config
        return GroupSettings(
            session_timeout_min_ms=config.int("group.min.session.timeout.ms"),
            session_timeout_max_ms=config.int("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms=config.int("group.initial.rebalance.delay.ms"),
            size_max=config.int("group.max.size"),
        )
