"""Two listeners a broker, one for each side of a network: a client never sees the other side's addresses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from raftlog.testing.processes import BrokerProcess, free_port

SIDES = ("INTERNAL", "EXTERNAL")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def ports() -> dict[str, list[int]]:
    return {side: [free_port(), free_port()] for side in SIDES}


@pytest.fixture(scope="module")
def brokers(ports: dict[str, list[int]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two brokers. By EXTERNAL they are called localhost, by INTERNAL 127.0.0.1."""
    folder: Path = tmp_path_factory.mktemp("listeners")
    peers = [free_port(), free_port()]
    named = ",".join(f"{number + 1}@127.0.0.1:{port}" for number, port in enumerate(peers))
    started = []
    try:
        for number in range(2):
            inside, outside = (ports[side][number] for side in SIDES)
            options = {
                "raftlog.insecure": "true",  # one of them is on every interface
                "listeners": f"INTERNAL://127.0.0.1:{inside},EXTERNAL://:{outside}",
                "advertised.listeners": f"INTERNAL://127.0.0.1:{inside},EXTERNAL://localhost:{outside}",
                "listener.security.protocol.map": "INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT",
                "raftlog.peer.listen": f"127.0.0.1:{peers[number]}",
                "raftlog.peers": named,
                "num.partitions": 4,
            }
            broker = BrokerProcess(folder / str(number), port=inside, node_id=number + 1, options=options)
            broker.launch()
            started.append(broker)
        for broker in started:
            broker.wait_ready()
        yield
    finally:
        for broker in started:
            if broker.is_running:
                broker.kill()


@pytest.mark.parametrize("side", SIDES)
def test_a_client_stays_on_the_side_that_it_came_by(
    brokers: None, ports: dict[str, list[int]], side: str
) -> None:
    host = "localhost" if side == "EXTERNAL" else "127.0.0.1"
    bootstrap = f"{host}:{ports[side][0]}"
    where = {(host, port) for port in ports[side]}
    seen = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=PATIENCE_S).brokers.values()
    assert {(each.host, each.port) for each in seen} == where
    topic = f"t-{side.lower()}"
    expected = {f"{number}" for number in range(40)}

    producer = Producer({"bootstrap.servers": bootstrap})
    for value in sorted(expected):
        producer.produce(topic, value)
    assert producer.flush(PATIENCE_S) == 0
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "group.id": f"librdkafka-{side}",
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    read: set[str] = set()
    while read != expected:
        message = consumer.poll(PATIENCE_S)
        assert message is not None and message.error() is None
        read.add((message.value() or b"").decode())
    consumer.close()

    from kafka import KafkaConsumer, KafkaProducer  # it warns when it is imported

    python = KafkaProducer(bootstrap_servers=bootstrap)
    for value in sorted(expected):
        python.send(topic, value.encode())
    python.flush(PATIENCE_S)
    python.close()
    group = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=f"python-{side}", auto_offset_reset="earliest"
    )
    count = 0
    while count < 2 * len(expected):
        count += sum(map(len, group.poll(timeout_ms=1000).values()))
    assert {(each.host, each.port) for each in group._client.cluster.brokers()} == where
    group.close()
