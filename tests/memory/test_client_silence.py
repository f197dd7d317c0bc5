"""A cluster that takes connections and answers nothing: no call hangs beyond its time-out, and each works
again when the brokers do."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

import raftlog
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
