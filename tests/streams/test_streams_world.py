"""The real worker in virtual time: new seeds each time, and planted faults."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from raftlog import streams as rs
from raftlog.streams.committing import Commits
from raftlog.streams.standbys import Copy, Standbys
from raftlog.streams.task import Task
from raftlog.streams.telling import Telling
from raftlog.streams.worker import Worker
from tests.streams.world.client import WorldConsumer, WorldProducer
from tests.streams.world.world import Wrong, play

GUARANTEES = ("exactly_once", "at_least_once")
SEEDS = 4
PLANTED_SEEDS_MAX = 40


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="raftlog.streams")


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_new_seeds(guarantee: str) -> None:
    for _ in range(SEEDS):
        play(secrets.randbits(32), guarantee)


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_seed_plays_the_same_again(guarantee: str) -> None:
    """Trio's own chance, in the order of tasks, made one of 106 seeds fail, and nobody could say why."""
    assert play(1, guarantee) == play(1, guarantee)


def test_a_member_that_is_put_out_while_it_answers_comes_back() -> None:
    """It had slept, and woke before its time was over; the group of the world told it nothing."""
    play(100_318, "exactly_once")


def test_a_worker_that_slept_longer_than_its_session_leaves_the_changelogs_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At least once no broker refuses its writes. It set counts back that its successor had made."""
    assert play(202_458, "at_least_once").late == 0
    monkeypatch.setattr(Commits, "is_in_doubt", False)
    assert play(202_458, "at_least_once").late > 0


def test_a_seed_plays_the_same_beside_another_loop() -> None:
    """The broker of an earlier test, which lives on in its thread, drew from the seed's chance."""
    alone, over = play(1, "exactly_once"), threading.Event()

    async def turn() -> None:
        while not over.is_set():
            time.sleep(0.0005)  # noqa: ASYNC251 - it is for the other thread to go on
            await trio.lowlevel.checkpoint()

    async def loop() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(turn)

    thread = threading.Thread(target=trio.run, args=(loop,))
    thread.start()
    try:
        assert play(1, "exactly_once") == alone
    finally:
        over.set()
        thread.join()


def test_at_least_once_a_watermark_is_sent_when_all_before_it_is_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A record was lost on its way, and the watermark behind it was not: sent again, the record was late.
    Found by seeds 13, 17, 21 and 38 of the world, when one record in ten was lost."""
    told: dict[int, list[str]] = {}  # by producer
    send, flush = WorldProducer.send_soon, WorldProducer.flush

    async def noting(self: Any, topic: str, value: Any, **more: Any) -> Any:
        if topic.endswith("repartition"):
            told.setdefault(id(self), []).append("watermark" if more["headers"] else "record")
        return await send(self, topic, value, **more)

    async def flushing(self: Any) -> None:
        await flush(self)
        told.setdefault(id(self), []).append("flush")

    monkeypatch.setattr(WorldProducer, "send_soon", noting)
    monkeypatch.setattr(WorldProducer, "flush", flushing)
    play(1, "at_least_once")
    assert {"record", "watermark", "flush"} <= {each for one in told.values() for each in one}
    for one in told.values():
        assert ("record", "watermark") not in itertools.pairwise(one), one


def _state_ahead_of_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes go to the disk when a commit begins, and not when it has succeeded."""
    prepare = Task.prepare

    def hasty(self: Task) -> Any:
        prepared = prepare(self)
        self.committed({})
        self.flush()
        return prepared

    monkeypatch.setattr(Task, "prepare", hasty)


def _windows_forget_that_they_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watermark does not outlive the worker."""
    position, metadata = Task._position, Task._metadata
    monkeypatch.setattr(Task, "_position", lambda self: {**position(self), "watermark": -1})

    def forgetful(self: Task, each: Any) -> str:
        watermark, self.watermark = self.watermark, -1
        try:
            return metadata(self, each)
        finally:
            self.watermark = watermark

    monkeypatch.setattr(Task, "_metadata", forgetful)


def _no_watermark_is_sent_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Telling, "take", lambda self, watermark: [])


def _a_restore_waits_for_the_last_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A position is taken for the last record that was seen: a marker at the end never comes."""
    poll, positions = WorldConsumer.poll, WorldConsumer.positions

    async def noting(self: Any, *args: Any, **more: Any) -> Any:
        found = await poll(self, *args, **more)
        if found and self.member is None:
            self.seen = found[-1].offset + 1
        return found

    def last_seen(self: Any) -> Any:
        found = positions(self)
        return found if self.member is not None else dict.fromkeys(found, getattr(self, "seen", 0))

    monkeypatch.setattr(WorldConsumer, "poll", noting)
    monkeypatch.setattr(WorldConsumer, "positions", last_seen)


def _a_copy_is_not_where_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby writes a position that it has not read to."""
    flush = Standbys._flush

    def hasty(self: Standbys, copy: Copy) -> None:
        copy.positions = {key: at + 3 for key, at in copy.positions.items()}
        flush(self, copy)

    monkeypatch.setattr(Standbys, "_flush", hasty)


def _dirty_state_outlives_an_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a commit that failed the tasks go on with what they have in memory."""
    monkeypatch.setattr(Worker, "_begin_again", lambda self: None)


def _versions_are_on_the_disk_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of an aggregate is not in its changelog: who begins with an empty disk counts anew."""
    prepare = Task.prepare

    def forgetful(self: Task) -> Any:
        prepared = prepare(self)
        kept = {topic: found for topic, found in prepared.changes.items() if topic != "app-sums-changelog"}
        return replace(prepared, changes=kept)

    monkeypatch.setattr(Task, "prepare", forgetful)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("plant", "guarantee"),
    [
        (_state_ahead_of_commit, "exactly_once"),
        (_windows_forget_that_they_closed, "exactly_once"),
        (_no_watermark_is_sent_along, "exactly_once"),
        (_a_restore_waits_for_the_last_record, "exactly_once"),
        (_dirty_state_outlives_an_abort, "exactly_once"),
        (_a_copy_is_not_where_it_says, "exactly_once"),
        (_versions_are_on_the_disk_alone, "exactly_once"),
    ],
    ids=lambda each: each.__name__.strip("_") if callable(each) else each,
)
def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], guarantee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    for seed in range(1, PLANTED_SEEDS_MAX + 1):
        try:
            play(seed, guarantee)
        except (Wrong, rs.StreamsError, BaseExceptionGroup):
            return
    pytest.fail(f"not found in {PLANTED_SEEDS_MAX} seeds")
