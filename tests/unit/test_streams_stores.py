"""What stores cost, counted in steps of Python: a record's share does not grow with what waits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from raftlog import streams as rs
from raftlog.streams.database import MEMORY, Database
from raftlog.streams.plan import plan
from raftlog.streams.stores import StoreSpec, Timed
from raftlog.streams.task import Task


def steps(call: Callable[[], object]) -> int:
    """How many instructions of Python a call takes."""
    count, before = 0, sys.gettrace()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def task_of(app: rs.App) -> Task:
    """One that has nothing to restore."""
    made = plan(app)
    (part,) = made.parts
    database = Database(MEMORY, [spec.name for spec in part.stores])
    task = Task(made, part, 0, database, writers={}, now_ms=1_000_000_000)
    task.restores({})
    task.start(dict.fromkeys(part.topics, 0))
    return task


def feed(task: Task, count: int) -> None:
    """A record a millisecond, each with a key of its own, in each input."""
    for topic in task.inputs:
        task.add(topic, [(n, n, b"k%d" % n, b"1", ()) for n in range(count)])


def of_sessions(open_: int) -> Task:
    app = rs.App("sessions")
    app.stream("in").window(rs.session(gap_s=open_ / 1000)).count("s").final().to("out", value=rs.JSON)
    return task_of(app)


def of_a_join(open_: int) -> Task:
    app = rs.App("joined")
    left, right = app.stream("left", value=rs.JSON), app.stream("right", value=rs.JSON)
    left.join(right, max, name="j", within_s=open_ / 1000).to("out", value=rs.JSON)
    return task_of(app)


def test_what_is_over_is_found_without_a_look_at_what_is_not():
    for make in (of_sessions, of_a_join):
        found = []
        for open_ in (100, 2_000):
            task = make(open_)
            feed(task, open_ + 200)
            each = len(task.inputs)
            task.run((open_ + 100) * each)  # from here on each record ends a time of each input
            began = sum(len(task.store(spec.name).times) for spec in task.part.stores)
            found.append(steps(lambda task=task, each=each: task.run(50 * each)))
            assert sum(len(task.store(spec.name).times) for spec in task.part.stores) == began >= open_
        assert found[1] < 1.2 * found[0], (make, found)


def timed() -> Timed:
    spec = StoreSpec(name="s", key=rs.TEXT, value=rs.JSON, lasts_ms=0)
    return Timed(spec, Database(MEMORY, ["s"]))


def done(store: Timed) -> None:
    """The record in hand is done."""
    store.undoable.clear()


def test_times_that_are_over_come_in_order_and_once_though_they_came_in_any():
    store = timed()
    for time in (7, 3, 9, 1, 3, 8, 2, 5):
        store.set((time, "a"), 1, time)
    store.set((3, "a"), None, 9)
    store.set((3, "b"), 1, 9)
    store.set((2, "a"), None, 9)
    assert store.over(7) == [1, 3, 5, 7]
    assert store.over(7) == [1, 3, 5, 7], "they are over until they are dropped"
    assert store.over(0) == []
    store.close([1, 3, 5, 7], None)
    assert store.over(7) == []
    assert store.over(100) == [8, 9]


def test_times_whose_end_fails_are_over_again():
    """A function that is given a key raises, before what is over is dropped or after."""
    store = timed()
    for time in (1, 2, 3, 4):
        store.set((time, "a"), 1, time)
    done(store)
    store.close(store.over(1), None)
    done(store)
    store.close(store.over(3), None)
    assert store.over(4) == [4]
    store.undo()  # what came after it in the same record has failed
    assert store.over(4) == [2, 3, 4]
    store.set((1, "b"), 1, 9)
    assert store.over(2) == [1, 2]
    store.undo()
    assert store.over(2) == [2]
