"""A consumer's commits: those that its user asks for, and those that it makes by itself.

A consumer may lose a partition and get it back. It then reads on from the last commit that the group has. A
commit from before the loss would jump over what is read again: the client refuses it without asking a broker.
When the loss comes while the coordinator is asked, the request has the generation from before the loss, and
the caller gets RebalanceNeeded, also when the coordinator took the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from raftlog.client.assignment import Partition
from raftlog.client.cluster import Cluster
from raftlog.client.errors import BrokerError, ClientError, Disconnected, RebalanceNeeded
from raftlog.client.group import Member, Membership
from raftlog.client.metadata import TopicPartition
from raftlog.client.offsets import CommittedOffset, commit_offsets, fetch_committed
from raftlog.protocol.errors import ErrorCode

Offsets = Mapping[TopicPartition, CommittedOffset]

_LOST_GENERATION: Final = {
    ErrorCode.ILLEGAL_GENERATION,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.FENCED_INSTANCE_ID,
}
_OTHER_COORDINATOR: Final = {ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE}


class GroupMetadata:
    """Who reads for a group, and which partitions: what a transaction needs to commit offsets (KIP-447).

    Made by `Consumer.group_metadata`, right after the records were handed out: it remembers that the consumer
    held their partitions then. Offsets of a partition that has been taken away since are refused, also when
    it has been given back: somebody else may have done the work meanwhile.
    """

    def __init__(
        self, group: Membership, partitions: Mapping[TopicPartition, Partition], *, must_be_member: bool
    ) -> None:
        self._group = group
        self._partitions = partitions
        self._held = dict(partitions)
        self._must_be_member = must_be_member
        self.check(())

    @property
    def group(self) -> str:
        """The group's name."""
        return self._group.group

    @property
    def member(self) -> Member:
        """The consumer as a member of the group, as of now. As long as `check` is content its generation is
        that of whoever has read the records."""
        return self._group.member

    def holds(self, key: TopicPartition) -> bool:
        """Whether the consumer has had a partition all the time since this was made."""
        return key in self._held and self._partitions.get(key) is self._held[key]

    def check(self, keys: Iterable[TopicPartition]) -> None:
        """Raise RebalanceNeeded unless the consumer is a member, and has had these all the time."""
        if self._must_be_member and not self._group.member.joined:
            raise RebalanceNeeded(f"group {self.group!r}: this consumer is not a member now")
        if not all(self.holds(key) for key in keys):
            raise RebalanceNeeded(f"group {self.group!r}: partitions have changed hands")

    def __repr__(self) -> str:
        return f"<GroupMetadata {self.group} {self.member!r}>"


class Commits:
    """The offsets of one consumer in its group. `partitions` are those that it reads, kept up by others."""

    def __init__(
        self, cluster: Cluster, group: Membership, partitions: Mapping[TopicPartition, Partition]
    ) -> None:
        self.made = 0
        self.must_be_member = True
        """The group gives the partitions: only a member may commit."""
        self._cluster = cluster
        self._group = group
        self._partitions = partitions
        self._known: dict[TopicPartition, int] = {}

    def __repr__(self) -> str:
        return f"<Commits of {self._group.group} made={self.made}>"

    async def commit(self, offsets: Offsets) -> None:
        """Try until it works, the group has given the partitions to others, or the time is over."""
        name = self._group.group
        held = {key: self._partitions.get(key) for key in offsets}

        def check_held() -> None:
            if any(self._partitions.get(key) is not partition for key, partition in held.items()):
                raise RebalanceNeeded(f"commit of group {name!r}: partitions have changed hands")

        async def attempt() -> None:
            check_held()
            await self._once(offsets)
            check_held()  # a partition that came back meanwhile may be read from before this commit

        await self._cluster.retrying(attempt, what=f"commit of group {name!r}")

    async def commit_changed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Try once, for what has changed; what fails now is tried again later, or is no longer ours."""
        changed = {
            key: CommittedOffset(offset)
            for key, offset in positions.items()
            if self._known.get(key) != offset
        }
        if changed:
            try:
                await self._once(changed)
            except ClientError:
                pass

    def group_metadata(self) -> GroupMetadata:
        """For transactions. Raises RebalanceNeeded when the consumer is not a member."""
        return GroupMetadata(self._group, self._partitions, must_be_member=self.must_be_member)

    async def committed(self, keys: list[TopicPartition]) -> dict[TopicPartition, CommittedOffset | None]:
        """Where the group goes on. Tries until it works or the time is over."""
        return await self._cluster.retrying(lambda: self.fetch(keys), what="committed offsets")

    async def fetch(self, keys: list[TopicPartition]) -> dict[TopicPartition, CommittedOffset | None]:
        """The same, trying once."""
        group = self._group
        try:
            coordinator = await group.coordinator()
            found = await fetch_committed(
                self._cluster, coordinator, group.group, keys, stable=True, lane=group.commit_lane
            )
        except ClientError:
            group.coordinator_failed()
            raise
        self._known.update({key: place.offset for key, place in found.items() if place is not None})
        return found

    def forget(self, keys: Iterable[TopicPartition]) -> None:
        """These partitions are read no longer."""
        for key in keys:
            self._known.pop(key, None)

    async def _once(self, offsets: Offsets) -> None:
        group, member = self._group, self._group.member
        if not member.joined and self.must_be_member:
            raise RebalanceNeeded(f"commit of group {group.group!r}: this consumer is not a member now")
        generation, member_id = member.generation, member.member_id  # as of when the offsets were read
        try:
            await commit_offsets(
                self._cluster,
                await group.coordinator(),
                group.group,
                offsets,
                generation=generation,
                member_id=member_id,
                instance_id=member.instance_id,
                lane=group.commit_lane,
            )
        except BrokerError as error:
            if error.code in _OTHER_COORDINATOR:
                group.coordinator_failed()
            if error.code is ErrorCode.REBALANCE_IN_PROGRESS and offsets.keys() <= self._partitions.keys():
                raise Disconnected("the group is rebalancing") from error  # try again in the new generation
            if error.code in _LOST_GENERATION or error.code is ErrorCode.REBALANCE_IN_PROGRESS:
                group.request_rejoin()
                raise RebalanceNeeded(f"commit of group {group.group!r}: {error}") from error
            raise
        except ClientError:
            group.coordinator_failed()
            raise
        self.made += 1
        self._known.update({key: place.offset for key, place in offsets.items()})
