"""The nursery of background tasks: what comes out of it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from raftlog.client.nursery import background


async def test_an_error_comes_out_as_itself_though_its_scope_is_cancelled_meanwhile(
    autojump_clock: MockClock,
) -> None:
    """Nobody who expects it would find it in a group beside a Cancelled; the next wait is cancelled anew. A
    worker of streams that was stopped while it joined its group ended with an error."""
    with trio.CancelScope() as scope:
        with pytest.raises(ValueError, match="the body's"):
            async with background() as nursery:
                nursery.start_soon(trio.sleep_forever)
                scope.cancel()
                raise ValueError("the body's")
        await trio.sleep(1)
    assert scope.cancelled_caught


async def test_two_errors_come_out_together() -> None:
    async def fail() -> None:
        raise KeyError("a task's")

    with pytest.raises(ExceptionGroup) as failed:
        async with background() as nursery:
            nursery.start_soon(fail)
            raise ValueError("the body's")
    assert {type(each) for each in failed.value.exceptions} == {KeyError, ValueError}


async def test_a_cancellation_comes_out_as_one() -> None:
    with trio.CancelScope() as scope:
        async with background() as nursery:
            nursery.start_soon(trio.sleep_forever)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
