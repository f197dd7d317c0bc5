"""The metadata's Raft group, as kafka-python shows it to an operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from raftlog.testing.cluster import EmbeddedCluster
from tests import secured
from tests.waiting import until


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with secured.running(3) as cluster:
        yield cluster


def described(bootstrap: str) -> dict[str, Any]:
    from kafka import KafkaAdminClient  # it warns when it is imported

    admin = KafkaAdminClient(**secured.kafka_python(bootstrap))
    try:
        answer: dict[str, Any] = admin.describe_metadata_quorum()
        return answer
    finally:
        admin.close()


@pytest.mark.slow
def test_every_broker_tells_how_the_metadata_group_does(cluster: EmbeddedCluster) -> None:
    cluster.create_topic("orders")

    def all_hold_everything() -> bool:
        row = described(cluster.bootstrap)["topics"][0]["partitions"][0]
        ends = {voter["log_end_offset"] for voter in row["current_voters"]}
        return len(row["current_voters"]) == 3 and ends == {row["high_watermark"]}

    until("three voters hold all that is committed", all_hold_everything)
    leaders = set()
    for broker in cluster.brokers:
        answer = described(broker.bootstrap)
        (topic,) = answer["topics"]
        (row,) = topic["partitions"]
        assert topic["topic_name"] == "__cluster_metadata"
        assert "error_code" not in row and row["high_watermark"] > 0 and row["observers"] == []
        assert {voter["replica_id"] for voter in row["current_voters"]} == {1, 2, 3}
        assert {
            (node["node_id"], each["port"]) for node in answer["nodes"] for each in node["listeners"]
        } == {(each.id, each.port) for each in cluster.brokers}
        leaders.add((row["leader_id"], row["leader_epoch"]))
    assert len(leaders) == 1
