"""The client: what `open_client` gives, from which producers, consumers and admin come."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Unpack, overload

import trio

from raftlog.client.admin import Admin
from raftlog.client.arguments import checked, demand, flat
from raftlog.client.assignors import Assignor
from raftlog.client.cluster import Cluster
from raftlog.client.connection import ConnectionStatistics, OpenSocket
from raftlog.client.consumer import Consumer, RebalanceListener
from raftlog.client.errors import NotOnTrio
from raftlog.client.kinds import Bytes, K, V
from raftlog.client.metadata import TopicPartition
from raftlog.client.nursery import background
from raftlog.client.opening import Opening
from raftlog.client.options import ClientOptions, ConsumerOptions, ProducerOptions
from raftlog.client.producer import Producer
from raftlog.client.properties import Properties, read_properties
from raftlog.client.settings import (
    ClientSettings,
    ConsumerSettings,
    ProducerSettings,
    make_settings,
)
from raftlog.client.share import Pattern
from raftlog.net.dialing import open_socket


class _Reading(ConsumerOptions, total=False):
    """The keywords of `Client.consumer`, but for the deserializers."""

    group: str | None
    pattern: Pattern | None
    partitions: Iterable[TopicPartition | tuple[str, int]]
    listener: RebalanceListener | None
    assignor: Assignor | None


@checked()
class Client:
    """Connections to a cluster, shared by what is made from it. Made by `open_client`."""

    def __init__(self, cluster: Cluster, defaults: Properties) -> None:
        self._cluster = cluster
        self._defaults = defaults
        self._admin = Admin(cluster)

    @property
    def admin(self) -> Admin:
        """Topics, configurations, groups."""
        return self._admin

    @overload
    def producer(
        self,
        *,
        key_serializer: None = None,
        value_serializer: None = None,
        **options: Unpack[ProducerOptions],
    ) -> AbstractAsyncContextManager[Producer]: ...
    @overload
    def producer(
        self,
        *,
        key_serializer: Callable[[K], bytes | None],
        value_serializer: None = None,
        **options: Unpack[ProducerOptions],
    ) -> AbstractAsyncContextManager[Producer[K]]: ...
    @overload
    def producer(
        self,
        *,
        key_serializer: None = None,
        value_serializer: Callable[[V], bytes | None],
        **options: Unpack[ProducerOptions],
    ) -> AbstractAsyncContextManager[Producer[Bytes, V]]: ...
    @overload
    def producer(
        self,
        *,
        key_serializer: Callable[[K], bytes | None],
        value_serializer: Callable[[V], bytes | None],
        **options: Unpack[ProducerOptions],
    ) -> AbstractAsyncContextManager[Producer[K, V]]: ...
    def producer(
        self,
        *,
        key_serializer: Callable[[Any], bytes | None] | None = None,
        value_serializer: Callable[[Any], bytes | None] | None = None,
        **options: Unpack[ProducerOptions],
    ) -> AbstractAsyncContextManager[Producer[Any, Any]]:
        """A producer, to be used in `async with`. ProducerSettings says what the options are."""
        functions = _given(key_serializer=key_serializer, value_serializer=value_serializer)
        settings = make_settings(ProducerSettings, {**self._defaults.producer, **functions, **options})
        producer = Producer[Any, Any](self._cluster, settings)
        return Opening(producer.running(), "async with client.producer() as producer:")

    @overload
    def consumer(
        self,
        *topics: str | Iterable[str],
        key_deserializer: None = None,
        value_deserializer: None = None,
        **options: Unpack[_Reading],
    ) -> AbstractAsyncContextManager[Consumer]: ...
    @overload
    def consumer(
        self,
        *topics: str | Iterable[str],
        key_deserializer: Callable[[bytes], K],
        value_deserializer: None = None,
        **options: Unpack[_Reading],
    ) -> AbstractAsyncContextManager[Consumer[K]]: ...
    @overload
    def consumer(
        self,
        *topics: str | Iterable[str],
        key_deserializer: None = None,
        value_deserializer: Callable[[bytes], V],
        **options: Unpack[_Reading],
    ) -> AbstractAsyncContextManager[Consumer[bytes, V]]: ...
    @overload
    def consumer(
        self,
        *topics: str | Iterable[str],
        key_deserializer: Callable[[bytes], K],
        value_deserializer: Callable[[bytes], V],
        **options: Unpack[_Reading],
    ) -> AbstractAsyncContextManager[Consumer[K, V]]: ...
    def consumer(
        self,
        *topics: str | Iterable[str],
        group: str | None = None,
        pattern: Pattern | None = None,
        partitions: Iterable[TopicPartition | tuple[str, int]] = (),
        listener: RebalanceListener | None = None,
        assignor: Assignor | None = None,
        key_deserializer: Callable[[bytes], Any] | None = None,
        value_deserializer: Callable[[bytes], Any] | None = None,
        **options: Unpack[ConsumerOptions],
    ) -> AbstractAsyncContextManager[Consumer[Any, Any]]:
        """A consumer of topics, of those that match a pattern as a whole, or of partitions, to be used in
        `async with`. Topics may be given one by one or in a list. With `group` the members of the group share
        the partitions, and offsets can be committed; `assignor` is a way of your own to share them.
        ConsumerSettings says what the options are."""
        functions = _given(key_deserializer=key_deserializer, value_deserializer=value_deserializer)
        values = {**self._defaults.consumer, **functions, **options}
        if group is not None:
            values["group_id"] = group
        consumer = Consumer[Any, Any](
            self._cluster,
            make_settings(ConsumerSettings, values),
            topics=flat(topics),
            pattern=pattern,
            partitions=partitions,
            listener=listener,
            assignor=assignor,
        )
        return Opening(consumer.running(), "async with client.consumer('orders') as consumer:")

    async def ready(self, *, timeout_ms: float | None = None) -> None:
        """Wait until a broker has answered, and one can be reached where the brokers say that it is.

        For who wants to know at once: without it each call waits for itself. Raises RequestTimedOut after
        `timeout_ms` (`default_api_timeout_ms` by default), with the reason.
        """
        what = f"no broker of {self._cluster.settings.bootstrap_servers} is ready"
        await self._cluster.retrying(self._cluster.reach_any, what=what, timeout_ms=timeout_ms)

    def statistics(self) -> ClientStatistics:
        """A snapshot of the counters of the connections that are open."""
        connections = {c.name: c.statistics() for c in self._cluster.connections.open()}
        return ClientStatistics(
            brokers=len(self._cluster.metadata.brokers),
            metadata_updates=self._cluster.metadata.version,
            connections=connections,
        )

    def __repr__(self) -> str:
        brokers = sorted(self._cluster.metadata.brokers)
        return f"<Client {self._cluster.settings.bootstrap_servers} brokers={brokers}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatistics:
    """What a client knows and has open; `connections` are by address and purpose."""

    brokers: int
    metadata_updates: int
    connections: Mapping[str, ConnectionStatistics]


@asynccontextmanager
async def _running(
    settings: ClientSettings, defaults: Properties, open_socket: OpenSocket
) -> AsyncIterator[Client]:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        raise NotOnTrio(
            "raftlog's client runs on Trio, and this is no task of Trio's: start the program with"
            " trio.run(main), or use aiokafka under asyncio, which works with raftlog's brokers as well"
        ) from None
    async with background() as nursery:
        cluster = Cluster(settings, nursery, open_socket=open_socket)
        nursery.start_soon(cluster.keep_metadata)
        try:
            client = Client(cluster, defaults)
            if settings.connect_timeout_ms:
                await client.ready(timeout_ms=settings.connect_timeout_ms)
            yield client
        finally:
            cluster.close()


def open_client(
    bootstrap_servers: str | Iterable[str] = "localhost:9092",
    *,
    open_socket: OpenSocket = open_socket,
    **options: Unpack[ClientOptions],
) -> AbstractAsyncContextManager[Client]:
    """A client of the brokers at `bootstrap_servers`, "host:port,host:port" or a list of such, to be used in
    `async with`.

        async with raftlog.open_client("localhost:9092") as client:
            async with client.producer() as producer:
                await producer.send("orders", b"one apple", key=b"k")

    Connects when it is first needed. With `connect_timeout_ms` a broker has answered when it is open, or
    RequestTimedOut is raised. ClientSettings says what the options are; `open_socket` replaces how a TCP
    connection is made. Raises ConfigError for a bad or unknown option, NotOnTrio under asyncio. No task of
    the client's outlives the `async with`; what goes wrong in one is raised there.
    """
    demand("open_client: open_socket", open_socket, OpenSocket)
    servers = demand("open_client: bootstrap_servers", bootstrap_servers, str | Iterable[str])
    settings = make_settings(ClientSettings, {"bootstrap_servers": ",".join(flat([servers])), **options})
    return _opening(settings, Properties(client={}, producer={}, consumer={}), open_socket)


def from_properties(
    source: str | os.PathLike[str] | Mapping[str, Any], **options: Unpack[ClientOptions]
) -> AbstractAsyncContextManager[Client]:
    """As `open_client`, with the settings of a client.properties file, or of a dict with Kafka's dotted keys.

    Keys of producers and consumers are what `client.producer` and `client.consumer` begin with. Raises
    ConfigError for a key that is unknown, naming the nearest one, and for a bad value.
    """
    properties = read_properties(source)
    settings = make_settings(ClientSettings, {**properties.client, **options})
    return _opening(settings, properties, open_socket)


def _opening(settings: ClientSettings, defaults: Properties, open_socket: OpenSocket) -> Opening[Client]:
    running = _running(settings, defaults, open_socket)
    return Opening(running, "async with raftlog.open_client(…) as client:")


def _given(**functions: Callable[..., Any] | None) -> dict[str, Callable[..., Any]]:
    """Those that were given: None leaves it to the properties."""
    return {name: function for name, function in functions.items() if function is not None}
