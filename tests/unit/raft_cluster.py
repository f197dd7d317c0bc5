"""Several brokers in one process: drivers over memory stores, a virtual clock, links that a test controls.

Everything is deterministic: one seed, one heap of events. After every turn the invariants of Raft are
checked over all brokers, so a test that only runs a cluster already tests something.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from raftlog.errors import DamagedLog, SafetyError
from raftlog.raft.driver import Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.messages import Message
from raftlog.raft.values import NotLeader, Outcome, RaftTiming, Role
from raftlog.storage.entry import Entry, EntryKind
from raftlog.types import BrokerId, GroupKey, RaftIndex, Term
from tests.unit.raft_idle import left_out
from tests.unit.raft_store import MemoryLog, MemoryStore

KEY = GroupKey(b"raft-test-group-0001")
TIMING = RaftTiming(heartbeat=0.1, election_min=1.0, election_max=2.0, lease=0.8)

Rule = Callable[[int, int, Message], float | None]
"""(sender, receiver, message) -> seconds on the way, or None: lost."""


class Machine:
    """A state machine that remembers what it was told."""

    def __init__(self, log: MemoryLog) -> None:
        self.applied: dict[int, bytes] = {}
        self.applied_index = RaftIndex(int.from_bytes(log.saved.state[:8], "big"))
        self.state = log.saved.state
        self.roles: list[tuple[Role, Term, BrokerId | None]] = []
        self.truncations: list[int] = []
        self.restored: list[int] = []

    def apply(self, entries: Sequence[Entry], now: float) -> None:
        for entry in entries:
            assert entry.index == self.applied_index + 1, (entry.index, self.applied_index)
            self.applied_index = entry.index
            if entry.kind is EntryKind.BATCH:
                self.applied[entry.index] = bytes(entry.payload)

    def restore(self, state: bytes, index: RaftIndex) -> None:
        self.applied.clear()
        self.state = state
        self.applied_index = index
        self.restored.append(index)

    def leadership_changed(self, role: Role, term: Term, leader: BrokerId | None) -> None:
        self.roles.append((role, term, leader))

    def truncated(self, from_index: RaftIndex) -> None:
        self.truncations.append(from_index)


@dataclass
class Proposal:
    payload: bytes
    entry: Entry
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome | None:
        assert len(self.outcomes) <= 1, self
        return self.outcomes[0] if self.outcomes else None


class Broker:
    def __init__(
        self, cluster: Cluster, broker: int, store: Any, options: dict[str, object], *, emptied: bool = False
    ) -> None:
        """`emptied`: the disk began empty, and may have held a log before."""
        self.id = BrokerId(broker)
        self.store = store
        self.options = options
        self.emptied = emptied
        self.driver = Driver(store, send=lambda to, messages: cluster.send(self.id, to, messages))  # type: ignore[arg-type]
        log = store.logs.get(KEY)
        if log is None:
            log = store.create_log(KEY)
            log.promises.may_lack = emptied
        self.log = log
        self.machine = Machine(self.log)
        self.group = RaftGroup(
            KEY,
            self.id,
            self.log,  # type: ignore[arg-type]
            cluster.voters,
            timing=cluster.timing,
            rng=random.Random(cluster.rng.random()),
            now=cluster.now,
            **options,  # type: ignore[arg-type]
        )
        self.driver.add(self.group, self.machine)
        self.stalled_until = 0.0
        self.sync_done_at: float | None = None


class Cluster:
    """Brokers 1..n with one group."""

    def __init__(
        self,
        size: int,
        *,
        seed: int = 0,
        timing: RaftTiming = TIMING,
        latency: float = 0.001,
        voters: Iterable[int] | None = None,
        new_store: Callable[[int], Any] = lambda broker: MemoryStore(),
        encode: Callable[[bytes, Any, int], bytes] = lambda payload, log, term: payload,
        emptied: bool = False,
        **options: object,
    ) -> None:
        """`new_store` gives an empty disk, `encode` makes an entry's payload of what a test proposes."""
        self.now = 0.0
        self.options = options
        self.new_store = new_store
        self.encode = encode
        self.rng = random.Random(seed)
        self.timing = timing
        self.latency = latency
        self.voters = frozenset(map(BrokerId, voters if voters is not None else range(1, size + 1)))
        self.rules: list[Rule] = []
        self.cuts: set[tuple[int, int]] = set()
        self.duplicates = 0.0
        """The share of messages that arrive a second time, later."""
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.event_count = 0
        self.sent: list[tuple[float, int, int, Message]] = []
        self.brokers: dict[int, Broker] = {}
        self.down: dict[int, Broker] = {}
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, tuple[int, bytes]] = {}
        self.sync_time: Callable[[int], float] = lambda broker: 0.0
        self.last_arrival: dict[tuple[int, int], float] = {}
        for number in range(1, size + 1):
            self.brokers[number] = Broker(self, number, new_store(number), options, emptied=emptied)

    # Links

    def cut(self, one: Iterable[int], other: Iterable[int], *, both: bool = True) -> None:
        for a in one:
            for b in other:
                self.cuts.add((a, b))
                if both:
                    self.cuts.add((b, a))

    def isolate(self, broker: int) -> None:
        self.cut([broker], [b for b in self.everyone if b != broker])

    def heal(self) -> None:
        self.cuts.clear()
        self.rules.clear()
        self.duplicates = 0.0

    @property
    def everyone(self) -> list[int]:
        return sorted(self.brokers.keys() | self.down.keys())

    def send(self, sender: int, receiver: int, messages: Sequence[Message]) -> None:
        for message in messages:
            self.sent.append((self.now, sender, receiver, message))
            if (sender, receiver) in self.cuts or sender in self.down:
                continue
            delay: float | None = self.latency
            fifo = True
            for rule in self.rules:
                delay = rule(sender, receiver, message)
                fifo = delay == self.latency
                if delay is None or not fifo:
                    break
            if delay is None:
                continue
            at = self.now + delay
            if fifo:  # one connection a pair: in order, unless a rule says otherwise
                at = max(at, self.last_arrival.get((sender, receiver), 0.0))
                self.last_arrival[sender, receiver] = at
            self.at(at, lambda m=message: self.deliver(sender, receiver, m))  # type: ignore[misc]
            if self.duplicates and self.rng.random() < self.duplicates:
                later = at + self.rng.uniform(0.0, 0.3)
                self.at(later, lambda m=message: self.deliver(sender, receiver, m))  # type: ignore[misc]

    def deliver(self, sender: int, receiver: int, message: Message) -> None:
        target = self.brokers.get(receiver)
        if target is not None and (sender, receiver) not in self.cuts:
            target.driver.receive(BrokerId(sender), [message])

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.event_count += 1
        heapq.heappush(self.events, (when, self.event_count, what))

    # Time

    def step(self) -> None:
        """Everything that is due at the next instant."""
        due = [broker.driver.next_deadline for broker in self.brokers.values()]
        if self.events:
            due.append(self.events[0][0])
        if not any(self._can_turn(broker) for broker in self.brokers.values()):
            self.now = max(self.now, min(due, default=self.now))
        while self.events and self.events[0][0] <= self.now:
            heapq.heappop(self.events)[2]()
        for broker in sorted(self.brokers):
            node = self.brokers.get(broker)
            if node is not None and (node.driver.next_deadline <= self.now or self._can_turn(node)):
                self.turn(node)
        self.check()

    def _can_turn(self, node: Broker) -> bool:
        return node.driver.has_work

    def turn(self, node: Broker) -> None:
        ticket = node.driver.begin(self.now)
        if ticket is not None:
            stall = self.sync_time(node.id)
            if stall > 0.0:
                self.at(self.now + stall, lambda: self._synced(node, ticket))
            else:
                ticket.sync()
                node.driver.synced(self.now)
        node.driver.finish(self.now)
        assert (work := left_out(node.driver)) is None, work
        if node.store.checkpoint_due:
            job = node.store.begin_checkpoint()
            if self.rng.random() < 0.8:  # else power is lost before it is done, or it takes for ever
                job.run()
                node.store.finish_checkpoint(job)

    def _synced(self, node: Broker, ticket: object) -> None:
        if self.brokers.get(node.id) is node:
            ticket.sync()  # type: ignore[attr-defined]
            node.driver.synced(self.now)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        self.at(end, lambda: None)
        while self.now < end:
            self.step()

    def run_until(self, condition: Callable[[], bool], *, within: float = 30.0) -> None:
        end = self.now + within
        self.at(end, lambda: None)
        while not condition():
            assert self.now < end, f"not within {within} s: {self}"
            self.step()

    # Faults

    def crash(self, broker: int) -> None:
        """Power loss: what was not synced is gone."""
        self.down[broker] = self.brokers.pop(broker)

    def restart(self, broker: int, **options: object) -> Broker:
        old = self.stopped = self.down.pop(broker)
        store = old.store.power_loss()
        node = Broker(self, broker, store, options or old.options, emptied=old.emptied)
        self.brokers[broker] = node
        return node

    def wipe(self, broker: int) -> Broker:
        """A new, empty disk under the same id."""
        return self.replace(broker, self.new_store(broker), emptied=True)

    def replace(self, broker: int, store: Any, *, emptied: bool = False) -> Broker:
        """Another disk under the same id."""
        if broker in self.brokers:
            self.crash(broker)
        del self.down[broker]
        node = self.brokers[broker] = Broker(self, broker, store, self.options, emptied=emptied)
        return node

    # Use

    def __getitem__(self, broker: int) -> Broker:
        return self.brokers[broker]

    def __repr__(self) -> str:
        return f"<Cluster t={self.now:.3f} {[broker.group for broker in self.brokers.values()]}>"

    @property
    def leader(self) -> int | None:
        """The broker that leads in the highest term."""
        leading = [(b.group.term, b.id) for b in self.brokers.values() if b.group.is_leader]
        return max(leading)[1] if leading else None

    def elect(self, broker: int | None = None) -> int:
        """Run until there is a ready leader; `broker` if given, by transfer."""
        self.run_until(lambda: (at := self.leader) is not None and self[at].group.is_ready)
        assert self.leader is not None
        if broker is not None and self.leader != broker:
            assert self[self.leader].group.leading.transfer(BrokerId(broker), self.now) is None
            self.run_until(lambda: self.leader == broker and self[broker].group.is_ready)
        leader = self.leader
        assert leader is not None
        return leader

    def propose(self, broker: int, payload: bytes) -> Proposal:
        proposal = self.maybe_propose(broker, payload)
        assert proposal is not None, (broker, self)
        return proposal

    def maybe_propose(self, broker: int, payload: bytes) -> Proposal | None:
        """None when the broker does not lead, or hands over."""
        proposals: list[Proposal] = []
        node = self[broker]
        payload = self.encode(payload, node.log, node.group.term)
        entry = node.group.leading.propose(
            EntryKind.BATCH, payload, 1, lambda outcome, entry: proposals[0].outcomes.append(outcome)
        )
        if isinstance(entry, NotLeader):
            return None
        proposals.append(Proposal(payload, entry))
        return proposals[0]

    def commit(self, payload: bytes, *, broker: int | None = None) -> Proposal:
        leader = broker if broker is not None else self.elect()
        proposal = self.propose(leader, payload)
        self.run_until(lambda: proposal.outcome is not None)
        assert proposal.outcome is Outcome.COMMITTED, proposal
        return proposal

    def converge(self, *, within: float = 15.0) -> None:
        """Everyone who is up ends with the same, committed log."""

        def same() -> bool:
            logs = {(b.log.last_index, b.log.last_term, b.log.commit_index) for b in self.brokers.values()}
            applied = {b.machine.applied_index for b in self.brokers.values()}
            return len(logs) == len(applied) == 1 and next(iter(logs))[0] == next(iter(logs))[2]

        self.run_until(lambda: self.leader is not None and same(), within=within)

    def converge_voters(self) -> None:
        """As converge, but for who is in nobody's membership."""
        members = self[self.elect()].group.membership.members
        for broker in [b for b in self.brokers if b not in members]:
            self.crash(broker)
        self.converge()

    def run_until_other_leader(self, than: int) -> int:
        self.run_until(lambda: self.leader not in (None, than))
        leader = self.leader
        assert leader is not None
        self.run_until(lambda: self[leader].group.is_ready)
        return leader

    # Invariants (docs/raft.md)

    def check(self) -> None:
        for node in self.readable():
            group, log = node.group, node.log
            if group.is_leader:
                first = self.leaders.setdefault(group.term, node.id)
                if first != node.id:
                    raise SafetyError(f"brokers {first} and {node.id} both lead in term {group.term}")
            durable = max(min(log.entries.synced_index, log.last_index), log.first_index - 1)
            if log.commit_index > durable:  # a snapshot that is being installed is committed elsewhere
                raise SafetyError(
                    f"{group}: commit index beyond what is durable ({log.entries.synced_index})"
                )
            for index in range(max(log.first_index, len(self.committed) + 1), log.commit_index + 1):
                found = self.entry_at(node, index)
                if found is None:
                    break
                self.committed[index] = found
        self.check_logs()

    @staticmethod
    def entry_at(node: Broker, index: int) -> tuple[int, bytes] | None:
        """None where its log is damaged."""
        try:
            entry = node.log.entries.read(RaftIndex(index), 1, 1)[0]
        except DamagedLog:
            return None
        return entry.term, bytes(entry.payload)

    def readable(self) -> list[Broker]:
        """Whose log can be looked at: a damaged one says what it says."""
        return [node for node in self.brokers.values() if node.log.damage.lost is None]

    def check_logs(self) -> None:
        """No committed entry differs anywhere; cheap enough to run after every turn."""
        for node in self.readable():
            log = node.log
            low = max(log.first_index, log.commit_index - 5)
            for index in range(low, log.commit_index + 1):
                found = self.entry_at(node, index)
                if found is not None and self.committed[index] != found:
                    raise SafetyError(f"{node.group} committed another entry at {index}")

    def check_all(self) -> None:
        """Every log holds every committed entry up to its own commit index, the whole history."""
        for node in self.brokers.values():
            log = node.log
            for index in range(log.first_index, log.commit_index + 1):
                entry = log.entries.read(RaftIndex(index), 1, 1)[0]
                assert self.committed[index] == (entry.term, bytes(entry.payload)), (node.group, index)
