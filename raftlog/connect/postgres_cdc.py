"""`postgres-cdc`: what is inserted, updated and deleted in tables of Postgres, in the order of its commits.

It asks a replication slot by SQL: it looks at changes, and has the slot move on only when they and their
position are in the log for good. So a crash repeats nothing and loses nothing. A slot that is gone, or was
made anew, is noticed by its position, and told; it would be a gap.

A record's value is the row as JSON, its key the row's key: as a compacted topic wants it. A row that is gone
is a record without a value.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from raftlog.connect import pgoutput
from raftlog.connect.contract import BATCH_BYTES, Batch, Position, Source, SourceRecord, Unit
from raftlog.connect.errors import ConnectError, PositionLost
from raftlog.connect.options import option
from raftlog.connect.pgoutput import Begin, Change, Commit, Lsn, Relation, Row, Truncate
from raftlog.connect.postgres import Database, PostgresConfig, check_name, table_of
from raftlog.connect.rows import quoted
from raftlog.errors import ConfigError

if TYPE_CHECKING:
    from raftlog.connect.postgres import Connection

log: Final = logging.getLogger("raftlog.connect")

POLL_SECONDS: Final = 0.5
"""Between two looks at a slot that has nothing new: each reads Postgres's log from where it must."""
IDLE_SECONDS: Final = 10.0
"""Where nothing of ours changes the position moves on so often: else Postgres would keep all of its log."""
LOOK: Final = 10_000
"""Changes of one look, and the transaction in which so many are reached."""
FETCH: Final = 500
"""Changes of a batch at most."""
FETCH_FIRST: Final = 4
FETCH_NEXT: Final = 50
"""Changes after which it is looked how large they are."""
SLOT: Final = re.compile(r"[a-z0-9_]{1,63}")
HEADER: Final = "postgres."


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresChangesConfig(PostgresConfig):
    slot: str = option(doc="The replication slot: this connector's alone. It is made when it is missing.")
    tables: tuple[str, ...] = option(
        (), doc="Tables, or schema.table, for which a publication is made when it is missing."
    )
    publication: str | None = option(
        None, doc="What Postgres publishes: called as the slot unless it is given."
    )
    topic: str = option("{schema}.{table}", doc="The topic to write to, with {schema} and {table}.")

    def __post_init__(self) -> None:
        if not SLOT.fullmatch(self.slot):
            raise ConfigError(f"slot = {self.slot!r}: it has small letters, digits and '_'")
        if self.publication is not None:
            check_name(self.publication)
        try:
            self.topic.format(schema="", table="")
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ConfigError(f"topic = {self.topic!r}: {error}; it has {{schema}} and {{table}}") from None

    @property
    def published(self) -> str:
        """The publication's name."""
        return self.publication or self.slot


@dataclass(frozen=True, slots=True)
class Place:
    """Where a connector is: behind all commits before `lsn`, and so many changes of the one at `within`."""

    lsn: Lsn
    within: Lsn = 0
    done: int = 0

    @classmethod
    def read(cls, position: Position) -> Place:
        try:
            within = position.get("within")
            done = position.get("done", 0)
            if type(done) is not int:
                raise TypeError
            return cls(lsn_of(position["lsn"]), 0 if within is None else lsn_of(within), done)
        except (KeyError, TypeError, ValueError) as error:
            raise PositionLost(
                f"the position is {dict(position)}, and has no lsn: it is another's"
            ) from error

    def position(self) -> dict[str, Any]:
        """As JSON."""
        inside = {"within": lsn_text(self.within), "done": self.done} if self.done else {}
        return {"lsn": lsn_text(self.lsn), **inside}


def lsn_of(text: Any) -> Lsn:
    """`0/16B3748` as a number. Raises ValueError and TypeError."""
    if not isinstance(text, str):
        raise TypeError
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def lsn_text(lsn: Lsn) -> str:
    """As Postgres writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


@dataclass
class Follower:
    """Makes batches of a stream of messages, behind a place. It decides, and asks nobody."""

    place: Place
    topic: str
    keys: Mapping[int, Sequence[str]] = field(default_factory=dict)
    """By table, the columns of its primary key, where old rows have all columns."""
    records: list[SourceRecord] = field(default_factory=list)
    _begin: Begin | None = None
    """Of the transaction that is read; None of one that was read before."""
    _done: int = 0

    def take(self, message: pgoutput.Message | None) -> None:
        """The next message."""
        match message:
            case Begin():
                self._begin = message if message.commit_lsn >= self.place.lsn else None
                self._done = 0
            case Change() if self._begin is not None:
                self._done += 1
                if self.place.within == self._begin.commit_lsn and self._done <= self.place.done:
                    return
                self.records += self._records(message, self._begin)
                self.place = Place(self.place.lsn, self._begin.commit_lsn, self._done)
            case Commit() if self._begin is not None:
                self.place = Place(message.end_lsn)
                self._begin = None
            case Truncate():
                log.warning("%s was emptied: its rows are in the topic still", ", ".join(message.tables))

    def batch(self) -> Batch:
        """What has come, to be written."""
        made = Batch(self.records, self.place.position())
        self.records = []
        return made

    def _records(self, change: Change, begin: Begin) -> Iterable[SourceRecord]:
        relation = change.relation
        topic = self.topic.format(schema=relation.schema, table=relation.table)
        headers = [
            (HEADER + "op", change.op.encode()),
            (HEADER + "lsn", lsn_text(begin.commit_lsn).encode()),
            (HEADER + "xid", str(begin.xid).encode()),
        ]
        old = None if change.old is None else self._key(relation, change.old)
        if change.new is None:
            yield SourceRecord(topic, None, old, begin.at_ms, tuple(headers))
            return
        row = _filled(relation, change.old or {}, change.new)
        new = self._key(relation, row)
        if old is not None and old != new:  # it has another key now
            yield SourceRecord(topic, None, old, begin.at_ms, tuple(headers))
        if unchanged := [column.name for column in relation.columns if column.name not in row]:
            headers.append((HEADER + "unchanged", ",".join(unchanged).encode()))
        value = pgoutput.to_json(relation, row).encode()
        yield SourceRecord(topic, value, new, begin.at_ms, tuple(headers))

    def _key(self, relation: Relation, row: Row) -> bytes | None:
        """One column's text, or several as JSON; of a table without a key none, or when old rows have all
        columns, those."""
        names = self.keys.get(relation.oid) or [column.name for column in relation.columns if column.is_key]
        if len(names) == 1:
            return (row.get(names[0]) or "").encode()
        return pgoutput.to_json(relation, {name: row.get(name) for name in names}).encode() if names else None


def _filled(relation: Relation, old: Row, new: Row) -> Row:
    """A new row, and in it what was stored apart and did not change, if the old row has that. An old row has
    the columns of its identity, and null for the others."""
    sent = [column.name for column in relation.columns if column.is_key and column.name in old]
    return {name: old[name] for name in sent} | new


class PostgresChanges(Source):
    """Gives changes of tables."""

    Config = PostgresChangesConfig
    config: PostgresChangesConfig

    def __init__(self, config: PostgresChangesConfig, name: str) -> None:
        super().__init__(config, name)
        self._database = Database(config, name)
        self._written: Lsn = 0
        """Behind what is in the log."""
        self._acknowledged: Lsn = 0
        self._keys: dict[int, Sequence[str]] = {}
        self._decoder = pgoutput.Decoder()

    async def units(self, stored: Mapping[Unit, Position]) -> Sequence[Unit]:
        """The slot."""
        return [Unit.of(slot=self.config.slot)]

    async def read(self, unit: Unit, position: Position | None) -> AsyncGenerator[Batch, None]:
        """Changes, as they are committed."""
        stored = None if position is None else Place.read(position)
        place = await self._database.run(partial(self._begun, stored))
        self._written, self._acknowledged = place.lsn, 0
        follower = Follower(place, self.config.topic, self._keys)
        quiet_since = trio.current_time()
        if stored is None:
            yield follower.batch()  # from now on it is noticed when the slot is gone
        while True:
            if self._written > self._acknowledged:
                await self._database.run(self._acknowledge)
            seen = await self._database.run(partial(self._look, follower.place))
            looked = 0
            while found := await self._database.run(partial(self._fetch, follower)):
                looked += found
                if follower.records:
                    yield follower.batch()
                    quiet_since = trio.current_time()
            if looked >= LOOK:
                yield follower.batch()  # there is more, and the slot must move on to reach it
                continue
            if trio.current_time() - quiet_since >= IDLE_SECONDS and follower.place.lsn < seen:
                quiet_since = trio.current_time()
                follower.place = Place(seen)
                yield follower.batch()
            await trio.sleep(POLL_SECONDS)

    async def committed(self, unit: Unit, position: Position) -> None:
        """The slot may move on: it does before the next look."""
        self._written = Place.read(position).lsn

    async def aclose(self) -> None:
        """Close the connection."""
        await self._database.aclose()

    # -- in a thread

    def _begun(self, place: Place | None, connection: Connection) -> Place:
        """Where to read from: a slot is made for who never read."""
        connection.rollback()  # of what was being read when something failed
        slot = self.config.slot
        is_published = connection.execute(
            "select 1 from pg_publication where pubname = $1", (self.config.published,)
        ).fetchone()
        if self._confirmed(connection) is None:
            if place is not None:
                raise PositionLost(
                    f"replication slot {slot} is gone, and what changed since {lsn_text(place.lsn)} with it: "
                    'on_position_lost = "start" makes a slot anew, and reads what changes from then on'
                )
            if not is_published:
                self._publish(connection)
            connection.execute("select pg_create_logical_replication_slot($1, 'pgoutput')", (slot,))
        elif not is_published:
            raise ConnectError(f"slot {slot} is there, and publication {self.config.published} is not")
        begin = place or Place(self._confirmed(connection) or 0)
        self._check(connection, begin)
        (flushed,) = connection.execute("select pg_current_wal_flush_lsn()").fetchone() or ("0/0",)
        if lsn_of(flushed) < begin.lsn:
            raise PositionLost(
                f"the position is {lsn_text(begin.lsn)}, and Postgres's log ends at {flushed}: "
                "it is not the server that was read"
            )
        return begin

    def _publish(self, connection: Connection) -> None:
        """Make the publication. A table without an identity would refuse all updates then."""
        if not self.config.tables:
            raise ConnectError(
                f"there is no publication {self.config.published}: name the tables, and it is made"
            )
        for table in map(table_of, self.config.tables):
            has_identity = connection.execute(
                "select case relreplident when 'f' then true when 'n' then false else exists (select 1 "
                "from pg_index where indrelid = c.oid and (indisreplident or (relreplident = 'd' and "
                "indisprimary))) end from pg_class c where oid = to_regclass($1)",
                (table,),
            ).fetchone()
            if has_identity is None:
                raise ConnectError(f"there is no table {table}")
            if not has_identity[0]:
                raise ConnectError(
                    f"table {table} has nothing that tells its rows apart, and once published would take no "
                    f"update: give it a primary key, or alter table {table} replica identity full"
                )
        tables = ", ".join(map(table_of, self.config.tables))
        connection.execute(
            f"create publication {quoted(self.config.published)} for table {tables} "
            "with (publish = 'insert, update, delete')"
        )

    def _confirmed(self, connection: Connection) -> Lsn | None:
        """Up to where the slot has been read; None when there is none. Raises for one that is of no use."""
        found = connection.execute(
            "select plugin, database = current_database(), wal_status, confirmed_flush_lsn "
            "from pg_replication_slots where slot_name = $1",
            (self.config.slot,),
        ).fetchone()
        if found is None:
            return None
        plugin, is_here, status, confirmed = found
        if plugin != "pgoutput" or not is_here:
            raise ConnectError(
                f"slot {self.config.slot} is another's: its plugin is {plugin}, or its database"
            )
        if status == "lost":
            raise PositionLost(
                f"Postgres has removed what slot {self.config.slot} had not read yet, by "
                "max_slot_wal_keep_size: drop the slot"
            )
        return lsn_of(confirmed)

    def _check(self, connection: Connection, place: Place) -> None:
        """The slot must not be beyond what is in the log: else somebody moved it, or made it anew."""
        confirmed = self._confirmed(connection)
        if confirmed is None or confirmed > place.lsn:
            told = "gone" if confirmed is None else f"at {lsn_text(confirmed)}"
            raise PositionLost(
                f"replication slot {self.config.slot} is {told}, and the position is {lsn_text(place.lsn)}: "
                "what changed between them cannot be read any more"
            )

    def _acknowledge(self, connection: Connection) -> None:
        """What is in the log Postgres need not keep."""
        written = self._written
        self._check(connection, Place(written))
        connection.execute(
            "select pg_replication_slot_advance($1, $2::pg_lsn)", (self.config.slot, lsn_text(written))
        )
        self._acknowledged = written

    def _look(self, place: Place, connection: Connection) -> Lsn:
        """Ask for what has changed since a place. Gives where Postgres's log ended before."""
        self._check(connection, place)
        (flushed,) = connection.execute("select pg_current_wal_flush_lsn()").fetchone() or ("0/0",)
        connection.execute("begin")
        connection.execute(
            "declare changes no scroll cursor for select data from pg_logical_slot_peek_binary_changes("
            "$1, null, $2, 'proto_version', '1', 'publication_names', $3)",
            (self.config.slot, LOOK, quoted(self.config.published)),
        )
        self._decoder = pgoutput.Decoder()
        return lsn_of(flushed)

    def _fetch(self, follower: Follower, connection: Connection) -> int:
        """Take the next of what was asked for: how many messages; 0 when there are no more."""
        place = follower.place
        found: list[tuple[Any, ...]] = []
        size, wanted = 0, FETCH_FIRST
        while wanted > 0:
            some = connection.execute(f"fetch {wanted} from changes", binary=True).fetchall()
            found += some
            size += sum(len(data) for (data,) in some)
            if len(some) < wanted:
                break
            # As many more as there is room for, if they are as large as those before.
            wanted = min(FETCH_NEXT, FETCH - len(found), (BATCH_BYTES - size) * len(found) // max(1, size))
        self._check(connection, place)
        if not found:
            connection.execute("commit")
        for (data,) in found:
            message = self._decoder.decode(data)
            if isinstance(message, Relation) and message.identity == "f":
                self._keys[message.oid] = _primary_key(connection, message.oid)
            follower.take(message)
        return len(found)


def _primary_key(connection: Connection, table: int) -> list[str]:
    found = connection.execute(
        "select attname from pg_index join pg_attribute on attrelid = indrelid and attnum = any(indkey) "
        "where indrelid = $1::oid and indisprimary order by array_position(indkey::int2[], attnum)",
        (table,),
    )
    return [name for (name,) in found]
