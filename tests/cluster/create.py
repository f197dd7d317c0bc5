"""Topics are created through one broker and used through the others at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode
from raftlog.records.record import NewRecord, encode_batch
from raftlog.testing.processes import ClusterProcesses
from tests.cluster.raw import RawClient

PARTITIONS: Final = 3


@dataclass
class Created:
    """What was seen. `took`: seconds of each CreateTopics. `wrong`: answers that may not be."""

    took: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def create_and_use(cluster: ClusterProcesses, count: int) -> Created:
    """Each topic: created through one broker in turn. Then each other broker is asked for it, and gets a
    record for each partition: from a client that believes its metadata, and from one that believes nothing
    and sends everything to that broker. Then the topic is deleted."""
    seen = Created()
    with ExitStack() as stack:
        clients = {
            node_id: stack.enter_context(RawClient(broker)) for node_id, broker in cluster.brokers.items()
        }
        for number in range(count):
            name = f"created-{number}"
            creator = list(clients)[number % len(clients)]
            began = time.monotonic()
            error = create(clients[creator], name, PARTITIONS, len(clients))
            seen.took.append(time.monotonic() - began)
            if error is not ErrorCode.NONE:
                seen.wrong.append(f"{name}: CreateTopics through {creator}: {error.name}")
                continue
            for node_id in clients:
                if node_id != creator:
                    _use(clients, node_id, name, seen)
            delete(clients[creator], name)
    return seen


def _use(clients: dict[int, RawClient], node_id: int, name: str, seen: Created) -> None:
    leaders = leaders_of(clients[node_id], name)
    if isinstance(leaders, str):
        seen.wrong.append(f"{name}: Metadata through {node_id}: {leaders}")
        return
    for partition, leader in leaders.items():
        error = produce(clients[leader], name, [partition])[partition]
        seen.answers[f"to the leader: {error.name}"] += 1
        if error is not ErrorCode.NONE:
            seen.wrong.append(f"{name}-{partition}: Produce to {leader}, as {node_id} said: {error.name}")
    for partition, error in produce(clients[node_id], name, sorted(leaders)).items():
        expected = ErrorCode.NONE if leaders[partition] == node_id else ErrorCode.NOT_LEADER_OR_FOLLOWER
        seen.answers[f"to any: {error.name}"] += 1
        if error is not expected:
            seen.wrong.append(f"{name}-{partition}: Produce to {node_id}: {error.name}, not {expected.name}")


def create(client: RawClient, name: str, partitions: int, replicas: int) -> ErrorCode:
    topic = {
        "name": name,
        "num_partitions": partitions,
        "replication_factor": replicas,
        "assignments": [],
        "configs": [],
    }
    fields = {"topics": [topic], "timeout": 30_000, "validate_only": False}
    return ErrorCode(client.ask(ApiKey.CREATE_TOPICS, 5, fields).topics[0].error_code)


def delete(client: RawClient, name: str) -> ErrorCode:
    answer = client.ask(ApiKey.DELETE_TOPICS, 4, {"topic_names": [name], "timeout": 30_000})
    return ErrorCode(answer.responses[0].error_code)


def leaders_of(client: RawClient, name: str) -> dict[int, int] | str:
    """Who leads each partition, as this broker says, or what it says instead."""
    fields = {
        "topics": [{"name": name}],
        "allow_auto_topic_creation": False,
        "include_cluster_authorized_operations": False,
        "include_topic_authorized_operations": False,
    }
    topic = client.ask(ApiKey.METADATA, 9, fields).topics[0]
    if topic.error_code:
        return ErrorCode(topic.error_code).name
    for partition in topic.partitions:
        if partition.error_code:
            return f"partition {partition.partition_index}: {ErrorCode(partition.error_code).name}"
    return {int(one.partition_index): int(one.leader_id) for one in topic.partitions}


def produce(client: RawClient, topic: str, partitions: Sequence[int]) -> dict[int, ErrorCode]:
    """Send a record to each partition; what became of each."""
    records = [NewRecord(time.time_ns() // 1_000_000, None, b"at once", ())]
    data: list[dict[str, Any]] = [
        {"index": partition, "records": bytes(encode_batch(records))} for partition in partitions
    ]
    fields = {
        "transactional_id": None,
        "acks": -1,
        "timeout": 30_000,
        "topic_data": [{"name": topic, "partition_data": data}],
    }
    answer = client.ask(ApiKey.PRODUCE, 9, fields)
    return {int(one.index): ErrorCode(one.error_code) for one in answer.responses[0].partition_responses}
