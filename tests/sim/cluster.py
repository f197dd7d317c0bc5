"""A whole simulated cluster: brokers, links, clients, faults, and the end in which all must be well.

`Cluster(seed).run()` gives a Report or raises `Failure`, which names the invariant, the seed and the command
that replays it.
"""

from __future__ import annotations

import gc
import logging
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from raftlog.cluster import metadata_group
from raftlog.cluster.this_broker import timing_of
from raftlog.config import BrokerConfig
from raftlog.metadata.catalog import Topic
from raftlog.raft.group import RaftGroup
from raftlog.raft.values import Membership
from raftlog.storage.store import StoreSettings
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey, group_key
from tests.sim.admin import Admin
from tests.sim.appenders import Appender
from tests.sim.broker import TURN_DELAYS, SimBroker
from tests.sim.clients import Producer
from tests.sim.consumer import Consumer
from tests.sim.copier import Copier
from tests.sim.crowd import Crowd
from tests.sim.faults import Faults
from tests.sim.invariants import Invariants
from tests.sim.links import Links
from tests.sim.members import Members
from tests.sim.profiles import PROFILES, Profile
from tests.sim.replaced import living_on
from tests.sim.transactors import Transactor
from tests.sim.virtual_trio import VirtualTrio
from tests.sim.world import Violation, World

START_S: Final = 10.0
LEADERS_S: Final = 5.0
EQUAL_S: Final = 15.0
CLIENTS_S: Final = 30.0
MOVES_S: Final = 60.0
REPAIR_S: Final = 20.0
"""Virtual seconds after healing until there are leaders, equal replicas, answered clients, finished moves."""

EVENTS_MAX: Final = 400_000
"""Events of one seed; more means that something sends in circles."""

SNAPSHOTS: Final = {"SNAPSHOT_AFTER_BYTES": (4_000, 15_000), "SNAPSHOT_STEP": (1, 10)}
"""What the metadata group's snapshots are made by, where it is not as usual: often, and in many steps."""

REPAIRS_MAX: Final = 20
"""Reads of everything that may find one more damaged entry."""

CONFIG: Final = {
    "num.partitions": "1",
    "log.retention.check.interval.ms": "1000",
    "raftlog.scrub.interval.ms": "1000",
    "log.cleaner.backoff.ms": "300",
}
"""What a broker does now and then it does often."""

TRANSACTORS: Final = (0, 0, 1, 2)
"""Producers with a transactional id that a seed has, one of these numbers."""
APPENDERS: Final = (0, 0, 2, 3)
"""Producers that compare and append, one of these numbers."""

PRODUCER_IDS: Final = 1 << 20


@dataclass(slots=True)
class Report:
    """What a seed came to."""

    seed: int
    profile: str
    brokers: int
    seconds: float
    """Virtual."""
    trace: str
    events: int
    cpu: float
    acked: int
    sent: int
    read: int
    commits: int
    elections: int
    starts: int
    topics: int
    moves: int
    transactions: int
    """Begun by their producers."""
    compared: int
    """Records that were appended where they were expected."""
    gap: float
    """The longest virtual time without an acknowledgement while faults were on."""
    is_stranded: bool
    compacted: int
    """Records that compaction has taken away, of all replicas together."""
    faults: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"seed {self.seed} {self.profile}: {self.brokers} brokers, {self.seconds:.0f} s, "
            f"{self.events} events in {self.cpu:.2f} s, {self.acked} of {self.sent} records acknowledged, "
            f"{self.read} read, {self.elections} elections, {self.starts} starts, {self.topics} topics, "
            f"{self.moves} moves, {self.transactions} transactions, {self.compared} compared, "
            f"{self.compacted} compacted, "
            f"gap {self.gap:.1f} s, {dict(self.faults)}, trace {self.trace}"
        )


class Failure(Exception):
    """A seed that breaks an invariant."""

    def __init__(self, seed: int, profile: str, invariant: str, detail: str, context: str) -> None:
        self.seed, self.profile, self.invariant, self.detail = seed, profile, invariant, detail
        super().__init__(
            f"seed {seed} of profile {profile} breaks '{invariant}'\n  {detail}\n"
            f"replay: {self.replay}\n{context}"
        )

    @property
    def replay(self) -> str:
        """The command that shows it again."""
        return f"python -m tests.sim --seed {self.seed} --profile {self.profile}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_failure, (self.seed, self.profile, self.invariant, self.detail, self.args[0]))


def _failure(seed: int, profile: str, invariant: str, detail: str, text: str) -> Failure:
    failure = Failure(seed, profile, invariant, detail, "")
    failure.args = (text,)
    return failure


def be_quiet() -> None:
    """Brokers that find damage, or no leader, say so, often. A process that plays seeds begins with it."""
    logging.getLogger("raftlog").addHandler(logging.NullHandler())


@contextmanager
def _collected_afterwards() -> Iterator[None]:
    """What a seed makes lives until it is over: to look for garbage before that finds little, many times."""
    if not gc.isenabled():
        yield
        return
    gc.freeze()  # what was there before is not looked at again for every seed
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()
        gc.unfreeze()


def run_seed(seed: int, profile: str | None) -> Report | Failure:
    """One seed; what fails comes back as a value, so that it may cross processes."""
    with _collected_afterwards():
        try:
            return Cluster(seed, profile).run()
        except Failure as failure:
            return failure.with_traceback(None)


class Stranded(Exception):
    """A group cannot elect a leader any more, since too many of its voters are not trusted."""


class Cluster:
    """Everything that one seed draws."""

    def __init__(self, seed: int, profile: str | None = None) -> None:
        self.world = World(seed)
        rng = self.world.rng
        drawn = rng.choice(sorted(PROFILES))
        self.profile: Profile = PROFILES[profile or drawn]
        size = rng.choice(self.profile.sizes)
        self.everyone: tuple[BrokerId, ...] = tuple(BrokerId(i) for i in range(1, size + 1))
        self.trio = VirtualTrio(self.world, self._refuses)
        self.links = Links(self.world, self.world.fork())
        self.invariants = Invariants(self.world)
        self.client_loss = 0.0
        self.clients_work = True
        self.topics: dict[bytes, str] = {}
        self.partition_count: dict[bytes, int] = {}
        self.deleted = self.invariants.deleted_topics
        self.compacted = self.invariants.compacted_topics
        self.starts = 0
        self._turn_delay = random.Random(f"turns {seed}").choice(TURN_DELAYS)
        self.brokers = {broker: self._broker(broker) for broker in self.everyone}
        self.faults = Faults(self, self.world.fork(), self.profile)
        self.producers: list[Producer] = []
        self.consumers: list[Consumer] = []
        self.transactors: list[Transactor] = []
        self.appenders: list[Appender] = []
        self.admin: Admin | None = None
        self.crowd: Crowd | None = None
        self.members: Members | None = None
        self.gap = 0.0
        self.is_stranded = False
        self._acks = 0
        self._acked_at = 0.0
        self._producer_ids: set[int] = set()
        self._client_rng = self.world.fork()

    def _broker(self, broker: BrokerId) -> SimBroker:
        rng = self.world.rng
        settings = StoreSettings(
            node_id=broker,
            wal_file_bytes=rng.choice((16_384, 65_536, 262_144)),
            checkpoint_bytes=rng.choice((20_000, 100_000, 400_000)),
            recent_bytes_max=rng.choice((2_000, 50_000, 10_000_000)),
            open_files_max=rng.choice((2, 16, 512)),
            segment_bytes=4096,
            index_interval_bytes=rng.choice((256, 4096)),
        )
        peers = ",".join(f"{other}@broker{other}:9192" for other in self.everyone)
        config = BrokerConfig.of({**CONFIG, "node.id": str(int(broker)), "raftlog.peers": peers})
        made = SimBroker(
            broker,
            self.world,
            self.trio,
            self.links,
            self.invariants,
            config,
            settings,
            self._turn_delay,
        )
        made.on_start = self._started
        return made

    def _started(self, started: SimBroker) -> None:
        self.starts += 1
        assert started.node is not None
        if self.members is not None:
            started.node.takes_office = self.members.takes_office
        for broker in self.brokers.values():
            if broker is not started and broker.node is not None:
                broker.act(partial(broker.node.links.connect, started.id))
                started.node.links.connect(broker.id)

    def _refuses(self, host: str) -> bool:
        """Whether nothing listens on a broker's machine, which is up."""
        return not self.brokers[BrokerId(int(host.removeprefix("broker")))].is_up

    # What clients know

    def partitions(self) -> list[tuple[bytes, int]]:
        return [(t, p) for t in sorted(self.topics) for p in range(self.partition_count[t])]

    def topic_created(self, topic_id: bytes, name: str, partitions: int) -> None:
        if topic_id in self.topics or topic_id in self.deleted:
            return
        self.topics[topic_id] = name
        self.partition_count[topic_id] = 0
        for number in range(partitions):
            self.partition_added(topic_id, number)

    def partition_added(self, topic_id: bytes, number: int) -> None:
        if topic_id in self.topics and self.partition_count[topic_id] == number:
            self.partition_count[topic_id] += 1
            group = f"group{len(self.consumers)}"
            self.consumers.append(Consumer(self, self.world.fork(), group, topic_id, number))

    def topic_deleted(self, topic_id: bytes) -> None:
        self.deleted.add(topic_id)
        self.topics.pop(topic_id, None)
        self.partition_count.pop(topic_id, None)

    def coordinator_hint(self, rng: random.Random) -> BrokerId:
        node = self.brokers[rng.choice(self.everyone)].node
        leader = node.metadata.leader if node is not None else None
        return leader if leader is not None else rng.choice(self.everyone)

    def take_producer_ids(self, first: int, count: int) -> None:
        block = set(range(first, first + count))
        if block & self._producer_ids:
            raise Violation("producer ids are unique", f"{first}..{first + count} was given out before")
        self._producer_ids |= block

    # What faults ask

    def may_lose(self, broker: SimBroker) -> bool:
        """Whether the others hold everything that is committed, so that this broker's disk may be lost: a
        majority of them by index and term, and one with every byte."""
        for ledger in self.invariants.ledgers.values():
            if ledger.is_deleted or broker.id not in ledger.voters | ledger.uncommitted_voters:
                continue
            if not ledger.last and not any(replica.durable.last for replica in ledger.replicas.values()):
                continue  # made while the broker was down: all will have nothing, and may elect
            for voters in (ledger.voters, ledger.uncommitted_voters or ledger.voters):
                others = {other: ledger.replicas.get(other) for other in voters if other != broker.id}
                holding = [
                    number
                    for number, other in others.items()
                    if other is not None
                    and other.is_trusted
                    and not other.is_lost
                    and not other.rots
                    and other.durable.holds(ledger.last, ledger.term_at(ledger.last))
                ]
                is_whole = any(not self.brokers[number].disk.is_spotted for number in holding)
                if 2 * len(holding) <= len(voters) or not is_whole:
                    return False
        return True

    # The run

    def run(self) -> Report:
        started = time.process_time()
        try:
            with ExitStack() as stack:
                for name, choices in SNAPSHOTS.items():
                    usual = getattr(metadata_group, name)
                    stack.callback(setattr, metadata_group, name, usual)
                    setattr(metadata_group, name, self.world.rng.choice((*choices, usual)))
                stack.enter_context(living_on(self.trio))
                stack.callback(self.trio.close)
                self._run()
        except Violation as error:
            raise self._failed(error.invariant, str(error)) from error
        except Exception as error:
            last = "".join(traceback.format_exception(error)[-16:])
            raise self._failed(type(error).__name__, f"{error}\n{last}") from error
        admin, invariants = self.admin, self.invariants
        assert admin is not None
        return Report(
            seed=self.world.seed,
            profile=self.profile.name,
            brokers=len(self.everyone),
            seconds=self.world.now,
            trace=self.world.trace,
            events=self.world.events,
            cpu=time.process_time() - started,
            acked=sum(producer.acked for producer in self.producers),
            sent=sum(producer.sent for producer in self.producers),
            read=sum(consumer.read for consumer in self.consumers),
            commits=invariants.commits,
            elections=invariants.elections,
            starts=self.starts,
            topics=admin.created,
            moves=admin.moved,
            transactions=sum(len(transactor.done) for transactor in self.transactors),
            compared=sum(appender.appended for appender in self.appenders),
            gap=self.gap,
            is_stranded=self.is_stranded,
            compacted=invariants.compacted,
            faults=self.faults.counts,
        )

    def _failed(self, invariant: str, detail: str) -> Failure:
        recent = "\n".join(f"    {line}" for line in self.world.recent)
        brokers = "\n".join(
            f"    {broker!r} {list(broker.node.driver.groups.values()) if broker.node else ''}"
            for broker in self.brokers.values()
        )
        return Failure(
            self.world.seed,
            self.profile.name,
            invariant,
            detail,
            f"at {self.world.now:.6f} s, the last events:\n{recent}\nbrokers:\n{brokers}",
        )

    def _run(self) -> None:
        world, rng = self.world, self.world.rng
        self.form()
        self.client_loss = self.profile.client_loss
        self.admin = Admin(self, world.fork(), pace=self.profile.admin_pace, moves=self.profile.moves)
        self.crowd = Crowd(self, world.fork())
        self.members = Members(self, random.Random(f"members {world.seed}"))
        for broker in self.brokers.values():
            if broker.node is not None:
                broker.node.takes_office = self.members.takes_office
        for number in range(rng.randint(2, 4)):
            idempotent = rng.random() < 0.65
            self.producers.append(Producer(self, world.fork(), f"p{number}", idempotent=idempotent))
        dice = random.Random(f"transactions {world.seed}")
        for number in range(dice.choice(TRANSACTORS)):
            kind = Copier if dice.random() < 0.5 else Transactor
            made = random.Random(dice.getrandbits(64))
            self.transactors.append(kind(self, made, f"{kind.__name__.lower()}{number}"))
        dice = random.Random(f"appends {world.seed}")
        for number in range(dice.choice(APPENDERS)):
            made = random.Random(dice.getrandbits(64))
            self.appenders.append(Appender(self, made, f"appender{number}"))
        world.run_until(world.now + rng.uniform(0.3, 1.5))
        self._acked_at = world.now
        self.faults.begin()
        world.run_until(world.now + rng.uniform(*self.profile.seconds))
        self.clients_work = False
        self.faults.heal()
        try:
            self._converge()
        except Stranded:
            self.is_stranded = True

    def form(self) -> None:
        """Start all brokers, and wait until they are a cluster."""
        self.world.after_event = self._bound
        for broker in self.brokers.values():
            broker.start()
        self._wait("the cluster forms", START_S, self._is_formed)

    def _bound(self) -> None:
        if self.invariants.acks != self._acks:
            self._acks = self.invariants.acks
            self.gap = max(self.gap, self.world.now - self._acked_at)
            self._acked_at = self.world.now
        if self.world.events > EVENTS_MAX:
            raise Violation("bounded work", f"{EVENTS_MAX} events by {self.world.now:.1f} s")

    def _wait(
        self,
        what: str,
        seconds: float,
        condition: Callable[[], str | None],
        more: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Go on until the condition finds nothing missing; it is looked at every 20 virtual milliseconds.
        What is found meanwhile may take `more` seconds."""
        begin, extra = self.world.now, more()
        missing = condition()
        while missing is not None:
            extra = max(extra, more())
            if self.world.now >= begin + seconds + extra:
                raise Violation(what, f"not within {seconds + extra:.0f} s: {missing}")
            self.world.run_until(self.world.now + 0.02)
            missing = condition()

    def _is_formed(self) -> str | None:
        for broker in self.brokers.values():
            if broker.node is None or not broker.node.is_registered:
                return f"{broker} is not registered"
        return None

    def _converge(self) -> None:
        self._wait("leaders after healing", LEADERS_S, self._lacks_leader, more=self._wipe_time)
        self._wait("replicas are equal after healing", EQUAL_S, self._differs)
        self._wait("transactions end after healing", CLIENTS_S, self._in_transaction)
        self._wait("clients are answered after healing", CLIENTS_S, self._unanswered)
        self._wait("moves end after healing", MOVES_S, self._moving)
        self._wait("replicas are equal at the end", EQUAL_S, self._differs)
        for _ in range(REPAIRS_MAX):
            if self.invariants.check_equal(list(self.brokers.values())):
                for transactor in self.transactors:
                    transactor.check()
                for broker in self.brokers.values():
                    if self.crowd is not None and broker.node is not None:
                        self.crowd.check(broker.node)
                return
            # Bytes that had rotted were read for the first time: they are replaced from a peer.
            self._wait("damage is repaired", REPAIR_S, self._damaged)
            self._wait("replicas are equal after a repair", EQUAL_S, self._differs)
        raise Violation("damage is repaired", f"there is more of it after {REPAIRS_MAX} repairs")

    def _wipe_time(self) -> float:
        """Disks that have to be replaced first take their time. So does a replica that lost its log, in a
        group of more than three voters: nobody may count its old vote any more."""
        nodes = [broker.node for broker in self.brokers.values() if broker.node is not None]
        if not nodes:
            return 0.0
        is_refilled = any(
            not group.is_trusted and len(group.voters) > 3
            for node in nodes
            for group in node.driver.groups.values()
        )
        vote_life = timing_of(nodes[0].real.me.config).vote_life if is_refilled else 0.0
        return vote_life + (15.0 if any(b.needs_wipe for b in self.brokers.values()) else 0.0)

    def _lacks_leader(self) -> str | None:
        nodes = [broker.node for broker in self.brokers.values()]
        for broker, node in self.brokers.items():
            if node.node is None:
                return f"broker {broker} is down"
        if not any(node is not None and node.metadata.is_ready for node in nodes):
            if self._is_stranded(METADATA_GROUP):
                raise Stranded
            return "the metadata group has no leader"
        catalog = next(n.catalog for n in nodes if n is not None and n.metadata.is_ready)
        for topic in catalog.topics.values():
            for number in range(len(topic.partitions)):
                groups = self._groups(topic, number)
                if not any(group.is_ready for group in groups):
                    if self._is_stranded(group_key(topic.topic_id, number)):
                        raise Stranded
                    return f"{topic.name}-{number} has no leader: {groups}"
        return None

    def _groups(self, topic: Topic, number: int) -> list[RaftGroup]:
        """The replicas of a partition on the brokers that are up."""
        nodes = [broker.node for broker in self.brokers.values() if broker.node is not None]
        found = [node.partition(topic.topic_id, number) for node in nodes]
        return [partition.group for partition in found if partition is not None]

    def _is_stranded(self, key: GroupKey) -> bool:
        """Whether too many voters lost their disks, or may have, for the others to elect anyone. Nothing is
        lost then and nothing goes on; the test of the invariants ends here. A group that was made while a
        broker was away is not stranded: it elects while no voter has an entry, and who leads fills the
        others."""
        groups = {
            broker.id: broker.node.driver.groups[key]
            for broker in self.brokers.values()
            if broker.node is not None and key in broker.node.driver.groups
        }
        if not groups:
            return False
        voters = max(groups.values(), key=lambda group: (group.log.last_term, group.log.last_index)).voters
        trusted = sum(group.is_trusted for broker, group in groups.items() if broker in voters)
        is_new = all(group.log.last_index == 0 for group in groups.values())
        is_led = any(group.is_leader for group in groups.values())
        return voters <= groups.keys() and 2 * trusted <= len(voters) and not (is_new or is_led)

    def _differs(self) -> str | None:
        if (missing := self._lacks_leader()) is not None:
            return missing
        nodes = [broker.node for broker in self.brokers.values() if broker.node is not None]
        if len(nodes) < len(self.brokers):
            return "a broker is down"
        applied = {node.metadata.applied_index for node in nodes}
        if len(applied) > 1:
            return f"metadata is applied up to {sorted(applied)}"
        fenced = [broker.id for broker in nodes[0].catalog.brokers.values() if broker.fenced]
        if fenced:
            return f"brokers {fenced} are fenced"
        for ledger in self.invariants.ledgers.values():
            if ledger.is_deleted:
                continue
            groups = {
                n.broker_id: n.driver.groups[ledger.key] for n in nodes if ledger.key in n.driver.groups
            }
            members = next((g.membership.members for g in groups.values() if g.is_leader), frozenset(groups))
            for broker, group in groups.items():
                is_equal = group.log.last_index == group.commit_index == ledger.last
                if broker in members and not is_equal:
                    return f"{ledger.name} on broker {broker}: {group}, committed {ledger.last}"
        for node in nodes:
            wanted = {
                group_key(topic.topic_id, number) for topic, number in node.catalog.hosted_by(node.broker_id)
            } | {METADATA_GROUP}
            if node.driver.groups.keys() != wanted or node.store.logs.keys() != wanted:
                return f"broker {node.broker_id} keeps other groups than the catalog says"
            distrusted = [group for group in node.driver.groups.values() if not group.is_trusted]
            if distrusted:
                return f"broker {node.broker_id} does not trust {distrusted}"
        if len({node.metadata.state.digest() for node in nodes}) > 1:
            return "metadata differs"
        return None

    def _unanswered(self) -> str | None:
        waiting = [one.name for one in (*self.producers, *self.appenders) if not one.is_idle]
        if waiting:
            return f"producers {waiting} wait"
        for consumer in self.consumers:
            ledger = self.invariants.ledgers.get(consumer.key)
            if consumer.is_over or ledger is None or ledger.is_deleted:
                continue
            if consumer.position < ledger.end_offset:
                return (
                    f"group {consumer.group} is at {consumer.position} of {ledger.name}, {ledger.end_offset}"
                )
        return None

    def _in_transaction(self) -> str | None:
        waiting = [transactor.name for transactor in self.transactors if not transactor.is_idle]
        if waiting:
            return f"{waiting} are in transactions"
        for broker in self.brokers.values():
            if broker.node is None:
                return f"{broker} is down"
            table = broker.node.catalog.transactions
            for name in (*table.ongoing, *table.prepared):
                return f"{name} is in a transaction: {table.get(name)}"
        return None

    def _damaged(self) -> str | None:
        self._lacks_leader()  # of two replicas, the one that is whole cannot be elected: it is stranded
        for broker in self.brokers.values():
            if broker.node is None:
                return f"{broker} is down"
            for log in broker.node.store.logs.values():
                if log.damage.problem is not None:
                    return f"{broker}: {log.damage.problem}"
        return None

    def _moving(self) -> str | None:
        """A move that was given up is over for the catalog before it is for the group."""
        first = next(iter(self.brokers.values()))
        node = first.node
        if node is None:
            return f"{first} is down"
        for topic in node.catalog.topics.values():
            for number, assignment in enumerate(topic.partitions):
                name = f"{topic.name}-{number}"
                if assignment.is_moving:
                    return f"{name}: {assignment}"
                leader = next((group for group in self._groups(topic, number) if group.is_ready), None)
                if leader is None:
                    return f"{name} has no leader"
                wanted = Membership(frozenset(assignment.replicas))
                if leader.membership != wanted or not leader.is_membership_committed:
                    return f"{name} has {leader.membership}, not {assignment}"
        return None
