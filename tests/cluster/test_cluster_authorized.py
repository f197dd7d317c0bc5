"""ACLs on three brokers as processes, by clients that others wrote."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from tests.cluster.authorized import AuthorizedBrokers, Person
from tests.command_line import run_raftlog

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0
LEASE_AND_MORE_S = 3.3 + 10.0
"""What a change may take when a broker does not answer, on a busy machine."""


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthorizedBrokers]:
    with AuthorizedBrokers(tmp_path_factory.mktemp("authorized")) as running:
        yield running.start()


@pytest.fixture(scope="module")
def alice(brokers: AuthorizedBrokers) -> Person:
    return brokers.person("alice")


def create(brokers: AuthorizedBrokers, name: str | None = None) -> str:
    name = name or f"t-{uuid.uuid4().hex[:10]}"
    admin = AdminClient(brokers.librdkafka(brokers.admin))
    admin.create_topics([NewTopic(name, 3, 3)])[name].result(PATIENCE_S)
    return name


def rule(
    who: Person,
    operation: AclOperation,
    name: str,
    *,
    kind: ResourceType = ResourceType.TOPIC,
    pattern: ResourcePatternType = ResourcePatternType.LITERAL,
    permission: AclPermissionType = AclPermissionType.ALLOW,
) -> AclBinding:
    return AclBinding(kind, name, pattern, who.principal, "*", operation, permission)


def put(brokers: AuthorizedBrokers, *rules: AclBinding) -> float:
    """Seconds that it took."""
    admin = AdminClient(brokers.librdkafka(brokers.admin))
    begun = time.monotonic()
    for future in admin.create_acls(list(rules), request_timeout=PATIENCE_S).values():
        future.result(PATIENCE_S)
    return time.monotonic() - begun


def produced(brokers: AuthorizedBrokers, who: Person, topic: str, partition: int = 0) -> KafkaError | None:
    producer = Producer(brokers.librdkafka(who) | {"message.timeout.ms": 20_000, "linger.ms": 0})
    outcome: list[KafkaError | None] = []
    producer.produce(topic, b"x", partition=partition, on_delivery=lambda error, _: outcome.append(error))
    producer.flush(PATIENCE_S)
    return outcome[0]


def test_what_is_not_allowed_is_refused_by_name_and_what_is_allowed_works(
    brokers: AuthorizedBrokers, alice: Person
) -> None:
    topic, group = create(brokers), f"g-{uuid.uuid4().hex[:8]}"
    refused = produced(brokers, alice, topic)
    assert refused is not None and refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    put(brokers, rule(alice, AclOperation.WRITE, topic), rule(alice, AclOperation.READ, topic))
    assert produced(brokers, alice, topic) is None
    consumer = Consumer(brokers.librdkafka(alice) | {"group.id": group, "auto.offset.reset": "earliest"})
    with contextlib.closing(consumer):
        consumer.subscribe([topic])
        message = consumer.poll(PATIENCE_S)
        assert message is not None and message.error() is not None
        assert message.error().code() == KafkaError.GROUP_AUTHORIZATION_FAILED
        assert "may not Describe Group" in message.error().str()
    put(brokers, rule(alice, AclOperation.READ, group, kind=ResourceType.GROUP))
    consumer = Consumer(brokers.librdkafka(alice) | {"group.id": group, "auto.offset.reset": "earliest"})
    with contextlib.closing(consumer):
        consumer.subscribe([topic])
        deadline = time.monotonic() + PATIENCE_S
        while (message := consumer.poll(1.0)) is None or message.error() is not None:
            assert time.monotonic() < deadline
        assert message.value() == b"x"
        consumer.commit(asynchronous=False)


def test_an_administrator_lists_and_deletes(brokers: AuthorizedBrokers, alice: Person) -> None:
    topic = create(brokers)
    rules = [
        rule(alice, AclOperation.WRITE, topic),
        rule(alice, AclOperation.READ, topic[:4], pattern=ResourcePatternType.PREFIXED),
    ]
    put(brokers, *rules)
    admin = AdminClient(brokers.librdkafka(brokers.admin))
    matching = AclBindingFilter(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.MATCH,
        None,
        None,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    assert set(rules) <= set(admin.describe_acls(matching).result(PATIENCE_S))
    one = AclBindingFilter(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        None,
        None,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    (deleted,) = admin.delete_acls([one]).values()
    assert deleted.result(PATIENCE_S) == rules[:1]
    assert produced(brokers, alice, topic) is not None
    other = AdminClient(brokers.librdkafka(alice))
    assert other.describe_acls(matching).result(PATIENCE_S) == []  # librdkafka keeps the error to itself
    with pytest.raises(KafkaException, match="may not Alter Cluster"):
        other.create_acls(rules[:1])[rules[0]].result(PATIENCE_S)
    with pytest.raises(KafkaException, match="may not Alter Cluster"):
        other.delete_acls([one])[one].result(PATIENCE_S)


def test_the_command_line_says_who_may_do_what(brokers: AuthorizedBrokers, alice: Person) -> None:
    config = str(brokers.properties(brokers.admin))

    def raftlog(*arguments: str, code: int = 0) -> str:
        ended = run_raftlog(*arguments, "--config", config)
        assert ended.code == code, ended
        assert arguments[1] != "check" or not ended.errors, ended
        return ended.output

    topic = create(brokers)
    asked = ("acl", "check", alice.principal, "Write", "--topic", topic)
    assert "no rule allows it" in raftlog(*asked, code=1)
    raftlog("acl", "add", alice.principal, "Write", "--topic", topic, "--group", topic, code=2)
    assert "no rule allows it" in raftlog(*asked, code=1), "a group has no Write, so nothing was added"
    raftlog("acl", "add", alice.principal, "Read", "--topic", topic, "--group", topic)
    raftlog("acl", "add", alice.principal, "Write", "--topic", topic)
    assert f"may Write Topic '{topic}'" in raftlog(*asked)
    assert f"may Read Group '{topic}'" in raftlog("acl", "check", alice.principal, "Read", "--group", topic)
    raftlog("acl", "add", alice.principal, "Write", "--topic", topic[:3], "--prefix", "--deny")
    assert f"may not Write Topic '{topic[:3]}*'" in raftlog(*asked, code=1)
    listed = json.loads(raftlog("acl", "list", "--topic", topic, "--format", "json"))
    assert {(row["permission"], row["operation"], row["pattern"]) for row in listed} == {
        ("Allow", "Write", "Literal"),
        ("Allow", "Read", "Literal"),
        ("Deny", "Write", "Prefixed"),
    }
    assert "Write" in raftlog("acl", "remove", alice.principal, "--topic", topic[:3], "--prefix")
    assert f"may Write Topic '{topic}'" in raftlog(*asked)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_deny_returns_although_a_broker_does_not_answer_and_that_broker_serves_nobody(
    brokers: AuthorizedBrokers, alice: Person, number: signal.Signals
) -> None:
    """Scenarios 32 and 33. The stopped broker has requests in its sockets when it goes on."""
    topic = create(brokers)
    put(brokers, rule(alice, AclOperation.WRITE, topic))
    assert produced(brokers, alice, topic) is None
    silent = brokers.brokers[3]
    os.kill(silent.pid, number)
    try:
        took = put(brokers, rule(alice, AclOperation.WRITE, topic, permission=AclPermissionType.DENY))
    finally:
        if number is signal.SIGSTOP:
            silent.resume()
        else:
            silent.wait()
            silent.start()
    assert took < LEASE_AND_MORE_S
    for partition in range(3):
        refused = produced(brokers, alice, topic, partition)
        assert refused is not None and refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    said = Path(brokers.brokers[1].log_path).read_text() + Path(brokers.brokers[2].log_path).read_text()
    assert '"event": "acl created"' in said and '"event": "denied"' in said


def test_rules_outlive_all_brokers(brokers: AuthorizedBrokers, alice: Person) -> None:
    """Scenario 34: they are in force from the first request on."""
    topic = create(brokers)
    put(
        brokers,
        rule(alice, AclOperation.ALL, topic),
        rule(alice, AclOperation.WRITE, topic, permission=AclPermissionType.DENY),
    )
    brokers.kill()
    brokers.start()
    refused = produced(brokers, alice, topic)
    assert refused is not None and refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
