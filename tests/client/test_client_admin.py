"""Administration: topics, configurations, groups, offsets, the cluster."""

from __future__ import annotations

import pytest

import raftlog
from raftlog import Client, CommittedOffset, NewTopic, TopicPartition
from tests.client.conftest import Name
from tests.client.test_client_consume import T0, fill


async def test_a_topic_from_birth_to_death(client: Client, name: Name) -> None:
    topic = name("topic")
    await client.admin.create_topic(
        topic, partitions=3, replication_factor=1, configs={"retention.ms": "1000000"}
    )
    view = await client.admin.describe_topic(topic)
    assert [p.partition for p in view.partitions] == view.available == [0, 1, 2]
    assert view.name == topic
    assert any(view.topic_id)
    assert not view.is_internal
    assert topic in await client.admin.list_topics()
    with pytest.raises(raftlog.TopicExists):
        await client.admin.create_topic(topic)
    await client.admin.create_topic(topic, exist_ok=True)
    await client.admin.delete_topic(topic)
    assert topic not in await client.admin.list_topics()
    with pytest.raises(raftlog.UnknownTopic):
        await client.admin.delete_topic(topic)
    with pytest.raises(raftlog.UnknownTopic):
        await client.admin.describe_topic(topic)


async def test_a_topic_can_be_written_to_at_once(client: Client, name: Name) -> None:
    async with client.producer() as producer:
        for _ in range(5):
            topic = name("fresh")
            await client.admin.create_topic(topic, partitions=2)
            assert (await producer.send(topic, b"x", partition=1)).offset == 0


async def test_many_topics_at_once_and_one_that_cannot_be(client: Client, name: Name) -> None:
    good, bad = name("good"), "not a topic's name"
    with pytest.raises(raftlog.InvalidTopic):
        await client.admin.create_topics(
            [NewTopic(name=good, partitions=1), NewTopic(name=bad, partitions=1)]
        )
    assert good in await client.admin.list_topics()


async def test_only_validating(client: Client, name: Name) -> None:
    topic = name("topic")
    await client.admin.create_topic(topic, partitions=1, validate_only=True)
    assert topic not in await client.admin.list_topics()
    with pytest.raises(raftlog.BrokerError) as caught:
        await client.admin.create_topic(topic, partitions=0, validate_only=True)
    assert caught.value.code.name == "INVALID_PARTITIONS"


async def test_replicas_by_name(client: Client, name: Name) -> None:
    (broker, *_) = (await client.admin.describe_cluster()).brokers
    topic = name("topic")
    await client.admin.create_topics([NewTopic(name=topic, replicas=[[broker.id], [broker.id]])])
    view = await client.admin.describe_topic(topic)
    assert [p.replicas for p in view.partitions] == [(broker.id,), (broker.id,)]


async def test_more_partitions(client: Client, topic: str) -> None:
    await client.admin.create_partitions(topic, 3)
    assert len((await client.admin.describe_topic(topic)).partitions) == 3
    with pytest.raises(raftlog.BrokerError) as caught:
        await client.admin.create_partitions(topic, 2)
    assert caught.value.code.name == "INVALID_PARTITIONS"


async def test_settings_of_a_topic(client: Client, topic: str) -> None:
    before = await client.admin.describe_configs(topic=topic)
    assert before["cleanup.policy"].value == "delete"
    assert before["retention.ms"].source == "default"
    await client.admin.alter_configs({"retention.ms": "12345", "cleanup.policy": "delete"}, topic=topic)
    after = await client.admin.describe_configs(topic=topic)
    assert (after["retention.ms"].value, after["retention.ms"].source) == ("12345", "topic")
    await client.admin.alter_configs({"retention.ms": None}, topic=topic)
    again = await client.admin.describe_configs(topic=topic)
    assert again["retention.ms"] == before["retention.ms"]
    with pytest.raises(raftlog.BrokerError) as caught:
        await client.admin.alter_configs({"retention.ms": "soon"}, topic=topic)
    assert caught.value.code.name == "INVALID_CONFIG"
    with pytest.raises(raftlog.UnknownTopic):
        await client.admin.describe_configs(topic="no-such-topic")


async def test_settings_of_a_broker(client: Client) -> None:
    (broker, *_) = (await client.admin.describe_cluster()).brokers
    settings = await client.admin.describe_configs(broker=broker.id)
    assert settings["num.partitions"].value == "1"


async def test_the_cluster(client: Client, bootstrap: str) -> None:
    cluster = await client.admin.describe_cluster()
    assert cluster.cluster_id
    assert cluster.controller in [broker.id for broker in cluster.brokers]
    addresses = {f"{broker.host}:{broker.port}" for broker in cluster.brokers}
    assert set(bootstrap.split(",")) <= addresses


async def test_offsets_of_a_topic(client: Client, wide_topic: str) -> None:
    await fill(client, wide_topic, 7, partition=1)
    keys = [TopicPartition(wide_topic, p) for p in range(4)]
    assert await client.admin.end_offsets(wide_topic) == dict(zip(keys, [0, 7, 0, 0], strict=True))
    assert await client.admin.beginning_offsets(wide_topic) == dict.fromkeys(keys, 0)
    found = await client.admin.list_offsets({keys[1]: T0 + 2_500, keys[0]: T0 + 2_500})
    assert found == {keys[1]: (3, T0 + 3_000), keys[0]: None}
    with pytest.raises(raftlog.UnknownTopic):
        await client.admin.end_offsets("no-such-topic-" + wide_topic)


async def test_deleting_records(client: Client, topic: str) -> None:
    await fill(client, topic, 10)
    key = TopicPartition(topic, 0)
    assert await client.admin.delete_records({key: 4}) == {key: 4}
    assert await client.admin.beginning_offsets(topic) == {key: 4}
    assert await client.admin.delete_records({key: -1}) == {key: 10}
    with pytest.raises(raftlog.OffsetOutOfRange):
        await client.admin.delete_records({key: 11})


async def test_a_group_without_members(client: Client, topic: str, name: Name) -> None:
    group, key = name("group"), TopicPartition(topic, 0)
    await client.admin.alter_group_offsets(group, {key: 5})
    assert await client.admin.group_offsets(group) == {key: CommittedOffset(5)}
    assert await client.admin.group_offsets(group, [key]) == {key: CommittedOffset(5)}
    assert group in [listing.group for listing in await client.admin.list_groups()]
    description = await client.admin.describe_group(group)
    assert (description.state, description.members) == ("Empty", ())
    await client.admin.delete_group_offsets(group, [key])
    assert await client.admin.group_offsets(group) == {}
    await client.admin.alter_group_offsets(group, {key: CommittedOffset(6, metadata="six")})
    await client.admin.delete_group(group)
    assert await client.admin.group_offsets(group) == {}
    with pytest.raises(raftlog.UnknownGroup):
        await client.admin.delete_group(group)


async def test_a_group_with_members(client: Client, topic: str, name: Name) -> None:
    group, key = name("group"), TopicPartition(topic, 0)
    async with client.consumer(topic, group=group) as consumer:
        while not consumer.assignment:
            await consumer.poll(max_wait_ms=50)
        description = await client.admin.describe_group(group)
        (member,) = description.members
        assert (description.state, description.protocol_type) == ("Stable", "consumer")
        assert (member.client_id, member.partitions) == ("raftlog", (key,))
        with pytest.raises(raftlog.GroupNotEmpty):
            await client.admin.delete_group(group)
    await client.admin.delete_group(group)


async def test_a_group_that_does_not_exist(client: Client, name: Name) -> None:
    assert (await client.admin.describe_group(name("group"))).state == "Dead"
