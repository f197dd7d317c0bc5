"""The metadata state machine by example: what each command does, and what it is refused for."""

from __future__ import annotations

from dataclasses import replace

import cbor2
import pytest

from raftlog.errors import InvalidInput
from raftlog.metadata.brokers import (
    REMOVED_BROKERS_MAX,
    BrokerChanged,
    BrokerUnregistered,
    DrainBroker,
    FenceBroker,
    RegisterBroker,
    UnregisterBroker,
)
from raftlog.metadata.catalog import PartitionAssignment
from raftlog.metadata.cluster import ClusterInitialized, InitializeCluster
from raftlog.metadata.commands import decode_command, encode_command
from raftlog.metadata.features import FeatureSet, SetFeature
from raftlog.metadata.moves import CancelMove, FinishMove, MovePartition, PartitionMoved
from raftlog.metadata.noun import Command, Refusal, Refused, Result
from raftlog.metadata.offset_table import CommittedOffset
from raftlog.metadata.offsets import (
    CommitOffsets,
    DeleteGroup,
    DeleteOffsets,
    ExpireOffsets,
    ExpireTopicOffsets,
    GroupCommit,
    OffsetCommit,
    OffsetsCommitted,
    OffsetsDeleted,
)
from raftlog.metadata.producers import PRODUCER_ID_MAX, AllocateProducerIds, ProducerIdsAllocated
from raftlog.metadata.state import MetadataState
from raftlog.metadata.topics import (
    DELETED_TOPICS_MAX,
    AlterTopicConfig,
    CreatePartitions,
    CreateTopic,
    DeleteTopic,
    PartitionsCreated,
    TopicConfigAltered,
    TopicCreated,
    TopicDeleted,
)
from raftlog.types import METADATA_TOPIC_ID, BrokerId, RaftIndex

B1, B2, B3, B4 = (BrokerId(number) for number in (1, 2, 3, 4))
ORDERS, REFUNDS = b"orders".ljust(16), b"refunds".ljust(16)
OLD, NEW = b"old".ljust(16), b"new".ljust(16)


def register(broker: BrokerId, incarnation: bytes = OLD, host: str = "h") -> RegisterBroker:
    return RegisterBroker(
        broker_id=broker, incarnation=incarnation, host=host, port=9092, peer_host=host, peer_port=9192
    )


def create(name: str = "orders", topic_id: bytes = ORDERS, *partitions: tuple[BrokerId, ...]) -> CreateTopic:
    return CreateTopic(name=name, topic_id=topic_id, partitions=partitions or ((B1, B2), (B2, B1)))


class Log:
    """A state and the next index."""

    def __init__(self) -> None:
        self.state = MetadataState()
        self.catalog = self.state.catalog
        for broker in (B1, B2, B3):
            self.apply(register(broker))

    def apply(self, command: Command) -> Result:
        return self.state.apply(command, RaftIndex(self.catalog.applied_index + 1))

    def refusal(self, command: Command) -> Refusal:
        result = self.apply(command)
        assert isinstance(result, Refused), result
        assert result.detail
        return result.reason

    def finish(self, topic: str, partition: int) -> FinishMove:
        """What the partition's leader proposes when the move that is under way now has been made."""
        found = self.catalog.topics[topic]
        moving = found.partitions[partition]
        return FinishMove(
            topic_id=found.topic_id, partition=partition, target=moving.target, since=moving.since
        )

    def commit(self, group: str, topic: str, partition: int, offset: int, at_ms: int = 0) -> Result:
        offsets = (OffsetCommit(topic, partition, offset, 5, "note"),)
        return self.apply(CommitOffsets(commits=(GroupCommit(group, at_ms, offsets),)))


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_cluster_is_named_once(log: Log) -> None:
    assert log.refusal(InitializeCluster(cluster_id="")) is Refusal.INVALID_VALUE
    assert log.apply(InitializeCluster(cluster_id="c")) == ClusterInitialized("c")
    assert log.apply(InitializeCluster(cluster_id="c")) == ClusterInitialized("c")
    assert log.refusal(InitializeCluster(cluster_id="d")) is Refusal.CLUSTER_NAMED
    assert log.catalog.cluster_id == "c"


def test_a_broker_that_starts_again_replaces_itself(log: Log) -> None:
    first = log.catalog.brokers[B1]
    log.apply(FenceBroker(broker_id=B1, incarnation=OLD, fenced=True))
    log.apply(DrainBroker(broker_id=B1, draining=True))
    again = log.apply(register(B1, NEW, "elsewhere"))
    assert isinstance(again, BrokerChanged)
    assert again.broker.host == "elsewhere"
    assert again.broker.registered_index > first.registered_index
    assert not again.broker.fenced
    assert again.broker.draining, "a broker that is being emptied stays so"
    assert log.refusal(FenceBroker(broker_id=B1, incarnation=OLD, fenced=True)) is Refusal.STALE_INCARNATION


def test_a_registration_that_is_repeated_keeps_its_index(log: Log) -> None:
    index = log.catalog.brokers[B1].registered_index
    log.apply(register(B1))
    assert log.catalog.brokers[B1].registered_index == index


def test_malformed_registrations_are_refused(log: Log) -> None:
    assert log.refusal(register(BrokerId(-1))) is Refusal.INVALID_VALUE
    assert log.refusal(register(B4, b"short")) is Refusal.INVALID_VALUE
    assert log.refusal(register(BrokerId(2**31))) is Refusal.INVALID_VALUE
    assert log.refusal(register(B4, host="h" * 256)) is Refusal.INVALID_VALUE


def test_fenced_and_draining_brokers_get_nothing_new(log: Log) -> None:
    log.apply(FenceBroker(broker_id=B1, incarnation=OLD, fenced=True))
    log.apply(DrainBroker(broker_id=B2, draining=True))
    assert [broker.id for broker in log.catalog.usable_brokers()] == [B3]
    log.apply(FenceBroker(broker_id=B1, incarnation=OLD, fenced=False))
    assert [broker.id for broker in log.catalog.usable_brokers()] == [B1, B3]
    assert log.refusal(DrainBroker(broker_id=B4, draining=True)) is Refusal.UNKNOWN_BROKER
    assert log.refusal(FenceBroker(broker_id=B4, incarnation=OLD, fenced=True)) is Refusal.UNKNOWN_BROKER


def test_a_broker_is_found_by_the_listener_that_is_asked_for(log: Log) -> None:
    several = (("IN", "10.0.0.1", 1), ("OUT", "example.org", 2))
    log.apply(replace(register(B1, NEW, "10.0.0.1"), listeners=several))
    restored = MetadataState()
    restored.restore(log.state.to_bytes())
    broker = restored.catalog.brokers[B1]
    assert broker.listeners == several
    assert (broker.address("OUT"), broker.address("IN")) == (("example.org", 2), ("10.0.0.1", 1))
    assert broker.address("NEW") == (broker.host, broker.port)
    log.apply(register(B1, OLD))
    assert log.catalog.brokers[B1].address("OUT") == ("h", 9092)


def test_what_nobody_uses_is_not_written() -> None:
    """So that a build without a field reads the commands of one that has it, until it is used."""
    command = register(B1)
    version, kind, body = cbor2.loads(encode_command(command))
    assert not {"listeners", "rack"} & set(body)
    assert decode_command(cbor2.dumps([version, kind, body | {"rack": None}])) == command
    several = replace(command, listeners=(("IN", "h", 1), ("OUT", "h", 2)), rack="a")
    assert decode_command(encode_command(several)) == several


def test_a_broker_with_replicas_is_not_forgotten(log: Log) -> None:
    log.apply(create("orders", ORDERS, (B1,)))
    assert log.refusal(UnregisterBroker(broker_id=B1)) is Refusal.BROKER_HAS_REPLICAS
    log.apply(MovePartition(topic_id=ORDERS, partition=0, target=(B2,)))
    assert log.refusal(UnregisterBroker(broker_id=B2)) is Refusal.BROKER_HAS_REPLICAS
    log.apply(log.finish("orders", 0))
    assert isinstance(log.apply(UnregisterBroker(broker_id=B1)), BrokerUnregistered)
    assert log.refusal(UnregisterBroker(broker_id=B1)) is Refusal.UNKNOWN_BROKER


def test_it_is_known_which_broker_was_removed_until_it_comes_back(log: Log) -> None:
    """One that has not come yet keeps the vote that the founders gave it; one that was removed does not."""
    log.apply(UnregisterBroker(broker_id=B1))
    log.state.restore(log.state.to_bytes())
    assert list(log.catalog.removed_brokers) == [B1]
    log.apply(register(B1, NEW))
    assert not log.catalog.removed_brokers
    for number in range(10, 10 + REMOVED_BROKERS_MAX + 1):
        log.apply(register(BrokerId(number)))
        log.apply(UnregisterBroker(broker_id=BrokerId(number)))
    assert list(log.catalog.removed_brokers) == [*range(11, 11 + REMOVED_BROKERS_MAX)]


def test_a_topic_is_created_once(log: Log) -> None:
    created = log.apply(create())
    assert isinstance(created, TopicCreated)
    topic = log.catalog.topics["orders"]
    assert created.topic is topic is log.catalog.topics_by_id[ORDERS]
    assert topic.partitions == (PartitionAssignment((B1, B2)), PartitionAssignment((B2, B1)))
    assert topic.partitions[1].preferred_leader == B2
    assert topic.replication_factor == 2
    assert not topic.is_internal
    assert log.apply(create()) == created, "the same proposal, repeated"
    assert log.refusal(create(topic_id=REFUNDS)) is Refusal.TOPIC_EXISTS


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (create("a b"), Refusal.INVALID_TOPIC),
        (create("x.y", REFUNDS), Refusal.INVALID_TOPIC),
        (create("z", b"short"), Refusal.INVALID_TOPIC),
        (create("z", bytes(16)), Refusal.INVALID_TOPIC),
        (create("z", METADATA_TOPIC_ID), Refusal.INVALID_TOPIC),
        (create("z", ORDERS), Refusal.INVALID_TOPIC),
        (CreateTopic(name="z", topic_id=REFUNDS, partitions=()), Refusal.INVALID_PARTITIONS),
        (create("z", REFUNDS, ()), Refusal.INVALID_REPLICAS),
        (create("z", REFUNDS, (B1, B1)), Refusal.INVALID_REPLICAS),
        (create("z", REFUNDS, (B1, B4)), Refusal.INVALID_REPLICAS),
    ],
)
def test_topics_are_refused_with_the_reason(log: Log, command: CreateTopic, reason: Refusal) -> None:
    log.apply(create("x_y", ORDERS))
    topology = log.catalog.topology_index
    assert log.refusal(command) is reason
    assert log.catalog.topology_index == topology


def test_a_creation_that_is_proposed_again_does_not_bring_a_deleted_topic_back(log: Log) -> None:
    """Found by the simulation: its answer was lost, another client deleted the topic, and the repeated
    proposal made it again, under the same id; replicas that had not deleted theirs yet kept old records."""
    log.apply(create())
    log.apply(DeleteTopic(topic_id=ORDERS))
    log.state.restore(log.state.to_bytes())
    assert log.refusal(create()) is Refusal.UNKNOWN_TOPIC
    for number in range(DELETED_TOPICS_MAX):
        id = number.to_bytes(16, "big") if number else b"z" * 16
        log.apply(create("other", id))
        log.apply(DeleteTopic(topic_id=id))
    assert len(log.catalog.deleted_topics) == DELETED_TOPICS_MAX


def test_a_deleted_topic_takes_the_groups_offsets_along(log: Log) -> None:
    log.apply(create())
    log.apply(create("refunds", REFUNDS, (B1,)))
    log.commit("g", "orders", 0, 10)
    log.commit("g", "refunds", 0, 20)
    log.commit("h", "orders", 1, 30)
    assert isinstance(log.apply(DeleteTopic(topic_id=ORDERS)), TopicDeleted)
    assert log.catalog.topic("orders") is log.catalog.topic(ORDERS) is None
    assert list(log.catalog.group_offsets) == ["g"]
    assert log.catalog.committed_offset("g", "refunds", 0) == CommittedOffset(20, 5, "note", 0)
    assert log.refusal(DeleteTopic(topic_id=ORDERS)) is Refusal.UNKNOWN_TOPIC
    recreated = log.apply(create("orders", b"another".ljust(16)))
    assert isinstance(recreated, TopicCreated)
    assert log.catalog.committed_offset("g", "orders", 0) is None


def test_partitions_are_added_to_as_many_as_were_seen(log: Log) -> None:
    log.apply(create())
    more = CreatePartitions(topic_id=ORDERS, existing=2, partitions=((B3,),))
    added = log.apply(more)
    assert isinstance(added, PartitionsCreated)
    assert added.first == 2
    assert len(log.catalog.topics["orders"].partitions) == 3
    assert log.refusal(more) is Refusal.INVALID_PARTITIONS
    none = CreatePartitions(topic_id=ORDERS, existing=3, partitions=())
    assert log.refusal(none) is Refusal.INVALID_PARTITIONS
    bad = CreatePartitions(topic_id=ORDERS, existing=3, partitions=((B4,),))
    assert log.refusal(bad) is Refusal.INVALID_REPLICAS


def test_settings_are_removed_and_set(log: Log) -> None:
    log.apply(create())
    log.apply(AlterTopicConfig(topic_id=ORDERS, set={"a": "1", "b": "2"}))
    altered = log.apply(AlterTopicConfig(topic_id=ORDERS, set={"b": "3"}, remove=("a", "b", "c")))
    assert isinstance(altered, TopicConfigAltered)
    assert log.catalog.topics["orders"].configs == {"b": "3"}


def test_a_partition_moves(log: Log) -> None:
    log.apply(create("orders", ORDERS, (B1, B2)))
    assert isinstance(log.apply(MovePartition(topic_id=ORDERS, partition=0, target=(B3, B2))), PartitionMoved)
    moving = log.catalog.topics["orders"].partitions[0]
    assert moving.is_moving
    assert (moving.adding, moving.removing, moving.hosts) == ((B3,), (B1,), (B1, B2, B3))
    assert [topic.name for topic, _ in log.catalog.hosted_by(B3)] == ["orders"]
    stale = FinishMove(topic_id=ORDERS, partition=0, target=(B2,), since=moving.since)
    assert log.refusal(stale) is Refusal.NO_MOVE
    done = log.finish("orders", 0)
    log.apply(done)
    assert log.catalog.topics["orders"].partitions[0] == PartitionAssignment((B3, B2))
    assert isinstance(log.apply(done), PartitionMoved), "the same proposal, repeated"


def test_a_move_is_given_up(log: Log) -> None:
    log.apply(create("orders", ORDERS, (B1, B2)))
    assert log.refusal(CancelMove(topic_id=ORDERS, partition=0)) is Refusal.NO_MOVE
    log.apply(MovePartition(topic_id=ORDERS, partition=0, target=(B3,)))
    log.apply(CancelMove(topic_id=ORDERS, partition=0))
    back = log.catalog.topics["orders"].partitions[0]
    assert (back.replicas, back.target, back.removing, back.hosts) == (
        (B1, B2),
        (B1, B2),
        (B3,),
        (B1, B2, B3),
    )
    log.apply(log.finish("orders", 0))
    assert log.catalog.topics["orders"].partitions[0] == PartitionAssignment((B1, B2))
    assert log.refusal(CancelMove(topic_id=ORDERS, partition=1)) is Refusal.UNKNOWN_PARTITION
    assert log.refusal(MovePartition(topic_id=ORDERS, partition=0, target=())) is Refusal.INVALID_REPLICAS


def test_a_target_that_is_given_up_keeps_its_replicas_until_the_next_is_reached(log: Log) -> None:
    """The group may have moved by then: its majority is where the old target is. Found by the simulation:
    whoever the catalog no longer named deleted what only it had."""
    log.apply(create("orders", ORDERS, (B1,)))
    log.apply(MovePartition(topic_id=ORDERS, partition=0, target=(B2,)))
    early = log.finish("orders", 0)
    log.apply(MovePartition(topic_id=ORDERS, partition=0, target=(B3,)))
    moving = log.catalog.topics["orders"].partitions[0]
    assert (moving.adding, moving.removing, moving.hosts) == ((B3,), (B1, B2), (B1, B3, B2))
    assert log.refusal(early) is Refusal.NO_MOVE
    log.apply(MovePartition(topic_id=ORDERS, partition=0, target=(B2,)))
    assert log.refusal(early) is Refusal.NO_MOVE, "the group may have gone on to the third broker since"
    log.apply(log.finish("orders", 0))
    assert log.catalog.topics["orders"].partitions[0] == PartitionAssignment((B2,))


def test_another_order_is_another_preferred_leader_at_once(log: Log) -> None:
    log.apply(create("orders", ORDERS, (B1, B2)))
    log.apply(MovePartition(topic_id=ORDERS, partition=0, target=(B2, B1)))
    assert log.catalog.topics["orders"].partitions[0] == PartitionAssignment((B2, B1))


def test_offsets_of_partitions_that_are_not_there_are_not_kept(log: Log) -> None:
    log.apply(create("orders", ORDERS, (B1,)))
    topology = log.catalog.topology_index
    assert log.commit("g", "orders", 0, 10) == OffsetsCommitted()
    assert log.commit("g", "orders", 1, 10) == OffsetsCommitted((("g", "orders", 1),))
    assert log.commit("h", "gone", 0, 10) == OffsetsCommitted((("h", "gone", 0),))
    assert list(log.catalog.group_offsets) == ["g"]
    assert log.catalog.topology_index == topology, "offsets leave cached Metadata answers valid"


def test_offsets_are_deleted_one_by_one_and_by_group(log: Log) -> None:
    log.apply(create())
    for partition in (0, 1):
        log.commit("g", "orders", partition, 10)
    some = DeleteOffsets(group="g", partitions=(("orders", 0), ("orders", 7)))
    assert log.apply(some) == OffsetsDeleted(1)
    assert log.apply(DeleteGroup(group="g")) == OffsetsDeleted(1)
    assert len(log.catalog.group_offsets) == 0
    assert log.refusal(DeleteGroup(group="g")) is Refusal.UNKNOWN_GROUP
    assert log.refusal(some) is Refusal.UNKNOWN_GROUP


def test_old_offsets_of_the_named_groups_expire(log: Log) -> None:
    log.apply(create())
    log.commit("g", "orders", 0, 1, at_ms=100)
    log.commit("g", "orders", 1, 1, at_ms=200)
    log.commit("h", "orders", 0, 1, at_ms=100)
    assert log.apply(ExpireOffsets(groups=("g", "nobody"), before_ms=200)) == OffsetsDeleted(1)
    assert log.catalog.committed_offset("g", "orders", 1) is not None
    assert log.catalog.committed_offset("h", "orders", 0) is not None


def test_old_offsets_of_topics_that_a_group_does_not_read_any_more_expire(log: Log) -> None:
    log.apply(create())
    log.apply(create("refunds", REFUNDS))
    for topic in ("orders", "refunds"):
        log.commit("g", topic, 0, 1, at_ms=100)
        log.commit("g", topic, 1, 1, at_ms=200)
    expire = ExpireTopicOffsets(group="g", topics=("orders", "gone"), before_ms=200)
    assert log.apply(expire) == OffsetsDeleted(1)
    assert log.catalog.committed_offset("g", "orders", 0) is None
    assert log.catalog.committed_offset("g", "orders", 1) is not None
    assert log.catalog.committed_offset("g", "refunds", 0) is not None
    assert log.apply(ExpireTopicOffsets(group="h", topics=("orders",), before_ms=200)) == OffsetsDeleted(0)


def test_producer_ids_end(log: Log) -> None:
    assert log.apply(AllocateProducerIds(broker_id=B1)) == ProducerIdsAllocated(0, 1000)
    assert log.apply(AllocateProducerIds(broker_id=B2, count=5)) == ProducerIdsAllocated(1000, 5)
    log.catalog.next_producer_id = PRODUCER_ID_MAX - 3
    assert log.refusal(AllocateProducerIds(broker_id=B2, count=5)) is Refusal.INVALID_VALUE


def test_features_have_levels(log: Log) -> None:
    assert log.apply(SetFeature(name="f", level=2)) == FeatureSet("f", 2)
    assert log.catalog.features == {"f": 2}
    log.apply(SetFeature(name="f", level=0))
    assert log.catalog.features == {}
    assert log.refusal(SetFeature(name="f", level=-1)) is Refusal.INVALID_VALUE
    assert log.refusal(SetFeature(name="f", level=2**15)) is Refusal.INVALID_VALUE
    assert log.refusal(SetFeature(name="f" * 250, level=1)) is Refusal.INVALID_VALUE


def test_a_restored_state_is_the_same_and_keeps_its_catalog(log: Log) -> None:
    log.apply(InitializeCluster(cluster_id="c"))
    log.apply(create())
    log.commit("g", "orders", 0, 10)
    log.apply(MovePartition(topic_id=ORDERS, partition=0, target=(B3,)))
    other = Log()
    held = other.catalog
    other.state.restore(log.state.to_bytes())
    assert other.state.catalog is held
    assert held == log.catalog
    assert other.state.digest() == log.state.digest()
    assert repr(other.state) == "<MetadataState applied=7 brokers=3 topics=1 groups=1>"
    log.commit("g", "orders", 0, 11)
    assert other.state.digest() != log.state.digest()
    assert held.group_offsets.rows("g", "orders")[0].offset == 10


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x83\x00gcatalog\xa0", b"\x83\x01gcatalog\xa0"])
def test_what_is_not_a_state_is_not_restored(log: Log, data: bytes) -> None:
    before = log.state.digest()
    with pytest.raises(InvalidInput):
        log.state.restore(data)
    assert log.state.digest() == before
