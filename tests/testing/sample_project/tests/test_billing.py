"""Billing against real brokers."""

from __future__ import annotations

import trio
from orders.billing import Ledger, bill, order

import raftlog
from raftlog.testing import EmbeddedBroker, EmbeddedCluster, embedded_broker, embedded_cluster, running_broker


def test_with_the_fixtures(raftlog_broker: EmbeddedCluster, raftlog_topic: str) -> None:
    async def main() -> None:
        ledger = Ledger()
        async with raftlog.open_client(raftlog_broker.bootstrap) as client:
            for cents in (100, 250):
                await order(client, raftlog_topic, "alice", cents)
            await bill(client, raftlog_topic, ledger, 2)
        assert ledger.owed == {"alice": 350}

    trio.run(main)


def test_with_a_broker_of_its_own() -> None:
    async def main() -> None:
        async with embedded_broker(num_partitions=3) as broker, broker.client() as client:
            told = await order(client, broker.create_topic("orders", retention_ms=60_000), "bob", 1)
            assert told.offset == 0

    trio.run(main)


def test_in_a_plain_test() -> None:
    with running_broker(raftlog_durability="os") as broker:
        assert broker.create_topic("orders") == "orders"


def test_the_loss_of_the_leader() -> None:
    async def main() -> None:
        ledger = Ledger()
        async with embedded_cluster(3, seed=7) as cluster, cluster.client() as client:
            cluster.create_topic("orders")
            await order(client, "orders", "carol", 5)
            killed: EmbeddedBroker = cluster.faults.kill_leader("orders")
            await order(client, "orders", "carol", 7)
            cluster.faults.restart(killed)
            await cluster.ready()
            await bill(client, "orders", ledger, 2)
        assert ledger.owed == {"carol": 12}

    trio.run(main)
