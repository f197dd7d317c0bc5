"""Which replicas a broker makes and deletes, by what its catalog says and by how much the catalog knows."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from raftlog.cluster.metadata_group import MetadataGroup, open_metadata_group
from raftlog.cluster.replicas import STEP, Replicas
from raftlog.cluster.this_broker import ThisBroker
from raftlog.cluster.upkeep import Upkeep
from raftlog.config import BrokerConfig
from raftlog.memory import MemoryBudget
from raftlog.metadata.brokers import RegisterBroker
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.moves import FinishMove, MovePartition
from raftlog.metadata.noun import Command
from raftlog.metadata.state import MetadataState
from raftlog.metadata.topics import AlterTopicConfig, CreateTopic, DeleteTopic
from raftlog.raft.driver import Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.values import Membership
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, RaftIndex, Term, group_key
from tests.clocks import STILL
from tests.sim.virtual_disk import VirtualDisk

TOPIC = b"t" * 16
ONE, TWO, THREE = map(BrokerId, (1, 2, 3))


class Broker:
    """Broker 3, without an event loop and without peers. `wiped` says that its folder is new."""

    def __init__(self, *, wiped: bool) -> None:
        rng = random.Random(1)
        self.me = ThisBroker.of(BrokerConfig.of({"node.id": "3"}), rng=rng, clock=STILL)
        self.store = Store.open(
            VirtualDisk(rng), "/data", StoreSettings(node_id=THREE, wal_file_bytes=1 << 20)
        )
        if not wiped:
            self.store.set_rejoined()
        self.driver = Driver(self.store, send=lambda to, messages: None)
        group = open_metadata_group(self.me, self.store, frozenset((ONE, TWO, THREE)), 0.0)
        self.metadata = MetadataGroup(group, MetadataState(), lambda: None)
        self.replicas = Replicas(
            self.me,
            self.driver,
            self.metadata,
            MemoryBudget(1 << 20),
            on_leadership=lambda group: None,
            on_reconciled=lambda: None,
        )
        self.upkeep = Upkeep(THREE, self.metadata, self)
        self._index = 0

    @property
    def catalog(self) -> Catalog:
        return self.metadata.catalog

    def is_settled(self, broker: BrokerId, now: float) -> bool:
        return False

    def may_take_over(self) -> Sequence[BrokerId]:
        return ()

    def learns(self, *commands: Command) -> None:
        """They are in the catalog, and `reconcile` is still to come."""
        for command in commands:
            self._index += 1
            self.metadata.state.apply(command, RaftIndex(self._index))
        self.replicas.catalog_changed()

    def applies(self, *commands: Command) -> None:
        self.learns(*commands)
        while self.replicas.reconcile(0.0):
            pass

    def registers(self) -> None:
        self.applies(_register(self.me.id, self.me.incarnation))

    def runs(self) -> RaftGroup | None:
        partition = self.replicas.by_id.get((TOPIC, 0))
        return partition.group if partition is not None else None

    def turns(self) -> None:
        """Long enough for whoever may elect itself."""
        for now in range(30):
            self.driver.turn(float(now))


def _register(broker: BrokerId, incarnation: bytes) -> RegisterBroker:
    return RegisterBroker(
        broker_id=broker, incarnation=incarnation, host="h", port=1, peer_host="p", peer_port=2
    )


def _create(*replicas: BrokerId) -> CreateTopic:
    return CreateTopic(name="t", topic_id=TOPIC, partitions=(replicas,))


EARLIER = (_register(ONE, b"1" * 16), _register(TWO, b"2" * 16), _register(THREE, b"3" * 16))


def test_an_emptied_broker_makes_no_replica_by_a_catalog_that_is_older_than_its_start() -> None:
    """It read its metadata anew, and on the way it saw the topic as it had been made, with this broker as
    the only replica: it led alone, in the term and the place of the log that others have by now."""
    broker = Broker(wiped=True)
    broker.applies(*EARLIER, _create(THREE))
    broker.turns()
    assert broker.runs() is None, "the topic may have been moved to others since"
    broker.applies(MovePartition(topic_id=TOPIC, partition=0, target=(ONE, TWO, THREE)))
    assert broker.runs() is None
    since = broker.catalog.topics["t"].partitions[0].since
    broker.applies(FinishMove(topic_id=TOPIC, partition=0, target=(ONE, TWO, THREE), since=since))
    broker.registers()
    broker.turns()
    group = broker.runs()
    assert group is not None and group.voters == {ONE, TWO, THREE}
    assert not group.is_leader and not group.is_trusted


def test_an_emptied_broker_does_not_lead_alone_while_its_replica_is_on_the_way_to_others() -> None:
    """They may vote by now, and hold what it has lost."""
    broker = Broker(wiped=True)
    broker.applies(*EARLIER, _create(THREE))
    broker.applies(MovePartition(topic_id=TOPIC, partition=0, target=(ONE, TWO, THREE)))
    broker.registers()
    broker.turns()
    group = broker.runs()
    assert group is not None and not group.is_leader


def test_a_lone_replica_that_was_lost_begins_anew() -> None:
    """Nobody else has it, and nobody else ever will."""
    broker = Broker(wiped=True)
    broker.applies(*EARLIER, _create(THREE))
    broker.registers()
    broker.turns()
    group = broker.runs()
    assert group is not None and group.is_leader


@pytest.mark.parametrize("is_registered", [False, True])
def test_nothing_is_deleted_by_a_catalog_that_is_older_than_the_start(is_registered: bool) -> None:
    broker = Broker(wiped=False)
    key = group_key(TOPIC, 0)
    broker.store.create_log(key, "t-0")
    if is_registered:
        broker.registers()
    else:
        broker.applies(*EARLIER)
    assert (key in broker.store.logs) is not is_registered


def test_a_topic_that_is_gone_is_gone_here() -> None:
    broker = Broker(wiped=False)
    broker.registers()
    broker.applies(_create(THREE))
    assert broker.runs() is not None
    broker.applies(DeleteTopic(topic_id=TOPIC))
    assert broker.runs() is None and group_key(TOPIC, 0) not in broker.store.logs


def test_a_replica_that_its_group_counts_on_is_not_deleted_by_a_catalog_that_is_older() -> None:
    """Found by the simulation: this broker learned late that its replica had been moved away, when the group
    had taken it back already and counted what it acknowledged."""
    broker = Broker(wiped=False)
    broker.registers()
    broker.applies(*EARLIER[:2], _create(THREE), MovePartition(topic_id=TOPIC, partition=0, target=(ONE,)))
    since = broker.catalog.topics["t"].partitions[0].since
    group = broker.runs()
    assert group is not None
    as_of = broker.catalog.topology_index + 2
    members = Membership(frozenset((ONE,)), frozenset((THREE,)), as_of)
    group.log.append(Term(1), EntryKind.MEMBERSHIP, members.encode(), 0)
    group.turning.replica.parts.memberships.add(RaftIndex(group.log.last_index), members)
    broker.applies(FinishMove(topic_id=TOPIC, partition=0, target=(ONE,), since=since))
    assert broker.catalog.topology_index < as_of and broker.runs() is group
    broker.applies(MovePartition(topic_id=TOPIC, partition=0, target=(ONE, THREE)))
    assert broker.catalog.topology_index == as_of and broker.runs() is group
    broker.applies(MovePartition(topic_id=TOPIC, partition=0, target=(ONE, TWO)))
    since = broker.catalog.topics["t"].partitions[0].since
    broker.applies(FinishMove(topic_id=TOPIC, partition=0, target=(ONE, TWO), since=since))
    assert broker.runs() is None


def test_a_leader_that_knows_less_than_an_earlier_one_changes_nothing() -> None:
    broker = Broker(wiped=False)
    broker.registers()
    broker.applies(*EARLIER[:2], _create(THREE))
    broker.turns()
    group = broker.runs()
    assert group is not None and group.is_ready
    index = broker.catalog.topology_index
    newer = group.leading.propose_membership(
        Membership(frozenset((THREE,)), frozenset((ONE,)), index + 1), 30.0, lambda outcome, entry: None
    )
    assert isinstance(newer, Entry)
    upkeep = broker.upkeep
    for now in (31.0, 32.0, 33.0):
        broker.driver.turn(now)
        upkeep.begin(now)
        upkeep.tick(broker.replicas.partitions, now)
    assert group.membership.learners == {ONE}, "by its catalog broker 3 is alone"
    broker.applies(AlterTopicConfig(topic_id=TOPIC, set={}, remove=()))
    for now in (34.0, 35.0, 36.0):
        broker.driver.turn(now)
        upkeep.begin(now)
        upkeep.tick(broker.replicas.partitions, now)
    assert group.membership == Membership(frozenset((THREE,)))


def test_a_restart_goes_by_the_members_that_its_log_was_made_with() -> None:
    """Found by the simulation: a broker that had joined a group, and had nothing of it yet, started again
    with a catalog from before, when it had been a voter: with another such it elected itself."""
    broker = Broker(wiped=False)
    broker.registers()
    broker.applies(*EARLIER[:2], _create(ONE))
    broker.applies(MovePartition(topic_id=TOPIC, partition=0, target=(ONE, THREE)))
    group = broker.runs()
    assert group is not None and group.membership == Membership(frozenset((ONE,)), frozenset((THREE,)))
    assert not group.is_trusted, "it may have been a member before, and have deleted what it had"
    key = group_key(TOPIC, 0)
    log = broker.store.logs[key]
    again = Broker(wiped=False)
    again.store.create_log(key, "t-0", membership=log.memberships[0].payload)
    again.applies(*EARLIER, _create(ONE, TWO, THREE))  # and has not been told of more yet
    again.turns()
    group = again.runs()
    assert group is not None and group.membership == Membership(frozenset((ONE,)), frozenset((THREE,)))


MANY = 2 * STEP + 1


def _learns_of_many(broker: Broker) -> None:
    broker.applies(*EARLIER)
    broker.registers()
    broker.learns(CreateTopic(name="t", topic_id=TOPIC, partitions=((ONE, TWO, THREE),) * MANY))


def test_a_topic_of_many_partitions_is_made_and_deleted_in_steps() -> None:
    """A thousand logs and groups held the loop for 200 ms, and heartbeats with it."""
    broker = Broker(wiped=False)
    _learns_of_many(broker)
    counts = []
    while broker.replicas.reconcile(0.0):
        counts.append(len(broker.replicas.by_id))
    assert counts == [STEP, 2 * STEP]
    assert len(broker.replicas.by_id) == len(broker.driver.groups) == MANY

    broker.learns(DeleteTopic(topic_id=TOPIC))
    counts.clear()
    while broker.replicas.reconcile(0.0):
        counts.append(len(broker.replicas.by_id))
    assert counts == [MANY - STEP, MANY - 2 * STEP]
    assert not broker.replicas.by_id and not broker.driver.groups


def test_a_topic_that_is_deleted_between_two_steps_is_gone() -> None:
    broker = Broker(wiped=False)
    _learns_of_many(broker)
    assert broker.replicas.reconcile(0.0)
    broker.applies(DeleteTopic(topic_id=TOPIC))
    assert not broker.replicas.by_id and not broker.driver.groups


def test_a_folder_that_began_empty_stays_so_until_all_steps_are_done() -> None:
    """What is still to be made may have been lost with the folder, and may not vote."""
    broker = Broker(wiped=True)
    _learns_of_many(broker)
    assert broker.replicas.reconcile(0.0)
    broker.driver.groups.clear()  # all that there are would be trusted and led
    broker.replicas.note_rejoined()
    assert broker.store.is_rejoining
