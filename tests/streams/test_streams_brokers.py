"""Scenarios whose cause is in the brokers: transactions that do not end, changelogs that are cut off or made
anew. The numbers are those of the scenarios."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio

import raftlog
from raftlog import streams as rs
from raftlog.client.transactional import Transaction
from raftlog.streams import worker
from raftlog.streams.database import Database
from tests.streams.stage import Stage, until


async def test_scenario_1_a_worker_dies_between_its_outputs_and_the_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    """Nobody who reads committed records sees them; state and offsets are those of the commit before."""
    dying = False
    send_offsets = Transaction.send_offsets

    async def hang(self: Transaction, *arguments: Any) -> None:
        if dying:
            await trio.sleep_forever()
        await send_offsets(self, *arguments)

    monkeypatch.setattr(Transaction, "send_offsets", hang)
    app = stage.counting("exactly_once")
    async with stage.seen(app, "a") as a:
        await stage.feed(*["to be or not to be"] * 10)
        await stage.until_counted()
        await stage.until_at_rest(app)
        before = await stage.counted()
        offsets = await stage.client.admin.group_offsets(stage.name)
        dying = True
        await stage.feed(*["to be or not to be"] * 10)
        await until(lambda: is_open(stage, True), lambda: "nothing was written")
        a._nursery.cancel_scope.cancel()
    assert offsets and await stage.counted() == before
    after = await stage.client.admin.group_offsets(stage.name)
    assert {key: at.offset for key, at in after.items()} == {key: at.offset for key, at in offsets.items()}
    dying = False
    async with stage.seen(app, "a"):
        await stage.until_counted()


async def test_scenario_7_the_broker_aborts_a_transaction_that_takes_too_long(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    """The worker that had it ends, and whoever starts in its place, on its disk, counts right."""
    monkeypatch.setattr(worker, "TRANSACTION_TIMEOUT_MS", 3_000)
    slow = [False]
    send_offsets = Transaction.send_offsets

    async def sleepy(self: Transaction, *arguments: Any) -> None:
        if slow[0]:
            slow[0] = False
            await until(lambda: is_open(stage, True), lambda: "nothing was written")
            await until(lambda: is_open(stage, False), lambda: "the broker has not aborted it")
        await send_offsets(self, *arguments)

    monkeypatch.setattr(Transaction, "send_offsets", sleepy)

    app = stage.counting("exactly_once")

    async def supervise() -> None:
        while True:
            try:
                await rs.run(app, stage.client, state=str(stage.folder), name="a")
            except (raftlog.RaftlogError, BaseExceptionGroup):  # a slow machine's sends may be refused, too
                continue

    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise)
        await stage.feed(*["to be or not to be"] * 10)
        await stage.until_counted()
        await stage.until_at_rest(app)  # else it is a commit without records that is slow
        slow[0] = True
        await stage.feed(*["to be or not to be"] * 10)
        await stage.until_counted()
        assert not slow[0]
        await stage.feed(*["to be or not to be"] * 10)
        await stage.until_counted()
        nursery.cancel_scope.cancel()


async def is_open(stage: Stage, wanted: bool) -> bool:
    """Whether a transaction is open that has written words for the counting task."""
    ends = await stage.client.admin.end_offsets(f"{stage.name}-counts-repartition")
    async with stage.client.consumer(isolation_level="read_committed") as consumer:
        return (await consumer.end_offsets(*ends) != ends) == wanted


def changelog_that_can_be_cut(stage: Stage) -> str:
    """Made before the app makes it, so that records can be deleted from its begin."""
    return stage.topic("counts-changelog", cleanup_policy="delete")


async def test_scenario_22_an_empty_changelog_with_a_high_start_is_restored_at_once(stage: Stage):
    changelog = changelog_that_can_be_cut(stage)
    async with stage.seen(stage.counting(), "a"):
        await stage.feed("a b c d e f g h")
        await stage.until_counted()
    ends = await stage.client.admin.end_offsets(changelog)
    assert await stage.client.admin.delete_records(ends) == ends and any(ends.values())
    async with stage.seen(stage.counting(), "b"):
        stage.sent = Counter()
        await stage.feed("a b c d e f g h")
        await stage.until_counted()  # from nothing, for nothing is left


async def test_scenario_23_a_changelog_that_begins_behind_the_rows_on_disk_makes_them_anew(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    changelog = changelog_that_can_be_cut(stage)
    words = "a b c d e f g h"
    async with stage.seen(stage.counting("exactly_once"), "a"):
        await stage.feed(words, "only once")
        await stage.until_counted()
    cut = await stage.client.admin.end_offsets(changelog)
    async with stage.seen(stage.counting("exactly_once"), "b"):
        await stage.feed(words)
        await stage.until_counted()
        behind = await stage.client.admin.end_offsets(changelog)
        await stage.feed(words)
        await stage.until_counted()
    assert all(behind[key] > cut[key] for key in cut)
    await stage.client.admin.delete_records(behind)
    cleared, clear = [], Database.clear

    def noting(self: Database, store: str, position: dict[str, Any]) -> None:
        cleared.append(store)
        clear(self, store, position)

    monkeypatch.setattr(Database, "clear", noting)
    async with stage.seen(stage.counting("exactly_once"), "a") as a:
        await stage.feed(words)
        await stage.until_counted()
        rows = [key for task in a.tasks if task.part.stores for key, _ in task.store("counts").scan()]
    assert cleared == ["counts", "counts"] and sorted(rows) == words.split(), "what was cut off is gone"


async def test_scenario_24_a_changelog_that_was_made_anew_is_told_or_begun_anew(stage: Stage):
    async with stage.seen(stage.counting(), "a"):
        await stage.feed("a b c d e f g h")
        await stage.until_counted()
    changelog = f"{stage.name}-counts-changelog"
    ends = await stage.client.admin.end_offsets(changelog)
    await stage.client.admin.delete_topic(changelog)
    with pytest.raises((rs.StateError, BaseExceptionGroup)) as failed:  # each task says so, or the first
        with trio.fail_after(60):
            await rs.run(stage.counting(), stage.client, state=str(stage.folder / "a"), name="a")
    told = "".join(traceback.format_exception(failed.value))
    assert "was made anew" in told and "the changelog ends at 0" in told
    assert any(f"is at offset {end}," in told for end in ends.values())
    stage.sent = Counter()
    async with stage.worker(stage.counting(), "a", on_changelog_lost="rebuild"):
        await stage.feed("a b c d e f g h")
        await stage.until_counted()


async def test_scenario_43_a_poison_record_is_in_the_dlq_once_as_it_came(stage: Stage):
    """The worker is stopped behind it, and killed: the next record is processed, the bad one not again."""
    dead = stage.topic("dead", partitions=1)

    def app() -> rs.App:
        made = rs.App(stage.name, guarantee="exactly_once", dlq=dead)
        made.stream(f"{stage.name}-in", value=rs.JSON).map(lambda value: 1 / value).to(
            f"{stage.name}-out", value=rs.JSON
        )
        return made

    async def out(topic: str) -> list[Any]:
        found: list[Any] = []
        ends = await stage.client.admin.end_offsets(topic)
        async with stage.client.consumer(
            topic, auto_offset_reset="earliest", isolation_level="read_committed"
        ) as consumer:
            while any(consumer.positions().get(key, 0) < end for key, end in ends.items()):
                found += await consumer.poll(5000, max_wait_ms=100)
        return found

    def have(count: int) -> Callable[[], Any]:
        async def look() -> bool:
            return len(await out(f"{stage.name}-out")) == count

        return look

    async with stage.client.producer() as producer:
        for value in (b"1", b"0", b"4"):
            await producer.send(
                f"{stage.name}-in", value, key=b"k", partition=0, headers=[("trace", b"\x00\xff")]
            )
        async with stage.seen(app(), "a") as a:
            await until(have(2), lambda: "the records beside it")
            a._nursery.cancel_scope.cancel()
        async with stage.seen(app(), "a"):
            await producer.send(f"{stage.name}-in", b"5", key=b"k", partition=0)
            await until(have(3), lambda: "the record behind them")
    (letter,) = await out(dead)
    headers = dict(letter.headers)
    assert (letter.key, letter.value, headers["trace"]) == (b"k", b"0", b"\x00\xff")
    assert headers["__streams.errors.topic"] == f"{stage.name}-in".encode()
    assert headers["__streams.errors.offset"] == b"1"
    assert raftlog.TopicPartition(f"{stage.name}-in", 0) in await stage.client.admin.group_offsets(stage.name)


@pytest.mark.parametrize("rule", ["fail", "skip", "dlq"])
async def test_a_record_whose_count_cannot_be_kept_is_one_that_failed(stage: Stage, rule: str):
    """Only the commit finds out. Then tasks begin again from the last one, and find which record it is."""
    dead = stage.topic("dead", partitions=1)

    def app() -> rs.App:
        made = rs.App(
            stage.name,
            guarantee="exactly_once",
            on_error="skip" if rule == "skip" else "fail",
            dlq=dead if rule == "dlq" else None,
        )
        stream = made.stream(f"{stage.name}-in", value=rs.JSON)
        total = stream.reduce("totals", lambda so_far, value: so_far + value if value else {so_far})
        total.changes().map(lambda value: repr(value)).to(f"{stage.name}-out", value=rs.TEXT)
        return made

    async with stage.client.producer() as producer:
        for value in (b"1", b"2", b"0", b"3"):
            await producer.send(f"{stage.name}-in", value, key=b"k", partition=0)

    async def is_read() -> bool:
        found = await stage.client.admin.group_offsets(stage.name)
        return any(at.offset == 4 for at in found.values())

    if rule == "fail":
        for _ in range(2):
            with pytest.raises(rs.RecordFailed, match=r"at offset 2: store 'totals': json .* of key 'k'"):
                await rs.run(app(), stage.client, state=str(stage.folder / "a"), name="a")
        found = await stage.client.admin.group_offsets(stage.name)
        assert max(at.offset for at in found.values()) == 2
        return
    async with stage.seen(app(), "a") as a:
        await until(is_read, lambda: "the commit of all")
        (task,) = [task for task in a.tasks if task.inputs[f"{stage.name}-in"].position]
        assert task.store("totals").get("k") == 6
        assert task.dropped == {"failed" if rule == "skip" else "sent to the DLQ": 1}
    ends = await stage.client.admin.end_offsets(dead)
    assert bool(sum(ends.values())) == (rule == "dlq")
