"""Records that were deleted stay so: after a SIGKILL of all brokers, and whoever leads next."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests import secured
from tests.secured import ClusterProcesses
from tests.waiting import PATIENCE_S, until

KEY = TopicPartition("t", 0)


def begins_at_42(cluster: ClusterProcesses) -> bool:
    """False while nobody says where the log begins; whoever says so says 42."""
    consumer = Consumer({**secured.librdkafka(cluster.bootstrap), "group.id": "g"})
    try:
        assert consumer.get_watermark_offsets(KEY, timeout=PATIENCE_S)[0] == 42
        return True
    except KafkaException:
        return False
    finally:
        consumer.close()


@pytest.mark.slow
@pytest.mark.long
def test_the_start_of_a_log_outlives_every_broker(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path).start() as cluster:
        admin = AdminClient(secured.librdkafka(cluster.bootstrap))
        admin.create_topics([NewTopic("t", 1, 3)])["t"].result(PATIENCE_S)
        producer = Producer({**secured.librdkafka(cluster.bootstrap), "linger.ms": 50})
        for _ in range(100):
            producer.produce("t", b"value")  # a batch or two: the start lies inside of one
        assert producer.flush(PATIENCE_S) == 0
        before = TopicPartition("t", 0, 42)
        deleted = admin.delete_records([before])[before].result(PATIENCE_S)
        assert deleted.low_watermark == 42
        cluster.kill()
        cluster.start()
        until("somebody says where it begins", lambda: begins_at_42(cluster))
        for broker in cluster.brokers.values():
            broker.kill()
            until("somebody says where it begins", lambda: begins_at_42(cluster))
            broker.start()
