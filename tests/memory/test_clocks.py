"""The clocks of these tests."""

from __future__ import annotations

import time

import pytest
import trio
from trio.testing import MockClock

from tests.clocks import IDLE_S, thread_clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    return thread_clock(monkeypatch)


async def test_time_stands_still_while_a_thread_works_and_jumps_afterwards(clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1000)
        await trio.to_thread.run_sync(time.sleep, 5 * IDLE_S)
        assert trio.current_time() == 0
    assert trio.current_time() == 1000


def test_a_clock_that_a_fixture_keeps_for_itself_is_found(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntrio_mode = true\naddopts = -p no:asyncio")
    pytester.makeconftest("from tests.conftest import pytest_runtest_setup")
    pytester.makepyfile("""
        import pytest

        @pytest.fixture
        async def world(autojump_clock): pass

        async def test_by_the_wall(world): pass
        async def test_by_its_own(autojump_clock, world): pass
    """)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*test_by_the_wall waits by the wall's clock: *autojump_clock*"])
