"""Scenarios of the guide, one by one: the real worker in virtual time, where each has its cause at the very
step. The numbers are those of the scenarios; seeds of the world play them by chance, too."""

from __future__ import annotations

import itertools
import logging
import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from raftlog import streams as rs
from raftlog.client.errors import (
    BrokerError,
    DeliveryError,
    NotAuthorized,
    RecordTooLarge,
    TransactionAborted,
)
from raftlog.client.metadata import TopicPartition
from raftlog.streams import assign, feeding, restoring, seating, standbys, worker
from raftlog.streams.seating import Losses
from raftlog.streams.worker import Worker
from tests.streams.world.client import (
    TRANSACTION_SECONDS_MAX,
    Weather,
    WorldClient,
    WorldConsumer,
    WorldProducer,
)
from tests.streams.world.group import Group
from tests.streams.world.log import COMMITTED, OPEN, Entry, Log
from tests.streams.world.world import FOLDERS, one_order_of_tasks

PARTITIONS = 3
PATIENCE_S = 300
"""Virtual: it costs nothing."""


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="raftlog.streams")


def counting(guarantee: str = "exactly_once", *, changed: bool = False, **settings: Any) -> rs.App:
    app = rs.App("app", guarantee=guarantee, idle_ms=None, **settings)  # type: ignore[arg-type]
    words = app.stream("in", value=rs.TEXT)
    words = words.filter(bool) if changed else words
    words.count("counts").changes().to("out", value=rs.JSON)
    return app


class Stage:
    """A log, a group, and workers that nothing happens to but what the test does."""

    def __init__(self, nursery: trio.Nursery, folder: str) -> None:
        self.log = Log()
        self.group = Group(self.log)
        self.weather = Weather(random.Random(7))
        self.sent: Counter[str] = Counter()
        self.ended: dict[str, BaseException] = {}
        self.scopes: dict[str, trio.CancelScope] = {}
        self.workers: dict[str, Worker] = {}
        self._nursery = nursery
        self._folder = folder
        for topic in ("in", "out"):
            self.log.create(topic, PARTITIONS)
        nursery.start_soon(self.group.run)

    def start(
        self, name: str = "w", app: rs.App | None = None, client: WorldClient | None = None
    ) -> WorldClient:
        """A worker, on the disk that the last one of its name has left."""
        client = client or WorldClient(self.log, self.group, self.weather)
        made = self.workers[name] = Worker(
            app or counting(),
            client,
            state=f"{self._folder}/{name}",
            name=name,
            losses=Losses(),  # type: ignore[arg-type]
        )
        scope = self.scopes[name] = trio.CancelScope()

        async def work() -> None:
            with scope:
                try:
                    await made.run()
                except Exception as error:
                    client.is_dead = True
                    self.ended[name] = error

        self._nursery.start_soon(work)
        return client

    def kill(self, name: str, client: WorldClient) -> None:
        """Without a goodbye: nothing that it does has an effect any more."""
        client.is_dead = True
        self.scopes[name].cancel()

    def feed(self, count: int = 30, keys: str = "abcdef") -> None:
        """So many records."""
        for number in range(count):
            key = keys[number % len(keys)]
            place = TopicPartition("in", keys.index(key) % PARTITIONS)
            self.log.append(place, Entry(key.encode(), b"x", 1_000, (), COMMITTED))
            self.sent[key] += 1

    def told(self) -> dict[str, list[int]]:
        """The counts of each key that readers of committed records have seen."""
        found: dict[str, list[int]] = {}
        for partition in range(PARTITIONS):
            for _, entry in self.log.read(TopicPartition("out", partition), 0, committed=True):
                assert entry.key is not None and entry.value is not None
                found.setdefault(entry.key.decode(), []).append(int(entry.value))
        return found

    async def until(self, done: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not done():  # noqa: ASYNC110 - it is virtual time that passes
                await trio.sleep(0.05)

    async def counted(self, *, once: bool = True) -> None:
        """Until all is counted: with exactly once never more, and never anything twice."""
        await self.until(lambda: all(max(self.told().get(k, [0])) >= n for k, n in self.sent.items()))
        for key, counts in self.told().items():
            if once:
                assert counts == sorted(set(counts)) and counts[-1] == self.sent[key], (
                    key,
                    counts,
                    self.sent,
                )

    async def time_out(self) -> None:
        """As a coordinator does."""
        while True:
            await trio.sleep(0.5)
            self.log.time_out(trio.current_time(), TRANSACTION_SECONDS_MAX)


def play(test: Callable[[Stage], Awaitable[None]], seed: int = 1) -> None:
    with one_order_of_tasks(seed), tempfile.TemporaryDirectory(prefix="stage-", dir=FOLDERS) as folder:

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                stage = Stage(nursery, folder)
                nursery.start_soon(stage.time_out)
                await test(stage)
                nursery.cancel_scope.cancel()

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class Dying(WorldClient):
    """A client that is killed at its so-manieth call."""

    left = 10**9
    died = False

    async def call(self) -> None:
        self.left -= 1
        if self.left < 0 and not self.is_dead:
            self.is_dead = self.died = True
        await super().call()


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("lose_state", [False, True])
def test_1_3_4_a_worker_that_is_killed_at_any_call_loses_nothing(guarantee: str, lose_state: bool) -> None:
    """And with exactly once doubles nothing: outputs of a transaction that has not ended are not seen."""
    deaths = 0

    async def one(stage: Stage) -> None:
        nonlocal deaths
        stage.start("first", counting(guarantee))
        stage.feed()
        await stage.counted()
        stage.scopes["first"].cancel()
        await stage.until(lambda: not stage.group.members)
        client = Dying(stage.log, stage.group, stage.weather)
        client.left = calls
        name = "other" if lose_state else "first"
        stage.start(name, counting(guarantee), client)
        stage.feed()
        with trio.move_on_after(30):
            while not client.died and not stage.ended:
                await trio.sleep(0.01)
                if all(max(stage.told().get(k, [0])) >= n for k, n in stage.sent.items()):
                    break
        deaths += client.died
        stage.kill(name, client)
        await trio.sleep(0.1)
        stage.start("third" if lose_state else name, counting(guarantee))
        stage.feed()
        await stage.counted(once=guarantee == "exactly_once")

    for calls in range(0, 60, 3):
        play(one, seed=calls)
    assert deaths > 10


def sliding_and_ticking() -> rs.App:
    app = rs.App("app", guarantee="exactly_once", idle_ms=None)
    kept = app.store("kept")
    stream = app.stream("in", value=rs.TEXT)
    stream.window(rs.sliding(size_s=5, grace_s=1)).count("last").final().to("out", value=rs.JSON)

    @stream.process(kept)
    def keep(record: rs.Record, kept: rs.State) -> None:
        kept.set("seen", [record.key, kept.get("seen", ["", 0])[1] + 1])

    @app.every(10, kept)
    def tick(now_ms: int, kept: rs.State) -> Any:
        key, seen = kept.get("seen")
        yield key, [now_ms, seen]

    keep.to("kept", value=rs.JSON)
    tick.to("ticks", value=rs.JSON)
    return app


def test_sliding_windows_and_timers_give_each_result_once_whichever_call_is_the_last() -> None:
    """Worked out from all records, in another way than the app does it."""
    times = [1_000 + 700 * number for number in range(90)]
    windows = {
        (at, sum(at - 5_000 < other <= at for other in times)) for at in times if at + 1_000 < times[-1]
    }
    ticks = [
        [now // 10_000 * 10_000, number]
        for number, (before, now) in enumerate(itertools.pairwise(times), 2)
        if now // 10_000 > before // 10_000
    ]
    deaths = 0

    async def one(stage: Stage) -> None:
        nonlocal deaths
        for topic in ("kept", "ticks"):
            stage.log.create(topic, PARTITIONS)
        client = Dying(stage.log, stage.group, stage.weather)
        client.left = calls
        stage.start("w", sliding_and_ticking(), client)

        def of(topic: str, key: bytes) -> list[Any]:
            return [
                rs.JSON.decode(entry.value or b"")
                for partition in range(PARTITIONS)
                for _, entry in stage.log.read(TopicPartition(topic, partition), 0, committed=True)
                if entry.key == key
            ]

        keys = [b"k%d" % partition for partition in range(PARTITIONS)]
        for begin in range(0, len(times), 30):
            for partition in range(PARTITIONS):
                for at in times[begin : begin + 30]:
                    entry = Entry(keys[partition], b"x", at, (), COMMITTED)
                    stage.log.append(TopicPartition("in", partition), entry)
            await trio.sleep(0.5)
        client.left = 10**9
        deaths += client.died
        if client.died:
            stage.kill("w", client)
            await trio.sleep(0.1)
            stage.start("w" if calls % 2 else "other", sliding_and_ticking())
        await stage.until(lambda: all(len(of("out", key)) >= len(windows) for key in keys))
        for key in keys:
            out = [(value["end"], value["count"]) for value in of("out", key)]
            assert len(out) == len(windows) and set(out) == windows, key
            assert of("ticks", key) == ticks, key

    for calls in range(5, 80, 5):
        play(one, seed=calls)
    assert deaths > 5


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("killed", [False, True])
def test_2_a_commit_whose_answer_is_lost_has_its_effect_once(
    seed: int, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it has arrived or not; whether the worker lives to ask again or not."""
    unanswered = [False]
    met = []

    async def one(stage: Stage) -> None:
        client = stage.start()
        stage.feed()
        await stage.counted()

        def is_unanswered() -> bool:
            found, unanswered[0] = unanswered[0], False
            if found:
                met.append(True)
                if killed:
                    stage.kill("w", client)
            return found

        monkeypatch.setattr(client, "is_unanswered", is_unanswered)
        unanswered[0] = True
        stage.feed()
        await stage.until(lambda: bool(met))
        if killed:
            await trio.sleep(0.1)
            stage.start()
        stage.feed()
        await stage.counted()

    play(one, seed)


def test_7_after_an_abort_the_worker_goes_on_and_counts_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was changed in memory is gone, and positions are back."""
    failing = [0]
    send_offsets = WorldProducer.send_offsets

    async def aborted(self: Any, *arguments: Any) -> None:
        await send_offsets(self, *arguments)
        if failing[0]:
            failing[0] -= 1
            raise TransactionAborted("the test does not want it")

    monkeypatch.setattr(WorldProducer, "send_offsets", aborted)

    async def one(stage: Stage) -> None:
        stage.start()
        for _ in range(4):
            failing[0] = 2
            stage.feed()
            await stage.counted()
        assert failing[0] == 0 and stage.log.counts["aborted"] >= 8 and not stage.ended

    play(one)


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("error", [RecordTooLarge(10, "too large"), NotAuthorized(29, "not yours")])
def test_an_output_that_is_refused_for_good_ends_the_worker(
    monkeypatch: pytest.MonkeyPatch, guarantee: str, error: BrokerError
) -> None:
    """It would be refused each time: what the worker sends beside it must not come again and again."""
    tries = [0]

    async def refused(*_: Any) -> None:
        tries[0] += 1
        if guarantee == "exactly_once":
            raise TransactionAborted("a record was not delivered") from error
        if isinstance(error, DeliveryError):
            raise error
        raise DeliveryError("lost", topic="out", partition=0, records=1, may_be_written=False) from error

    monkeypatch.setattr(WorldProducer, "flush", refused)
    monkeypatch.setattr(WorldProducer, "send_offsets", refused)

    async def one(stage: Stage) -> None:
        stage.start(app=counting(guarantee))
        stage.feed()
        await stage.until(lambda: "w" in stage.ended)
        assert isinstance(stage.ended["w"], rs.StreamsError)
        assert "is refused, and would be each time" in str(stage.ended["w"])
        assert tries[0] == 1

    play(one)


def test_7_a_worker_whose_transaction_timed_out_ends_and_the_next_one_counts_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sleepy = [False]
    send_offsets = WorldProducer.send_offsets

    async def slow(self: Any, *arguments: Any) -> None:
        if sleepy[0]:
            sleepy[0] = False
            await trio.sleep(TRANSACTION_SECONDS_MAX + 5)
        await send_offsets(self, *arguments)

    monkeypatch.setattr(WorldProducer, "send_offsets", slow)

    async def one(stage: Stage) -> None:
        stage.start()
        stage.feed()
        await stage.counted()
        sleepy[0] = True
        stage.feed()
        await stage.until(lambda: "w" in stage.ended)
        assert stage.log.counts["timed out"] == 1
        stage.start()
        await stage.counted()

    play(one)


def test_8_changes_beyond_their_bound_are_committed_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "CHANGES_MAX", 50)
    monkeypatch.setattr(feeding, "POLL_RECORDS_MAX", 100)
    most = [0]

    async def one(stage: Stage) -> None:
        app = rs.App("app", guarantee="exactly_once", commit_ms=10**9, idle_ms=None)
        app.stream("in", value=rs.TEXT).count("counts").changes().to("out", value=rs.JSON)
        stage.start(app=app)
        for number in range(3_000):
            key = b"k%d" % number
            stage.log.append(TopicPartition("in", number % PARTITIONS), Entry(key, b"x", 1, (), COMMITTED))

        def done() -> bool:
            most[0] = max(most[0], sum(task.changed for task in stage.workers["w"].tasks))
            return stage.log.counts["committed"] > 1 and len(stage.told()) >= 2_900

        await stage.until(done)

    play(one)
    assert most[0] <= 2 * (50 + 100)  # a round more, and each key with its output while it is committed


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("shape", ["windows", "far windows", "windows of windows", "count"])
def test_an_app_with_nothing_to_do_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, guarantee: str, shape: str
) -> None:
    """Time goes on by the clock: it is told as long as a window waits for it somewhere, also after a restart,
    and then no more."""

    def app() -> rs.App:
        made = rs.App("app", guarantee=guarantee, idle_ms=2_000)  # type: ignore[arg-type]
        words = made.stream("in", value=rs.TEXT)
        if shape == "windows":
            words.window(rs.tumbling(size_s=10)).count("c").final().to("out", value=rs.JSON)
        elif shape == "far windows":
            words.through("a").through("b").window(rs.tumbling(size_s=10)).count("c").final().to(
                "out", value=rs.JSON
            )
        elif shape == "windows of windows":
            first = words.through("a").window(rs.tumbling(size_s=5)).count("c").final()
            first.through("b").window(rs.session(gap_s=10)).count("d").final().to("out", value=rs.JSON)
        else:
            words.through("a").count("c").changes().to("out", value=rs.JSON)
        return made

    async def one(stage: Stage) -> None:
        def ends() -> dict[TopicPartition, int]:
            log = stage.log
            return {
                TopicPartition(topic, partition): log.end(TopicPartition(topic, partition), committed=False)
                for topic, partitions in log.topics.items()
                for partition in range(len(partitions))
            }

        def out() -> int:
            return sum(at for key, at in ends().items() if key.topic == "out")

        start = trio.current_time()
        clock = SimpleNamespace(time=lambda: 1 + trio.current_time() - start)
        monkeypatch.setattr(worker, "time", clock)
        monkeypatch.setattr(seating, "time", clock)
        stage.start(app=app())
        for _ in range(2):
            for number in range(6):
                place = TopicPartition("in", number % PARTITIONS)
                entry = Entry(b"k%d" % number, b"x", round(clock.time() * 1000), (), COMMITTED)
                stage.log.append(place, entry)
            expected = out() + 6
            await stage.until(lambda: out() >= expected)  # noqa: B023 - it is awaited here
            await trio.sleep(5)
            quiet, commits = ends(), dict(stage.log.committed)
            await trio.sleep(20)
            assert (ends(), stage.log.committed) == (quiet, commits)
            stage.scopes["w"].cancel()
            await stage.until(lambda: not stage.group.members)
            stage.start(app=app())

    play(one)


def test_an_app_of_several_parts_comes_to_rest_behind_the_markers_of_its_transactions() -> None:
    """It commits in each round, so the marker behind a record is passed by a commit of its own, which has no
    outputs: nobody after it is set going again."""

    async def one(stage: Stage) -> None:
        app = rs.App("app", guarantee="exactly_once", commit_ms=1, idle_ms=None)
        words = app.stream("in", value=rs.TEXT).through("a").through("b")
        words.count("counts").changes().to("out", value=rs.JSON)
        stage.start(app=app)

        def is_at_end() -> bool:
            return all(
                stage.log.committed[key].offset == stage.log.end(key, committed=False)
                for topic in ("in", "app-a-repartition", "app-b-repartition")
                for key in (TopicPartition(topic, partition) for partition in range(PARTITIONS))
            )

        for _ in range(3):
            stage.feed()
            await stage.counted()
            await stage.until(is_at_end)
            transactions = stage.log.counts["committed"]
            await trio.sleep(3)
            assert is_at_end() and stage.log.counts["committed"] == transactions

    play(one)


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("rule", ["fail", "skip"])
def test_scenario_9_a_look_up_that_hangs_is_waited_for_and_no_offset_passes_it(
    guarantee: str, rule: Any
) -> None:
    """`commit_ms` passes again and again meanwhile. Then it has failed, by the app's rule."""
    hung = []

    async def look_up(value: str) -> str:
        if value == "hang":
            hung.append(trio.current_time())
            await trio.sleep_forever()
        await trio.sleep(rng.random() / 10)
        return value

    rng = random.Random(5)

    async def one(stage: Stage) -> None:
        app = rs.App("app", guarantee=guarantee, on_error=rule, commit_ms=200, idle_ms=None)  # type: ignore[arg-type]
        looked_up = app.stream("in", value=rs.TEXT).async_map(look_up, concurrency=4, timeout_s=5)
        looked_up.count("counts").changes().to("out", value=rs.JSON)
        stage.start(app=app)
        stage.feed()
        await stage.counted()
        place = TopicPartition("in", 0)
        hangs_at = stage.log.append(place, Entry(b"hang", b"hang", 1_000, (), COMMITTED))
        stage.feed()
        await stage.until(lambda: bool(hung))
        while trio.current_time() - hung[0] < 4.5:
            assert stage.log.committed[place].offset <= hangs_at
            await trio.sleep(0.1)
        if rule == "fail":
            await stage.until(lambda: "w" in stage.ended)
            assert 4.5 < trio.current_time() - hung[0] < 6
            assert stage.log.committed[place].offset <= hangs_at
            assert f"in-0 at offset {hangs_at}: TimeoutError: no answer within 5 s" in _text(stage.ended["w"])
        else:
            await stage.counted()
            assert "hang" not in stage.told() and len(hung) == 1
            assert stage.log.committed[place].offset > hangs_at

    play(one)


def test_scenario_9_answers_come_in_the_order_of_records_through_kills() -> None:
    """Each is counted once, whichever call is the last one; and a task that is given up calls no more."""
    under_way = [0]

    async def look_up(value: str) -> str:
        under_way[0] += 1
        try:
            await trio.sleep(rng.random() / 20)
        finally:
            under_way[0] -= 1
        return value

    rng, deaths = random.Random(5), 0

    async def one(stage: Stage) -> None:
        nonlocal deaths
        app = rs.App("app", guarantee="exactly_once", idle_ms=None)
        looked_up = app.stream("in", value=rs.TEXT).async_map(look_up, concurrency=4)
        looked_up.count("counts").changes().to("out", value=rs.JSON)
        client = Dying(stage.log, stage.group, stage.weather)
        client.left = calls
        stage.start(app=app, client=client)
        for _ in range(10):
            stage.feed()
            await trio.sleep(0.1)
        client.left = 10**9
        deaths += client.died
        if client.died:
            stage.kill("w", client)
            await trio.sleep(0.1)
            assert under_way[0] == 0
            stage.start(app=app)
            stage.feed()
        await stage.counted()

    for calls in range(5, 100, 6):
        play(one, seed=calls)
    assert deaths > 5


def slow_restores(monkeypatch: pytest.MonkeyPatch, begins: list[tuple[TopicPartition, int]]) -> None:
    """A changelog is read ten records a second, and flushed each ten; where each reader begins is noted."""
    monkeypatch.setattr(restoring, "FLUSH_RECORDS", 10)
    poll, seek = WorldConsumer.poll, WorldConsumer.seek

    async def slowly(self: Any, most: int, *, max_wait_ms: float) -> Any:
        if self.member is None:
            await trio.sleep(1)
            most = 10
        return await poll(self, most, max_wait_ms=max_wait_ms)

    def noting(self: Any, topic: str, partition: int, offset: int) -> None:
        seek(self, topic, partition, offset)
        if self.member is None:
            begins.append((TopicPartition(topic, partition), offset))

    monkeypatch.setattr(WorldConsumer, "poll", slowly)
    monkeypatch.setattr(WorldConsumer, "seek", noting)


async def _many(stage: Stage, name: str = "first") -> None:
    """Changelogs of more than a hundred records, whose worker is gone."""
    stage.start(name)
    for _ in range(50):
        stage.feed(6)
        await stage.counted()
    stage.scopes[name].cancel()
    await stage.until(lambda: not stage.group.members)


def test_10_12_a_restore_that_is_interrupted_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebalance comes each two seconds, and a restore takes more than ten."""
    begins: list[tuple[TopicPartition, int]] = []

    async def one(stage: Stage) -> None:
        await _many(stage)
        slow_restores(monkeypatch, begins)
        stage.start("second")
        shakes = 0
        while len(stage.workers["second"].tasks) < PARTITIONS:
            assert shakes < 60, begins
            await trio.sleep(2)
            stage.group.shake()
            shakes += 1
        assert shakes > 3
        stage.feed()
        await stage.counted()

    play(one)
    for partition in range(PARTITIONS):
        places = [at for key, at in begins if key.partition == partition]
        assert places == sorted(places) and places[-1] > 0, places


def test_11_partitions_are_assigned_while_others_restore_and_none_stays_paused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def one(stage: Stage) -> None:
        await _many(stage)
        slow_restores(monkeypatch, [])
        stage.start("a")
        await trio.sleep(3)
        other = stage.start("b")
        await trio.sleep(3)
        stage.kill("b", other)
        await stage.until(lambda: len(stage.workers["a"].tasks) == PARTITIONS)
        await trio.sleep(1)
        assert stage.workers["a"]._consumer.paused == frozenset()
        stage.feed()
        await stage.counted()

    play(one)


def test_13_a_worker_that_slept_beyond_its_session_commits_nothing_more() -> None:
    async def one(stage: Stage) -> None:
        first = stage.start("first")
        stage.feed()
        await stage.counted()
        first.awake = trio.Event()
        stage.feed()
        await trio.sleep(1)
        stage.start("second")
        await stage.counted()
        before = stage.log.counts["committed"]
        first.awake.set()
        for member in first.joined:
            await stage.group.tell_the_lost(member)
        await trio.sleep(5)
        stage.feed()
        await stage.counted()
        assert stage.log.counts["committed"] > before

    play(one)


def test_17_a_worker_of_another_topology_is_refused_and_the_others_go_on() -> None:
    async def one(stage: Stage) -> None:
        stage.start("old")
        stage.feed()
        await stage.counted()
        stage.start("new", counting(changed=True))
        await stage.until(lambda: "new" in stage.ended)
        assert "give the changed app a new name" in _text(stage.ended["new"])
        stage.feed()
        await stage.counted()
        assert "old" not in stage.ended

    play(one)


def test_18_a_worker_that_is_stopped_leaves_and_another_has_its_tasks_within_a_second() -> None:
    async def one(stage: Stage) -> None:
        stage.start("a")
        stage.feed()
        await stage.counted()
        stage.start("b")
        await stage.until(lambda: len(stage.workers["b"].tasks) == 1)
        stage.feed()
        await stage.counted()
        stage.workers["a"].stop()
        stopped = trio.current_time()
        await stage.until(lambda: len(stage.workers["b"].tasks) == PARTITIONS)
        assert trio.current_time() - stopped < 2
        stage.feed()
        await stage.counted()

    play(one)


def standing_by(stage: Stage, *names: str) -> int:
    """How many tasks have a copy that has reached the end of its changelog."""
    ends = {p: len(each) for p, each in enumerate(stage.log.topics["app-counts-changelog"])}
    found = 0
    for name in names:
        copies = stage.workers[name]._standbys
        found += sum(copies.reached[place] == ends[place[1]] for place in copies.places)
    return found


def rows_of(task: Any) -> dict[str, int]:
    return dict(task.store("counts").scan())


@pytest.mark.parametrize("how", ["killed", "stopped"])
@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_scenarios_18_and_20_a_standby_takes_over_with_the_state_of_the_old_owner(
    how: str, guarantee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standby reads the changelog from where its copy is, next to the end, and not from the start."""
    begins: list[tuple[TopicPartition, int]] = []

    async def one(stage: Stage) -> None:
        apps = [counting(guarantee, standbys=1) for _ in range(2)]
        client = stage.start("a", apps[0])
        stage.start("b", apps[1])
        for _ in range(30):
            stage.feed(6)
            await stage.counted(once=guarantee == "exactly_once")
        await stage.until(lambda: standing_by(stage, "a", "b") == PARTITIONS)
        old = {task.partition: rows_of(task) for task in stage.workers["a"].tasks}
        assert 1 <= len(old) <= 2 and len(stage.workers["b"].tasks) == PARTITIONS - len(old)
        ends = {p: len(each) for p, each in enumerate(stage.log.topics["app-counts-changelog"])}
        slow_restores(monkeypatch, begins)
        ended = trio.current_time()
        if how == "killed":
            stage.kill("a", client)
        else:
            stage.workers["a"].stop()
        await stage.until(lambda: len(stage.workers["b"].tasks) == PARTITIONS)
        if how == "stopped":
            assert trio.current_time() - ended < 2
        for task in stage.workers["b"].tasks:
            if task.partition in old:
                assert rows_of(task) == old[task.partition]
        for key, at in begins:
            assert at >= ends[key.partition] - 1, (begins, ends)  # a marker may be left
        assert stage.workers["b"]._standbys.places == frozenset()
        stage.feed()
        await stage.counted(once=guarantee == "exactly_once")

    play(one)


def test_scenario_20_one_that_comes_without_state_warms_up_while_the_task_runs_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begins: list[tuple[TopicPartition, int]] = []

    async def one(stage: Stage) -> None:
        stage.start("a", counting(standbys=1))
        for _ in range(30):
            stage.feed(6)
            await stage.counted()
        monkeypatch.setattr(assign, "NEAR", 20)
        monkeypatch.setattr(standbys, "NEAR", 20)
        slow_restores(monkeypatch, begins)
        stage.start("b", counting(standbys=1))
        await stage.until(lambda: "b" in stage.workers and len(stage.group.members) == 2)
        await stage.until(lambda: bool(stage.workers["b"]._standbys.places))
        await stage.until(lambda: len(stage.workers["a"].tasks) == PARTITIONS)
        assert not stage.workers["b"].tasks
        stage.feed()
        await stage.counted()
        begins.clear()
        await stage.until(lambda: len(stage.workers["b"].tasks) == 1)
        assert begins == [] or min(at for _, at in begins) > 30, begins
        assert len(stage.workers["a"].seats) == PARTITIONS - 1
        stage.feed()
        await stage.counted()

    play(one)


def test_scenario_20_copies_forget_windows_that_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their owners forget them without a word in the changelog."""

    async def one(stage: Stage) -> None:
        def app() -> rs.App:
            made = rs.App("app", guarantee="exactly_once", idle_ms=None, standbys=1)
            windows = made.stream("in", value=rs.TEXT).window(rs.tumbling(size_s=1))
            windows.count("windows").final().to("out", value=rs.JSON)
            return made

        stage.start("a", app())
        stage.start("b", app())
        await stage.until(lambda: all(len(each.tasks) for each in stage.workers.values()))
        for number in range(400):
            for partition in range(PARTITIONS):
                entry = Entry(b"k", b"x", 1_000 * number, (), COMMITTED)
                stage.log.append(TopicPartition("in", partition), entry)
            await trio.sleep(0.5)
        await trio.sleep(2 * standbys.FORGET_SECONDS)
        copies = [c for each in stage.workers.values() for c in each._standbys._copies.values()]
        assert len(copies) == PARTITIONS
        for copy in copies:
            assert 1 <= len(list(copy.database.scan("windows"))) < 5

    play(one)


def test_25_a_restore_waits_for_the_open_transaction_of_one_that_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its changes are in the changelog, and are not taken: they were never committed."""

    async def one(stage: Stage) -> None:
        client = stage.start("first")
        stage.feed()
        await stage.counted()
        send_offsets = WorldProducer.send_offsets

        async def die(self: Any, *arguments: Any) -> None:
            if self._client is client:
                stage.kill("first", client)
            await send_offsets(self, *arguments)

        monkeypatch.setattr(WorldProducer, "send_offsets", die)
        stage.feed()
        await stage.until(lambda: client.is_dead)
        entries = [each for partition in stage.log.topics["app-counts-changelog"] for each in partition]
        assert any(each.state == OPEN for each in entries)
        began = trio.current_time()
        stage.start("second")
        await stage.counted()
        assert trio.current_time() - began > TRANSACTION_SECONDS_MAX / 2
        assert stage.log.counts["timed out"] == 1

    play(one)


def test_41_records_of_a_key_are_on_one_task_in_the_order_of_where_they_came_from() -> None:
    async def one(stage: Stage) -> None:
        app = rs.App("app", idle_ms=None)
        app.stream("in", value=rs.JSON).key_by(lambda value: value[0]).through("keyed").to(
            "out", value=rs.JSON
        )
        stage.start(app=app)
        stage.start("other", app=app)
        await stage.until(lambda: all(len(each.tasks) for each in stage.workers.values()))
        await trio.sleep(2)
        rng = random.Random(3)
        for number in range(600):
            partition = rng.randrange(PARTITIONS)
            value = rs.JSON.encode([rng.choice("abcdef"), partition, number])
            stage.log.append(TopicPartition("in", partition), Entry(None, value, 1, (), COMMITTED))
        places: dict[str, dict[int, list[list[Any]]]] = {}

        def read() -> int:
            places.clear()
            for partition in range(PARTITIONS):
                for _, entry in stage.log.read(TopicPartition("out", partition), 0, committed=True):
                    value = rs.JSON.decode(entry.value or b"")
                    places.setdefault(value[0], {}).setdefault(partition, []).append(value)
            return sum(len(values) for each in places.values() for values in each.values())

        await stage.until(lambda: read() >= 600)
        for key, by_partition in places.items():
            ((_, values),) = by_partition.items()
            for origin in range(PARTITIONS):
                numbers = [number for _, partition, number in values if partition == origin]
                assert numbers == sorted(numbers), (key, origin)

    play(one)


def _text(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return " ".join(map(_text, error.exceptions))
    return str(error)
