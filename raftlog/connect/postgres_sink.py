"""`postgres-sink`: JSON objects become rows of a Postgres table. Exactly once: the offset behind the rows is
in the same transaction, and what the table has already is not written again, whoever comes late with it.

The table `raftlog_offsets` has one row a connector and partition, locked by who writes. To have records
written again, or left out, change `next_offset` there: it holds, and not the group's offset.

Postgres itself makes a column's type of a field, by `json_populate_record`: no number passes through Python's
floats. The columns are looked up in each transaction, so that none is used that has changed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.connect import rows
from raftlog.connect.contract import Offsets, Sink
from raftlog.connect.errors import Refused
from raftlog.connect.options import option
from raftlog.connect.postgres import Database, PostgresConfig, check_name, driver, literal, names, table_of
from raftlog.connect.rows import quoted
from raftlog.errors import ConfigError

if TYPE_CHECKING:
    from raftlog.connect.postgres import Connection

OFFSETS: Final = "raftlog_offsets"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSinkConfig(PostgresConfig):
    table: str | None = option(None, doc="The table, or schema.table: the topic's name unless it is given.")
    upsert_by: tuple[str, ...] = option(
        (), doc="Fields that tell rows apart: a later record replaces the row. Without them each is a row."
    )
    place: bool = option(True, doc="Whether rows have _topic, _partition, _offset, _timestamp and _key.")
    new_fields: Literal["add", "ignore", "refuse"] = option(
        "add", doc="What a field does for which the table has no column. Numbers are added as numeric."
    )

    def __post_init__(self) -> None:
        if self.table is not None:
            for part in self.table.split("."):
                _check_table(part)


@dataclass
class _Run:
    """Records one after the other that one statement writes."""

    table: str
    columns: tuple[str, ...]
    """Empty when they delete rows."""
    values: list[str] = field(default_factory=list)
    """A JSON object each, or the key of a row that goes."""
    places: dict[str, int] = field(default_factory=dict)
    """By what tells rows apart, where in `values` it is: one statement may meet a row once."""


class PostgresSink(Sink):
    """Writes rows."""

    Config = PostgresSinkConfig
    config: PostgresSinkConfig

    def __init__(self, config: PostgresSinkConfig, name: str) -> None:
        super().__init__(config, name)
        self._database = Database(config, name)
        self._next: Offsets = {}
        """As the database has it."""
        self._skipped: Offsets = {}

    async def open(self, partitions: frozenset[TopicPartition]) -> Offsets:
        """What the database knows."""
        if self.config.table is None:
            for key in partitions:
                _check_table(key.topic)
        found = await self._database.run(lambda connection: self._opened(connection, sorted(partitions)))
        self._next |= found
        return found

    async def write(self, records: Sequence[Record]) -> None:
        """In one transaction: afterwards they are safe."""
        skipped = dict(self._skipped)
        moved = await self._database.run(lambda connection: self._written(connection, records, skipped))
        self._next |= moved
        self._skipped.clear()

    async def skip(self, record: Record) -> None:
        """Only its offset is kept."""
        self._skipped[TopicPartition(record.topic, record.partition)] = record.offset + 1

    async def flush(self) -> Offsets:
        """What is in the database."""
        if self._skipped:
            await self.write(())
        return dict(self._next)

    async def close(self, partitions: frozenset[TopicPartition]) -> None:
        """There is nothing in memory but what the database has."""
        for key in partitions:
            self._next.pop(key, None)
            self._skipped.pop(key, None)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._database.aclose()

    # -- in a thread

    def _opened(self, connection: Connection, partitions: Sequence[TopicPartition]) -> Offsets:
        """Each partition has a row from now on, which can be locked; without a number the group's holds."""
        with connection.transaction():
            if not _exists(connection, quoted(OFFSETS)):
                _lock_schema(connection)
                connection.execute(
                    f"create table if not exists {OFFSETS} (connector text, topic text, partition integer, "
                    "next_offset bigint, primary key (connector, topic, partition))"
                )
            connection.cursor().executemany(
                f"insert into {OFFSETS} values ($1, $2, $3, null) on conflict do nothing",
                [(self.name, *key) for key in partitions],
            )
            return self._stored(connection, partitions)

    def _stored(self, connection: Connection, partitions: Iterable[TopicPartition]) -> Offsets:
        """Where partitions are, locked until the transaction ends: always in one order."""
        keys = list(partitions)
        found = connection.execute(
            f"select topic, partition, next_offset from {OFFSETS} where connector = $1 "
            "and (topic, partition) in (select * from unnest($2::text[], $3::integer[])) "
            "order by topic, partition for update",
            (self.name, [key.topic for key in keys], [key.partition for key in keys]),
        )
        return {TopicPartition(topic, part): at for topic, part, at in found if at is not None}

    def _written(self, connection: Connection, records: Sequence[Record], skipped: Offsets) -> Offsets:
        try:
            with connection.transaction():
                return self._write_all(connection, records, skipped)
        except driver().DataError as error:
            if len(records) != 1:
                raise
            column = self._misfit(connection, records[0]) if records[0].value is not None else ""
            raise Refused(f"Postgres does not take it: {column}{error.diag.message_primary}") from error

    def _write_all(self, connection: Connection, records: Sequence[Record], skipped: Offsets) -> Offsets:
        """Rows and offsets. What is there already, by another owner of the partition, is left out."""
        keys = {TopicPartition(record.topic, record.partition) for record in records}
        there = self._stored(connection, keys | skipped.keys())
        moved = dict(there)
        fresh = []
        for record in records:
            key = TopicPartition(record.topic, record.partition)
            if record.offset >= there.get(key, 0):
                fresh.append(record)
                moved[key] = record.offset + 1
        for topic, group in itertools.groupby(fresh, key=lambda record: record.topic):
            for run in self._runs(connection, self._table(topic), group):
                given = f"[{','.join(run.values)}]" if run.columns else run.values
                connection.execute(self._statement(run), (given,))
        for key, offset in skipped.items():
            moved[key] = max(moved.get(key, 0), offset)
        connection.cursor().executemany(
            f"insert into {OFFSETS} values ($1, $2, $3, $4) on conflict (connector, topic, partition) "
            "do update set next_offset = excluded.next_offset",
            [(self.name, *key, offset) for key, offset in sorted(moved.items())],
        )
        return moved

    def _table(self, topic: str) -> str:
        return quoted(topic) if self.config.table is None else table_of(self.config.table)

    def _runs(self, connection: Connection, table: str, records: Iterable[Record]) -> list[_Run]:
        """What to write, in order. The columns of the table are there when it returns."""
        columns = _columns(connection, table)
        runs: list[_Run] = []
        for record in records:
            if record.value is None:
                key = self._key_to_delete(record)
                found: tuple[str, ...] = ()
                value = identity = key
            else:
                fields = rows.row(record, place=self.config.place)
                identity = self._identity(fields)
                value = self._text(record)
                found = self._present(connection, table, columns, fields)
            if not runs or runs[-1].columns != found:
                runs.append(_Run(table, found))
            run = runs[-1]
            at = run.places.get(identity) if self.config.upsert_by else None
            if at is not None:
                run.values[at] = value
            else:
                run.places[identity] = len(run.values)
                run.values.append(value)
        return runs if columns else [run for run in runs if run.columns]  # no table has nothing to delete

    def _text(self, record: Record) -> str:
        """A value as it came, with where it is from in front: what the value itself says holds."""
        try:
            text = (record.value or b"").decode()
        except UnicodeDecodeError as error:
            raise Refused(f"the value is no UTF-8: {error}") from error
        if not self.config.place:
            return text
        return json.dumps(rows.where(record))[:-1] + "," + text.lstrip()[1:]

    def _identity(self, fields: dict[str, Any]) -> str:
        if not self.config.upsert_by:
            return ""
        missing = [name for name in self.config.upsert_by if fields.get(name) is None]
        if missing:
            raise Refused(f"the value has no {missing[0]!r}, which tells rows apart")
        return json.dumps([fields[name] for name in self.config.upsert_by], sort_keys=True)

    def _key_to_delete(self, record: Record) -> str:
        """A record without a value: with one field that tells rows apart, the row of its key goes."""
        if len(self.config.upsert_by) != 1:
            raise Refused("the record has no value, and rows are only deleted with one field in upsert_by")
        return (record.key or b"").decode("utf-8", "replace")

    def _present(
        self, connection: Connection, table: str, columns: set[str], fields: dict[str, Any]
    ) -> tuple[str, ...]:
        """Those fields for which there are columns, once those that are to be added are."""
        new = [name for name in fields if name not in columns]
        wanted = {name: _type(fields[name]) for name in new if fields[name] is not None}
        if wanted and (self.config.new_fields == "add" or not columns):
            self._add(connection, table, columns, wanted)
        elif wanted and self.config.new_fields == "refuse":
            raise Refused(f"table {table} has no column {next(iter(wanted))!r}")
        present = tuple(name for name in fields if name in columns)
        if not present:
            raise Refused(f"table {table} has a column for no field of it")
        return present

    def _add(self, connection: Connection, table: str, columns: set[str], wanted: dict[str, str]) -> None:
        try:
            for name in wanted:
                check_name(name)
        except ConfigError as error:
            raise Refused(str(error)) from error
        if len(columns) + len(wanted) > rows.COLUMNS_MAX:
            raise Refused(f"table {table} would have more than {rows.COLUMNS_MAX} columns")
        _lock_schema(connection)
        defined = [f"{quoted(name)} {kind}" for name, kind in wanted.items()]
        if _exists(connection, table):
            added = ", ".join(f"add column if not exists {each}" for each in defined)
            connection.execute(f"alter table {table} {added}")
        else:
            if self.config.upsert_by:
                defined.append(f"unique ({names(self.config.upsert_by)})")
            connection.execute(f"create table {table} ({', '.join(defined)})")
        columns.update(wanted)

    def _statement(self, run: _Run) -> str:
        table, by = run.table, self.config.upsert_by
        if not run.columns:
            name = quoted(by[0])
            return (
                f"delete from {table} t using unnest($1::text[]) as p (key), lateral json_populate_record("
                f"null::{table}, json_build_object({literal(by[0])}, p.key)) as r where t.{name} = r.{name}"
            )
        read = ", ".join(f"r.{quoted(name)}" for name in run.columns)
        text = (
            f"insert into {table} ({names(run.columns)}) select {read} "
            f"from json_populate_recordset(null::{table}, $1::json) as r"
        )
        if not by:
            return text
        sets = ", ".join(f"{quoted(n)} = excluded.{quoted(n)}" for n in run.columns if n not in by)
        return f"{text} on conflict ({names(by)}) do {f'update set {sets}' if sets else 'nothing'}"

    def _misfit(self, connection: Connection, record: Record) -> str:
        """Which column does not take its field, for who reads the error."""
        table = self._table(record.topic)
        kinds: dict[str, str] = dict(
            connection.execute(
                "select attname, format_type(atttypid, atttypmod) from pg_attribute "
                "where attrelid = to_regclass($1)",
                (table,),
            ).fetchall()
        )
        for name, value in rows.row(record, place=False).items():
            try:
                connection.execute(
                    f"select json_populate_record(null::{table}, $1::json)", (json.dumps({name: value}),)
                )
            except driver().DataError:
                return f"column {name}, {kinds.get(name, '?')}: "
        return ""


def _columns(connection: Connection, table: str) -> set[str]:
    found = connection.execute(
        "select attname from pg_attribute where attrelid = to_regclass($1) and attnum > 0 "
        "and not attisdropped",
        (table,),
    )
    return {name for (name,) in found}


def _exists(connection: Connection, table: str) -> bool:
    found = connection.execute("select to_regclass($1) is not null", (table,)).fetchone()
    return found is not None and bool(found[0])


def _lock_schema(connection: Connection) -> None:
    """Until the transaction ends no other sink makes tables: of two who do at once, one would fail."""
    connection.execute("select pg_advisory_xact_lock(hashtext('raftlog'))")


def _type(value: Any) -> str:
    """The column that a field gets which has none."""
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "numeric"
        case str():
            return "text"
    return "jsonb"


def _check_table(name: str) -> None:
    check_name(name)
    if name == OFFSETS:
        raise ConfigError(f"no table of records can be called {name!r}: give another name as table")
