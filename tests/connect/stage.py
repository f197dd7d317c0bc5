"""What a test of workers stands on: names of its own, a worker, files, and what is in the log."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

import raftlog
from raftlog import connect
from raftlog.testing import EmbeddedCluster

PATIENCE_S = 60


async def until(done: Callable[[], Awaitable[bool]], told: Callable[[], object]) -> None:
    with trio.move_on_after(PATIENCE_S):
        while not await done():  # noqa: ASYNC110 - what is waited for is in brokers and files
            await trio.sleep(0.05)
        return
    raise AssertionError(f"not within {PATIENCE_S} s: {told()}")


class Stage:
    """Names of one test's own, a client, and what is needed to feed and to look."""

    def __init__(self, cluster: EmbeddedCluster, client: raftlog.Client, folder: Path) -> None:
        self.cluster, self.client, self.folder = cluster, client, folder
        self.name = f"c-{uuid.uuid4().hex[:8]}"
        self.positions = f"{self.name}-positions"
        self.input = folder / "in.log"
        self.database = folder / "w.db"
        self.fed = 0

    def topic(self, what: str, partitions: int = 1) -> str:
        return self.cluster.create_topic(f"{self.name}-{what}", partitions=partitions)

    def source(self, topic: str, **more: Any) -> dict[str, Any]:
        return {"class": "file-source", "paths": [str(self.input)], "topic": topic, **more}

    def sink(self, *topics: str, **more: Any) -> dict[str, Any]:
        base = {"class": "sqlite-sink", "topics": list(topics), "path": str(self.database), "table": "t"}
        return {**base, "batch_wait_ms": 50, **more}

    @asynccontextmanager
    async def running(self, **connectors: dict[str, Any]) -> AsyncIterator[trio.CancelScope]:
        """A worker with connectors, whose names are made this test's own."""
        named = {f"{self.name}-{name}": given for name, given in connectors.items()}
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def work() -> None:
                with scope:
                    await connect.run(
                        connect.parse({"connector": named}, "test"),
                        self.cluster.bootstrap,
                        positions_topic=self.positions,
                    )

            nursery.start_soon(work)
            yield scope
            scope.cancel()

    def lines(self, count: int) -> None:
        with self.input.open("a") as file:
            file.writelines(f'{{"n": {n}}}\n' for n in range(self.fed, self.fed + count))
        self.fed += count

    async def feed(self, topic: str, values: list[bytes], **more: Any) -> None:
        async with self.client.producer() as producer:
            for value in values:
                await producer.send_soon(topic, value, **more)

    async def read(self, topic: str) -> list[raftlog.Record]:
        """All that readers of committed records see, partition by partition."""
        ends = await self.client.admin.end_offsets(topic)
        found: list[raftlog.Record] = []
        async with self.client.consumer(
            topic, auto_offset_reset="earliest", isolation_level="read_committed", fetch_max_wait_ms=50
        ) as consumer:
            while any(consumer.positions().get(key, 0) < end for key, end in ends.items()):
                found += await consumer.poll(5000, max_wait_ms=100)
        return sorted(found, key=lambda one: (one.partition, one.offset))

    async def numbers(self, topic: str) -> list[int]:
        return [json.loads(one.value)["n"] for one in await self.read(topic)]

    def rows(self, what: str = "n") -> list[Any]:
        if not self.database.exists():
            return []
        sql = sqlite3.connect(self.database)
        try:
            return [row[0] for row in sql.execute(f"select {what} from t order by rowid")]
        except sqlite3.OperationalError:
            return []  # the table is not there yet
        finally:
            sql.close()

    async def until_rows(self, wanted: list[Any], what: str = "n") -> None:
        async def there() -> bool:
            return sorted(self.rows(what)) == sorted(wanted)

        await until(there, lambda: (self.rows(what), wanted))

    async def until_numbers(self, topic: str, count: int) -> None:
        async def there() -> bool:
            return len(await self.numbers(topic)) >= count

        await until(there, lambda: count)
        assert await self.numbers(topic) == list(range(count))

    async def committed(self, name: str) -> dict[raftlog.TopicPartition, int]:
        found = await self.client.admin.group_offsets(f"connect-{self.name}-{name}")
        return {key: place.offset for key, place in found.items()}
