"""kafka-python 3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import kafka
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import OffsetAndMetadata, TopicPartition

from tests import secured
from tests.compat.clients.base import (
    PATIENCE_S,
    GroupDescription,
    Message,
    Record,
    Refused,
    TopicDescription,
)

_PATIENCE_MS: Final = int(PATIENCE_S * 1000)


class KafkaPython:
    name = "kafka-python"

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin_client: kafka.KafkaAdminClient | None = None

    @property
    def _admin(self) -> kafka.KafkaAdminClient:
        if self._admin_client is None:
            self._admin_client = kafka.KafkaAdminClient(**secured.kafka_python(self.bootstrap))
        return self._admin_client

    def producer(
        self, *, acks: str = "all", codec: str = "none", idempotent: bool | None = None, linger_ms: int = 0
    ) -> KafkaPythonProducer:
        settings: dict[str, Any] = {"acks": acks if acks == "all" else int(acks), "linger_ms": linger_ms}
        if codec != "none":
            settings["compression_type"] = codec
        if idempotent is not None:
            settings["enable_idempotence"] = idempotent
        return KafkaPythonProducer(self.bootstrap, settings, tells_offsets=acks != "0")

    def consumer(
        self,
        topic: str,
        *,
        group: str | None = None,
        partition: int | None = None,
        start: str = "earliest",
        instance_id: str | None = None,
    ) -> KafkaPythonConsumer:
        consumer = kafka.KafkaConsumer(
            **secured.kafka_python(self.bootstrap),
            group_id=group,
            group_instance_id=instance_id,
            auto_offset_reset=start,
            enable_auto_commit=False,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=500,
            consumer_timeout_ms=_PATIENCE_MS,
        )
        if partition is None:
            # Without the topic's metadata its first join may assign nothing and stay so for good, one time
            # in a hundred, with Apache Kafka too.
            consumer.partitions_for_topic(topic)
            consumer.subscribe([topic])
        else:
            consumer.assign([TopicPartition(topic, partition)])
        return KafkaPythonConsumer(consumer, topic)

    def _reader(self, group: str | None = None) -> kafka.KafkaConsumer:
        return kafka.KafkaConsumer(
            **secured.kafka_python(self.bootstrap), group_id=group, enable_auto_commit=False
        )

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        consumer = self._reader(group)
        try:
            offset: int | None = consumer.committed(TopicPartition(topic, partition))
            return offset
        finally:
            consumer.close()

    def offset_for_time(self, topic: str, partition: int, timestamp: int) -> int | None:
        consumer = self._reader()
        try:
            place = TopicPartition(topic, partition)
            found = consumer.offsets_for_times({place: timestamp})[place]
            return None if found is None or found.offset < 0 else int(found.offset)
        finally:
            consumer.close()

    def log_bounds(self, topic: str, partition: int) -> tuple[int, int]:
        consumer = self._reader()
        try:
            place = TopicPartition(topic, partition)
            return consumer.beginning_offsets([place])[place], consumer.end_offsets([place])[place]
        finally:
            consumer.close()

    def topics(self) -> set[str]:
        return set(self._admin.list_topics())

    def describe_topic(self, name: str) -> TopicDescription:
        (topic,) = self._admin.describe_topics([name])
        if topic["error_code"]:
            raise Refused(topic["error_code"])
        partitions = topic["partitions"]
        return TopicDescription(
            name,
            {p["partition_index"]: p["leader_id"] for p in partitions},
            {p["partition_index"]: tuple(p["replica_nodes"]) for p in partitions},
        )

    def create_topic(
        self, name: str, *, partitions: int = 1, replicas: int = 1, configs: Mapping[str, str] | None = None
    ) -> None:
        spec = {"num_partitions": partitions, "replication_factor": replicas, "configs": dict(configs or {})}
        answer = self._admin.create_topics({name: spec}, raise_errors=False)
        _raise_error(answer["topics"][0])

    def delete_topic(self, name: str) -> None:
        answer = self._admin.delete_topics([name], raise_errors=False)
        _raise_error(answer["topics"][0])

    def add_partitions(self, name: str, total: int) -> None:
        answer = self._admin.create_partitions({name: total}, raise_errors=False)
        _raise_error(answer.to_dict()["results"][0])

    def topic_configs(self, name: str) -> Mapping[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, name)
        answer = self._admin.describe_configs([resource], config_filter="all")
        return {key: entry["value"] for key, entry in answer["topic"][name].items()}

    def alter_topic_config(self, name: str, key: str, value: str) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, name, configs={key: value})
        result = self._admin.alter_configs([resource], raise_on_unknown=False)["topic"][name]
        if result != "OK":
            raise Refused(-1, result)

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        self._admin.delete_records({TopicPartition(topic, partition): before})

    def broker_ids(self) -> tuple[set[int], int]:
        cluster = self._admin.describe_cluster()
        return {broker["broker_id"] for broker in cluster["brokers"]}, cluster["controller_id"]

    def groups(self) -> set[str]:
        return {group["group_id"] for group in self._admin.list_groups()}

    def describe_group(self, group: str) -> GroupDescription:
        found = self._admin.describe_groups([group])[group]
        return GroupDescription(group, found["group_state"], found["protocol_type"], len(found["members"]))

    def delete_group(self, group: str) -> None:
        result = self._admin.delete_groups([group])[group]
        if result != "OK":
            raise Refused(-1, result)

    def group_offsets(self, group: str, topic: str) -> Mapping[int, int]:
        found = self._admin.list_group_offsets({group: None})[group]
        return {place.partition: place_offset.offset for place, place_offset in found.items()}

    def close(self) -> None:
        if self._admin_client is not None:
            self._admin_client.close()


class KafkaPythonProducer:
    def __init__(self, bootstrap: str, settings: dict[str, Any], *, tells_offsets: bool) -> None:
        self._tells_offsets = tells_offsets
        self._producer = kafka.KafkaProducer(
            **secured.kafka_python(bootstrap), max_request_size=8_000_000, batch_size=16_384, **settings
        )

    def send(self, topic: str, messages: Iterable[Message]) -> list[int]:
        futures = [
            self._producer.send(
                topic,
                value=message.value,
                key=message.key,
                headers=list(message.headers),
                partition=message.partition,
                timestamp_ms=message.timestamp,
            )
            for message in messages
        ]
        self._producer.flush(PATIENCE_S)
        if not self._tells_offsets:
            return [-1] * len(futures)
        try:
            return [future.get(PATIENCE_S).offset for future in futures]
        except kafka.errors.BrokerResponseError as error:
            raise Refused(error.errno, str(error)) from error

    def close(self) -> None:
        self._producer.close(timeout=PATIENCE_S)


class KafkaPythonConsumer:
    def __init__(self, consumer: kafka.KafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def poll(self, timeout_s: float) -> list[Record]:
        answer = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        return [
            Record(r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
            for records in answer.values()
            for r in records
        ]

    def assignment(self) -> frozenset[int]:
        return frozenset(place.partition for place in self._consumer.assignment())

    def seek(self, partition: int, offset: int) -> None:
        self._consumer.seek(TopicPartition(self._topic, partition), offset)

    def position(self, partition: int) -> int:
        return int(self._consumer.position(TopicPartition(self._topic, partition), timeout_ms=_PATIENCE_MS))

    def commit(self, offsets: Mapping[int, int] | None = None) -> None:
        if offsets is None:
            self._consumer.commit()
            return
        self._consumer.commit(
            {
                TopicPartition(self._topic, partition): OffsetAndMetadata(offset, "", -1)
                for partition, offset in offsets.items()
            }
        )

    def close(self) -> None:
        self._consumer.close()


def _raise_error(result: Mapping[str, Any]) -> None:
    if result["error_code"]:
        raise Refused(result["error_code"], str(result.get("error_message")))
