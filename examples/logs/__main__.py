"""`python -m examples.logs`: a broker, the app and its connectors in one process, and an hour of logs for
them."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import trio

import raftlog
from examples.logs import lines
from examples.logs.app import app
from examples.tables import rows
from raftlog import connect
from raftlog import streams as rs
from raftlog.testing import embedded_broker

PIPELINE = Path(__file__).with_name("pipeline.toml")
TOPICS = ("logs", "error-rates", "log-alerts", "logs-late", "logs-unread")
PARTITIONS = 4
PATIENCE_S = 120
TOLD = 4


async def main(folder: Path) -> lines.Verdict:
    """Run it to the end of an hour of logs. Raises TooSlowError."""
    given = lines.hour()
    os.environ["LOGS_FOLDER"] = str(folder)
    async with embedded_broker() as broker, broker.client() as client, trio.open_nursery() as nursery:
        for topic in TOPICS:
            await client.admin.create_topic(topic, partitions=PARTITIONS)
        started = time.monotonic()
        nursery.start_soon(connect.run, str(PIPELINE), broker.bootstrap)
        lines.write(folder, given)
        print(f"{len(given)} lines of {len(lines.SERVICES)} services in {folder}/*.log", flush=True)
        with trio.fail_after(PATIENCE_S):
            while await _count(client, "logs") < len(given):  # noqa: ASYNC110
                await trio.sleep(0.1)
            # It reads a backlog now, in which no service is silent, whatever this machine is busy with.
            nursery.start_soon(lambda: rs.run(app, broker.bootstrap, state=str(folder / "state")))
            while (found := lines.judge(folder / "logs.db", given)).missing:  # noqa: ASYNC110
                await trio.sleep(0.2)
        alerts = sorted(rows(folder / "logs.db", "minute, service, errors, rate", "log-alerts"))
        for minute, service, errors, rate in alerts[:TOLD]:
            print(f"alert: {service} at {minute}: {errors} errors, {rate:.0%} of its lines")
        print(f"and {len(alerts) - TOLD} alerts more")
        print(f"{await _count(client, 'logs-unread')} lines could not be read, and are in logs-unread")
        print(f"{found} after {time.monotonic() - started:.1f} s")
        nursery.cancel_scope.cancel()
    return found


async def _count(client: raftlog.Client, topic: str) -> int:
    """How many committed records a topic has. Control batches count as none of them."""
    ends = await client.admin.end_offsets(topic)
    found = 0
    async with client.consumer(
        topic, auto_offset_reset="earliest", isolation_level="read_committed", fetch_max_wait_ms=50
    ) as consumer:
        while any(consumer.positions().get(key, 0) < end for key, end in ends.items()):
            found += len(await consumer.poll(5_000, max_wait_ms=100))
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="logs-") as name:
        verdict = trio.run(main, Path(name))
    raise SystemExit(0 if verdict.is_right else 1)
