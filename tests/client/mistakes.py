"""Typical mistakes with the client, as a table: what is done, and what the error must say.

Each is made against real brokers, and ends within SECONDS_MAX with the named error, whose text has the cause
and the cure.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import trio

import raftlog
from raftlog import BrokerError, ConfigError

SECONDS_MAX: Final = 20.0
"""All are made at once, on a machine that may be busy; alone the slowest takes three."""
SHORT: Final[Any] = {"default_api_timeout_ms": 1500, "retry_backoff_ms": 50}
PATIENT: Final[Any] = {"default_api_timeout_ms": 15_000}


@dataclass(frozen=True, kw_only=True)
class World:
    """Where the mistakes are made. Addresses are host:port."""

    good: str
    """A broker that creates no topics by itself; topic `orders` has three partitions."""
    nobody: str
    tls: str
    http: str
    silent: str
    """Takes connections and says nothing."""
    elsewhere: str
    """A broker that tells clients a host which does not exist."""
    mortal: str
    kill: Callable[[], None]
    """Ends the broker at `mortal`, which creates topics by itself."""
    authority: str
    """The file of the authority that signed the certificate at `tls`."""
    other_authority: str
    numbers: Any = field(default_factory=itertools.count)

    def name(self, what: str) -> str:
        return f"{what}-{next(self.numbers)}"


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """`says` are regular expressions: the cause and the cure."""

    name: str
    make: Callable[[World], Awaitable[object]]
    error: type[BaseException]
    says: tuple[str, ...]


TABLE: list[Mistake] = []


def mistake(error: type[BaseException], *says: str) -> Callable[[Callable[[World], Awaitable[object]]], None]:
    """Put a mistake into the table."""

    def add(make: Callable[[World], Awaitable[object]]) -> None:
        TABLE.append(Mistake(name=make.__name__.strip("_"), make=make, error=error, says=says))

    return add


# -- who is to be reached


async def _send(servers: str, topic: str = "orders", **options: Any) -> None:
    async with (
        raftlog.open_client(servers, **options) as client,
        client.producer(max_block_ms=1500, delivery_timeout_ms=1500) as producer,
    ):
        await producer.send(topic, b"v")


@mistake(raftlog.RequestTimedOut, "Connection refused", "is the broker running, and is the port right")
async def wrong_port_send(w: World) -> None:
    await _send(w.nobody)


@mistake(raftlog.RequestTimedOut, "Connection refused", "is the broker running, and is the port right")
async def wrong_port_admin(w: World) -> None:
    async with raftlog.open_client(w.nobody, **SHORT) as client:
        await client.admin.list_topics()


@mistake(raftlog.RequestTimedOut, "Connection refused", "is the broker running, and is the port right")
async def wrong_port_ready(w: World) -> None:
    async with raftlog.open_client(w.nobody) as client:
        await client.ready(timeout_ms=1000)


@mistake(raftlog.RequestTimedOut, "Connection refused", "is the broker running, and is the port right")
async def wrong_port_at_once(w: World) -> None:
    async with raftlog.open_client(w.nobody, connect_timeout_ms=1000):
        raise AssertionError("it is open")


@mistake(raftlog.RequestTimedOut, "no partitions within", "is the broker running, and is the port right")
async def wrong_port_consumer(w: World) -> None:
    async with raftlog.open_client(w.nobody) as client, client.consumer("orders") as consumer:
        await consumer.wait_assigned(timeout_ms=1000)


@mistake(raftlog.RequestTimedOut, "no partitions within", "is the broker running, and is the port right")
async def wrong_port_group(w: World) -> None:
    async with raftlog.open_client(w.nobody) as client, client.consumer("orders", group="g") as consumer:
        await consumer.wait_assigned(timeout_ms=1000)


@mistake(raftlog.RequestTimedOut, "Connection refused", "is the broker running, and is the port right")
async def wrong_port_transactions(w: World) -> None:
    async with (
        raftlog.open_client(w.nobody) as client,
        client.producer(transactional_id="t", max_block_ms=1000),
    ):
        raise AssertionError("it has its id")


@mistake(raftlog.RequestTimedOut, "Name or service not known|No address", "is bootstrap_servers right")
async def unknown_host(w: World) -> None:
    async with raftlog.open_client("nowhere.invalid:9092") as client:
        await client.ready(timeout_ms=3000)


@mistake(raftlog.RequestTimedOut, "sent what is not the protocol", "is it a port for Kafka clients")
async def port_of_http(w: World) -> None:
    async with raftlog.open_client(w.http) as client:
        await client.ready(timeout_ms=1500)


@mistake(raftlog.RequestTimedOut, "closed the connection|reset by peer", 'needs security_protocol="SSL"')
async def port_of_tls(w: World) -> None:
    async with raftlog.open_client(w.tls) as client:
        await client.ready(timeout_ms=1500)


@mistake(raftlog.AuthenticationFailed, "TLS", "is it a port for TLS|PLAINTEXT")
async def tls_to_a_plain_port(w: World) -> None:
    options: Any = {"security_protocol": "SSL", "ssl_truststore_location": w.authority}
    async with raftlog.open_client(w.good, **options) as client:
        await client.ready(timeout_ms=1500)


@mistake(raftlog.AuthenticationFailed, "certificate", "ssl.truststore.location|unable to get local issuer")
async def tls_of_another_authority(w: World) -> None:
    options: Any = {"security_protocol": "SSL", "ssl_truststore_location": w.other_authority}
    async with raftlog.open_client(w.tls, **options) as client:
        await client.ready(timeout_ms=1500)


@mistake(ConfigError, r"ssl\.truststore\.location", "No such file")
async def truststore_that_is_not_there(w: World) -> None:
    options: Any = {"security_protocol": "SSL", "ssl_truststore_location": "/nowhere/ca.pem"}
    async with raftlog.open_client(w.tls, **options) as client:
        await client.ready(timeout_ms=1500)


@mistake(raftlog.RequestTimedOut, "did not answer within 2 s")
async def port_that_says_nothing(w: World) -> None:
    async with raftlog.open_client(w.silent) as client:
        await client.ready(timeout_ms=2500)


@mistake(raftlog.RequestTimedOut, "elsewhere.invalid", "advertised.listeners")
async def advertised_wrongly_ready(w: World) -> None:
    async with raftlog.open_client(w.elsewhere) as client:
        await client.ready(timeout_ms=2000)


@mistake(raftlog.DeliveryError, "elsewhere.invalid", "advertised.listeners")
async def advertised_wrongly_send(w: World) -> None:
    await _send(w.elsewhere)


@mistake(ConfigError, r"bootstrap\.servers", "is not host:port")
async def no_port(w: World) -> None:
    raftlog.open_client("localhost")


@mistake(ConfigError, r"bootstrap\.servers", "is not host:port", "without kafka://")
async def url(w: World) -> None:
    raftlog.open_client("kafka://localhost:9092")


@mistake(TypeError, "bootstrap_servers must be a string or a list")
async def servers_as_a_pair(w: World) -> None:
    raftlog.open_client(("localhost", 9092))  # type: ignore[arg-type]


@mistake(raftlog.NotOnTrio, "runs on Trio", r"trio\.run", "aiokafka")
async def asyncio_instead_of_trio(w: World) -> None:
    async def main() -> None:
        async with raftlog.open_client(w.good):
            raise AssertionError("it is open")

    await trio.to_thread.run_sync(asyncio.run, main())


@mistake(TypeError, "`with` does not open this", "async with raftlog.open_client")
async def with_instead_of_async_with(w: World) -> None:
    with raftlog.open_client(w.good):  # type: ignore[attr-defined]
        pass


@mistake(TypeError, "`await` does not open this", "async with raftlog.open_client")
async def await_instead_of_async_with(w: World) -> None:
    await raftlog.open_client(w.good)  # type: ignore[misc]


@mistake(AttributeError, "no attribute 'send'", r"async with client\.producer\(\) as producer")
async def producer_that_is_not_entered(w: World) -> None:
    async with raftlog.open_client(w.good) as client:
        await client.producer().send("orders", b"v")  # type: ignore[attr-defined]


@mistake(TypeError, "not open yet", r"async with client\.consumer")
async def consumer_that_is_not_entered(w: World) -> None:
    async with raftlog.open_client(w.good) as client:
        async for _ in client.consumer("orders"):  # type: ignore[attr-defined]
            pass


@mistake(ConfigError, "unknown setting 'linger'", "did you mean 'linger_ms'")
async def misspelt_setting(w: World) -> None:
    async with raftlog.open_client(w.good) as client:
        client.producer(linger=5)  # type: ignore[call-overload]


@mistake(ConfigError, "unknown setting 'group.id'|unknown key", "did you mean 'group_id'")
async def dotted_setting(w: World) -> None:
    async with raftlog.open_client(w.good) as client:
        client.consumer("orders", **{"group.id": "g"})  # type: ignore[call-overload]


@mistake(raftlog.Closed, "is closed")
async def client_that_was_left(w: World) -> None:
    async with raftlog.open_client(w.good, **SHORT) as client:
        pass
    await client.admin.list_topics()


# -- producing


async def _produce(w: World, topic: Any = "orders", value: Any = b"v", **more: Any) -> None:
    options = {name: more.pop(name) for name in list(more) if name in OPTIONS}
    async with (
        raftlog.open_client(w.good, **PATIENT) as client,
        client.producer(**{"max_block_ms": 1500, **options}) as producer,
    ):
        await producer.send(topic, value, **more)


OPTIONS: Final = {"max_request_size", "value_serializer", "partitioner", "acks"}


@mistake(TypeError, "value must be bytes or None, not str", "encode it, or .*value_serializer")
async def value_of_text(w: World) -> None:
    await _produce(w, value="one apple")


@mistake(TypeError, "value must be bytes or None, not dict", "value_serializer")
async def value_of_a_dict(w: World) -> None:
    await _produce(w, value={"apples": 1})


@mistake(TypeError, "key must be bytes or None, not int", "key_serializer")
async def key_of_a_number(w: World) -> None:
    await _produce(w, key=7)


@mistake(TypeError, "value_serializer must give bytes or None, and gave str")
async def serializer_that_gives_text(w: World) -> None:
    await _produce(w, value_serializer=str)


@mistake(TypeError, "topic must be a string, not bytes")
async def topic_of_bytes(w: World) -> None:
    await _produce(w, topic=b"orders")


@mistake(TypeError, "headers must be a mapping of a string to bytes")
async def headers_of_text(w: World) -> None:
    await _produce(w, headers={"by": "me"})


@mistake(ValueError, "timestamp_ms must be milliseconds since the epoch, not -1")
async def timestamp_before_the_epoch(w: World) -> None:
    await _produce(w, timestamp_ms=-1)


@mistake(raftlog.UnknownTopic, "'nothing' does not exist", "auto.create.topics.enable", "create_topic")
async def topic_that_does_not_exist(w: World) -> None:
    await _produce(w, topic="nothing")


@mistake(raftlog.UnknownTopic, "'order' does not exist", "did you mean 'orders'")
async def misspelt_topic(w: World) -> None:
    async with raftlog.open_client(w.good) as client, client.producer(max_block_ms=1500) as producer:
        await producer.send("orders", b"v")
        await producer.send("order", b"v")


@mistake(raftlog.UnknownTopic, "allow_auto_create_topics of this client is False", "create_topic")
async def creation_switched_off_here(w: World) -> None:
    await _send(w.good, "nothing", allow_auto_create_topics=False)


@mistake(raftlog.InvalidTopic, "'my orders!' is no name of a topic", "ASCII letters, digits")
async def name_that_is_none(w: World) -> None:
    await _produce(w, topic="my orders!")


@mistake(raftlog.UnknownTopic, "orders has partitions 0 to 2, not 7")
async def partition_out_of_range(w: World) -> None:
    await _produce(w, partition=7)


@mistake(raftlog.UnknownTopic, "orders has partitions 0 to 2, not 3")
async def partitioner_out_of_range(w: World) -> None:
    await _produce(w, partitioner=lambda topic, key, value, count: count)


@mistake(raftlog.RecordTooLarge, "a record of 20", "max_request_size")
async def record_too_large_for_the_producer(w: World) -> None:
    await _produce(w, value=bytes(2000), max_request_size=1000)


@mistake(raftlog.RecordTooLarge, "more than the topic takes", "max.message.bytes of the topic")
async def record_too_large_for_the_topic(w: World) -> None:
    topic = w.name("narrow")
    async with raftlog.open_client(w.good, **PATIENT) as client:
        await client.admin.create_topic(topic, configs={"max.message.bytes": "1000"})
        await _produce(w, topic=topic, value=bytes(5000))


@mistake(raftlog.Closed, "the producer is closed")
async def producer_that_was_left(w: World) -> None:
    async with raftlog.open_client(w.good) as client:
        async with client.producer() as producer:
            pass
        await producer.send("orders", b"v")


@mistake(ConfigError, "acks = 0 needs enable.idempotence = false")
async def acks_0_of_an_idempotent_producer(w: World) -> None:
    await _produce(w, acks=0)


@mistake(ConfigError, "acks = '1'", "must be one of 'all', 0, 1, -1")
async def acks_as_text(w: World) -> None:
    await _produce(w, acks="1")


@mistake(ConfigError, "transactions need a name", "transactional_id")
async def transaction_without_a_name(w: World) -> None:
    async with raftlog.open_client(w.good) as client, client.producer() as producer, producer.transaction():
        pass


@mistake(raftlog.NoTransaction, "transaction")
async def record_outside_of_a_transaction(w: World) -> None:
    async with (
        raftlog.open_client(w.good) as client,
        client.producer(transactional_id=w.name("id")) as producer,
    ):
        await producer.send("orders", b"v")


@mistake(raftlog.DeliveryError, "not acknowledged within 2 s", "Connection refused", "is the broker running")
async def broker_that_went_away(w: World) -> None:
    async with (
        raftlog.open_client(w.mortal) as client,
        client.producer(delivery_timeout_ms=2000) as producer,
    ):
        await producer.send("before", b"v")
        await trio.to_thread.run_sync(w.kill)
        await producer.send("before", b"v")


# -- consuming


async def _read(w: World, *topics: Any, first: Callable[[Any], Any] | None = None, **more: Any) -> None:
    options: Any = {**SHORT, **more.pop("client", {})}
    async with raftlog.open_client(w.good, **options) as client, client.consumer(*topics, **more) as consumer:
        if first is not None:
            result = first(consumer)
            await result if hasattr(result, "__await__") else None
        async for _ in consumer:
            pass


@mistake(ConfigError, "this consumer reads nothing", "name topics")
async def consumer_of_nothing(w: World) -> None:
    await _read(w)


@mistake(TypeError, "`for` does not read a consumer", "async for record in consumer")
async def for_instead_of_async_for(w: World) -> None:
    async with raftlog.open_client(w.good) as client, client.consumer("orders") as consumer:
        for _ in consumer:  # type: ignore[attr-defined]
            pass


@mistake(raftlog.UnknownTopic, "'nothing' does not exist", "a consumer does not create it", "create_topic")
async def consumer_of_a_topic_that_does_not_exist(w: World) -> None:
    await _read(w, "nothing")


@mistake(raftlog.UnknownTopic, "'nothing' does not exist", "create_topic")
async def group_of_a_topic_that_does_not_exist(w: World) -> None:
    await _read(w, "nothing", group=w.name("g"))


@mistake(raftlog.UnknownTopic, "orders has partitions 0 to 2, not 9")
async def consumer_of_a_partition_that_does_not_exist(w: World) -> None:
    await _read(w, partitions=[("orders", 9)])


@mistake(raftlog.InvalidTopic, "'a/b' is no name of a topic", "ASCII letters")
async def consumer_of_a_name_that_is_none(w: World) -> None:
    await _read(w, "a/b")


@mistake(ConfigError, "topics, or a pattern, or partitions: one of the three")
async def consumer_of_topics_and_a_pattern(w: World) -> None:
    await _read(w, "orders", pattern="o.*")


@mistake(TypeError, "topics must be a string or a list", "not bytes")
async def consumer_of_bytes(w: World) -> None:
    await _read(w, b"orders")


@mistake(ConfigError, "commits need a group", "group=")
async def commit_without_a_group(w: World) -> None:
    await _read(w, "orders", first=lambda consumer: consumer.commit())


@mistake(raftlog.NotAssigned, "orders-0 is not assigned", "await wait_assigned")
async def seek_before_the_assignment(w: World) -> None:
    await _read(w, "orders", group=w.name("g"), first=lambda consumer: consumer.seek("orders", 0, 0))


@mistake(ValueError, "offset -1: use seek_to_beginning or seek_to_end")
async def seek_to_minus_one(w: World) -> None:
    await _read(w, "orders", first=lambda consumer: consumer.seek("orders", 0, -1))


@mistake(raftlog.NoOffset, "auto.offset.reset is none", "seek")
async def no_offset_to_begin_at(w: World) -> None:
    await _read(w, "orders", group=w.name("g"), auto_offset_reset="none")


@mistake(ConfigError, "auto.offset.reset = 'beginning'", "must be one of 'earliest', 'latest', 'none'")
async def reset_of_another_name(w: World) -> None:
    await _read(w, "orders", auto_offset_reset="beginning")


@mistake(raftlog.DeserializationError, "value deserializer raised", r"consumer\.seek\('broken', 0, 1\)")
async def value_that_is_not_what_it_should_be(w: World) -> None:
    await _read(w, "broken", auto_offset_reset="earliest", value_deserializer=int)


@mistake(trio.BusyResourceError, "another task is waiting for this consumer's records")
async def two_tasks_on_one_consumer(w: World) -> None:
    async with raftlog.open_client(w.good) as client, client.consumer("orders") as consumer:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(anext, consumer)
                nursery.start_soon(anext, consumer)
        except* trio.BusyResourceError as group:
            raise group.exceptions[0] from None


@mistake(BrokerError, "INVALID_SESSION_TIMEOUT", "group.min.session.timeout.ms")
async def session_that_is_too_short(w: World) -> None:
    await _read(w, "orders", group=w.name("g"), session_timeout_ms=50, heartbeat_interval_ms=20)


@mistake(ConfigError, "heartbeat.interval.ms = 5000 must be below session.timeout.ms = 1000")
async def heartbeats_rarer_than_the_session(w: World) -> None:
    await _read(w, "orders", group="g", session_timeout_ms=1000, heartbeat_interval_ms=5000)


@mistake(BrokerError, "INCONSISTENT_GROUP_PROTOCOL", "partition_assignment_strategy")
async def group_that_shares_otherwise(w: World) -> None:
    group = w.name("g")
    async with (
        raftlog.open_client(w.good) as client,
        client.consumer("orders", group=group, partition_assignment_strategy=("range",)) as consumer,
    ):
        await consumer.wait_assigned()
        await _read(w, "orders", group=group, partition_assignment_strategy=("roundrobin",))


@mistake(ConfigError, "group.id is empty", "leave it out")
async def group_without_a_name(w: World) -> None:
    await _read(w, "orders", group="")


@mistake(ConfigError, "enable_auto_commit=False")
async def exactly_once_that_commits_by_itself(w: World) -> None:
    async with (
        raftlog.open_client(w.good) as client,
        client.consumer("orders", group="g") as consumer,
        client.producer() as producer,
    ):
        raftlog.exactly_once(consumer, producer)


@mistake(raftlog.RequestTimedOut, "no partitions within 1000 ms", "'nothing' does not exist", "create_topic")
async def assignment_of_a_topic_that_does_not_exist(w: World) -> None:
    async with raftlog.open_client(w.good) as client, client.consumer("nothing") as consumer:
        await consumer.wait_assigned(timeout_ms=1000)


# -- administration


async def _administer(w: World, call: Callable[[raftlog.Admin], Awaitable[object]]) -> None:
    async with raftlog.open_client(w.good, **PATIENT) as client:
        await call(client.admin)


@mistake(raftlog.TopicExists, "'orders'", "exist_ok")
async def topic_that_is_there_already(w: World) -> None:
    await _administer(w, lambda admin: admin.create_topic("orders"))


@mistake(BrokerError, "INVALID_REPLICATION_FACTOR", "3 replicas|replication")
async def more_replicas_than_brokers(w: World) -> None:
    await _administer(w, lambda admin: admin.create_topic("wide", replication_factor=3))


@mistake(BrokerError, "retention.mss", "did you mean retention.ms")
async def setting_of_a_topic_that_is_unknown(w: World) -> None:
    await _administer(w, lambda admin: admin.create_topic("bad", configs={"retention.mss": "1"}))


@mistake(BrokerError, "retention.ms", "soon")
async def setting_of_a_topic_that_is_wrong(w: World) -> None:
    await _administer(w, lambda admin: admin.alter_configs({"retention.ms": "soon"}, topic="orders"))


@mistake(raftlog.UnknownTopic, "'nothing'")
async def deletion_of_nothing(w: World) -> None:
    await _administer(w, lambda admin: admin.delete_topics(["nothing"]))


@mistake(BrokerError, "INVALID_PARTITIONS", "orders")
async def fewer_partitions(w: World) -> None:
    await _administer(w, lambda admin: admin.create_partitions("orders", 1))


@mistake(raftlog.GroupNotEmpty, "NON_EMPTY_GROUP")
async def deletion_of_a_group_with_members(w: World) -> None:
    group = w.name("g")
    async with raftlog.open_client(w.good) as client, client.consumer("orders", group=group) as consumer:
        await consumer.wait_assigned()
        await client.admin.delete_group(group)


@mistake(KeyError, "orders-9 is not assigned", "orders-0")
async def position_of_what_is_not_assigned(w: World) -> None:
    async with raftlog.open_client(w.good) as client, client.consumer("orders") as consumer:
        await consumer.wait_assigned()
        await consumer.position("orders", 9)
