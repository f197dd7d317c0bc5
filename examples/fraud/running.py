"""Runs the app and its connectors in this process."""

from __future__ import annotations

import os
from pathlib import Path

import trio

import raftlog
from examples.fraud.app import app
from examples.fraud.payments import customers, write
from raftlog import connect
from raftlog import streams as rs

PIPELINE = Path(__file__).with_name("pipeline.toml")
TOPICS = {"customers": "compact", "payments": "delete", "alerts": "delete", "payments-scored": "delete"}
PARTITIONS = 4


async def prepare(client: raftlog.Client, folder: Path) -> None:
    """Topics, and the customers' file."""
    for topic, policy in {**TOPICS, "fraud-dlq": "delete"}.items():
        await client.admin.create_topic(
            topic, partitions=PARTITIONS, configs={"cleanup.policy": policy}, exist_ok=True
        )
    write(folder / "customers.jsonl", customers())


async def customers_known(client: raftlog.Client) -> None:
    """Wait until the customers are in the log: a payment of one who is not goes to the DLQ."""
    seen: set[bytes] = set()
    async with client.consumer(
        "customers", auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        async for record in consumer:
            seen.add(record.key or b"")
            if len(seen) == len(customers()):
                return


async def run(
    client: raftlog.Client, bootstrap: str, folder: Path, *, task_status: trio.TaskStatus[None]
) -> None:
    """Connectors and app, until this is cancelled. It has started when customers are known: the app's table
    has them from its beginning."""
    os.environ["FRAUD_FOLDER"] = str(folder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect.run, str(PIPELINE), bootstrap)
        await customers_known(client)
        task_status.started()
        await rs.run(app, bootstrap, state=str(folder / "state"))
