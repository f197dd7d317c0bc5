"""Embedded brokers: they serve, they end, they leave nothing behind, and they say when they broke."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest
import trio

from raftlog import NotOnTrio
from raftlog.errors import ConfigError
from raftlog.testing import (
    BrokerFailed,
    EmbeddedCluster,
    embedded_broker,
    embedded_cluster,
    running_broker,
    running_cluster,
)


async def write_and_read(cluster: EmbeddedCluster, topic: str) -> None:
    async with cluster.client() as client:
        async with client.producer() as producer:
            assert (await producer.send(topic, b"one apple")).offset == 0
        async with client.consumer(topic, auto_offset_reset="earliest") as consumer:
            assert (await anext(consumer)).value == b"one apple"


def broker_threads() -> set[int | None]:
    return {thread.ident for thread in threading.enumerate() if thread.name.startswith("raftlog-")}


def is_refused(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


async def test_a_broker_serves_and_leaves_nothing_behind() -> None:
    before = broker_threads()
    async with embedded_broker() as broker:
        assert broker_threads() > before
        assert broker.folder.is_dir()
        assert broker.brokers[0].is_running
        await write_and_read(broker, broker.create_topic("orders"))
    assert not broker.folder.exists()
    assert is_refused(broker.port)
    assert broker_threads() == before


async def test_a_cluster_serves_through_every_broker() -> None:
    async with embedded_cluster(3) as cluster:
        assert cluster.bootstrap.count(",") == 2
        cluster.create_topic("orders", partitions=3)
        await write_and_read(cluster, "orders")
        async with cluster.client() as client:
            view = await client.admin.describe_topic("orders")
            assert [len(partition.replicas) for partition in view.partitions] == [3, 3, 3]
        assert cluster.leader("orders", 0) in cluster.brokers


def test_in_a_plain_test_and_beside_another() -> None:
    with running_broker() as one, running_cluster(1) as other:
        assert one.port != other.port
        one.create_topic("here")
        assert "here" in one.brokers[0].backend.catalog.topics
        assert "here" not in other.brokers[0].backend.catalog.topics


def test_settings_are_kafkas_keys() -> None:
    with running_broker(num_partitions=4, auto_create_topics_enable=False) as broker:
        config = broker.brokers[0].backend.config
        assert config.int("num.partitions") == 4
        assert not config.bool("auto.create.topics.enable")
        broker.create_topic("wide", partitions=-1, retention_ms=1000)
        topic = broker.brokers[0].backend.catalog.topics["wide"]
        assert len(topic.partitions) == 4
        assert topic.configs == {"retention.ms": "1000"}


def test_a_bad_setting_is_refused_and_nothing_is_left() -> None:
    before = broker_threads()
    with pytest.raises(ConfigError, match=r"num\.partitions"), running_cluster(2, num_partition=4):
        pass
    assert broker_threads() == before


def test_a_topic_that_cannot_be_is_refused() -> None:
    from raftlog.testing.cluster import TopicNotCreated

    with running_broker() as broker:
        with pytest.raises(TopicNotCreated, match="INVALID_TOPIC"):
            broker.create_topic("no/slash")
        with pytest.raises(TopicNotCreated, match="INVALID_REPLICATION_FACTOR"):
            broker.create_topic("many", replication_factor=3)


async def test_a_folder_of_ones_own_is_kept_and_used_again(tmp_path: Path) -> None:
    async with embedded_broker(data_dir=tmp_path) as broker:
        await write_and_read(broker, broker.create_topic("kept"))
    async with (
        embedded_broker(data_dir=tmp_path) as broker,
        broker.client() as client,
        client.consumer("kept", auto_offset_reset="earliest") as consumer,
    ):
        assert (await anext(consumer)).value == b"one apple"


async def test_the_bodys_error_comes_out_and_the_brokers_are_gone() -> None:
    with pytest.raises(ZeroDivisionError):
        async with embedded_cluster(2) as cluster:
            raise ZeroDivisionError
    assert not cluster.folder.exists()


async def test_a_cancelled_test_is_cleaned_up_all_the_same() -> None:
    with trio.move_on_after(0.2) as scope:
        async with embedded_broker() as broker:
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not broker.folder.exists()
    assert is_refused(broker.port)


def test_a_broker_that_breaks_by_itself_is_told() -> None:
    with pytest.raises(BrokerFailed, match="taken away"):  # noqa: SIM117
        with running_broker() as broker:
            broker.brokers[0].disk.take_away()  # nobody killed it: its disk is gone
            with pytest.raises(BrokerFailed):
                for number in range(100):
                    broker.create_topic(f"t{number}")


@pytest.mark.parametrize("name", ["bootstrap_servers", "get_bootstrap_server", "getBootstrapServers", "url"])
def test_the_name_of_another_kit_is_answered_with_ours(name: str) -> None:
    with running_broker() as broker, pytest.raises(AttributeError, match=rf"'{name}': .* is \.bootstrap"):
        getattr(broker, name)


def test_a_broker_without_with_says_so() -> None:
    with pytest.raises(AttributeError, match=r"'bootstrap': .* with running_broker\(\) as broker:"):
        running_broker().bootstrap  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"async with embedded_broker\(\) as broker:"):
        embedded_broker().bootstrap  # type: ignore[attr-defined]  # noqa: B018


def test_under_asyncio_the_other_one_is_named() -> None:
    async def main() -> None:
        async with embedded_broker():
            pytest.fail("it is open")

    with pytest.raises(NotOnTrio, match=r"run on Trio.*with running_broker\(\) as broker"):
        asyncio.run(main())


def test_the_leader_of_nothing_is_said_at_once() -> None:
    with running_broker() as broker:
        broker.create_topic("orders", partitions=2)
        with pytest.raises(ValueError, match=r"no topic 'odrers'; there are: .*orders"):
            broker.faults.kill_leader("odrers")
        with pytest.raises(ValueError, match="'orders' has no partition 2, only 0 to 1"):
            broker.faults.pause_leader("orders", 2)
        assert broker.faults.history == []


def test_a_broker_that_is_down_says_so() -> None:
    with running_cluster(1) as cluster:
        broker = cluster.faults.kill(1)
        assert repr(broker) == f"<EmbeddedBroker 1 127.0.0.1:{broker.port} down>"
        with pytest.raises(BrokerFailed, match="is down"):
            broker.backend  # noqa: B018
        with pytest.raises(ValueError, match="no broker 2"):
            cluster.broker(2)
