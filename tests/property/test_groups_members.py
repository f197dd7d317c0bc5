"""Members that come, go, crash, dawdle and repeat themselves, at random, against one group.

Checked after every step: nothing is answered twice, nobody waits longer than the rebalance time-out,
generations only grow, and within one generation no partition is handed to two members.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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


class Members(RuleBasedStateMachine):
    @initialize(delay_ms=st.sampled_from([0, 0, 3000]), data=st.data())
    def start(self, delay_ms: int, data: st.DataObject) -> None:
        self.groups = Groups(GroupSettings(initial_rebalance_delay_ms=delay_ms), stored={"g"})
        self.clients = [
            Client(
                number,
                f"static{number}" if number % 2 else None,
                data.draw(st.sampled_from([6.0, 10.0, SESSION_MAX_S])),
                data.draw(st.sampled_from([1.0, 10.0, REBALANCE_MAX_S])),
                data.draw(st.sampled_from(OFFERS)),
                old=number == 4,
            )
            for number in range(6)
        ]
        self.waiting: list[Waiting] = []
        self.handed: dict[int, Handed] = {}
        self.generation = 0

    def watch(self, answer: Answer[Any], what: str) -> None:
        self.waiting.append(Waiting(answer, self.groups.now, what))

    numbers = st.integers(0, 5)

    # What clients do

    @rule(number=numbers)
    def join(self, number: int) -> None:
        client = self.clients[number]
        answer = self.groups.join(
            client.member_id,
            instance=client.instance,
            offers=client.offers,
            session_s=client.session_s,
            rebalance_s=client.rebalance_s,
            known=not client.old,
            skip=not client.old,
        )
        self.watch(answer, f"join of {number}")
        client.join, client.sync = answer, None
        self.hear(client)
        if client.join is None and client.joined is None and client.member_id:
            self.join(number)  # it was given an id, and comes back with it

    @precondition(lambda self: any(client.joined for client in self.clients))
    @rule(number=numbers, leader_loses_some=st.booleans())
    def sync(self, number: int, leader_loses_some: bool) -> None:
        client = self.clients[number]
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
        self.watch(client.sync, f"sync of {number}")

    @rule(number=numbers)
    def heartbeat(self, number: int) -> None:
        client = self.clients[number]
        if client.joined is not None:
            error = self.groups.heartbeat(client.member_id, client.joined.generation_id, client.instance)
            self.believe(client, error)

    @rule()
    def everyone_beats_joins_and_syncs(self) -> None:
        """Without it, random steps seldom come to a stable group."""
        for client in self.clients:
            self.heartbeat(client.number)
        for client in self.clients:
            if client.joined is None and client.join is None:
                self.join(client.number)
        for client in self.clients:
            self.sync(client.number, False)

    @rule(number=numbers)
    def leave(self, number: int) -> None:
        client = self.clients[number]
        if client.member_id:
            self.groups.leave(LeavingMember(client.member_id, client.instance))
            self.forget(client)

    @rule(number=numbers)
    def crash(self, number: int) -> None:
        self.forget(self.clients[number])

    @rule(number=numbers, offer=st.sampled_from(OFFERS))
    def subscribe_to_something_else(self, number: int, offer: tuple[Any, ...]) -> None:
        self.clients[number].offers = offer

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.0, 7.0, 15.0]))
    def wait(self, seconds: float) -> None:
        self.groups.advance(seconds)

    @rule()
    def everyone_is_silent_for_long(self) -> None:
        """Nobody is a member beyond the rebalance and the session time-outs, whatever the state was."""
        self.groups.advance(2 * REBALANCE_MAX_S + 2 * SESSION_MAX_S + 1)
        described = self.groups.coordinator.describe("g")
        assert isinstance(described, GroupDescription)
        assert described.state is GroupState.EMPTY, described
        assert described.members == ()

    # What clients hear

    def forget(self, client: Client) -> None:
        client.member_id, client.joined, client.join, client.sync = "", None, None, None

    def believe(self, client: Client, error: GroupError) -> None:
        match error:
            case GroupError.UNKNOWN_MEMBER_ID | GroupError.FENCED_INSTANCE_ID:
                self.forget(client)
            case GroupError.ILLEGAL_GENERATION | GroupError.REBALANCE_IN_PROGRESS:
                client.joined = None
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

    @invariant()
    def all_is_well(self) -> None:
        if not hasattr(self, "groups"):
            return
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
        due = self.groups.coordinator.next_deadline
        assert due > self.groups.now or self.settle(), "a deadline does not go away"

    def settle(self) -> bool:
        self.groups.coordinator.tick(self.groups.now)
        return self.groups.coordinator.next_deadline > self.groups.now

    def teardown(self) -> None:
        if not hasattr(self, "groups"):
            return
        self.groups.coordinator.unload()
        for waiting in self.waiting:
            assert waiting.answer.came, f"{waiting.what} was never answered"


Members.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestMembers = Members.TestCase
