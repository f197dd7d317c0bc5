"""The client: what `open_client` gives, from which producers, consumers and admin come."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Unpack

from raftlog.client.admin import Admin
from raftlog.client.arguments import checked, demand
from raftlog.client.cluster import Cluster
from raftlog.client.connection import ConnectionStatistics, OpenSocket
from raftlog.client.consumer import Consumer, RebalanceListener
from raftlog.client.metadata import TopicPartition
from raftlog.client.nursery import background
from raftlog.client.producer import Producer
from raftlog.client.settings import (
    ClientOptions,
    ClientSettings,
    ConsumerOptions,
    ConsumerSettings,
    ProducerOptions,
    ProducerSettings,
    Properties,
    make_settings,
    read_properties,
)
from raftlog.net.dialing import open_socket


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

    def producer(self, **options: Unpack[ProducerOptions]) -> AbstractAsyncContextManager[Producer]:
        """A producer, to be used in `async with`. ProducerSettings says what the options are."""
        settings = make_settings(ProducerSettings, {**self._defaults.producer, **options})
        return Producer(self._cluster, settings).running()

    def consumer(
        self,
        *topics: str,
        group: str | None = None,
        pattern: str | re.Pattern[str] | None = None,
        partitions: Iterable[TopicPartition | tuple[str, int]] = (),
        listener: RebalanceListener | None = None,
        **options: Unpack[ConsumerOptions],
    ) -> AbstractAsyncContextManager[Consumer]:
        """A consumer, to be used in `async with`. ConsumerSettings says what the options are."""
        values = {**self._defaults.consumer, **options}
        if group is not None:
            values["group_id"] = group
        settings = make_settings(ConsumerSettings, values)
        return Consumer(
            self._cluster, settings, topics=topics, pattern=pattern, partitions=partitions, listener=listener
        ).running()

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
    async with background() as nursery:
        cluster = Cluster(settings, nursery, open_socket=open_socket)
        nursery.start_soon(cluster.keep_metadata)
        try:
            yield Client(cluster, defaults)
        finally:
            cluster.close()


def open_client(
    bootstrap_servers: str = "localhost:9092",
    *,
    open_socket: OpenSocket = open_socket,
    **options: Unpack[ClientOptions],
) -> AbstractAsyncContextManager[Client]:
    """A client of the brokers at `bootstrap_servers`, to be used in `async with`.

        async with raftlog.open_client("localhost:9092") as client:
            async with client.producer() as producer:
                await producer.send("orders", b"one apple", key=b"k")

    Connects when it is first needed. ClientSettings says what the options are; `open_socket` replaces how a
    TCP connection is made. Raises ConfigError for a bad or unknown option. No task of the client's outlives
    the `async with`; what goes wrong in one is raised there.
    """
    demand("open_client: open_socket", open_socket, OpenSocket)
    settings = make_settings(ClientSettings, {"bootstrap_servers": bootstrap_servers, **options})
    return _running(settings, Properties(client={}, producer={}, consumer={}), open_socket)


def from_properties(
    source: str | os.PathLike[str] | Mapping[str, Any], **options: Unpack[ClientOptions]
) -> AbstractAsyncContextManager[Client]:
    """As `open_client`, with the settings of a client.properties file, or of a dict with Kafka's dotted keys.

    Keys of producers and consumers are what `client.producer` and `client.consumer` begin with. Raises
    ConfigError for a key that is unknown, naming the nearest one, and for a bad value.
    """
    properties = read_properties(source)
    settings = make_settings(ClientSettings, {**properties.client, **options})
    return _running(settings, properties, open_socket)
