"""A consumer group in memory: who is in it, and who has what. Eager, by range, as a worker asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from raftlog.client.assignors import Assignor
from raftlog.client.consumer import RebalanceListener
from raftlog.client.group_protocol import Subscription
from raftlog.client.metadata import TopicPartition
from tests.streams.world.log import Log, NotAMember

if TYPE_CHECKING:
    from tests.streams.world.client import WorldClient, WorldConsumer

SESSION_SECONDS = 10.0
"""A member that was not heard for so long is put out; what it has goes to others."""


class Member:
    """One consumer of the group. `generation` is the one that it knows of."""

    def __init__(
        self,
        consumer: WorldConsumer,
        listener: RebalanceListener,
        client: WorldClient,
        topics: frozenset[str],
        assignor: Assignor | None = None,
    ) -> None:
        self.consumer = consumer
        self.listener = listener
        self.client = client
        self.topics = topics
        self.assignor = assignor
        self.generation = -1
        self.holds: frozenset[TopicPartition] = frozenset()
        self.heard = trio.current_time()


class Group:
    """The group of one app."""

    def __init__(self, log: Log) -> None:
        self.generation = 0
        self.members: list[Member] = []
        self._log = log
        self._changed = trio.Event()
        self._too_slow: list[Member] = []
        """Put out while they were answering: they hear of it soon."""

    def join(self, member: Member) -> None:
        """One more member: a rebalance."""
        self.members.append(member)
        self._changed.set()

    def leave(self, member: Member) -> None:
        """A member says goodbye."""
        if member in self.members:
            self.members.remove(member)
            self._changed.set()

    def shake(self) -> None:
        """A rebalance for no reason of ours."""
        self._changed.set()

    def check(self, of: Any) -> None:
        """Whether a commit may count. Raises NotAMember."""
        member, generation = of
        if member not in self.members or generation != self.generation:
            raise NotAMember(f"generation {generation} is over, it is {self.generation}")

    async def run(self) -> None:
        """Rebalance when something has changed, and put out who is silent."""
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_after(0.5):
                    await self._changed.wait()
                now = trio.current_time()
                for member in list(self.members):
                    if not member.client.is_dead and member.client.awake.is_set():
                        member.heard = now
                    elif now - member.heard > SESSION_SECONDS:
                        self.members.remove(member)
                        self._changed.set()
                while self._too_slow:
                    nursery.start_soon(self.tell_the_lost, self._too_slow.pop())
                if self._changed.is_set():
                    self._changed = trio.Event()
                    await self._rebalance()

    async def _rebalance(self) -> None:
        """Everybody gives up what it has; a member that does not answer in time is put out."""
        async with trio.open_nursery() as nursery:
            for member in list(self.members):
                nursery.start_soon(self._revoke, member)
        self.generation += 1
        for member in self.members:
            member.generation = self.generation
        shares = self._shares()
        for member in self.members:
            member.holds = shares[member]
            member.consumer.hold(member.holds)
        for member in list(self.members):
            if member.holds and not member.client.is_dead:
                await member.listener.on_assigned(member.consumer, member.holds)

    async def _revoke(self, member: Member) -> None:
        with trio.move_on_after(SESSION_SECONDS) as scope:
            while member.client.is_dead or not member.client.awake.is_set():  # noqa: ASYNC110
                await trio.sleep(0.1)
            if member.holds:
                await member.listener.on_revoked(member.consumer, member.holds)
                member.holds = frozenset()
        if scope.cancelled_caught and member in self.members:
            self.members.remove(member)
            if member.client.awake.is_set() and not member.client.is_dead:
                self._too_slow.append(member)

    async def tell_the_lost(self, member: Member) -> None:
        """A member that was put out hears of it, when it wakes up or with its next heartbeat."""
        if member not in self.members and member.holds:
            holds, member.holds = member.holds, frozenset()
            await member.listener.on_lost(member.consumer, holds)
            member.consumer.hold(())
            self.members.append(member)
            self._changed.set()

    def _shares(self) -> dict[Member, frozenset[TopicPartition]]:
        own = [member.assignor for member in self.members if member.assignor is not None]
        if own and len(own) == len(self.members):
            return self._shares_by(own[0])
        return self._shares_by_range()

    def _shares_by(self, leader: Assignor) -> dict[Member, frozenset[TopicPartition]]:
        """What their own assignor makes of it: bytes go through the group, which does not read them."""
        names = {f"{number:03}": member for number, member in enumerate(self.members)}
        told = {
            name: Subscription(topics=tuple(member.topics), user_data=member.assignor.user_data())
            for name, member in names.items()
            if member.assignor is not None
        }
        counts = {topic: len(self._log.topics[topic]) for member in self.members for topic in member.topics}
        shares = leader.assign(told, counts)
        for name, member in names.items():
            if member.assignor is not None:
                member.assignor.assigned(shares[name][1])
        return {names[name]: frozenset(partitions) for name, (partitions, _) in shares.items()}

    def _shares_by_range(self) -> dict[Member, frozenset[TopicPartition]]:
        shares: dict[Member, set[TopicPartition]] = {member: set() for member in self.members}
        for topic in sorted({topic for member in self.members for topic in member.topics}):
            partitions = range(len(self._log.topics[topic]))
            each, more = divmod(len(partitions), len(self.members))
            at = 0
            for number, member in enumerate(self.members):
                width = each + (number < more)
                shares[member] |= {TopicPartition(topic, p) for p in partitions[at : at + width]}
                at += width
        return {member: frozenset(share) for member, share in shares.items()}
