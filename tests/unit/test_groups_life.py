"""A group's life: sync, heartbeats, leaving, silence, rebalances that do not end by themselves."""

from __future__ import annotations

import pytest

from raftlog.cluster.groups import (
    GroupDescription,
    GroupError,
    GroupSettings,
    GroupState,
    LeavingMember,
)
from tests.groups import REBALANCE_S, SESSION_S, Groups


def described(groups: Groups) -> GroupDescription:
    description = groups.coordinator.describe("g")
    assert isinstance(description, GroupDescription)
    return description


def member_ids(groups: Groups) -> set[str]:
    return {member.member_id for member in described(groups).members}


def test_sync_is_refused_with_the_reason() -> None:
    groups = Groups()
    (joined,) = groups.stable(1)
    assert groups.sync(joined, group="other").result.error is GroupError.UNKNOWN_MEMBER_ID
    assert groups.sync(joined, member_id="nobody").result.error is GroupError.UNKNOWN_MEMBER_ID
    assert groups.sync(joined, generation=0).result.error is GroupError.ILLEGAL_GENERATION
    assert groups.sync(joined, generation=2).result.error is GroupError.ILLEGAL_GENERATION
    inconsistent = groups.sync(joined, protocol_name="sticky").result
    assert inconsistent.error is GroupError.INCONSISTENT_GROUP_PROTOCOL
    assert groups.sync(joined, protocol_name="range").result.error is GroupError.NONE
    groups.new_member()
    assert groups.sync(joined).result.error is GroupError.REBALANCE_IN_PROGRESS


def test_waiting_followers_learn_of_a_rebalance() -> None:
    groups = Groups()
    ids = [groups.join().result.member_id for _ in range(2)]
    _, second = (groups.join(member_id) for member_id in ids)
    waiting = groups.sync(second.result)
    groups.new_member()
    assert waiting.result.error is GroupError.REBALANCE_IN_PROGRESS


def test_a_second_sync_of_a_waiting_member_answers_the_first() -> None:
    groups = Groups()
    ids = [groups.join().result.member_id for _ in range(2)]
    _, second = (groups.join(member_id) for member_id in ids)
    first_try, second_try = groups.sync(second.result), groups.sync(second.result)
    assert first_try.result.error is GroupError.REBALANCE_IN_PROGRESS
    assert not second_try.came


def test_heartbeats_are_refused_with_the_reason() -> None:
    groups = Groups()
    assert groups.heartbeat("m", 1) is GroupError.UNKNOWN_MEMBER_ID
    (joined,) = groups.stable(1)
    assert groups.heartbeat(joined.member_id, 1) is GroupError.NONE
    assert groups.heartbeat(joined.member_id, 2) is GroupError.ILLEGAL_GENERATION
    assert groups.heartbeat("m", 1) is GroupError.UNKNOWN_MEMBER_ID
    assert groups.heartbeat(joined.member_id, 1, "static") is GroupError.UNKNOWN_MEMBER_ID


def test_a_silent_member_is_dropped_and_the_others_rebalance() -> None:
    groups = Groups()
    leader, follower = groups.stable(2)
    groups.advance(SESSION_S / 2)
    assert groups.heartbeat(leader.member_id, leader.generation_id) is GroupError.NONE
    groups.advance(SESSION_S / 2)
    assert member_ids(groups) == {leader.member_id}
    assert groups.heartbeat(leader.member_id, leader.generation_id) is GroupError.REBALANCE_IN_PROGRESS
    again = groups.join(leader.member_id).result
    assert [member.member_id for member in again.members] == [leader.member_id]
    assert groups.heartbeat(follower.member_id, again.generation_id) is GroupError.UNKNOWN_MEMBER_ID


def test_heartbeats_keep_a_member_for_ever() -> None:
    groups = Groups()
    (joined,) = groups.stable(1)
    for _ in range(20):
        groups.advance(SESSION_S * 0.9)
        assert groups.heartbeat(joined.member_id, 1) is GroupError.NONE


def test_a_ghost_does_not_block_a_rebalance_beyond_its_session() -> None:
    """A member that died is found out while the group waits for it to join again (PreparingRebalance)."""
    groups = Groups()
    leader, ghost = groups.stable(2)
    _, newcomer = groups.new_member()
    rejoined = groups.join(leader.member_id)
    groups.advance(SESSION_S - 0.1)
    assert not newcomer.came
    groups.advance(0.2)
    assert rejoined.result.generation_id == newcomer.result.generation_id == ghost.generation_id + 1
    assert ghost.member_id not in member_ids(groups)


def test_a_member_that_beats_but_does_not_join_is_dropped_at_the_rebalance_timeout() -> None:
    groups = Groups()
    leader, busy = groups.stable(2)
    _, newcomer = groups.new_member()
    groups.join(leader.member_id)
    for _ in range(int(REBALANCE_S / 5)):
        assert not newcomer.came
        assert groups.heartbeat(busy.member_id, busy.generation_id) is GroupError.REBALANCE_IN_PROGRESS
        groups.advance(5)
    assert newcomer.result.error is GroupError.NONE
    assert busy.member_id not in member_ids(groups)


def test_a_leader_that_dies_before_it_assigns_is_replaced() -> None:
    groups = Groups()
    ids = [groups.join().result.member_id for _ in range(2)]
    first, second = (groups.join(member_id) for member_id in ids)
    assert first.result.leader == ids[0]
    waiting = groups.sync(second.result)
    groups.advance(SESSION_S)
    assert waiting.result.error is GroupError.REBALANCE_IN_PROGRESS
    again = groups.join(ids[1]).result
    assert again.leader == ids[1]
    assert again.generation_id == 2


def test_a_leader_that_beats_but_never_assigns_is_dropped() -> None:
    groups = Groups()
    ids = [groups.join().result.member_id for _ in range(2)]
    _, second = (groups.join(member_id) for member_id in ids)
    waiting = groups.sync(second.result)
    for _ in range(int(REBALANCE_S / 5)):
        assert not waiting.came
        assert groups.heartbeat(ids[0], 1) is GroupError.NONE
        groups.advance(5)
    assert waiting.result.error is GroupError.REBALANCE_IN_PROGRESS
    assert member_ids(groups) == {ids[1]}


def test_a_follower_that_never_asks_for_its_part_is_dropped() -> None:
    groups = Groups()
    ids = [groups.join().result.member_id for _ in range(2)]
    leader, _ = (groups.join(member_id) for member_id in ids)
    groups.sync(leader.result, {})
    for _ in range(int(REBALANCE_S / 5)):
        for member_id in ids:
            assert groups.heartbeat(member_id, 1) is GroupError.NONE
        groups.advance(5)
    assert member_ids(groups) == {ids[0]}
    assert described(groups).state is GroupState.PREPARING_REBALANCE


def test_leaving_rebalances_the_others() -> None:
    groups = Groups()
    leader, follower = groups.stable(2)
    left = groups.leave(leader.member_id)
    assert left.error is GroupError.NONE
    assert [member.error for member in left.members] == [GroupError.NONE]
    assert groups.heartbeat(follower.member_id, follower.generation_id) is GroupError.REBALANCE_IN_PROGRESS
    assert groups.join(follower.member_id).result.leader == follower.member_id


def test_when_the_last_member_leaves_the_group_is_empty() -> None:
    groups = Groups()
    (joined,) = groups.stable(1)
    groups.leave(joined.member_id)
    assert described(groups).state is GroupState.EMPTY
    assert groups.join(known=False).result.generation_id == 3, "being empty was a generation"


def test_leaving_in_a_batch_answers_for_each() -> None:
    groups = Groups()
    leader, _ = groups.stable(2)
    pending = groups.join().result.member_id
    groups.join(instance="static")
    left = groups.leave(
        LeavingMember(leader.member_id),
        LeavingMember("nobody"),
        LeavingMember(pending),
        LeavingMember("", "static"),
        LeavingMember("", "no such"),
        LeavingMember(""),
    )
    assert [member.error for member in left.members] == [
        GroupError.NONE,
        GroupError.UNKNOWN_MEMBER_ID,
        GroupError.NONE,
        GroupError.NONE,
        GroupError.UNKNOWN_MEMBER_ID,
        GroupError.UNKNOWN_MEMBER_ID,
    ]


def test_leaving_answers_what_the_member_waited_for() -> None:
    groups = Groups()
    groups.stable(1)
    newcomer, waiting = groups.new_member()
    groups.leave(newcomer)
    assert waiting.result.error is GroupError.UNKNOWN_MEMBER_ID


def test_leaving_a_group_that_is_not_there() -> None:
    left = Groups().leave("m")
    assert left.error is GroupError.NONE
    assert [member.error for member in left.members] == [GroupError.UNKNOWN_MEMBER_ID]


def test_the_last_to_leave_ends_a_rebalance_for_those_who_wait() -> None:
    groups = Groups()
    leader, _ = groups.stable(2)
    _, newcomer = groups.new_member()
    groups.join(leader.member_id)
    (missing,) = {"client-id2"} & member_ids(groups)
    groups.leave(missing)
    assert newcomer.result.error is GroupError.NONE


def test_an_empty_group_without_offsets_is_forgotten() -> None:
    groups = Groups()
    (joined,) = groups.stable(1)
    groups.leave(joined.member_id)
    groups.advance(599)
    assert described(groups).state is GroupState.EMPTY
    groups.advance(2)
    assert described(groups).state is GroupState.DEAD
    assert groups.coordinator.next_deadline == float("inf")


def test_an_empty_group_with_offsets_is_kept() -> None:
    groups = Groups(stored={"g"})
    (joined,) = groups.stable(1)
    groups.leave(joined.member_id)
    groups.advance(7000)
    assert repr(groups.coordinator) == "<GroupCoordinator active groups=1>"
    groups.stored.clear()
    groups.advance(700)
    assert repr(groups.coordinator) == "<GroupCoordinator active groups=0>"


@pytest.mark.parametrize("count", [1, 3, 10])
def test_a_group_that_is_shut_down_member_by_member_ends_empty(count: int) -> None:
    groups = Groups(GroupSettings())
    for joined in groups.stable(count):
        groups.leave(joined.member_id)
        groups.advance(0.01)
    assert described(groups).state is GroupState.EMPTY
