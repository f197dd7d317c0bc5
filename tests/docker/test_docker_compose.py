"""The image and docker-compose.yml on a real engine (scenario 29)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from raftlog.client.client import Client, open_client
from raftlog.testing.processes import free_port
from tests.docker.engine import Project, build, compose_file, need_docker, project, run

# One worker has them all: two would build the image and start the file's brokers twice.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.xdist_group("docker"),
    pytest.mark.filterwarnings("default"),  # the clients' own
]

BROKERS = ("broker-1", "broker-2", "broker-3")
RECORDS = 2000


@pytest.fixture(scope="module")
def image() -> None:
    need_docker()
    build()


@pytest.fixture(scope="module")
def up(image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    file = compose_file(tmp_path_factory.mktemp("compose"))
    with project(f"raftlogtest{os.getpid()}", file) as found:
        found.wait_healthy(*BROKERS)
        yield found


def host_bootstrap(up: Project) -> str:
    """As the file advertises to this machine."""
    return ",".join(re.findall(r"HOST://(localhost:\d+)", up.compose("config")))


async def produce(client: Client, topic: str, first: int, count: int, acknowledged: set[int]) -> None:
    async with client.producer(acks="all") as producer:
        for number in range(first, first + count):
            await producer.send(topic, b"%d" % number)
            acknowledged.add(number)


async def read_all(client: Client, topic: str, wanted: set[int]) -> set[int]:
    found: set[int] = set()
    with trio.fail_after(60):
        async with client.consumer(topic, auto_offset_reset="earliest") as consumer:
            while not wanted <= found:
                found |= {int(record.value or b"-1") for record in await consumer.poll(1000)}
    return found


def test_three_brokers_are_reached_from_here_and_from_a_container(up: Project) -> None:
    up.compose("restart", "--timeout", "10")
    print(f"healthy after {up.wait_healthy(*BROKERS):.1f} s")

    async def here() -> set[int]:
        async with open_client(host_bootstrap(up)) as client:
            await client.admin.create_topic("hello", partitions=3)
            await produce(client, "hello", 0, 20, set())
            return await read_all(client, "hello", set(range(20)))

    assert trio.run(here) == set(range(20))
    inside = ("--bootstrap", "broker-1:29092,broker-2:29092")
    assert "hello" in up.inside("topic", "list", *inside)
    up.inside("produce", "hello", *inside, stdin="20\n21\n")
    said = up.inside("consume", "hello", *inside, "--from-beginning", "-n", "22")
    assert sorted(map(int, re.findall(r"^\d+$", said, re.MULTILINE))) == list(range(22))


def test_a_container_killed_under_load_loses_nothing(up: Project) -> None:
    acknowledged: set[int] = set()

    async def main() -> set[int]:
        async with open_client(host_bootstrap(up)) as client:
            await client.admin.create_topic("load", partitions=3)
            async with trio.open_nursery() as nursery:
                for first in range(0, RECORDS, RECORDS // 4):
                    nursery.start_soon(produce, client, "load", first, RECORDS // 4, acknowledged)
                while len(acknowledged) < RECORDS // 4:  # noqa: ASYNC110
                    await trio.sleep(0.02)
                victim = up.container("broker-1")
                await trio.to_thread.run_sync(run, "docker", "kill", "--signal", "KILL", victim)
            return await read_all(client, "load", set(range(RECORDS)))

    assert trio.run(main) == set(range(RECORDS)) == acknowledged
    up.compose("start", "broker-1")
    up.wait_healthy(*BROKERS)


def test_a_registry_beside_the_brokers(up: Project) -> None:
    """The profile registry: its clients' serializers, from here; ids stay when it starts again."""
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    schema = {"type": "record", "name": "Order", "fields": [{"name": "what", "type": "string"}]}
    context = SerializationContext("orders", MessageField.VALUE)
    up.compose("--profile", "registry", "up", "--detach", "--no-build", "registry")
    up.wait_healthy("registry")
    with SchemaRegistryClient({"url": f"http://{up.published('registry', 8081)}"}) as client:
        written = AvroSerializer(client, json.dumps(schema))({"what": "apple"}, context)
    up.compose("--profile", "registry", "restart", "--timeout", "10", "registry")
    up.wait_healthy("registry")
    with SchemaRegistryClient({"url": f"http://{up.published('registry', 8081)}"}) as client:
        assert AvroDeserializer(client)(written, context) == {"what": "apple"}
    assert "_schemas" in up.inside("topic", "list", "--internal", "--bootstrap", "broker-1:29092")


KAFKAS = "\n".join(
    [
        "version: '2'",
        "services:",
        *(
            f"""
  kafka-{n}:
    image: ${{IMAGE}}
    hostname: kafka-{n}
    ports: ["{{host{n}}}:9092"]
    environment:
      CLUSTER_ID: 4L6g3nShT-eMCtK--X86sw
      KAFKA_NODE_ID: {n}
      KAFKA_PROCESS_ROLES: broker,controller
      KAFKA_CONTROLLER_QUORUM_VOTERS: 1@kafka-1:9093,2@kafka-2:9093,3@kafka-3:9093
      KAFKA_CONTROLLER_LISTENER_NAMES: CONTROLLER
      KAFKA_LISTENERS: PLAINTEXT://:19092,CONTROLLER://:9093,PLAINTEXT_HOST://:9092
      KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://kafka-{n}:19092,PLAINTEXT_HOST://localhost:{{host{n}}}
      KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT
      KAFKA_INTER_BROKER_LISTENER_NAME: PLAINTEXT
      KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR: 1
      KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR: 1
      KAFKA_TRANSACTION_STATE_LOG_MIN_ISR: 1
      KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS: 0
      KAFKA_LOG_DIRS: /tmp/kraft-combined-logs
"""
            for n in (1, 2, 3)
        ),
    ]
)
"""With the variables that the example of the apache/kafka image has."""


def test_29_a_file_for_kafkas_image_starts_with_this_one(image: None, tmp_path: Path) -> None:
    ports = {f"host{n}": str(free_port()) for n in (1, 2, 3)}
    file = tmp_path / "docker-compose.yml"
    text = KAFKAS
    for name, port in ports.items():
        text = text.replace(f"{{{name}}}", port)
    file.write_text(text)
    kafkas = ("kafka-1", "kafka-2", "kafka-3")
    with project(f"raftlogkafka{os.getpid()}", file, {"IMAGE": "raftlog"}) as up:
        up.wait_healthy(*kafkas)
        bootstrap = ",".join(f"localhost:{port}" for port in ports.values())

        async def main() -> None:
            async with open_client(bootstrap) as client:
                await client.admin.create_topic("moved", partitions=3)
                await produce(client, "moved", 0, 50, set())
                view = await client.admin.describe_topic("moved")
                leader = view.partitions[0].leader
                container = up.container(f"kafka-{leader}")
                await trio.to_thread.run_sync(run, "docker", "kill", "--signal", "KILL", container)
                await produce(client, "moved", 50, 50, set())
                assert await read_all(client, "moved", set(range(100))) == set(range(100))

        trio.run(main)
        inside = ("--bootstrap", "kafka-1:19092,kafka-2:19092,kafka-3:19092")
        up.inside("produce", "moved", *inside, stdin="100\n")
        said = up.inside("consume", "moved", *inside, "--from-beginning", "-n", "101")
        assert len(re.findall(r"^\d+$", said, re.MULTILINE)) == 101
