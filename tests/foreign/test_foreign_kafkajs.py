"""kafkajs: see `kafkajs.js` for what it does, here is what must come of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from raftlog.testing.processes import ClusterProcesses
from tests.foreign.commands import PATIENCE_S, Background, Node
from tests.foreign.kills import live_through_kills

Name = Callable[[str], str]


def create(bootstrap: str, topic: str, partitions: int = 2) -> str:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(topic, partitions, 3)])[topic].result(PATIENCE_S)
    return topic


def test_administration(node: Node, bootstrap: str, name: Name) -> None:
    found = node("administer", bootstrap, name("topic"), name("group"))
    assert found == {
        "created": True,
        "createdAgain": False,
        "partitions": 3,
        "brokers": [1, 2, 3],
        "retention": "3600000",
        "records": {"partition": 0, "offset": "4", "high": "4", "low": "3"},
        "replicas": [3, 1, 2],
        "reset": ["-2", "-2", "-2"],
        "set": "4",
        "state": "Empty",
        "listed": True,
        "left": False,
    }


def test_what_is_sent_is_read(node: Node, bootstrap: str, name: Name) -> None:
    """Plain and gzip, idempotent and not, by keys and with headers."""
    found = node("roundtrip", bootstrap, create(bootstrap, name("topic")), name("group"))
    assert found == {"sent": 400, "read": 400, "distinct": 400}


def test_members_come_and_go(node: Node, bootstrap: str, name: Name) -> None:
    found = node("rebalance", bootstrap, create(bootstrap, name("topic")), name("group"))
    assert found == {"read": 200, "distinct": 200}


@pytest.mark.slow
def test_nothing_is_lost_with_the_leaders(node: Node, mortal: ClusterProcesses, name: Name) -> None:
    where = (mortal.bootstrap, create(mortal.bootstrap, name("topic"), partitions=3))
    producer = Background(node.command("produce", *where))
    live_through_kills(mortal, producer, Background(node.command("consume", *where, name("group"))))
