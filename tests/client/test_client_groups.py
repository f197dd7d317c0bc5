"""Groups: who reads what, what is committed, and that nothing is skipped when members come and go."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import trio

import raftlog
from raftlog import Client, CommittedOffset, Consumer, TopicPartition
from tests import secured
from tests.client.conftest import Name
from tests.client.test_client_consume import fill, numbers, take

FAST = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 200}


async def until_assigned(consumer: Consumer, count: int) -> None:
    """Poll until the consumer has so many partitions; drops what it reads."""
    with trio.fail_after(20):
        while len(consumer.assignment) != count:
            await consumer.poll(max_wait_ms=50)


async def until_empty(client: Client, group: str) -> None:
    with trio.fail_after(20):
        while (await client.admin.describe_group(group)).state != "Empty":  # noqa: ASYNC110
            await trio.sleep(0.1)


async def test_commits_are_where_the_next_member_goes_on(client: Client, topic: str, name: Name) -> None:
    await fill(client, topic, 20)
    group = name("group")
    key = TopicPartition(topic, 0)
    async with client.consumer(
        topic, group=group, auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        await take(consumer, 8)
        assert await consumer.committed() == {key: None}
        assert await consumer.commit() == {key: CommittedOffset(8)}
        await take(consumer, 5)
        assert await consumer.committed() == {key: CommittedOffset(8)}
        await consumer.commit({key: CommittedOffset(10, metadata="note")})
    async with client.consumer(topic, group=group, enable_auto_commit=False) as consumer:
        assert numbers(await take(consumer, 2)) == [10, 11]
        assert await consumer.committed(key) == {key: CommittedOffset(10, -1, "note")}


async def test_leaving_commits_what_was_handed_out(client: Client, topic: str, name: Name) -> None:
    await fill(client, topic, 20)
    group = name("group")
    for first in (0, 5, 10):
        async with client.consumer(topic, group=group, auto_offset_reset="earliest") as consumer:
            assert numbers(await take(consumer, 5)) == list(range(first, first + 5))


async def test_leaving_by_an_error_commits_what_is_done(client: Client, topic: str, name: Name) -> None:
    await fill(client, topic, 20)
    group = name("group")
    with pytest.raises(ZeroDivisionError):
        async with client.consumer(topic, group=group, auto_offset_reset="earliest") as consumer:
            await take(consumer, 5)
            raise ZeroDivisionError
    async with client.consumer(topic, group=group) as consumer:
        assert numbers(await take(consumer, 1)) == [4], "the record in hand comes again"
    with pytest.raises(ZeroDivisionError):
        async with client.consumer(topic, group=group) as consumer:
            await consumer.poll(3)
            await consumer.poll(3)
            raise ZeroDivisionError
    async with client.consumer(topic, group=group) as consumer:
        assert numbers(await take(consumer, 1)) == [8], "and so does the batch in hand"


async def test_committing_from_time_to_time(client: Client, topic: str, name: Name) -> None:
    await fill(client, topic, 20)
    group = name("group")
    async with client.consumer(
        topic, group=group, auto_offset_reset="earliest", auto_commit_interval_ms=50
    ) as consumer:
        await take(consumer, 5)
        await trio.sleep(0.3)
        offsets = await client.admin.group_offsets(group)
        assert offsets == {TopicPartition(topic, 0): CommittedOffset(4)}, "the fifth is in hand"
        await consumer.poll(1)
        await trio.sleep(0.3)
        offsets = await client.admin.group_offsets(group)
        assert offsets == {TopicPartition(topic, 0): CommittedOffset(5)}


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
async def test_members_share_and_give_back(
    client: Client, wide_topic: str, name: Name, strategy: str
) -> None:
    group = name("group")
    options = {**FAST, "partition_assignment_strategy": (strategy,), "auto_offset_reset": "earliest"}
    async with client.consumer(wide_topic, group=group, **options) as one:  # type: ignore[arg-type]
        await until_assigned(one, 4)
        async with client.consumer(wide_topic, group=group, **options) as two:  # type: ignore[arg-type]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_assigned, one, 2)
                nursery.start_soon(until_assigned, two, 2)
            assert not one.assignment & two.assignment
            description = await client.admin.describe_group(group)
            assert (description.state, description.protocol) == ("Stable", strategy)
            assert sorted(len(member.partitions) for member in description.members) == [2, 2]
        await until_assigned(one, 4)
    assert (await client.admin.describe_group(group)).state == "Empty"


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
async def test_nothing_is_skipped_when_members_come_and_go(
    client: Client, wide_topic: str, name: Name, strategy: str
) -> None:
    group = name("group")
    options = {**FAST, "partition_assignment_strategy": (strategy,), "auto_offset_reset": "earliest"}
    seen: dict[int, int] = {}
    total = 400

    async def member(life: float) -> None:
        await trio.sleep(life)
        with trio.move_on_after(1.5):
            async with client.consumer(wide_topic, group=group, **options) as consumer:  # type: ignore[arg-type]
                async for record in consumer:
                    seen[int(record.value)] = seen.get(int(record.value), 0) + 1

    async def produce() -> None:
        async with client.producer() as producer:
            for i in range(total):
                await producer.send(wide_topic, b"%d" % i, partition=i % 4)
                await trio.sleep(0.005)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce)
            for start in (0.0, 0.4, 0.8, 1.2):
                nursery.start_soon(member, start)
        async with client.consumer(wide_topic, group=group, **options) as consumer:  # type: ignore[arg-type]
            while len(seen) < total:
                for record in await consumer.poll(max_wait_ms=200):
                    seen[int(record.value)] = seen.get(int(record.value), 0) + 1
    assert sorted(seen) == list(range(total))
    repeated = sum(count - 1 for count in seen.values())
    assert repeated <= 40, f"only what was in hand comes again, not {repeated}"


class Notes(raftlog.RebalanceListener):
    """Writes down what happens, and commits what is revoked."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, int]] = []

    async def on_assigned(self, consumer: Consumer, partitions: frozenset[TopicPartition]) -> None:
        self.notes.append(("assigned", len(partitions)))

    async def on_revoked(self, consumer: Consumer, partitions: frozenset[TopicPartition]) -> None:
        self.notes.append(("revoked", len(partitions)))
        await consumer.commit()


async def test_the_listener_is_told(client: Client, wide_topic: str, name: Name) -> None:
    group = name("group")
    notes = Notes()
    options = {**FAST, "partition_assignment_strategy": ("cooperative-sticky",)}
    async with client.consumer(wide_topic, group=group, listener=notes, **options) as one:  # type: ignore[arg-type]
        await until_assigned(one, 4)
        async with (
            client.consumer(wide_topic, group=group, **options) as two,  # type: ignore[arg-type]
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(until_assigned, one, 2)
            nursery.start_soon(until_assigned, two, 2)
        await until_assigned(one, 4)
    moves = [note for note in notes.notes if note[1]]
    assert moves == [("assigned", 4), ("revoked", 2), ("assigned", 2)]


async def test_a_listener_that_fails_ends_the_consumer(client: Client, topic: str, name: Name) -> None:
    class Broken(raftlog.RebalanceListener):
        async def on_assigned(self, consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), trio.fail_after(20):
        async with client.consumer(topic, group=name("group"), listener=Broken()) as consumer:
            await anext(consumer)


async def test_a_static_member_keeps_its_partitions(client: Client, wide_topic: str, name: Name) -> None:
    group = name("group")
    async with client.consumer(wide_topic, group=group, group_instance_id="one", **FAST) as one:  # type: ignore[arg-type]
        await until_assigned(one, 4)
        async with client.consumer(wide_topic, group=group, group_instance_id="two", **FAST) as two:  # type: ignore[arg-type]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_assigned, one, 2)
                nursery.start_soon(until_assigned, two, 2)
            before, kept = two.assignment, one.assignment
        await trio.sleep(0.5)
        await one.poll(max_wait_ms=50)
        assert one.assignment == kept, "its session is not over, so nobody gets its partitions"
        async with client.consumer(wide_topic, group=group, group_instance_id="two", **FAST) as two:  # type: ignore[arg-type]
            await until_assigned(two, 2)
            assert two.assignment == before


async def test_a_second_consumer_of_the_same_instance_fences_the_first(
    client: Client, topic: str, name: Name
) -> None:
    group = name("group")
    with pytest.raises(raftlog.FencedInstance), trio.fail_after(20):
        async with client.consumer(topic, group=group, group_instance_id="one", **FAST) as one:  # type: ignore[arg-type]
            await until_assigned(one, 1)
            async with client.consumer(topic, group=group, group_instance_id="one", **FAST) as two:  # type: ignore[arg-type]
                await until_assigned(two, 1)
                while True:
                    await one.poll(max_wait_ms=100)


async def test_a_pattern_in_a_group(client: Client, bootstrap: str, name: Name) -> None:
    prefix, group = name("pat"), name("group")
    await client.admin.create_topic(f"{prefix}.one", partitions=1)
    async with (
        secured.open_client(bootstrap, metadata_max_age_ms=200) as watcher,
        watcher.consumer(pattern=rf"{prefix}\..*", group=group, **FAST) as consumer,  # type: ignore[arg-type]
    ):
        await until_assigned(consumer, 1)
        await client.admin.create_topic(f"{prefix}.two", partitions=2)
        await until_assigned(consumer, 3)


async def test_more_partitions_are_shared_out(client: Client, bootstrap: str, topic: str, name: Name) -> None:
    async with (
        secured.open_client(bootstrap, metadata_max_age_ms=200) as watcher,
        watcher.consumer(topic, group=name("group"), **FAST) as consumer,  # type: ignore[arg-type]
    ):
        await until_assigned(consumer, 1)
        await client.admin.create_partitions(topic, 3)
        await until_assigned(consumer, 3)


async def test_another_subscription(client: Client, topic: str, wide_topic: str, name: Name) -> None:
    async with client.consumer(topic, group=name("group"), **FAST) as consumer:  # type: ignore[arg-type]
        await until_assigned(consumer, 1)
        consumer.subscribe(wide_topic)
        await until_assigned(consumer, 4)
        assert {key.topic for key in consumer.assignment} == {wide_topic}


async def test_who_does_not_poll_loses_its_partitions(client: Client, topic: str, name: Name) -> None:
    await fill(client, topic, 3)
    group = name("group")
    slow = client.consumer(
        topic,
        group=group,
        auto_offset_reset="earliest",
        max_poll_interval_ms=500,
        **FAST,  # type: ignore[arg-type]
    )
    async with slow as one:
        assert numbers(await take(one, 1)) == [0]
        await until_empty(client, group)
        assert numbers(await take(one, 2)) == [0, 1], "it comes back, and the record in hand comes again"


async def test_a_commit_that_comes_too_late(client: Client, topic: str, name: Name) -> None:
    group = name("group")
    slow = client.consumer(topic, group=group, max_poll_interval_ms=500, enable_auto_commit=False, **FAST)  # type: ignore[arg-type]
    async with slow as one:
        await until_assigned(one, 1)
        await until_empty(client, group)
        with pytest.raises(raftlog.RebalanceNeeded):
            await one.commit({TopicPartition(topic, 0): 1})


async def test_commits_without_a_group_are_refused(client: Client, topic: str) -> None:
    async with client.consumer(topic) as consumer:
        with pytest.raises(raftlog.ConfigError, match="group"):
            await consumer.commit()


async def test_a_manual_assignment_commits_too(client: Client, topic: str, name: Name) -> None:
    await fill(client, topic, 5)
    group = name("group")
    for expected in (0, 2):
        async with client.consumer(
            partitions=[(topic, 0)], group=group, auto_offset_reset="earliest"
        ) as consumer:
            assert numbers(await take(consumer, 2)) == [expected, expected + 1]
