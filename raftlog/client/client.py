"""The client: what `open_client` gives, from which producers, consumers and admin come."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Unpack

import trio

from raftlog.client.cluster import Cluster
from raftlog.client.nursery import background
from raftlog.client.producer import Producer
from raftlog.client.settings import (
    ClientOptions,
    ClientSettings,
    ProducerOptions,
    ProducerSettings,
    Properties,
    make_settings,
    read_properties,
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
