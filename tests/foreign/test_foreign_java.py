"""Apache Kafka's own Java client, through the command-line tools that everybody runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from raftlog.testing.processes import ClusterProcesses
from tests.foreign.commands import Background, JavaTools
from tests.foreign.kills import live_through_kills

Name = Callable[[str], str]


@pytest.fixture
def topic(java: JavaTools, bootstrap: str, name: Name) -> str:
    made = name("topic")
    java("TopicCommand", *at(bootstrap), "--create", "--topic", made, "--partitions", 2)
    return made


def at(bootstrap: str) -> tuple[str, str]:
    return "--bootstrap-server", bootstrap


def as_file(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_one_console_writes_the_other_reads(
    java: JavaTools, bootstrap: str, topic: str, codec: str
) -> None:
    lines = [f"{n}:value {n}" for n in range(300)]
    keyed = ("--property", "parse.key=true", "--property", "key.separator=:", "--compression-codec", codec)
    java("ConsoleProducer", *at(bootstrap), "--topic", topic, *keyed, input="\n".join(lines) + "\n")
    reading = ("--from-beginning", "--max-messages", 300, "--property", "print.key=true")
    reading += ("--property", "key.separator=:")
    read = java("console-consumer", *at(bootstrap), "--topic", topic, *reading)
    assert sorted(read.splitlines()) == sorted(lines)


def test_a_group_goes_on_and_is_looked_after(java: JavaTools, bootstrap: str, topic: str, name: Name) -> None:
    group = name("group")
    of_group = ("groups", *at(bootstrap), "--group", group)
    java("ConsoleProducer", *at(bootstrap), "--topic", topic, input="".join(f"{n}\n" for n in range(10)))
    consume = ("console-consumer", *at(bootstrap), "--topic", topic, "--group", group, "--max-messages")
    first = java(*consume, 4, "--from-beginning").split()
    second = java(*consume, 6).split()
    assert sorted(first + second, key=int) == [str(n) for n in range(10)]

    rows = [line.split() for line in java(*of_group, "--describe").splitlines() if line.startswith(group)]
    assert len(rows) == 2 and sum(int(row[3]) for row in rows) == 10
    assert {row[5] for row in rows} == {"0"}, "no lag"
    assert group in java("groups", *at(bootstrap), "--list")
    assert " Empty " in java(*of_group, "--describe", "--state")
    java(*of_group, "--reset-offsets", "--topic", topic, "--to-earliest", "--execute")
    assert len(java(*consume, 10).split()) == 10
    java(*of_group, "--delete-offsets", "--topic", topic)
    java(*of_group, "--delete")
    assert group not in java("groups", *at(bootstrap), "--list")


def test_topics(java: JavaTools, bootstrap: str, name: Name) -> None:
    topic = name("topic")
    tool = ("TopicCommand", *at(bootstrap))
    java(*tool, "--create", "--topic", topic, "--partitions", 2, "--config", "retention.ms=60000")
    assert f"'{topic}' " in java(*tool, "--create", "--topic", topic, code=1)
    java(*tool, "--create", "--if-not-exists", "--topic", topic)
    java(*tool, "--alter", "--topic", topic, "--partitions", 3)
    described = java(*tool, "--describe", "--topic", topic)
    assert "PartitionCount: 3" in described and "retention.ms=60000" in described
    assert topic in java(*tool, "--list")
    assert topic in java(*tool, "--describe", "--topics-with-overrides")
    for trouble in ("under-replicated", "unavailable", "under-min-isr"):
        assert topic not in java(*tool, "--describe", f"--{trouble}-partitions")
    java(*tool, "--delete", "--topic", topic)
    assert topic not in java(*tool, "--list")


def test_settings(java: JavaTools, bootstrap: str, topic: str) -> None:
    of_topic = ("configs", *at(bootstrap), "--entity-type", "topics", "--entity-name", topic)
    java(*of_topic, "--alter", "--add-config", "retention.ms=3600000,max.message.bytes=2000000")
    java(*of_topic, "--alter", "--delete-config", "retention.ms")
    described = java(*of_topic, "--describe")
    assert "max.message.bytes=2000000" in described and "retention.ms" not in described
    assert "cleanup.policy=delete" in java(*of_topic, "--describe", "--all")
    java(*of_topic, "--alter", "--add-config", "nonsense=1", code=1)
    brokers = ("configs", *at(bootstrap), "--entity-type", "brokers")
    assert "node.id=1 " in java(*brokers, "--entity-name", 1, "--describe", "--all")


def test_records_are_deleted(java: JavaTools, bootstrap: str, topic: str, tmp_path: Path) -> None:
    numbers = ("--num-records", 1000, "--record-size", 100, "--throughput", -1)
    java(
        "ProducerPerformance",
        "--topic",
        topic,
        *numbers,
        "--producer-props",
        f"bootstrap.servers={bootstrap}",
    )
    java("ConsumerPerformance", *at(bootstrap), "--topic", topic, "--messages", 1000)
    offsets = ("GetOffsetShell", *at(bootstrap), "--topic", topic, "--time")
    ends = [int(line.rpartition(":")[2]) for line in java(*offsets, "latest").split()]
    assert sum(ends) == 1000
    rows = [{"topic": topic, "partition": n, "offset": end} for n, end in enumerate(ends)]
    wanted = as_file(tmp_path / "delete.json", {"version": 1, "partitions": rows})
    java("DeleteRecordsCommand", *at(bootstrap), "--offset-json-file", wanted)
    assert [int(line.rpartition(":")[2]) for line in java(*offsets, "earliest").split()] == ends


def test_replicas_move(java: JavaTools, bootstrap: str, topic: str, tmp_path: Path) -> None:
    java("ConsoleProducer", *at(bootstrap), "--topic", topic, input="moved\n")
    moves = {"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": [3, 1, 2]}]}
    plan = as_file(tmp_path / "plan.json", moves)
    tool = ("reassign", *at(bootstrap), "--reassignment-json-file", plan)
    assert "Successfully started" in java(*tool, "--execute")
    while "in progress" in (said := java(*tool, "--verify")):
        pass
    assert "is completed" in said and "Clearing topic-level throttles" in said
    java(*tool, "--cancel")
    assert "No partition reassignments" in java("reassign", *at(bootstrap), "--list")
    preferred = ("--election-type", "preferred", "--topic", topic, "--partition", 0)
    java("LeaderElectionCommand", *at(bootstrap), *preferred)
    assert "Partition: 0\tLeader: 3\tReplicas: 3,1,2\t" in java(
        "TopicCommand", *at(bootstrap), "--describe", "--topic", topic
    )
    sizes = json.loads(java("LogDirsCommand", *at(bootstrap), "--describe").splitlines()[-1])
    assert [broker["broker"] for broker in sizes["brokers"]] == [1, 2, 3]


def test_the_cluster_describes_itself(java: JavaTools, bootstrap: str) -> None:
    assert re.search(r"Cluster ID: \S{22}", java("ClusterTool", "cluster-id", *at(bootstrap)))
    assert java("ClusterTool", "list-endpoints", *at(bootstrap)).count(" unfenced ") == 3
    assert "Fetch(1): 4 to " in java("BrokerApiVersionsCommand", *at(bootstrap))


def test_transactions_are_written_read_and_listed(
    java: JavaTools, bootstrap: str, topic: str, tmp_path: Path
) -> None:
    settings = tmp_path / "producer.properties"
    settings.write_text(f"bootstrap.servers={bootstrap}\n")
    writing = ("--num-records", 200, "--record-size", 5, "--throughput", 200, "--transactional-id", topic)
    writing += ("--transaction-duration-ms", 100, "--producer.config", settings)
    assert "200 records sent" in java("ProducerPerformance", "--topic", topic, *writing)
    reading = ("--from-beginning", "--max-messages", 200, "--isolation-level", "read_committed")
    read = java("console-consumer", *at(bootstrap), "--topic", topic, *reading)
    assert len(read.splitlines()) == 200
    listed = java("TransactionsCommand", *at(bootstrap), "list").splitlines()
    assert any(row.split()[0] == topic and row.split()[-1] == "CompleteCommit" for row in listed[1:])
    described = java(
        "TransactionsCommand", *at(bootstrap), "describe-producers", "--topic", topic, "--partition", 0
    )
    assert "CurrentTransactionStartOffset" in described


def test_quotas_and_the_quorum_are_told(java: JavaTools, bootstrap: str, name: Name) -> None:
    client = ("configs", *at(bootstrap), "--entity-type", "clients", "--entity-name", name("client"))
    java(*client, "--alter", "--add-config", "consumer_byte_rate=1000")
    assert "consumer_byte_rate=1000" in java(*client, "--describe")
    java(*client, "--alter", "--delete-config", "consumer_byte_rate")
    assert "CurrentVoters" in java("MetadataQuorumCommand", *at(bootstrap), "describe", "--status")


NOT_THERE = {
    "the new group protocol": (
        "console-consumer --bootstrap-server {bootstrap} --topic {topic} --consumer-property "
        "group.protocol=consumer --timeout-ms 9000",
        "Set group.protocol=classic",
    ),
    "access control": ("AclCommand --bootstrap-server {bootstrap} --list", "No Authorizer is configured"),
    "throttles": (
        "reassign --bootstrap-server {bootstrap} --execute --throttle 1000 --reassignment-json-file {plan}",
        "there is no such topic setting",
    ),
}


@pytest.mark.parametrize("what", NOT_THERE)
def test_what_is_not_there_is_refused_clearly(
    java: JavaTools, bootstrap: str, topic: str, what: str, tmp_path: Path
) -> None:
    """Not on Apache Kafka, which has all of it. Brokers without an authorizer have no access control."""
    moves = {"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": [3, 2, 1]}]}
    plan = as_file(tmp_path / "plan.json", moves)
    line, message = NOT_THERE[what]
    assert message in java(*line.format(bootstrap=bootstrap, topic=topic, plan=plan).split(), code=None)


@pytest.mark.slow
def test_nothing_is_lost_with_the_leaders(
    java: JavaTools, mortal: ClusterProcesses, name: Name, tmp_path: Path
) -> None:
    topic, group = name("topic"), name("group")
    java("TopicCommand", *at(mortal.bootstrap), "--create", "--topic", topic, "--partitions", 3)
    settings = tmp_path / "producer.properties"
    settings.write_text("retries=2147483647\nenable.idempotence=true\n")
    common = (*at(mortal.bootstrap), "--topic", topic)
    produce = java.command("VerifiableProducer", *common, "--throughput", 200, "--producer.config", settings)
    members = ("--group-id", group, "--reset-policy", "earliest", "--verbose")
    consume = java.command("VerifiableConsumer", *common, *members)
    live_through_kills(mortal, Background(produce), Background(consume))
