"""Joining: ids, votes, sizes, what is refused; the way to a stable group."""

from __future__ import annotations

import pytest

from raftlog.cluster.groups import (
    GroupDescription,
    GroupError,
    GroupProtocol,
    GroupSettings,
    GroupState,
    JoinRequest,
    JoinResult,
)
from tests.groups import RANGE, SESSION_S, Groups, protocols


def state_of(groups: Groups) -> GroupState:
    described = groups.coordinator.describe("g")
    assert isinstance(described, GroupDescription)
    return described.state


def test_one_member_becomes_the_leader_at_once() -> None:
    groups = Groups()
    asked = groups.join().result
    assert asked.error is GroupError.MEMBER_ID_REQUIRED
    assert asked.member_id == "client-id1"
    joined = groups.join(asked.member_id).result
    assert joined.error is GroupError.NONE
    assert joined.generation_id == 1
    assert joined.leader == joined.member_id == "client-id1"
    assert [member.member_id for member in joined.members] == ["client-id1"]
    assert joined.protocol_name == "range"
    assert state_of(groups) is GroupState.COMPLETING_REBALANCE
    assert groups.sync(joined, {"client-id1": b"all"}).result.assignment == b"all"
    assert state_of(groups) is GroupState.STABLE


def test_before_v4_a_member_joins_without_an_id() -> None:
    joined = Groups().join(known=False).result
    assert joined.error is GroupError.NONE
    assert joined.generation_id == 1


def test_members_that_start_together_share_the_first_generation() -> None:
    groups = Groups()
    ids = [groups.join().result.member_id for _ in range(3)]
    answers = [groups.join(member_id) for member_id in ids]
    assert {answer.result.generation_id for answer in answers} == {1}
    leader = next(answer.result for answer in answers if answer.result.members)
    assert {member.member_id for member in leader.members} == set(ids)


def test_an_id_that_is_never_used_holds_nobody_up_for_long() -> None:
    groups = Groups()
    groups.join()
    _, answer = groups.new_member()
    assert not answer.came
    groups.advance(1.0)
    assert answer.result.generation_id == 1


def test_an_id_that_is_not_used_within_the_session_is_forgotten() -> None:
    groups = Groups()
    member_id = groups.join(session_s=10).result.member_id
    groups.advance(11)
    assert groups.join(member_id).result.error is GroupError.UNKNOWN_MEMBER_ID
    assert state_of(groups) is GroupState.DEAD


def test_a_newcomer_makes_the_others_join_again() -> None:
    groups = Groups()
    (first,) = groups.stable(1)
    newcomer, waiting = groups.new_member()
    assert not waiting.came
    assert groups.heartbeat(first.member_id, 1) is GroupError.REBALANCE_IN_PROGRESS
    again = groups.join(first.member_id).result
    assert again.generation_id == waiting.result.generation_id == 2
    assert again.leader == first.member_id
    assert {member.member_id for member in again.members} == {first.member_id, newcomer}
    assert waiting.result.members == ()


def test_followers_wait_for_the_leaders_assignment() -> None:
    groups = Groups()
    ids = [groups.join().result.member_id for _ in range(2)]
    first, second = (groups.join(member_id) for member_id in ids)
    follower = groups.sync(second.result)
    assert not follower.came
    leader = groups.sync(first.result, {ids[0]: b"a", ids[1]: b"b", "stranger": b"c"})
    assert leader.result.assignment == b"a"
    assert follower.result.assignment == b"b"
    late = groups.sync(second.result)
    assert late.result.assignment == b"b"


@pytest.mark.parametrize(
    ("session_s", "error"),
    [
        (5.999, GroupError.INVALID_SESSION_TIMEOUT),
        (6.0, GroupError.MEMBER_ID_REQUIRED),
        (1800.0, GroupError.MEMBER_ID_REQUIRED),
        (1800.001, GroupError.INVALID_SESSION_TIMEOUT),
    ],
)
def test_session_timeouts_have_bounds(session_s: float, error: GroupError) -> None:
    assert Groups().join(session_s=session_s).result.error is error


def test_an_empty_group_id_is_refused() -> None:
    assert Groups().join(group="").result.error is GroupError.INVALID_GROUP_ID


def test_an_unknown_member_id_is_refused() -> None:
    groups = Groups()
    assert groups.join("nobody").result.error is GroupError.UNKNOWN_MEMBER_ID
    groups.stable(1)
    assert groups.join("nobody").result.error is GroupError.UNKNOWN_MEMBER_ID


def test_a_refused_join_leaves_no_group_behind() -> None:
    groups = Groups()
    assert groups.join(offers=()).result.error is GroupError.INCONSISTENT_GROUP_PROTOCOL
    assert groups.join(protocol_type="").result.error is GroupError.INCONSISTENT_GROUP_PROTOCOL
    assert state_of(groups) is GroupState.DEAD
    assert groups.coordinator.list_groups() == []


def test_a_member_needs_something_in_common_with_the_others() -> None:
    groups = Groups()
    groups.stable(1)
    assert groups.join(offers=protocols("sticky")).result.error is GroupError.INCONSISTENT_GROUP_PROTOCOL
    assert groups.join(protocol_type="connect").result.error is GroupError.INCONSISTENT_GROUP_PROTOCOL
    assert groups.join(offers=protocols("sticky", "range")).result.error is GroupError.MEMBER_ID_REQUIRED


def test_the_protocol_is_what_most_members_like_best_of_what_all_offer() -> None:
    groups = Groups()
    ids = [groups.join().result.member_id for _ in range(3)]
    offers = [
        protocols("only-mine", "sticky", "range"),
        protocols("range", "sticky"),
        protocols("sticky", "range"),
    ]
    answers = [groups.join(member_id, offers=offer) for member_id, offer in zip(ids, offers, strict=True)]
    assert {answer.result.protocol_name for answer in answers} == {"sticky"}


def test_the_leader_is_told_the_metadata_of_the_chosen_protocol() -> None:
    groups = Groups()
    offers = (GroupProtocol("a", b"in a's words"), GroupProtocol("b", b"in b's words"))
    joined = groups.join(offers=offers, known=False).result
    assert joined.protocol_name == "a"
    assert joined.members[0].metadata == b"in a's words"


def test_a_group_has_a_largest_size() -> None:
    groups = Groups(GroupSettings(size_max=2))
    members = groups.stable(2)
    assert groups.join().result.error is GroupError.GROUP_MAX_SIZE_REACHED
    assert groups.join(instance="static").result.error is GroupError.GROUP_MAX_SIZE_REACHED
    assert groups.join(members[1].member_id).result.error is GroupError.NONE
    groups.leave(members[1].member_id)
    assert groups.join().result.error is GroupError.MEMBER_ID_REQUIRED


def test_the_initial_delay_waits_for_more_members() -> None:
    groups = Groups(GroupSettings(initial_rebalance_delay_ms=3000))
    first = groups.join(known=False)
    groups.advance(2)
    second = groups.join(known=False)
    groups.advance(2.5)
    assert not first.came, "another member came: the delay began anew"
    groups.advance(0.5)
    assert first.result.generation_id == second.result.generation_id == 1


def test_the_initial_delay_ends_with_the_rebalance_timeout() -> None:
    groups = Groups(GroupSettings(initial_rebalance_delay_ms=3000))
    first = groups.join(known=False, rebalance_s=5)
    for _ in range(4):
        groups.advance(1.25)
        groups.join(known=False)
    assert first.result.generation_id == 1


def test_a_member_that_lost_its_answer_is_told_again() -> None:
    groups = Groups()
    joined = groups.join(known=False).result
    assert groups.join(joined.member_id).result == joined
    assert state_of(groups) is GroupState.COMPLETING_REBALANCE


def test_a_follower_that_joins_a_stable_group_unchanged_is_told_the_generation() -> None:
    groups = Groups()
    leader, follower = groups.stable(2)
    again = groups.join(follower.member_id).result
    assert again.generation_id == leader.generation_id
    assert state_of(groups) is GroupState.STABLE


def test_a_leader_that_joins_a_stable_group_wants_a_rebalance() -> None:
    groups = Groups()
    leader, follower = groups.stable(2)
    waiting = groups.join(leader.member_id)
    assert not waiting.came
    assert groups.heartbeat(follower.member_id, follower.generation_id) is GroupError.REBALANCE_IN_PROGRESS


def test_a_changed_subscription_wants_a_rebalance() -> None:
    groups = Groups()
    leader, follower = groups.stable(2)
    waiting = groups.join(follower.member_id, offers=protocols("range", topics=("orders", "refunds")))
    assert not waiting.came
    groups.join(leader.member_id)
    assert waiting.result.generation_id == leader.generation_id + 1


def test_a_second_join_of_a_waiting_member_answers_the_first() -> None:
    groups = Groups()
    groups.stable(1)
    newcomer, first = groups.new_member()
    second = groups.join(newcomer)
    assert first.result.error is GroupError.REBALANCE_IN_PROGRESS
    assert not second.came


def test_an_answer_may_ask_again_at_once() -> None:
    """A callback that calls the coordinator finds it in a consistent state."""
    groups = Groups()
    synced: list[bytes] = []

    def on_joined(joined: JoinResult) -> None:
        answer = groups.sync(joined, {joined.member_id: b"mine"})
        synced.append(answer.result.assignment)

    request = JoinRequest(
        group_id="g",
        client_id="c",
        client_host="/",
        session_timeout_ms=6000,
        rebalance_timeout_ms=6000,
        protocol_type="consumer",
        protocols=RANGE,
        require_known_member_id=False,
    )
    groups.coordinator.join(request, groups.now, on_joined)
    assert synced == [b"mine"]
    assert state_of(groups) is GroupState.STABLE


def test_nothing_is_taken_before_load() -> None:
    groups = Groups(load=False)
    coordinator = groups.coordinator
    assert groups.join().result.error is GroupError.NOT_COORDINATOR
    assert groups.heartbeat("m", 1) is GroupError.NOT_COORDINATOR
    assert groups.leave("m").error is GroupError.NOT_COORDINATOR
    assert coordinator.describe("g") is GroupError.NOT_COORDINATOR
    assert coordinator.list_groups() is GroupError.NOT_COORDINATOR
    assert coordinator.delete("g", 0) is GroupError.NOT_COORDINATOR
    assert coordinator.check_delete_offsets("g", ["t"]) is GroupError.NOT_COORDINATOR
    assert not coordinator.is_active


def test_unload_answers_whoever_waits() -> None:
    groups = Groups()
    groups.stable(1)
    _, waiting_join = groups.new_member()
    groups.join(group="h", known=False)
    third = groups.join(group="h", known=False)
    groups.coordinator.unload()
    assert waiting_join.result.error is GroupError.NOT_COORDINATOR
    assert third.result.error is GroupError.NOT_COORDINATOR
    assert groups.join().result.error is GroupError.NOT_COORDINATOR
    assert groups.coordinator.next_deadline == float("inf")
    groups.load()
    assert groups.join().result.error is GroupError.MEMBER_ID_REQUIRED


def test_statistics_and_repr() -> None:
    groups = Groups()
    groups.stable(2)
    assert groups.coordinator.statistics() == {
        "Empty": 0, "PreparingRebalance": 0, "CompletingRebalance": 0, "Stable": 1, "Dead": 0, "members": 2,
    }  # fmt: skip
    assert repr(groups.coordinator) == "<GroupCoordinator active groups=1>"


def test_a_member_has_only_so_much_to_say_of_itself() -> None:
    """It is held for as long as its session lasts, whether its connection does or not."""
    groups = Groups()
    offers = (GroupProtocol("range", bytes(1 << 19)), GroupProtocol("other", bytes(1 << 19)))
    assert groups.join(offers=offers, known=False).result.error is GroupError.GROUP_MAX_SIZE_REACHED
    assert groups.join(offers=offers[:1], known=False).result.error is GroupError.NONE


def test_all_groups_together_hold_no_more_than_the_broker_can_afford() -> None:
    """Each keeps its own limit: what members offer, and what a leader assigns, is counted over all."""
    groups, large = Groups(), (GroupProtocol("range", bytes(1 << 20)[:-5]),)
    joined = [groups.join(group=f"g{n}", offers=large, known=False).result for n in range(70)]
    taken = [result.error for result in joined].count(GroupError.NONE)
    assert 60 < taken < 64 and {one.error for one in joined[taken:]} == {GroupError.GROUP_MAX_SIZE_REACHED}
    one = groups.join(group="small", known=False).result
    assert one.error is GroupError.NONE
    too_much = groups.sync(one, {one.member_id: bytes(4 << 20)}, group="small")
    assert too_much.result.error is GroupError.GROUP_MAX_SIZE_REACHED
    assert groups.sync(one, {one.member_id: b"all"}, group="small").result.assignment == b"all"
    groups.advance(SESSION_S + 1)  # they are gone
    assert groups.join(group="g69", offers=large, known=False).result.error is GroupError.NONE
