"""`postgres-source`: the rows of a table, in the order of columns that grow: an id, or a time and an id.

A row is read once nobody can commit one before it any more. Where the table ends now is noted, with the
transactions that run; up to there is read when all of those have ended, and `lag_s` is over: that is for who
has taken a number, or the time, and has not begun to write. A row that changes is read again when its columns
grow with that, one that is deleted never is: `postgres-cdc` tells of both.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from raftlog.connect.contract import BATCH_BYTES, Batch, Position, Source, SourceRecord, Unit
from raftlog.connect.errors import ConnectError, PositionLost
from raftlog.connect.options import option
from raftlog.connect.postgres import Database, PostgresConfig, literal, table_of
from raftlog.connect.rows import quoted
from raftlog.errors import ConfigError

if TYPE_CHECKING:
    from raftlog.connect.postgres import Connection

log: Final = logging.getLogger("raftlog.connect")

SETTLE_SECONDS: Final = 0.2
"""Between two looks whether transactions have ended."""
TOLD_SECONDS: Final = 60.0
"""After so long it is said that one goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSourceConfig(PostgresConfig):
    table: str = option(doc="The table or view, or schema.table.")
    by: tuple[str, ...] = option(
        doc="Columns that grow, and together tell rows apart: id, or updated_at, id."
    )
    topic: str = option(doc="The topic to write to.")
    key: tuple[str, ...] = option((), doc="Columns of a record's key: one's text, or several as JSON.")
    lag_s: float = option(
        1.0, doc="How long a writer may take from its number or time to its first write, in seconds.", least=0
    )
    poll_s: float = option(1.0, doc="Between two looks at a table that has nothing new.", least=0.05)
    batch: int = option(
        1000, doc="Rows that are written together at most: fewer, when they are large.", least=1
    )

    def __post_init__(self) -> None:
        if not self.by:
            raise ConfigError("by is empty: name the columns that grow")


@dataclass(frozen=True, slots=True)
class _Bound:
    """Where a table ended, and which transactions might add to what is before that."""

    values: list[str] | None
    next_xid: str


class PostgresSource(Source):
    """Gives rows."""

    Config = PostgresSourceConfig
    config: PostgresSourceConfig

    def __init__(self, config: PostgresSourceConfig, name: str) -> None:
        super().__init__(config, name)
        self._database = Database(config, name)
        self._table = table_of(config.table)
        self._types: dict[str, str] = {}

    async def units(self, stored: Mapping[Unit, Position]) -> Sequence[Unit]:
        """The table."""
        return [Unit.of(table=self.config.table)]

    async def read(self, unit: Unit, position: Position | None) -> AsyncGenerator[Batch, None]:
        """Rows, as they come."""
        by = self.config.by
        if position is not None and (
            position.keys() != set(by) or not all(isinstance(value, str) for value in position.values())
        ):
            raise PositionLost(f"the position is {dict(position)}, and rows are read by {', '.join(by)}")
        at = None if position is None else [str(position[name]) for name in by]
        self._types = await self._database.run(self._begun)
        while True:
            bound = await self._database.run(self._bound)
            if bound.values is None or bound.values == at:
                await trio.sleep(self.config.poll_s)
                continue
            await trio.sleep(self.config.lag_s)
            await self._until_settled(bound)
            while rows := await self._database.run(partial(self._rows, at, bound)):
                at = rows[-1][0]
                yield Batch([record for _, record in rows], dict(zip(by, at, strict=True)))
            # What is before the bound is read; it is asked for again, since the last row may be gone now.
            at = bound.values

    async def _until_settled(self, bound: _Bound) -> None:
        since = trio.current_time()
        while not await self._database.run(lambda connection: _is_settled(connection, bound.next_xid)):
            if trio.current_time() - since >= TOLD_SECONDS:
                since = trio.current_time()
                log.warning("%s waits for a transaction that goes on: what it writes comes first", self.name)
            await trio.sleep(SETTLE_SECONDS)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._database.aclose()

    # -- in a thread

    def _begun(self, connection: Connection) -> dict[str, str]:
        """The types of columns. Raises ConnectError when they do not tell rows apart."""
        config = self.config
        found = connection.execute(
            "select relkind::text, attname, format_type(atttypid, atttypmod) from pg_class c "
            "join pg_attribute on attrelid = c.oid "
            "where c.oid = to_regclass($1) and attnum > 0 and not attisdropped",
            (self._table,),
        ).fetchall()
        if not found:
            raise ConnectError(f"there is no table {config.table}")
        types = {name: kind for _, name, kind in found}
        for name in (*config.by, *config.key):
            if name not in types:
                raise ConnectError(f"table {config.table} has no column {name!r}")
        unique = connection.execute(
            "select array(select attname::text from unnest(indkey) with ordinality as u (number, place) "
            "join pg_attribute on attrelid = indrelid and attnum = number where place <= indnkeyatts) "
            "from pg_index where indrelid = to_regclass($1) and indisunique and indisvalid "
            "and indpred is null and indexprs is null",
            (self._table,),
        ).fetchall()
        is_view = found[0][0] == "v"  # of which nobody knows
        if not is_view and not any(set(names) <= set(config.by) for (names,) in unique):
            raise ConnectError(
                f"{', '.join(config.by)} may be the same in two rows of {config.table}, of which one would "
                "be left out: add a column that has a unique index, such as its primary key"
            )
        return types

    def _bound(self, connection: Connection) -> _Bound:
        by = [quoted(name) for name in self.config.by]
        last = ", ".join(f"{name} desc" for name in by)
        values, next_xid = connection.execute(
            f"select (select array[{', '.join(f'{name}::text' for name in by)}] from {self._table} "
            f"where {_there(by)} order by {last} limit 1), pg_snapshot_xmax(pg_current_snapshot())::text"
        ).fetchall()[0]
        return _Bound(values, next_xid)

    def _rows(
        self, at: list[str] | None, bound: _Bound, connection: Connection
    ) -> list[tuple[list[str], SourceRecord]]:
        """Rows behind one place and up to another: where each is, and what it becomes."""
        config = self.config
        by = [f"t.{quoted(name)}" for name in config.by]
        columns = f"({', '.join(by)})"
        values = [*(bound.values or ()), *(at or ())]
        places = [f"${n + 1}::{self._types[config.by[n % len(by)]]}" for n in range(len(values))]
        upper, lower = ", ".join(places[: len(by)]), ", ".join(places[len(by) :])
        order = ", ".join(by)
        some = (
            f"select array[{', '.join(f'{name}::text' for name in by)}] as place, "
            f"row_to_json(t)::text as value, {self._key()} as key, "
            f"row_number() over (order by {order}) as number "
            f"from {self._table} as t where {_there(by)} and {columns} <= ({upper})"
            f"{f' and {columns} > ({lower})' if lower else ''} order by {order} limit {config.batch}"
        )
        # Of so many rows, those that begin within a batch's bytes: the others do not leave the server.
        sizes = (
            "select *, sum(octet_length(value)) over (order by number) - octet_length(value) as before "
            f"from ({some}) as chosen"
        )
        found = connection.execute(
            f"select place, value, key from ({sizes}) as sized where before < {BATCH_BYTES} order by number",
            values,
        ).fetchall()
        return [
            (place, SourceRecord(config.topic, value.encode(), None if key is None else key.encode()))
            for place, value, key in found
        ]

    def _key(self) -> str:
        key = self.config.key
        if len(key) < 2:
            return f"t.{quoted(key[0])}::text" if key else "null"
        return f"json_build_object({', '.join(f'{literal(name)}, t.{quoted(name)}' for name in key)})::text"


def _there(by: Sequence[str]) -> str:
    """That rows have a value in all of these columns: a comparison lets (2, null) be behind (1, 1)."""
    return " and ".join(f"{name} is not null" for name in by)


def _is_settled(connection: Connection, next_xid: str) -> bool:
    """Whether all transactions before one have ended."""
    return bool(
        connection.execute(
            "select pg_snapshot_xmin(pg_current_snapshot()) >= $1::xid8", (next_xid,)
        ).fetchall()[0][0]
    )
