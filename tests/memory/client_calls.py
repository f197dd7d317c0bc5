"""Every public call of the client, with what it does to a scripted cluster: for tests of what holds for all.

`CALLS` is complete: a test compares it with the classes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

import raftlog
from raftlog import Client, Consumer, Delivery, Producer, TopicPartition
from raftlog.records.record import NewRecord, encode_batch
from tests.memory.client_fakes import FakeCluster, FakeLog

KEY = TopicPartition("t", 0)
OLD = TopicPartition("old", 0)
FILLED = [b"0", b"1", b"2"]


class World:
    """A fake cluster with three records in "t", one in "old", and a client, a producer and a consumer that
    have asked for nothing yet."""

    def __init__(self, cluster: FakeCluster, client: Client, producer: Producer, consumer: Consumer) -> None:
        self.cluster = cluster
        self.client = client
        self.producer = producer
        self.consumer = consumer
        self.delivery: Delivery | None = None

    @property
    def written(self) -> int:
        """How often b"x", which the calls write, is in the log."""
        return self.cluster.logs[KEY].values.count(b"x")

    async def assigned(self) -> None:
        """Be a member that has the partition, at its start."""
        while KEY not in self.consumer.positions():
            await self.consumer.poll(0, max_wait_ms=10)

    async def handed_over(self) -> None:
        """Have a record on its way."""
        self.delivery = await self.producer.send_soon("t", b"x")


@asynccontextmanager
async def world(size: int = 1, **options: Any) -> AsyncIterator[World]:
    """Nothing may be left of it in the end but the fake cluster's own tasks."""
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery)
        cluster.brokers = cluster.alive = set(range(1, size + 1))
        cluster.topics["old"] = b"o" * 16
        cluster.logs[OLD] = FakeLog(leader=1)
        for key, values in ((KEY, FILLED), (OLD, [b"y"])):
            for value in values:
                cluster.logs[key].append(encode_batch([NewRecord(0, value=value)]))
        try:
            before = trio.lowlevel.current_statistics().tasks_living
            async with (
                raftlog.open_client("b1:9092", open_socket=cluster.open_socket, **options) as client,
                client.producer() as producer,
                client.consumer(
                    "t", group="g", auto_offset_reset="earliest", enable_auto_commit=False
                ) as consumer,
            ):
                yield World(cluster, client, producer, consumer)
            await trio.testing.wait_all_tasks_blocked()
            after = trio.lowlevel.current_statistics().tasks_living
            served = len(nursery.child_tasks)
            assert after <= before + served, "tasks are left"
        finally:
            nursery.cancel_scope.cancel()


async def still_works(w: World) -> None:
    """Everything that can be done can be done."""
    with trio.fail_after(100):
        sent = await w.producer.send("t", b"after")
        assert w.cluster.logs[KEY].values[sent.offset] == b"after"
        async for record in w.consumer:
            if record.value == b"after":
                break
        await w.consumer.commit()
        assert w.cluster.committed["t", 0] == sent.offset + 1
        assert "t" in await w.client.admin.list_topics()


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call, and what it changes: `effect` is `done` after it, and one of `cancelled` after one that was
    cancelled."""

    make: Callable[[World], Awaitable[Any]]
    first: Callable[[World], Awaitable[Any]] | None = None
    """What comes before."""
    effect: Callable[[World], Any] = lambda w: None
    done: Any = None
    cancelled: tuple[Any, ...] = (None,)
    reads: bool = False
    """It gives records."""
    seconds_max: float = 60
    """Its time-out, when nothing answers; inf if it has none."""


def _writes(make: Callable[[World], Awaitable[Any]], *cancelled: int, **more: Any) -> Call:
    return Call(make=make, effect=lambda w: w.written, done=1, cancelled=cancelled, **more)


def _commits(make: Callable[[World], Awaitable[Any]], **more: Any) -> Call:
    return Call(make=make, effect=lambda w: w.cluster.committed.get(KEY), done=0, cancelled=(None, 0), **more)


def _changes(make: Callable[[World], Awaitable[Any]], effect: Callable[[World], bool]) -> Call:
    """What may have been carried out when it was cancelled."""
    return Call(make=make, effect=effect, done=True, cancelled=(False, True))


DELIVERY_S = 120

CALLS: dict[str, Call] = {
    "Producer.send": _writes(lambda w: w.producer.send("t", b"x"), 0, 1, seconds_max=60 + DELIVERY_S),
    "Producer.send_soon": _writes(lambda w: w.producer.send_soon("t", b"x"), 0),
    "Producer.send_many_soon": _writes(lambda w: w.producer.send_many_soon("t", 0, [(None, b"x", 1)]), 0),
    "Producer.flush": _writes(
        lambda w: w.producer.flush(), 1, first=World.handed_over, seconds_max=DELIVERY_S
    ),
    "Producer.partitions": Call(make=lambda w: w.producer.partitions("t")),
    "Delivery.wait": _writes(
        lambda w: w.delivery.wait(),
        1,
        first=World.handed_over,
        seconds_max=DELIVERY_S,  # type: ignore[union-attr]
    ),
    "Delivery.__await__": _writes(
        lambda w: w.delivery,
        1,
        first=World.handed_over,
        seconds_max=DELIVERY_S,  # type: ignore[arg-type,return-value]
    ),
    "Consumer.__anext__": Call(make=lambda w: anext(w.consumer), reads=True, seconds_max=float("inf")),
    "Consumer.wait_assigned": Call(make=lambda w: w.consumer.wait_assigned()),
    "Client.ready": Call(make=lambda w: w.client.ready()),
    "Consumer.poll": Call(make=lambda w: w.consumer.poll(2), reads=True, seconds_max=1),
    "Consumer.poll, a member": Call(
        make=lambda w: w.consumer.poll(2), first=World.assigned, reads=True, seconds_max=1
    ),
    "Batches.__anext__": Call(
        make=lambda w: anext(w.consumer.batches(2)), reads=True, seconds_max=float("inf")
    ),
    "Consumer.position": Call(make=lambda w: w.consumer.position("t", 0), first=World.assigned),
    "Consumer.beginning_offsets": Call(make=lambda w: w.consumer.beginning_offsets(KEY)),
    "Consumer.end_offsets": Call(make=lambda w: w.consumer.end_offsets(KEY)),
    "Consumer.offsets_for_times": Call(make=lambda w: w.consumer.offsets_for_times({KEY: 5})),
    "Consumer.commit": _commits(lambda w: w.consumer.commit(), first=World.assigned),
    "Consumer.committed": Call(make=lambda w: w.consumer.committed(KEY)),
    "Admin.create_topic": _changes(
        lambda w: w.client.admin.create_topic("new", exist_ok=True), lambda w: "new" in w.cluster.topics
    ),
    "Admin.create_topics": _changes(
        lambda w: w.client.admin.create_topics([raftlog.NewTopic(name="new")]),
        lambda w: "new" in w.cluster.topics,
    ),
    "Admin.delete_topic": _changes(
        lambda w: w.client.admin.delete_topic("old"), lambda w: "old" not in w.cluster.topics
    ),
    "Admin.delete_topics": _changes(
        lambda w: w.client.admin.delete_topics(["old"]), lambda w: "old" not in w.cluster.topics
    ),
    "Admin.list_topics": Call(make=lambda w: w.client.admin.list_topics()),
    "Admin.describe_topic": Call(make=lambda w: w.client.admin.describe_topic("t")),
    "Admin.describe_topics": Call(make=lambda w: w.client.admin.describe_topics(["t"])),
    "Admin.create_partitions": _changes(
        lambda w: w.client.admin.create_partitions("old", 2), lambda w: ("old", 1) in w.cluster.logs
    ),
    "Admin.delete_records": _changes(
        lambda w: w.client.admin.delete_records({OLD: 1}), lambda w: w.cluster.logs[OLD].start == 1
    ),
    "Admin.list_offsets": Call(make=lambda w: w.client.admin.list_offsets({KEY: -1, OLD: -1})),
    "Admin.end_offsets": Call(make=lambda w: w.client.admin.end_offsets("old")),
    "Admin.beginning_offsets": Call(make=lambda w: w.client.admin.beginning_offsets("t")),
    "Admin.describe_configs": Call(make=lambda w: w.client.admin.describe_configs(topic="t")),
    "Admin.alter_configs": _changes(
        lambda w: w.client.admin.alter_configs({"retention.ms": "1"}, topic="t"),
        lambda w: bool(w.cluster.configs),
    ),
    "Admin.list_groups": Call(make=lambda w: w.client.admin.list_groups()),
    "Admin.describe_group": Call(make=lambda w: w.client.admin.describe_group("g")),
    "Admin.delete_group": _changes(
        lambda w: w.client.admin.delete_group("g"), lambda w: "g" not in w.cluster.groups
    ),
    "Admin.group_offsets": Call(make=lambda w: w.client.admin.group_offsets("g", [KEY])),
    "Admin.alter_group_offsets": _changes(
        lambda w: w.client.admin.alter_group_offsets("other", {OLD: 1}),
        lambda w: w.cluster.committed.get(OLD) == 1,
    ),
    "Admin.delete_group_offsets": Call(make=lambda w: w.client.admin.delete_group_offsets("other", [OLD])),
    "Admin.describe_cluster": Call(make=lambda w: w.client.admin.describe_cluster()),
    "Operations.has_controller": Call(make=lambda w: w.client.admin.operations.has_controller()),
    "Operations.metadata_leader": Call(make=lambda w: w.client.admin.operations.metadata_leader()),
    "Operations.quorum": Call(make=lambda w: w.client.admin.operations.quorum()),
    "Operations.reports": Call(make=lambda w: w.client.admin.operations.reports()),
    "Operations.disk": Call(make=lambda w: w.client.admin.operations.disk(1)),
    "Operations.brokers": Call(make=lambda w: w.client.admin.operations.brokers()),
    "Operations.move": _changes(
        lambda w: w.client.admin.operations.move({KEY: [1]}), lambda w: KEY in w.cluster.moved
    ),
    "Operations.moves": Call(make=lambda w: w.client.admin.operations.moves()),
    "Operations.sizes": Call(make=lambda w: w.client.admin.operations.sizes([KEY], 1)),
    "Operations.elect_leaders": Call(make=lambda w: w.client.admin.operations.elect_leaders()),
    "Operations.add_broker": _changes(
        lambda w: w.client.admin.operations.add_broker(9, "b9:9192"), lambda w: bool(w.cluster.configs)
    ),
    "Operations.drain_broker": _changes(
        lambda w: w.client.admin.operations.drain_broker(9), lambda w: bool(w.cluster.configs)
    ),
    "Operations.remove_broker": Call(make=lambda w: w.client.admin.operations.remove_broker(9)),
}
"""By the name of the method, and what else matters."""
