"""Kafka's Java client and Go's clients in transactions.

Java and franz-go use the second protocol where that is offered (KIP-890). librdkafka's are in tests/compat.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Producer

from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode
from raftlog.testing.processes import BrokerProcess, ClusterProcesses
from tests.compat.meddler import Meddler
from tests.foreign.commands import Background, Go, JavaTools
from tests.foreign.conftest import OPTIONS

Name = Callable[[str], str]

OF_TRANSACTIONS: Final = (
    ApiKey.INIT_PRODUCER_ID,
    ApiKey.PRODUCE,
    ApiKey.ADD_PARTITIONS_TO_TXN,
    ApiKey.ADD_OFFSETS_TO_TXN,
    ApiKey.TXN_OFFSET_COMMIT,
    ApiKey.END_TXN,
)
AT_ONCE_MS: Final = 5_000
"""For `init_transactions` on a cluster that was just started, on a busy machine. Apache Kafka takes four
seconds on a quiet one."""


@pytest.fixture
def topic(java: JavaTools, bootstrap: str, name: Name) -> str:
    called = name("t")
    java("TopicCommand", "--bootstrap-server", bootstrap, "--create", "--topic", called, "--partitions", 2)
    return called


def epoch_of(java: JavaTools, bootstrap: str, transactional_id: str) -> int:
    said = java(
        "TransactionsCommand",
        *("--bootstrap-server", bootstrap, "describe", "--transactional-id", transactional_id),
    )
    header, row = (line.split("\t") for line in said.strip().splitlines()[-2:])
    return int(dict(zip(map(str.strip, header), row, strict=False))["ProducerEpoch"])


def committed(java: JavaTools, bootstrap: str, topic: str, count: int) -> list[str]:
    read = java(
        "console-consumer",
        *("--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning"),
        *("--isolation-level", "read_committed", "--max-messages", count, "--timeout-ms", 20_000),
    )
    return sorted(read.split())


def test_each_transaction_has_its_epoch(java: JavaTools, bootstrap: str, topic: str, name: Name) -> None:
    id_ = name("epochs")
    assert java.run("Transactions", "write", bootstrap, topic, id_, 9)[-1] == {"did": "all"}
    assert epoch_of(java, bootstrap, id_) == 9
    assert committed(java, bootstrap, topic, 6) == ["0", "1", "3", "4", "6", "7"]


def test_scenario_13_a_producer_goes_on_after_its_time_out(
    java: JavaTools, bootstrap: str, topic: str, name: Name
) -> None:
    did = java.run("Transactions", "time-out", bootstrap, topic, name("late"))
    assert [one["did"] for one in did] == ["wait", "refused", "all"]
    assert committed(java, bootstrap, topic, 1) == ["next"]


def test_the_second_protocol_is_taken_back_and_offered_again(
    java: JavaTools, mortal: ClusterProcesses, name: Name
) -> None:
    """As `kafka-features.sh` does it; a producer keeps its id, and what was written stays."""
    bootstrap, id_ = mortal.bootstrap, name("both")
    java("TopicCommand", "--bootstrap-server", bootstrap, "--create", "--topic", "t")
    epochs = []
    for level, how in ((None, ""), (1, "downgrade"), (2, "upgrade")):
        if level is not None:
            feature = "--feature", f"transaction.version={level}"
            java("FeatureCommand", "--bootstrap-server", bootstrap, how, *feature)
        java.run("Transactions", "write", bootstrap, "t", id_, 3)
        epochs.append(epoch_of(java, bootstrap, id_))
    assert epochs == [3, 4, 8], "each by one, none, each by one; and one for every new producer"
    assert committed(java, bootstrap, "t", 6) == sorted(["0", "1"] * 3)


@pytest.mark.parametrize("client", ["franz-go", "sarama"])
def test_clients_in_go(java: JavaTools, go: Go, bootstrap: str, topic: str, name: Name, client: str) -> None:
    id_ = name(client)
    assert go.run(client, bootstrap, topic, id_, 9)[-1] == {"did": "all"}
    assert committed(java, bootstrap, topic, 6) == ["0", "1", "3", "4", "6", "7"]
    # franz-go goes by the feature, sarama does not know it.
    assert (epoch_of(java, bootstrap, id_) == 9) is (client == "franz-go")


@pytest.mark.parametrize("client", ["librdkafka", "java", "franz-go", "sarama"])
def test_the_first_producer_of_a_fresh_cluster_waits_for_nothing(
    java: JavaTools, go: Go, tmp_path: Path, client: str
) -> None:
    with ClusterProcesses(tmp_path, 3).start() as cluster:
        match client:
            case "librdkafka":
                settings = {"bootstrap.servers": cluster.bootstrap, "transactional.id": "first"}
                producer = Producer(settings)
                begun = time.monotonic()
                producer.init_transactions(60)
                ms = 1000 * (time.monotonic() - begun)
            case "java":
                ms = java.run("Transactions", "write", cluster.bootstrap, "t", "first", 0)[0]["ms"]
            case _:
                ms = go.run(client, cluster.bootstrap, "t", "first", 0)[0]["ms"]
        print(f"{client}: {ms:.0f} ms")
        assert ms < AT_ONCE_MS


@pytest.fixture
def meddler(tmp_path: Path) -> Iterator[Meddler]:
    meddler = Meddler()
    told = {**OPTIONS, "advertised.listeners": f"PLAINTEXT://{meddler.bootstrap}"}
    broker = BrokerProcess(tmp_path / "broker", options=told)
    broker.start()
    meddler.broker_port = broker.port
    yield meddler
    meddler.close()
    broker.stop()


def test_what_java_sends(java: JavaTools, meddler: Meddler) -> None:
    """The second protocol where it is offered, and the first where it is not."""
    bootstrap = meddler.bootstrap
    java("TopicCommand", "--bootstrap-server", bootstrap, "--create", "--topic", "in")
    java("TopicCommand", "--bootstrap-server", bootstrap, "--create", "--topic", "out")
    seen = []
    for level in (2, 1):
        if level == 1:
            down = "downgrade", "--feature", "transaction.version=1"
            java("FeatureCommand", "--bootstrap-server", bootstrap, *down)
        meddler.sent.clear()
        java.run("Transactions", "write", bootstrap, "in", "writer", 1)
        reader = Background(
            java.source("Transactions", "transform", bootstrap, "in", "out", f"g{level}", f"tx{level}")
        )
        reader.until("a batch", lambda: any(one["did"] == "batch" for one in reader.said))  # noqa: B023
        reader.stop()
        seen.append({api.name: max(meddler.sent[api]) for api in OF_TRANSACTIONS if api in meddler.sent})
    assert seen == [
        {"INIT_PRODUCER_ID": 5, "PRODUCE": 13, "TXN_OFFSET_COMMIT": 5, "END_TXN": 5},
        {
            "INIT_PRODUCER_ID": 5,
            "PRODUCE": 11,
            "ADD_PARTITIONS_TO_TXN": 3,
            "ADD_OFFSETS_TO_TXN": 4,
            "TXN_OFFSET_COMMIT": 4,
            "END_TXN": 4,
        },
    ]


@pytest.mark.parametrize(
    ("api", "code"),
    [
        (ApiKey.INIT_PRODUCER_ID, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ApiKey.END_TXN, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ApiKey.END_TXN, ErrorCode.NOT_COORDINATOR),
        (ApiKey.PRODUCE, ErrorCode.NOT_ENOUGH_REPLICAS),
    ],
    ids=lambda each: each.name,
)
def test_java_repeats_what_may_still_happen(
    java: JavaTools, meddler: Meddler, api: ApiKey, code: ErrorCode
) -> None:
    java("TopicCommand", "--bootstrap-server", meddler.bootstrap, "--create", "--topic", "t")
    meddler.refuse(api, code)
    assert java.run("Transactions", "write", meddler.bootstrap, "t", "refused", 2)[-1] == {"did": "all"}
    assert meddler.has_refused
