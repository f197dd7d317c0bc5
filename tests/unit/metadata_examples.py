"""One command of each kind, and a history that fills every part of the catalog."""

from __future__ import annotations

from typing import Final

from raftlog.metadata.acl_table import AclBinding
from raftlog.metadata.acls import CreateAcls, DeleteAcls
from raftlog.metadata.brokers import DrainBroker, FenceBroker, RegisterBroker, UnregisterBroker
from raftlog.metadata.cluster import InitializeCluster
from raftlog.metadata.features import ChooseFeatureLevel, SetFeature
from raftlog.metadata.groups import ChangeMembers, ForgetGroup, StoreGroup
from raftlog.metadata.moves import CancelMove, FinishMove, MovePartition
from raftlog.metadata.noun import Command
from raftlog.metadata.offsets import (
    CommitOffsets,
    DeleteGroup,
    DeleteOffsets,
    ExpireOffsets,
    ExpireTopicOffsets,
    GroupCommit,
    OffsetCommit,
)
from raftlog.metadata.producers import AllocateProducerIds
from raftlog.metadata.quotas import AlterQuotas, QuotaChange
from raftlog.metadata.state import MetadataState
from raftlog.metadata.topics import AlterTopicConfig, CreatePartitions, CreateTopic, DeleteTopic
from raftlog.metadata.transaction_ends import (
    AbortTimedOut,
    CompleteTransaction,
    EndTransaction,
    EndTransactionAndEpoch,
)
from raftlog.metadata.transactions import (
    AddToTransaction,
    ExpireTransactionalIds,
    InitProducer,
    StageOffsets,
)
from raftlog.metadata.users import AlterCredentials, NewCredential
from raftlog.types import BrokerId, RaftIndex

B1, B2, B3, B4 = (BrokerId(number) for number in (1, 2, 3, 4))
ORDERS, REFUNDS = b"orders".ljust(16), b"refunds".ljust(16)
AT_MS: Final = 1_700_000_000_000
PROCESS: Final = bytes(range(16))


ALLOWED: Final = AclBinding(2, 4, "ord", "User:alice", "*", 3, 3)
QUOTAS: Final[tuple[Command, ...]] = (
    AlterQuotas(
        changes=(
            QuotaChange(
                entity=(("client-id", None), ("user", "alice")),
                values={"producer_byte_rate": "1024.0", "request_percentage": "12.5"},
            ),
            QuotaChange(entity=(("ip", "10.0.0.1"),), values={"connection_creation_rate": "5.0"}),
        )
    ),
)
DENIED: Final = AclBinding(3, 3, "billing", "User:*", "10.0.0.1", 2, 2)


def register(number: int, **changed: object) -> RegisterBroker:
    said: dict[str, object] = {
        "broker_id": BrokerId(number),
        "incarnation": PROCESS,
        "host": f"host-{number}",
        "port": 9092,
        "peer_host": f"peer-{number}",
        "peer_port": 9192,
    }
    return RegisterBroker(**(said | changed))  # type: ignore[arg-type]


def create(name: str, topic_id: bytes) -> CreateTopic:
    return CreateTopic(
        name=name,
        topic_id=topic_id,
        partitions=((B1, B2), (B2, B3)),
        configs={"retention.ms": "5", "cleanup.policy": "delete"},
    )


def commit(group: str, topic: str, partition: int, offset: int) -> GroupCommit:
    return GroupCommit(group, 1_700_000_000_000, (OffsetCommit(topic, partition, offset, 3, "né"),))


def store_group(group: str, generation: int, *members: str) -> StoreGroup:
    return StoreGroup(
        group=group,
        generation=generation,
        protocol_type="consumer",
        protocol="range",
        leader=members[0] if members else "",
        members=tuple((member, f"row of {member}".encode()) for member in members),
        at_ms=1_700_000_000_000,
    )


def password(user: str, hash: int) -> NewCredential:
    key = bytes(range(hash // 8))
    return NewCredential(user, f"SCRAM-SHA-{hash}", b"salt" * 4, 4096, key, key[::-1])


EXAMPLES: Final[tuple[Command, ...]] = (
    InitializeCluster(cluster_id="AbCdEfGhIjKlMnOpQrStUv"),
    register(1),
    register(2, rack="r", listeners=(("PLAINTEXT", "a", 1), ("SSL", "b", 2)), metadata_level=2),
    FenceBroker(broker_id=B2, incarnation=PROCESS, fenced=True),
    DrainBroker(broker_id=B3, draining=True),
    UnregisterBroker(broker_id=B4),
    create("orders", ORDERS),
    DeleteTopic(topic_id=REFUNDS),
    CreatePartitions(topic_id=ORDERS, existing=2, partitions=((B3, B1),)),
    AlterTopicConfig(topic_id=ORDERS, set={"b": "2", "a": "1"}, remove=("retention.ms",)),
    MovePartition(topic_id=ORDERS, partition=0, target=(B3, B1)),
    FinishMove(topic_id=ORDERS, partition=0, target=(B3, B1), since=RaftIndex(18)),
    CancelMove(topic_id=ORDERS, partition=1),
    CommitOffsets(commits=(commit("g", "orders", 0, 2**40), commit("h", "orders", 1, 7))),
    DeleteOffsets(group="g", partitions=(("orders", 1), ("refunds", 0))),
    DeleteGroup(group="h"),
    ExpireOffsets(groups=("g", "h"), before_ms=1_600_000_000_000),
    ExpireTopicOffsets(group="g", topics=("orders",), before_ms=1_600_000_000_000),
    AllocateProducerIds(broker_id=B1, count=500),
    SetFeature(name="f", level=2),
    store_group("g", 7, "m-1", "m-2"),
    ChangeMembers(group="g", generation=7, gone=("m-1",), come=(("m-3", b"row"),), leader="m-3"),
    ForgetGroup(group="g"),
    InitProducer(transactional_id="tx", timeout_ms=60_000, producer_id=7, epoch=3, at_ms=AT_MS),
    AddToTransaction(
        transactional_id="tx", producer_id=7, epoch=3, partitions=((ORDERS, 0),), groups=("g",), at_ms=AT_MS
    ),
    StageOffsets(
        transactional_id="tx",
        producer_id=7,
        epoch=3,
        group="g",
        offsets=(OffsetCommit("orders", 0, 2**40, 3, "né"),),
        at_ms=AT_MS,
    ),
    EndTransaction(transactional_id="tx", producer_id=7, epoch=3, commit=True, at_ms=AT_MS),
    AbortTimedOut(transactional_id="tx", begun_at=RaftIndex(5), at_ms=AT_MS),
    CompleteTransaction(transactional_id="tx", decided_at=RaftIndex(6), at_ms=AT_MS),
    ExpireTransactionalIds(transactional_ids=("tx", "ty"), before_ms=AT_MS),
    EndTransactionAndEpoch(transactional_id="tx", producer_id=7, epoch=3, commit=True, at_ms=AT_MS),
    ChooseFeatureLevel(name="transaction.version", level=1),
    CreateAcls(bindings=(ALLOWED, DENIED)),
    DeleteAcls(bindings=(ALLOWED,)),
    QUOTAS[0],
    AlterCredentials(
        phantom_key=bytes(32),
        put=(password("alice", 256), password("né", 512)),
        drop=(("bob", "SCRAM-SHA-256"),),
        only_first=True,
    ),
)
"""At least one of each kind, with every field."""

HISTORY: Final[tuple[Command, ...]] = (
    InitializeCluster(cluster_id="AbCdEfGhIjKlMnOpQrStUv"),
    register(1),
    register(2, rack="r", listeners=(("PLAINTEXT", "a", 1), ("SSL", "b", 2)), metadata_level=2),
    register(3),
    register(4),
    FenceBroker(broker_id=B2, incarnation=PROCESS, fenced=True),
    DrainBroker(broker_id=B3, draining=True),
    UnregisterBroker(broker_id=B4),
    create("orders", ORDERS),
    create("refunds", REFUNDS),
    create("gone", b"gone".ljust(16)),
    DeleteTopic(topic_id=b"gone".ljust(16)),
    CreatePartitions(topic_id=ORDERS, existing=2, partitions=((B3, B1),)),
    AlterTopicConfig(topic_id=ORDERS, set={"b": "2", "a": "1"}, remove=("retention.ms",)),
    MovePartition(topic_id=ORDERS, partition=0, target=(B3, B1)),
    MovePartition(topic_id=ORDERS, partition=0, target=(B2, B1)),
    MovePartition(topic_id=REFUNDS, partition=1, target=(B1,)),
    CommitOffsets(commits=(commit("g", "orders", 0, 2**40), commit("h", "orders", 1, 7))),
    CommitOffsets(commits=(commit("g", "refunds", 1, 3), commit("i", "orders", 2, 0))),
    DeleteGroup(group="i"),
    AllocateProducerIds(broker_id=B1, count=500),
    SetFeature(name="f", level=2),
    CreateTopic(name="orders", topic_id=b"other".ljust(16), partitions=((B1,),)),
)


GROUPS: Final[tuple[Command, ...]] = (
    store_group("g", 7, "m-1", "m-2"),
    store_group("empty", 3),
    ChangeMembers(group="g", generation=7, gone=("m-1",), leader="m-2"),
)
"""With which the history goes on in a cluster whose builds keep groups."""


TRANSACTIONS: Final[tuple[Command, ...]] = (
    InitProducer(transactional_id="tx", timeout_ms=60_000, at_ms=AT_MS),
    AddToTransaction(
        transactional_id="tx",
        producer_id=500,
        epoch=0,
        partitions=((ORDERS, 0), (ORDERS, 1)),
        groups=("g",),
        at_ms=AT_MS,
    ),
    StageOffsets(
        transactional_id="tx",
        producer_id=500,
        epoch=0,
        group="g",
        offsets=(OffsetCommit("orders", 0, 2**40, 3, "né"),),
        at_ms=AT_MS,
    ),
    InitProducer(transactional_id="ty", timeout_ms=30_000, at_ms=AT_MS),
)
"""With which it goes on where builds know transactions."""


USERS: Final[tuple[Command, ...]] = (
    AlterCredentials(
        phantom_key=bytes(32),
        put=(password("alice", 256), password("alice", 512), password("bob", 512), password("carol", 256)),
    ),
    AlterCredentials(
        phantom_key=b"1" * 32,
        put=(password("né", 256),),
        drop=(("bob", "SCRAM-SHA-512"), ("alice", "SCRAM-SHA-512")),
    ),
)
"""With which it goes on where builds know users."""


def replayed(*more: Command) -> MetadataState:
    """What the history comes to."""
    state = MetadataState()
    for index, command in enumerate((*HISTORY, *more), 1):
        state.apply(command, RaftIndex(index))
    return state


ACLS: Final[tuple[Command, ...]] = (
    CreateAcls(bindings=(ALLOWED, DENIED)),
    DeleteAcls(bindings=(ALLOWED,)),
)
