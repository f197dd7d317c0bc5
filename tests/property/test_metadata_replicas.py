"""Commands at random: replicas agree, images come back whole, what is decoded never raises."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.errors import InvalidInput
from raftlog.metadata.acl_table import AclBinding
from raftlog.metadata.acls import CreateAcls, DeleteAcls
from raftlog.metadata.brokers import BrokerChanged, DrainBroker, FenceBroker, RegisterBroker, UnregisterBroker
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.cluster import InitializeCluster
from raftlog.metadata.commands import COMMANDS, decode_command, encode_command
from raftlog.metadata.features import ChooseFeatureLevel, SetFeature
from raftlog.metadata.group_table import Groups
from raftlog.metadata.groups import ChangeMembers, ForgetGroup, StoreGroup
from raftlog.metadata.moves import CancelMove, FinishMove, MovePartition
from raftlog.metadata.names import folded, topic_name_problem
from raftlog.metadata.noun import Command, Refused
from raftlog.metadata.offsets import (
    CommitOffsets,
    DeleteGroup,
    DeleteOffsets,
    ExpireOffsets,
    ExpireTopicOffsets,
    GroupCommit,
    OffsetCommit,
)
from raftlog.metadata.producers import AllocateProducerIds, ProducerIdsAllocated
from raftlog.metadata.quotas import AlterQuotas, QuotaChange
from raftlog.metadata.state import MetadataState
from raftlog.metadata.topics import (
    AlterTopicConfig,
    CreatePartitions,
    CreateTopic,
    DeleteTopic,
    PartitionsCreated,
    TopicCreated,
)
from raftlog.metadata.transaction_ends import (
    AbortTimedOut,
    CompleteTransaction,
    EndTransaction,
    EndTransactionAndEpoch,
)
from raftlog.metadata.transaction_table import Transactions, TransactionState
from raftlog.metadata.transactions import (
    AddToTransaction,
    ExpireTransactionalIds,
    InitProducer,
    StageOffsets,
)
from raftlog.metadata.users import AlterCredentials, NewCredential
from raftlog.types import BrokerId, RaftIndex

brokers = st.integers(0, 3).map(BrokerId)
ids = st.integers(1, 4).map(lambda number: number.to_bytes(16, "big"))
names = st.sampled_from(["a", "b", "a.b", "a_b", "", "..", "Ω"])
groups = st.sampled_from(["g", "h"])
numbers = st.integers(-1, 3)
replicas = st.lists(brokers, max_size=3).map(tuple)
partitions = st.lists(replicas, max_size=3).map(tuple)
configs = st.dictionaries(st.sampled_from(["retention.ms", "x"]), st.sampled_from(["1", "2"]), max_size=2)
keys = st.lists(st.sampled_from(["retention.ms", "x"]), max_size=2).map(tuple)
rules = st.lists(
    st.builds(
        AclBinding,
        st.sampled_from([2, 3, 4, 9]),
        st.sampled_from([3, 4]),
        st.sampled_from(["a", "ab", "*", ""]),
        st.sampled_from(["User:a", "User:*"]),
        st.just("*"),
        st.sampled_from([2, 3]),
        st.sampled_from([2, 3]),
    ),
    max_size=3,
).map(tuple)
offset = st.builds(
    OffsetCommit, topic=names, partition=numbers, offset=numbers, leader_epoch=numbers, metadata=st.just("m")
)
commit = st.builds(
    GroupCommit, group=groups, timestamp_ms=st.integers(0, 9), offsets=st.lists(offset, max_size=4).map(tuple)
)
member = st.sampled_from(["", "a", "b"])
members = st.lists(st.tuples(member, st.binary(max_size=2)), max_size=3).map(tuple)
tx = st.sampled_from(["t", "u"])
producer: dict[str, st.SearchStrategy[Any]] = {
    "transactional_id": tx,
    "producer_id": st.integers(0, 3),
    "epoch": st.integers(0, 3),
}
credential = st.builds(
    NewCredential,
    user=groups,
    mechanism=st.sampled_from(["SCRAM-SHA-256", "SCRAM"]),
    salt=st.just(b"saltsalt"),
    iterations=st.sampled_from([4095, 4096]),
    stored_key=st.just(bytes(32)),
    server_key=st.just(bytes(32)),
)
fields_of: dict[type[Command], dict[str, st.SearchStrategy[Any]]] = {
    RegisterBroker: {
        "broker_id": brokers,
        "incarnation": ids,
        "host": st.just("h"),
        "port": st.just(1),
        "peer_host": st.just("p"),
        "peer_port": st.just(2),
        "rack": st.sampled_from([None, "r"]),
    },
    CreateTopic: {"name": names, "topic_id": ids, "partitions": partitions, "configs": configs},
    InitializeCluster: {"cluster_id": st.sampled_from(["", "c", "d"])},
    FenceBroker: {"broker_id": brokers, "incarnation": ids, "fenced": st.booleans()},
    DrainBroker: {"broker_id": brokers, "draining": st.booleans()},
    UnregisterBroker: {"broker_id": brokers},
    DeleteTopic: {"topic_id": ids},
    CreatePartitions: {"topic_id": ids, "existing": numbers, "partitions": partitions},
    AlterTopicConfig: {"topic_id": ids, "set": configs, "remove": keys},
    MovePartition: {"topic_id": ids, "partition": numbers, "target": replicas},
    FinishMove: {"topic_id": ids, "partition": numbers, "target": replicas},
    CancelMove: {"topic_id": ids, "partition": numbers},
    CommitOffsets: {"commits": st.lists(commit, max_size=3).map(tuple)},
    DeleteOffsets: {
        "group": groups,
        "partitions": st.lists(st.tuples(names, numbers), max_size=3).map(tuple),
    },
    DeleteGroup: {"group": groups},
    ExpireOffsets: {"groups": st.lists(groups, max_size=3).map(tuple), "before_ms": st.integers(0, 9)},
    ExpireTopicOffsets: {
        "group": groups,
        "topics": st.lists(names, max_size=3).map(tuple),
        "before_ms": st.integers(0, 9),
    },
    AllocateProducerIds: {"broker_id": brokers, "count": st.integers(-1, 5)},
    StoreGroup: {
        "group": groups,
        "generation": numbers,
        "protocol": st.sampled_from([None, "range"]),
        "leader": member,
        "members": members,
        "at_ms": st.integers(0, 9),
    },
    ChangeMembers: {
        "group": groups,
        "generation": numbers,
        "gone": st.lists(member, max_size=2).map(tuple),
        "come": members,
        "leader": member,
    },
    ForgetGroup: {"group": groups},
    InitProducer: {
        "transactional_id": tx,
        "timeout_ms": st.integers(0, 2),
        "producer_id": st.integers(-1, 3),
        "epoch": st.integers(-1, 4),
        "at_ms": st.integers(0, 9),
    },
    AddToTransaction: {
        **producer,
        "partitions": st.lists(st.tuples(ids, numbers), max_size=2).map(tuple),
        "groups": st.lists(groups, max_size=2).map(tuple),
        "at_ms": st.integers(0, 9),
    },
    StageOffsets: {
        **producer,
        "group": groups,
        "offsets": st.lists(offset, max_size=2).map(tuple),
        "at_ms": st.integers(0, 9),
    },
    EndTransaction: {**producer, "commit": st.booleans(), "at_ms": st.integers(0, 9)},
    EndTransactionAndEpoch: {**producer, "commit": st.booleans(), "at_ms": st.integers(0, 9)},
    AbortTimedOut: {"transactional_id": tx, "begun_at": numbers, "at_ms": st.integers(0, 9)},
    CompleteTransaction: {"transactional_id": tx, "decided_at": numbers, "at_ms": st.integers(0, 9)},
    ExpireTransactionalIds: {
        "transactional_ids": st.lists(tx, max_size=2).map(tuple),
        "before_ms": st.integers(0, 9),
    },
    ChooseFeatureLevel: {
        "name": st.sampled_from(["", "transaction.version"]),
        "level": st.integers(0, 3),
    },
    CreateAcls: {"bindings": rules},
    AlterQuotas: {
        "changes": st.lists(
            st.builds(
                QuotaChange,
                entity=st.sampled_from(
                    [(("user", "a"),), (("user", None),), (("client-id", "c"), ("user", "a")), ()]
                ),
                values=st.dictionaries(
                    st.sampled_from(["producer_byte_rate", "x"]), st.sampled_from(["1.5", "", "nan", "-1"])
                ),
            ),
            max_size=3,
        ).map(tuple)
    },
    DeleteAcls: {"bindings": rules},
    AlterCredentials: {
        "phantom_key": st.sampled_from([b"", bytes(32), b"1" * 32]),
        "put": st.lists(credential, max_size=2).map(tuple),
        "drop": st.lists(st.tuples(groups, st.just("SCRAM-SHA-256")), max_size=2).map(tuple),
        "only_first": st.booleans(),
    },
    SetFeature: {"name": st.sampled_from(["", "f"]), "level": st.integers(-1, 2)},
}
commands: st.SearchStrategy[Command] = st.one_of(
    [st.builds(kind, **drawn) for kind, drawn in fields_of.items()]
)
grounds = [
    RegisterBroker(
        broker_id=BrokerId(number),
        incarnation=bytes(15) + b"\x01",
        host="h",
        port=1,
        peer_host="p",
        peer_port=2,
    )
    for number in range(3)
]


def test_every_command_is_drawn() -> None:
    assert set(fields_of) == set(COMMANDS.values())


def check_catalog(catalog: Catalog) -> None:
    """What holds of every catalog, whatever was applied."""
    assert {topic.topic_id: topic for topic in catalog.topics.values()} == catalog.topics_by_id
    assert len({folded(name) for name in catalog.topics}) == len(catalog.topics)
    for name, topic in catalog.topics.items():
        assert name == topic.name and topic_name_problem(name) is None and topic.partitions
        for assignment in topic.partitions:
            assert assignment.replicas
            assert len(set(assignment.hosts)) == len(assignment.hosts)
            assert set(assignment.hosts) <= set(catalog.brokers)
            assert assignment.is_moving == bool(assignment.adding or assignment.removing)
    for group in catalog.groups:
        assert (kept := catalog.groups.get(group)) is not None and kept.generation >= 0
    again = Groups()
    for group in catalog.groups:
        again.put(group, catalog.groups.get(group))  # type: ignore[arg-type]
    assert again.bytes == catalog.groups.bytes
    for name in catalog.transactions:
        value = catalog.transactions.get(name)
        assert value is not None and value.epoch >= 0 and value.producer_id < catalog.next_producer_id
        assert (name in set(catalog.transactions.prepared)) == value.state.is_prepared
        assert (name in set(catalog.transactions.ongoing)) == (value.state is TransactionState.ONGOING)
        assert not value.state.is_prepared or value.partitions
        assert not value.staged or value.state is TransactionState.ONGOING
    table = Transactions()
    for name in catalog.transactions:
        table.put(name, catalog.transactions.get(name))  # type: ignore[arg-type]
    assert table.bytes == catalog.transactions.bytes
    for group in catalog.group_offsets:
        offsets = catalog.group_offsets.of(group)
        assert offsets, "a group without offsets is not kept"
        for name, partition in offsets:
            assert partition < len(catalog.topics[name].partitions)


@settings(max_examples=150, deadline=None)
@given(sequence=st.lists(commands, max_size=40), snapshot_at=st.integers(0, 40))
def test_replicas_agree_and_the_catalog_makes_sense(sequence: list[Command], snapshot_at: int) -> None:
    leader, follower = MetadataState(), MetadataState()
    for index, command in enumerate([*grounds, *sequence], 1):
        if index == snapshot_at:  # a follower that was away: it gets a snapshot
            away, follower = follower, MetadataState()
            follower.restore(leader.to_bytes())
            assert follower.catalog == leader.catalog == away.catalog
        before, topology = leader.to_bytes(), leader.catalog.topology_index
        decoded = decode_command(encode_command(command))
        assert decoded == command
        result = leader.apply(command, RaftIndex(index))
        assert follower.apply(decoded, RaftIndex(index)) == result
        assert leader.digest() == follower.digest()
        check_catalog(leader.catalog)
        if isinstance(result, Refused):
            leader_again = MetadataState()
            leader_again.restore(before)
            leader_again.catalog.applied_index = RaftIndex(index)
            assert leader_again.catalog == leader.catalog, "a refusal changes nothing"
            assert leader.catalog.topology_index == topology
        if isinstance(result, TopicCreated | PartitionsCreated):
            assert leader.catalog.topic(result.topic.topic_id) == result.topic


@settings(max_examples=150, deadline=None)
@given(
    sequence=st.lists(commands, max_size=40), begin_at=st.integers(1, 20), costs=st.lists(st.integers(1, 5))
)
def test_a_snapshot_in_steps_is_of_when_it_was_begun(
    sequence: list[Command], begin_at: int, costs: list[int]
) -> None:
    state = MetadataState()
    then, image = b"", None
    for index, command in enumerate([*grounds, *sequence], 1):
        state.apply(command, RaftIndex(index))
        if index == begin_at:
            then = state.digest()
            state.imaging.begin()
        if state.imaging.is_under_way and costs:
            image = state.imaging.step(costs.pop()) or image
    while state.imaging.is_under_way:
        image = state.imaging.step(3)
    if image is not None:
        restored = MetadataState()
        restored.restore(image)
        assert restored.digest() == then


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(-2, 100), max_size=30))
def test_no_producer_id_is_given_twice(counts: list[int]) -> None:
    state = MetadataState()
    given_out: set[int] = set()
    for index, count in enumerate(counts, 1):
        result = state.apply(AllocateProducerIds(broker_id=BrokerId(1), count=count), RaftIndex(index))
        if isinstance(result, ProducerIdsAllocated):
            block = set(range(result.first, result.first + result.count))
            assert len(block) == count and not block & given_out
            given_out |= block
        else:
            assert isinstance(result, Refused) and count < 1


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_is_decoded_is_applied_and_the_rest_is_refused(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(COMMANDS)))
    cls: Any = COMMANDS[kind]
    shape = {field.name: plain | _plausible(get_type_hints(cls)[field.name]) for field in fields(cls)}
    body = data.draw(st.fixed_dictionaries({}, optional=shape))
    state = MetadataState()
    for index, ground in enumerate(grounds, 1):
        assert isinstance(state.apply(ground, RaftIndex(index)), BrokerChanged)
    try:
        command = decode_command(cbor2.dumps([1, kind, body]))
    except InvalidInput:
        return
    state.apply(command, RaftIndex(9))
    check_catalog(state.catalog)


def _plausible(annotation: object) -> st.SearchStrategy[object]:
    if annotation is str:
        return st.text(max_size=3)
    if annotation in (int, BrokerId):
        return st.integers(-3, 3)
    if annotation is bytes:
        return st.binary(min_size=16, max_size=16)
    return st.just([]) | st.just([[1, 2]]) | st.just({}) | st.booleans()


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=60), at=st.integers(0, 200), command=commands)
def test_bytes_that_are_no_command_are_invalid_input(data: bytes, at: int, command: Command) -> None:
    good = encode_command(command)
    damaged = good[:at] + data + good[at + len(data) :]
    for candidate in (data, good[: at % len(good)], good + data, damaged):
        try:
            decoded = decode_command(candidate)
        except InvalidInput:
            continue
        # A command that could be decoded is a command: it can be encoded and applied.
        assert decode_command(encode_command(decoded)) == decoded
        MetadataState().apply(decoded, RaftIndex(1))
