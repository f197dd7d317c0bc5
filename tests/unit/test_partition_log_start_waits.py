"""Who waits behind a command for the log's start is told when the leadership ends."""

from __future__ import annotations

import pytest

from raftlog.partition import log_start
from raftlog.partition.values import PartitionError
from tests.unit.test_partition_handover import Replicas
from tests.unit.test_partition_log_start import Answers, fill


def test_who_waits_behind_a_command_of_a_leadership_that_ends_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trio = Replicas(3)
    trio.run(10)
    leader = trio.leader()
    fill(trio, leader)
    # As after a thousand deletions in one segment: then commands go once a tick.
    monkeypatch.setattr(log_start, "COMMANDS_MAX", 1)
    trio.deaf = set(trio.ids) - {leader.group.leader}
    first: Answers = []
    second: Answers = []
    leader.delete_before(25, now=trio.now, on_done=lambda *answer: first.append(answer))
    leader._start.propose()  # the tick's
    leader.delete_before(45, now=trio.now, on_done=lambda *answer: second.append(answer))
    trio.run(5)
    assert not leader.is_leader
    assert first == [(PartitionError.MAY_STILL_HAPPEN, -1)]
    for _ in range(60):
        leader.tick(0, now=trio.now)
        trio.run(0.1)
    assert second == [(PartitionError.NOT_LEADER, -1)], "nobody told the second"
