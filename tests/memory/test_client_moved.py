"""Every call after another broker has taken over: it finds the new leader, coordinator or controller.

The client knows who led before, as one does that looks at offsets every minute.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.memory.client_calls import CALLS, KEY, OLD, World, world

SECONDS_MAX = 40
"""Virtual ones: a broker that says nothing costs time-outs; any other way of moving costs little."""
WAYS = {"refuses": 10, "is gone": 10, "says nothing": SECONDS_MAX}

OF_ONE_BROKER = {"Admin.list_groups", "Operations.disk", "Operations.sizes"}
"""These ask brokers by their ids, whoever leads: one that is listed and says nothing fails them."""


async def know_the_old(w: World) -> None:
    """Have asked broker 1 for everything."""
    admin = w.client.admin
    await admin.describe_topics(["t", "old"])
    await admin.list_offsets({KEY: -1, OLD: -1})
    await admin.operations.moves()
    await admin.describe_group("g")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_finds_the_broker_that_took_over(autojump_clock: MockClock, name: str, way: str) -> None:
    call = CALLS[name]
    if name in OF_ONE_BROKER and way != "refuses":
        pytest.skip("asks this very broker")
    async with world(2, request_timeout_ms=9_000) as w:
        w.cluster.controller = 1
        await know_the_old(w)
        if call.first is not None:
            await call.first(w)
        w.cluster.move_everything(2)
        if way == "is gone":
            w.cluster.kill(1)
            w.cluster.brokers = {2}
        elif way == "says nothing":
            w.cluster.silent = {1}
        before = trio.current_time()
        with trio.fail_after(WAYS[way]):
            await call.make(w)
        assert trio.current_time() - before <= WAYS[way]
        await w.producer.flush()
        assert call.effect(w) == call.done
        w.cluster.silent = set()
