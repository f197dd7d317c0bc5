"""Static members: they come back without a rebalance, and only one of them lives (KIP-345, KIP-814)."""

from __future__ import annotations

from raftlog.cluster.groups import GroupDescription, GroupError, GroupState, JoinResult
from tests.groups import REBALANCE_S, SESSION_S, Groups, protocols


def stable_static(groups: Groups, *instances: str) -> dict[str, JoinResult]:
    """A stable group of static members; each owns its instance id as bytes. The first one leads."""
    first = groups.join(instance=instances[0]).result
    waiting = {instance: groups.join(instance=instance) for instance in instances[1:]}
    if waiting:
        waiting[instances[0]] = groups.join(first.member_id, instance=instances[0])
        joined = {instance: answer.result for instance, answer in waiting.items()}
    else:
        joined = {instances[0]: first}
    parts = {result.member_id: instance.encode() for instance, result in joined.items()}
    for instance, result in joined.items():
        groups.sync(result, parts if result.members else None, instance=instance)
    return joined


def state_of(groups: Groups) -> GroupState:
    described = groups.coordinator.describe("g")
    assert isinstance(described, GroupDescription)
    return described.state


def test_a_static_member_needs_no_id_first() -> None:
    joined = Groups().join(instance="a").result
    assert joined.error is GroupError.NONE
    assert joined.member_id == "a-id1"
    assert joined.members[0].instance_id == "a"


def test_it_comes_back_to_a_stable_group_without_a_rebalance() -> None:
    groups = Groups()
    joined = stable_static(groups, "a", "b")
    back = groups.join(instance="b").result
    assert back.error is GroupError.NONE
    assert back.generation_id == joined["b"].generation_id
    assert back.member_id != joined["b"].member_id
    assert not back.skip_assignment, "it does not lead"
    assert state_of(groups) is GroupState.STABLE
    assert groups.sync(back, instance="b").result.assignment == b"b"
    assert groups.heartbeat(joined["a"].member_id, back.generation_id, "a") is GroupError.NONE


def test_the_one_before_is_fenced() -> None:
    groups = Groups()
    old = stable_static(groups, "a", "b")["b"]
    groups.join(instance="b")
    assert groups.heartbeat(old.member_id, old.generation_id, "b") is GroupError.FENCED_INSTANCE_ID
    assert groups.sync(old, instance="b").result.error is GroupError.FENCED_INSTANCE_ID
    assert groups.join(old.member_id, instance="b").result.error is GroupError.FENCED_INSTANCE_ID


def test_a_leader_that_comes_back_skips_the_assignment() -> None:
    groups = Groups()
    joined = stable_static(groups, "a", "b")
    back = groups.join(instance="a").result
    assert back.leader == back.member_id
    assert back.skip_assignment
    assert {member.instance_id for member in back.members} == {"a", "b"}
    assert groups.sync(back, {"whatever": b"x"}, instance="a").result.assignment == b"a"
    assert groups.heartbeat(joined["b"].member_id, back.generation_id, "b") is GroupError.NONE


def test_a_leader_that_cannot_skip_is_told_that_another_leads() -> None:
    groups = Groups()
    joined = stable_static(groups, "a", "b")
    back = groups.join(instance="a", skip=False).result
    assert back.leader == joined["a"].member_id != back.member_id
    assert back.members == ()
    assert groups.sync(back, instance="a").result.assignment == b"a"


def test_it_comes_back_with_another_subscription_and_the_group_rebalances() -> None:
    groups = Groups()
    stable_static(groups, "a", "b")
    back = groups.join(instance="b", offers=protocols("range", topics=("refunds",)))
    assert not back.came
    assert state_of(groups) is GroupState.PREPARING_REBALANCE


def test_user_data_that_changes_with_every_start_is_no_reason_to_rebalance() -> None:
    """A sticky assignor's metadata says what was owned, which is nothing after a restart."""
    groups = Groups()
    stable_static(groups, "a", "b")
    offers = tuple(type(p)(p.name, p.metadata[:-4] + b"\0\0\0\1x") for p in protocols("range"))
    assert groups.join(instance="b", offers=offers).result.error is GroupError.NONE
    assert state_of(groups) is GroupState.STABLE


def test_one_that_waits_is_answered_when_another_takes_its_place() -> None:
    groups = Groups()
    joined = stable_static(groups, "a", "b")
    groups.join()  # holds up nobody yet
    waiting = groups.join(joined["b"].member_id, instance="b", offers=protocols("range", topics=("x",)))
    replaced = groups.join(instance="b")
    assert waiting.result.error is GroupError.FENCED_INSTANCE_ID
    assert not replaced.came
    groups.join(joined["a"].member_id, instance="a")
    groups.advance(1.0)
    assert replaced.result.error is GroupError.NONE


def test_one_that_waits_for_its_part_is_fenced_and_the_group_rebalances() -> None:
    groups = Groups()
    first = groups.join(instance="a").result
    second = groups.join(instance="b")
    groups.join(first.member_id, instance="a")
    waiting = groups.sync(second.result, instance="b")
    groups.join(instance="b")
    assert waiting.result.error is GroupError.FENCED_INSTANCE_ID
    assert state_of(groups) is GroupState.PREPARING_REBALANCE


def test_it_stays_a_member_until_its_session_runs_out() -> None:
    """The rebalance timeout throws out dynamic members only."""
    groups = Groups()
    first = groups.join(instance="a", rebalance_s=5).result
    second = groups.join(instance="b", rebalance_s=5, session_s=100)
    first = groups.join(first.member_id, instance="a", rebalance_s=5).result
    groups.sync(first, {second.result.member_id: b"b"}, instance="a")
    groups.sync(second.result, instance="b")
    again = groups.join(first.member_id, instance="a", rebalance_s=5)
    groups.advance(5)
    assert {member.instance_id for member in again.result.members} == {"a", "b"}
    assert groups.heartbeat(second.result.member_id, 2, "b") is GroupError.ILLEGAL_GENERATION
    told = groups.join(second.result.member_id, instance="b", rebalance_s=5).result
    assert told.generation_id == again.result.generation_id


def test_when_only_absent_static_members_are_left_they_are_waited_for() -> None:
    groups = Groups()
    joined = stable_static(groups, "a", "b")
    groups.leave(joined["a"].member_id)
    assert state_of(groups) is GroupState.PREPARING_REBALANCE
    groups.advance(SESSION_S - 0.1)
    assert state_of(groups) is GroupState.PREPARING_REBALANCE
    groups.advance(REBALANCE_S)
    assert state_of(groups) is GroupState.EMPTY


def test_one_that_comes_back_waits_for_an_absent_one_no_longer_than_the_rebalance_timeout() -> None:
    groups = Groups()
    joined = stable_static(groups, "a", "b", "c")
    generation = joined["a"].generation_id
    groups.leave(joined["a"].member_id)

    def both_beat(seconds: float) -> None:
        for _ in range(int(seconds / 5)):
            for instance in ("b", "c"):
                groups.heartbeat(joined[instance].member_id, generation, instance)
            groups.advance(5)

    both_beat(REBALANCE_S + 10)
    assert state_of(groups) is GroupState.PREPARING_REBALANCE, "nobody has joined"
    back = groups.join(joined["b"].member_id, instance="b")
    both_beat(REBALANCE_S)
    assert back.result.leader == joined["b"].member_id


def test_an_unknown_instance_is_refused() -> None:
    groups = Groups()
    joined = stable_static(groups, "a")
    assert groups.join("a-id1", instance="x").result.error is GroupError.UNKNOWN_MEMBER_ID
    assert groups.heartbeat("a-id1", joined["a"].generation_id, "x") is GroupError.UNKNOWN_MEMBER_ID
    pending = groups.join().result.member_id
    assert groups.join(pending, instance="x").result.error is GroupError.UNKNOWN_MEMBER_ID
