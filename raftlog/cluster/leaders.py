"""Which broker leads which partition, as last heard here: what clients are told.

What is heard are hints, not consensus (`hints`); where a replica is kept here, its group may know better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import trio

from raftlog.cluster.changes import Changes
from raftlog.cluster.hints import Hints
from raftlog.metadata.catalog import Catalog, Topic
from raftlog.raft.group import RaftGroup
from raftlog.types import BrokerId, GroupKey, Term, group_key

LEADER_POLL_S: Final = 0.05
LEADERS_TIMEOUT_S: Final = 5.0
"""How long a start waits for the leaders of all partitions; a majority of theirs may be down."""


class Leaders:
    """Looks up leaders, and waits for them."""

    def __init__(
        self, hints: Hints, groups: Mapping[GroupKey, RaftGroup], catalog: Catalog, changes: Changes
    ) -> None:
        """`groups` are those of this broker."""
        self._hints = hints
        self._groups = groups
        self._catalog = catalog
        self._changes = changes

    def leader_of(self, topic: Topic, partition: int) -> tuple[BrokerId | None, Term]:
        """The leader of a partition, as last heard here, and its leader epoch, which never goes back. No
        leader while the replica here sees that one hand over, or does not hear it: a client that is sent
        there loses more time than one that asks again until the next leader is known."""
        key = group_key(topic.topic_id, partition)
        leader, epoch = self._hints.leader(key)
        group = self._groups.get(key)
        if leader is None or group is None or group.may_be_led_in(epoch, trio.current_time()):
            return leader, epoch
        return None, epoch

    def is_known(self, topic: Topic, partition: int) -> bool:
        """Whether a partition has a leader that this broker has heard of."""
        return self._hints.leader(group_key(topic.topic_id, partition))[0] is not None

    def are_known(self, topic: Topic) -> bool:
        """Whether every partition has."""
        return all(self.is_known(topic, number) for number in range(len(topic.partitions)))

    async def wait_for_leaders(self, topic: Topic) -> None:
        """Until this broker knows a leader, ready to be produced to, of every partition of `topic`, or the
        topic is gone."""
        while topic.topic_id in self._catalog.topics_by_id and not self._is_led(topic):
            with trio.move_on_after(LEADER_POLL_S):  # no change is told when a silent leader is heard again
                await self._changes.wait()

    async def wait_for_all(self) -> None:
        """As far as that goes within LEADERS_TIMEOUT_S."""
        with trio.move_on_after(LEADERS_TIMEOUT_S):
            for topic in list(self._catalog.topics.values()):
                await self.wait_for_leaders(topic)

    def _is_led(self, topic: Topic) -> bool:
        return all(self.leader_of(topic, number)[0] is not None for number in range(len(topic.partitions)))
