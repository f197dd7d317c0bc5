"""Scenarios of the admin clients."""

from __future__ import annotations

from typing import Final

import pytest

from tests.compat.clients.base import Can, Message, Refused
from tests.compat.member import member
from tests.compat.stage import Scenario, Stage, read, scenario
from tests.waiting import until

SCENARIOS: Final[list[Scenario]] = []

UNKNOWN_TOPIC: Final = 3
MESSAGE_TOO_LARGE: Final = 10
INVALID_TOPIC: Final = 17
TOPIC_EXISTS: Final = 36
INVALID_PARTITIONS: Final = 37
INVALID_REPLICATION_FACTOR: Final = 38
INVALID_CONFIG: Final = 40


@scenario(SCENARIOS, Can.TOPICS)
def create_and_use(stage: Stage) -> None:
    """What CreateTopics has answered for can be used at once."""
    topic = stage.name("made")
    stage.client.create_topic(topic, partitions=3)
    for partition in range(3):
        assert stage.produce(topic, Message(b"v", partition=partition)) == [0]
    assert topic in stage.client.topics()
    found = stage.client.describe_topic(topic)
    assert sorted(found.leaders) == [0, 1, 2]
    assert all(leader >= 0 for leader in found.leaders.values()), found
    assert all(len(replicas) == 1 for replicas in found.replicas.values()), found


@scenario(SCENARIOS, Can.TOPICS)
def create_refused(stage: Stage) -> None:
    taken = stage.topic()
    long_name = "x" * 250
    cases: list[tuple[int, str, int, int, dict[str, str]]] = [
        (TOPIC_EXISTS, taken, 1, 1, {}),
        (INVALID_TOPIC, "a/b", 1, 1, {}),
        (INVALID_TOPIC, "..", 1, 1, {}),
        (INVALID_TOPIC, long_name, 1, 1, {}),
        (INVALID_PARTITIONS, stage.name(), 0, 1, {}),
        (INVALID_REPLICATION_FACTOR, stage.name(), 1, 99, {}),
        (INVALID_CONFIG, stage.name(), 1, 1, {"no.such.setting": "1"}),
        (INVALID_CONFIG, stage.name(), 1, 1, {"retention.ms": "soon"}),
    ]
    for code, name, partitions, replicas, configs in cases:
        if code == INVALID_PARTITIONS and stage.client.name == "confluent-kafka":
            continue  # refused by the client itself
        with pytest.raises(Refused) as refused:
            stage.client.create_topic(name, partitions=partitions, replicas=replicas, configs=configs)
        assert refused.value.code == code, (name, refused.value)


@scenario(SCENARIOS, Can.TOPICS)
def delete_topic(stage: Stage) -> None:
    topic = stage.name("gone")
    stage.client.create_topic(topic)
    stage.produce(topic, Message(b"old"))
    stage.client.delete_topic(topic)
    until("it is not listed", lambda: topic not in stage.client.topics())
    with pytest.raises(Refused) as refused:
        stage.client.delete_topic(stage.name("never-was"))
    assert refused.value.code == UNKNOWN_TOPIC


@scenario(SCENARIOS, Can.TOPICS)
def delete_and_create_again(stage: Stage) -> None:
    """A topic of the same name begins empty, at offset 0."""
    topic = stage.name("again")
    for value in (b"first life", b"second life"):
        stage.client.create_topic(topic)
        assert stage.produce(topic, Message(value)) == [0]
        assert [record.value for record in stage.read(topic, 1)] == [value]
        stage.client.delete_topic(topic)
        until("it is gone", lambda: topic not in stage.client.topics())


@scenario(SCENARIOS, Can.TOPICS)
def add_partitions(stage: Stage) -> None:
    topic = stage.topic()
    stage.client.add_partitions(topic, 3)
    until("all have leaders", lambda: sorted(stage.client.describe_topic(topic).leaders) == [0, 1, 2])
    assert stage.produce(topic, Message(b"v", partition=2)) == [0]
    with pytest.raises(Refused) as refused:
        stage.client.add_partitions(topic, 2)
    assert refused.value.code == INVALID_PARTITIONS


@scenario(SCENARIOS, Can.CONFIGS)
def topic_configs(stage: Stage) -> None:
    topic = stage.name("configured")
    stage.client.create_topic(topic, configs={"retention.ms": "3600000", "max.message.bytes": "2000000"})
    configs = stage.client.topic_configs(topic)
    assert configs["retention.ms"] == "3600000"
    assert configs["max.message.bytes"] == "2000000"
    assert configs["cleanup.policy"] == "delete"
    assert configs["message.timestamp.type"] == "CreateTime"


@scenario(SCENARIOS, Can.ALTER_CONFIGS)
def alter_a_config(stage: Stage) -> None:
    topic = stage.topic()
    stage.client.alter_topic_config(topic, "max.message.bytes", "2000")
    until("it is told", lambda: stage.client.topic_configs(topic)["max.message.bytes"] == "2000")

    def is_in_force() -> bool:
        try:
            stage.produce(topic, Message(b"x" * 3000), idempotent=False)
        except Refused as refused:
            return refused.code == MESSAGE_TOO_LARGE
        return False

    until("it is in force", is_in_force)


@scenario(SCENARIOS, Can.DELETE_RECORDS)
def delete_records(stage: Stage) -> None:
    topic = stage.topic()
    stage.produce(topic, *(Message(b"%d" % n) for n in range(10)))
    stage.client.delete_records(topic, 0, 4)
    assert stage.client.log_bounds(topic, 0) == (4, 10)
    assert [record.offset for record in stage.read(topic, 6)] == [4, 5, 6, 7, 8, 9]


@scenario(SCENARIOS, Can.DELETE_GROUPS)
def delete_a_group(stage: Stage) -> None:
    topic, group = stage.topic(), stage.name("group")
    stage.produce(topic, Message(b"v"))
    with stage.consumer(topic, group=group) as consumer:
        read(consumer, 1)
        consumer.commit()
        with pytest.raises(Refused):
            stage.client.delete_group(group)  # it has a member
    until("it is empty", lambda: stage.client.describe_group(group).members == 0)
    stage.client.delete_group(group)
    assert group not in stage.client.groups()
    assert stage.client.committed(group, topic, 0) is None


@scenario(SCENARIOS, Can.CLUSTER)
def cluster(stage: Stage) -> None:
    brokers, controller = stage.client.broker_ids()
    assert brokers and controller in brokers


@scenario(SCENARIOS, Can.CLUSTER)
def topics_and_leaders(stage: Stage) -> None:
    topic = stage.topic(partitions=2)
    assert topic in stage.client.topics()
    brokers, _ = stage.client.broker_ids()
    assert set(stage.client.describe_topic(topic).leaders.values()) <= brokers


@scenario(SCENARIOS, Can.GROUPS)
def list_and_describe_groups(stage: Stage) -> None:
    topic, group = stage.topic(partitions=4), stage.name("group")
    with member(stage.client, topic, group) as only:
        until("it is in", lambda: only.has() and only.assignment)
        assert group in stage.client.groups()
        until("the group is stable", lambda: stage.client.describe_group(group).state == "Stable")
        found = stage.client.describe_group(group)
        assert (found.protocol_type, found.members) == ("consumer", 1)
    until("it is empty", lambda: stage.client.describe_group(group).members == 0)
    # With nothing committed, an empty group may be forgotten.
    assert stage.client.describe_group(group).state in ("Empty", "Dead")


@scenario(SCENARIOS, Can.GROUP_OFFSETS)
def offsets_of_a_group(stage: Stage) -> None:
    topic, group = stage.topic(partitions=3), stage.name("group")
    stage.produce(topic, *(Message(b"v", partition=n) for n in (0, 0, 0, 2, 2)))
    with stage.consumer(topic, group=group) as consumer:
        read(consumer, 5)
        consumer.commit({0: 3, 2: 2})
    assert stage.client.group_offsets(group, topic) == {0: 3, 2: 2}
    assert stage.client.describe_group(group).state == "Empty"
