"""A cluster that takes connections and answers nothing: no call hangs beyond its time-out, and each works
again when the brokers do."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

import raftlog
from raftlog.client.cluster import METADATA_PATIENCE_S
from tests.memory.client_calls import CALLS, World, still_works, world

PATIENCE_S = 300
"""Longer than any time-out."""
SLACK_S = 1.0
"""A call may end this much later than it says: a pause of its backoff."""


async def connect(w: World) -> None:
    """Have connections, metadata, a producer id and the partition."""
    await w.producer.send("t", b"first")
    await w.assigned()
    await w.client.admin.describe_cluster()


async def test_nobody_is_told_of_a_silence_that_is_longer_than_it_waited(autojump_clock: MockClock) -> None:
    """An attempt to get metadata that had begun before a call failed it at once: "not within 2 s"."""
    async with world() as w:
        await connect(w)
        cluster = w.client._cluster
        w.cluster.is_silent = True
        cluster.request_update()

        async def call() -> None:
            began = trio.current_time()
            with pytest.raises(raftlog.RequestTimedOut, match=f"within {METADATA_PATIENCE_S:g} s"):
                await cluster.updated()
            assert trio.current_time() - began >= METADATA_PATIENCE_S

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(call)
                await trio.sleep(0.1)
        w.cluster.is_silent = False
        await still_works(w)


async def test_a_consumer_says_for_how_long_its_group_has_not_answered(autojump_clock: MockClock) -> None:
    async with world() as w:
        await connect(w)
        session = w.consumer.settings.session_timeout_ms / 1000
        beat = w.consumer.settings.heartbeat_interval_ms / 1000
        await trio.sleep(3 * session)
        assert w.consumer.statistics().silent_s <= beat + SLACK_S
        w.cluster.is_silent = True
        await trio.sleep(session)
        assert session <= w.consumer.statistics().silent_s <= session + beat + SLACK_S
        w.cluster.is_silent = False
        await still_works(w)
        await trio.sleep(session)
        assert w.consumer.statistics().silent_s <= beat + SLACK_S


@pytest.mark.parametrize("connected", [False, True], ids=["from the start", "all of a sudden"])
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_ends_in_time(autojump_clock: MockClock, name: str, connected: bool) -> None:
    call = CALLS[name]
    async with world() as w:
        if connected:
            await connect(w)
        if call.first is not None:
            await call.first(w)
        w.cluster.is_silent = True
        started = trio.current_time()
        error: raftlog.RaftlogError | None = None
        with trio.move_on_after(PATIENCE_S) as scope:
            try:
                await call.make(w)
            except raftlog.RaftlogError as failure:
                error = failure
        took = trio.current_time() - started
        if scope.cancelled_caught:
            assert call.seconds_max == float("inf"), "it hangs"
        else:
            assert took <= call.seconds_max + SLACK_S
            assert error is None or isinstance(error, (raftlog.RequestTimedOut, raftlog.DeliveryError))
        w.cluster.is_silent = False
        await still_works(w)
