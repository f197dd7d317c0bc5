"""confluent-kafka 2 (librdkafka)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from tests import secured
from tests.compat.clients.base import (
    PATIENCE_S,
    GroupDescription,
    Message,
    Record,
    Refused,
    TopicDescription,
)

_POLL_MAX: Final = 10_000


class Confluent:
    name = "confluent-kafka"

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin_client: AdminClient | None = None

    @property
    def _admin(self) -> AdminClient:
        if self._admin_client is None:
            self._admin_client = AdminClient({**secured.librdkafka(self.bootstrap), "log_level": 0})
        return self._admin_client

    def producer(
        self, *, acks: str = "all", codec: str = "none", idempotent: bool | None = None, linger_ms: int = 0
    ) -> ConfluentProducer:
        settings: dict[str, Any] = {"acks": acks, "compression.type": codec, "linger.ms": linger_ms}
        if idempotent is not None:
            settings["enable.idempotence"] = idempotent
        return ConfluentProducer(self.bootstrap, settings, tells_offsets=acks != "0")

    def consumer(
        self,
        topic: str,
        *,
        group: str | None = None,
        partition: int | None = None,
        start: str = "earliest",
        instance_id: str | None = None,
    ) -> ConfluentConsumer:
        settings = {
            **secured.librdkafka(self.bootstrap),
            "group.id": group or "none",
            "auto.offset.reset": start,
            "enable.auto.commit": False,
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 500,
            "log_level": 0,
        }
        if instance_id is not None:
            settings["group.instance.id"] = instance_id
        consumer = Consumer(settings)
        if partition is None:
            consumer.subscribe([topic])
        else:
            consumer.assign([TopicPartition(topic, partition)])
        return ConfluentConsumer(consumer, topic)

    def _reader(self, group: str = "none") -> Consumer:
        return Consumer(
            {
                **secured.librdkafka(self.bootstrap),
                "group.id": group,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        consumer = self._reader(group)
        try:
            (found,) = consumer.committed([TopicPartition(topic, partition)], timeout=PATIENCE_S)
            return None if found.offset < 0 else int(found.offset)
        finally:
            consumer.close()

    def offset_for_time(self, topic: str, partition: int, timestamp: int) -> int | None:
        consumer = self._reader()
        try:
            places = [TopicPartition(topic, partition, timestamp)]
            (found,) = consumer.offsets_for_times(places, timeout=PATIENCE_S)
            return None if found.offset < 0 else int(found.offset)
        finally:
            consumer.close()

    def log_bounds(self, topic: str, partition: int) -> tuple[int, int]:
        consumer = self._reader()
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=PATIENCE_S)
            return low, high
        finally:
            consumer.close()

    def topics(self) -> set[str]:
        return set(self._admin.list_topics(timeout=PATIENCE_S).topics)

    def describe_topic(self, name: str) -> TopicDescription:
        topic = self._admin.list_topics(name, timeout=PATIENCE_S).topics[name]
        if topic.error is not None:
            raise Refused(topic.error.code(), topic.error.str())
        return TopicDescription(
            name,
            {number: partition.leader for number, partition in topic.partitions.items()},
            {number: tuple(partition.replicas) for number, partition in topic.partitions.items()},
        )

    def create_topic(
        self, name: str, *, partitions: int = 1, replicas: int = 1, configs: Mapping[str, str] | None = None
    ) -> None:
        topic = NewTopic(name, partitions, replicas, config=dict(configs or {}))
        _result(self._admin.create_topics([topic], request_timeout=PATIENCE_S)[name])

    def delete_topic(self, name: str) -> None:
        _result(self._admin.delete_topics([name], request_timeout=PATIENCE_S)[name])

    def add_partitions(self, name: str, total: int) -> None:
        asked = [NewPartitions(name, total)]
        _result(self._admin.create_partitions(asked, request_timeout=PATIENCE_S)[name])

    def topic_configs(self, name: str) -> Mapping[str, str]:
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        entries = _result(self._admin.describe_configs([resource], request_timeout=PATIENCE_S)[resource])
        return {key: entry.value for key, entry in entries.items()}

    def alter_topic_config(self, name: str, key: str, value: str) -> None:
        entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[entry])
        _result(self._admin.incremental_alter_configs([resource], request_timeout=PATIENCE_S)[resource])

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        place = TopicPartition(topic, partition, before)
        _result(self._admin.delete_records([place], request_timeout=PATIENCE_S)[place])

    def broker_ids(self) -> tuple[set[int], int]:
        cluster = _result(self._admin.describe_cluster(request_timeout=PATIENCE_S))
        return {node.id for node in cluster.nodes}, cluster.controller.id

    def groups(self) -> set[str]:
        listing = _result(self._admin.list_consumer_groups(request_timeout=PATIENCE_S))
        return {group.group_id for group in listing.valid}

    def describe_group(self, group: str) -> GroupDescription:
        found = _result(self._admin.describe_consumer_groups([group], request_timeout=PATIENCE_S)[group])
        state = found.state.name.title().replace("_", "")
        return GroupDescription(group, state, "consumer", len(found.members))

    def delete_group(self, group: str) -> None:
        _result(self._admin.delete_consumer_groups([group], request_timeout=PATIENCE_S)[group])

    def group_offsets(self, group: str, topic: str) -> Mapping[int, int]:
        asked = [ConsumerGroupTopicPartitions(group)]
        found = _result(self._admin.list_consumer_group_offsets(asked, request_timeout=PATIENCE_S)[group])
        return {place.partition: place.offset for place in found.topic_partitions if place.topic == topic}

    def close(self) -> None:
        self._admin_client = None


class ConfluentProducer:
    def __init__(self, bootstrap: str, settings: dict[str, Any], *, tells_offsets: bool) -> None:
        self._tells_offsets = tells_offsets
        self._producer = Producer(
            {**secured.librdkafka(bootstrap), "message.max.bytes": 8_000_000, "log_level": 0, **settings}
        )

    def send(self, topic: str, messages: Iterable[Message]) -> list[int]:
        offsets: list[int] = []
        errors: list[KafkaError] = []

        def delivered(slot: int, error: KafkaError | None, message: KafkaMessage) -> None:
            if error is not None:
                errors.append(error)
            elif self._tells_offsets:
                offsets[slot] = message.offset()

        for slot, message in enumerate(messages):
            offsets.append(-1)
            self._producer.produce(
                topic,
                value=message.value,
                key=message.key,
                headers=list(message.headers),
                partition=message.partition,
                timestamp=message.timestamp or 0,
                on_delivery=lambda error, report, slot=slot: delivered(slot, error, report),
            )
        left = self._producer.flush(PATIENCE_S)
        if errors:
            raise Refused(errors[0].code(), errors[0].str())
        assert left == 0, f"{left} messages were not delivered"
        return offsets

    def close(self) -> None:
        self._producer.flush(PATIENCE_S)


class ConfluentConsumer:
    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def poll(self, timeout_s: float) -> list[Record]:
        messages = self._consumer.consume(1, timeout_s)
        if messages:
            messages += self._consumer.consume(_POLL_MAX, 0.02)
        return [_record(message) for message in messages if not _is_passing(message.error())]

    def assignment(self) -> frozenset[int]:
        return frozenset(place.partition for place in self._consumer.assignment())

    def seek(self, partition: int, offset: int) -> None:
        # librdkafka can seek only what it fetches already, which begins shortly after the assignment.
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._consumer.seek(TopicPartition(self._topic, partition, offset))
                return
            except KafkaException as error:
                if error.args[0].code() != KafkaError._STATE or time.monotonic() > deadline:
                    raise
                self._consumer.poll(0.05)

    def position(self, partition: int) -> int:
        (place,) = self._consumer.position([TopicPartition(self._topic, partition)])
        return int(place.offset)

    def commit(self, offsets: Mapping[int, int] | None = None) -> None:
        if offsets is None:
            self._consumer.commit(asynchronous=False)
            return
        places = [TopicPartition(self._topic, number, offset) for number, offset in offsets.items()]
        for place in self._consumer.commit(offsets=places, asynchronous=False):
            if place.error is not None:
                raise Refused(place.error.code(), place.error.str())

    def close(self) -> None:
        self._consumer.close()


def _is_passing(error: KafkaError | None) -> bool:
    """Whether an event is not a record; an error that does not pass is raised."""
    if error is None:
        return False
    if error.code() in (KafkaError._PARTITION_EOF, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._TRANSPORT):
        return True
    raise KafkaException(error)


def _record(message: KafkaMessage) -> Record:
    headers = tuple(message.headers() or ())
    return Record(
        message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value(), headers
    )


def _result(future: Any) -> Any:
    try:
        return future.result(PATIENCE_S)
    except KafkaException as error:
        raise Refused(error.args[0].code(), error.args[0].str()) from error
