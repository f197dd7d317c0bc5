"""The client: what `open_client` gives, from which producers, consumers and admin come."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Unpack

from raftlog.client.cluster import Cluster
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
)


class Client:
    """Connections to a cluster, shared by what is made from it. Made by `open_client`."""

    def __init__(self, cluster: Cluster, defaults: Properties) -> None:
        self._cluster = cluster
        self._defaults = defaults

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

    def __repr__(self) -> str:
        return f"<Client {self._cluster.settings.bootstrap_servers} brokers={sorted(self._cluster.metadata.brokers)}>"


@asynccontextmanager
async def _running(settings: ClientSettings, defaults: Properties) -> AsyncIterator[Client]:
    async with background() as nursery:
        cluster = Cluster(settings, nursery, rng=random.Random())
        nursery.start_soon(cluster.keep_metadata)
        try:
            yield Client(cluster, defaults)
        finally:
            cluster.close()


def open_client(
    bootstrap_servers: str = "localhost:9092", **options: Unpack[ClientOptions]
) -> AbstractAsyncContextManager[Client]:
    """A client of the brokers at `bootstrap_servers`, to be used in `async with`."""
    settings = make_settings(ClientSettings, {"bootstrap_servers": bootstrap_servers, **options})
    return _running(settings, Properties(client={}, producer={}, consumer={}))
