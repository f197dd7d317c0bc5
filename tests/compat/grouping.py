"""Scenarios of consumer groups: who has what, and where they were."""

from __future__ import annotations

from typing import Final

from tests.compat.clients.base import Can, Message, Record
from tests.compat.member import Member, member
from tests.compat.stage import Scenario, Stage, read, scenario
from tests.waiting import until

SCENARIOS: Final[list[Scenario]] = []
ALL: Final = frozenset(range(4))


def _spread(prefix: str) -> list[Message]:
    """A message for each of four partitions."""
    return [Message(f"{prefix} {number}".encode(), partition=number) for number in range(4)]


def _values(messages: list[Message]) -> list[bytes]:
    return [message.value for message in messages if message.value is not None]


@scenario(SCENARIOS)
def one_member_has_all(stage: Stage) -> None:
    topic = stage.topic(partitions=4)
    stage.produce(topic, *_spread("first"))
    with member(stage.client, topic, stage.name("group")) as only:
        until("it has all partitions", lambda: only.assignment == ALL)
        until("it got all records", lambda: only.has(*_values(_spread("first"))))


@scenario(SCENARIOS)
def two_members_rebalance(stage: Stage) -> None:
    """One joins: they share. One leaves: the other has everything again."""
    topic, group = stage.topic(partitions=4), stage.name("group")
    producer = stage.client.producer()
    with member(stage.client, topic, group) as stays:
        until("the first has all", lambda: stays.assignment == ALL)
        joins = Member(stage.client, topic, group)
        try:
            until("both share", lambda: _share(stays, joins))
            for message in _spread("shared"):
                producer.send(topic, [message])
            until("both get their records", lambda: _got(_values(_spread("shared")), stays, joins))
            assert {r.partition for r in joins.records} <= joins.assignment
        finally:
            joins.close()
        until("the first has all again", lambda: stays.assignment == ALL)
        for message in _spread("alone"):
            producer.send(topic, [message])
        until("the first gets everything", lambda: stays.has(*_values(_spread("alone"))))
    producer.close()


@scenario(SCENARIOS)
def commit_and_resume(stage: Stage) -> None:
    topic, group = stage.topic(), stage.name("group")
    producer = stage.client.producer()
    for begin in (0, 5, 10):
        values = [b"%d" % n for n in range(begin, begin + 5)]
        producer.send(topic, [Message(value) for value in values])
        with stage.consumer(topic, group=group) as consumer:
            assert [record.value for record in read(consumer, 5)] == values
            consumer.commit()
    producer.close()


@scenario(SCENARIOS, Can.COMMIT)
def committed_offsets(stage: Stage) -> None:
    topic, group = stage.topic(partitions=2), stage.name("group")
    assert stage.client.committed(group, topic, 0) is None
    stage.produce(topic, *(Message(b"%d" % n) for n in range(10)))
    with stage.consumer(topic, group=group) as consumer:
        read(consumer, 10)
        consumer.commit({0: 4})
    assert stage.client.committed(group, topic, 0) == 4
    assert stage.client.committed(group, topic, 1) is None
    with stage.consumer(topic, group=group) as consumer:
        assert [record.offset for record in read(consumer, 6)] == [4, 5, 6, 7, 8, 9]


@scenario(SCENARIOS, Can.COMMIT)
def commit_without_members(stage: Stage) -> None:
    """A consumer that assigns its partitions itself may commit in the group's name."""
    topic, group = stage.topic(), stage.name("group")
    stage.produce(topic, *(Message(b"%d" % n) for n in range(10)))
    with stage.consumer(topic, group=group, partition=0) as consumer:
        read(consumer, 10)
        consumer.commit({0: 7})
    assert stage.client.committed(group, topic, 0) == 7


@scenario(SCENARIOS)
def two_groups(stage: Stage) -> None:
    topic = stage.topic()
    stage.produce(topic, *(Message(b"%d" % n) for n in range(5)))
    seen: list[list[Record]] = []
    for _ in range(2):
        with stage.consumer(topic, group=stage.name("group")) as consumer:
            seen.append(read(consumer, 5))
    assert [record.offset for record in seen[0]] == [record.offset for record in seen[1]] == [0, 1, 2, 3, 4]


@scenario(SCENARIOS, Can.STATIC_MEMBERS)
def static_member_returns(stage: Stage) -> None:
    """A member with an instance id that restarts gets its partitions back."""
    topic, group = stage.topic(partitions=4), stage.name("group")
    stage.produce(topic, *_spread("once"))
    for _ in range(2):
        with member(stage.client, topic, group, instance_id="one") as static:
            until("it has all partitions", lambda static=static: static.assignment == ALL)
            until("it reads", lambda static=static: static.has(*_values(_spread("once"))))


def _share(one: Member, other: Member) -> bool:
    return (
        bool(one.assignment)
        and bool(other.assignment)
        and one.assignment | other.assignment == ALL
        and not one.assignment & other.assignment
    )


def _got(values: list[bytes], one: Member, other: Member) -> bool:
    one.has(), other.has()
    return {record.value for record in one.records + other.records} >= set(values)
