"""What a catalog was, and whether another one is the same: after every command, on every broker.

What the next command leaves as it is, both moments share. The catalog's rows are read, and not the bytes that
the catalog has encoded of them: a snapshot is made of those bytes, and they may be wrong.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import Any, Final

from raftlog.metadata.catalog import Catalog
from raftlog.metadata.group_table import Groups
from raftlog.metadata.offset_table import Offsets, _Bucket, _decode_rows
from raftlog.metadata.transaction_table import Transactions

Contents = dict[str, Any]
"""By field of the catalog: dicts that nobody changes any more, and plain values."""

_FIELDS: Final = tuple(field.name for field in fields(Catalog))
_decoded: Final = lru_cache(10_000)(_decode_rows)


def contents_of(catalog: Catalog, before: Contents) -> Contents:
    """What the catalog is now. `before` is what some catalog was, best the one a command earlier."""
    return {name: _kept(getattr(catalog, name), before.get(name)) for name in _FIELDS}


def differing_field(catalog: Catalog, contents: Contents) -> str | None:
    """The first field in which the catalog is not what `contents` says."""
    for name, kept in contents.items():
        if not _is_same(getattr(catalog, name), kept):
            return name
    return None


def _table(value: Any) -> Any:
    """The dict in a table whose rows are replaced and never changed."""
    if isinstance(value, Groups):
        return value._groups
    return value._ids if isinstance(value, Transactions) else value


def _is_same(value: Any, kept: Any) -> bool:
    if not isinstance(value, Offsets):
        return bool(_table(value) == kept)
    groups = value._groups
    return groups.keys() == kept.keys() and all(
        _rows_of(buckets) == kept[group] for group, buckets in groups.items()
    )


def _kept(value: Any, before: Any) -> Any:
    if isinstance(value, Offsets):
        return _kept_offsets(value, before or {})
    table = _table(value)
    if not isinstance(table, dict):
        return table
    return before if table == before else dict(table)


def _kept_offsets(value: Offsets, before: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for group, buckets in value._groups.items():
        rows, known = _rows_of(buckets), before.get(group)
        is_as_before = rows == known
        kept[group] = known if is_as_before else {topic: dict(at) for topic, at in rows.items()}
    return kept


def _rows_of(buckets: dict[str, _Bucket]) -> dict[str, dict[int, Any]]:
    """The rows by topic, as they are kept: a bucket that nobody has read yet has their bytes alone."""
    return {
        topic: bucket._rows if bucket._rows is not None else _decoded(bytes(bucket._encoded or b""))
        for topic, bucket in buckets.items()
    }
