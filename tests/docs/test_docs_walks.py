"""The walks of docs/architecture.md are what real brokers do."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

import pytest
import trio

from raftlog.storage.folder_names import short_name
from raftlog.testing.cluster import EmbeddedCluster, embedded_cluster
from tests.docs.walks import Trace, walks
from tests.waiting import PATIENCE_S

PRODUCE: Final = "A Produce batch, on the leader"
FETCH: Final = "A Fetch"
ELECTION: Final = "An election"
COMMIT: Final = "An OffsetCommit, on the coordinator"

STEPS_MAX: Final = 20
FILES_MAX: Final = 12
"""Of the walk of a batch: where something is decided or done."""
PASSED_MAX: Final = 44
PASSED_FILES_MAX: Final = 18
"""What a batch and its answer pass in all, with those that only hand on. Only ever to be lowered."""

DISK_AND_LOG: Final = frozenset(
    (
        "storage/wal.py: Wal.add_entry",
        "storage/wal.py: Wal.write",
        "storage/wal.py: Wal.sync",
        "storage/committed.py: CommittedLog.append",
        "partition/partition.py: Partition.apply",
    )
)
TO_THE_SOCKET: Final = "net/stream.py: PlainStream.send"
"""Where the ways of a batch end: it is pending, written, durable, in its segment, applied, answered."""
WAITS: Final = "broker/handlers/fetch.py: _wait"
BEGINS: Final = frozenset(
    (
        "broker/connection.py: Connection._serve",
        "raft/runner.py: Runner._turn",
        "storage/store.py: WriteTicket.sync",
    )
)


def files(steps: Iterable[str]) -> set[str]:
    return {step.partition(":")[0] for step in steps}


def passed(trace: Trace, thread: str) -> set[str]:
    """All functions on the ways of a batch and its answer, from where its bytes came in or a turn began."""
    found: set[str] = set()
    for last, stacks in trace.stacks.items():
        for who, stack in stacks:
            is_answer = last != TO_THE_SOCKET or "broker/outbox.py: Outbox.complete" in stack
            if who not in (thread, "raftlog-sync") or not is_answer:
                continue
            first = next((at for at, step in enumerate(stack) if step in BEGINS), 0)
            found.update(stack[first:])
    return found


def called(trace: Trace, *threads: str) -> set[str]:
    return set().union(*(trace.calls.get(thread, set()) for thread in threads))


def missing(walk: str, calls: set[str]) -> list[str]:
    return [step for step in walks()[walk] if step not in calls]


def test_the_walk_of_a_batch_is_short() -> None:
    steps = walks()[PRODUCE]
    assert len(steps) <= STEPS_MAX
    assert len(files(steps)) <= FILES_MAX


@pytest.mark.slow
async def test_brokers_take_every_step_of_the_walks() -> None:
    with Trace().following() as trace:
        async with embedded_cluster(3) as cluster:
            await trio.to_thread.run_sync(cluster.create_topic, "walked")
            await walk_with_a_client(cluster, trace)
            leader = cluster.leader("walked")
            trace.begin()
            await trio.to_thread.run_sync(cluster.faults.kill, leader)
            await trio.to_thread.run_sync(cluster.leader, "walked")
            await produce_one(cluster)
            trace.end()
            assert missing(ELECTION, called(trace, *trace.calls)) == []


async def produce_one(cluster: EmbeddedCluster) -> None:
    async with cluster.client() as client, client.producer() as producer:
        await producer.send("walked", b"value")


async def walk_with_a_client(cluster: EmbeddedCluster, trace: Trace) -> None:
    leader = f"raftlog-{cluster.leader('walked').id}"
    async with cluster.client() as client, client.producer() as producer:
        await producer.send("walked", b"the first looks up what it needs")

        trace.begin(DISK_AND_LOG | {TO_THE_SOCKET})
        await producer.send("walked", b"value")
        trace.end()
        assert missing(PRODUCE, called(trace, leader, "raftlog-sync")) == []
        ways = passed(trace, leader)
        assert len(ways) <= PASSED_MAX, sorted(ways)
        assert len(files(ways)) <= PASSED_FILES_MAX, sorted(files(ways))

        trace.begin()
        async with client.consumer("walked", group="walkers", auto_offset_reset="earliest") as consumer:
            with trio.fail_after(PATIENCE_S):
                while WAITS not in called(trace, leader):
                    await consumer.poll(2, max_wait_ms=50)
                await producer.send("walked", b"while a fetch waits")
                while missing(FETCH, called(trace, leader)):
                    await consumer.poll(1, max_wait_ms=50)
            trace.end()
            assert missing(FETCH, called(trace, leader)) == []

            trace.begin()
            await consumer.commit()
            trace.end()
            assert missing(COMMIT, called(trace, *trace.calls)) == []


def test_what_is_called_is_seen() -> None:
    name = "storage/folder_names.py: short_name"
    trace = Trace()
    with trace.following():
        for wanted in (False, True):
            trace.begin(frozenset({name}))
            trace.is_on = wanted
            thread = threading.Thread(target=short_name, args=("orders-0",), name="calling")
            thread.start()
            thread.join()
            trace.end()
            assert called(trace, "calling") == ({name} if wanted else set())
    assert trace.stacks == {name: {("calling", (name,))}}
    assert missing(PRODUCE, called(trace, "calling")) == walks()[PRODUCE]
