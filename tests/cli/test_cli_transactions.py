"""`raftlog txn` against a real broker."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import KafkaException, Producer

from raftlog.testing.processes import BrokerProcess
from tests.cli.conftest import Run

PATIENCE_S = 30.0


def test_the_life_of_a_transaction(broker: BrokerProcess, raftlog: Run, name: str) -> None:
    raftlog("topic", "create", name, "-p", "2")
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": name, "log_level": 0})
    producer.init_transactions(PATIENCE_S)

    def described() -> dict[str, object]:
        found: dict[str, object] = json.loads(raftlog("txn", "describe", name, "--format", "json").stdout)
        return found

    before = described()
    assert (before["state"], before["started_ms"], before["partitions"]) == ("Empty", None, [])
    producer.begin_transaction()
    producer.produce(name, b"x", partition=1)
    assert producer.flush(PATIENCE_S) == 0
    during = described()
    assert (during["state"], during["partitions"]) == ("Ongoing", [f"{name}-1"])
    assert isinstance(during["started_ms"], int) and during["coordinator"] == 1
    assert f"in the transaction: {name}-1".encode() in raftlog("txn", "describe", name).stdout
    listed = json.loads(raftlog("txn", "list", "--state", "Ongoing", "--format", "json").stdout)
    assert name in {each["id"] for each in listed}
    assert name.encode() in raftlog("txn", "list").stdout
    listed = json.loads(raftlog("txn", "list", "--state", "PrepareAbort", "--format", "json").stdout)
    assert name not in {each["id"] for each in listed}

    assert b"is fenced" in raftlog("txn", "abort", name).stdout
    assert described()["state"] == "Empty"
    with pytest.raises(KafkaException):
        producer.commit_transaction(PATIENCE_S)


def test_an_id_that_there_is_not_is_answered_with_the_nearest(
    broker: BrokerProcess, raftlog: Run, name: str
) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": name, "log_level": 0})
    producer.init_transactions(PATIENCE_S)
    for command in ("describe", "abort"):
        wrong = raftlog("txn", command, f"{name}x", code=1).stderr.decode()
        assert "there is no transactional id" in wrong and f"did you mean {name!r}?" in wrong
    assert b"is not one of" in raftlog("txn", "list", "--state", "Ongoign", code=2).stderr
