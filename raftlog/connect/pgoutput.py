"""What Postgres says of changes by its plugin pgoutput, version 1 of its protocol: bytes in, messages out.

A transaction is `Begin`, its changes, and `Commit`; they come in the order of the commits. A table is told of
before the first change in it. Values are texts, as Postgres prints them.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from raftlog.connect.errors import ConnectError

EPOCH_MS: Final = 946_684_800_000
"""2000-01-01, where Postgres counts from, in milliseconds since 1970."""
_NUMBER: Final = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
NUMBERS: Final = frozenset({20, 21, 23, 26, 700, 701, 1700})
"""The types whose texts are JSON's numbers, but for NaN and infinities: integers, floats, numeric."""
JSONS: Final = frozenset({114, 3802})
BOOL: Final = 16
IS_KEY: Final = 1

Lsn = int
"""A place in Postgres's log."""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type_oid: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, as it was when the changes after it were made."""

    oid: int
    schema: str
    table: str
    identity: str
    """Which columns old rows have: `d`, those of the primary key; `i`, of an index; `f`, all; `n`, none."""
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    commit_lsn: Lsn
    """Where the commit is."""
    at_ms: int
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    end_lsn: Lsn
    """Behind the commit."""


Row = dict[str, str | None]
"""Values by column. One that was stored apart and did not change is missing."""


@dataclass(frozen=True, slots=True)
class Change:
    op: Literal["c", "u", "d"]
    relation: Relation
    old: Row | None
    """Of a row that is gone, and of one whose key has changed: with `f` always."""
    new: Row | None


@dataclass(frozen=True, slots=True)
class Truncate:
    tables: tuple[str, ...]


Message = Relation | Begin | Commit | Change | Truncate


class Decoder:
    """Of one stream: it remembers the tables that it was told of."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}

    def decode(self, data: bytes) -> Message | None:
        """A message; None for one that says nothing of rows. Raises ConnectError for what is none."""
        try:
            return self._decode(data)
        except (struct.error, IndexError, ValueError, KeyError) as error:
            raise ConnectError(f"pgoutput sent a message that is none: {data[:40]!r}") from error

    def _decode(self, data: bytes) -> Message | None:
        at = _Reader(data)
        match at.take("c")[0]:
            case b"B":
                lsn, time, xid = at.take("QqI")
                return Begin(lsn, EPOCH_MS + time // 1000, xid)
            case b"C":
                _, _, end, _ = at.take("BQQq")
                return Commit(end)
            case b"R":
                relation = at.relation()
                self._relations[relation.oid] = relation
                return relation
            case b"I":
                relation = self._relations[at.take("I")[0]]
                return Change("c", relation, None, dict(at.rows(relation))["N"])
            case b"U":
                relation = self._relations[at.take("I")[0]]
                rows = dict(at.rows(relation))
                return Change("u", relation, rows.get("O") or rows.get("K"), rows["N"])
            case b"D":
                relation = self._relations[at.take("I")[0]]
                rows = dict(at.rows(relation))
                return Change("d", relation, rows.get("O") or rows["K"], None)
            case b"T":
                count, _ = at.take("IB")
                relations = [self._relations[at.take("I")[0]] for _ in range(count)]
                return Truncate(tuple(f"{each.schema}.{each.table}" for each in relations))
            case b"Y" | b"O" | b"M":
                return None  # a type's name, where a change is from, a message of an application
            case other:
                raise ValueError(other)


class _Reader:
    """Takes fields off a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, fields: str) -> tuple[Any, ...]:
        """As `struct` names them."""
        found = struct.unpack_from(">" + fields, self._data, self._at)
        self._at += struct.calcsize(">" + fields)
        return found

    def text(self) -> str:
        """Up to a zero."""
        end = self._data.index(b"\0", self._at)
        found = self._data[self._at : end].decode()
        self._at = end + 1
        return found

    def relation(self) -> Relation:
        (oid,) = self.take("I")
        schema, table = self.text(), self.text()
        identity, count = self.take("cH")
        columns = []
        for _ in range(count):
            (flags,) = self.take("B")
            name = self.text()
            type_oid, _ = self.take("Ii")
            columns.append(Column(name, type_oid, bool(flags & IS_KEY)))
        return Relation(oid, schema or "pg_catalog", table, identity.decode(), tuple(columns))

    def rows(self, relation: Relation) -> Iterator[tuple[str, Row]]:
        """To the end: each with N for a new one, O for an old one, K for an old one's key."""
        while self._at < len(self._data):
            kind, count = self.take("cH")
            if count != len(relation.columns):
                raise ValueError(count)
            row: Row = {}
            for column in relation.columns:
                match self.take("c")[0]:
                    case b"n":
                        row[column.name] = None
                    case b"t":
                        (size,) = self.take("I")
                        end = self._at + size
                        if end > len(self._data):
                            raise ValueError(size)
                        row[column.name] = self._data[self._at : end].decode()
                        self._at = end
                    case b"u":
                        pass
                    case other:
                        raise ValueError(other)
            yield kind.decode(), row


def to_json(relation: Relation, row: Row) -> str:
    """A row as a JSON object. Numbers keep all their digits; what JSON has no type for is a text."""
    return (
        "{"
        + ",".join(
            f"{json.dumps(column.name, ensure_ascii=False)}:{_literal(column.type_oid, row[column.name])}"
            for column in relation.columns
            if column.name in row
        )
        + "}"
    )


def _literal(type_oid: int, text: str | None) -> str:
    if text is None:
        return "null"
    if type_oid in JSONS or (type_oid in NUMBERS and _NUMBER.fullmatch(text)):
        return text
    if type_oid == BOOL:
        return "true" if text == "t" else "false"
    return json.dumps(text, ensure_ascii=False)
