"""A group outlives its coordinator: the next goes on with its members, its generation and who owns what."""

from __future__ import annotations

import cbor2

from raftlog.cluster.groups import (
    CommitCheck,
    GroupDescription,
    GroupError,
    GroupListing,
    GroupState,
    JoinResult,
    LeavingMember,
)
from raftlog.cluster.groups.group import EMPTY_GROUP_KEPT_S
from raftlog.cluster.groups.roster import TAKEN_OVER_AT_ONCE
from raftlog.metadata.groups import ChangeMembers, ForgetGroup, StoreGroup
from raftlog.types import RaftIndex
from tests.groups import SESSION_S, Groups, protocols


def commit(groups: Groups, member: JoinResult, generation: int | None = None) -> GroupError:
    check = CommitCheck(
        group_id="g",
        member_id=member.member_id,
        generation_id=member.generation_id if generation is None else generation,
    )
    return groups.coordinator.check_commit(check, groups.now)


def described(groups: Groups) -> GroupDescription:
    found = groups.coordinator.describe("g")
    assert isinstance(found, GroupDescription)
    return found


def test_members_go_on_with_the_next_coordinator() -> None:
    groups = Groups()
    members = groups.stable(3)
    before = described(groups)
    groups.fail_over()
    assert described(groups) == before and before.state is GroupState.STABLE
    assert groups.coordinator.list_groups() == [GroupListing("g", "consumer", GroupState.STABLE)]
    for member in members:
        assert groups.heartbeat(member.member_id, member.generation_id) is GroupError.NONE
        assert commit(groups, member) is GroupError.NONE
        assert commit(groups, member, member.generation_id - 1) is GroupError.ILLEGAL_GENERATION
        assert groups.sync(member).result.assignment == member.member_id.encode()
    assert groups.coordinator.statistics()["Stable"] == 1
    assert groups.coordinator.statistics()["members"] == 3


def test_a_member_that_asks_again_is_told_the_same_generation() -> None:
    groups = Groups()
    leader, follower = groups.stable(2)
    groups.fail_over()
    again = groups.join(follower.member_id).result
    assert (again.generation_id, again.leader) == (leader.generation_id, leader.member_id)
    assert groups.sync(again).result.assignment == follower.member_id.encode()
    assert groups.heartbeat(leader.member_id, leader.generation_id) is GroupError.NONE


def test_sessions_begin_anew() -> None:
    groups = Groups()
    leader, silent = groups.stable(2)
    groups.advance(SESSION_S - 1)
    groups.fail_over()
    groups.advance(SESSION_S - 1)
    assert groups.heartbeat(leader.member_id, leader.generation_id) is GroupError.NONE
    groups.advance(2)
    assert groups.heartbeat(leader.member_id, leader.generation_id) is GroupError.REBALANCE_IN_PROGRESS
    assert groups.heartbeat(silent.member_id, silent.generation_id) is GroupError.UNKNOWN_MEMBER_ID


def test_nobody_is_given_a_part_before_the_generation_is_kept() -> None:
    groups = Groups()
    joined = groups.join(known=False).result
    groups.kept.waits = True
    synced = groups.sync(joined, {joined.member_id: b"all"})
    assert not synced.came
    again = groups.sync(joined, {joined.member_id: b"another"})
    assert synced.result.error is GroupError.REBALANCE_IN_PROGRESS, "its connection is gone"
    assert len(groups.kept.waiting) == 1, "it is on its way already"
    groups.kept.let_go()
    assert again.result.assignment == b"all"


def test_a_generation_that_is_not_kept_is_nobodys() -> None:
    groups = Groups()
    joined = groups.join(known=False).result
    groups.kept.waits = True
    synced = groups.sync(joined, {joined.member_id: b"all"})
    groups.kept.let_go(fails=True)
    assert synced.result.error is GroupError.NOT_COORDINATOR
    groups.kept.waits = False
    again = groups.join(joined.member_id).result
    assert again.generation_id > joined.generation_id
    assert groups.sync(again, {again.member_id: b"all"}).result.assignment == b"all"


def test_a_rebalance_that_begins_while_a_generation_is_on_its_way_comes_first() -> None:
    groups = Groups()
    joined = groups.join(known=False).result
    groups.kept.waits = True
    synced = groups.sync(joined, {joined.member_id: b"all"})
    other = groups.join(known=False)
    assert synced.result.error is GroupError.REBALANCE_IN_PROGRESS
    groups.kept.let_go()
    assert described(groups).state is GroupState.PREPARING_REBALANCE
    again = groups.join(joined.member_id)
    assert again.result.generation_id == other.result.generation_id > joined.generation_id


def test_a_generation_is_not_begun_twice() -> None:
    """Members were told of it, and its coordinator ended before it was complete."""
    groups = Groups()
    leader, follower = groups.stable(2)
    waiting = groups.join(leader.member_id), groups.join(follower.member_id)
    told = waiting[0].result.generation_id
    assert told > leader.generation_id
    groups.fail_over()
    assert groups.sync(waiting[0].result).result.error is GroupError.ILLEGAL_GENERATION
    assert groups.heartbeat(follower.member_id, leader.generation_id) is GroupError.NONE
    again = groups.join(leader.member_id), groups.join(follower.member_id)
    assert again[0].result.generation_id == again[1].result.generation_id > told


def test_who_has_left_is_not_waited_for() -> None:
    groups = Groups()
    first, second, third = groups.stable(3)
    groups.leave(third.member_id)
    groups.fail_over()
    assert groups.heartbeat(first.member_id, first.generation_id) is GroupError.REBALANCE_IN_PROGRESS
    assert groups.heartbeat(third.member_id, first.generation_id) is GroupError.UNKNOWN_MEMBER_ID
    waiting = groups.join(first.member_id), groups.join(second.member_id)
    assert len(waiting[0].result.members) == 2
    assert waiting[1].result.generation_id > first.generation_id


def test_who_was_silent_is_not_waited_for() -> None:
    groups = Groups()
    first, _ = groups.stable(2)
    groups.advance(SESSION_S - 1)
    groups.heartbeat(first.member_id, first.generation_id)
    groups.advance(2)
    groups.fail_over()
    assert len(groups.join(first.member_id).result.members) == 1


def test_a_static_member_that_came_back_keeps_its_place() -> None:
    groups = Groups()
    joined = groups.join(instance="i").result
    groups.sync(joined, {joined.member_id: b"all"}, instance="i")
    groups.kept.waits = True
    back = groups.join(instance="i")
    assert not back.came, "the other id has to be kept first"
    groups.kept.let_go()
    groups.fail_over()
    result = back.result
    assert result.generation_id == joined.generation_id and result.member_id != joined.member_id
    assert groups.heartbeat(result.member_id, result.generation_id, "i") is GroupError.NONE
    assert groups.heartbeat(joined.member_id, result.generation_id, "i") is GroupError.FENCED_INSTANCE_ID
    assert groups.sync(result, instance="i").result.assignment == b"all"


def test_a_static_member_whose_return_was_not_kept_comes_back_again() -> None:
    groups = Groups()
    joined = groups.join(instance="i").result
    groups.sync(joined, {joined.member_id: b"all"}, instance="i")
    groups.kept.waits = True
    first, second = groups.join(instance="i"), groups.join(instance="i")
    assert first.result.error is GroupError.FENCED_INSTANCE_ID
    groups.fail_over()
    assert not second.came
    again = groups.join(instance="i").result
    assert again.generation_id == joined.generation_id
    groups.leave(LeavingMember("", "i"))
    assert described(groups).state is GroupState.EMPTY


def test_a_group_that_became_empty_goes_on_counting_and_is_forgotten() -> None:
    groups = Groups()
    (joined,) = groups.stable(1)
    groups.leave(joined.member_id)
    emptied = groups.kept.get("g")
    assert emptied is not None and not emptied.members and emptied.generation > joined.generation_id
    groups.fail_over()
    assert described(groups).state is GroupState.EMPTY
    (again,) = groups.stable(1)
    assert again.generation_id > emptied.generation
    groups.leave(again.member_id)
    groups.advance(EMPTY_GROUP_KEPT_S / 2)
    groups.fail_over()
    groups.advance(EMPTY_GROUP_KEPT_S / 2 - 1)
    assert groups.kept.get("g") is not None, "it has been empty since before the coordinator changed"
    groups.advance(2)
    assert groups.kept.get("g") is None and groups.kept.kept[-1] == ForgetGroup(group="g")
    assert described(groups).state is GroupState.DEAD


def test_a_group_that_never_had_a_generation_is_not_kept() -> None:
    groups = Groups()
    member_id, joined = groups.new_member()
    groups.leave(member_id)
    assert joined.came and not groups.kept.kept


def test_an_empty_group_with_offsets_is_kept() -> None:
    groups = Groups(stored={"g"})
    (joined,) = groups.stable(1)
    groups.leave(joined.member_id)
    groups.advance(3 * EMPTY_GROUP_KEPT_S)
    assert groups.kept.get("g") is not None
    groups.fail_over()
    assert groups.coordinator.list_groups() == [GroupListing("g", "consumer", GroupState.EMPTY)]


def test_groups_are_taken_over_in_steps_and_at_once_when_they_are_asked_for() -> None:
    groups = Groups()
    for number in range(2 * TAKEN_OVER_AT_ONCE):
        joined = groups.join(group=f"g{number}", known=False).result
        groups.sync(joined, {joined.member_id: b"all"}, group=f"g{number}")
    asked = groups.join(group="g0", known=False)
    groups.fail_over()
    listed = groups.coordinator.list_groups()
    assert isinstance(listed, list)
    assert [one.state for one in listed] == [GroupState.STABLE] * 2 * TAKEN_OVER_AT_ONCE
    assert groups.coordinator.statistics()["members"] == 0
    assert not asked.came
    assert groups.join(group="g0", known=False) and groups.coordinator.statistics()["members"] == 2
    steps = 0
    while groups.coordinator.next_deadline < groups.now:
        groups.coordinator.tick(groups.now)
        steps += 1
        assert groups.coordinator.statistics()["members"] <= (steps * TAKEN_OVER_AT_ONCE) // 2 + 2
    assert steps == 4
    assert groups.coordinator.statistics()["members"] == 2 * TAKEN_OVER_AT_ONCE + 1


def test_what_members_offer_is_kept() -> None:
    groups = Groups()
    both = protocols("range", "sticky")
    joined = groups.join(offers=both, known=False).result
    groups.sync(joined, {joined.member_id: b"all"})
    groups.fail_over()
    other = groups.join(offers=protocols("sticky"), known=False)
    assert groups.heartbeat(joined.member_id, joined.generation_id) is GroupError.REBALANCE_IN_PROGRESS
    again = groups.join(joined.member_id, offers=both)
    assert again.result.generation_id == other.result.generation_id
    assert again.result.protocol_name == "sticky"


def test_groups_of_before_the_last_broker_was_upgraded_are_kept_then() -> None:
    groups = Groups()
    groups.kept.is_open = False
    members = groups.stable(2)
    groups.advance(SESSION_S / 2)
    assert not groups.kept.kept
    groups.kept.is_open = True
    groups.coordinator.tick(groups.now)
    assert len(groups.kept.kept) == 1 and groups.coordinator.next_deadline > groups.now
    groups.fail_over()
    for member in members:
        assert groups.heartbeat(member.member_id, member.generation_id) is GroupError.NONE


def test_what_makes_no_sense_is_not_taken_over() -> None:
    groups = Groups()
    good: list[object] = [None, "c", "/h", 10_000, 60_000, [["range", b""]], b"all"]
    bad = [[], good[:-1], [*good[:5], [["sticky", b""]], b""], [*good[:5], [["range"]], b""], ["i", *good]]
    for row in (b"", b"\xff", b"\xc0\x61x", *map(cbor2.dumps, bad)):
        StoreGroup(
            group="g", generation=3, protocol="range", leader="m", members=(("m", row),), at_ms=0
        ).apply(groups.kept.catalog, RaftIndex(1))
        groups.fail_over()
        assert groups.heartbeat("m", 3) is GroupError.UNKNOWN_MEMBER_ID
        assert described(groups).state is GroupState.DEAD


def test_a_change_of_members_is_one_of_their_generation() -> None:
    groups = Groups()
    first, _ = groups.stable(2)
    groups.join(first.member_id)
    groups.leave(first.member_id)
    (change,) = [one for one in groups.kept.kept if isinstance(one, ChangeMembers)]
    assert (change.generation, change.gone) == (first.generation_id, (first.member_id,))
