"""Workers between brokers and a real Postgres, both of which go on and off. Numbers are the scenarios'."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from raftlog import connect
from raftlog.connect.deadletters import PREFIX
from tests.connect.pipeline_process import PipelineProcess
from tests.connect.postgres_server import PostgresServer, serving
from tests.connect.stage import Stage, until


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    yield from serving()


class Warehouse:
    """A database, and what of it tests ask."""

    def __init__(self, postgres: PostgresServer) -> None:
        self.postgres, self.dsn = postgres, postgres.database()

    def sink(self, *topics: str, **more: Any) -> dict[str, Any]:
        base = {"class": "postgres-sink", "topics": list(topics), "dsn": self.dsn, "table": "t"}
        return {**base, "batch_wait_ms": 50, **more}

    def sql(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.postgres.sql(self.dsn, text, *values)

    def numbers(self, order: str = "ctid") -> list[int]:
        if not self.sql("select 1 from pg_class where relname = 't'"):
            return []
        return [int(n) for (n,) in self.sql(f"select n from t order by {order}")]

    async def until_numbers(self, wanted: list[int], order: str = "ctid") -> None:
        async def there() -> bool:
            return await trio.to_thread.run_sync(self.numbers, order) == wanted

        await until(there, lambda: (self.numbers()[-5:], wanted[-5:]))


@pytest.fixture
def warehouse(postgres: PostgresServer) -> Warehouse:
    return Warehouse(postgres)


def values(first: int, end: int) -> list[bytes]:
    return [b'{"n": %d}' % n for n in range(first, end)]


async def test_scenario_62_of_a_thousand_rows_one_is_a_dead_letter(stage: Stage, warehouse: Warehouse):
    topic, dead = stage.topic("t"), stage.topic("dead")
    warehouse.sql("create table t (n integer)")
    fed = values(0, 1000)
    fed[500] = b'{"n": "not one"}'
    await stage.feed(topic, fed)
    async with stage.running(out=warehouse.sink(topic, place=False, errors={"dlq": dead})):
        await warehouse.until_numbers([n for n in range(1000) if n != 500])

        async def committed() -> bool:
            return list((await stage.committed("out")).values()) == [1000]

        await until(committed, lambda: stage.name)
    (letter,) = await stage.read(dead)
    assert letter.value == fed[500]
    headers = dict(letter.headers)
    assert headers[f"{PREFIX}offset"] == b"500"
    assert headers[f"{PREFIX}exception.class.name"] == b"psycopg.errors.InvalidTextRepresentation"
    assert b"column n, integer: " in headers[f"{PREFIX}exception.message"]


async def test_scenario_63_a_row_that_does_not_fit_ends_the_worker_until_it_does(
    stage: Stage, warehouse: Warehouse
):
    """63: with column, type and offset."""
    topic = stage.topic("t")
    warehouse.sql("create table t (n integer)")
    await stage.feed(topic, [*values(0, 3), b'{"n": 1e12}', *values(4, 6)])
    for _ in range(2):
        with pytest.raises(BaseExceptionGroup) as failed:
            async with stage.running(out=warehouse.sink(topic, place=False)):
                await trio.sleep_forever()
        assert failed.group_contains(
            connect.ConnectorFailed, match=f"{topic}-0 at offset 3: .*column n, integer: "
        )
        assert warehouse.numbers() == [0, 1, 2]
    warehouse.sql("alter table t alter column n type numeric")
    async with stage.running(out=warehouse.sink(topic, place=False)):
        await warehouse.until_numbers([0, 1, 2, 10**12, 4, 5])


@pytest.mark.slow
async def test_scenario_59_postgres_is_away_and_comes_back(stage: Stage, warehouse: Warehouse):
    """59: stopped, crashed, standing still. All of it in order, each row once, the member in its group."""
    topic, end = stage.topic("t"), 0
    async with stage.running(out=warehouse.sink(topic, batch_records=50, answer_s=2)):
        for how in (signal.SIGINT, signal.SIGQUIT, None):
            await stage.feed(topic, values(end, end + 500))
            if how is None:
                warehouse.postgres.pause()
            else:
                await trio.to_thread.run_sync(warehouse.postgres.stop, how)
            await stage.feed(topic, values(end + 500, end + 1000))
            end += 1000
            await trio.sleep(1)
            group = await stage.client.admin.describe_group(f"connect-{stage.name}-out")
            assert (group.state, len(group.members)) == ("Stable", 1)
            if how is None:
                warehouse.postgres.resume()
            else:
                await trio.to_thread.run_sync(warehouse.postgres.start)
            await warehouse.until_numbers(list(range(end)))


@pytest.mark.slow
@pytest.mark.long
async def test_scenario_61_a_worker_is_killed_over_and_over(stage: Stage, warehouse: Warehouse):
    """60, 61: SIGKILL at any moment. Each row is in the table once, in order."""
    topic, fed = stage.topic("t"), 0
    pipeline = f"""
[connector.{stage.name}-out]
class = "postgres-sink"
topics = ["{topic}"]
dsn = "{warehouse.dsn}"
table = "t"
batch_wait_ms = 20
session_timeout_ms = 6000
"""
    with PipelineProcess(stage.folder, pipeline, stage.cluster.bootstrap) as process:
        for _ in range(4):
            before = len(warehouse.numbers())
            process.start()

            async def some_came(before: int = before) -> bool:
                nonlocal fed
                assert process.ended is None
                await stage.feed(topic, values(fed, fed + 50))
                fed += 50
                return len(warehouse.numbers()) > before

            await until(some_came, lambda: warehouse.numbers()[-3:])
            assert await trio.to_thread.run_sync(process.end, signal.SIGKILL) == -signal.SIGKILL
        process.start()
        await warehouse.until_numbers(list(range(fed)))
        assert await trio.to_thread.run_sync(process.end, signal.SIGINT) == 0
    assert warehouse.sql("select next_offset from raftlog_offsets") == [(fed,)]


def cdc(warehouse: Warehouse, topic: str, **more: Any) -> dict[str, Any]:
    """Of a table `source`."""
    slot = warehouse.dsn.split("dbname=")[1].split()[0]
    base = {"class": "postgres-cdc", "dsn": warehouse.dsn, "slot": slot, "tables": ["source"], "topic": topic}
    return {**base, **more}


async def has_slot(warehouse: Warehouse) -> bool:
    return bool(warehouse.sql("select 1 from pg_replication_slots where database = current_database()"))


@pytest.mark.parametrize("on_lost", ["fail", "start"])
async def test_scenario_57_a_slot_is_lost(stage: Stage, warehouse: Warehouse, on_lost: str):
    """57: the worker ends, or begins anew when it is told to, and says so."""
    topic = stage.topic("t")
    warehouse.sql("create table source (n integer primary key)")
    source = cdc(warehouse, topic, on_position_lost=on_lost)
    async with stage.running(src=source):
        await until(lambda: has_slot(warehouse), lambda: "slot")
        warehouse.sql("insert into source values (0)")
        await stage.until_numbers(topic, 1)
    warehouse.sql("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
    warehouse.sql("insert into source values (100)")
    if on_lost == "fail":
        with pytest.raises(BaseExceptionGroup) as failed:
            async with stage.running(src=source):
                await trio.sleep_forever()
        assert failed.group_contains(connect.ConnectorFailed, match="is gone, and what changed since")
        assert not await has_slot(warehouse)
        return
    async with stage.running(src=source):
        await until(lambda: has_slot(warehouse), lambda: "slot")
        warehouse.sql("insert into source values (1)")
        await stage.until_numbers(topic, 2)


def positive(record: connect.SourceRecord) -> connect.SourceRecord:
    if json.loads(record.value or b"")["n"] < 0:
        raise connect.Refused("it is negative")
    return record


@pytest.mark.parametrize("dlq", [False, True])
async def test_a_row_that_a_transform_refuses_is_a_dead_letter_or_ends_the_worker(
    stage: Stage, warehouse: Warehouse, dlq: bool
):
    topic, dead = stage.topic("t"), stage.topic("dead")
    warehouse.sql("create table source (id serial primary key, n integer)")
    warehouse.sql("insert into source (n) values (0), (-1), (1)")
    source = {
        "class": "postgres-source",
        "dsn": warehouse.dsn,
        "table": "source",
        "by": ["id"],
        "topic": topic,
        "lag_s": 0,
        "transform": [{"type": f"{__name__}:positive"}],
    }
    if not dlq:
        with pytest.raises(BaseExceptionGroup) as failed:
            async with stage.running(src=source):
                await trio.sleep_forever()
        assert failed.group_contains(connect.ConnectorFailed, match="it is negative")
        assert await stage.numbers(topic) == []
        return
    async with stage.running(src={**source, "errors": {"dlq": dead}}):
        await stage.until_numbers(topic, 2)
    (letter,) = await stage.read(dead)
    assert json.loads(letter.value or b"") == {"id": 2, "n": -1}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("kind", ["postgres-cdc", "postgres-source"])
async def test_scenario_58_worker_and_postgres_are_killed_over_and_over(
    stage: Stage, warehouse: Warehouse, kind: str
):
    """58, 61: by SIGKILL and by a crash of Postgres. What is in one table is in the other, by way of a topic,
    where each row is once."""
    topic, end = stage.topic("t"), 0
    warehouse.sql("create table source (n integer primary key, word text)")
    slot = warehouse.dsn.split("dbname=")[1].split()[0]
    options = {
        "postgres-cdc": f'slot = "{slot}"\ntables = ["source"]',
        "postgres-source": 'table = "source"\nby = ["n"]\nkey = ["n"]\nlag_s = 0.1\nbatch = 50',
    }[kind]
    pipeline = f"""
[connector.{stage.name}-src]
class = "{kind}"
dsn = "{warehouse.dsn}"
topic = "{topic}"
{options}
[connector.{stage.name}-out]
class = "postgres-sink"
topics = ["{topic}"]
dsn = "{warehouse.dsn}"
table = "t"
upsert_by = ["n"]
batch_wait_ms = 20
session_timeout_ms = 6000
"""
    bootstrap = stage.cluster.bootstrap
    with PipelineProcess(stage.folder, pipeline, bootstrap, "--offsets-topic", stage.positions) as process:
        for turn in range(4):
            before = len(warehouse.numbers())
            process.start()
            if kind == "postgres-cdc":
                await until(lambda: has_slot(warehouse), lambda: "slot")

            async def some_came(before: int = before) -> bool:
                nonlocal end
                assert process.ended is None
                warehouse.sql(
                    "insert into source select n, 'x' from generate_series(%s::integer, %s) n", end, end + 9
                )
                end += 10
                return len(warehouse.numbers()) > before

            await until(some_came, lambda: warehouse.numbers()[-3:])
            if turn % 2:
                await trio.to_thread.run_sync(warehouse.postgres.restart, signal.SIGQUIT)
            assert await trio.to_thread.run_sync(process.end, signal.SIGKILL) == -signal.SIGKILL
        process.start()
        await warehouse.until_numbers(list(range(end)), order="n")
        if kind == "postgres-cdc":
            warehouse.sql("delete from source where n % 2 = 0")
            warehouse.sql("update source set word = 'y'")

            async def same() -> bool:
                found = warehouse.sql("select n, word from t order by n")
                return found == [(n, "y") for n in range(1, end, 2)]

            await until(same, lambda: warehouse.sql("select count(*), min(word) from t"))
        assert await trio.to_thread.run_sync(process.end, signal.SIGINT) == 0
    inserted = [
        json.loads(one.value)["n"]
        for one in await stage.read(topic)
        if dict(one.headers).get("postgres.op", b"c") == b"c"
    ]
    assert inserted == list(range(end))
