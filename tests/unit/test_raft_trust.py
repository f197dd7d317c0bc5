"""When a replica that lost its log is trusted again."""

from __future__ import annotations

import random

from raftlog.raft.messages import Welcome
from raftlog.raft.trust import Trust
from raftlog.types import GroupKey, RaftIndex, Term

KEY = GroupKey(bytes(20))


def welcome(trust: Trust, commit_index: int) -> Welcome:
    return Welcome(KEY, Term(1), trust.nonce, RaftIndex(commit_index))


def test_it_is_trusted_when_it_holds_what_was_committed_when_it_was_welcomed() -> None:
    trust = Trust(random.Random(1))
    trust.lose()
    trust.welcome(welcome(trust, 7), RaftIndex(6))
    assert trust.is_lost and trust.is_welcome
    trust.welcome(welcome(trust, 7), RaftIndex(7))
    assert not trust.is_lost


def test_a_damaged_log_that_is_still_there_counts_for_nothing() -> None:
    """Found by the simulation: the welcome came before the first append, so the damaged log was measured,
    found long enough, and kept; its replica was trusted and could lead."""
    trust = Trust(random.Random(1))
    trust.lose()
    trust.must_drop_log = True
    trust.welcome(welcome(trust, 7), RaftIndex(9))
    assert trust.is_lost and trust.is_welcome
