"""The registers of denies and of passwords, in short: three brokers, faults, and clients that go on."""

from __future__ import annotations

import pytest

from tests.deny.__main__ import REGISTERS, play
from tests.deny.planted import planted

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("registers")]


@pytest.mark.parametrize("register", REGISTERS)
def test_what_has_returned_is_in_force_on_every_broker(register: str) -> None:
    """Scenario 31 of security, and the same for passwords."""
    result = play(register, 7, seconds=20)
    assert not result.violations
    assert result.checks and result.changes and result.faults, result


@pytest.mark.parametrize(("register", "bug"), [("credentials", "sessions"), ("denies", "live")])
def test_a_bug_is_found(register: str, bug: str) -> None:
    """Sessions that outlive their passwords; a deny that does not wait for who is cut off."""
    with planted(register, bug):
        assert play(register, 7, seconds=120, stop_at_first=True).violations
