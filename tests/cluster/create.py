"""Topics are created through one broker and used through the others at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode
from raftlog.records.record import NewRecord, encode_batch
from tests.cluster.raw import RawClient
from tests.secured import ClusterProcesses

PARTITIONS: Final = 3
NEVER: Final = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.LEADER_NOT_AVAILABLE)
"""Answers that nobody may get, whatever else goes on."""


class Leadership(NamedTuple):
    """Who leads a partition, and in which epoch."""

    leader: int
    epoch: int


@dataclass
class Created:
    """What was seen. `took`: seconds of each CreateTopics. `wrong`: answers that may not be. `moved`: how
    often somebody else led before everything had been asked, so that answers of that could not be judged."""

    took: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    moved: int = 0


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
    led = leaderships(clients[node_id], name)
    if isinstance(led, str):
        seen.wrong.append(f"{name}: Metadata through {node_id}: {led}")
        return
    wrong = [
        (error, f"{name}-{partition}: Produce to {to}, as {node_id} said: {error.name}")
        for partition, (to, _) in led.items()
        for error in produce(clients[to], name, [partition], seen, "to the leader").values()
        if error is not ErrorCode.NONE
    ]
    for partition, error in produce(clients[node_id], name, sorted(led), seen, "to any").items():
        leads = led[partition].leader == node_id
        expected = ErrorCode.NONE if leads else ErrorCode.NOT_LEADER_OR_FOLLOWER
        if error is not expected:
            what = f"{name}-{partition}: Produce to {node_id}: {error.name}, not {expected.name}"
            wrong.append((error, what))
    if wrong and leaderships(clients[node_id], name) != led:
        seen.moved += 1  # on a machine that is too busy for heartbeats
        wrong = [(error, what) for error, what in wrong if error in NEVER]
    seen.wrong += [what for _, what in wrong]


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


def leaderships(client: RawClient, name: str) -> dict[int, Leadership] | str:
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
    return {
        int(one.partition_index): Leadership(int(one.leader_id), int(one.leader_epoch))
        for one in topic.partitions
    }


def leaders_of(client: RawClient, name: str) -> dict[int, int] | str:
    """As `leaderships`, without the epochs."""
    led = leaderships(client, name)
    return led if isinstance(led, str) else {partition: one.leader for partition, one in led.items()}


def produce(
    client: RawClient, topic: str, partitions: Sequence[int], seen: Created | None = None, how: str = ""
) -> dict[int, ErrorCode]:
    """Send a record to each partition; what became of each, counted in `seen`."""
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
    errors = {int(one.index): ErrorCode(one.error_code) for one in answer.responses[0].partition_responses}
    if seen is not None:
        seen.answers.update(f"{how}: {error.name}" for error in errors.values())
    return errors
