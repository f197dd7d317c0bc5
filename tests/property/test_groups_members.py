"""Members that come, go, crash, dawdle and repeat themselves, at random, against one group.

Its coordinator changes, too, and what is kept of the group takes its time or fails. Checked after every step:
nothing is answered twice, nobody waits longer than the rebalance time-out, generations only grow, and within
one generation no partition is handed to two members, whoever coordinates.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.cluster.groups import (
    GroupDescription,
    GroupError,
    GroupSettings,
    GroupState,
    JoinResult,
    LeavingMember,
    SyncResult,
)
from tests.groups import Answer, Groups, protocols

PARTITIONS = 12
SESSION_MAX_S = 20.0
REBALANCE_MAX_S = 30.0
OFFERS = [
    protocols("range"),
    protocols("range", "sticky"),
    protocols("sticky", "range"),
    protocols("range", topics=("refunds",)),
]


@dataclass
class Client:
    """One consumer process. It believes what it was told last; a crash makes it forget."""

    number: int
    instance: str | None
    session_s: float
    rebalance_s: float
    offers: tuple[Any, ...]
    old: bool
    """It speaks JoinGroup v3: no id first, no skipped assignment."""
    member_id: str = ""
    joined: JoinResult | None = None
    before: JoinResult | None = None
    """What it was told before that."""
    join: Answer[JoinResult] | None = None
    sync: Answer[SyncResult] | None = None


@dataclass
class Waiting:
    answer: Answer[Any]
    since: float
    what: str


@dataclass
class Handed:
    """What was handed out in one generation: owner to partitions. A static member's owner is its
    instance, for the one before is fenced."""

    owners: dict[str, frozenset[int]] = field(default_factory=dict)


class Members:
    """Six clients and their group. Half of the clients are static members, two speak an old version."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.groups = Groups(GroupSettings(initial_rebalance_delay_ms=rng.choice([0, 0, 3000])), stored={"g"})
        self.clients = [
            Client(
                number,
                f"static{number}" if number % 2 else None,
                rng.choice([6.0, 10.0, SESSION_MAX_S]),
                rng.choice([1.0, 10.0, REBALANCE_MAX_S]),
                rng.choice(OFFERS),
                old=number >= 4,
            )
            for number in range(6)
        ]
        self.waiting: list[Waiting] = []
        self.handed: dict[int, Handed] = {}
        self.generation = 0

    def watch(self, answer: Answer[Any], what: str) -> None:
        self.waiting.append(Waiting(answer, self.groups.now, what))

    def step(self) -> None:
        """One thing that happens; after it, all is as it must be."""
        rng = self.rng
        client = rng.choice(self.clients)
        actions = [
            (20, lambda: self.join(client)),
            (20, lambda: self.sync(client, leader_loses_some=rng.random() < 0.2)),
            (3, lambda: self.sync_late(client)),
            (10, lambda: self.heartbeat(client)),
            (4, lambda: self.leave(client)),
            (4, lambda: self.forget(client)),
            (3, lambda: self.subscribe_to_something_else(client)),
            (15, self.everyone_does_as_told),
            (10, lambda: self.groups.advance(rng.choice([0.0, 0.5, 1.0, 3.0, 7.0, 15.0]))),
            (1, self.everyone_is_silent_for_long),
            (4, self.keeping_takes_time),
            (3, self.fail_over),
        ]
        rng.choices([act for _, act in actions], [weight for weight, _ in actions])[0]()
        self.check()

    # What clients do

    def join(self, client: Client) -> None:
        answer = self.groups.join(
            client.member_id,
            instance=client.instance,
            offers=client.offers,
            session_s=client.session_s,
            rebalance_s=client.rebalance_s,
            known=not client.old,
            skip=not client.old,
        )
        self.watch(answer, f"join of {client.number}")
        client.join, client.sync = answer, None
        self.hear(client)
        if client.join is None and client.joined is None and client.member_id:
            self.join(client)  # it was given an id, and comes back with it

    def sync(self, client: Client, *, leader_loses_some: bool) -> None:
        if client.joined is None:
            return
        result = client.joined
        parts = None
        leads = result.leader == result.member_id
        if leads and not result.skip_assignment:
            owners = [member.member_id for member in result.members]
            parts = {
                owner: bytes(range(place, PARTITIONS, len(owners))) for place, owner in enumerate(owners)
            }
            if leader_loses_some:
                parts.popitem()
        client.sync = self.groups.sync(result, parts, instance=client.instance)
        self.watch(client.sync, f"sync of {client.number}")

    def sync_late(self, client: Client) -> None:
        """A request of an earlier generation, held up on the way, changes nothing and gets nothing."""
        late = client.before
        if late is None or client.joined is None or late.generation_id == client.joined.generation_id:
            return
        if late.generation_id == self.generation:
            return  # the one after it was not kept: it is the group's again
        parts = {member.member_id: bytes(range(PARTITIONS)) for member in late.members}
        answer = self.groups.sync(late, parts, instance=client.instance)
        assert answer.result.error is not GroupError.NONE

    def heartbeat(self, client: Client) -> None:
        if client.joined is not None:
            error = self.groups.heartbeat(client.member_id, client.joined.generation_id, client.instance)
            self.believe(client, error)

    def everyone_does_as_told(self) -> None:
        """Without it, random steps seldom come to a stable group."""
        for _ in range(self.rng.randint(1, 3)):
            for client in self.clients:
                self.heartbeat(client)
            for client in self.clients:
                if client.joined is None and client.join is None:
                    self.join(client)
            for client in self.clients:
                self.hear(client)
            for client in self.clients:
                if client.sync is None:
                    self.sync(client, leader_loses_some=False)
            for client in self.clients:
                self.hear(client)

    def leave(self, client: Client) -> None:
        if client.member_id:
            self.groups.leave(LeavingMember(client.member_id, client.instance))
            self.forget(client)

    def subscribe_to_something_else(self, client: Client) -> None:
        client.offers = self.rng.choice(OFFERS)

    def everyone_is_silent_for_long(self) -> None:
        """Nobody is a member beyond the rebalance and the session time-outs, whatever the state was."""
        self.groups.advance(2 * REBALANCE_MAX_S + 2 * SESSION_MAX_S + 1)
        described = self.groups.coordinator.describe("g")
        assert isinstance(described, GroupDescription)
        assert described.state is GroupState.EMPTY, described
        assert described.members == ()

    def keeping_takes_time(self) -> None:
        """And fails, or the coordinator ends meanwhile."""
        self.groups.kept.waits = True
        for _ in range(self.rng.randint(1, 3)):
            client = self.rng.choice(self.clients)
            self.rng.choice(
                [
                    lambda: self.sync(client, leader_loses_some=False),  # noqa: B023 called at once
                    lambda: self.join(client),  # noqa: B023
                    lambda: self.leave(client),  # noqa: B023
                    self.everyone_does_as_told,
                ]
            )()
        if self.rng.random() < 0.3:
            self.fail_over()
        else:
            self.groups.kept.waits = False
            self.groups.kept.let_go(fails=self.rng.random() < 0.3)

    def fail_over(self) -> None:
        """Who waited finds out, and asks the next coordinator."""
        for client in self.clients:
            self.hear(client)
            client.join = client.sync = None
        self.waiting.clear()
        self.groups.fail_over()
        kept = self.groups.kept.get("g")
        self.generation = kept.generation if kept is not None else 0
        assert self.generation >= max(self.handed, default=0), "a generation that was handed out is kept"

    # What clients hear

    def forget(self, client: Client) -> None:
        client.member_id, client.joined, client.join, client.sync = "", None, None, None

    def believe(self, client: Client, error: GroupError) -> None:
        match error:
            case GroupError.UNKNOWN_MEMBER_ID | GroupError.FENCED_INSTANCE_ID:
                self.forget(client)
            case (
                GroupError.ILLEGAL_GENERATION | GroupError.REBALANCE_IN_PROGRESS | GroupError.NOT_COORDINATOR
            ):
                client.joined, client.before = None, client.joined or client.before
            case GroupError.MEMBER_ID_REQUIRED | GroupError.NONE | GroupError.INCONSISTENT_GROUP_PROTOCOL:
                pass
            case _:
                raise AssertionError(error)

    def hear(self, client: Client) -> None:
        if client.join is not None and client.join.came:
            result, client.join = client.join.result, None
            self.believe(client, result.error)
            if result.error is GroupError.MEMBER_ID_REQUIRED:
                client.member_id = result.member_id
            if result.error is GroupError.NONE:
                client.member_id, client.joined = result.member_id, result
        if client.sync is not None and client.sync.came:
            synced, client.sync = client.sync.result, None
            self.believe(client, synced.error)
            if synced.error is GroupError.NONE:
                assert client.joined is not None
                self.hand_out(client, client.joined.generation_id, synced.assignment)

    def hand_out(self, client: Client, generation: int, assignment: bytes) -> None:
        owner = client.instance or client.member_id
        owners = self.handed.setdefault(generation, Handed()).owners
        mine = frozenset(assignment)
        assert owners.get(owner, mine) == mine, f"{owner} was handed two assignments in {generation}"
        owners[owner] = mine
        for other, theirs in owners.items():
            assert other == owner or not mine & theirs, f"{owner} and {other} both own in {generation}"

    # What must hold

    def check(self) -> None:
        for client in self.clients:
            self.hear(client)
        still = []
        for waiting in self.waiting:
            if waiting.answer.came:
                generation = getattr(waiting.answer.result, "generation_id", -1)
                if generation != -1:
                    assert generation >= self.generation, f"generation fell from {self.generation}"
                    self.generation = generation
            else:
                assert self.groups.now - waiting.since <= REBALANCE_MAX_S, f"{waiting.what} is stuck"
                still.append(waiting)
        self.waiting = still
        self.groups.coordinator.tick(self.groups.now)
        assert self.groups.coordinator.next_deadline > self.groups.now, "a deadline does not go away"

    def finish(self) -> None:
        self.groups.coordinator.unload()
        for waiting in self.waiting:
            assert waiting.answer.came, f"{waiting.what} was never answered"


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_members_at_random(seed: int) -> None:
    members = Members(seed)
    for _ in range(100):
        members.step()
    members.finish()


def test_the_random_members_get_somewhere() -> None:
    """The checks above mean something only if groups become stable, many times, with many members."""
    sizes: Counter[int] = Counter()
    for seed in range(10):
        members = Members(seed)
        for _ in range(100):
            members.step()
        sizes.update(len(handed.owners) for handed in members.handed.values())
    assert sum(sizes.values()) > 30, sizes
    assert sum(count for size, count in sizes.items() if size >= 3) > 25, sizes
