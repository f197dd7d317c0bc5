"""What tests of workers on embedded brokers stand on: topics of their own, workers, and what was counted."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

import raftlog
from raftlog import streams as rs
from raftlog.streams.plan import plan
from raftlog.streams.seating import Losses
from raftlog.streams.worker import Worker
from raftlog.testing import EmbeddedCluster

PATIENCE_S = 60

Settings = dict[str, Any]


class Stage:
    """Names of one test's own, a client, and what is needed to feed and to look."""

    def __init__(self, cluster: EmbeddedCluster, client: raftlog.Client, folder: Path) -> None:
        self.cluster = cluster
        self.client = client
        self.name = f"app-{uuid.uuid4().hex[:8]}"
        self.folder = folder
        self.sent = Counter[str]()

    def topic(self, what: str, partitions: int = 2, **settings: Any) -> str:
        return self.cluster.create_topic(f"{self.name}-{what}", partitions=partitions, **settings)

    def counting(self, guarantee: str = "at_least_once", **settings: Any) -> rs.App:
        app = rs.App(self.name, guarantee=guarantee, **settings)  # type: ignore[arg-type]
        words = app.stream(f"{self.name}-in", value=rs.TEXT).flat_map(str.split).key_by(lambda word: word)
        words.count("counts").changes().to(f"{self.name}-out", value=rs.JSON)
        return app

    async def feed(self, *lines: str) -> None:
        async with self.client.producer() as producer:
            for number, line in enumerate(lines):
                await producer.send_soon(f"{self.name}-in", line.encode(), key=b"%d" % number)
                self.sent.update(line.split())

    @asynccontextmanager
    async def worker(self, app: rs.App, name: str = "w", **settings: Any) -> AsyncIterator[trio.CancelScope]:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def work() -> None:
                with scope:
                    await rs.run(
                        app, self.cluster.bootstrap, state=str(self.folder / name), name=name, **settings
                    )

            nursery.start_soon(work)
            yield scope
            scope.cancel()

    @asynccontextmanager
    async def seen(self, app: rs.App, name: str, **settings: Any) -> AsyncIterator[Worker]:
        """A worker whose tasks can be looked at. It stops at the end, unless it has ended."""
        made = Worker(app, self.client, state=str(self.folder / name), name=name, losses=Losses(), **settings)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            yield made
            made.stop()

    async def counted(self) -> dict[str, int]:
        """The last count of each word that readers of committed records see."""
        topic = f"{self.name}-out"
        ends = await self.client.admin.end_offsets(topic)
        found: dict[str, int] = {}
        async with self.client.consumer(
            topic, auto_offset_reset="earliest", isolation_level="read_committed", fetch_max_wait_ms=50
        ) as consumer:
            while any(consumer.positions().get(key, 0) < end for key, end in ends.items()):
                for record in await consumer.poll(5000, max_wait_ms=100):
                    found[record.key.decode()] = int(record.value)
        return found

    async def until_counted(self, at_least: bool = False) -> None:
        """Until the counts are what was sent; more is wrong, unless a crash may repeat."""

        async def done() -> bool:
            found = await self.counted()
            if at_least:
                return all(found.get(word, 0) >= count for word, count in self.sent.items())
            for word, count in found.items():
                assert count <= self.sent[word], (word, count, self.sent)
            return found == dict(self.sent)

        await until(done, lambda: f"sent {self.sent}")

    async def until_at_rest(self, app: rs.App) -> None:
        """Until the group has committed each input to its end. Counts are right before that: the marker of a
        transaction stands behind its records, and the worker that comes past it commits once more."""
        shape, seen = plan(app), dict[raftlog.TopicPartition, tuple[int, int]]()

        async def done() -> bool:
            committed = await self.client.admin.group_offsets(self.name)  # first: ends only grow
            for topic in (*shape.sources, *shape.repartitions):
                for key, end in (await self.client.admin.end_offsets(topic)).items():
                    seen[key] = (committed[key].offset if key in committed else 0, end)
            return all(at == end for at, end in seen.values())

        await until(done, lambda: f"committed, and the end: {seen}")


async def until(done: Callable[[], Awaitable[bool]], told: Callable[[], str]) -> None:
    with trio.move_on_after(PATIENCE_S):
        while not await done():  # noqa: ASYNC110 - what is waited for is in the brokers
            await trio.sleep(0.05)
        return
    raise AssertionError(f"not within {PATIENCE_S} s: {told()}")
