"""A wall clock that jumps deletes nothing, and one that was set right is believed in the end."""

from __future__ import annotations

import logging

import pytest

from raftlog.cluster.steady_clock import BELIEVED_S, JUMP_MS, SteadyClock

START_MS = 1_700_000_000_000
DAYS_MS = 2 * 86_400_000


class Clocks:
    def __init__(self) -> None:
        self.now = 100.0
        self.jump_ms = 0
        self.steady = SteadyClock(lambda: self.now, self._wall_ms)

    def wait(self, seconds: float) -> int:
        """What time it is afterwards, since the start."""
        end = self.now + seconds
        while self.now < end:
            self.now += 1.0
            read = self.steady.now_ms()
        return read - START_MS

    def _wall_ms(self) -> int:
        return START_MS + int((self.now - 100.0) * 1000) + self.jump_ms


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "raftlog.cluster")
    return caplog


@pytest.mark.parametrize("jump_ms", [DAYS_MS, -DAYS_MS, JUMP_MS + 1])
def test_a_jump_is_said_once_and_changes_nothing_until_it_is_over(
    jump_ms: int, said: pytest.LogCaptureFixture
) -> None:
    clocks = Clocks()
    assert clocks.wait(10) == 10_000
    clocks.jump_ms = jump_ms
    assert clocks.wait(BELIEVED_S - 10) == BELIEVED_S * 1000
    assert len(said.messages) == 1 and "is off by" in said.messages[0]
    clocks.jump_ms = 0
    assert clocks.wait(10) == (BELIEVED_S + 10) * 1000
    assert len(said.messages) == 2 and "agrees" in said.messages[1]
    assert clocks.steady.even_ms() == (clocks.now - 100.0) * 1000


def test_a_clock_that_was_set_right_is_believed_after_an_hour(said: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    clocks.jump_ms = DAYS_MS
    assert clocks.wait(BELIEVED_S) == BELIEVED_S * 1000
    assert clocks.wait(2) == BELIEVED_S * 1000 + 2000 + DAYS_MS
    assert len(said.messages) == 2
    assert clocks.steady.even_ms() == 1000
    assert clocks.wait(1000) == BELIEVED_S * 1000 + 1_002_000 + DAYS_MS


def test_a_second_jump_begins_another_hour() -> None:
    clocks = Clocks()
    clocks.jump_ms = DAYS_MS
    clocks.wait(BELIEVED_S - 10)
    clocks.jump_ms = 2 * DAYS_MS
    assert clocks.wait(BELIEVED_S - 10) < DAYS_MS


def test_a_clock_that_drifts_or_is_slewed_is_followed() -> None:
    clocks = Clocks()
    for _ in range(100):
        clocks.jump_ms += 400
        clocks.wait(1)
    assert clocks.wait(1) == 101_000 + 40_000
