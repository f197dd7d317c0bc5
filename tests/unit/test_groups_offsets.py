"""What is asked of a group beside its protocol: commits, descriptions, lists, deletions, expiry."""

from __future__ import annotations

import pytest

from raftlog.cluster.groups import (
    CommitCheck,
    GroupDescription,
    GroupError,
    GroupListing,
    GroupState,
)
from raftlog.cluster.groups.subscription import subscribed_topics
from raftlog.metadata.offsets import DeleteGroup
from raftlog.types import RaftIndex
from tests.groups import Groups, protocols, subscription


def check(groups: Groups, member_id: str = "", generation: int = -1, **how: object) -> GroupError:
    request = CommitCheck(group_id="g", member_id=member_id, generation_id=generation, **how)  # type: ignore[arg-type]
    return groups.coordinator.check_commit(request, groups.now)


def test_a_consumer_without_a_group_protocol_commits_to_an_empty_group() -> None:
    groups = Groups()
    assert check(groups) is GroupError.NONE
    (joined,) = groups.stable(1)
    assert check(groups) is GroupError.UNKNOWN_MEMBER_ID
    groups.leave(joined.member_id)
    assert check(groups) is GroupError.NONE


def test_a_member_commits_in_its_generation() -> None:
    groups = Groups()
    (joined,) = groups.stable(1)
    assert check(groups, joined.member_id, 1) is GroupError.NONE
    assert check(groups, joined.member_id, 2) is GroupError.ILLEGAL_GENERATION
    assert check(groups, joined.member_id, -1) is GroupError.ILLEGAL_GENERATION
    assert check(groups, "m", 1) is GroupError.UNKNOWN_MEMBER_ID


def test_a_member_that_a_new_coordinator_does_not_know_learns_so_when_it_commits() -> None:
    """Told that only its generation is wrong, librdkafka joins again with its old id, is refused, and waits
    for two seconds before it tries without."""
    groups = Groups()
    assert check(groups, "m", 1) is GroupError.UNKNOWN_MEMBER_ID
    assert check(groups, "", 1) is GroupError.ILLEGAL_GENERATION


def test_a_member_commits_what_it_is_about_to_give_up() -> None:
    groups = Groups()
    (joined,) = groups.stable(1)
    groups.new_member()
    assert check(groups, joined.member_id, 1) is GroupError.NONE
    groups.join(joined.member_id)
    assert check(groups, joined.member_id, 1) is GroupError.ILLEGAL_GENERATION
    assert check(groups, joined.member_id, 2) is GroupError.REBALANCE_IN_PROGRESS


def test_a_commit_is_a_heartbeat() -> None:
    groups = Groups()
    (joined,) = groups.stable(1)
    for _ in range(5):
        groups.advance(9)
        assert check(groups, joined.member_id, 1) is GroupError.NONE


def test_static_members_are_fenced_from_committing() -> None:
    groups = Groups()
    old = groups.join(instance="a").result
    groups.sync(old, {old.member_id: b""}, instance="a")
    new = groups.join(instance="a").result
    assert check(groups, old.member_id, 1, instance_id="a") is GroupError.FENCED_INSTANCE_ID
    assert check(groups, new.member_id, 1, instance_id="a") is GroupError.NONE
    assert check(groups, new.member_id, 1, instance_id="b") is GroupError.UNKNOWN_MEMBER_ID


def test_transactional_commits_name_their_member_or_nobody() -> None:
    groups = Groups()
    (joined,) = groups.stable(1)
    assert check(groups, transactional=True) is GroupError.NONE
    assert check(groups, joined.member_id, 1, transactional=True) is GroupError.NONE
    assert check(groups, joined.member_id, 0, transactional=True) is GroupError.ILLEGAL_GENERATION
    assert check(groups, "m", 1, transactional=True) is GroupError.UNKNOWN_MEMBER_ID


def test_a_description_shows_members_and_what_they_have() -> None:
    groups = Groups()
    (joined,) = groups.stable(1)
    description = groups.coordinator.describe("g")
    assert isinstance(description, GroupDescription)
    (member,) = description.members
    assert description.state is GroupState.STABLE
    assert (description.protocol_type, description.protocol_name) == ("consumer", "range")
    assert (member.member_id, member.client_id, member.client_host) == (
        joined.member_id,
        "client",
        "/127.0.0.1",
    )
    assert member.metadata == subscription("orders")
    assert member.assignment == joined.member_id.encode()


def test_groups_are_described_by_what_is_known() -> None:
    groups = Groups(stored={"stored"})
    assert groups.coordinator.describe("none") == GroupDescription(group_id="none", state=GroupState.DEAD)
    assert groups.coordinator.describe("stored") == GroupDescription(
        group_id="stored", state=GroupState.EMPTY
    )


def test_lists_are_filtered() -> None:
    groups = Groups(stored={"stored", "g"})
    groups.stable(1)
    stable = GroupListing("g", "consumer", GroupState.STABLE)
    stored = GroupListing("stored", "", GroupState.EMPTY)
    assert groups.coordinator.list_groups() == [stable, stored]
    assert groups.coordinator.list_groups(["stable"]) == [stable]
    assert groups.coordinator.list_groups(["Empty", "Dead"]) == [stored]
    assert groups.coordinator.list_groups([], ["Classic"]) == [stable, stored]
    assert groups.coordinator.list_groups([], ["consumer"]) == []


def test_only_groups_without_members_are_deleted() -> None:
    groups = Groups(stored={"stored"})
    assert groups.coordinator.delete("none", groups.now) is GroupError.GROUP_ID_NOT_FOUND
    assert groups.coordinator.delete("stored", groups.now) is GroupError.NONE
    (joined,) = groups.stable(1)
    assert groups.coordinator.delete("g", groups.now) is GroupError.NON_EMPTY_GROUP
    groups.leave(joined.member_id)
    assert groups.coordinator.delete("g", groups.now) is GroupError.NONE
    DeleteGroup(group="g").apply(groups.kept.catalog, RaftIndex(1))  # as the caller proposes
    assert groups.coordinator.delete("g", groups.now) is GroupError.GROUP_ID_NOT_FOUND


def test_offsets_of_topics_that_are_read_are_not_deleted() -> None:
    groups = Groups(stored={"stored"})
    ask = groups.coordinator.check_delete_offsets
    assert ask("none", ["orders"]) is GroupError.GROUP_ID_NOT_FOUND
    assert ask("stored", ["orders"]) == {"orders": GroupError.NONE}
    (joined,) = groups.stable(1)
    assert ask("g", ["orders", "refunds"]) == {
        "orders": GroupError.GROUP_SUBSCRIBED_TO_TOPIC,
        "refunds": GroupError.NONE,
    }
    groups.leave(joined.member_id)
    assert ask("g", ["orders"]) == {"orders": GroupError.NONE}


def test_a_subscription_that_cannot_be_read_protects_everything() -> None:
    groups = Groups()
    offer = tuple(type(p)(p.name, b"?") for p in protocols("range"))
    groups.join(offers=offer, known=False)
    assert groups.coordinator.check_delete_offsets("g", ["t"]) == {"t": GroupError.GROUP_SUBSCRIBED_TO_TOPIC}


def test_offsets_of_other_kinds_of_groups_are_not_deleted_while_they_have_members() -> None:
    groups = Groups()
    groups.join(protocol_type="connect", known=False)
    assert groups.coordinator.check_delete_offsets("g", ["t"]) is GroupError.NON_EMPTY_GROUP


@pytest.mark.parametrize(
    ("metadata", "topics"),
    [
        (subscription(), set()),
        (subscription("a", "b"), {"a", "b"}),
        (subscription("a") + b"whatever later versions say", {"a"}),
        (b"", None),
        (b"\0\0\0\0\0", None),
        (b"\0\0\x7f\xff\xff\xff", None),
        (b"\0\0\xff\xff\xff\xff", None),
        (b"\xff\xff\0\0\0\0", None),
        (b"\0\0\0\0\0\1\0\5ab", None),
        (b"\0\0\0\0\0\1\xff\xffab", None),
        (b"\0\0\0\0\0\1\0\1\xff", None),
        (b"\0\0\0\0\0\1\0", None),
    ],
)
def test_subscriptions_are_read_or_not(metadata: bytes, topics: set[str] | None) -> None:
    assert subscribed_topics(metadata) == topics


def test_groups_expire_when_they_have_been_empty_for_the_retention() -> None:
    groups = Groups(stored={"g", "old"})
    hour_ms = 3_600_000
    (joined,) = groups.stable(1)
    for _ in range(300):  # half an hour: the longest session there may be
        assert groups.coordinator.expirable(["g", "old"], hour_ms, groups.now) == []
        groups.advance(6)
        groups.heartbeat(joined.member_id, 1)
    assert groups.coordinator.expirable(["g", "old"], hour_ms, groups.now) == ["old"]
    groups.leave(joined.member_id)
    groups.advance(3599)
    assert groups.coordinator.expirable(["g", "old"], hour_ms, groups.now) == ["old"]
    groups.advance(1)
    assert groups.coordinator.expirable(["g", "old"], hour_ms, groups.now) == ["g", "old"]
    groups.coordinator.unload()
    assert groups.coordinator.expirable(["g", "old"], hour_ms, groups.now) == []
