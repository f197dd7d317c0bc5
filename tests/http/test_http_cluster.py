"""Three brokers over HTTP: each speaks for itself, what is wrong is said in one voice, elections say why."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import raftlog
from raftlog.testing.processes import BrokerProcess, ClusterProcesses
from tests.http.raw import ask, connect

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProcesses]:
    with ClusterProcesses(tmp_path_factory.mktemp("cluster"), 3, http=True) as brokers:
        yield brokers.start()


def get(broker: BrokerProcess, path: str) -> Any:
    answer = ask(broker, f"/api/v1{path}")
    assert answer.status == 200, (path, answer)
    return answer.json()


def wait(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def make(broker: BrokerProcess, name: str, partitions: int) -> None:
    body = {"name": name, "partitions": partitions}
    assert ask(broker, "/api/v1/topics", method="POST", body=body).status == 201


def health(cluster: ClusterProcesses) -> list[str]:
    command = [sys.executable, "-m", "raftlog", "cluster", "health", "--format", "json"]
    living = [broker.bootstrap for broker in cluster.brokers.values() if broker.is_running]
    told = subprocess.run([*command, "--bootstrap", ",".join(living)], capture_output=True, text=True)
    return list(json.loads(told.stdout)["problems"])


def test_each_broker_speaks_for_itself(cluster: ClusterProcesses) -> None:
    one, two, three = cluster.brokers.values()
    make(one, "spoken", 3)
    wait(lambda: all(row["report"] is not None for row in get(two, "/brokers")))
    rows = get(two, "/brokers")
    assert [(row["id"], row["state"], row["preferred"]) for row in rows] == [
        (1, "alive", 1),
        (2, "alive", 1),
        (3, "alive", 1),
    ]
    assert [row["report"]["replicas"] for row in rows] == [3, 3, 3]
    assert len({row["report"]["rss"] for row in rows}) > 1
    assert {link["to"] for link in rows[0]["report"]["links"] if link["connected"]} == {2, 3}
    wait(lambda: _is_led_and_followed(three))
    said = get(three, "/raft/spoken/0")["said_by"]
    assert sum(view["role"] == "leader" for view in said.values()) == 1
    assert all(bool(view["followers"]) == (view["role"] == "leader") for view in said.values())


def _is_led_and_followed(broker: BrokerProcess) -> bool:
    """Every replica has spoken, and the leader hears both others: on a busy machine not at every moment."""
    said = get(broker, "/raft/spoken/0")["said_by"]
    if set(said) != {"1", "2", "3"} or None in said.values():
        return False
    followers = [row for view in said.values() for row in view["followers"]]
    return len(followers) == 2 and {row["state"] for row in followers} == {"streaming"}


def test_a_leadership_is_handed_over_by_a_click_and_the_page_hears_why(cluster: ClusterProcesses) -> None:
    one = cluster.brokers[1]
    make(one, "handed", 1)
    leader = get(one, "/topics/handed")["partitions"][0]["leader"]
    to = leader % 3 + 1
    with connect(cluster.brokers[to]) as sock:
        sock.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data = b""
        while b"event: rates" not in data:
            data += sock.recv(65536)
        moved = ask(one, "/api/v1/raft/handed/0/transfer", method="POST", body={"to": to})
        assert (moved.status, moved.json()["to"]) == (200, to)
        while f"broker {leader} handed it over".encode() not in data:
            data += sock.recv(65536)
    wait(lambda: get(one, "/topics/handed")["partitions"][0]["leader"] == to)
    wrong = ask(one, "/api/v1/raft/handed/0/transfer", method="POST", body={"to": 9})
    assert wrong.status == 409


async def test_5_kafka_metrics_say_what_clients_find(cluster: ClusterProcesses) -> None:
    """The names and labels are kafka_exporter's; the figures are held to what the client is told."""
    make(cluster.brokers[1], "exported", 2)
    async with raftlog.open_client(cluster.bootstrap) as client:
        async with client.producer() as producer:
            for number in range(10):
                await producer.send("exported", b"x", partition=number % 2)
        async with client.consumer("exported", group="exporter", auto_offset_reset="earliest") as consumer:
            await consumer.poll(10, max_wait_ms=20_000)
            await consumer.commit()
            for broker in cluster.brokers.values():
                wait(lambda broker=broker: _has_caught_up(broker))  # type: ignore[misc]
        view = await client.admin.describe_topic("exported")
        ends = await client.admin.end_offsets("exported")
        committed = await client.admin.group_offsets("exporter")
    texts = [ask(broker, "/metrics/kafka").body for broker in cluster.brokers.values()]
    for broker in cluster.brokers.values():
        samples = _kafka(broker)
        assert samples["kafka_brokers", ()] == 3
        assert samples["kafka_topic_partitions", ("exported",)] == 2
        for partition in view.partitions:
            at = ("exported", str(partition.partition))
            key = raftlog.TopicPartition("exported", partition.partition)
            assert samples["kafka_topic_partition_current_offset", at] == ends[key] == 5
            assert samples["kafka_topic_partition_oldest_offset", at] == 0
            assert samples["kafka_topic_partition_leader", at] == partition.leader
            assert samples["kafka_topic_partition_replicas", at] == 3
            assert samples["kafka_topic_partition_in_sync_replica", at] == 3
            assert samples["kafka_topic_partition_leader_is_preferred", at] == 1
            assert samples["kafka_topic_partition_under_replicated_partition", at] == 0
            of = ("exporter", *at)
            assert samples["kafka_consumergroup_current_offset", of] == committed[key].offset
            assert samples["kafka_consumergroup_lag", of] == 5 - committed[key].offset
        total = sum(place.offset for place in committed.values())
        assert samples["kafka_consumergroup_current_offset_sum", ("exporter", "exported")] == total
        assert samples["kafka_consumergroup_lag_sum", ("exporter", "exported")] == 10 - total
    assert all(b"kafka_broker_info{id=" in text for text in texts)


def _has_caught_up(broker: BrokerProcess) -> bool:
    """Followers are a moment late, and members are asked for every few seconds."""
    samples = _kafka(broker)
    ends = [samples.get(("kafka_topic_partition_current_offset", ("exported", at))) for at in "01"]
    return ends == [5, 5] and samples.get(("kafka_consumergroup_members", ("exporter",))) == 1


def _kafka(broker: BrokerProcess) -> dict[tuple[str, tuple[str, ...]], float]:
    text = ask(broker, "/metrics/kafka").body.decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_broker_that_is_down_is_said_in_one_voice_and_elections_say_why(cluster: ClusterProcesses) -> None:
    """Last, since it kills one."""
    one, three = cluster.brokers[1], cluster.brokers[3]
    make(one, "mourned", 6)
    assert get(one, "/cluster")["problems"] == health(cluster) == []
    three.kill()
    expected = "mourned: 6 partitions with replicas on brokers that are down: 0,1,2,3,4,5"
    wait(lambda: expected in get(one, "/cluster")["problems"], 60.0)
    assert "broker 3 is down" in get(one, "/cluster")["problems"]
    # The page and the command look at different moments, and between two of them a partition is led again.
    wait(lambda: get(one, "/cluster")["without_leader"] == 0)
    wait(lambda: sorted(get(one, "/cluster")["problems"]) == sorted(health(cluster)))
    won = [
        event
        for broker in (1, 2)
        for event in get(cluster.brokers[broker], "/events/recent?limit=1000")
        if event["kind"] == "leader" and event["other"] == 3 and event["cause"] != "handed_over"
    ]
    assert won, "somebody took over what broker 3 led"
    assert {event["why"] for event in won} <= {
        "the process of broker 3 has ended",
        "broker 3 was not heard",
    }
    metrics = ask(one, "/metrics").body + ask(cluster.brokers[2], "/metrics").body
    assert b'raftlog_cluster_brokers{state="down"} 1\n' in metrics
    assert metrics.count(b"\nraftlog_cluster_partitions ") == 1, (
        "the metadata leader alone tells of the cluster"
    )
