"""What the metadata's leader reports is read with care: another build may have made it."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.cluster.quorum import Quorum, QuorumMember, quorum_of
from raftlog.types import BrokerId, RaftIndex, Term

REPORT: dict[str, Any] = {
    "role": "leader",
    "term": 7,
    "voters": [1, 2],
    "last_index": 20,
    "commit_index": 19,
    "followers": [
        {"broker": 2, "match": 19, "heard_ms": 40},
        {"broker": 3, "match": 4, "heard_ms": 900},
    ],
}


def member(broker: int, last_index: int, silent_ms: int, *, is_voter: bool = True) -> QuorumMember:
    return QuorumMember(
        broker=BrokerId(broker), is_voter=is_voter, last_index=RaftIndex(last_index), silent_ms=silent_ms
    )


def test_a_leaders_report_says_how_far_everyone_is() -> None:
    assert quorum_of(BrokerId(1), REPORT) == Quorum(
        leader=BrokerId(1),
        term=Term(7),
        commit_index=RaftIndex(19),
        members=(member(1, 20, 0), member(2, 19, 40), member(3, 4, 900, is_voter=False)),
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"role": "follower"},
        {"term": "seven"},
        {"voters": 1},
        {"voters": [[]]},
        {"followers": [{"broker": 2}]},
        {"followers": [{"broker": [], "match": 1, "heard_ms": 1}]},
        {"followers": [7]},
    ],
)
def test_what_cannot_be_read_is_no_report(changed: dict[str, Any]) -> None:
    assert quorum_of(BrokerId(1), REPORT | changed) is None
    assert quorum_of(BrokerId(1), {}) is None
