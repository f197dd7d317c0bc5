"""What the first builds wrote opens in this one: first_format/README.md says what is in the folder."""

from __future__ import annotations

import tarfile
from collections import Counter
from pathlib import Path

import pytest
import trio

import raftlog
from raftlog import TopicPartition
from raftlog.testing import embedded_cluster

ARCHIVE = Path(__file__).parent / "first_format" / "data.tar.xz"
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cluster's folder, with the old one as its first broker's."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "broker-1", filter="data")
    assert "format_version = 1" in (tmp_path / "broker-1" / "meta.toml").read_text()
    return tmp_path


async def read(client: raftlog.Client, count: int) -> list[raftlog.Record]:
    records: list[raftlog.Record] = []
    async with client.consumer("orders", auto_offset_reset="earliest") as consumer:
        with trio.fail_after(30):
            async for record in consumer:
                records.append(record)
                if len(records) == count:
                    return records
    raise AssertionError("the consumer ended")


async def test_it_opens_is_read_and_written_and_opens_again(folder: Path) -> None:
    async with embedded_cluster(1, data_dir=folder) as cluster, cluster.client() as client:
        records = await read(client, 101)
        by_codec = Counter(dict(record.headers).get("codec", b"").decode() for record in records)
        assert by_codec == {"": 1, **dict.fromkeys(CODECS, 20)}
        for record in records:
            if record.value is None:
                assert (record.key, record.partition) == (b"key-0", 0)
                continue
            codec, number = record.value.decode().split()
            assert record.key == f"key-{number}".encode()
            assert record.timestamp == 1763730000000 + int(number)
            assert dict(record.headers) == {"codec": codec.encode()}
        assert await client.admin.list_topics() == ["empty", "orders"]
        settings = await client.admin.describe_configs(topic="orders")
        assert settings["retention.ms"].value == "-1"
        committed = await client.admin.group_offsets("billing")
        assert sum(place.offset for place in committed.values()) == 50
        ends = await client.admin.end_offsets("orders")
        async with client.producer() as producer:
            sent = await producer.send("orders", b"new", partition=1)
        assert sent.offset == ends[TopicPartition("orders", 1)]
    async with embedded_cluster(1, data_dir=folder) as cluster, cluster.client() as client:
        again = await read(client, 102)
        assert len({(record.partition, record.offset) for record in again}) == 102
        assert [r for r in again if r.value == b"new"]
