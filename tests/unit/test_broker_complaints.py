"""Complaints: a few a second are shown, the others counted."""

from __future__ import annotations

import logging

import pytest

from raftlog.broker.complaints import COMPLAINTS_MAX, Complaints


@pytest.fixture
def complaints() -> Complaints:
    return Complaints(logging.getLogger("test.complaints"), "refusals")


def test_a_few_are_shown(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(COMPLAINTS_MAX):
        complaints.add(5.0 + number / 100, f"complaint {number}")
    complaints.flush()
    assert caplog.messages == [f"complaint {number}" for number in range(COMPLAINTS_MAX)]


def test_too_many_in_a_second_are_counted(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(COMPLAINTS_MAX + 7):
        complaints.add(5.5, "again")
    assert caplog.messages == ["again"] * COMPLAINTS_MAX
    complaints.add(6.0, "in the next second")
    assert caplog.messages[COMPLAINTS_MAX:] == ["7 more refusals", "in the next second"]


def test_flush_counts_once(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(COMPLAINTS_MAX + 1):
        complaints.add(5.5, "again")
    complaints.flush()
    complaints.flush()
    assert caplog.messages[COMPLAINTS_MAX:] == ["1 more refusals"]
