"""Workers on embedded brokers: what the driver cannot show. The numbers are those of the scenarios."""

from __future__ import annotations

import os
from collections import Counter

import pytest
import trio

import raftlog
from raftlog import streams as rs
from raftlog.client.fetcher import Fetcher
from raftlog.client.nursery import background
from raftlog.streams import assign, standbys
from raftlog.streams.assign import Place
from raftlog.streams.outputs import Restore
from raftlog.streams.restorer import Restorer
from raftlog.streams.task import Task
from raftlog.streams.worker import Worker
from tests.streams.stage import PATIENCE_S, Stage, until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
async def test_words_are_counted_through_restarts_with_and_without_state(stage: Stage, guarantee: str):
    """4, 18, 21: a worker that is stopped commits and leaves; the next one goes on, whatever it has on disk.
    With exactly once the changelog ends with control batches."""
    for name in ("a", "a", "b"):
        await stage.feed(*["to be or not to be"] * 100)
        async with stage.worker(stage.counting(guarantee), name):
            await stage.until_counted()


async def test_two_workers_share_the_work_and_take_over(stage: Stage):
    """10, 18: tasks are restored while others run, and nothing is counted twice."""
    await stage.feed(*["one two three four"] * 50)
    app = stage.counting("exactly_once")
    async with stage.worker(app, "a") as first:
        await stage.until_counted()
        async with stage.worker(stage.counting("exactly_once"), "b"):
            await stage.feed(*["one two three four five"] * 50)
            await stage.until_counted()
            first.cancel()
            await stage.feed(*["five six"] * 50)
            await stage.until_counted()


async def test_a_leader_and_the_coordinator_are_cut_off_while_words_are_counted(stage: Stage):
    """14: each word counts once, whichever broker is away."""
    async with stage.worker(stage.counting("exactly_once"), "a"):
        for topic in ("in", "counts-changelog"):
            await stage.feed(*["to be or not to be"] * 50)
            await stage.until_counted()
            stage.cluster.faults.isolate_leader(f"{stage.name}-{topic}", 0)
            await trio.sleep(1)
            stage.cluster.faults.heal()
        await stage.feed(*["to be or not to be"] * 50)
        await stage.until_counted()


async def test_a_restore_waits_for_an_open_transaction_of_one_that_died(stage: Stage):
    """25: what it has written into the changelog was never committed, and is not taken."""
    await stage.feed("to be or not to be")
    async with stage.worker(stage.counting("exactly_once"), "a"):
        await stage.until_counted()
    async with stage.client.producer(transactional_id=stage.name, transaction_timeout_ms=2_000) as dead:
        with pytest.raises(raftlog.ClientError):
            async with dead.transaction():
                for partition in range(2):
                    await dead.send(f"{stage.name}-counts-changelog", b"999", key=b"be", partition=partition)
                async with stage.worker(stage.counting("exactly_once"), "b"):
                    await stage.feed("to be or not to be")
                    await stage.until_counted()


async def test_a_worker_of_another_topology_is_refused_and_the_others_go_on(stage: Stage):
    """17."""
    await stage.feed("to be or not to be")
    async with stage.worker(stage.counting("exactly_once"), "a"):
        await stage.until_counted()
        changed = rs.App(stage.name, guarantee="exactly_once")
        words = changed.stream(f"{stage.name}-in", value=rs.TEXT).flat_map(str.split).filter(bool)
        words.key_by(lambda word: word).count("counts").changes().to(f"{stage.name}-out", value=rs.JSON)
        with pytest.raises(rs.StateError, match="give the changed app a new name"):
            await rs.run(changed, stage.cluster.bootstrap, state=str(stage.folder / "b"), name="b")
        await stage.feed("to be or not to be")
        await stage.until_counted()


async def test_a_changelog_s_leader_is_cut_off_while_it_is_restored(stage: Stage):
    """15: the restore goes on from where it was."""
    words = " ".join(f"w{number}" for number in range(400))
    await stage.feed(*[words] * 5)
    async with stage.worker(stage.counting("exactly_once"), "a"):
        await stage.until_counted()
    stage.cluster.faults.isolate_leader(f"{stage.name}-counts-changelog", 0)
    async with stage.worker(stage.counting("exactly_once"), "b"):
        await trio.sleep(1)
        stage.cluster.faults.heal()
        await stage.feed(words)
        await stage.until_counted()


@pytest.mark.parametrize("repartitioned", [True, False])
async def test_a_worker_ends_when_its_input_grows_and_goes_on_where_no_key_has_moved(
    stage: Stage, repartitioned: bool
):
    """40."""

    def app() -> rs.App:
        if repartitioned:
            return stage.counting()
        made = rs.App(stage.name)
        made.stream(f"{stage.name}-in", value=rs.TEXT).count("counts").changes().to(
            f"{stage.name}-out", value=rs.JSON
        )
        return made

    topic = f"{stage.name}-in"
    async with stage.cluster.client(metadata_max_age_ms=500) as client:

        async def run() -> None:
            with trio.fail_after(PATIENCE_S):
                await rs.run(app(), client, state=str(stage.folder))

        async def grow() -> None:
            if repartitioned:
                await stage.feed("one two three")
                await stage.until_counted()
            else:
                await until_committed(stage)
            await client.admin.create_partitions(topic, 4)

        with pytest.raises(rs.TopologyError, match="more partitions than when this worker started"):
            async with background() as nursery:
                nursery.start_soon(grow)
                await run()
        if repartitioned:
            async with client.producer() as producer:
                for partition in range(4):
                    await producer.send(topic, b"one four", partition=partition)
                    stage.sent.update(["one", "four"])
            async with stage.worker(app()):
                await stage.until_counted()
        else:
            with pytest.raises(rs.TopologyError, match="keys have moved"):
                await run()


async def until_committed(stage: Stage) -> None:
    """A record is fed, and the app's group has committed it."""
    async with stage.client.producer() as producer:
        await producer.send(f"{stage.name}-in", b"x", key=b"k", partition=0)

    async def done() -> bool:
        return any(at.offset for at in (await stage.client.admin.group_offsets(stage.name)).values())

    await until(done, lambda: "nothing is committed")


async def test_of_two_workers_with_one_name_the_first_is_told(stage: Stage):
    """16."""
    await stage.feed("a")
    with pytest.raises(BaseExceptionGroup) as failed:
        async with stage.worker(stage.counting("exactly_once"), "same"):
            await stage.until_counted()
            stage.folder = stage.folder / "elsewhere"
            async with stage.worker(stage.counting("exactly_once"), "same"):
                for _ in range(100):
                    await stage.feed("a")
                    await trio.sleep(0.1)
    assert failed.group_contains(rs.StreamsError, match="another worker called 'same'")


async def test_a_poison_record_ends_the_worker_with_what_was_before_committed(stage: Stage):
    """42."""
    app = rs.App(stage.name)
    app.stream(f"{stage.name}-in", value=rs.JSON).map(lambda value: 1 / value).to(f"{stage.name}-out")
    async with stage.client.producer() as producer:
        for value in (b"1", b"2", b"0", b"4"):
            await producer.send(f"{stage.name}-in", value, partition=0)
    for _ in range(2):
        with pytest.raises(rs.RecordFailed) as failed:
            await rs.run(app, stage.cluster.bootstrap, state=str(stage.folder))
        assert failed.value.offset == 2
    committed = await stage.client.admin.group_offsets(stage.name)
    assert committed[raftlog.TopicPartition(f"{stage.name}-in", 0)].offset == 2


async def test_topics_that_are_missing_or_do_not_fit_are_told_before_anything_is_read(stage: Stage):
    """39."""
    app = rs.App(stage.name)
    app.stream("nowhere").to(f"{stage.name}-out")
    with pytest.raises(rs.TopologyError, match="raftlog topic create nowhere"):
        await rs.run(app, stage.cluster.bootstrap, state=str(stage.folder))
    three = stage.topic("three", partitions=3)
    app = rs.App(stage.name)
    app.stream(f"{stage.name}-in").join(app.table(three, name="t"), lambda a, b: a).to(f"{stage.name}-out")
    with pytest.raises(rs.TopologyError, match="--partitions 3"):
        await rs.run(app, stage.cluster.bootstrap, state=str(stage.folder))


async def test_a_folder_is_used_by_one_worker(stage: Stage):
    async with stage.worker(stage.counting(), "a"):
        await stage.feed("a b c d e f g")
        await stage.until_counted()
        from raftlog.streams.folders import Folder

        with pytest.raises(rs.StateError, match="another worker"):
            Folder(os.path.join(stage.folder, "a", stage.name, "a", "0-0"))


async def test_a_source_that_lost_what_was_not_read_yet_is_told_or_skipped(stage: Stage):
    """26."""
    await stage.feed(*["a"] * 10)
    async with stage.worker(stage.counting(), "a"):
        await stage.until_counted()
    await stage.feed(*["a"] * 10)
    ends = await stage.client.admin.end_offsets(f"{stage.name}-in")
    await stage.client.admin.delete_records(ends)
    with pytest.raises(rs.StateError, match="records are lost to it"):
        await rs.run(stage.counting(), stage.cluster.bootstrap, state=str(stage.folder / "a"))
    stage.sent = Counter({"a": 10})
    await stage.feed("a")
    async with stage.worker(stage.counting(), "a", on_source_lost="skip"):
        await stage.until_counted()


async def test_a_worker_that_falls_behind_its_source_s_retention_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    """26, while it runs. No fetch gets through until the records are gone."""
    source, pump, is_cut = stage.topic("one", partitions=1), Fetcher.pump, False
    app = rs.App(stage.name, guarantee="exactly_once")
    app.stream(source, value=rs.TEXT).count("counts")

    async def is_read() -> bool:
        return any(task.inputs[source].position >= 1 for task in worker.tasks)

    async def is_asleep() -> bool:
        (partition,) = (p for k, p in worker._consumer._fetcher.partitions.items() if k.topic == source)
        return not partition.fetching

    monkeypatch.setattr(Fetcher, "pump", lambda self: None if is_cut else pump(self))
    with pytest.RaisesGroup(pytest.RaisesExc(rs.StateError, match="begins at 8, and the app was at ")):
        async with stage.seen(app, "a") as worker, stage.client.producer() as producer:
            await producer.send(source, b"x", key=b"a")
            await until(is_read, lambda: "nothing is read")
            is_cut = True
            await until(is_asleep, lambda: "a fetch is under way")
            for _ in range(10):
                await producer.send(source, b"x", key=b"a")
            await stage.client.admin.delete_records({raftlog.TopicPartition(source, 0): 8})
            is_cut = False
            worker._consumer._fetcher.wake()
            await trio.sleep(PATIENCE_S)


async def test_a_table_is_loaded_before_the_stream_is_joined(stage: Stage):
    """46."""
    rows = stage.topic("rows", cleanup_policy="compact")
    app = rs.App(stage.name)
    table = app.table(rows, name="rows", value=rs.TEXT)
    app.stream(f"{stage.name}-in", value=rs.TEXT).join(table, lambda a, b: f"{a}-{b}").to(
        f"{stage.name}-out", value=rs.TEXT
    )
    async with stage.client.producer() as producer:
        for key in (b"1", b"2", b"3"):
            await producer.send(f"{stage.name}-in", b"in", key=key, timestamp_ms=1)
        for key in (b"1", b"2", b"3"):
            await producer.send(rows, b"row" + key, key=key)
    async with (
        stage.worker(app),
        stage.client.consumer(f"{stage.name}-out", auto_offset_reset="earliest") as consumer,
    ):
        found: set[bytes] = set()
        with trio.fail_after(PATIENCE_S):
            while len(found) < 3:
                found |= {record.value for record in await consumer.poll(max_wait_ms=100)}
    assert found == {b"in-row1", b"in-row2", b"in-row3"}


async def test_scenario_19_a_static_member_restarts_and_nobody_else_s_task_moves(stage: Stage):
    """It has its own tasks again, too, and the state that it had."""
    three = stage.topic("three", partitions=3)

    def app() -> rs.App:
        made = rs.App(stage.name)
        made.stream(three, value=rs.TEXT).count("counts").changes().to(f"{stage.name}-out", value=rs.JSON)
        return made

    async def feed() -> None:
        async with stage.client.producer() as producer:
            for partition in range(3):
                await producer.send(three, b"x", key=b"k%d" % partition, partition=partition)
                stage.sent[f"k{partition}"] += 1
        await stage.until_counted()

    async with stage.seen(app(), "a", instance="a") as a, stage.seen(app(), "b", instance="b") as b:
        async with stage.seen(app(), "c", instance="c") as c:

            async def shared_out() -> bool:
                return [len(each.tasks) for each in (a, b, c)] == [1, 1, 1]

            await until(shared_out, lambda: f"{a} {b} {c}")
            await feed()
            places = set(c.seats)
        others = {**a.seats, **b.seats}
        async with stage.seen(app(), "c", instance="c") as c:

            async def is_back() -> bool:
                return len(c.tasks) == 1

            await until(is_back, lambda: f"{c}")
            await feed()
            assert set(c.seats) == places
            assert {**a.seats, **b.seats} == others  # the very same: none was closed and opened again


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
async def test_scenarios_18_and_20_a_standby_takes_over_without_a_restore(
    stage: Stage, how: str, monkeypatch: pytest.MonkeyPatch
):
    """Its state equals the old owner's, and it has read nothing that it had."""
    begins: dict[tuple[str, int], int] = {}
    restore_one = Restorer.restore

    async def noting(self: Restorer, task: Task, restore: Restore) -> None:
        begins[restore.topic, task.partition] = restore.position
        await restore_one(self, task, restore)

    words = " ".join(f"w{number}" for number in range(300))
    async with stage.seen(stage.counting("exactly_once", standbys=1), "b") as b:
        async with stage.seen(stage.counting("exactly_once", standbys=1), "a") as a:

            def counting_tasks(worker: Worker) -> dict[int, dict[str, int]]:
                found = [task for task in worker.tasks if task.part.stores]
                return {task.partition: dict(task.store("counts").scan()) for task in found}

            async def shared_out() -> bool:
                return bool(counting_tasks(a)) and len(a.tasks) + len(b.tasks) == 4

            await until(shared_out, lambda: f"{a} {b}")
            await stage.feed(*[words] * 3)
            await stage.until_counted()
            ends = await stage.client.admin.end_offsets(f"{stage.name}-counts-changelog")

            async def near() -> bool:
                copies = (a._standbys.reached, b._standbys.reached)
                return all(
                    max(each.get((1, key.partition), 0) for each in copies) >= end - 1
                    for key, end in ends.items()
                )

            await until(near, lambda: f"{a._standbys} {b._standbys} {ends}")
            old = counting_tasks(a)
            monkeypatch.setattr(Restorer, "restore", noting)
            if how == "cancelled":
                a._nursery.cancel_scope.cancel()

        async def has_all() -> bool:
            return len(b.tasks) == 4

        await until(has_all, lambda: f"{b}")
        for partition, rows in old.items():
            assert counting_tasks(b)[partition] == rows
            key = raftlog.TopicPartition(f"{stage.name}-counts-changelog", partition)
            assert begins[key] >= ends[key] - 1, (begins, ends)
        await stage.feed(words)
        await stage.until_counted()


async def test_scenario_20_a_worker_without_state_warms_up_and_then_has_its_share(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    """It asks the group for another sharing when it is near."""
    warmed: set[tuple[int, int]] = set()
    want = standbys.Standbys.want

    def noting(self: standbys.Standbys, places: frozenset[Place], warming: frozenset[Place]) -> None:
        warmed.update(warming)
        want(self, places, warming)

    monkeypatch.setattr(standbys.Standbys, "want", noting)
    words = " ".join(f"w{number}" for number in range(200))
    async with stage.seen(stage.counting("exactly_once", standbys=1), "a") as a:
        await stage.feed(words)
        await stage.until_counted()
        monkeypatch.setattr(assign, "NEAR", 5)
        monkeypatch.setattr(standbys, "NEAR", 5)
        async with stage.seen(stage.counting("exactly_once", standbys=1), "b") as b:

            async def has_its_share() -> bool:
                return len(a.tasks) == len(b.tasks) == 2 and bool(warmed & b.seats.keys())

            await until(has_its_share, lambda: f"{a} {b} {warmed}")
            await stage.feed(words)
            await stage.until_counted()
