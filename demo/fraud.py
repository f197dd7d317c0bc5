"""The fraud example on three brokers, one of which is killed: its commands, as a user would start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import trio

import raftlog
from demo.real_log import DemoFailed
from examples.fraud import payments, running, warehouse
from raftlog.testing.processes import ClusterProcesses

T = TypeVar("T")

PAYMENTS = 2000
PATIENCE_S = 120
APP = Path(running.__file__).with_name("app.py")


def fraud(cluster: ClusterProcesses, folder: Path, say: Callable[[str], None]) -> warehouse.Verdict:
    """Run it. Raises DemoFailed when it does not come to its end."""
    given = payments.payments(PAYMENTS)
    database = folder / "warehouse.db"
    trio.run(_with_client, cluster.bootstrap, running.prepare, folder)
    connectors = _start(folder, cluster, "connect", "run", str(running.PIPELINE))
    app = None
    try:
        trio.run(_with_client, cluster.bootstrap, running.customers_known)
        app = _start(folder, cluster, "streams", "run", f"{APP}:app", "--state", str(folder / "state"))
        payments.write(folder / "payments.jsonl", given[: PAYMENTS // 2])
        say(f"{PAYMENTS // 2:,} payments in a file, on their way through connectors, app and warehouse")
        _wait(lambda: warehouse.judge(database, given).payments > PAYMENTS // 4, connectors, app)
        broker = cluster.brokers[trio.run(_leader, cluster.bootstrap)]
        say(f"broker {broker.node_id} leads payments, and is killed with the rest still to come")
        broker.kill()
        payments.write(folder / "payments.jsonl", given[PAYMENTS // 2 :])
        _wait(lambda: not warehouse.judge(database, given).missing, connectors, app)
        _end(app)  # what it would double is in the log then, and comes to the warehouse
        written = trio.run(_with_client, cluster.bootstrap, _written)
        _wait(lambda: warehouse.count(database) >= written, connectors)
        _end(connectors)
        return warehouse.judge(database, given)
    finally:
        for process in (connectors, app):
            if process is not None:
                process.kill()
                process.wait()


async def _with_client(bootstrap: str, do: Callable[..., Awaitable[T]], *arguments: object) -> T:
    async with raftlog.open_client(bootstrap) as client:
        return await do(client, *arguments)


async def _written(client: raftlog.Client) -> int:
    """How many committed records the app has written."""
    count = 0
    for topic in warehouse.TABLES:
        ends = await client.admin.end_offsets(topic)
        async with client.consumer(
            topic, auto_offset_reset="earliest", isolation_level="read_committed"
        ) as consumer:
            while any(consumer.positions().get(key, 0) < end for key, end in ends.items()):
                count += len(await consumer.poll(5_000, max_wait_ms=100))
    return count


async def _leader(bootstrap: str) -> int:
    async with raftlog.open_client(bootstrap) as client:
        return (await client.admin.describe_topic("payments")).partitions[0].leader or 1


def _start(folder: Path, cluster: ClusterProcesses, *command: str) -> subprocess.Popen[bytes]:
    with (folder / f"{command[0]}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "raftlog", *command, "--bootstrap", cluster.bootstrap],
            env=os.environ | {"FRAUD_FOLDER": str(folder)},
            stdout=log,
            stderr=log,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, and to its end. Raises DemoFailed when that is no good one."""
    process.send_signal(signal.SIGINT)
    if process.wait(PATIENCE_S):
        raise DemoFailed(f"{_named(process)} was stopped, and ended with {process.returncode}")


def _named(process: subprocess.Popen[bytes]) -> str:
    return " ".join(map(str, process.args[2:5]))  # type: ignore[index]


def _wait(done: Callable[[], bool], *processes: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        for process in processes:
            if process.poll() is not None:
                raise DemoFailed(f"{_named(process)} ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise DemoFailed(f"the payments were not in the warehouse within {PATIENCE_S} s")
        time.sleep(0.1)
