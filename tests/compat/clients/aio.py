"""aiokafka, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final, TypeVar

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from tests import secured
from tests.compat.clients.base import (
    PATIENCE_S,
    GroupDescription,
    Message,
    Record,
    Refused,
    TopicDescription,
)

T = TypeVar("T")
_PATIENCE_MS: Final = int(PATIENCE_S * 1000)


class Loop:
    """An asyncio loop that a blocking test talks to."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aiokafka", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(2 * PATIENCE_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


class Aiokafka:
    name = "aiokafka"

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._loop = Loop()
        self._admin_client: AIOKafkaAdminClient | None = None

    def _admin(self) -> AIOKafkaAdminClient:
        if self._admin_client is None:
            self._admin_client = self._loop.run(self._start_admin())
        return self._admin_client

    async def _start_admin(self) -> AIOKafkaAdminClient:
        admin = AIOKafkaAdminClient(**secured.aiokafka(self.bootstrap))
        await admin.start()
        return admin

    def producer(
        self, *, acks: str = "all", codec: str = "none", idempotent: bool | None = None, linger_ms: int = 0
    ) -> AiokafkaProducer:
        settings: dict[str, Any] = {"acks": acks if acks == "all" else int(acks), "linger_ms": linger_ms}
        if codec != "none":
            settings["compression_type"] = codec
        if idempotent is not None:
            settings["enable_idempotence"] = idempotent
        return AiokafkaProducer(self._loop, self.bootstrap, settings, tells_offsets=acks != "0")

    def consumer(
        self,
        topic: str,
        *,
        group: str | None = None,
        partition: int | None = None,
        start: str = "earliest",
        instance_id: str | None = None,
    ) -> AiokafkaConsumer:
        return self._loop.run(self._start_consumer(topic, group, partition, start, instance_id))

    async def _start_consumer(
        self, topic: str, group: str | None, partition: int | None, start: str, instance_id: str | None
    ) -> AiokafkaConsumer:
        consumer = aiokafka.AIOKafkaConsumer(
            **secured.aiokafka(self.bootstrap),
            group_id=group,
            group_instance_id=instance_id,
            auto_offset_reset=start,
            enable_auto_commit=False,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=500,
        )
        if partition is None:
            consumer.subscribe([topic])
        else:
            consumer.assign([aiokafka.TopicPartition(topic, partition)])
        await consumer.start()
        return AiokafkaConsumer(self._loop, consumer, topic)

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        async def ask(consumer: aiokafka.AIOKafkaConsumer) -> int | None:
            return await consumer.committed(aiokafka.TopicPartition(topic, partition))

        return self._with_reader(ask, group)

    def offset_for_time(self, topic: str, partition: int, timestamp: int) -> int | None:
        async def ask(consumer: aiokafka.AIOKafkaConsumer) -> int | None:
            place = aiokafka.TopicPartition(topic, partition)
            found = (await consumer.offsets_for_times({place: timestamp}))[place]
            return None if found is None or found.offset < 0 else found.offset

        return self._with_reader(ask)

    def log_bounds(self, topic: str, partition: int) -> tuple[int, int]:
        async def ask(consumer: aiokafka.AIOKafkaConsumer) -> tuple[int, int]:
            place = aiokafka.TopicPartition(topic, partition)
            first = (await consumer.beginning_offsets([place]))[place]
            return first, (await consumer.end_offsets([place]))[place]

        return self._with_reader(ask)

    def _with_reader(self, ask: Any, group: str | None = None) -> Any:
        async def run() -> Any:
            consumer = aiokafka.AIOKafkaConsumer(
                **secured.aiokafka(self.bootstrap), group_id=group, enable_auto_commit=False
            )
            await consumer.start()
            try:
                return await ask(consumer)
            finally:
                await consumer.stop()

        return self._loop.run(run())

    def topics(self) -> set[str]:
        return set(self._loop.run(self._admin().list_topics()))

    def describe_topic(self, name: str) -> TopicDescription:
        (topic,) = self._loop.run(self._admin().describe_topics([name]))
        if topic["error_code"]:
            raise Refused(topic["error_code"])
        partitions = topic["partitions"]
        return TopicDescription(
            name,
            {p["partition"]: p["leader"] for p in partitions},
            {p["partition"]: tuple(p["replicas"]) for p in partitions},
        )

    def create_topic(
        self, name: str, *, partitions: int = 1, replicas: int = 1, configs: Mapping[str, str] | None = None
    ) -> None:
        topic = NewTopic(name, partitions, replicas, topic_configs=dict(configs or {}))
        answer = self._loop.run(self._admin().create_topics([topic]))
        _raise_error(answer.topic_errors[0])

    def delete_topic(self, name: str) -> None:
        answer = self._loop.run(self._admin().delete_topics([name]))
        _raise_error(answer.topic_error_codes[0])

    def add_partitions(self, name: str, total: int) -> None:
        try:
            self._loop.run(self._admin().create_partitions({name: NewPartitions(total)}))
        except KafkaError as error:
            raise Refused(error.errno, str(error)) from error

    def topic_configs(self, name: str) -> Mapping[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, name)
        (answer,) = self._loop.run(self._admin().describe_configs([resource]))
        (found,) = answer.to_object()["resources"]
        _raise_error((name, found["error_code"], found["error_message"]))
        return {entry["config_names"]: entry["config_value"] for entry in found["config_entries"]}

    def alter_topic_config(self, name: str, key: str, value: str) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, name, configs={key: value})
        answer, *_ = self._loop.run(self._admin().alter_configs([resource]))
        code, message = answer.resources[0][:2]
        _raise_error((name, code, message))

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        place = aiokafka.TopicPartition(topic, partition)
        self._loop.run(self._admin().delete_records({place: RecordsToDelete(before)}))

    def broker_ids(self) -> tuple[set[int], int]:
        cluster = self._loop.run(self._admin().describe_cluster())
        return {broker["node_id"] for broker in cluster["brokers"]}, cluster["controller_id"]

    def groups(self) -> set[str]:
        return {group[0] for group in self._loop.run(self._admin().list_consumer_groups())}

    def describe_group(self, group: str) -> GroupDescription:
        (answer,) = self._loop.run(self._admin().describe_consumer_groups([group]))
        code, name, state, protocol_type, _, members = answer.groups[0][:6]
        _raise_error((name, code))
        return GroupDescription(name, state, protocol_type, len(members))

    def delete_group(self, group: str) -> None:
        raise NotImplementedError

    def group_offsets(self, group: str, topic: str) -> Mapping[int, int]:
        found = self._loop.run(self._admin().list_consumer_group_offsets(group))
        return {place.partition: entry.offset for place, entry in found.items() if place.topic == topic}

    def close(self) -> None:
        if self._admin_client is not None:
            self._loop.run(self._admin_client.close())
        self._loop.close()


class AiokafkaProducer:
    def __init__(self, loop: Loop, bootstrap: str, settings: dict[str, Any], *, tells_offsets: bool) -> None:
        self._loop = loop
        self._tells_offsets = tells_offsets
        self._producer = loop.run(self._start(bootstrap, settings))

    async def _start(self, bootstrap: str, settings: dict[str, Any]) -> aiokafka.AIOKafkaProducer:
        producer = aiokafka.AIOKafkaProducer(
            **secured.aiokafka(bootstrap), max_request_size=8_000_000, **settings
        )
        await producer.start()
        return producer

    def send(self, topic: str, messages: Iterable[Message]) -> list[int]:
        return self._loop.run(self._send(topic, messages))

    async def _send(self, topic: str, messages: Iterable[Message]) -> list[int]:
        futures = [
            await self._producer.send(
                topic,
                value=message.value,
                key=message.key,
                headers=list(message.headers),
                partition=message.partition,
                timestamp_ms=message.timestamp,
            )
            for message in messages
        ]
        try:
            reports = await asyncio.wait_for(asyncio.gather(*futures), PATIENCE_S)
        except KafkaError as error:
            raise Refused(getattr(error, "errno", -1), str(error)) from error
        return [report.offset if self._tells_offsets else -1 for report in reports]

    def close(self) -> None:
        self._loop.run(self._producer.stop())


class AiokafkaConsumer:
    def __init__(self, loop: Loop, consumer: aiokafka.AIOKafkaConsumer, topic: str) -> None:
        self._loop = loop
        self._consumer = consumer
        self._topic = topic

    def _place(self, partition: int) -> aiokafka.TopicPartition:
        return aiokafka.TopicPartition(self._topic, partition)

    def poll(self, timeout_s: float) -> list[Record]:
        answer = self._loop.run(self._consumer.getmany(timeout_ms=int(timeout_s * 1000)))
        return [
            Record(r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
            for records in answer.values()
            for r in records
        ]

    def assignment(self) -> frozenset[int]:
        return frozenset(place.partition for place in self._consumer.assignment())

    def seek(self, partition: int, offset: int) -> None:
        async def seek() -> None:
            self._consumer.seek(self._place(partition), offset)

        self._loop.run(seek())

    def position(self, partition: int) -> int:
        return self._loop.run(self._consumer.position(self._place(partition)))

    def commit(self, offsets: Mapping[int, int] | None = None) -> None:
        asked = None
        if offsets is not None:
            asked = {self._place(partition): offset for partition, offset in offsets.items()}
        self._loop.run(self._consumer.commit(asked))

    def close(self) -> None:
        self._loop.run(self._consumer.stop())


def _raise_error(result: tuple[Any, ...]) -> None:
    """`result` is (name, code, maybe a message)."""
    if result[1]:
        raise Refused(result[1], str(result[2:]))
