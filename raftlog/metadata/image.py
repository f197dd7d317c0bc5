"""The catalog as bytes: snapshots, and what replicas are compared by.

CBOR `[version, "catalog", fields]`, everything in a fixed order: equal catalogs are equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cbor2

from raftlog.errors import InvalidInput
from raftlog.metadata import codec
from raftlog.metadata.catalog import FORMAT_VERSION, BrokerInfo, Catalog, CommittedOffset, Topic
from raftlog.types import BrokerId, RaftIndex

IMAGE_BYTES_MAX: Final = 1024 * 1024 * 1024
"""Ten million committed offsets; a file beyond it is not a catalog's."""

_NAME: Final = "catalog"


@dataclass(frozen=True, slots=True)
class _Offset:
    topic: str
    partition: int
    offset: int
    leader_epoch: int
    metadata: str
    commit_timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    cluster_id: str | None
    brokers: tuple[BrokerInfo, ...]
    topics: tuple[Topic, ...]
    broker_configs: Mapping[BrokerId, Mapping[str, str]]
    group_offsets: Mapping[str, tuple[_Offset, ...]]
    features: Mapping[str, int]
    next_producer_id: int
    deleted_topics: tuple[bytes, ...] = ()
    removed_brokers: tuple[BrokerId, ...] = ()
    applied_index: RaftIndex
    topology_index: RaftIndex


def encode_catalog(catalog: Catalog) -> bytes:
    """The whole catalog."""
    image = _Image(
        cluster_id=catalog.cluster_id,
        brokers=tuple(broker for _, broker in sorted(catalog.brokers.items())),
        topics=tuple(topic for _, topic in sorted(catalog.topics.items())),
        broker_configs=catalog.broker_configs,
        group_offsets={
            group: tuple(
                _Offset(*partition, at.offset, at.leader_epoch, at.metadata, at.commit_timestamp_ms)
                for partition, at in sorted(offsets.items())
            )
            for group, offsets in catalog.group_offsets.items()
        },
        features=catalog.features,
        deleted_topics=tuple(catalog.deleted_topics),
        removed_brokers=tuple(catalog.removed_brokers),
        next_producer_id=catalog.next_producer_id,
        applied_index=catalog.applied_index,
        topology_index=catalog.topology_index,
    )
    return cbor2.dumps([FORMAT_VERSION, _NAME, codec.to_plain(image)])


def decode_catalog(data: bytes | bytearray | memoryview) -> Catalog:
    """The catalog in `data`; raises InvalidInput when it is not exactly one."""
    plain = codec.load(data, IMAGE_BYTES_MAX)
    if not isinstance(plain, list) or len(plain) != 3 or plain[1] != _NAME:
        raise InvalidInput("a catalog is [version, 'catalog', fields]")
    if plain[0] != FORMAT_VERSION:
        raise InvalidInput(f"catalog version {plain[0]!r} is not {FORMAT_VERSION}")
    image = codec.from_plain(_Image, plain[2])
    return Catalog(
        cluster_id=image.cluster_id,
        brokers={broker.id: broker for broker in image.brokers},
        topics={topic.name: topic for topic in image.topics},
        topics_by_id={topic.topic_id: topic for topic in image.topics},
        broker_configs={broker: dict(configs) for broker, configs in image.broker_configs.items()},
        group_offsets={
            group: {
                (row.topic, row.partition): CommittedOffset(
                    row.offset, row.leader_epoch, row.metadata, row.commit_timestamp_ms
                )
                for row in rows
            }
            for group, rows in image.group_offsets.items()
        },
        features=dict(image.features),
        deleted_topics=dict.fromkeys(image.deleted_topics),
        removed_brokers=dict.fromkeys(image.removed_brokers),
        next_producer_id=image.next_producer_id,
        applied_index=image.applied_index,
        topology_index=image.topology_index,
    )
