"""`sqlite-sink`: JSON objects become rows of a SQLite file. Exactly once: the offset behind the rows is in
the same SQLite transaction, and what the file has already is not written again, whoever comes late with it.

The table `raftlog_offsets` has one row a connector and partition. To have records written again, or left out,
change `next_offset` there: it holds, and not the group's offset.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import trio

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.connect import rows
from raftlog.connect.contract import Offsets, Sink
from raftlog.connect.errors import ConnectError, Refused, Unavailable
from raftlog.connect.options import option
from raftlog.connect.rows import quoted
from raftlog.errors import ConfigError

BUSY_SECONDS: Final = 5.0
"""How long another writer of the file is waited for, before it counts as unavailable."""
INTEGER_MAX: Final = 2**63
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
"""As JSON has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteConfig:
    path: str = option(doc="The file. It is made when it is missing.")
    table: str | None = option(None, doc="The table: the topic's name unless it is given.")
    upsert_by: tuple[str, ...] = option(
        (), doc="Fields that tell rows apart: a later record replaces the row. Without them each is a row."
    )
    place: bool = option(True, doc="Whether rows have _topic, _partition, _offset, _timestamp and _key.")
    new_fields: Literal["add", "ignore", "refuse"] = option(
        "add", doc="What a field does for which the table has no column."
    )

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("path is empty")
        if self.table is not None:
            _check_table(self.table)


class SqliteSink(Sink):
    """Writes rows."""

    Config = SqliteConfig
    config: SqliteConfig

    def __init__(self, config: SqliteConfig, name: str) -> None:
        super().__init__(config, name)
        self._sql: sqlite3.Connection | None = None
        self._next: Offsets = {}
        """As the file has it."""
        self._skipped: Offsets = {}
        self._columns: dict[str, list[str]] = {}

    async def open(self, partitions: frozenset[TopicPartition]) -> Offsets:
        """What the file knows."""
        return await trio.to_thread.run_sync(self._open, partitions)

    async def write(self, records: Sequence[Record]) -> None:
        """In one SQLite transaction: afterwards they are safe."""
        await trio.to_thread.run_sync(self._write, records)

    async def skip(self, record: Record) -> None:
        """Only its offset is kept."""
        self._skipped[TopicPartition(record.topic, record.partition)] = record.offset + 1

    async def flush(self) -> Offsets:
        """What is in the file."""
        if self._skipped:
            await trio.to_thread.run_sync(self._write, ())
        return dict(self._next)

    async def close(self, partitions: frozenset[TopicPartition]) -> None:
        """There is nothing in memory but what the file has."""
        for key in partitions:
            self._next.pop(key, None)
            self._skipped.pop(key, None)

    async def aclose(self) -> None:
        """Close the file."""
        if self._sql is not None:
            self._sql.close()
            self._sql = None

    # -- in a thread

    def _connected(self) -> sqlite3.Connection:
        if self._sql is None:
            sql = sqlite3.connect(
                self.config.path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
            )
            try:
                sql.execute("pragma journal_mode=wal")
                sql.execute("pragma synchronous=full")  # an offset that is committed outlives a power cut
                sql.execute(
                    "create table if not exists raftlog_offsets (connector text, topic text, "
                    "partition integer, next_offset integer not null, "
                    "primary key (connector, topic, partition)) without rowid"
                )
            except BaseException:
                sql.close()
                raise
            self._sql = sql
        return self._sql

    def _open(self, partitions: Iterable[TopicPartition]) -> Offsets:
        if self.config.table is None:
            for key in partitions:
                _check_table(key.topic)
        try:
            found = self._stored(self._connected(), partitions)
        except sqlite3.Error as error:
            raise self._told(error) from error
        self._next |= found
        return found

    def _stored(self, sql: sqlite3.Connection, partitions: Iterable[TopicPartition]) -> Offsets:
        found = {}
        for key in partitions:
            row = sql.execute(
                "select next_offset from raftlog_offsets where connector = ? and topic = ? and partition = ?",
                (self.name, *key),
            ).fetchone()
            if row is not None:
                found[key] = int(row[0])
        return found

    def _write(self, records: Sequence[Record]) -> None:
        try:
            sql = self._connected()
            sql.execute("begin immediate")
            try:
                moved = self._write_rows(sql, records)
                sql.execute("commit")
            except BaseException:
                self._columns.clear()  # columns that were added are taken back
                if sql.in_transaction:
                    sql.execute("rollback")
                raise
        except sqlite3.Error as error:
            raise self._told(error) from error
        self._next |= moved
        self._skipped.clear()

    def _write_rows(self, sql: sqlite3.Connection, records: Sequence[Record]) -> Offsets:
        """Rows and offsets. What is there already, by another owner of the partition, is left out."""
        keys = {TopicPartition(record.topic, record.partition) for record in records}
        there = self._stored(sql, keys | self._skipped.keys())
        moved = dict(there)
        for record in records:
            key = TopicPartition(record.topic, record.partition)
            if record.offset >= there.get(key, 0):
                try:
                    self._write_row(sql, record)
                except (UnicodeEncodeError, sqlite3.DataError) as error:
                    raise Refused(f"SQLite does not take it: {error}") from error
                moved[key] = max(moved.get(key, 0), record.offset + 1)
        for key, offset in self._skipped.items():
            moved[key] = max(moved.get(key, 0), offset)
        sql.executemany(
            "insert into raftlog_offsets values (?, ?, ?, ?) on conflict do update set "
            "next_offset = excluded.next_offset",
            [(self.name, *key, offset) for key, offset in moved.items()],
        )
        return moved

    def _write_row(self, sql: sqlite3.Connection, record: Record) -> None:
        config = self.config
        table = config.table or record.topic
        if record.value is None:
            return self._delete(sql, table, record)
        row = {name: _plain(value) for name, value in rows.row(record, place=config.place).items()}
        columns = self._with_columns(sql, table, row)
        known = set(map(_folded, columns))
        names = [name for name in row if _folded(name) in known]
        places = ", ".join("?" * len(names))
        text = f"insert into {quoted(table)} ({', '.join(map(quoted, names))}) values ({places})"
        if config.upsert_by:
            missing = [name for name in config.upsert_by if row.get(name) is None]
            if missing:
                raise Refused(f"the value has no {missing[0]!r}, which tells rows apart")
            sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in names)
            text += f" on conflict ({', '.join(map(quoted, config.upsert_by))}) do update set {sets}"
        try:
            sql.execute(text, [row[name] for name in names])
        except sqlite3.IntegrityError as error:
            raise Refused(f"table {table} does not take it: {error}") from error

    def _delete(self, sql: sqlite3.Connection, table: str, record: Record) -> None:
        """A record without a value: with one field that tells rows apart, the row of its key goes."""
        if len(self.config.upsert_by) != 1:
            raise Refused("the record has no value, and rows are only deleted with one field in upsert_by")
        name = self.config.upsert_by[0]
        if self._with_columns(sql, table, {}):
            key = (record.key or b"").decode("utf-8", "replace")
            text = f"delete from {quoted(table)} where {quoted(name)} = ?"
            sql.execute(text, (key,))
            # A column without a type has numbers as well, which equal no text; one of texts has none, and 1.5
            # and 1.50 are two of them. Two statements, for each to find its rows by the index.
            number = _number(key)
            if number is not None:
                sql.execute(f"{text} and typeof({quoted(name)}) <> 'text'", (number,))

    def _with_columns(self, sql: sqlite3.Connection, table: str, row: dict[str, Any]) -> list[str]:
        """The table's columns, once it has those of a row; empty when there is no table."""
        columns = self._columns.get(table)
        if columns is None:
            columns = [one[1] for one in sql.execute(f"pragma table_info({quoted(table)})")]
            self._columns[table] = columns
        if len(set(map(_folded, row))) < len(row):
            raise Refused("two fields have names that differ in capitals only")
        known = set(map(_folded, columns))
        new = [name for name in row if _folded(name) not in known]
        if not new:
            return columns
        if columns and self.config.new_fields != "add":
            if self.config.new_fields == "refuse":
                raise Refused(f"table {table} has no column {new[0]!r}")
            return columns
        if len(columns) + len(new) > rows.COLUMNS_MAX:
            raise Refused(f"table {table} would have more than {rows.COLUMNS_MAX} columns")
        if not columns:
            sql.execute(f"create table {quoted(table)} ({', '.join(map(quoted, new))})")
            if self.config.upsert_by:
                by = ", ".join(map(quoted, self.config.upsert_by))
                sql.execute(f"create unique index {quoted(table + '_by')} on {quoted(table)} ({by})")
        else:
            for name in new:
                sql.execute(f"alter table {quoted(table)} add column {quoted(name)}")
        columns += new
        return columns

    def _told(self, error: sqlite3.Error) -> ConnectError:
        """What may pass: another writer, a full disk. All else is for somebody to look at."""
        text = f"{self.config.path}: {error}"
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        passing = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        return Unavailable(text) if code in passing else ConnectError(text)


def _check_table(name: str) -> None:
    folded = _folded(name)
    if folded == "raftlog_offsets" or folded.startswith("sqlite_"):
        raise ConfigError(f"no table of records can be called {name!r}: give another name as table")


def _folded(name: str) -> str:
    """A name as SQLite compares names: of capitals it knows those of ASCII alone."""
    return name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    """A value as SQLite has it; what it has no type for becomes JSON."""
    is_plain = (
        value is None
        or isinstance(value, str | float)
        or (isinstance(value, int) and -INTEGER_MAX <= value < INTEGER_MAX)
    )
    return value if is_plain else json.dumps(value)


def _number(text: str) -> Any:
    """What SQLite has of a number of JSON, or None when a text is no such number."""
    try:
        return _plain(json.loads(text)) if _NUMBER.fullmatch(text) else None
    except ValueError:
        return None  # it has more digits than Python reads: no row does
