"""Opening a client: the example of the docs, properties files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import raftlog
from tests import secured
from tests.client.conftest import Name


async def test_the_example_of_the_docs(bootstrap: str, name: Name) -> None:
    topic = name("orders")
    async with secured.open_client(bootstrap) as client:
        await client.admin.create_topic(topic, partitions=3)
        async with client.producer(acks="all") as producer:
            record = await producer.send(topic, key=b"k", value=b"v", headers={"h": b"1"})
        assert (record.topic, record.offset) == (topic, 0)
        async with client.consumer(topic, group=name("billing"), auto_offset_reset="earliest") as consumer:
            with trio.fail_after(20):
                async for record_read in consumer:
                    assert (record_read.key, record_read.value) == (b"k", b"v")
                    await consumer.commit()
                    break


async def test_a_properties_file(bootstrap: str, name: Name, tmp_path: Path) -> None:
    file = secured.properties_file(bootstrap, tmp_path)
    with file.open("a") as more:
        more.write(
            "client.id=from-file\nlinger.ms=1\ncompression.type=zstd\n"
            f"group.id={name('group')}\nauto.offset.reset=earliest\n"
        )
    topic = name("topic")
    async with raftlog.from_properties(file, request_timeout_ms=5000) as client:
        async with client.producer(linger_ms=2) as producer:
            assert producer.settings.linger_ms == 2
            assert producer.settings.compression_type == "zstd"
            await producer.send(topic, b"x")
        async with client.consumer(topic) as consumer:
            assert consumer.settings.group_id is not None
            with trio.fail_after(20):
                assert (await anext(consumer)).value == b"x"


async def test_what_is_refused_is_refused_before_anything_is_connected() -> None:
    with pytest.raises(raftlog.ConfigError, match="did you mean 'linger_ms'"):
        async with raftlog.open_client("localhost:1") as client:
            client.producer(linger=5)  # type: ignore[call-arg]
    with pytest.raises(raftlog.ConfigError, match=r"bootstrap\.servers"):
        raftlog.from_properties({"bootstrap.server": "localhost:1"})
    with pytest.raises(raftlog.ConfigError, match="one of the three"):
        async with raftlog.open_client("localhost:1") as client:
            client.consumer("t", pattern="x")


async def test_nobody_there(tmp_path: Path) -> None:
    with trio.fail_after(10):
        async with raftlog.open_client("127.0.0.1:1", default_api_timeout_ms=500) as client:
            with pytest.raises(raftlog.RequestTimedOut, match="no success within"):
                await client.admin.describe_cluster()
            assert repr(client) == "<Client 127.0.0.1:1 brokers=[]>"
