"""The catalog as bytes: snapshots, and what replicas are compared by.

CBOR `[version, "catalog", fields, topics, groups]`. An image is made in steps, of the catalog as it was when
it was begun: topics are values, and `Offsets` encodes what is about to change. Version 1, of older builds,
held everything in `fields`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import cbor2

from raftlog.errors import InvalidInput, NewerFormat
from raftlog.metadata import codec
from raftlog.metadata.catalog import BrokerInfo, Catalog, PartitionAssignment, Topic
from raftlog.metadata.offsets import CommittedOffset, Offsets, array_head
from raftlog.types import BrokerId, RaftIndex

IMAGE_VERSION: Final = 2
"""The version of snapshots that this build writes."""

IMAGE_BYTES_MAX: Final = 1024 * 1024 * 1024
"""Twenty million committed offsets; a file beyond it is not a catalog's."""

_NAME: Final = "catalog"
_HEAD: Final = b"\x85" + cbor2.dumps(IMAGE_VERSION) + cbor2.dumps(_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fields:
    cluster_id: str | None
    brokers: tuple[BrokerInfo, ...]
    features: Mapping[str, int]
    next_producer_id: int
    deleted_topics: tuple[bytes, ...] = ()
    removed_brokers: tuple[BrokerId, ...] = ()
    applied_index: RaftIndex
    topology_index: RaftIndex


@dataclass(frozen=True, slots=True)
class _OffsetV1:
    topic: str
    partition: int
    offset: int
    leader_epoch: int
    metadata: str
    commit_timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _FieldsV1:
    cluster_id: str | None
    brokers: tuple[BrokerInfo, ...]
    topics: tuple[Topic, ...]
    broker_configs: Mapping[BrokerId, Mapping[str, str]]
    group_offsets: Mapping[str, tuple[_OffsetV1, ...]]
    features: Mapping[str, int]
    next_producer_id: int
    deleted_topics: tuple[bytes, ...] = ()
    removed_brokers: tuple[BrokerId, ...] = ()
    applied_index: RaftIndex
    topology_index: RaftIndex


class Imaging:
    """Makes images of one catalog, one after the other. What a topic came to is kept from one to the next."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[bytes, tuple[Topic, bytes]] = {}
        self._head: bytes | None = None
        self._index = catalog.applied_index
        self._topics: list[Topic] = []
        self._encoded: list[bytes] = []

    @property
    def is_under_way(self) -> bool:
        return self._head is not None

    @property
    def index(self) -> RaftIndex:
        """The entry that the image under way, or the last one, is as of."""
        return self._index

    def begin(self) -> None:
        """An image of the catalog as it is now. One that was under way is given up."""
        catalog = self._catalog
        self._head = _HEAD + cbor2.dumps(codec.to_plain(_fields_of(catalog)))
        self._index = catalog.applied_index
        self._topics = [topic for _, topic in sorted(catalog.topics.items(), reverse=True)]
        self._encoded = []
        self._known = {
            topic.topic_id: self._known.get(topic.topic_id, (topic, b"")) for topic in self._topics
        }
        catalog.group_offsets.begin_image()

    def give_up(self) -> None:
        self._head = None

    def step(self, cost_max: int) -> bytes | None:
        """Encode about as much as `cost_max` partitions or offsets; the image when that was the last."""
        assert self._head is not None, "no image is under way"
        while self._topics and cost_max > 0:
            topic = self._topics.pop()
            known, encoded = self._known[topic.topic_id]
            if known is not topic or not encoded:
                encoded = _encode_topic(topic)
                self._known[topic.topic_id] = (topic, encoded)
                cost_max -= len(topic.partitions)
            self._encoded.append(encoded)
            cost_max -= 1
        offsets = self._catalog.group_offsets
        if self._topics or cost_max <= 0 or offsets.encode_some(cost_max):
            return None
        pieces = (self._head, array_head(len(self._encoded)), *self._encoded, offsets.take_image())
        self._head, self._encoded = None, []
        return b"".join(pieces)


def encode_catalog(catalog: Catalog) -> bytes:
    """The whole catalog, at once."""
    imaging = Imaging(catalog)
    imaging.begin()
    image = None
    while image is None:
        image = imaging.step(1 << 30)
    return image


def canonical(catalog: Catalog) -> bytes:
    """Equal catalogs are equal bytes. All of it at once."""
    topics = [_encode_topic(topic) for _, topic in sorted(catalog.topics.items())]
    fields = cbor2.dumps(codec.to_plain(_fields_of(catalog)))
    return b"".join((fields, *topics, catalog.group_offsets.canonical()))


def decode_catalog(data: bytes | bytearray | memoryview) -> Catalog:
    """The catalog in `data`; raises InvalidInput when it is not exactly one, and NewerFormat when
    a newer build wrote it."""
    match codec.load(data, IMAGE_BYTES_MAX):
        case [2, "catalog", fields, list(topics), groups]:
            known = codec.from_plain(_Fields, fields)
            return _catalog(known, map(_topic_from_plain, topics), Offsets.from_plain(groups))
        case [1, "catalog", fields]:
            return _decode_v1(fields)
        case [int(version), "catalog", *_] if version > IMAGE_VERSION:
            raise NewerFormat(f"a snapshot of the metadata has version {version}, this is {IMAGE_VERSION}")
        case _:
            raise InvalidInput("a catalog is [version, 'catalog', fields, topics, groups]")


def _fields_of(catalog: Catalog) -> _Fields:
    return _Fields(
        cluster_id=catalog.cluster_id,
        brokers=tuple(broker for _, broker in sorted(catalog.brokers.items())),
        features=catalog.features,
        next_producer_id=catalog.next_producer_id,
        deleted_topics=tuple(catalog.deleted_topics),
        removed_brokers=tuple(catalog.removed_brokers),
        applied_index=catalog.applied_index,
        topology_index=catalog.topology_index,
    )


def _catalog(fields: _Fields | _FieldsV1, topics: Any, offsets: Offsets) -> Catalog:
    by_name = {topic.name: topic for topic in topics}
    return Catalog(
        cluster_id=fields.cluster_id,
        brokers={broker.id: broker for broker in fields.brokers},
        topics=by_name,
        topics_by_id={topic.topic_id: topic for topic in by_name.values()},
        group_offsets=offsets,
        features=dict(fields.features),
        deleted_topics=dict.fromkeys(fields.deleted_topics),
        removed_brokers=dict.fromkeys(fields.removed_brokers),
        next_producer_id=fields.next_producer_id,
        applied_index=fields.applied_index,
        topology_index=fields.topology_index,
    )


def _decode_v1(plain: object) -> Catalog:
    fields = codec.from_plain(_FieldsV1, plain)
    rows = (
        (
            group,
            row.topic,
            row.partition,
            CommittedOffset(row.offset, row.leader_epoch, row.metadata, row.commit_timestamp_ms),
        )
        for group, offsets in fields.group_offsets.items()
        for row in offsets
    )
    return _catalog(fields, fields.topics, Offsets.from_rows(rows))


def _encode_topic(topic: Topic) -> bytes:
    partitions = [(at.replicas, at.target, at.leaving, at.since) for at in topic.partitions]
    configs = {name: topic.configs[name] for name in sorted(topic.configs)}
    return cbor2.dumps([topic.name, topic.topic_id, partitions, configs, topic.created_index])


def _topic_from_plain(plain: object) -> Topic:
    match plain:
        case [str(name), bytes(topic_id), list(partitions), configs, int(created)]:
            return Topic(
                name,
                topic_id,
                tuple(map(_assignment_from_plain, partitions)),
                codec.from_plain_as(Mapping[str, str], configs),
                RaftIndex(created),
            )
        case _:
            raise InvalidInput(f"a topic is a row of five, not {str(plain)[:60]}")


def _assignment_from_plain(plain: object) -> PartitionAssignment:
    match plain:
        case [list(replicas), list(target), list(leaving), int(since)]:
            return PartitionAssignment(tuple(replicas), tuple(target), tuple(leaving), RaftIndex(since))
        case _:
            raise InvalidInput(f"a partition is a row of four, not {str(plain)[:60]}")
