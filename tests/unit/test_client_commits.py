"""Commits that are overtaken by a rebalance: nobody is told that they hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from raftlog.client.assignment import Partition
from raftlog.client.commits import Commits
from raftlog.client.errors import RebalanceNeeded
from raftlog.client.group import Member
from raftlog.client.metadata import TopicPartition
from raftlog.client.offsets import CommittedOffset

KEY = TopicPartition("t", 0)


class Group:
    """A membership whose coordinator has to be looked up; `meanwhile` happens while it is."""

    group, commit_lane = "g", "commit"

    def __init__(self) -> None:
        self.member = Member()
        self.member.member_id, self.member.generation = "m", 1
        self.meanwhile: Callable[[], None] = lambda: None

    async def coordinator(self) -> int:
        self.meanwhile()
        return 1


class Cluster:
    """Takes every commit; `meanwhile` happens before the answer."""

    def __init__(self) -> None:
        self.generations: list[int] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def retrying(self, attempt: Callable[[], Awaitable[None]], *, what: str) -> None:
        await attempt()

    async def ask(self, broker: int, api: object, fields: dict[str, Any], **options: object) -> Any:
        self.generations.append(fields["generation_id_or_member_epoch"])
        self.meanwhile()
        return SimpleNamespace(topics=[])


class World:
    def __init__(self) -> None:
        self.group, self.cluster = Group(), Cluster()
        self.partitions = {KEY: Partition(KEY)}
        self.commits = Commits(self.cluster, self.group, self.partitions)  # type: ignore[arg-type]

    def rebalance(self) -> None:
        """The partition is lost, and given back in the next generation."""
        self.group.member.generation = 2
        self.partitions[KEY] = Partition(KEY)


async def test_a_commit_while_the_coordinator_is_looked_up_is_of_the_generation_before() -> None:
    world = World()
    world.group.meanwhile = world.rebalance
    with pytest.raises(RebalanceNeeded):
        await world.commits.commit({KEY: CommittedOffset(5)})
    assert world.cluster.generations == [1]


async def test_a_commit_that_is_answered_after_a_rebalance_is_not_said_to_hold() -> None:
    world = World()
    world.cluster.meanwhile = world.rebalance
    with pytest.raises(RebalanceNeeded):
        await world.commits.commit({KEY: CommittedOffset(5)})


async def test_a_commit_that_nothing_overtakes_holds() -> None:
    world = World()
    await world.commits.commit({KEY: CommittedOffset(5)})
    assert world.cluster.generations == [1]
    assert world.commits.made == 1
