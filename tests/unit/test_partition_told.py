"""What a leader could not say during a handover that came to nothing it says afterwards."""

from __future__ import annotations

from raftlog.raft.messages import TimeoutNow
from tests.unit.test_partition_compacting import compacted, fill, tick
from tests.unit.test_partition_handover import NOW_MS


def test_how_far_all_have_the_log_is_told_after_a_handover_that_came_to_nothing() -> None:
    trio = compacted()
    fill(trio)
    leader = trio.leader()
    me = leader.group.leader
    assert me is not None
    other = next(broker for broker in trio.ids if broker != me)
    # What asks the other to take over is lost.
    trio.drivers[me]._send = lambda to, messages: trio._carry(
        me, to, [each for each in messages if not isinstance(each, TimeoutNow)]
    )
    assert leader.group.leading.transfer(other, trio.now) is None
    assert leader.group.is_transferring and leader.group.is_ready
    leader.tick(NOW_MS, now=trio.now)  # the round comes just now
    trio.run(5)
    assert trio.leader() is leader and not leader.group.is_transferring
    tick(trio, 30)
    assert {one.compacting.all_have > 0 for one in trio.partitions.values()} == {True}
