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
from raftlog.streams.outputs import Output, Restore
from raftlog.streams.restorer import Restorer
from raftlog.streams.restoring import Changelog, Restoring, begin
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


HOUR_S = 3_600


def keeping(**settings: Any) -> rs.App:
    app = rs.App("keeping", **settings)
    kept = app.store("kept")

    @app.stream("in", value=rs.TEXT).process(kept)
    def keep(record, state):
        state.set(record.key, record.value) if record.value != "gone" else state.delete(record.key)

    return app


def compacted(d: rs.Driver, topic: str) -> None:
    """All offsets are there, and none of the records: a deletion is gone with what it has deleted."""
    log = d.topics[topic].logs[0]
    log[:] = [each._replace(key=None) for each in log]


@pytest.mark.parametrize("hours", [1, 20])
def test_a_folder_that_is_older_than_deletions_are_kept_begins_anew(hours: int):
    """A key that was deleted elsewhere, long ago, would be back."""
    with rs.driver(keeping(), flush=False) as d:
        d.feed("in", "x", key="k")
        d.flush()  # the task leaves this folder
        d.feed("in", "gone", key="k")
        compacted(d, "keeping-kept-changelog")
        d.crash()
        d.advance(hours * HOUR_S)
        d.restart()
        assert d.store("kept").items() == ({} if hours == 20 else {"k": "x"})
        assert d.tasks[0]._database.get("kept", b"k") == (None if hours == 20 else b'"x"')


def test_a_table_s_folder_that_is_older_than_deletions_are_kept_begins_anew():
    with rs.driver(with_table()) as d:
        d.feed("rows", "row", key="k")
        d.crash()
        d._append(Output("rows", b"k", None, 0, 0))
        compacted(d, "rows")
        d.advance(20 * HOUR_S)
        d.restart()
        assert d.store("rows").items() == {}


def test_a_folder_that_nobody_has_written_after_is_good_however_old():
    """There is nothing that it could have missed: the changelog is not read."""
    with rs.driver(keeping()) as d:
        d.feed("in", "x", key="k")
        d.crash()
        compacted(d, "keeping-kept-changelog")
        d.advance(1000 * HOUR_S)
        d.restart()
        assert d.store("kept").items() == {"k": "x"}


def test_exactly_once_the_marker_behind_the_last_commit_is_nothing_that_was_missed():
    restore = Restore("kept", "log", 7, None, "id", exactly_once=True, seen_ms=1)
    late = 100 * HOUR_S * 1000
    assert not begin(restore, Changelog("id", 0, 8, late)).anew
    assert begin(restore, Changelog("id", 0, 9, late)).anew
    assert not begin(restore, Changelog("id", 0, 9, 2)).anew


def test_a_restore_that_is_cut_off_is_as_old_as_what_it_began_with(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(restoring, "FLUSH_RECORDS", 1)
    plan, database = rs.plan(keeping()), Database(MEMORY, ["kept"])
    records = Partition("log", 20).records

    def cut(at_ms: int, *, upto: int) -> int:
        task = Task(plan, plan.parts[0], 0, database, writers={}, now_ms=0)
        (restore,) = task.restores({"in": (0, "")})
        found = Restoring(task, restore, Changelog("id", 0, 20, at_ms))
        found.take(records[found.position : upto], upto)
        seen = database.position()["seen"]["kept"]
        assert isinstance(seen, int)
        return seen

    assert cut(1_000, upto=10) == 1_000
    assert cut(2_000, upto=15) == 1_000
    assert cut(3_000, upto=20) == 3_000
    database.close()
