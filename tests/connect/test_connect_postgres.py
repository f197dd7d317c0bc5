"""The Postgres connectors on a real Postgres, without a log: the contract, and what only a server shows."""

from __future__ import annotations

import json
import signal
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from raftlog.client.metadata import TopicPartition
from raftlog.client.nursery import background
from raftlog.client.record import Record
from raftlog.connect import PositionLost, Sink, Source, SourceRecord, Unavailable, postgres_cdc
from raftlog.connect.contract import BATCH_BYTES, Position
from raftlog.connect.errors import ConnectError, Refused
from raftlog.connect.postgres_cdc import FETCH, PostgresChanges, PostgresChangesConfig, lsn_of
from raftlog.connect.postgres_sink import PostgresSink, PostgresSinkConfig
from raftlog.connect.postgres_source import PostgresSource, PostgresSourceConfig
from raftlog.errors import ConfigError
from raftlog.testing.connect import P0, P1, SinkContract, SourceContract, record
from tests.connect.postgres_server import PostgresServer, serving


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    yield from serving()


class OnPostgres:
    """A database for each folder."""

    @pytest.fixture(autouse=True)
    def _with_postgres(self, postgres: PostgresServer) -> None:
        self.postgres = postgres
        self.databases: dict[Path, str] = {}

    def dsn(self, folder: Path) -> str:
        if folder not in self.databases:
            self.databases[folder] = self.postgres.database()
        return self.databases[folder]


class TestPostgresSink(OnPostgres, SinkContract):
    """60, 61, 62."""

    exactly_once = True
    more: ClassVar[dict[str, Any]] = {}

    def make(self, folder: Path) -> Sink:
        return PostgresSink(PostgresSinkConfig(dsn=self.dsn(folder), **self.more), "w")

    def contents(self, folder: Path) -> Sequence[bytes]:
        found = self.postgres.sql(self.dsn(folder), "select n from things order by ctid")
        return [json.dumps({"n": n}).encode() for (n,) in found]

    def refused(self, key: TopicPartition, offset: int) -> Record:
        return record(key, offset)._replace(value=b'{"n": "\\u0000"}')


class TestPostgresSinkUpserting(TestPostgresSink):
    more: ClassVar[dict[str, Any]] = {"upsert_by": ("n",)}


class Table:
    """One sink, and its table."""

    def __init__(self, postgres: PostgresServer) -> None:
        self.postgres, self.dsn = postgres, postgres.database()
        self.next = 0

    def sink(self, **more: Any) -> PostgresSink:
        return PostgresSink(PostgresSinkConfig(dsn=self.dsn, **{"place": False, **more}), "w")

    def records(self, *values: bytes | None, key: bytes = b"k") -> list[Record]:
        """The next of the partition."""
        first, self.next = self.next, self.next + len(values)
        return [record(P0, first + n)._replace(value=value, key=key) for n, value in enumerate(values)]

    def sql(self, text: str) -> list[Any]:
        return self.postgres.sql(self.dsn, text)

    def rows(self, what: str = "*") -> list[Any]:
        return self.sql(f"select {what} from things order by 1")


@pytest.fixture
def table(postgres: PostgresServer) -> Table:
    return Table(postgres)


async def test_values_are_as_json_has_them(table: Table) -> None:
    """A number keeps all its digits, a table in a field is JSON."""
    sink = table.sink(place=True)
    await sink.open(frozenset([P0]))
    number = b"12345678901234567890.123456789012345678901"
    await sink.write(
        table.records(b'{"a": %s, "b": true, "c": {"d": [1, "x"]}, "e": null, "f%%g": "h"}' % number)
    )
    found = table.rows('a::text, b, c, "f%g", _topic, _partition, _offset, _timestamp, _key')
    assert found == [(number.decode(), True, {"d": [1, "x"]}, "h", "things", 0, 0, 1000, "k")]
    await sink.write(table.records(b'{"e": "later"}', b'{"a": 1}'))
    assert table.rows("a, e")[0] == (1, None)
    await sink.aclose()


async def test_rows_are_replaced_and_deleted_by_their_key(table: Table) -> None:
    """Within one write, too; a field that is not there leaves its column alone."""
    sink = table.sink(upsert_by=("id",))
    table.sql("create table things (id integer primary key, a text, b text default 'unset')")
    await sink.open(frozenset([P0]))
    await sink.write(table.records(b'{"id": 1, "a": "x"}', b'{"id": 2, "a": "x"}', b'{"id": 1, "a": "y"}'))
    assert table.rows() == [(1, "y", "unset"), (2, "x", "unset")]
    await sink.write(
        [
            *table.records(b'{"id": 1, "b": "z"}'),
            *table.records(None, key=b"2"),
            *table.records(b'{"id": 3}', b'{"id": "1", "b": "zz"}', b'{"id": 4}'),
            *table.records(None, key=b"4"),
        ]
    )
    assert table.rows() == [(1, "y", "zz"), (3, None, "unset")]
    for bad in (b'{"a": "no id"}', b'{"id": null}'):
        with pytest.raises(Refused, match="'id', which tells rows apart"):
            await sink.write(table.records(bad))
    # Two texts of one number are two fields, and one row: Postgres refuses both at once, and takes each.
    with pytest.raises(Refused):
        await sink.write(table.records(b'{"id": 5}', b'{"id": 5.0}')[:2])
    table.next -= 2
    for value in (b'{"id": 5}', b'{"id": "5"}'):
        await sink.write(table.records(value))
    assert table.rows("id") == [(1,), (3,), (5,)]
    await sink.aclose()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"no JSON", "is no JSON"),
        (b"[1]", "no JSON object"),
        (b'{"n": "abc"}', 'column n, integer: invalid input syntax for type integer: "abc"'),
        (b'{"n": 12345678901234}', "column n, integer: .*out of range"),
        (b'{"n": 1, "m": null}', 'null value in column "m"'),
        (b'{"n": -1, "m": "x"}', "violates check constraint"),
        (b'{"n": NaN}', "invalid input syntax for type json"),
        (b'{"n": 1, "m": "\\ud800"}', "column m, text: "),
        (b'{"n": 1, "m": "x", "%s": 1}' % (b"x" * 64), "1 to 63 bytes"),
        ('{"n": 1, "m": "x"}'.encode("utf-16"), "no UTF-8"),
    ],
)
async def test_scenario_62_what_a_table_will_never_take_is_refused(
    table: Table, value: bytes, told: str
) -> None:
    """And the next record is taken."""
    table.sql("create table things (n integer check (n >= 0), m text not null)")
    sink = table.sink()
    await sink.open(frozenset([P0]))
    with pytest.raises(Refused, match=told):
        await sink.write(table.records(value))
    await sink.write(table.records(b'{"n": 1, "m": "good"}'))
    assert table.rows() == [(1, "good")]
    await sink.aclose()


async def test_scenario_63_a_column_changes_while_the_sink_runs(table: Table) -> None:
    """63: what does not fit is told with column and type, what fits again is written."""
    table.sql("create table things (n integer, m text)")
    sink = table.sink(new_fields="refuse")
    await sink.open(frozenset([P0]))
    await sink.write(table.records(b'{"n": 0, "m": "x"}'))
    table.sql("alter table things drop column m")
    with pytest.raises(Refused, match="has no column 'm'"):
        await sink.write(table.records(b'{"n": 1, "m": "x"}'))
    table.sql("alter table things add column m timestamptz")
    with pytest.raises(Refused, match="column m, timestamp with time zone: "):
        await sink.write(table.records(b'{"n": 1, "m": "x"}'))
    table.sql("alter table things alter column m type text")
    await sink.write(table.records(b'{"n": 1, "m": "x"}'))
    assert table.rows() == [(0, None), (1, "x")]
    await sink.aclose()


async def test_a_table_that_has_no_key_to_upsert_by_is_told(table: Table) -> None:
    table.sql("create table things (id integer)")
    sink = table.sink(upsert_by=("id",))
    await sink.open(frozenset([P0]))
    with pytest.raises(ConnectError, match="no unique or exclusion constraint"):
        await sink.write(table.records(b'{"id": 1}'))
    await sink.aclose()


async def test_scenario_61_one_who_was_paused_writes_nothing_twice(table: Table) -> None:
    """61, 64: its successor has written meanwhile; and what neither has goes on from there."""
    late, successor = table.sink(), table.sink()
    records = table.records(*(b'{"n": %d}' % n for n in range(10)))
    assert await late.open(frozenset([P0])) == {}
    assert await successor.open(frozenset([P0])) == {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(successor.write, records[:6])
        nursery.start_soon(late.write, records[:8])
    await late.write(records[5:])
    assert table.rows() == [(n,) for n in range(10)]
    assert await successor.open(frozenset([P0, P1])) == {P0: 10}
    await late.aclose()
    await successor.aclose()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
async def test_postgres_is_restarted_under_a_sink(table: Table, number: signal.Signals) -> None:
    sink = table.sink()
    await sink.open(frozenset([P0]))
    await sink.write(table.records(b'{"n": 0}'))
    await trio.to_thread.run_sync(table.postgres.restart, number)
    with pytest.raises(Unavailable):
        await sink.write(table.records(b'{"n": 1}'))
    assert await sink.open(frozenset([P0])) == {P0: 1}
    table.next = 1
    await sink.write(table.records(b'{"n": 1}'))
    assert table.rows() == [(0,), (1,)]
    await sink.aclose()


async def test_a_server_that_stands_still_is_waited_for_so_long_and_no_longer(table: Table) -> None:
    """Nor does it hold up who is cancelled."""
    sink = table.sink(answer_s=1.0)
    await sink.open(frozenset([P0]))
    records = table.records(b'{"n": 0}')
    table.postgres.pause()
    try:
        with trio.fail_after(30):
            with pytest.raises(Unavailable, match="not answered within 1 s"):
                await sink.write(records)
            with trio.move_on_after(0.1) as moved_on:
                await sink.write(records)
            assert moved_on.cancelled_caught
    finally:
        table.postgres.resume()

    async def opened() -> Any:
        while True:
            try:
                return await sink.open(frozenset([P0]))
            except Unavailable:
                await trio.sleep(0.1)

    with trio.fail_after(30):
        start = (await opened()).get(P0, 0)
    await sink.write(records[start:])
    assert table.rows() == [(0,)]
    await sink.aclose()


async def test_a_lock_of_somebody_is_no_reason_to_stay(table: Table) -> None:
    """Who is cancelled goes at once, and leaves nothing written."""
    import psycopg

    table.sql("create table things (n integer)")
    sink = table.sink()
    await sink.open(frozenset([P0]))
    with psycopg.connect(table.dsn) as other:
        other.execute("lock table things")
        with trio.move_on_after(0.3) as moved_on:
            await sink.write(table.records(b'{"n": 0}'))
        assert moved_on.cancelled_caught
        await sink.aclose()
    assert table.rows() == []


@pytest.mark.parametrize("name", ["raftlog_offsets", "public.raftlog_offsets", "x" * 64, "a..b"])
def test_a_table_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        PostgresSinkConfig(dsn="", table=name)


async def test_a_dsn_is_never_shown() -> None:
    sink = PostgresSink(PostgresSinkConfig(dsn="password=hush what"), "w")
    with pytest.raises(ConnectError) as failed:
        await sink.open(frozenset([P0]))
    assert "hush" not in str(failed.value)
    await sink.aclose()


class TestPostgresSource(OnPostgres, SourceContract):
    def make(self, folder: Path) -> Source:
        config = PostgresSourceConfig(
            dsn=self.dsn(folder), table="things", by=("id",), topic="t", lag_s=0, poll_s=0.05, batch=3
        )
        return PostgresSource(config, "s")

    def feed(self, folder: Path, values: Sequence[str]) -> None:
        dsn = self.dsn(folder)
        self.postgres.sql(dsn, "create table if not exists things (id bigserial primary key, word text)")
        self.postgres.sql(dsn, "insert into things (word) select unnest(%s::text[])", list(values))

    def value(self, made: SourceRecord) -> str:
        return str(json.loads(made.value or b"")["word"])


class TestPostgresChanges(TestPostgresSource):
    """Each word is a transaction; the slot is there before the first."""

    def make(self, folder: Path) -> Source:
        return PostgresChanges(PostgresChangesConfig(dsn=self.dsn(folder), slot=self.slot(folder)), "s")

    def slot(self, folder: Path) -> str:
        return self.dsn(folder).split("dbname=")[1].split()[0]

    def feed(self, folder: Path, values: Sequence[str]) -> None:
        dsn = self.dsn(folder)
        if not self.postgres.sql(dsn, "select 1 from pg_publication"):
            self.postgres.sql(dsn, "create table things (id bigserial primary key, word text)")
            self.postgres.sql(dsn, f"create publication {self.slot(folder)} for table things")
            self.postgres.sql(
                dsn, f"select pg_create_logical_replication_slot('{self.slot(folder)}', 'pgoutput')"
            )
        for value in values:
            self.postgres.sql(dsn, "insert into things (word) values (%s)", value)


async def wait(done: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not done():  # noqa: ASYNC110 - what is waited for is in Postgres
            await trio.sleep(0.05)


class Reading:
    """A source as a worker reads it: what came, and where it is."""

    def __init__(self, source: Source, stored: Position | None = None) -> None:
        self.source, self.stored = source, stored
        self.records: list[SourceRecord] = []
        self.batches: list[int] = []
        self.bytes: list[int] = []
        self.positions: list[Position] = []

    async def run(self) -> None:
        (unit,) = await self.source.units({})
        async with aclosing(self.source.read(unit, self.stored)) as batches:
            async for batch in batches:
                self.records += batch.records
                self.batches.append(len(batch.records))
                self.bytes.append(sum(len(one.value or b"") for one in batch.records))
                self.stored = batch.position
                self.positions.append(batch.position)
                await self.source.committed(unit, batch.position)

    async def until(self, count: int) -> None:
        """So many records."""
        await wait(lambda: len(self.records) >= count)

    def ids(self) -> list[int]:
        return [json.loads(one.value or b"")["id"] for one in self.records]


@asynccontextmanager
async def reading(source: Source, stored: Position | None = None) -> AsyncIterator[Reading]:
    found = Reading(source, stored)
    async with background() as nursery:
        nursery.start_soon(found.run)
        yield found
    await source.aclose()


def by_column(table: Table, /, **more: Any) -> PostgresSource:
    given = {"table": "things", "by": ("id",), "topic": "t", "lag_s": 0.1, "poll_s": 0.05, **more}
    return PostgresSource(PostgresSourceConfig(dsn=table.dsn, **given), "s")


async def test_a_row_that_is_committed_late_is_read_before_those_behind_it(table: Table) -> None:
    """Its id was taken first, and its transaction goes on while others come and go."""
    import psycopg

    table.sql("create table things (id serial primary key)")
    table.sql("insert into things default values")
    async with reading(by_column(table)) as found:
        await found.until(1)
        with psycopg.connect(table.dsn) as late:
            late.execute("insert into things default values")
            table.sql("insert into things default values")
            await trio.sleep(1)
            assert found.ids() == [1]
            late.commit()
        await found.until(3)
        assert found.ids() == [1, 2, 3]
        with psycopg.connect(table.dsn) as late:
            late.execute("insert into things default values")
            late.rollback()
        table.sql("insert into things default values")
        await found.until(4)
        assert found.ids() == [1, 2, 3, 5]


async def test_rows_are_read_by_a_time_and_an_id(table: Table) -> None:
    """Of one time, too; one that is updated comes again; a batch has no more than it may."""
    table.sql("create table things (id integer primary key, at timestamptz, tags text[], j jsonb)")
    table.sql(
        "insert into things select n, '2026-11-30 12:00:00.123456+02', '{a,b}', '{\"x\": 1.50}' "
        "from generate_series(1, 10) n"
    )
    table.sql("insert into things values (11, null)")
    more = {"by": ("at", "id"), "key": ("id", "tags"), "batch": 4}
    async with reading(by_column(table, **more)) as found:
        await found.until(10)
        assert found.ids() == list(range(1, 11))
        assert found.batches == [4, 4, 2]
        table.sql("update things set at = at + interval '1 second' where id in (3, 2)")
        await found.until(12)
        assert found.ids()[10:] == [2, 3]
        stored = found.stored
    assert stored == {"at": "2026-11-30 10:00:01.123456+00", "id": "3"}
    value = json.loads(found.records[0].value or b"")
    assert value == {"id": 1, "at": "2026-11-30T10:00:00.123456+00:00", "tags": ["a", "b"], "j": {"x": 1.5}}
    assert found.records[0].key == b'{"id" : 1, "tags" : ["a","b"]}'
    table.sql("update things set at = '2027-01-01' where id = 11")
    async with reading(by_column(table, **more), stored) as found:
        await found.until(1)
        assert found.ids() == [11]


async def test_rows_without_a_value_in_by_are_not_read(table: Table) -> None:
    """Where one of several columns has none, too: each position is one that another start goes on from."""
    table.sql("create table things (at integer, id integer, unique (at, id))")
    table.sql("insert into things values (1, 1), (2, null), (null, 2), (3, 3), (4, null), (5, 5)")
    more = {"by": ("at", "id"), "lag_s": 0}
    async with reading(by_column(table, batch=1, **more)) as found:
        await found.until(3)
    assert found.ids() == [1, 3, 5] and found.positions == [
        {"at": "1", "id": "1"},
        {"at": "3", "id": "3"},
        {"at": "5", "id": "5"},
    ]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"by": ("at",)}, "may be the same in two rows"),
        ({"by": ("part",)}, "may be the same in two rows"),
        ({"by": ("nothing",)}, "no column 'nothing'"),
        ({"key": ("nothing",)}, "no column 'nothing'"),
        ({"table": "nothing"}, "no table nothing"),
    ],
)
async def test_columns_that_would_leave_rows_out_are_refused(
    table: Table, more: dict[str, Any], told: str
) -> None:
    table.sql("create table things (id integer primary key, at timestamptz, part integer)")
    table.sql("create unique index on things (part) where part > 0")
    source = by_column(table, **more)
    with pytest.raises(ConnectError, match=told):
        await Reading(source).run()
    await source.aclose()
    with pytest.raises(PositionLost, match="rows are read by"):
        await Reading(by_column(table), {"at": "2026-11-30"}).run()


def changes(table: Table, /, **more: Any) -> PostgresChanges:
    slot = table.dsn.split("dbname=")[1].split()[0]
    given = {"slot": slot, "tables": ("things",), "topic": "{table}", **more}
    return PostgresChanges(PostgresChangesConfig(dsn=table.dsn, **given), "s")


def slot_of(table: Table) -> tuple[int, int]:
    """Up to where it is acknowledged, and where Postgres's log is."""
    ((confirmed, end),) = table.sql(
        "select confirmed_flush_lsn, pg_current_wal_flush_lsn() from pg_replication_slots "
        "where database = current_database()"
    )
    return lsn_of(confirmed), lsn_of(end)


async def begun(table: Table) -> dict[str, Any]:
    """A slot that is read from, with one row in the topic; its position."""
    table.sql("create table things (id serial primary key, word text)")
    async with reading(changes(table)) as found:
        slots = "select 1 from pg_replication_slots where database = current_database()"
        await wait(lambda: bool(table.sql(slots)))
        table.sql("insert into things (word) values ('first')")
        await found.until(1)
    assert found.stored is not None
    return dict(found.stored)


async def test_changes_come_in_the_order_of_commits(table: Table) -> None:
    import psycopg

    stored = await begun(table)
    async with reading(changes(table), stored) as found:
        with psycopg.connect(table.dsn) as late:
            late.execute("insert into things (word) values ('late')")
            table.sql("insert into things (word) values ('soon')")
            await found.until(1)
            late.execute("update things set word = 'later' where id = 2")
            late.commit()
        table.sql("update things set id = 20 where id = 3")
        table.sql("delete from things where id = 2")
        table.sql("create table others (id serial primary key)")
        table.sql("insert into others default values")
        await found.until(6)
    assert [(one.key, json.loads(one.value)["word"] if one.value else None) for one in found.records] == [
        (b"3", "soon"),
        (b"2", "late"),
        (b"2", "later"),
        (b"3", None),
        (b"20", "soon"),
        (b"2", None),
    ]
    assert {one.topic for one in found.records} == {"things"}


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:pa/ssw0rd@127.0.0.1:1/d",
        "postgresql://me:12/ssw0rd@127.0.0.1:1/d",
        "postgresql://me:pa@ssw0rd@127.0.0.1:1/d",
        "postgresql://me:pa%zzssw0rd@127.0.0.1:1/d",
        "host=127.0.0.1 port=1 password=pa ssw0rd",
        "host=127.0.0.1 port=passw0rd",
        "postgresql://me:secret:ssw0rd@127.0.0.1:ssw0rd/d",
    ],
)
async def test_an_address_that_is_wrong_shows_nothing_of_its_password(dsn: str) -> None:
    """Also where a '/' in it has it taken for something else."""
    sink = PostgresSink(PostgresSinkConfig(dsn=dsn), "w")
    with pytest.raises(ConnectError, match="dsn is no address") as failed:
        await sink.open(frozenset([P0]))
    await sink.aclose()
    told = "".join(traceback.format_exception(failed.value))
    assert "ssw0rd" not in told and "'pa" not in told and '"pa' not in told and '"me"' not in told


@pytest.mark.parametrize("kind", ["source", "cdc"])
async def test_a_batch_has_not_many_more_bytes_than_it_may(table: Table, kind: str) -> None:
    """Rows may be large, and a batch is in memory as a whole; one row that is too large is there alone."""
    stored = await begun(table)
    table.sql("alter table things alter word set storage external")
    sizes = [200_000] * 20 + [3_000_000] + [10] * 400
    table.sql(f"insert into things (word) select repeat('w', n) from unnest(array{sizes}) n")
    if kind == "cdc":
        source: Source = changes(table)
    else:
        given = {"table": "things", "by": ("id",), "topic": "t", "lag_s": 0, "poll_s": 0.05}
        source, stored = PostgresSource(PostgresSourceConfig(dsn=table.dsn, **given), "w"), {"id": "1"}
    async with reading(source, stored) as found:
        await found.until(len(sizes))
    assert [len(json.loads(one.value)["word"]) for one in found.records] == sizes
    assert max(found.bytes) <= 3_000_000 + BATCH_BYTES + 300_000
    assert len(found.batches) < 20


async def test_a_long_transaction_is_cut_and_goes_on_in_its_middle(table: Table) -> None:
    """After a crash, too; and the slot does not move before its end."""
    stored = await begun(table)
    table.sql("insert into things (word) select 'w' from generate_series(1, 2000)")
    ids: list[int] = []
    async with reading(changes(table), stored) as found:
        await found.until(2000)
        ids, cuts = found.ids(), found.batches
    assert ids == list(range(2, 2002))
    assert max(cuts) <= FETCH and len(cuts) >= 4
    source = changes(table)
    (unit,) = await source.units({})
    async with aclosing(source.read(unit, stored)) as batches:
        first = await anext(batches)
        second = await anext(batches)
    await source.aclose()
    assert "within" in second.position
    async with reading(changes(table), second.position) as found:
        await found.until(2000 - len(first.records) - len(second.records))
        assert found.ids() == ids[len(first.records) + len(second.records) :]


async def test_postgres_keeps_what_is_not_in_the_log_yet(table: Table) -> None:
    """What was read and never written is read again; what was written is acknowledged."""
    stored = await begun(table)
    table.sql("insert into things (word) values ('second')")
    before = slot_of(table)[0]
    source = changes(table)
    (unit,) = await source.units({})
    async with aclosing(source.read(unit, stored)) as batches:
        batch = await anext(batches)
    await source.aclose()
    assert len(batch.records) == 1
    assert slot_of(table)[0] <= lsn_of(stored["lsn"]) and before <= slot_of(table)[0]
    async with reading(changes(table), stored) as found:
        await found.until(1)
        await wait(lambda: slot_of(table)[0] >= lsn_of(batch.position["lsn"]))


async def test_where_nothing_changes_the_slot_moves_on(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Postgres would keep its log for a table that nobody writes, until its disk is full."""
    monkeypatch.setattr(postgres_cdc, "IDLE_SECONDS", 0.1)
    stored = await begun(table)
    table.sql("create table others as select n from generate_series(1, 1000) n")
    _, end = slot_of(table)
    async with reading(changes(table), stored) as found:
        await wait(lambda: slot_of(table)[0] >= end)
        assert found.records == []
        stored = found.stored
    table.sql("insert into things (word) values ('second')")
    async with reading(changes(table), stored) as found:
        await found.until(1)


async def test_scenario_57_a_slot_that_is_gone_or_moved_is_told(table: Table) -> None:
    """57: with both positions; never a gap that nobody sees."""
    stored = await begun(table)
    slot = table.dsn.split("dbname=")[1].split()[0]
    table.sql("insert into things (word) values ('unread')")

    async def refused(told: str, position: dict[str, Any]) -> None:
        source = changes(table)
        with pytest.raises(PositionLost, match=told):
            await Reading(source, position).run()
        await source.aclose()

    with_lsn = f"{slot} is at [0-9A-F/]+, and the position is {stored['lsn']}"
    table.sql(f"select pg_replication_slot_advance('{slot}', pg_current_wal_flush_lsn())")
    await refused(with_lsn, stored)
    table.sql(f"select pg_drop_replication_slot('{slot}')")
    await refused(f"{slot} is gone, and what changed since {stored['lsn']}", stored)
    table.sql(f"select pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    await refused(with_lsn, stored)
    await refused("it is not the server that was read", {"lsn": "FFFF/0"})


async def test_scenario_57_a_slot_is_made_anew_while_it_is_read(table: Table) -> None:
    stored = await begun(table)
    slot = table.dsn.split("dbname=")[1].split()[0]
    source = changes(table)
    with pytest.raises(PositionLost, match="cannot be read any more"):
        async with reading(source, stored) as found:
            table.sql("insert into things (word) values ('second')")
            await found.until(1)
            while True:
                try:
                    table.sql(f"select pg_drop_replication_slot('{slot}')")
                    break
                except Exception as error:  # it is looked at just now
                    assert "is active" in str(error), error
            table.sql("insert into things (word) values ('unread')")
            table.sql(f"select pg_create_logical_replication_slot('{slot}', 'pgoutput')")
            table.sql("insert into things (word) values ('read?')")
            await trio.sleep(60)
    await source.aclose()
    assert len(found.records) == 1


async def test_scenario_57_what_postgres_has_removed_is_told(table: Table) -> None:
    """By its max_slot_wal_keep_size: 64 MB here, in segments of 16."""
    stored = await begun(table)
    for _ in range(7):
        table.sql("select pg_logical_emit_message(false, 'x', repeat('x', 16000000)), pg_switch_wal()")
    table.sql("checkpoint")
    source = changes(table)
    with pytest.raises(PositionLost, match="max_slot_wal_keep_size"):
        await Reading(source, stored).run()
    await source.aclose()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"tables": ()}, "no publication"),
        ({"tables": ("nothing",)}, "no table"),
        ({"tables": ("keyless",)}, "would take no update"),
    ],
)
async def test_what_cannot_be_published_is_told(table: Table, given: dict[str, Any], told: str) -> None:
    table.sql("create table keyless (id integer)")
    source = changes(table, **given)
    with pytest.raises(ConnectError, match=told):
        await Reading(source).run()
    await source.aclose()
    assert table.sql("select 1 from pg_publication") == []
    table.sql("insert into keyless values (1)")
    table.sql("update keyless set id = 2")


async def test_where_old_rows_have_all_columns_the_primary_key_is_the_key(table: Table) -> None:
    stored = await begun(table)
    table.sql("alter table things replica identity full")
    table.sql("update things set word = 'changed' where id = 1")
    table.sql("delete from things")
    async with reading(changes(table), stored) as found:
        await found.until(2)
    assert [(one.key, one.value is None) for one in found.records] == [(b"1", False), (b"1", True)]


@pytest.mark.parametrize("identity", ["full", "default"])
async def test_a_long_value_of_a_key_that_an_update_leaves_alone_stays_in_it(
    table: Table, identity: str
) -> None:
    """Of a table without a primary key all columns are the key, and of another a long one may be."""
    stored = await begun(table)
    table.sql("delete from things")
    table.sql(
        "alter table things drop constraint things_pkey, alter word set storage external, add n integer"
    )
    if identity == "full":
        table.sql("alter table things replica identity full")
    else:
        table.sql("alter table things add primary key (word)")
    table.sql("insert into things (word, n) values (repeat('w', 2400), 1)")
    table.sql("update things set n = 2")
    table.sql("delete from things")
    async with reading(changes(table), stored) as found:
        await wait(lambda: any(dict(one.headers)["postgres.op"] == b"d" for one in found.records[1:]))
    told = found.records[1:]  # the first deletes what was there
    rows = [json.loads(one.value) for one in told if one.value is not None]
    assert [(len(one["word"]), one["n"]) for one in rows] == [(2400, 1), (2400, 2)]
    there = {one.key: one.value for one in told}
    assert len(there) == (2 if identity == "full" else 1) and set(there.values()) == {None}
