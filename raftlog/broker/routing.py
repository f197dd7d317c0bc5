"""Finding the replica that a request names, and whom to name instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import trio

from raftlog.broker.backend import Backend, Partition
from raftlog.broker.call import Call
from raftlog.metadata.catalog import BrokerInfo, Topic
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.produce import NodeEndpoint
from raftlog.rights import Operation
from raftlog.types import BrokerId

JAVA: Final = "apache-kafka-java"
"""What Kafka's own clients say that they are."""
SAME_S: Final = 5.0
"""How long a broker that is cut off names the same one of the others."""
LeaderHint = tuple[int, int]
"""(leader id, leader epoch)"""


def find_topic(backend: Backend, topic: str | bytes) -> Topic | ErrorCode:
    """The topic of that name or id."""
    found = backend.catalog.topic(topic)
    if found is not None:
        return found
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if isinstance(topic, str) else ErrorCode.UNKNOWN_TOPIC_ID


def find_partition(backend: Backend, topic: str | bytes, partition: int) -> Partition | ErrorCode:
    """The replica that this broker keeps, or why there is none: no such topic or partition, or another
    broker's."""
    if isinstance(topic, str):
        replica = backend.replicas.partition(topic, partition)
    else:
        replica = backend.replicas.partition_by_id(topic, partition)
    if replica is not None:
        return replica
    found = find_topic(backend, topic)
    if isinstance(found, ErrorCode):
        return found
    if not 0 <= partition < len(found.partitions):
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return ErrorCode.NOT_LEADER_OR_FOLLOWER


def allowed_partition(
    call: Call, operation: Operation, topic: str | bytes, partition: int
) -> Partition | ErrorCode:
    """As `find_partition`, for who may do that to the topic."""
    refused = call.topic_refusal(operation, topic)
    return find_partition(call.backend, topic, partition) if refused is ErrorCode.NONE else refused


def leader_hint(backend: Backend, topic: str | bytes, partition: int) -> LeaderHint | None:
    """Who leads, for a client that asked the wrong broker (KIP-951); None when that is not known."""
    found = backend.catalog.topic(topic)
    if found is None or not 0 <= partition < len(found.partitions):
        return None
    leader, epoch = backend.leaders.leader_of(found, partition)
    return None if leader is None else (leader, epoch)


def endpoints(call: Call, leaders: Iterable[LeaderHint | None]) -> list[NodeEndpoint]:
    """Where the client reaches the leaders that an answer names."""
    wanted = {BrokerId(leader[0]) for leader in leaders if leader is not None}
    if not wanted:
        return []
    known = call.backend.catalog.brokers
    return [
        NodeEndpoint(broker.id, *call.address_of(broker), broker.rack)
        for broker in (known[one] for one in sorted(wanted) if one in known)
    ]


def named_brokers(call: Call) -> list[BrokerInfo]:
    """The brokers that a client is told of: those in session, as Kafka does. A client in Java is not told of
    a broker whose process is gone: Java's `Admin` looks for the next leader only then (KAFKA-20673). Other
    clients are told of that broker until its session ends. librdkafka (2.16, its issue 5511) takes a broker
    that is not named for gone for good, and its transaction waits for ever for a coordinator there."""
    presence = call.backend.presence
    if call.origin.software.name == JAVA and not presence.is_cut_off:
        return [broker for broker in known_brokers(call.backend) if presence.is_alive(broker)]
    return _in_session(call.backend)


def elsewhere(backend: Backend) -> list[BrokerId]:
    """To whom a broker that is cut off sends its clients on: all others that it names. Nobody otherwise."""
    if not backend.presence.is_cut_off:
        return []
    return [broker.id for broker in _in_session(backend) if broker.id != backend.broker_id]


def _in_session(backend: Backend) -> list[BrokerInfo]:
    """A broker that is cut off cannot tell who is, and takes all that the cluster last heard of: a client
    that knew it alone would ask nobody else."""
    presence = backend.presence
    return [
        broker
        for broker in known_brokers(backend)
        if presence.is_in_session(broker) or (presence.is_cut_off and not broker.fenced)
    ]


def known_brokers(backend: Backend) -> list[BrokerInfo]:
    """All brokers of the cluster by their ids, whether they are there or not."""
    return [broker for _, broker in sorted(backend.catalog.brokers.items())]


def any_of(brokers: Sequence[BrokerId]) -> BrokerId:
    """One of them, after a while another. Not another in each answer: when two answers in a row name two
    leaders, librdkafka 2.16 goes on sending to the first, whatever it is told of the second."""
    return brokers[int(trio.current_time() // SAME_S) % len(brokers)]


async def coordinator_refusal(backend: Backend) -> ErrorCode:
    """NONE where this broker coordinates transactions. NOT_COORDINATOR where it knows of another broker that
    does. While it knows of none, or may soon be the one, it cannot say what there is: clients ask again."""
    coordination = backend.coordination
    if await coordination.confirm_coordinator():
        return ErrorCode.NONE
    if coordination.coordinator_id in (None, backend.broker_id):
        return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    return ErrorCode.NOT_COORDINATOR


async def confirm_leaders(replicas: Sequence[Partition], now: float) -> None:
    """Wait until each of these either knows from a majority that it leads, or has learned that it does not:
    a leader that was paused and replaced steps down, and answers as what it is then."""
    waiting = 1  # the loop below: some answer at once
    confirmed = trio.Event()

    def then(leads: bool) -> None:
        nonlocal waiting
        waiting -= 1
        if waiting == 0:
            confirmed.set()

    for replica in replicas:
        waiting += 1
        replica.reading.confirm_leadership(now, then)
    then(True)
    if not confirmed.is_set():
        await confirmed.wait()
