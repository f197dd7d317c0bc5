"""Variables of Kafka's images as settings of raftlog."""

from __future__ import annotations

import pytest

from raftlog.config import BrokerConfig
from raftlog.errors import ConfigError

COMPAT = {"RAFTLOG_ENV_COMPAT": "kafka"}

THREE = COMPAT | {
    # As in the example of the apache/kafka image with three nodes that are both.
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_LISTENERS": "PLAINTEXT://:19092,CONTROLLER://:9093,PLAINTEXT_HOST://:9092",
    "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka-1:19092,PLAINTEXT_HOST://localhost:29092",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": (
        "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT"
    ),
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@kafka-1:9093,2@kafka-2:9093,3@kafka-3:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_LOG_DIRS": "/tmp/kraft-combined-logs",
    "KAFKA_HEAP_OPTS": "-Xmx1g",
    "CLUSTER_ID": "4L6g3nShT-eMCtK--X86sw",
}


def of(environ: dict[str, str]) -> BrokerConfig:
    return BrokerConfig.load(None, environ)


def test_three_brokers_that_are_controllers_too_find_each_other() -> None:
    config = of(THREE)
    assert config.int("node.id") == 1
    assert config.str("raftlog.peer.listen") == ":9093"
    assert config.peer_advertised == ("kafka-1", 9093)
    assert config.peers == {1: ("kafka-1", 9093), 2: ("kafka-2", 9093), 3: ("kafka-3", 9093)}
    assert [(one.name, one.port) for one in config.listeners] == [
        ("PLAINTEXT", 19092),
        ("PLAINTEXT_HOST", 9092),
    ]
    assert config.int("group.initial.rebalance.delay.ms") == 0


@pytest.mark.parametrize(
    "name", ["CLUSTER_ID", "KAFKA_CLUSTER_ID", "KAFKA_KRAFT_CLUSTER_ID", "KAFKA_KAFKA_CLUSTER_ID"]
)
def test_the_id_of_the_cluster_is_the_one_that_is_given(name: str) -> None:
    assert of(COMPAT | {name: "4L6g3nShT-eMCtK--X86sw"}).str("raftlog.cluster.id") == "4L6g3nShT-eMCtK--X86sw"
    assert of({name: "4L6g3nShT-eMCtK--X86sw"}).str("raftlog.cluster.id") == ""


def test_a_single_one_listens_for_no_other() -> None:
    config = of(THREE | {"KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093"})
    assert config.peers == {}


def test_bitnamis_prefix_means_the_same() -> None:
    environ = COMPAT | {"KAFKA_CFG_NODE_ID": "4", "KAFKA_CFG_NUM_PARTITIONS": "3", "KAFKA_KRAFT_MODE": "true"}
    config = of(environ)
    assert (config.int("node.id"), config.int("num.partitions")) == (4, 3)


def test_raftlogs_own_variables_win_and_without_the_switch_none_of_kafkas_counts() -> None:
    environ = {"KAFKA_NUM_PARTITIONS": "3", "KAFKA_ZOOKEEPER_CONNECT": "zk:2181"}
    assert of(environ).int("num.partitions") == BrokerConfig.of({}).int("num.partitions")
    del environ["KAFKA_ZOOKEEPER_CONNECT"]
    assert of(environ | COMPAT | {"RAFTLOG_NUM_PARTITIONS": "5"}).int("num.partitions") == 5


def test_what_an_orchestrator_puts_there_is_no_setting() -> None:
    of(
        COMPAT
        | {"KAFKA_PORT": "tcp://10.0.0.1:9092", "KAFKA_SERVICE_HOST": "10.0.0.1", "KAFKA_VERSION": "4.1"}
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KAFKA_ZOOKEEPER_CONNECT", "zk:2181", "no ZooKeeper is needed"),
        ("KAFKA_PROCESS_ROLES", "broker", "every broker of raftlog is both"),
        ("KAFKA_CONTROLLER_QUORUM_BOOTSTRAP_SERVERS", "kafka-1:9093", "1@kafka-1:9093"),
        ("KAFKA_ADVERTISED_HOST_NAME", "kafka", "KAFKA_ADVERTISED_LISTENERS"),
        ("KAFKA_CREATE_TOPICS", "a:1:1", "raftlog topic create"),
        ("KAFKA_NUM_PARTITIONZ", "3", "did you mean num.partitions?"),
        ("CLUSTER_ID", "my cluster", "letters, digits"),
        ("KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE", "true", "unclean.leader.election.enable"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_what_to_do(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        of(COMPAT | {name: value})
