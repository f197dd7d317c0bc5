"""What a restored store has, and what is written of how far it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from raftlog import streams as rs
from raftlog.client.client import Client
from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.streams import restoring
from raftlog.streams.database import MEMORY, Database
from raftlog.streams.restorer import Restorer
from raftlog.streams.task import Task


class Partition:
    """A topic of one partition, for a Restorer: its client, its admin, and a consumer of it."""

    def __init__(self, topic: str, count: int) -> None:
        self.key = TopicPartition(topic, 0)
        self.records = [Record(topic, 0, n, 0, b"%d" % n, b"row", ()) for n in range(count)]
        self.admin = self
        self.at = 0

    @asynccontextmanager
    async def consumer(self, **settings: Any) -> AsyncIterator[Partition]:
        yield self

    async def beginning_offsets(self, key: TopicPartition) -> dict[TopicPartition, int]:
        return {key: 0}

    async def end_offsets(self, topic: str) -> dict[TopicPartition, int]:
        return {self.key: len(self.records)}

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self.at = offset

    async def poll(self, count: int, *, max_wait_ms: int) -> list[Record]:
        found, self.at = self.records[self.at :], len(self.records)
        return found

    def positions(self) -> dict[TopicPartition, int]:
        return {self.key: self.at}


def with_table() -> rs.App:
    app = rs.App("tables")
    table = app.table("rows", name="rows", value=rs.TEXT)
    app.stream("in", value=rs.TEXT).join(table, lambda value, row: row).to("out", value=rs.JSON)
    return app


@pytest.mark.parametrize("flush_records", [1, 100_000])
async def test_what_is_not_committed_of_a_table_is_read_after_a_restore_and_not_written_as_read(
    monkeypatch: pytest.MonkeyPatch, flush_records: int
):
    """The reader gets records beyond the committed offset, and a kill then finds what is on disk."""
    monkeypatch.setattr(restoring, "FLUSH_RECORDS", flush_records)
    plan, database = rs.plan(with_table()), Database(MEMORY, ["rows"])
    task = Task(plan, plan.parts[0], 0, database, writers={}, now_ms=0)
    restorer = Restorer(cast(Client, Partition("rows", 20)), {}, "fail")
    for restore in task.restores({"in": (0, ""), "rows": (10, "")}):
        await restorer.restore(task, restore)
    assert [key for key, _ in database.scan("rows")] == sorted(b"%d" % n for n in range(10))
    assert database.position()["inputs"]["rows"]["at"] == 10
    database.close()


def test_a_table_has_all_its_rows_after_two_kills_before_a_flush():
    """It is restored up to the committed offset, the tail is read on, and the kill comes before a flush."""
    with rs.driver(with_table(), flush=False) as d:
        d.feed("rows", "row", key="a")
        d._autocommit = False
        d.feed("rows", "row", key="b")
        d.crash()
        d.restart(lose_state=True)
        d.commit()
        d.crash()
        d.restart()
        assert d.store("rows").items() == {"a": "row", "b": "row"}


def counting(**settings: Any) -> rs.App:
    app = rs.App("counting", **settings)
    app.stream("in", value=rs.TEXT).count("first")
    app.stream("also", value=rs.TEXT).count("second")
    return app


@pytest.mark.parametrize("lose_state", [False, True])
def test_offsets_that_expired_are_told_where_the_state_is_further_than_the_disk(lose_state: bool):
    """Inputs would be read from their beginning, onto state that has counted them."""
    with rs.driver(counting(guarantee="exactly_once"), flush=lose_state) as d:
        d.feed("in", "x", key="a")
        d.crash()
        d.committed.clear()
        for _ in range(2):  # the first try must leave nothing that lets the second one through
            with pytest.raises(rs.StateError, match=r"counting-first-changelog.*no offsets.*exactly once"):
                d.restart(lose_state=lose_state)


def test_offsets_that_expired_are_where_the_disk_has_them():
    with rs.driver(counting(guarantee="exactly_once")) as d:
        d.feed("in", "x", key="a")
        d.crash()
        d.committed.clear()
        d.restart()
        d.feed("in", "x", key="a")
        assert d.store("first").items() == {"a": 2}


def test_at_least_once_a_first_commit_that_was_cut_off_is_gone_on_from_with_a_warning(
    caplog: pytest.LogCaptureFixture,
):
    with rs.driver(counting(), autocommit=False) as d:
        d.feed("in", "x", key="a")
        d.commit(until="offsets")
        d.crash()
        d.restart()
        assert d.store("first").items() == {"a": 2}
    assert "counting-first-changelog" in caplog.text and "counted again" in caplog.text
