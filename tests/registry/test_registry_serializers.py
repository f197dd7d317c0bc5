"""confluent-kafka's serializers and deserializers: records through a broker, schemas through the registry."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.common.schema_registry_client import (
    ConfigCompatibilityLevel,
    ServerConfig,
)
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from raftlog.testing.processes import BrokerProcess
from tests.registry.process import PATIENCE_S, RegistryProcess

pytestmark = pytest.mark.slow

PROTO = {
    "story/money.proto": 'syntax = "proto3"; package story; message Money { int64 cents = 1; }',
    "story/order.proto": 'syntax = "proto3"; package story; import "story/money.proto";'
    ' import "google/protobuf/timestamp.proto"; message Unused {} message Order { string what = 1;'
    " Money price = 2; google.protobuf.Timestamp at = 3; map<string, int32> counts = 4; }",
}
AVRO = {
    "type": "record",
    "name": "Order",
    "namespace": "story",
    "fields": [
        {"name": "what", "type": "string"},
        {"name": "cents", "type": ["null", "long"], "default": None},
    ],
}
JSON = {
    "title": "Order",
    "type": "object",
    "properties": {"what": {"type": "string"}, "cents": {"type": "integer"}},
    "required": ["what"],
    "additionalProperties": False,
}
ORDER = {"what": "apple", "cents": 120}


@dataclass(frozen=True)
class Kind:
    """How a serializer and a deserializer are made, and what goes through them."""

    serializer: Callable[..., Any]
    deserializer: Callable[..., Any]
    value: Any


@pytest.fixture(scope="module")
def order_class(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The message that the compiler makes of `PROTO`."""
    folder = tmp_path_factory.mktemp("proto")
    for name, text in PROTO.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={folder}", f"--python_out={folder}"]
    subprocess.run([*command, *PROTO], cwd=folder, check=True)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("story.order_pb2").Order
    sys.path.remove(str(folder))


@pytest.fixture(params=["avro", "json", "protobuf"])
def kind(request: pytest.FixtureRequest) -> Kind:
    if request.param == "avro":
        return Kind(
            lambda client, conf: AvroSerializer(client, json.dumps(AVRO), conf=conf),
            lambda client: AvroDeserializer(client),
            ORDER,
        )
    if request.param == "json":
        return Kind(
            lambda client, conf: JSONSerializer(json.dumps(JSON), client, conf=conf),
            lambda client: JSONDeserializer(None, schema_registry_client=client),
            ORDER,
        )
    order = request.getfixturevalue("order_class")
    value = order(what="apple", price={"cents": 120}, at={"seconds": 5}, counts={"red": 2})
    return Kind(
        lambda client, conf: ProtobufSerializer(order, client, conf=conf),
        lambda client: ProtobufDeserializer(order, {}, client),
        value,
    )


@pytest.fixture
def new_client(registry: RegistryProcess) -> Iterator[Callable[[], SchemaRegistryClient]]:
    """Makes clients that have nothing cached."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(SchemaRegistryClient({"url": registry.url}))


def through(broker: BrokerProcess, topic: str, data: bytes) -> bytes:
    """What a consumer gets of what a producer sends."""
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(topic, data)
    assert producer.flush(PATIENCE_S) == 0
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    try:
        consumer.subscribe([topic])
        message = consumer.poll(PATIENCE_S)
        assert message is not None and message.error() is None, message and message.error()
        value = message.value()
        assert isinstance(value, bytes)
        return value
    finally:
        consumer.close()


def test_records_go_from_a_serializer_to_a_deserializer(
    broker: BrokerProcess, new_client: Callable[[], SchemaRegistryClient], kind: Kind, subject: str
) -> None:
    context = SerializationContext(subject, MessageField.VALUE)
    data = kind.serializer(new_client(), {})(kind.value, context)
    assert data[0] == 0
    read = through(broker, subject, data)
    assert kind.deserializer(new_client())(read, context) == kind.value, "with nothing cached"
    for conf in (
        {"auto.register.schemas": False},
        {"auto.register.schemas": False, "use.latest.version": True},
    ):
        assert kind.serializer(new_client(), conf)(kind.value, context) == data
    assert kind.serializer(new_client(), {"normalize.schemas": True})(kind.value, context)
    unknown = SerializationContext(f"{subject}-unknown", MessageField.VALUE)
    with pytest.raises(SchemaRegistryError) as refused:
        kind.serializer(new_client(), {"auto.register.schemas": False})(kind.value, unknown)
    assert refused.value.http_status_code == 404


def test_the_administrative_calls_of_the_client(
    new_client: Callable[[], SchemaRegistryClient], subject: str
) -> None:
    client = new_client()
    schema = Schema(json.dumps(AVRO), "AVRO")
    id = client.register_schema(subject, schema)
    assert client.get_schema(id).schema_type == "AVRO"
    assert client.lookup_schema(subject, schema).version == 1
    assert client.get_latest_version(subject).schema_id == id
    assert client.get_versions(subject) == [1] and subject in client.get_subjects()
    assert client.set_config(subject, ServerConfig(compatibility=ConfigCompatibilityLevel.FULL))
    assert client.get_config(subject).compatibility_level == "FULL"
    assert client.test_compatibility(subject, schema)
    assert client.get_compatibility(subject) == "FULL"
    assert subject in client.get_subjects_by_schema_id(id)
    assert client.delete_version(subject, 1) == 1
    assert client.delete_subject(f"{subject}", permanent=True) == [1]


def test_a_token_is_sent(broker: BrokerProcess, log: Path, tmp_path: Path, topic: str) -> None:
    (tmp_path / "token").write_text("t" * 32)
    with RegistryProcess(
        broker.bootstrap, log, "--topic", topic, "--token-file", str(tmp_path / "token")
    ) as guarded:
        token = {
            "bearer.auth.credentials.source": "STATIC_TOKEN",
            "bearer.auth.token": "t" * 32,
            "bearer.auth.logical.cluster": "none",
        }
        with SchemaRegistryClient({"url": guarded.url, **token}) as client:
            assert client.get_subjects() == []
        with (
            SchemaRegistryClient({"url": guarded.url}) as stranger,
            pytest.raises(SchemaRegistryError, match="token"),
        ):
            stranger.get_subjects()
