"""The invariants, checked after every event for what the event can have changed.

Raft's: one leader a term, elected by a majority that voted once each, durably; logs match; a leader has all
that was committed before its term; what is committed never changes and is held by a durable majority, which
is judged by what the virtual disks have synced; an acknowledgement or a vote rests on what is synced; nothing
acknowledged in a term is cut in it; one membership change at a time. The log's: offsets are dense, and equal
on all replicas; a restart finds what was durable, no more and no less. The broker's: an acknowledged record
is in the committed log where the producer was told; one that will not happen never is; no duplicate of an
idempotent producer's record; the start of a log is where the committed log says, on every replica, and moves
back for nobody; an end of a log that a producer is told is committed; nothing above the committed end is
served; the metadata state is equal at equal index; the state machines apply each entry once, in order. The
driver's: no group that has work is left out of the next turn.

A group's history is a `Ledger`: every entry that was ever committed, once, as its first committer had it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from operator import attrgetter
from typing import Any, Final, NamedTuple
from zlib import crc32

from raftlog.errors import CorruptBatch, DamagedLog
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.noun import Command, Result
from raftlog.metadata.state import MetadataState
from raftlog.partition.log_start import log_start_of
from raftlog.partition.markers import decode_marker
from raftlog.partition.partition import Partition
from raftlog.raft.group import RaftGroup
from raftlog.raft.messages import AppendReply, HeartbeatReply, PreVote, Vote, VoteReply
from raftlog.raft.values import Membership
from raftlog.records.batch import NO_PRODUCER, read_header
from raftlog.records.record import decode_batch
from raftlog.storage.entry import Entry, EntryKind
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey, RaftIndex
from tests.sim.broker import End, SimBroker
from tests.sim.catalogs import Contents, contents_of, differing_field
from tests.sim.clients import Found, records_from
from tests.sim.fates import Decisions, Fates
from tests.sim.node import SimNode
from tests.sim.replica import LogView, Replica
from tests.sim.world import Violation, World
from tests.unit.raft_idle import left_out


class Committed(NamedTuple):
    """An entry as it was committed."""

    term: int
    kind: int
    crc: int
    base_offset: int
    next_offset: int


@dataclass(slots=True)
class Ledger:
    """The history of one group."""

    key: GroupKey
    name: str
    voters: frozenset[BrokerId]
    """By the newest membership that is committed."""
    entries: list[Committed] = field(default_factory=list)
    committed_in: list[int] = field(default_factory=list)
    """For each of the entries, the term in which it was first known to be committed."""
    replicas: dict[BrokerId, Replica] = field(default_factory=dict)
    leaders: dict[int, BrokerId] = field(default_factory=dict)
    votes: dict[tuple[int, BrokerId], BrokerId] = field(default_factory=dict)
    voted_for: dict[tuple[int, BrokerId], set[BrokerId]] = field(default_factory=dict)
    known: dict[tuple[int, int], tuple[int, Committed]] = field(default_factory=dict)
    """(index, term) to the term before it and what it is, wherever it was first seen."""
    payloads: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """Of what is known and not committed yet."""
    values: dict[bytes, int] = field(default_factory=dict)
    """Record value to offset, of records of idempotent producers."""
    records: list[bytes] = field(default_factory=list)
    """All committed values by offset."""
    keyed: dict[bytes, list[int]] = field(default_factory=dict)
    """Of a compacted topic: the offsets of each key's records."""
    keys: dict[int, bytes] = field(default_factory=dict)
    is_compacted: bool = False
    sequences: dict[tuple[int, int], int] = field(default_factory=dict)
    start: int = 0
    """Where the committed commands have moved the log's start to."""
    told_start: int = 0
    """The latest start that anybody outside was told."""
    is_deleted: bool = False
    fates: Fates | None = None
    """Of a partition: its transactions."""
    uncommitted_voters: frozenset[BrokerId] = frozenset()

    @property
    def last(self) -> int:
        return len(self.entries)

    @property
    def end_offset(self) -> int:
        return self.entries[-1].next_offset if self.entries else 0

    def offset_after(self, index: int) -> int:
        return self.entries[index - 1].next_offset if index else 0

    def term_at(self, index: int) -> int:
        return self.entries[index - 1].term if index else 0

    def is_superseded(self, offset: int) -> bool:
        """Whether compaction may have taken a committed record away: the same key has a later value that
        counts, or it is a tombstone, a marker, or a record that was aborted."""
        assert self.fates is not None
        visible = self.fates.visible
        if not self.is_compacted or visible[offset] is None:
            return False
        if not visible[offset] or not self.records[offset]:
            return True
        later = reversed(self.keyed[self.keys[offset]])
        return any(visible[other] for other in takewhile(lambda other: other > offset, later))

    def problem(self, start: int, end: int, found: Found) -> str | None:
        """What is wrong with records that were read from `start` to before `end`: another value at an offset,
        or one that is not there and must be."""
        for offset, value in found:
            if not start <= offset < len(self.records) or self.records[offset] != value:
                return f"{value!r} at {offset}, committed is {self.records[offset : offset + 1]}"
        missing = set(range(start, end)).difference([offset for offset, _ in found])
        for offset in sorted(missing):
            if not self.is_superseded(offset):
                return f"nothing at {offset}, committed is {self.records[offset : offset + 1]}"
        return None

    def forget_unsaid(self, broker: BrokerId, durable_term: int, last_term: int) -> None:
        """A process has ended that was alone in the group, and led in a term which its disk does not know.
        "terms are durable" holds, so nothing of that term has left it, and its next life begins the term
        anew, with other entries. Who is not alone is not elected before that."""
        if self.voters != {broker}:
            return
        for term in range(durable_term + 1, last_term + 1):
            self.leaders.pop(term, None)
            for line in [line for line in self.known if line[1] == term]:
                del self.known[line], self.payloads[line]


class CheckedState(MetadataState):
    """A metadata state that tells what it has become after every command."""

    def __init__(self, invariants: Invariants, broker: SimBroker) -> None:
        super().__init__()
        self._invariants, self._broker = invariants, broker

    def apply(self, command: Command, index: RaftIndex) -> Result:
        if index <= self.catalog.applied_index:
            raise Violation("applied once", f"broker {self._broker.id} applies metadata entry {index} again")
        result = super().apply(command, index)
        self._invariants.metadata_applied(self._broker, index, self.catalog)
        return result

    def restore(self, data: bytes | bytearray | memoryview) -> None:
        super().restore(data)
        self._invariants.metadata_applied(self._broker, self.catalog.applied_index, self.catalog)


_state_of: Final = attrgetter(
    "log.last_index",
    "log.last_term",
    "log.commit_index",
    "log._committed.start",
    "log.promises.hard_state",
    "leading.leadership",
    "_trust.nonce",
    "log._committed.log_start_offset",
)
"""What of a group its checks depend on. Read where it lies, since it is read after every event."""


_Watched = tuple[list[RaftGroup], list[tuple[RaftGroup, Ledger, Replica]]]
"""The groups that run on a broker, and each with what is remembered of it."""


class Invariants:
    """Implements `broker.Observer`."""

    def __init__(self, world: World) -> None:
        self.ledgers: dict[GroupKey, Ledger] = {}
        self.acks = 0
        self.elections = 0
        self.commits = 0
        self.checks = 0
        self.recovered = 0
        self.compacted = 0
        """Records that were taken away, of all replicas together, in the end."""
        self.never: dict[GroupKey, set[bytes]] = {}
        """Values that a producer was told will not happen."""
        self.deleted_topics: set[bytes] = set()
        """The ids of topics that somebody asked to be deleted."""
        self.compacted_topics: set[bytes] = set()
        """The ids of topics that were made to be compacted."""
        self._world = world
        self._catalogs: dict[int, tuple[BrokerId, Contents]] = {}
        """By metadata entry: who applied it first, and what the catalog was then."""
        self._newest: Contents = {"transactions": {}}
        self._newest_index = 0
        self.decisions = Decisions()
        self.fates: dict[GroupKey, Fates] = {}
        self._stable: dict[tuple[BrokerId, int, GroupKey], int] = {}
        """By a broker's life and partition: the last stable offset that a reader was told."""
        self._acks: list[tuple[GroupKey, int, bytes]] = []
        self._starts: list[tuple[GroupKey, int]] = []
        self._ends: list[tuple[GroupKey, int, int]] = []
        self._begins: dict[tuple[GroupKey, int], int] = {}
        self._hosted: dict[BrokerId, set[GroupKey]] = {}
        self._watched: dict[BrokerId, _Watched] = {}

    # What the simulation tells

    def new_state(self, broker: SimBroker) -> MetadataState:
        return CheckedState(self, broker)

    def acknowledged(self, key: GroupKey, offset: int, values: list[bytes]) -> None:
        """A producer was told that its records are at `offset` and behind; looked at after this event."""
        self._acks += [(key, offset + number, value) for number, value in enumerate(values)]

    def will_not_happen(self, key: GroupKey, values: list[bytes]) -> None:
        """A producer was told that its records will never be there."""
        self.never.setdefault(key, set()).update(values)
        ledger = self.ledgers.get(key)
        for value in values:
            if ledger is not None and value in ledger.values:
                raise Violation(
                    "what will not happen", f"{ledger.name}: {value!r} is at {ledger.values[value]}"
                )

    def begins_at(self, key: GroupKey, producer_id: int, sequence: int) -> None:
        """A producer goes on in this partition with a sequence that it had elsewhere."""
        self._begins[key, producer_id] = sequence

    def told_start(self, key: GroupKey, start: int) -> None:
        """Somebody is told where the log begins; looked at after this event."""
        self._starts.append((key, start))

    def committed_end(self, key: GroupKey) -> int:
        """The offset behind all that is committed, as far as anybody knows."""
        ledger = self.ledgers.get(key)
        return ledger.end_offset if ledger is not None else 0

    def told_end(self, key: GroupKey, committed: int, end: int) -> None:
        """A producer is told that a log ends there; when it asked, it was committed up to `committed`. Looked
        at after this event."""
        self._ends.append((key, committed, end))

    def fetched(self, key: GroupKey, start: int, end: int, found: Found, high_watermark: int) -> None:
        """A consumer was given these records between two offsets, and this high watermark."""
        ledger = self.ledgers[key]
        if ledger.is_deleted:
            return
        if (problem := ledger.problem(start, end, found)) is not None:
            raise Violation("only committed is served", f"{ledger.name} from {start} to {end}: {problem}")
        if high_watermark > ledger.end_offset:
            raise Violation(
                "high watermark", f"{ledger.name}: {high_watermark} is served, {ledger.end_offset} committed"
            )

    def fetched_committed(
        self, broker: SimBroker, key: GroupKey, start: int, end: int, found: Found, stable: int
    ) -> None:
        """A reader of what is committed was given these records between two offsets, and this last stable
        offset."""
        ledger = self.ledgers[key]
        fates = ledger.fates
        if ledger.is_deleted or fates is None:
            return
        undecided = max(min(fates.first_open, ledger.end_offset), ledger.start)
        if stable > undecided:
            raise Violation(
                "the last stable offset passes no open transaction",
                f"broker {broker.id} {ledger.name}: {stable}, open from {undecided}: {fates.open}",
            )
        life = broker.id, broker.life, key
        if stable < self._stable.get(life, 0):
            raise Violation(
                "the last stable offset never goes back",
                f"broker {broker.id} {ledger.name}: {stable}, it was {self._stable[life]}",
            )
        self._stable[life] = stable
        hidden = [(at, ledger.records[at]) for at in range(start, end) if fates.visible[at] is False]
        undecided = [offset for offset in range(start, end) if fates.visible[offset] is None]
        aborted = [offset for offset, _ in found if fates.visible[offset] is False]
        problem = ledger.problem(start, end, found + hidden)
        if undecided or aborted or problem is not None:
            raise Violation(
                "a reader gets what is committed",
                f"broker {broker.id} {ledger.name} from {start} to {end}: {problem}, undecided are "
                f"{undecided}, aborted {aborted}",
            )

    def metadata_applied(self, broker: SimBroker, index: int, catalog: Catalog) -> None:
        known = self._catalogs.get(index)
        if known is None:
            if index < self._newest_index:  # a replica that lost its log begins again with an empty catalog
                return
            self._newest_index = index
            self._newest = contents_of(catalog, self._newest)
            self._catalogs[index] = broker.id, self._newest
            contents = self._newest
            self.decisions.follow(index, contents["transactions"], contents["topics_by_id"], self.fates)
        elif (field := differing_field(catalog, known[1])) is not None:
            raise Violation(
                "metadata equal", f"brokers {known[0]} and {broker.id} differ at entry {index} in {field}"
            )

    # Observer

    def starting(self, broker: SimBroker, node: SimNode) -> None:
        """What a process finds on its disk is what was durable, or what the write under way would have
        made so."""
        for key, log in node.store.logs.items():
            ledger = self.ledgers.get(key)
            if ledger is None or ledger.is_deleted:
                continue
            replica = ledger.replicas.get(broker.id)
            if replica is None:  # its removal was not durable
                replica = ledger.replicas[broker.id] = Replica()
                replica.follow(log)
                replica.durable = replica.now.copy()
            self.recovered += 1
            candidates = [view for view in (replica.durable, replica.written, replica.torn) if view]
            found = next((view for view in candidates if view.agrees_with(log)), None)
            if found is None and not replica.is_lost and log.damage.problem is None:
                raise Violation(
                    "recovery finds what was durable",
                    f"broker {broker.id} {ledger.name}: {log!r} {log.promises.hard_state} is none of "
                    + ", ".join(f"{v.base}..{v.last} {v.hard} terms …{v.terms[-8:]}" for v in candidates),
                )
            durable_term = max(replica.durable.hard.term, log.promises.hard_state.term)
            ledger.forget_unsaid(broker.id, durable_term, replica.now.hard.term)
            replica.now = LogView()
            replica.unchecked = 1
            replica.follow(log)
            replica.durable, replica.written, replica.torn = replica.now.copy(), None, None
            replica.commit = 0
            replica.role = None
            replica.seen = ()
            replica.acknowledged = (0, 0)
            self._check_still_held(ledger)
        for key, ledger in self.ledgers.items():
            if key not in node.store.logs and broker.id in ledger.replicas:
                replica = ledger.replicas[broker.id]
                if replica.durable.last and not replica.is_lost and not ledger.is_deleted:
                    raise Violation(
                        "recovery finds what was durable",
                        f"broker {broker.id} has no log of {ledger.name} any more",
                    )
                replica.written = replica.torn = None  # its creation was lost with the power
        self._hosted[broker.id] = set()
        self._watched.pop(broker.id, None)

    def writes(self, broker: SimBroker, keys: list[GroupKey], path: str) -> None:
        """The store will write what is pending of these groups to a file of the log, next, and sync it."""
        node = broker.node
        assert node is not None
        mark = broker.disk.next_write(path)
        for key in keys:
            log = node.store.logs.get(key)
            if log is None:
                continue
            ledger = self._ledger(node, key)
            if ledger is None:
                continue
            replica = ledger.replicas.setdefault(broker.id, Replica())
            self._promote(broker, ledger, replica)
            replica.follow(log)
            replica.written, replica.mark = replica.now.copy(), mark

    def _promote(self, broker: SimBroker, ledger: Ledger, replica: Replica) -> None:
        """Take note that a write has become durable."""
        written = replica.written
        if written is None or not broker.disk.is_durable(replica.mark):
            return
        shrinks = written.last < replica.durable.last
        replica.durable, replica.written = written, None
        if shrinks:
            self._check_still_held(ledger)

    def sent(self, broker: SimBroker, receiver: BrokerId, messages: Any) -> None:
        """Messages leave: what they promise must be durable."""
        node = broker.node
        assert node is not None
        for message in messages:
            ledger = self._ledger(node, message.group)
            if ledger is None or ledger.is_deleted:  # a deletion that was not durable is repeated
                continue
            replica = ledger.replicas.setdefault(broker.id, Replica())
            self._promote(broker, ledger, replica)
            kind = type(message)
            if kind is AppendReply or kind is HeartbeatReply:
                self._check_ack(broker, ledger, replica, message.term, message.match_index)
            elif kind is VoteReply and message.granted:
                self._check_vote(broker, ledger, replica, message.term, receiver)
            elif kind is Vote:
                self._check_vote(broker, ledger, replica, message.term, broker.id)
            if kind is not PreVote and message.term > replica.durable.hard.term:
                raise Violation(
                    "terms are durable",
                    f"broker {broker.id} {ledger.name} speaks in term {message.term}, "
                    f"durable is {replica.durable.hard}: {message}",
                )

    def turned(self, broker: SimBroker) -> None:
        """A turn is over."""
        node = broker.node
        assert node is not None
        if (work := left_out(node.driver)) is not None:
            raise Violation("no group that has work is left out", f"broker {broker.id}: {work}")

    def looked(self, broker: SimBroker) -> None:
        """The broker has done something."""
        node = broker.node
        assert node is not None
        self.checks += 1
        watched = self._watched.get(broker.id)
        if watched is None or watched[0] != [*node.driver.groups.values()]:
            watched = self._watch(broker, node)
        for group, ledger, replica in watched[1]:
            if ledger.is_deleted:
                continue
            if replica.written is not None:
                self._promote(broker, ledger, replica)
            seen = _state_of(group)
            if seen != replica.seen:
                self._look(broker, ledger, replica, group)
                replica.seen = seen
        if self._acks:
            acks, self._acks = self._acks, []
            for ack in acks:
                self._check_ack_of_producer(*ack)
        if self._starts:
            starts, self._starts = self._starts, []
            for told in starts:
                self._check_told_start(*told)
        if self._ends:
            ends, self._ends = self._ends, []
            for told_end in ends:
                self._check_told_end(*told_end)

    def _watch(self, broker: SimBroker, node: SimNode) -> _Watched:
        """Other groups run here than when this was looked at last: find what belongs to each."""
        if node.driver.groups.keys() != self._hosted.get(broker.id):
            self._note_hosted(broker, node)
        found = []
        for key, group in node.driver.groups.items():
            ledger = self._ledger(node, key)
            assert ledger is not None
            found.append((group, ledger, ledger.replicas.setdefault(broker.id, Replica())))
        watched = self._watched[broker.id] = [*node.driver.groups.values()], found
        return watched

    def _note_hosted(self, broker: SimBroker, node: SimNode) -> None:
        """Groups were started or removed here."""
        hosted = set(node.driver.groups)
        for gone in self._hosted.get(broker.id, set()) - hosted:
            ledger = self.ledgers[gone]
            ledger.replicas.pop(broker.id, None)
            if gone[:16] in node.catalog.topics_by_id:
                self._check_still_held(ledger)
            elif gone[:16] in self.deleted_topics:
                ledger.is_deleted = True
            else:
                raise Violation(
                    "nothing is deleted unasked", f"broker {broker.id} deleted its replica of {ledger.name}"
                )
        self._hosted[broker.id] = hosted

    def closing(self, broker: SimBroker) -> None:
        """The store will write and sync everything there is."""
        node = broker.node
        assert node is not None
        self.writes(broker, list(node.store.logs), broker.disk.last_wal_write)

    def ended(self, broker: SimBroker, how: End) -> None:
        for ledger in self.ledgers.values():
            replica = ledger.replicas.get(broker.id)
            if replica is not None:
                self._promote(broker, ledger, replica)
                if how in (End.POWER_LOST, End.DISK_FAILED):
                    replica.torn = replica.now.copy()

    def wiped(self, broker: SimBroker) -> None:
        for ledger in self.ledgers.values():
            if broker.id in ledger.replicas:
                ledger.replicas[broker.id] = Replica(is_lost=True, is_trusted=False)

    def rots(self, broker: SimBroker) -> None:
        """Bits of the broker's disk are about to be flipped: what it holds may be found damaged."""
        for ledger in self.ledgers.values():
            if broker.id in ledger.replicas:
                ledger.replicas[broker.id].rots = True

    # The checks

    def _ledger(self, node: SimNode, key: GroupKey) -> Ledger | None:
        ledger = self.ledgers.get(key)
        if ledger is None:
            group = node.driver.groups.get(key)
            if group is None:
                return None
            name, voters = "metadata", frozenset(group.voters)
            if key != METADATA_GROUP:
                partition = node.partition(key[:16], int.from_bytes(key[16:], "big"))
                if partition is None:
                    return None
                name = f"{partition.topic}-{partition.partition}"
            ledger = self.ledgers[key] = Ledger(key, name, voters)
            if key != METADATA_GROUP:
                partition_of = key[:16], int.from_bytes(key[16:], "big")
                ledger.fates = self.fates[key] = Fates(name, partition_of)
                ledger.is_compacted = key[:16] in self.compacted_topics
        return ledger

    def _look(self, broker: SimBroker, ledger: Ledger, replica: Replica, group: RaftGroup) -> None:
        log = group.log
        if log.commit_index > log.last_index:
            raise Violation("the log holds what is committed", f"broker {broker.id}: {log!r}")
        replica.follow(log)
        term, acked = replica.acknowledged
        rots = replica.rots or broker.disk.was_spotted  # what nobody has any more is filled anew
        if rots and not group.is_trusted:
            replica.is_lost = True  # found out, and about to be dropped and filled anew
            replica.acknowledged = (0, 0)
        elif group.term == term and replica.now.last < acked and not replica.is_lost:
            raise Violation(
                "nothing acknowledged is cut",
                f"broker {broker.id} {ledger.name} acknowledged {acked} in term {term}, "
                f"has {replica.now.last}",
            )
        if replica.unchecked <= replica.now.last:
            self._check_matching(broker, ledger, replica, group)
        if group.is_leader:
            self._check_leader(broker, ledger, replica, group)
        if log.commit_index > replica.commit:
            self._check_commit(broker, ledger, replica, group)
        elif log.commit_index < replica.commit:
            if not rots:
                raise Violation("commit index", f"{group!r} was at {replica.commit}")
            replica.is_lost, replica.commit = True, log.commit_index  # found damaged, and dropped
        is_moved = ledger.key != METADATA_GROUP and log.retention.start_offset > ledger.start
        if is_moved and log.damage.lost is None:  # a damaged log begins where it was committed to
            raise Violation(
                "the committed log says where it begins",
                f"broker {broker.id} {ledger.name} begins at {log.retention.start_offset}, committed is "
                f"{ledger.start}",
            )
        if group.is_trusted != replica.is_trusted:
            replica.is_trusted = group.is_trusted
            if group.is_trusted:
                replica.is_lost = False
                self._check_still_held(ledger)

    def _check_matching(self, broker: SimBroker, ledger: Ledger, replica: Replica, group: RaftGroup) -> None:
        """Two logs that have an entry of the same index and term have the same entry, after the same one
        (Raft §5.3)."""
        log, view, known = group.log, replica.now, ledger.known
        index = replica.unchecked
        before = int(log.term_at(RaftIndex(index - 1)) or 0)
        is_recovered = replica.seen == () or replica.rots or broker.disk.is_spotted
        while is_recovered and index <= min(log.commit_index, view.last):
            line = known.get((index, view.terms[index - view.base - 1]))
            if line is None or line[0] != before:
                break  # a disk that rots is to be read by those whose business it is
            before = line[1].term
            index += 1
        while index <= view.last:
            for entry in log.entries.read(RaftIndex(index), 1 << 20, 1024):
                line = known.get((index, entry.term))
                content = Committed(
                    entry.term, entry.kind, crc32(entry.payload), entry.base_offset, entry.next_offset
                )
                if line is None:
                    known[index, entry.term] = (before, content)
                    ledger.payloads[index, entry.term] = bytes(entry.payload)
                    if entry.kind is EntryKind.MEMBERSHIP:
                        self._check_membership(ledger, group, entry)
                elif line != (before, content):
                    raise Violation(
                        "log matching",
                        f"broker {broker.id} {ledger.name} entry {index} of term {entry.term}: {content} "
                        f"after term {before}, elsewhere {line}",
                    )
                before = entry.term
                index += 1
        replica.unchecked = index

    def _check_membership(self, ledger: Ledger, group: RaftGroup, entry: Entry) -> None:
        """A new membership, seen for the first time: on its leader."""
        wanted = Membership.decode(entry.payload)
        earlier = [e for e in group.log.memberships if e.index < entry.index]
        if earlier:
            old = Membership.decode(earlier[-1].payload)
            changed = (old.voters ^ wanted.voters) | (old.learners ^ wanted.learners)
            if len(changed) > 1:
                raise Violation("one change at a time", f"{ledger.name}: {old} becomes {wanted}")
            if earlier[-1].index > ledger.last:
                raise Violation(
                    "one change at a time",
                    f"{ledger.name}: entry {entry.index} changes members, "
                    f"{earlier[-1].index} is not committed",
                )
        ledger.uncommitted_voters = wanted.voters

    def _check_leader(self, broker: SimBroker, ledger: Ledger, replica: Replica, group: RaftGroup) -> None:
        term = group.term
        first = ledger.leaders.get(term)
        if first is not None:
            if first != broker.id:
                raise Violation(
                    "one leader a term", f"brokers {first} and {broker.id} lead {ledger.name} in term {term}"
                )
            return
        self.elections += 1
        ledger.leaders[term] = broker.id
        voted = ledger.voted_for.get((term, broker.id), set()) | {broker.id}
        if 2 * len(voted & group.voters) <= len(group.voters):
            raise Violation(
                "elected by a majority",
                f"broker {broker.id} leads {ledger.name} in term {term} by {sorted(voted)} of "
                f"{sorted(group.voters)}",
            )
        # Leader completeness (Raft §5.4): what was committed in earlier terms is in the leader's log. By when
        # it was committed, not by its own term: who hears late that he won may lead beside a newer leader.
        last = ledger.last
        while last and ledger.committed_in[last - 1] >= term:
            last -= 1
        if last and not replica.now.holds(last, ledger.term_at(last)):
            raise Violation(
                "leader completeness",
                f"{group!r} on broker {broker.id} of {ledger.name} lacks entry {last} of term "
                f"{ledger.term_at(last)}, which is committed; it ends {replica.now.terms[-5:]}",
            )

    def _check_commit(self, broker: SimBroker, ledger: Ledger, replica: Replica, group: RaftGroup) -> None:
        log, view = group.log, replica.now
        grew = False
        trimmed, replica.trimmed = replica.trimmed, []
        first = max(replica.commit, view.base) + 1
        for index, term in trimmed + [
            (i, view.terms[i - view.base - 1]) for i in range(first, log.commit_index + 1)
        ]:
            content = ledger.known[index, term][1]
            if index <= ledger.last:
                if ledger.entries[index - 1] != content:
                    raise Violation(
                        "committed entries never change",
                        f"broker {broker.id} {ledger.name} commits {content} at {index}, it was "
                        f"{ledger.entries[index - 1]}",
                    )
                continue
            if index != ledger.last + 1:
                raise Violation(
                    "commit order", f"broker {broker.id} {ledger.name}: {index} after {ledger.last}"
                )
            self._commit(ledger, content, group.term)
            grew = True
        replica.commit = log.commit_index
        if log.commit_index > ledger.last:
            raise Violation("commit order", f"broker {broker.id} {ledger.name}: {group} after {ledger.last}")
        if log.high_watermark != ledger.offset_after(log.commit_index):
            raise Violation(
                "offsets are dense", f"{log!r}, {ledger.offset_after(log.commit_index)} committed"
            )
        if grew and group.is_leader:
            self._check_held(ledger, ledger.last, group.voters)
        elif (
            grew
        ):  # by a leader that has ended meanwhile, and with it maybe the membership that it counted by
            self._check_still_held(ledger, group.voters)

    def _commit(self, ledger: Ledger, content: Committed, term: int) -> None:
        """The next entry is committed for the first time anywhere, in `term`."""
        self.commits += 1
        if content.base_offset != ledger.end_offset:
            raise Violation("offsets are dense", f"{ledger.name}: {content} after {ledger.end_offset}")
        ledger.entries.append(content)
        ledger.committed_in.append(term)
        payload = ledger.payloads.pop((ledger.last, content.term))
        if content.kind == EntryKind.MEMBERSHIP:
            ledger.voters = Membership.decode(payload).voters
        if content.kind == EntryKind.NOOP and payload:
            ledger.start = max(ledger.start, log_start_of(payload) or 0)
        if content.kind == EntryKind.BATCH and ledger.key != METADATA_GROUP:
            self._commit_records(ledger, content, payload)

    def _commit_records(self, ledger: Ledger, content: Committed, payload: bytes) -> None:
        header = read_header(payload)
        records = decode_batch(payload)
        values = [record.value or b"" for record in records]
        if len(values) != content.next_offset - content.base_offset:
            raise Violation("offsets are dense", f"{ledger.name}: {content} holds {len(values)} records")
        assert ledger.fates is not None
        if header.is_control:
            terms = self.ledgers[METADATA_GROUP].leaders
            ledger.fates.marker(decode_marker(header, payload), self.decisions, terms)
            ledger.records += values
            return
        if header.is_transactional:
            ledger.fates.batch(header, self.decisions)
        else:
            ledger.fates.plain(len(values))
        if ledger.is_compacted:
            for number, record in enumerate(records, content.base_offset):
                if record.key is None:
                    raise Violation("a compacted topic has keys", f"{ledger.name} at {number}")
                ledger.keys[number] = record.key
                ledger.keyed.setdefault(record.key, []).append(number)
        never = self.never.get(ledger.key, ())
        for number, value in enumerate(values):
            offset = content.base_offset + number
            if value in never:
                raise Violation("what will not happen", f"{ledger.name}: {value!r} is at {offset}")
            if value and header.producer_id != NO_PRODUCER and value in ledger.values:
                raise Violation(
                    "no duplicates", f"{ledger.name}: {value!r} is at {ledger.values[value]} and {offset}"
                )
            ledger.values[value] = offset
        if header.producer_id != NO_PRODUCER:
            producer = (header.producer_id, header.producer_epoch)
            begins = self._begins.get((ledger.key, header.producer_id), 0)
            expected = ledger.sequences.get(producer, begins)
            if header.base_sequence != expected:
                raise Violation(
                    "sequences in order",
                    f"{ledger.name}: producer {producer} has {header.base_sequence}, not {expected}",
                )
            ledger.sequences[producer] = (header.last_sequence + 1) & 0x7FFFFFFF
        ledger.records += values

    def _holders(self, ledger: Ledger, index: int, voters: frozenset[BrokerId]) -> tuple[int, list[str]]:
        """How many voters have the entry on their disk, or count for nobody; and what the others have."""
        term, count, others = ledger.term_at(index), 0, []
        for broker in sorted(voters):
            replica = ledger.replicas.get(broker)
            if replica is not None and (replica.is_lost or replica.durable.holds(index, term)):
                count += 1
            else:
                others.append(f"{broker}: {replica.durable.last if replica else 'nothing'}")
        return count, others

    def _check_held(self, ledger: Ledger, index: int, voters: frozenset[BrokerId]) -> None:
        count, others = self._holders(ledger, index, voters)
        if 2 * count <= len(voters):
            raise Violation(
                "a durable majority holds what is committed",
                f"{ledger.name} entry {index} of term {ledger.term_at(index)} is on {count} disks of "
                f"{sorted(voters)}; others have {others}",
            )

    def _check_still_held(self, ledger: Ledger, *others: frozenset[BrokerId]) -> None:
        """A log has become shorter somewhere: everything committed must still be on enough disks, by the
        membership that is committed or the one that is about to be. Majorities of the two share a member."""
        if not ledger.entries or ledger.is_deleted:
            return
        for voters in (ledger.voters, ledger.uncommitted_voters or ledger.voters, *others):
            count, _ = self._holders(ledger, ledger.last, voters)
            if 2 * count > len(voters):
                return
        self._check_held(ledger, ledger.last, ledger.voters)

    def _check_ack(self, broker: SimBroker, ledger: Ledger, replica: Replica, term: int, index: int) -> None:
        """An acknowledgement leaves: what it says is on the disk."""
        if index == 0:
            return
        durable, now = replica.durable, replica.now
        is_held = index <= max(durable.base, now.base) or durable.holds(index, now.term_at(index) or -1)
        if index > durable.last or not is_held:
            raise Violation(
                "acknowledged is durable",
                f"broker {broker.id} {ledger.name} acknowledges {index} in term {term}, its disk has "
                f"{durable.base}..{durable.last}",
            )
        acked_term, acked = replica.acknowledged
        if term != acked_term or index > acked:
            replica.acknowledged = (term, index)

    def _check_vote(
        self, broker: SimBroker, ledger: Ledger, replica: Replica, term: int, candidate: BrokerId
    ) -> None:
        """A vote leaves: it is the only one of this broker in this term, ever, and it is on the disk."""
        first = ledger.votes.setdefault((term, broker.id), candidate)
        if first != candidate:
            raise Violation(
                "one vote a term",
                f"broker {broker.id} {ledger.name} votes for {candidate} in term {term}, after {first}",
            )
        ledger.voted_for.setdefault((term, candidate), set()).add(broker.id)
        hard = replica.durable.hard
        if hard.term == term and hard.voted_for == candidate:
            return
        if hard.term <= term:
            raise Violation(
                "a vote is durable",
                f"broker {broker.id} {ledger.name} votes for {candidate} in term {term}, durable is {hard}",
            )

    def _check_ack_of_producer(self, key: GroupKey, offset: int, value: bytes) -> None:
        self.acks += 1
        ledger = self.ledgers[key]
        if ledger.is_deleted:
            return
        if offset >= len(ledger.records) or ledger.records[offset] != value:
            there = ledger.records[offset : offset + 1]
            raise Violation(
                "acknowledged is committed", f"{ledger.name}: {value!r} at {offset}, where {there} is"
            )

    def _check_told_end(self, key: GroupKey, committed: int, end: int) -> None:
        ledger = self.ledgers[key]
        if not ledger.is_deleted and not committed <= end <= ledger.end_offset:
            raise Violation(
                "an end that is told is committed, and not of before",
                f"{ledger.name}: {end} is told; {committed} was committed when it was asked for, and"
                f" {ledger.end_offset} is now",
            )

    def _check_told_start(self, key: GroupKey, start: int) -> None:
        ledger = self.ledgers[key]
        if ledger.is_deleted:
            return
        if start > ledger.start:
            raise Violation(
                "the committed log says where it begins",
                f"{ledger.name}: {start} was told, committed is {ledger.start}",
            )
        ledger.told_start = max(ledger.told_start, start)

    # At the end

    def check_equal(self, brokers: list[SimBroker]) -> bool:
        """Everything has converged: every replica has exactly what was committed, and serves it. False when
        one cannot read its rotten disk."""
        is_readable = True
        for broker in brokers:
            node = broker.node
            assert node is not None
            for partition in node.replicas.partitions:
                try:
                    self._check_served(broker, partition)
                except DamagedLog:
                    rots = self.ledgers[partition.group.key].replicas[broker.id].rots
                    if not rots and not broker.disk.is_spotted:
                        raise
                    is_readable = False
        return is_readable

    def _check_served(self, broker: SimBroker, partition: Partition) -> None:
        ledger = self.ledgers[partition.group.key]
        log = partition.log
        offset = log.retention.start_offset
        if offset != ledger.start:
            raise Violation(
                "replicas are equal",
                f"broker {broker.id} {ledger.name} begins at {offset}, committed is {ledger.start}",
            )
        begin, read = offset, list[tuple[int, bytes]]()
        while offset < log.high_watermark:
            found = log.reader.read(offset, 1 << 20)
            assert found is not None, (offset, log)
            try:
                read += records_from(found.read(), begin)
            except CorruptBatch as error:
                what = f"broker {broker.id} {ledger.name} serves damaged bytes at {offset}: {error}"
                raise Violation("only committed is served", what) from error
            offset = found.next_offset
        problem = ledger.problem(begin, ledger.end_offset, read)
        if problem is not None:
            raise Violation("replicas are equal", f"broker {broker.id} {ledger.name} from {begin}: {problem}")
        self.compacted += len(ledger.records) - begin - len(read)
