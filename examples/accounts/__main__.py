"""`python -m examples.accounts`: a broker, the app and four tellers in one process."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path

import trio

import raftlog
from examples.accounts.app import app
from examples.accounts.tellers import ACCOUNTS, TELLERS, WISHES, Replies, Teller, Verdict, judge
from raftlog import streams as rs
from raftlog.testing import embedded_broker

TOPICS = ("account-commands", "account-events", "account-replies")
PARTITIONS = 2
PATIENCE_S = 120


async def main(folder: Path) -> Verdict:
    """Run it until every wish is fulfilled or refused. Raises TooSlowError."""
    async with embedded_broker() as broker, broker.client() as client, trio.open_nursery() as nursery:
        for topic in TOPICS:
            await client.admin.create_topic(topic, partitions=PARTITIONS)
        started, replies = time.monotonic(), Replies()
        await nursery.start(replies.keep_reading, client)
        print(f"{TELLERS} tellers with {WISHES} wishes each, {len(ACCOUNTS)} accounts", flush=True)
        refused = Counter[str]()
        with trio.fail_after(PATIENCE_S):
            for shift in ("morning", "evening"):
                # The worker of the evening has nothing of the morning's but the log.
                async with trio.open_nursery() as worker, client.producer() as producer:
                    worker.start_soon(_work, broker.bootstrap, str(folder / shift))
                    tellers = [Teller(f"{shift}-{n}", producer, replies) for n in range(TELLERS)]
                    async with trio.open_nursery() as working:
                        for teller in tellers:
                            working.start_soon(teller.work)
                    refused.update(sum((teller.refused for teller in tellers), Counter[str]()))
                    worker.cancel_scope.cancel()
        for reason, count in sorted(refused.items()):
            print(f"refused: {count} for {reason}")
        commands = len(await _read(client, "account-commands"))
        found = judge(commands, await _read(client, "account-events"), await _read(client, "account-replies"))
        print(f"{found} after {time.monotonic() - started:.1f} s")
        nursery.cancel_scope.cancel()
    return found


async def _work(bootstrap: str, state: str) -> None:
    await rs.run(app, bootstrap, state=state)


async def _read(client: raftlog.Client, topic: str) -> list[raftlog.Record]:
    """All that is committed in a topic, in the order of each key."""
    ends = await client.admin.end_offsets(topic)
    found: list[raftlog.Record] = []
    async with client.consumer(
        topic, auto_offset_reset="earliest", isolation_level="read_committed", fetch_max_wait_ms=50
    ) as consumer:
        while any(consumer.positions().get(key, 0) < end for key, end in ends.items()):
            found += await consumer.poll(5_000, max_wait_ms=100)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="accounts-") as name:
        verdict = trio.run(main, Path(name))
    raise SystemExit(0 if verdict.is_right else 1)
