"""The catalog as bytes: snapshots, and what replicas are compared by.

CBOR `[version, "catalog", fields, …]`: the nouns' fields, and then each table that a noun has. An image is
made in steps, of the catalog as it was when it was begun. Version 1, of older builds, held all in `fields`.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import cbor2

from raftlog.errors import InvalidInput, NewerFormat
from raftlog.metadata import codec
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.noun import Encoding, Field, Table, attribute
from raftlog.metadata.nouns import NOUNS
from raftlog.metadata.offset_table import CommittedOffset
from raftlog.metadata.topics import put_topics
from raftlog.types import RaftIndex

IMAGE_VERSION: Final = 6
"""The newest version of snapshots that this build writes: an image has the oldest one that can say it, so
that brokers of an older build can read it in the middle of an upgrade."""

IMAGE_BYTES_MAX: Final = 1024 * 1024 * 1024
"""Twenty million committed offsets; a file beyond it is not a catalog's."""

TOGETHER_AT_ONCE: Final = 1024 * 1024
"""Bytes of an image that one step puts together: a millisecond. A million offsets are 40 MB, and to join them
in one go was found to take 40 ms."""

_NAME: Final = "catalog"


_OF_NOUNS: Final = [field for noun in NOUNS for field in noun.fields]
_FIELDS: Final[dict[str, Field]] = {
    field.name: field
    for field in (
        *(field for field in _OF_NOUNS if not field.is_optional),
        *(field for field in _OF_NOUNS if field.is_optional),
        attribute("applied_index", RaftIndex),
        attribute("topology_index", RaftIndex),
    )
}
_REQUIRED: Final = {name for name, field in _FIELDS.items() if not field.is_optional}
_TABLES: Final = [noun.table for noun in NOUNS if noun.table is not None]


class Imaging:
    """Makes images of one catalog, one after the other."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._tables: list[Encoding] = []
        self._pieces: deque[bytes] = deque()
        """What is encoded, and not yet put together."""
        self._image: io.BytesIO | None = None
        self._index = catalog.applied_index

    @property
    def is_under_way(self) -> bool:
        return self._image is not None

    @property
    def index(self) -> RaftIndex:
        """The entry that the image under way, or the last one, is as of."""
        return self._index

    def begin(self) -> None:
        """An image of the catalog as it is now. One that was under way is given up."""
        catalog = self._catalog
        version = max(table.since_version for table in _TABLES if not table.is_empty(catalog))
        tables = _tables_of(version)
        head = bytes((0x80 | 3 + len(tables),)) + cbor2.dumps(version) + cbor2.dumps(_NAME)
        self._pieces = deque((head, _encode_fields(catalog)))
        self._image = io.BytesIO()
        self._tables = [table.begin(catalog) for table in reversed(tables)]
        self._index = self._catalog.applied_index

    def give_up(self) -> None:
        self._pieces, self._tables, self._image = deque(), [], None

    def step(self, cost_max: int) -> bytes | None:
        """Encode about as much as `cost_max` partitions or offsets, or put some of the image together; the
        image when that was the last."""
        assert self._image is not None, "no image is under way"
        while self._tables:
            cost_max = self._tables[-1].encode_some(cost_max)
            if cost_max <= 0:
                return None
            self._pieces.extend(self._tables.pop().take_image())
        end = self._image.tell() + TOGETHER_AT_ONCE
        while self._pieces:
            if self._image.tell() >= end:
                return None
            self._image.write(self._pieces.popleft())
        image = self._image.getvalue()  # its buffer, not a copy
        self.give_up()
        return image


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
    return b"".join((_encode_fields(catalog), *(table.canonical(catalog) for table in _TABLES)))


def decode_catalog(data: bytes | bytearray | memoryview) -> Catalog:
    """The catalog in `data`; raises InvalidInput when it is not exactly one, and NewerFormat when
    a newer build wrote it."""
    match codec.load(data, IMAGE_BYTES_MAX):
        case [(2 | 3 | 4 | 5 | 6) as version, "catalog", dict(fields), *tables] if len(tables) == len(
            _tables_of(version)
        ):
            catalog = _from_fields(fields)
            for table, plain in zip(_tables_of(version), tables, strict=True):
                table.put(catalog, plain)
            return catalog
        case [1, "catalog", dict(fields)]:
            return _decode_v1(fields)
        case [int(version), "catalog", *_] if version > IMAGE_VERSION:
            raise NewerFormat(f"a snapshot of the metadata has version {version}, this is {IMAGE_VERSION}")
        case _:
            raise InvalidInput("a catalog is [version, 'catalog', fields, tables…]")


def _tables_of(version: int) -> list[Table]:
    return [table for table in _TABLES if table.since_version <= version]


def _encode_fields(catalog: Catalog) -> bytes:
    values = ((field, field.get(catalog)) for field in _FIELDS.values())
    return cbor2.dumps(
        {field.name: codec.to_plain(value) for field, value in values if value or not field.is_optional}
    )


def _from_fields(fields: Mapping[Any, object]) -> Catalog:
    if fields.keys() - _FIELDS.keys() or _REQUIRED - fields.keys():
        raise InvalidInput(f"a catalog has the fields {', '.join(_FIELDS)}, not {str(list(fields))[:200]}")
    catalog = Catalog()
    for name, plain in fields.items():
        _FIELDS[name].put(catalog, codec.from_plain_as(_FIELDS[name].form, plain))
    return catalog


def _decode_v1(fields: dict[Any, object]) -> Catalog:
    """With topics, offsets and settings of brokers, which are not used any more."""
    tables = {name: fields.pop(name, None) for name in ("topics", "group_offsets", "broker_configs")}
    catalog = _from_fields(fields)
    put_topics(catalog, tables["topics"])
    groups: dict[str, tuple[_RowV1, ...]] = codec.from_plain_as(
        Mapping[str, tuple[_RowV1, ...]], tables["group_offsets"]
    )
    for group, rows in groups.items():
        for topic, partition, offset, epoch, metadata, at_ms in rows:
            row = CommittedOffset(offset, epoch, metadata, at_ms)
            catalog.group_offsets.change(group, topic)[partition] = row
    return catalog


_RowV1 = tuple[str, int, int, int, str, int]
"""A committed offset: topic, partition, offset, leader epoch, metadata, commit timestamp."""
