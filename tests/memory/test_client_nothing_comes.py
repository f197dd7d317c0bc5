"""A consumer that gets nothing says why: of a topic that is not there, and of a new group at the end."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import raftlog
from raftlog.protocol.api import ApiKey
from tests.memory.client_calls import FILLED, World, world

MISSPELT = "odrers"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "raftlog.client"]


def created(w: World) -> set[str]:
    """The topics that brokers were asked to create, if they are not there."""
    asked = [seen.message for seen in w.cluster.requests(ApiKey.METADATA)]
    return {str(t.name) for one in asked if one.allow_auto_topic_creation for t in one.topics}


@pytest.mark.parametrize("group", [None, "g"])
async def test_a_misspelt_topic_is_said_and_raised_and_not_created(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, group: str | None
) -> None:
    async with world() as w:
        await w.producer.send("t", b"beside it")
        async with w.client.consumer(MISSPELT, group=group) as consumer:
            began = trio.current_time()
            with pytest.raises(raftlog.UnknownTopic, match=r"a consumer does not create it: .*create_topic"):
                await anext(consumer)
            assert 60 <= trio.current_time() - began < 62
    first = said(caplog)[0]
    # After five seconds it is said at the next try, which may be a second later.
    assert re.match(f"waiting for topic '{MISSPELT}' for [56] s: .*does not create it", first), first
    assert created(w) == {"t"}


@pytest.mark.parametrize("allowed", [True, False])
async def test_who_writes_has_a_topic_created(autojump_clock: MockClock, allowed: bool) -> None:
    async with world(allow_auto_create_topics=allowed) as w:
        async with w.client.producer(max_block_ms=1000) as producer:
            with pytest.raises(raftlog.UnknownTopic):
                await producer.send("new", b"v")
        assert created(w) == ({"new"} if allowed else set())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"group": "new"}, True),
        ({"group": "new", "auto_offset_reset": "earliest"}, False),
        ({"group": "old"}, False),
        ({}, False),
    ],
    ids=["new group", "from the start", "group with an offset", "no group"],
)
async def test_a_new_group_at_the_end_says_so_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, options: dict[str, Any], says: bool
) -> None:
    async with world() as w:
        if options.get("group") == "old":
            w.cluster.committed["t", 0] = 1
        async with w.client.consumer("t", **options) as consumer:
            await consumer.wait_assigned()
            consumer.seek_to_end()
            await consumer.wait_assigned()
    lines = [line for line in said(caplog) if "begins at the end" in line]
    assert len(lines) == says
    if says:
        assert "group 'new' has committed nothing in t-0" in lines[0]
        assert "auto_offset_reset" in lines[0] and "'earliest'" in lines[0]


class Steps(trio.abc.Instrument):
    """How often a task had its turn."""

    def __init__(self, name: str) -> None:
        self.count = 0
        self._name = name

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task.name.endswith(self._name)


@pytest.mark.parametrize("max_wait_ms", [0, 5000])
async def test_who_waits_for_a_list_sleeps_until_there_is_one(
    autojump_clock: MockClock, max_wait_ms: int
) -> None:
    """Without a time to wait, it asked again and again, and took all of a processor."""
    async with world() as w, w.client.consumer("t", auto_offset_reset="earliest") as consumer:
        lists = consumer.batches(max_wait_ms=max_wait_ms)
        read = 0
        while read < len(FILLED):
            read += len(await anext(lists))

        async def take() -> None:
            assert [record.value for record in await anext(lists)] == [b"late"]

        steps = Steps("take")
        trio.lowlevel.add_instrument(steps)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            for _ in range(500):
                await trio.lowlevel.checkpoint()
            assert steps.count < 50
            await trio.sleep(60)
            assert steps.count < 50
            with trio.fail_after(1):
                await w.producer.send("t", b"late")
                while nursery.child_tasks:  # noqa: ASYNC110
                    await trio.sleep(0.01)
        trio.lowlevel.remove_instrument(steps)
