"""Consume, transform, produce while brokers and workers die: each input has one output.

On three brokers of raftlog's own: the faults are `raftlog.testing`'s.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

import raftlog
from raftlog import Client
from raftlog.testing import EmbeddedCluster
from tests import secured
from tests.client.test_client_failover import isolate_the_leader, kill_the_leader, pause_the_leader

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif("RAFTLOG_TEST_BOOTSTRAP" in os.environ, reason="faults are for brokers of our own"),
]

COPIER = Path(__file__).parent / "sample" / "copier.py"
COUNT = 1200


async def kill_the_coordinator(cluster: EmbeddedCluster) -> None:
    """The leader of the metadata, which is the coordinator of groups and transactions."""
    async with secured.open_client(cluster.bootstrap) as client:
        number = (await client.admin.describe_cluster()).controller
    assert number is not None
    await trio.to_thread.run_sync(lambda: cluster.faults.kill(number))
    await trio.sleep(2)
    await trio.to_thread.run_sync(lambda: cluster.faults.restart(number))


async def feed(client: Client) -> None:
    """The inputs, in transactions too, of which some are aborted."""
    await client.admin.create_topic("t", partitions=4, replication_factor=3)
    await client.admin.create_topic("out", partitions=2, replication_factor=3)
    async with client.producer(transactional_id="feeder") as producer:
        for first in range(0, COUNT, 100):
            async with producer.transaction():
                for number in range(first, first + 100):
                    await producer.send_soon("t", b"%d" % number, partition=number % 4)
            with pytest.raises(ZeroDivisionError):
                async with producer.transaction():
                    for number in range(4):
                        await producer.send_soon("t", b"never", partition=number)
                    raise ZeroDivisionError


async def outputs(client: Client, count: int, linger_ms: int = 0) -> list[bytes]:
    """What is read of the outputs until there are so many, and for so much longer."""
    values: list[bytes] = []
    async with client.consumer(
        "out", auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        while len(values) < count:
            values += [record.value for record in await consumer.poll(max_wait_ms=20)]
        if linger_ms:
            values += [record.value for record in await consumer.poll(COUNT, max_wait_ms=linger_ms)]
    return values


def expected() -> list[bytes]:
    return sorted(b"%d" % number for number in range(COUNT))


async def copy(client: Client, transactional_id: str, rng: random.Random) -> None:
    """A worker that gives up some batches in the middle."""
    async with (
        client.consumer(
            "t", group="g", auto_offset_reset="earliest", enable_auto_commit=False,
            isolation_level="read_committed", session_timeout_ms=6000, heartbeat_interval_ms=500,
        ) as consumer,
        client.producer(transactional_id=transactional_id) as producer,
    ):  # fmt: skip
        async for batch in raftlog.exactly_once(consumer, producer, max_records=5, max_wait_ms=100):
            try:
                async with batch as records:
                    for record in records:
                        await producer.send_soon("out", record.value, key=record.value)
                    await trio.sleep(0.02)
                    if rng.random() < 0.1:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass


@pytest.mark.parametrize(
    "fault", [kill_the_leader, kill_the_coordinator, pause_the_leader, isolate_the_leader]
)
async def test_each_input_has_one_output_when_a_broker_fails(
    fault: Callable[[EmbeddedCluster], Awaitable[None]],
) -> None:
    async with secured.embedded(3) as cluster:
        with trio.fail_after(120):
            async with secured.open_client(cluster.bootstrap) as client:
                await feed(client)
                async with trio.open_nursery() as nursery:
                    for number in range(2):
                        nursery.start_soon(copy, client, f"worker-{number}", random.Random(number))
                    with trio.fail_after(60):
                        assert len(await outputs(client, 20)) < COUNT // 2, "it must fail in the middle"
                    await fault(cluster)
                    values = await outputs(client, COUNT, linger_ms=1000)
                    nursery.cancel_scope.cancel()
    assert sorted(values) == expected()


async def test_each_input_has_one_output_when_workers_are_killed(tmp_path: Path) -> None:
    rng = random.Random(3)
    async with secured.embedded(3) as cluster:
        properties = secured.properties_file(cluster.bootstrap, tmp_path)
        arguments = [str(properties), "t", "out", "g"]

        def start(number: int) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, str(COPIER), *arguments, f"worker-{number}"])

        with trio.fail_after(150):
            async with secured.open_client(cluster.bootstrap) as client:
                await feed(client)
                workers = [start(number) for number in range(2)]
                try:
                    for kill in range(6):
                        done = await outputs(client, 50 * (kill + 1))
                        assert len(done) < COUNT - 100, "they must be killed in the middle"
                        await trio.sleep(rng.random() / 5)
                        workers[kill % 2].kill()
                        workers[kill % 2].wait()
                        workers[kill % 2] = start(kill % 2)
                    values = await outputs(client, COUNT, linger_ms=1000)
                finally:
                    for worker in workers:
                        worker.kill()
                        worker.wait()
    assert sorted(values) == expected()
