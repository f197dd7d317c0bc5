"""What stores cost, counted in steps of Python: a record's share does not grow with what waits."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import pytest

from raftlog import streams as rs
from raftlog.streams.database import MEMORY, Database
from raftlog.streams.plan import plan
from raftlog.streams.stores import Store, StoreSpec, Timed
from raftlog.streams.task import Task

OPENED: list[Database] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def opened(stores: Iterable[str]) -> Database:
    """A database in memory, which is closed after the test."""
    OPENED.append(Database(MEMORY, stores))
    return OPENED[-1]


def steps(call: Callable[[], object]) -> int:
    """How many lines of Python a call runs: a loop runs its lines again."""
    count, before = 0, sys.gettrace()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
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
    database = opened([spec.name for spec in part.stores])
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
    return Timed(spec, opened(["s"]))


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


def looking(**settings: Any) -> rs.App:
    """Each record sets its key, and looks at the keys that begin so; one without a value fails then."""
    app = rs.App("looking", **settings)
    store = app.store("s")

    @app.stream("in", value=rs.JSON).process(store)
    def look(record: rs.Record, state: Any) -> None:
        state.set(record.key, 1)
        assert [key for key, _ in state.prefix(record.key)] == [record.key]
        assert record.value is not None

    return app


def test_a_range_costs_what_is_in_it_whatever_else_waits_for_the_disk() -> None:
    for value in (b"1", None):  # all are done, or all fail
        found = []
        for waiting in (200, 4_000):
            task = task_of(looking(on_error="skip"))
            for n in range(waiting):
                task.restore("s", b"q%d" % n, b"1", 0)  # as if committed and not flushed
            rows = [(n, n, b"k%03d" % n, value, ()) for n in range(waiting + 101)]
            task.add("in", [(n, n, b"r%d-" % n, b"1", ()) for n in range(waiting)])  # not even committed
            task.run(waiting)
            task.add("in", rows[:101])
            task.run(1)  # it may put in order what is there
            found.append(steps(lambda task=task: task.run(100)))
            assert task.dropped["failed"] == (101 if value is None else 0)
        assert found[1] < 1.2 * found[0], found


def test_a_range_after_a_commit_costs_what_was_committed_and_not_what_waits() -> None:
    found = []
    for waiting in (200, 4_000):
        task = task_of(looking())
        for n in range(waiting):
            task.restore("s", b"q%d" % n, b"1", 0)
        task.add("in", [(n, n, b"k%03d" % n, b"1", ()) for n in range(100)])
        task.run(50)
        task.prepare()
        task.committed({})
        found.append(steps(lambda task=task: task.run(50)))
    assert found[1] < 1.2 * found[0], found


def play(store: Store, rng: random.Random) -> None:
    """Records of some changes and looks each, some of which fail; commits and flushes between them. A time
    that is over does not come again."""
    database = store._rows
    assert isinstance(database, Database)
    now: dict[Any, int] = {}
    over = 0

    def any_place() -> Any:
        key = f"k{rng.randrange(4 if isinstance(store, Timed) else 12)}"
        return (over + rng.randrange(4), key) if isinstance(store, Timed) else key

    for number in range(600):
        before = dict(now), over
        for _ in range(rng.randrange(4)):
            place = any_place()
            match rng.randrange(6):
                case 0:
                    store.set(place, None, number)
                    now.pop(place, None)
                case 1 | 2:
                    low, high = sorted((store.encoded(place), store.encoded(any_place())))
                    wanted = {key: value for key, value in now.items() if low <= store.encoded(key) < high}
                    in_order = sorted(wanted.items(), key=lambda row: store.encoded(row[0]))
                    assert list(store.scan(low, high)) == in_order
                case 3 if isinstance(store, Timed) and store.times:
                    over = min(store.times) + 1
                    store.close([over - 1], None)
                    now = {key: value for key, value in now.items() if key[0] >= over}
                case _:
                    store.set(place, number, number)
                    now[place] = number
        if rng.randrange(5) == 0:
            store.undo()
            now, over = before
        store.undoable.clear()
        if rng.randrange(10) == 0:
            store.changes()
            store.committed()
        if rng.randrange(30) == 0:
            dropped = {"s": store.dropped} if isinstance(store, Timed) else {}
            database.write({"s": store.unflushed}, dropped, {})
            store.flushed()
    assert dict(store.scan()) == now


def test_a_range_is_what_it_would_be_if_all_were_in_one_place() -> None:
    for seed in range(15):
        spec = StoreSpec(name="s", key=rs.TEXT, value=rs.JSON)
        play(Store(spec, opened(["s"])), random.Random(seed))
        play(timed(), random.Random(seed))


def test_a_range_has_many_changes_at_once_and_those_that_are_made_meanwhile() -> None:
    store = Store(StoreSpec(name="s", key=rs.TEXT, value=rs.JSON), opened(["s"]))
    for n in range(0, 1_000, 2):
        store.set(f"{n:03}", n, n)
    assert [value for _, value in store.scan()] == list(range(0, 1_000, 2))
    for n in range(999, 0, -2):
        store.set(f"{n:03}", n, n)
    seen = []
    for key, value in store.scan(b"500", b"600"):
        seen.append(value)
        store.set(key, None, 1_000)
        store.set("599", -1, 1_000)
        store.set("550x", -2, 1_000)  # it was not there when the look began
    assert seen == [*range(500, 599), -1]
    assert dict(store.scan(b"500", b"600")) == {"550x": -2, "599": -1}
    assert list(store.scan(b"600", b"500")) == []


def test_a_key_that_cannot_be_encoded_is_told_at_each_look() -> None:
    store = Store(StoreSpec(name="s", key=rs.TEXT, value=rs.JSON), opened(["s"]))
    store.set("a", 1, 1)
    store.set(5, 1, 1)
    for _ in range(2):
        with pytest.raises(TypeError, match="int given"):
            list(store.scan())
    store.undo()
    store.set("b", 2, 2)
    assert list(store.scan()) == [("b", 2)]
