"""Aggregates on embedded brokers: the number is that of the scenario."""

from __future__ import annotations

from typing import Any

import raftlog
from raftlog import streams as rs
from tests.streams.stage import Stage, until


def counting(name: str) -> rs.App:
    app = rs.App(name, guarantee="exactly_once")
    sums = app.aggregate(
        f"{name}-events", name="sums", initial=int, apply=lambda total, event: total + event["add"]
    )

    @app.commands(f"{name}-commands", sums, replies=f"{name}-replies")
    def handle(command: dict[str, Any], total: int, version: int) -> Any:
        if command["expect"] != version:
            return rs.Refused("conflict", total=total)
        return [{"add": command["add"], "n": version + 1}]

    return app


async def read(stage: Stage, what: str) -> list[Any]:
    """What a topic of one partition has, for who reads what is committed."""
    topic = f"{stage.name}-{what}"
    (end,) = (await stage.client.admin.end_offsets(topic)).values()
    found: list[Any] = []
    async with stage.client.consumer(
        topic, auto_offset_reset="earliest", isolation_level="read_committed", fetch_max_wait_ms=50
    ) as consumer:
        while consumer.positions().get(raftlog.TopicPartition(topic, 0), 0) < end:
            found += [rs.JSON.decode(r.value) for r in await consumer.poll(5000, max_wait_ms=100)]
    return found


async def test_50_an_old_version_is_refused_also_by_the_next_worker(stage: Stage) -> None:
    """Refused, and no event; after a failover the version is the same, with the state of the worker before,
    and without."""
    for what in ("commands", "events", "replies"):
        stage.topic(what, partitions=1)
    app, sent = counting(stage.name), 0

    async def command(expect: int) -> Any:
        """The reply to one."""
        nonlocal sent
        async with stage.client.producer() as producer:
            value = rs.JSON.encode({"expect": expect, "add": 5})
            at = await producer.send(f"{stage.name}-commands", value, key=b"k", partition=0)
        sent += 1

        async def answered() -> bool:
            return len(await read(stage, "replies")) >= sent

        await until(answered, lambda: f"a reply to {at}")
        replies = await read(stage, "replies")
        assert len(replies) == sent and replies[-1]["command"] == [0, at.offset]
        return replies[-1]

    async with stage.worker(app, "w"):
        assert (await command(0))["version"] == 1
        assert (await command(0))["refused"] == "conflict"
        assert (await command(1))["version"] == 2
    for name in ("w", "other"):
        async with stage.worker(app, name):
            refused = await command(1)
            assert (refused["refused"], refused["version"], refused["total"]) == ("conflict", 2, 10)
    async with stage.worker(app, "third"):
        assert (await command(2))["version"] == 3
    assert [event["n"] for event in await read(stage, "events")] == [1, 2, 3]
