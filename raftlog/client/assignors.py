"""How a group's leader spreads partitions over the members: range, round robin, cooperative sticky.

Pure functions from subscriptions and partition counts to assignments, deterministic, so that the same
members get the same partitions whoever leads. Range and round robin give what Apache Kafka's assignors give;
sticky keeps what members own as far as balance allows, and in a cooperative group hands a partition over only
after its owner has let it go (KIP-429).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from typing import Final

from raftlog.client.group_protocol import Subscription
from raftlog.client.metadata import TopicPartition

Members = Mapping[str, Subscription]
Counts = Mapping[str, int]
Assignments = dict[str, list[TopicPartition]]


class Assignor:
    """One of a user's own: what its members tell each other, and who gets what. `client.consumer(…,
    assignor=…)` offers it before the others; the group takes it when all members do."""

    name: str
    """Under which members find that they have the same one."""
    rejoin: Callable[[], None] = staticmethod(lambda: None)
    """Asks the group to share out anew. A consumer puts its own here."""

    def user_data(self) -> bytes:
        """What this member tells the group's leader at each join. By then the member has given up its
        partitions."""
        return b""

    def assign(self, members: Members, counts: Counts) -> Mapping[str, tuple[list[TopicPartition], bytes]]:
        """As the leader: partitions for each member, and what it is told. Whatever others have told, this
        must not raise."""
        raise NotImplementedError

    def assigned(self, user_data: bytes) -> None:
        """What the leader told this member, before it gets its partitions; nothing when the group has taken
        another assignor."""


def assign_range(members: Members, counts: Counts) -> Assignments:
    """Each topic by itself: neighbouring partitions to each member, one more to the first ones."""
    assignments: Assignments = {member: [] for member in members}
    for topic in sorted({topic for s in members.values() for topic in s.topics}):
        count = counts.get(topic, 0)
        takers = [m for m in _sorted_members(members) if topic in members[m].topics]
        each, more = divmod(count, len(takers))
        start = 0
        for index, member in enumerate(takers):
            end = start + each + (index < more)
            assignments[member] += [TopicPartition(topic, p) for p in range(start, end)]
            start = end
    return assignments


def assign_round_robin(members: Members, counts: Counts) -> Assignments:
    """All partitions of all topics, dealt out one by one."""
    assignments: Assignments = {member: [] for member in members}
    order = _sorted_members(members)
    turn = 0
    for partition in _partitions(members, counts):
        while partition.topic not in members[order[turn % len(order)]].topics:
            turn += 1
        assignments[order[turn % len(order)]].append(partition)
        turn += 1
    return assignments


def assign_sticky(members: Members, counts: Counts) -> Assignments:
    """As even as can be, and of the assignments that are, one that moves few partitions.

    A partition that two members claim belongs to the one with the later generation, and to neither when
    both have the same: then at least one is wrong.
    """
    assignments: Assignments = {member: [] for member in members}
    every = _partitions(members, counts)
    owners = _owners(members, set(every))
    for partition in every:
        if partition in owners:
            assignments[owners[partition]].append(partition)
    loads = sorted((len(owned), rank, member) for rank, member, owned in _ranked(assignments, members))
    for partition in every:
        if partition not in owners:
            place = next(
                (i for i, (_, _, m) in enumerate(loads) if partition.topic in members[m].topics), None
            )
            if place is not None:
                load, rank, member = loads.pop(place)
                assignments[member].append(partition)
                insort(loads, (load + 1, rank, member))
    _balance(assignments, members)
    return assignments


def assign_cooperative_sticky(members: Members, counts: Counts) -> Assignments:
    """`assign_sticky`, without the partitions that somebody else still owns: those are given in the next
    round, which begins as soon as their owners have let them go."""
    assignments = assign_sticky(members, counts)
    claims: dict[TopicPartition, set[str]] = {}
    for member, subscription in members.items():
        for partition in subscription.owned:
            claims.setdefault(partition, set()).add(member)
    return {
        member: [p for p in partitions if not claims.get(p, set()) - {member}]
        for member, partitions in assignments.items()
    }


ASSIGNORS: Final[Mapping[str, Callable[[Members, Counts], Assignments]]] = {
    "range": assign_range,
    "roundrobin": assign_round_robin,
    "cooperative-sticky": assign_cooperative_sticky,
}


def _sorted_members(members: Members) -> list[str]:
    """Static members first, by their names, which restarts do not change; then the others by id."""

    def rank(member: str) -> tuple[bool, str]:
        instance_id = members[member].instance_id
        return (instance_id is None, instance_id or member)

    return sorted(members, key=rank)


def _partitions(members: Members, counts: Counts) -> list[TopicPartition]:
    topics = sorted({topic for s in members.values() for topic in s.topics})
    return [TopicPartition(topic, p) for topic in topics for p in range(counts.get(topic, 0))]


def _owners(members: Members, every: set[TopicPartition]) -> dict[TopicPartition, str]:
    owners: dict[TopicPartition, tuple[int, str | None]] = {}
    for member in _sorted_members(members):
        subscription = members[member]
        for partition in subscription.owned:
            if partition not in every or partition.topic not in subscription.topics:
                continue
            generation, _ = owners.get(partition, (-2, None))
            if subscription.generation > generation:
                owners[partition] = (subscription.generation, member)
            elif subscription.generation == generation:
                owners[partition] = (generation, None)
    return {partition: member for partition, (_, member) in owners.items() if member is not None}


def _ranked(assignments: Assignments, members: Members) -> list[tuple[int, str, list[TopicPartition]]]:
    return [(rank, m, assignments[m]) for rank, m in enumerate(_sorted_members(members))]


def _balance(assignments: Assignments, members: Members) -> None:
    """Move partitions from who has most to who has least until no move makes it more even.

    Each move lessens the sum of squared loads, so this ends.
    """
    order = _sorted_members(members)
    moved = True
    while moved:
        moved = False
        for giver in sorted(order, key=lambda m: -len(assignments[m])):
            for taker in sorted(order, key=lambda m: len(assignments[m])):
                if len(assignments[giver]) - len(assignments[taker]) < 2:
                    break
                partition = next(
                    (p for p in reversed(assignments[giver]) if p.topic in members[taker].topics), None
                )
                if partition is not None:
                    assignments[giver].remove(partition)
                    assignments[taker].append(partition)
                    moved = True
                    break
