"""Scripted schedules, message by message, on raftlog's groups and on plain PySyncObj alike.

A scenario is written once against `Script`. `Hardened` runs it on raft groups over memory stores, `Plain` on
SyncObj as it comes, over a transport and a clock of the test. A scenario ends with `check`, which raises
`Lost` when something that was acknowledged is not on a majority of the disks, or is gone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from raftlog.raft import engine
from raftlog.raft.events import Cause
from raftlog.raft.messages import (
    Append,
    AppendReject,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    VoteReply,
)
from raftlog.raft.messages import Vote as VoteRequest
from raftlog.raft.values import NotLeader, Outcome, RaftTiming
from raftlog.storage.entry import EntryKind
from tests.unit.raft_cluster import Broker, Cluster


class Lost(AssertionError):
    """An acknowledged entry is not where it must be, or two brokers lead in one term."""


@dataclass
class Flight:
    """A message on its way. Kinds: append, ack, heartbeat, vote, vote_reply, other."""

    sender: int
    receiver: int
    kind: str
    message: Any


@dataclass
class Write:
    """A proposal and whether its proposer was told that it is committed."""

    payload: bytes
    acknowledged: bool = False
    answers: int = 0


class Script(Protocol):
    flights: list[Flight]

    def campaign(self, node: int) -> None: ...
    def propose(self, node: int, payload: bytes) -> Write: ...
    def turn(self, node: int) -> None: ...
    def hand_over(self, flight: Flight) -> None: ...
    def crash(self, *nodes: int) -> None: ...
    def log(self, node: int) -> list[bytes]: ...
    def leads(self, node: int) -> bool: ...


@dataclass
class Base:
    """What both kinds share."""

    size: int
    flights: list[Flight] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    now: float = 100.0

    def take(self, kind: str, *, of: int | None = None, to: int | None = None) -> list[Flight]:
        """Take matching messages off their way, oldest first; the test delivers, keeps or drops them."""

        def matches(f: Flight) -> bool:
            return f.kind == kind and of in (None, f.sender) and to in (None, f.receiver)

        taken = [f for f in self.flights if matches(f)]
        self.flights = [f for f in self.flights if not matches(f)]
        return taken

    def deliver(self, flights: list[Flight]) -> None:
        for flight in flights:
            self.hand_over(flight)

    def hand_over(self, flight: Flight) -> None:
        raise NotImplementedError

    def turn(self, node: int) -> None:
        raise NotImplementedError

    def campaign(self, node: int) -> None:
        raise NotImplementedError

    def log(self, node: int) -> list[bytes]:
        raise NotImplementedError

    def leads(self, node: int) -> bool:
        raise NotImplementedError

    def alive(self) -> list[int]:
        raise NotImplementedError

    def elect(self, node: int, voters: list[int]) -> None:
        """`node` becomes leader with the votes of `voters`; what it then sends waits in `flights`."""
        self.campaign(node)
        votes = self.take("vote", of=node)
        self.deliver([f for f in votes if f.receiver in voters])
        for voter in voters:
            self.turn(voter)
        self.deliver(self.take("vote_reply", to=node))
        self.turn(node)
        assert self.leads(node), f"{node} was not elected"

    def replicate(self, leader: int, followers: list[int]) -> None:
        """Appends of `leader` reach `followers`, and their acks come back, until nothing moves."""
        for _ in range(30):
            self.turn(leader)
            for follower in followers:
                self.deliver(self.take("append", of=leader, to=follower))
                self.deliver(self.take("heartbeat", of=leader, to=follower))
                self.turn(follower)
                self.deliver(self.take("ack", of=follower, to=leader))
            self.turn(leader)

    def forget(self) -> None:
        """Everything on its way is lost."""
        self.flights.clear()

    def check(self) -> None:
        """Every acknowledged write is in the logs of a majority, or of what is left of one."""
        alive = self.alive()
        for write in self.writes:
            holders = [node for node in alive if write.payload in self.log(node)]
            needed = self.size // 2 + 1 - (self.size - len(alive))
            if write.acknowledged and len(holders) < max(needed, 1):
                raise Lost(f"{write} is only on {holders}")


class Hardened(Base):
    """raftlog's own groups, on a cluster whose time the test moves."""

    def __init__(self, size: int, *, timing: RaftTiming | None = None) -> None:
        super().__init__(size)
        self.cluster = Cluster(size, timing=timing or RaftTiming())
        self.cluster.now = self.now
        self.cluster.send = self._send  # type: ignore[method-assign]
        for broker in self.cluster.brokers.values():
            broker.driver.turn(self.now)
        self.forget()

    def _send(self, sender: int, receiver: int, messages: Any) -> None:
        for message in messages:
            self.flights.append(Flight(sender, receiver, self._kind(message), message))

    @staticmethod
    def _kind(message: Message) -> str:
        match message:
            case Append():
                return "append"
            case AppendReply() | AppendReject() | HeartbeatReply():
                return "ack"
            case Heartbeat():
                return "heartbeat"
            case VoteRequest():
                return "vote"
            case VoteReply():
                return "vote_reply"
            case _:
                return "other"

    def broker(self, node: int) -> Broker:
        return self.cluster.brokers[node]

    def campaign(self, node: int) -> None:
        self.now += 10
        self.cluster.now = self.now
        self.broker(node).group.turning.replica.step_down(Cause.AS_ASKED)  # a leader is none any more
        self.broker(node).group.turning.replica.parts.elections.campaign(
            self.now, transfer=True
        )  # as if pre-votes had been won
        self.broker(node).group.turning.wake()
        self.turn(node)

    def propose(self, node: int, payload: bytes) -> Write:
        write = Write(payload)
        self.writes.append(write)

        def done(outcome: Outcome, entry: object) -> None:
            write.answers += 1
            write.acknowledged = outcome is Outcome.COMMITTED

        entry = self.broker(node).group.leading.propose(EntryKind.BATCH, payload, 1, done)
        assert not isinstance(entry, NotLeader)
        self.turn(node)
        return write

    def turn(self, node: int) -> None:
        self.cluster.turn(self.broker(node))

    def hand_over(self, flight: Flight) -> None:
        if flight.receiver in self.cluster.brokers:
            self.broker(flight.receiver).driver.receive(flight.sender, [flight.message])  # type: ignore[arg-type]
            self.turn(flight.receiver)

    def crash(self, *nodes: int) -> None:
        for node in nodes:
            self.cluster.crash(node)

    def alive(self) -> list[int]:
        return sorted(self.cluster.brokers)

    def log(self, node: int) -> list[bytes]:
        log = self.broker(node).log
        return [bytes(e.payload) for e in log.entries.read(log.first_index, 1 << 30, 10_000)]

    def leads(self, node: int) -> bool:
        return self.broker(node).group.is_leader


class _PlainTransport(Transport):  # type: ignore[misc]
    def __init__(self, node: int, script: Plain) -> None:
        super().__init__(None, None, [])
        self._node = node
        self._script = script

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self._script.flights.append(Flight(self._node, node.id, self._script.kind(message), message))
        return True


class PlainObject(SyncObj):  # type: ignore[misc]
    """A replicated list, the simplest use of the library."""

    def __init__(self, node: int, others: list[int], script: Plain, conf: SyncObjConf) -> None:
        self.applied: list[bytes] = []
        super().__init__(Node(node), [Node(o) for o in others], conf, transport=_PlainTransport(node, script))

    @replicated  # type: ignore[misc]
    def write(self, payload: bytes) -> None:
        self.applied.append(payload)


class Plain(Base):
    """PySyncObj as it comes."""

    def __init__(self, size: int, **settings: Any) -> None:
        super().__init__(size)
        random.seed(1)
        self.settings = settings
        self.objects: dict[int, PlainObject] = {}
        for node in range(1, size + 1):
            self.start(node)

    def start(self, node: int) -> None:
        """Make the object anew, with what its journal holds, if there is one."""
        conf = SyncObjConf(autoTick=False, commandsWaitLeader=False, **self.settings)
        others = [other for other in range(1, self.size + 1) if other != node]
        with engine.clock_at(self.now):
            self.objects[node] = PlainObject(node, others, self, conf)
        for other in others:
            self.objects[node]._SyncObj__onNodeConnected(Node(other))

    @staticmethod
    def kind(message: dict[str, Any]) -> str:
        names = {"next_node_idx": "ack", "request_vote": "vote", "response_vote": "vote_reply"}
        if message["type"] == "append_entries":
            return "append" if message.get("entries") else "heartbeat"
        return names.get(message["type"], "other")

    def campaign(self, node: int) -> None:
        self.now += 0.01
        self.objects[node]._SyncObj__raftElectionDeadline = 0
        for other in self.objects.values():
            if other is not self.objects[node]:
                other._SyncObj__raftElectionDeadline = self.now + 1000
        self.turn(node)

    def propose(self, node: int, payload: bytes) -> Write:
        write = Write(payload)
        self.writes.append(write)

        def done(result: object, error: int) -> None:
            write.answers += 1
            write.acknowledged = error == 0

        self.objects[node].write(payload, callback=done)
        self.turn(node)
        return write

    def turn(self, node: int) -> None:
        if node in self.objects:
            self.now += 0.11  # a heartbeat period: SyncObj sends entries with its heartbeats
            with engine.clock_at(self.now):
                self.objects[node].doTick()

    def hand_over(self, flight: Flight) -> None:
        if flight.receiver in self.objects:
            with engine.clock_at(self.now):
                self.objects[flight.receiver]._SyncObj__onMessageReceived(Node(flight.sender), flight.message)

    def crash(self, *nodes: int) -> None:
        for node in nodes:
            del self.objects[node]

    def alive(self) -> list[int]:
        return sorted(self.objects)

    def log(self, node: int) -> list[bytes]:
        return [bytes(entry[0]) for entry in self.objects[node]._SyncObj__raftLog[:]]

    def leads(self, node: int) -> bool:
        return bool(self.objects[node]._isLeader())

    def check(self) -> None:
        for write in self.writes:  # the log holds pickled calls: the payload is inside
            alive = self.alive()
            holders = [n for n in alive if any(write.payload in command for command in self.log(n))]
            needed = self.size // 2 + 1 - (self.size - len(alive))
            if write.acknowledged and len(holders) < max(needed, 1):
                raise Lost(f"{write} is only on {holders}")


Scenario = Callable[[Any], None]

__all__ = ["Base", "EntryKind", "Flight", "Hardened", "Lost", "Plain", "Scenario", "Write"]
