"""A group that is deleted has no members where the deletion is applied, not only where it was asked for."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from raftlog.broker.handlers.delete_groups import _delete
from raftlog.cluster.groups import CommitCheck, GroupError, SyncRequest
from raftlog.metadata.offsets import CommitOffsets, GroupCommit, OffsetCommit
from raftlog.metadata.topics import CreateTopic
from raftlog.protocol.errors import ErrorCode
from tests.sim.cluster import Cluster
from tests.sim.directed import coordinator, join_alone
from tests.sim.node import SimNode
from tests.sim.replaced import living_on

TOPIC = b"t" * 16


def commit_of(offset: int) -> GroupCommit:
    return GroupCommit("g", 0, (OffsetCommit("t", 0, offset),))


def test_a_deletion_that_waited_takes_no_offsets_from_a_group_that_has_members_by_then() -> None:
    cluster = Cluster(1, "calm")
    with living_on(cluster.trio):
        cluster.form()
        world = cluster.world
        old = coordinator(cluster)
        assert old.node is not None
        told: list[Any] = []
        old.node.propose(CreateTopic(name="t", topic_id=TOPIC, partitions=((old.id,),)), told.append)
        world.run_until(world.now + 2.0)
        old.node.propose(CommitOffsets(commits=(commit_of(1),)), told.append)
        world.run_until(world.now + 1.0)
        # The group is empty, and is to be deleted. The coordinator is cut off just then.
        others = [b for b in cluster.brokers.values() if b is not old]
        for other in others:
            cluster.links.cut(old.id, other.id)
            cluster.links.cut(other.id, old.id)
        deleted: list[Any] = []
        call = SimpleNamespace(
            backend=SimpleNamespace(groups=old.node.groups, proposer=old.node.real.proposer),
            now=world.now,
            refusal=lambda *what: None,
        )
        old.node.ask(partial(_delete, cast(Any, call), "g"), deleted.append)
        world.run_until(world.now + 5.0)
        assert ErrorCode.NONE not in deleted
        # A consumer goes to the next coordinator, joins, and commits.
        new = coordinator(cluster, without=old).node
        assert new is not None
        member, generation = join(new, world.now)
        world.run_until(world.now + 0.5)
        check = CommitCheck(group_id="g", member_id=member, generation_id=generation)
        assert new.groups.check_commit(check, world.now) is GroupError.NONE
        committed: list[Any] = []
        new.real.offsets.commit(commit_of(100), committed.append)
        world.run_until(world.now + 0.5)
        cluster.links.heal()
        world.run_until(world.now + 5.0)
        found = new.catalog.committed_offset("g", "t", 0)
        assert found is not None and found.offset == 100, "what was acknowledged is there"


def join(node: SimNode, now: float) -> tuple[str, int]:
    """A member of a group of one, with its assignment."""
    result = join_alone(node, now)
    sync = SyncRequest(
        group_id="g",
        member_id=result.member_id,
        generation_id=result.generation_id,
        assignments={result.member_id: b"all"},
    )
    node.groups.sync(sync, now, lambda result: None)
    return result.member_id, result.generation_id
