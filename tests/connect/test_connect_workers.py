"""Workers on embedded brokers: what files, units and sinks alone cannot show. Numbers are the scenarios'."""

from __future__ import annotations

import json
import signal
import sqlite3
from typing import Any

import pytest
import trio

import raftlog
from raftlog import connect
from raftlog.connect import positions
from raftlog.connect.deadletters import PREFIX
from raftlog.connect.sqlite_sink import SqliteSink
from tests.connect.pipeline_process import PipelineProcess
from tests.connect.stage import Stage, until


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
async def test_lines_go_through_the_log_into_a_table_over_restarts(stage: Stage, guarantee: str):
    topic = stage.topic("t")
    for _ in range(3):
        stage.lines(50)
        async with stage.running(src=stage.source(topic, guarantee=guarantee), out=stage.sink(topic)):
            await stage.until_rows(list(range(stage.fed)))
    assert await stage.numbers(topic) == list(range(150))
    assert stage.rows() == list(range(150))


async def test_scenario_65_a_new_config_goes_on_where_the_old_one_was(stage: Stage):
    """Also when it writes into another topic."""
    first, second = stage.topic("a"), stage.topic("b")
    stage.lines(10)
    async with stage.running(src=stage.source(first)):
        await stage.until_numbers(first, 10)
    stage.lines(10)
    async with stage.running(src=stage.source(second)):

        async def there() -> bool:
            return len(await stage.numbers(second)) >= 10

        await until(there, lambda: second)
    assert await stage.numbers(second) == list(range(10, 20))


async def test_scenario_58_a_source_is_ended_between_records_and_position(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    """58, with a transaction: the records are never seen, and come again."""
    topic = stage.topic("t")
    stage.lines(10)

    def fail(self: positions.Positions, unit: Any, position: Any) -> Any:
        raise connect.ConnectError("ended here")

    with monkeypatch.context() as patched:
        patched.setattr(positions.Positions, "record", fail)
        with pytest.raises(BaseExceptionGroup) as failed:
            async with stage.running(src=stage.source(topic)):
                await trio.sleep_forever()
        assert failed.group_contains(connect.ConnectorFailed, match="ended here")
    assert await stage.numbers(topic) == []
    async with stage.running(src=stage.source(topic)):
        await stage.until_numbers(topic, 10)


async def test_scenario_68_positions_are_kept_as_kafka_connect_keeps_them(stage: Stage):
    """68: ours goes on at a position that Kafka Connect wrote, under the key that it has, and keeps that."""
    topic = stage.topic("t")
    stage.lines(10)
    name = f"{stage.name}-src"
    # As JsonConverter writes a map: in whatever order, here with a space that ours would not have.
    key = json.dumps([name, {"filename": str(stage.input)}]).encode()
    at = len("".join(f'{{"n": {n}}}\n' for n in range(4)))
    await stage.client.admin.create_topic(stage.positions, configs={"cleanup.policy": "compact"})
    await stage.feed(stage.positions, [json.dumps({"position": at}).encode()], key=key)
    async with stage.running(src=stage.source(topic)):

        async def there() -> bool:
            return len(await stage.numbers(topic)) >= 6

        await until(there, lambda: topic)
    assert await stage.numbers(topic) == list(range(4, 10))
    last = (await stage.read(stage.positions))[-1]
    assert last.key == key
    assert json.loads(last.value)["position"] == stage.input.stat().st_size


@pytest.mark.parametrize("on_lost", ["fail", "start"])
async def test_scenario_56_a_position_that_cannot_be_read(stage: Stage, on_lost: str):
    topic = stage.topic("t")
    stage.lines(5)
    key = json.dumps([f"{stage.name}-src", {"filename": str(stage.input)}]).encode()
    await stage.client.admin.create_topic(stage.positions, configs={"cleanup.policy": "compact"})
    await stage.feed(stage.positions, [b"{{"], key=key)
    if on_lost == "fail":
        with pytest.raises(BaseExceptionGroup) as failed:
            async with stage.running(src=stage.source(topic)):
                await trio.sleep_forever()
        assert failed.group_contains(connect.ConnectorFailed, match="on_position_lost")
    else:
        async with stage.running(src=stage.source(topic, on_position_lost="start")):
            await stage.until_numbers(topic, 5)


async def test_positions_are_read_on_from_where_the_last_look_ended(stage: Stage):
    """What was written since, deletions as well; all of it when the topic was made anew."""
    configs = {"cleanup.policy": "compact"}
    await stage.client.admin.create_topic(stage.positions, configs=configs)
    known = positions.Positions(stage.client, stage.positions, "a")
    seen: list[bytes | None] = []
    take = known._take

    def noted(key: bytes | None, value: bytes | None) -> None:
        seen.append(value)
        take(key, value)

    known._take = noted  # type: ignore[method-assign]

    async def look(*values: bytes | None) -> list[dict[str, Any]]:
        async with stage.client.producer() as producer:
            for number, value in enumerate(values):
                await producer.send_soon(stage.positions, value, key=b'["a",{"n":%d}]' % number)
        seen.clear()
        await known.load_more()
        return [dict(each) for each in known.stored.values()]

    assert await look(b'{"at":1}', b'{"at":2}') == [{"at": 1}, {"at": 2}]
    assert await look() == [{"at": 1}, {"at": 2}] and seen == []
    assert await look(None, b'{"at":3}') == [{"at": 3}] and seen == [None, b'{"at":3}']
    await stage.client.admin.delete_topic(stage.positions)
    await stage.client.admin.create_topic(stage.positions, configs=configs)
    assert await look(b'{"at":9}') == [{"at": 9}] and seen == [b'{"at":9}']


async def test_a_topic_of_positions_that_forgets_is_refused(stage: Stage):
    await stage.client.admin.create_topic(stage.positions)
    stage.lines(1)
    with pytest.raises(BaseExceptionGroup) as failed:
        async with stage.running(src=stage.source(stage.topic("t"))):
            await trio.sleep_forever()
    assert failed.group_contains(connect.ConnectError, match="cleanup.policy=compact")


async def test_of_two_workers_with_one_source_the_first_is_told(stage: Stage):
    topic = stage.topic("t")
    stage.lines(5)
    with pytest.raises(BaseExceptionGroup) as failed:
        async with stage.running(src=stage.source(topic)):
            await stage.until_numbers(topic, 5)
            async with stage.running(src=stage.source(topic)):
                for _ in range(200):
                    stage.lines(1)
                    await trio.sleep(0.1)
    assert failed.group_contains(connect.ConnectorFailed, match="another worker runs this connector")
    numbers = await stage.numbers(topic)
    assert numbers == list(range(len(numbers)))


async def test_scenario_62_one_bad_row_goes_to_the_dead_letters(stage: Stage):
    """62: 999 are written, and one is told of as Kafka Connect would, with its original bytes."""
    topic, dead = stage.topic("t"), stage.topic("dead")
    values = [b'{"n": %d}' % n for n in range(1000)]
    values[500] = b"no JSON"
    await stage.feed(topic, values, headers=[("mine", b"1")])
    async with stage.running(out=stage.sink(topic, errors={"dlq": dead})):
        await stage.until_rows([n for n in range(1000) if n != 500])

        async def committed() -> bool:
            return list((await stage.committed("out")).values()) == [1000]

        await until(committed, lambda: stage.name)
    (letter,) = await stage.read(dead)
    assert letter.value == b"no JSON"
    headers = dict(letter.headers)
    assert headers["mine"] == b"1"
    assert headers[f"{PREFIX}topic"] == topic.encode()
    assert headers[f"{PREFIX}offset"] == b"500"
    assert b"no JSON" in headers[f"{PREFIX}exception.message"]


async def test_a_bad_row_ends_the_connector_with_all_before_it_written(stage: Stage):
    topic = stage.topic("t")
    await stage.feed(topic, [b'{"n": 0}', b'{"n": 1}', b"[]", b'{"n": 3}'])
    for _ in range(2):
        with pytest.raises(BaseExceptionGroup) as failed:
            async with stage.running(out=stage.sink(topic)):
                await trio.sleep_forever()
        assert failed.group_contains(connect.ConnectorFailed, match=f"{topic}-0 at offset 2")
    assert stage.rows() == [0, 1]
    assert list((await stage.committed("out")).values()) == [2]


async def test_scenario_63_a_table_that_does_not_fit_any_more_ends_the_connector(stage: Stage):
    """63: with the column; after the repair it goes on, and nothing is lost."""
    topic = stage.topic("t")
    await stage.feed(topic, [b'{"n": 0, "m": 0}'])
    async with stage.running(out=stage.sink(topic, new_fields="refuse")):
        await stage.until_rows([0])
    with sqlite3.connect(stage.database) as sql:
        sql.execute("alter table t drop column m")
    sql.close()
    await stage.feed(topic, [b'{"n": 1, "m": 1}'])
    with pytest.raises(BaseExceptionGroup) as failed:
        async with stage.running(out=stage.sink(topic, new_fields="refuse")):
            await trio.sleep_forever()
    assert failed.group_contains(connect.ConnectorFailed, match="offset 1: table t has no column 'm'")
    with sqlite3.connect(stage.database) as sql:
        sql.execute("alter table t add column m")
    sql.close()
    async with stage.running(out=stage.sink(topic, new_fields="refuse")):
        await stage.until_rows([0, 1])


async def test_scenario_59_a_sink_that_is_down_waits_and_then_has_all_in_order(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    """59: nothing is held in memory, the member stays in its group, and then all of it comes in order."""
    topic = stage.topic("t", partitions=2)
    is_down, tries, held = True, 0, []
    write = SqliteSink.write

    async def failing(self: SqliteSink, records: Any) -> None:
        nonlocal tries
        if is_down:
            tries += 1
            held.append(len(records))
            raise connect.Unavailable("it is down")
        await write(self, records)

    monkeypatch.setattr(SqliteSink, "write", failing)
    for partition in (0, 1):
        await stage.feed(topic, [b'{"n": %d}' % n for n in range(3000)], partition=partition)
    sink = stage.sink(topic, batch_records=100)
    async with stage.running(out=sink):

        async def tried() -> bool:
            return tries >= 4

        await until(tried, lambda: tries)
        assert max(held) <= 100
        group = await stage.client.admin.describe_group(f"connect-{stage.name}-out")
        assert (group.state, len(group.members)) == ("Stable", 1)
        is_down = False
        await stage.until_rows(sorted([*range(3000), *range(3000)]))
    for partition in (0, 1):
        sql = sqlite3.connect(stage.database)
        found = [
            r[0] for r in sql.execute("select n from t where _partition = ? order by rowid", [partition])
        ]
        sql.close()
        assert found == list(range(3000))


def keep_even(record: raftlog.Record) -> raftlog.Record | None:
    return record if json.loads(record.value)["n"] % 2 == 0 else None


async def test_records_that_a_transform_leaves_out_are_committed_past(stage: Stage):
    topic = stage.topic("t")
    await stage.feed(topic, [b'{"n": %d}' % n for n in range(10)])
    transform = [{"type": f"{__name__}:keep_even"}]
    async with stage.running(out=stage.sink(topic, transform=transform)):
        await stage.until_rows([0, 2, 4, 6, 8])

        async def committed() -> bool:
            return list((await stage.committed("out")).values()) == [10]

        await until(committed, lambda: stage.name)


async def test_what_is_not_available_for_too_long_ends_the_connector(stage: Stage):
    topic = stage.topic("t")
    await stage.feed(topic, [b'{"n": 0}'])
    stage.database.mkdir()  # no file can be there
    sink = stage.sink(topic, path=str(stage.folder / "nowhere" / "w.db"), errors={"retry_s": 0.5})
    with pytest.raises(BaseExceptionGroup) as failed:
        async with stage.running(out=sink):
            await trio.sleep_forever()
    assert failed.group_contains(connect.ConnectorFailed, match="unable to open database file")


async def test_scenario_64_two_workers_share_partitions_and_hand_them_over(stage: Stage):
    """64: each row once, whoever had its partition when."""
    topic = stage.topic("t", partitions=4)

    async def feed(first: int) -> None:
        for partition in range(4):
            await stage.feed(
                topic, [b'{"n": %d}' % n for n in range(first, first + 200)], partition=partition
            )

    await feed(0)
    async with stage.running(out=stage.sink(topic, batch_records=20)):
        await feed(200)
        async with stage.running(out=stage.sink(topic, batch_records=20)):
            await feed(400)

            async def shared() -> bool:
                found = await stage.client.admin.describe_group(f"connect-{stage.name}-out")
                return found.state == "Stable" and len(found.members) == 2

            await until(shared, lambda: stage.name)
            await feed(600)
            await stage.until_rows(sorted([*range(800)] * 4))
        await feed(800)
        await stage.until_rows(sorted([*range(1000)] * 4))


@pytest.mark.parametrize("on_lost", ["fail", "skip"])
async def test_records_that_are_gone_unread_are_told_or_skipped(stage: Stage, on_lost: str):
    topic = stage.topic("t")
    key = raftlog.TopicPartition(topic, 0)
    await stage.feed(topic, [b'{"n": %d}' % n for n in range(10)])
    async with stage.running(out=stage.sink(topic)):
        await stage.until_rows(list(range(10)))
    await stage.feed(topic, [b'{"n": %d}' % n for n in range(10, 20)])
    await stage.client.admin.delete_records({key: 15})
    if on_lost == "skip":
        async with stage.running(out=stage.sink(topic, on_lost="skip")):
            await stage.until_rows([*range(10), *range(15, 20)])
        return
    with pytest.raises(BaseExceptionGroup) as failed:
        async with stage.running(out=stage.sink(topic)):
            await trio.sleep_forever()
    assert failed.group_contains(connect.ConnectorFailed, match="begins at 15, and offset 10 .*5 are gone")


@pytest.mark.parametrize("on_lost", ["fail", "skip"])
async def test_a_target_that_is_ahead_of_the_log_is_told(stage: Stage, on_lost: str):
    """The topic was made anew: what it has now is not what the target has seen. A sink that went on would
    leave out all that is before what the target has."""
    topic = stage.topic("t")
    await stage.feed(topic, [b'{"n": %d}' % n for n in range(10)])
    async with stage.running(out=stage.sink(topic)):
        await stage.until_rows(list(range(10)))
    await stage.client.admin.delete_topic(topic)
    await stage.client.admin.create_topic(topic)
    await stage.feed(topic, [b'{"n": 0}'])
    with pytest.raises(BaseExceptionGroup) as failed:
        async with stage.running(out=stage.sink(topic, on_lost=on_lost)):
            await trio.sleep_forever()
    assert failed.group_contains(
        connect.ConnectorFailed, match="ends at 1, .*offset 10: .*not the log.*new name"
    )
    assert stage.rows() == list(range(10))


@pytest.mark.slow
@pytest.mark.long
async def test_scenario_61_a_worker_is_killed_over_and_over(stage: Stage):
    """58, 60, 61: SIGKILL at any moment. Each line is in the topic once, each row in the table once."""
    topic = stage.topic("t")
    pipeline = f"""
[connector.{stage.name}-src]
class = "file-source"
paths = ["{stage.input}"]
topic = "{topic}"
[connector.{stage.name}-out]
class = "sqlite-sink"
topics = ["{topic}"]
path = "{stage.database}"
table = "t"
batch_wait_ms = 20
session_timeout_ms = 6000
"""
    bootstrap = stage.cluster.bootstrap
    with PipelineProcess(stage.folder, pipeline, bootstrap, "--offsets-topic", stage.positions) as process:
        for _ in range(3):
            before = len(stage.rows())
            process.start()

            async def some_came(before: int = before) -> bool:
                assert process.ended is None
                stage.lines(20)
                return len(stage.rows()) > before

            await until(some_came, lambda: stage.rows()[-3:])
            stage.lines(500)
            await trio.sleep(0.1)
            assert await trio.to_thread.run_sync(process.end, signal.SIGKILL) == -signal.SIGKILL
            rows = stage.rows()
            assert rows == list(range(len(rows)))
        process.start()
        await stage.until_rows(list(range(stage.fed)))
        assert await trio.to_thread.run_sync(process.end, signal.SIGINT) == 0
    assert await stage.numbers(topic) == list(range(stage.fed))
    assert stage.rows() == list(range(stage.fed))
