"""A broker's share of the cluster, without the event loop: what `raftlog.cluster.node` starts on Trio.

The deciding parts are the real ones: Driver, MetadataGroup, Replicas, Upkeep, Liveness, Hints. Here is only
what the real broker does in tasks: retry a proposal, repeat a sign of life, look at the catalog when it has
changed, hand leaderships over before it stops.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, Final

from raftlog.cluster.group_records import GroupRecords
from raftlog.cluster.groups import GroupCoordinator, GroupSettings
from raftlog.cluster.hints import Hint, Hints
from raftlog.cluster.liveness import ALIVE_INTERVAL, Liveness
from raftlog.cluster.metadata_group import MetadataGroup, ProposalFailed, open_metadata_group
from raftlog.cluster.peers import SETTLED_S
from raftlog.cluster.replicas import Replicas
from raftlog.cluster.rounds import TICK_S
from raftlog.cluster.steady_clock import SteadyClock
from raftlog.cluster.this_broker import ThisBroker, timing_of
from raftlog.cluster.transfers import HAND_OVER_POLL_S
from raftlog.cluster.upkeep import Upkeep
from raftlog.config import BrokerConfig
from raftlog.errors import DamagedLog
from raftlog.memory import MemoryBudget
from raftlog.metadata.brokers import RegisterBroker
from raftlog.metadata.catalog import METADATA_LEVEL, Catalog
from raftlog.metadata.cluster import InitializeCluster
from raftlog.metadata.commands import LEVEL_KNOWN, encode_command
from raftlog.metadata.features import SetFeature, known_to_all
from raftlog.metadata.noun import Command, Result
from raftlog.metadata.state import MetadataState
from raftlog.partition.partition import Partition
from raftlog.raft.driver import Driver
from raftlog.raft.group import RaftGroup
from raftlog.storage.scrub import Scrub
from raftlog.storage.store import Store
from raftlog.types import METADATA_GROUP, METADATA_TOPIC_ID, BrokerId, GroupKey, RaftIndex, Term, group_key
from tests.sim.world import World

PROPOSE_RETRY_S: Final = 0.05
PROPOSE_TIMEOUT_S: Final = 2.0
ANNOUNCE_INTERVAL_S: Final = 2.0
SCRUB_PIECES: Final = 20
"""Pieces that are read again in a tick."""
HAND_OVER_S: Final = 1.0
"""How long a stopping broker tries to get rid of its leaderships."""

Note = tuple[str, Any, Any]
"""What brokers tell each other beside Raft: kind, number, body."""
OnResult = Callable[[Result | ProposalFailed], None]


class Peers:
    """Who leads what, as `raftlog.cluster.announcements.Announcements` tells it."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self.hints = Hints(node.knows)
        self.led: dict[GroupKey, Term] = {}

    def leads(self, group: GroupKey, term: Term) -> None:
        if self.led.get(group) != term:
            self.led[group] = term
            self.hints.update([Hint(group, term, self._node.broker_id)])
            self._node.tell_all(("leaders", 0, [(group, term)]))

    def announce(self) -> None:
        groups = self._node.driver.groups
        self.led = {
            key: term
            for key, term in self.led.items()
            if key in groups and groups[key].is_leader and groups[key].term == term
        }
        if self.led:
            self._node.tell_all(("leaders", 0, list(self.led.items())))


class SimNode:
    """One life of one broker. `send` takes a note for a peer; everything is called from events."""

    def __init__(
        self,
        broker: BrokerId,
        founders: frozenset[BrokerId],
        store: Store,
        world: World,
        rng: random.Random,
        config: BrokerConfig,
        state: MetadataState,
        *,
        send_raft: Callable[[BrokerId, Any], None],
        send_note: Callable[[BrokerId, Note], None],
        everyone: tuple[BrokerId, ...],
        on_dirty: Callable[[], None],
    ) -> None:
        self.broker_id = broker
        self.store, self.world, self.rng, self.config = store, world, rng, config
        self.incarnation = rng.randbytes(16)
        self._me = ThisBroker(
            id=broker,
            incarnation=self.incarnation,
            config=config,
            timing=timing_of(config),
            rng=rng,
            now_ms=world.now_ms,
        )
        self.everyone = everyone
        self._send_note = send_note
        self._on_dirty = on_dirty
        self.driver = Driver(store, send=send_raft)
        self.peers = Peers(self)
        self.started_at = world.now
        self.connected_at: dict[BrokerId, float] = {}
        self.leaving: set[BrokerId] = set()
        """Peers that said that they are stopping."""
        self.is_registered = False
        self._liveness = Liveness(config.int("broker.session.timeout.ms") / 1000)
        self._clock = SteadyClock(world.now, world.now_ms())
        self._coordinating = False
        self._calls: dict[int, Callable[[RaftIndex | ProposalFailed], None]] = {}
        self._call_count = 0
        self._awaited: list[tuple[RaftIndex, OnResult]] = []
        self.metadata = self._open_metadata(founders, state)
        self.replicas = Replicas(
            self._me,
            self.driver,
            self.metadata,
            MemoryBudget(config.int("raftlog.memory.max.bytes")),
            on_leadership=self.led,
            on_reconciled=self._on_dirty,
            step=2,
        )
        self.upkeep = Upkeep(broker, self.metadata, self)
        self.groups = GroupCoordinator(
            settings=lambda: GroupSettings(),
            new_id=lambda: f"{rng.getrandbits(64):x}",
            stored_groups=lambda: self.catalog.group_offsets,
            kept=GroupRecords(self._me, self.metadata, self.groups_changed, now=lambda: world.now),
        )
        self._groups_due = math.inf
        self.takes_office: Callable[[SimNode], None] = lambda node: None
        """Called when the groups are coordinated here from now on."""
        self._scrub = Scrub(store.logs)

    def _open_metadata(self, founders: frozenset[BrokerId], state: MetadataState) -> MetadataGroup:
        group = open_metadata_group(self._me, self.store, founders, self.world.now)
        metadata = MetadataGroup(group, state, self._metadata_changed)
        self.driver.add(group, metadata)
        return metadata

    # What Replicas and Upkeep ask

    @property
    def catalog(self) -> Catalog:
        return self.metadata.catalog

    def now_ms(self) -> int:
        return self.world.now_ms()

    def knows(self, topic_id: bytes) -> bool:
        return topic_id in self.catalog.topics_by_id or topic_id == METADATA_TOPIC_ID

    def led(self, group: RaftGroup) -> None:
        if group.is_ready:
            self.peers.leads(group.key, group.term)
        elif not group.is_leader:
            self.peers.hints.stepped_down(group.key, self.broker_id)
        self.changed()

    def changed(self) -> None:
        self._on_dirty()

    def is_settled(self, broker: BrokerId, now: float) -> bool:
        since = self.connected_at.get(broker)
        return since is not None and now - since >= SETTLED_S

    def may_take_over(self) -> list[BrokerId]:
        return sorted(self.connected_at.keys() - self.leaving)

    # What connections tell

    def connected(self, peer: BrokerId) -> None:
        """To a process of the peer that has just started."""
        self.connected_at[peer] = self.world.now
        self.leaving.discard(peer)

    def disconnected(self, peer: BrokerId) -> None:
        self.connected_at.pop(peer, None)
        self.leaving.discard(peer)
        self.peers.hints.leader_is_gone(peer)

    def found_gone(self, peer: BrokerId) -> None:
        """Nobody listens at the peer's port: its process has ended, or a firewall says so."""
        self.driver.peer_is_gone(peer, self.world.now)

    def _metadata_changed(self) -> None:
        if self.metadata.is_ready:
            self.peers.leads(METADATA_GROUP, self.metadata.group.term)
        self.replicas.catalog_changed()
        self.changed()

    # What clients and faults ask

    def partition(self, topic_id: bytes, partition: int) -> Partition | None:
        return self.replicas.by_id.get((topic_id, partition))

    def leader_hint(self, topic_id: bytes, partition: int) -> BrokerId | None:
        return self.peers.hints.leader(group_key(topic_id, partition))[0]

    @property
    def is_coordinator(self) -> bool:
        return self.metadata.is_ready

    # Proposals

    def propose(self, command: Command, on_result: OnResult, *, timeout: float = 30.0) -> None:
        """As Proposer.propose: tried until it is applied here, or `timeout` seconds have passed."""
        encoded = encode_command(command)
        give_up = self.world.now + timeout

        def attempt() -> None:
            leader = self.metadata.leader
            if leader == self.broker_id:
                self.propose_here(encoded, attempted)
            elif leader is None:
                attempted(ProposalFailed("no leader", may_still_happen=False))
            else:
                self._ask(leader, encoded, attempted)

        def attempted(outcome: RaftIndex | ProposalFailed) -> None:
            if not isinstance(outcome, ProposalFailed):
                self._awaited.append((outcome, on_result))
                self._on_dirty()
            elif self.world.now >= give_up:
                on_result(outcome)
            else:
                self._after(PROPOSE_RETRY_S, attempt)

        attempt()

    def propose_here(self, command: bytes, on_done: Callable[[RaftIndex | ProposalFailed], None]) -> None:
        now = self.world.now
        self.metadata.propose(command, now=now, now_ms=self.now_ms(), on_done=on_done)

    def _ask(
        self, leader: BrokerId, command: bytes, on_done: Callable[[RaftIndex | ProposalFailed], None]
    ) -> None:
        self._call_count += 1
        number = self._call_count
        self._calls[number] = on_done
        self._send_note(leader, ("propose", number, command))

        def time_out() -> None:
            waiting = self._calls.pop(number, None)
            if waiting is not None:
                waiting(ProposalFailed("no answer", may_still_happen=True))

        self._after(PROPOSE_TIMEOUT_S, time_out)

    def receive_note(self, sender: BrokerId, note: Note) -> None:
        kind, number, body = note
        match kind:
            case "propose":
                self.propose_here(body, lambda done: self._send_note(sender, ("proposed", number, done)))
            case "proposed":
                waiting = self._calls.pop(number, None)
                if waiting is not None:
                    waiting(body)
            case "leaders":
                self.peers.hints.update([Hint(group, term, sender) for group, term in body])
            case "leaving":
                self.leaving.add(sender)
            case "alive":
                self._liveness.heard(sender, body, self.world.now)
            case _:
                raise AssertionError(kind)

    def tell_all(self, note: Note) -> None:
        for broker in self.everyone:
            if broker != self.broker_id:
                self._send_note(broker, note)

    # What the real node's tasks do

    after: Callable[[float, Callable[[], None]], None]
    """Set by the broker: call later, unless this life has ended by then."""

    def _after(self, delay: float, what: Callable[[], None]) -> None:
        self.after(delay, what)

    def start(self) -> None:
        self._join()
        self._after(TICK_S, self._tick)
        self._after(0.0, self._say_alive)
        self._after(ANNOUNCE_INTERVAL_S, self._announce)

    def _join(self) -> None:
        def named(result: Result | ProposalFailed) -> None:
            self._join()

        def registered(result: Result | ProposalFailed) -> None:
            if isinstance(result, ProposalFailed):
                self._join()
            else:
                self.is_registered = True
                while self.replicas.reconcile(self.world.now):
                    pass
                self.replicas.note_rejoined()

        if self.catalog.cluster_id is None:
            if self.metadata.is_ready:
                self.propose(InitializeCluster(cluster_id="simulated"), named)
            else:
                self._after(0.05, self._join)
            return
        if self.store.cluster_id is None:
            self.store.set_cluster_id(self.catalog.cluster_id)
        number = int(self.broker_id)
        self.propose(
            RegisterBroker(
                broker_id=self.broker_id,
                incarnation=self.incarnation,
                host=f"broker{number}",
                port=9092,
                peer_host=f"broker{number}",
                peer_port=9192,
                metadata_level=LEVEL_KNOWN,
            ),
            registered,
        )

    def reconcile(self) -> None:
        """As Node._follow_catalog, and what waits for something to be applied."""
        if self.replicas.reconcile(self.world.now):
            self._after(0.0, self.reconcile)
        leads = self.metadata.is_ready
        if leads != self._coordinating:
            self._coordinating = leads
            if leads:
                self._liveness.take_office()
                self.takes_office(self)
                self.groups.load(self.world.now, self.now_ms())
            else:
                self.groups.unload()
            self.groups_changed()
        if self._awaited:
            waiting, self._awaited = self._awaited, []
            for index, on_result in waiting:
                if self.metadata.applied_index < index:
                    self._awaited.append((index, on_result))
                    continue
                result = self.metadata.result_at(index)
                if result is None:
                    on_result(ProposalFailed("a snapshot took this broker past it", may_still_happen=True))
                else:
                    on_result(result)

    def groups_changed(self) -> None:
        """As Coordination.run: let time pass for the groups when something is due."""
        due = max(self.groups.next_deadline, self.world.now)
        if due < self._groups_due:
            self._groups_due = due
            self._after(due - self.world.now, self._tick_groups)

    def _tick_groups(self) -> None:
        self._groups_due = math.inf
        self.groups.tick(self.world.now)
        self.groups_changed()

    def _tick(self) -> None:
        """As Rounds.run."""
        self._after(TICK_S, self._tick)
        now = self.world.now
        now_ms = self._clock.read(now, self.now_ms())
        for partition in self.replicas.partitions:
            partition.tick(now_ms, even_ms=self._clock.even_ms(now))
        self.upkeep.begin(now)
        for command in self.upkeep.tick(self.replicas.partitions, now):
            self.propose(command, lambda result: None, timeout=TICK_S)
        if self._coordinating:
            for fence in self._liveness.tick(self.catalog.brokers, now):
                self.propose(fence, lambda result: None, timeout=TICK_S)
            level = known_to_all(self.catalog.brokers.values())
            if level > self.catalog.metadata_level:
                raised = SetFeature(name=METADATA_LEVEL, level=level)
                self.propose(raised, lambda result: None, timeout=TICK_S)
        self.replicas.note_rejoined()
        self._scrub_on()

    def _scrub_on(self) -> None:
        """As raftlog.cluster.scrubbing, a few pieces at a time, over and over."""
        for _ in range(SCRUB_PIECES):
            piece = self._scrub.next()
            if piece is None:
                self._scrub.begin()
                return
            try:
                self._scrub.check(piece, piece.read())
            except DamagedLog:
                group = self.driver.groups.get(piece.key)
                if group is None or len(group.membership.members) == 1:
                    self._scrub.skip()
                return

    def _say_alive(self) -> None:
        self._after(ALIVE_INTERVAL, self._say_alive)
        leader = self.metadata.leader
        if leader == self.broker_id:
            self._liveness.heard(self.broker_id, self.incarnation, self.world.now)
        elif leader is not None:
            self._send_note(leader, ("alive", 0, self.incarnation))

    def _announce(self) -> None:
        self._after(ANNOUNCE_INTERVAL_S, self._announce)
        self.peers.announce()
        self.peers.hints.sweep()

    def hand_over(self, then: Callable[[], None]) -> None:
        """As Transfers.hand_over; `then` comes when that is done."""
        self.tell_all(("leaving", 0, None))
        give_up = self.world.now + HAND_OVER_S

        def look() -> None:
            led = [group for group in self.driver.groups.values() if group.is_leader]
            moving = [self._hand_over(group) for group in led]
            if any(moving) and self.world.now < give_up:
                self._after(HAND_OVER_POLL_S, look)
            else:
                then()

        look()

    def _hand_over(self, group: RaftGroup) -> bool:
        if group.is_transferring:
            return True
        others = [broker for broker in self.may_take_over() if broker in group.voters]
        self.rng.shuffle(others)
        return any(group.transfer_leadership(broker, self.world.now) is None for broker in others)

    def save(self) -> None:
        """As Node.close before the store is closed."""
        for partition in self.replicas.partitions:
            partition.save()
        self.metadata.save()
