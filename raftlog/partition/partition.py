"""A partition: the offsets of one Raft group.

Decides what a leader may append (sequence numbers, sizes, timestamps), which bytes a fetch may see, and
what an offset, a timestamp or a leader epoch maps to. It knows no topic but its name, no other partition,
no socket and no clock: `now_ms` (wall clock, milliseconds) comes in.

Invariants: offsets are dense; nothing above the high watermark is served; a producer is answered only when
its batch is committed, or when it is certain that it never will be, or with a retriable error when
neither is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from raftlog.errors import (
    CorruptBatch,
    DamagedLog,
    FileRefused,
    InvalidBatch,
    InvalidInput,
    UnsupportedBatch,
)
from raftlog.memory import MemoryBudget
from raftlog.partition.log_start import LogStart
from raftlog.partition.producers import (
    NewBatch,
    OutOfSequence,
    Producers,
    RepeatedBatch,
    StaleEpoch,
    UnknownProducer,
)
from raftlog.partition.refused import Refused
from raftlog.raft.group import RaftGroup
from raftlog.raft.values import NotLeader, Outcome, Role
from raftlog.records.batch import NO_PRODUCER, BatchHeader, read_header, stamp, stamp_append_time
from raftlog.records.produced import check_produced_batch
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.group_log import GroupLog, Slice
from raftlog.storage.timestamps import Steps, run
from raftlog.storage.warming import Warming
from raftlog.types import BrokerId, Offset, PartitionId, RaftIndex, Term, TopicName

EARLIEST: Final = -2
LATEST: Final = -1
MAX_TIMESTAMP: Final = -3
EARLIEST_LOCAL: Final = -4
"""The timestamps that ListOffsets gives a meaning of their own (KIP-734, KIP-405)."""


class PartitionError(Enum):
    """Why a partition refused. The broker maps each to one Kafka error code."""

    NOT_LEADER = auto()
    MAY_STILL_HAPPEN = auto()
    STORAGE_FAILED = auto()
    CORRUPT_BATCH = auto()
    UNSUPPORTED_BATCH = auto()
    INVALID_RECORD = auto()
    BATCH_TOO_LARGE = auto()
    INVALID_TIMESTAMP = auto()
    OUT_OF_SEQUENCE = auto()
    STALE_PRODUCER_EPOCH = auto()
    OFFSET_OUT_OF_RANGE = auto()
    OFFSET_NOT_AVAILABLE = auto()
    FENCED_LEADER_EPOCH = auto()
    UNKNOWN_LEADER_EPOCH = auto()
    OVERLOADED = auto()


class ProduceResult(NamedTuple):
    """The answer to one batch. Offsets are -1 with an error; `append_time` is -1 under CreateTime."""

    error: PartitionError | None
    base_offset: int = -1
    append_time: int = -1
    log_start_offset: int = -1
    message: str | None = None


class FetchResult(NamedTuple):
    """A byte range of a segment, or an error; no slice means that there is nothing to read yet."""

    error: PartitionError | None
    slice: Slice | None
    high_watermark: Offset
    log_start_offset: Offset


class FoundOffset(NamedTuple):
    """What a timestamp maps to; offset -1 when no record is that late."""

    error: PartitionError | None
    offset: int = -1
    timestamp: int = -1
    leader_epoch: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSettings:
    """The topic configs that a partition acts on, in Kafka's units."""

    max_message_bytes: int = 1_048_588
    log_append_time: bool = False
    timestamp_before_max_ms: int = 2**63 - 1
    timestamp_after_max_ms: int = 3_600_000
    retention_ms: int = 7 * 24 * 3_600_000
    retention_bytes: int = -1
    producer_expiration_ms: int = 86_400_000


SETTLE_S: Final = 2.0
"""How long a new leader waits for the first batch of a producer that it does not know, before it takes a
later one for the first: what was under way to the leader before may come again until then."""
MAX_UNCOMMITTED_BYTES: Final = 64 << 20
"""What a leader without a majority takes before it says "later": it bounds the tail in memory."""

FIRST_TERM: Final = 1
FOREVER_MS: Final = 1 << 62

COMES_AGAIN: Final = frozenset(
    (PartitionError.NOT_LEADER, PartitionError.STORAGE_FAILED, PartitionError.OVERLOADED)
)
"""After these a producer sends the same batch once more."""

UNKNOWN_OFFSET: Final = Offset(-1)

_COMMITTED_IF: Final = {True: Outcome.COMMITTED, False: Outcome.WILL_NOT_HAPPEN}

OnProduced = Callable[[ProduceResult], None]
OnDeleted = Callable[[PartitionError | None, int], None]
Waiter = Callable[[], None]


class Partition:
    """One replica of a partition. Implements `raft.machine.StateMachine`."""

    def __init__(
        self,
        topic: TopicName,
        partition: PartitionId,
        topic_id: bytes,
        group: RaftGroup,
        log: GroupLog,
        settings: PartitionSettings,
        *,
        now_ms: int,
        on_leadership: Callable[[], None] = lambda: None,
        memory: MemoryBudget | None = None,
    ) -> None:
        """`on_leadership` is called when who leads, or whether the leader is ready, may have changed."""
        self.topic = topic
        self.partition = partition
        self.topic_id = topic_id
        self.group = group
        self.log = log
        self.settings = settings
        self._on_leadership = on_leadership
        self._memory = memory
        self._was_ready = False
        self._producers = Producers()
        self._refused = Refused()
        self._ready_at = float("inf")
        self._start = LogStart(group, log)
        self._waiters: dict[Waiter, None] = {}
        self._repeats: list[tuple[RaftIndex, Offset, OnProduced]] = []
        self._uncommitted_bytes = 0
        self.records_in = self.batches_in = self.bytes_in = self.bytes_out = 0
        """What producers had committed here, and consumers were sent, since the start."""
        self._now_ms = now_ms
        self._applied = log.snapshot_index
        self._producers.restore(log.snapshot_state)

    def __repr__(self) -> str:
        return (
            f"<Partition {self.topic}-{self.partition} {self.group.role.name.lower()}"
            f" term={self.group.term} end={self.log.log_end_offset} committed={self.log.high_watermark}>"
        )

    # What a partition is

    @property
    def is_leader(self) -> bool:
        return self.group.is_leader

    @property
    def leader(self) -> BrokerId | None:
        return self.group.leader

    @property
    def leader_epoch(self) -> Term:
        return self.group.term

    @property
    def high_watermark(self) -> Offset:
        return self.log.high_watermark

    @property
    def log_start_offset(self) -> Offset:
        return self.log.log_start_offset

    @property
    def _told_start(self) -> Offset:
        """What an answer says of the log's start: a leader that has not committed anything in its term yet
        may not know how far an earlier one moved it."""
        return self.log.log_start_offset if self.group.is_ready else UNKNOWN_OFFSET

    @property
    def log_end_offset(self) -> Offset:
        return self.log.log_end_offset

    @property
    def size(self) -> int:
        """Bytes of the committed batches."""
        return self.log.statistics()["segment_bytes"]

    def statistics(self) -> dict[str, object]:
        """Figures for people and metrics; sizes in bytes."""
        return {
            "topic": self.topic,
            "partition": self.partition,
            "role": self.group.role.name.lower(),
            "term": self.group.term,
            "leader": self.group.leader,
            "log_start_offset": self.log_start_offset,
            "high_watermark": self.high_watermark,
            "log_end_offset": self.log_end_offset,
            "uncommitted_bytes": self._uncommitted_bytes,
            "waiters": len(self._waiters),
        }

    # Producing

    def produce(self, batch: memoryview, *, now: float, now_ms: int, on_done: OnProduced) -> None:
        """Append one v2 batch; `batch` is writable, and this partition's from here on.

        `on_done` is called exactly once: at once for most refusals, and otherwise from the driver's turn
        after the fsync and the majority that the answer rests on.
        """
        refusal = self._admit(batch, now_ms)
        if isinstance(refusal, ProduceResult):
            if refusal.error in COMES_AGAIN:
                self._note_refused(batch, now)
            on_done(refusal)
            return
        header = refusal
        if header.producer_id != NO_PRODUCER:
            verdict = self._producers.check(header)
            match verdict:
                case NewBatch():
                    pass
                case UnknownProducer(sequence):
                    if not self._may_begin(header.producer_id, sequence, now):
                        self._refused.note(header.producer_id, sequence, now)
                        on_done(ProduceResult(PartitionError.NOT_LEADER))
                        return
                case RepeatedBatch(base_offset, index):
                    self._refused.forget(header.producer_id)
                    self._answer_repeat(base_offset, index, on_done)
                    return
                case StaleEpoch(current):
                    on_done(
                        ProduceResult(
                            PartitionError.STALE_PRODUCER_EPOCH,
                            message=f"producer {header.producer_id} is at epoch {current} now",
                        )
                    )
                    return
                case OutOfSequence(expected, got):
                    if self._refused.misses(header.producer_id, now):
                        on_done(ProduceResult(PartitionError.NOT_LEADER))
                        return
                    gap = f"producer {header.producer_id}: expected sequence {expected}, got {got}"
                    self._answer_gap(gap, now, on_done)
                    return
            self._refused.forget(header.producer_id)
        base_offset = self.log.log_end_offset
        append_time = -1
        if self.settings.log_append_time:
            append_time = now_ms
            stamp_append_time(batch, now_ms)
        stamp(batch, base_offset, self.group.term)
        size = len(batch)

        def resolved(outcome: Outcome, entry: Entry) -> None:
            self._uncommitted_bytes -= size
            match outcome:
                case Outcome.COMMITTED:
                    self.records_in += entry.next_offset - base_offset
                    self.batches_in += 1
                    self.bytes_in += size
                    on_done(ProduceResult(None, base_offset, append_time, self.log.log_start_offset))
                case Outcome.WILL_NOT_HAPPEN:
                    on_done(ProduceResult(PartitionError.NOT_LEADER))
                case Outcome.MAY_STILL_HAPPEN:
                    on_done(ProduceResult(PartitionError.MAY_STILL_HAPPEN))

        entry = self.group.propose(batch, header.record_count, now, resolved)
        if isinstance(entry, NotLeader):
            on_done(ProduceResult(PartitionError.NOT_LEADER))
            return
        self._uncommitted_bytes += size
        if header.producer_id != NO_PRODUCER:
            self._producers.appended(header, base_offset, entry.index)

    def _admit(self, batch: memoryview, now_ms: int) -> ProduceResult | BatchHeader:
        """The header of a batch that may be appended, or why it may not."""
        if not self.group.is_leader or self.group.is_transferring:
            # Before anything is said of sequences: the batch before this one was refused for the same reason.
            return ProduceResult(PartitionError.NOT_LEADER)
        if self.log.damage is not None:
            return ProduceResult(PartitionError.STORAGE_FAILED, message=self.log.damage)
        if self._uncommitted_bytes > MAX_UNCOMMITTED_BYTES:
            return ProduceResult(PartitionError.OVERLOADED, message="no majority has answered for a while")
        if self._memory is not None and self._memory.keeps_too_much:
            return ProduceResult(PartitionError.OVERLOADED, message="too much waits for majorities here")
        if len(batch) > self.settings.max_message_bytes:
            limit = self.settings.max_message_bytes
            return ProduceResult(
                PartitionError.BATCH_TOO_LARGE,
                message=f"a batch of {len(batch)} bytes is over max.message.bytes={limit}",
            )
        try:
            header = check_produced_batch(batch)
        except CorruptBatch as error:
            return ProduceResult(PartitionError.CORRUPT_BATCH, message=str(error))
        except UnsupportedBatch as error:
            return ProduceResult(PartitionError.UNSUPPORTED_BATCH, message=str(error))
        except InvalidBatch as error:
            return ProduceResult(PartitionError.INVALID_RECORD, message=str(error))
        if header.size != len(batch):
            return ProduceResult(
                PartitionError.INVALID_RECORD,
                message="one batch a partition and request, and nothing behind it",
            )
        if header.is_control or header.is_transactional:
            return ProduceResult(
                PartitionError.INVALID_RECORD, message="control and transactional batches are not taken"
            )
        if not self.settings.log_append_time and header.max_timestamp >= 0:
            settings = self.settings
            late = header.max_timestamp - now_ms > settings.timestamp_after_max_ms
            if late or now_ms - header.max_timestamp > settings.timestamp_before_max_ms:
                return ProduceResult(
                    PartitionError.INVALID_TIMESTAMP,
                    message=f"timestamp {header.max_timestamp} is too far from the broker's {now_ms}",
                )
        return header

    def _note_refused(self, batch: memoryview, now: float) -> None:
        """Batches that are under way behind this one miss it: should this replica lead when they come, they
        must be told the same, not that there is a gap."""
        try:
            header = read_header(batch)
        except InvalidInput:
            return  # no producer's batch: who leads will say so
        if header.producer_id != NO_PRODUCER:
            self._refused.note(header.producer_id, header.base_sequence, now)

    def _may_begin(self, producer_id: int, sequence: int, now: float) -> bool:
        """Whether a producer that is not known here goes on with this batch. Any sequence may be the next:
        the topic was deleted and made again, or the producer was silent for so long that it was forgotten
        (KIP-360, as in Kafka). But what lies in the middle of a sequence may also have overtaken the first
        batch, which was under way to the leader before (if there was one) or was refused a moment ago: it
        would never fit in behind."""
        if self._refused.is_behind(producer_id, sequence, now):
            return False
        return sequence == 0 or self.group.term == FIRST_TERM or now - self._ready_at >= SETTLE_S

    def _answer_repeat(self, base_offset: Offset, index: RaftIndex, on_done: OnProduced) -> None:
        """A repeat succeeds when what it repeats is committed (DUPLICATE_SEQUENCE_NUMBER is success)."""
        if index <= self.log.commit_index:
            on_done(ProduceResult(None, base_offset, -1, self._told_start))
        else:
            self._repeats.append((index, base_offset, on_done))

    def _answer_gap(self, gap: str, now: float, on_done: OnProduced) -> None:
        """A gap ends an idempotent producer's sequence, so it is said only by who leads for certain: a leader
        that was replaced without knowing it has not seen the batches before this one."""

        def confirmed(leads: bool) -> None:
            if leads:
                on_done(ProduceResult(PartitionError.OUT_OF_SEQUENCE, message=gap))
            else:
                on_done(ProduceResult(PartitionError.NOT_LEADER))

        self.group.read_barrier(now, confirmed)

    # Reading

    def fetch(self, offset: int, max_bytes: int, *, leader_epoch: int = -1) -> FetchResult:
        """Whole batches from the one that holds `offset` on, of one segment: the first, and behind it what
        fits `max_bytes`.

        Damage found while reading is STORAGE_FAILED, and the damaged bytes stay unserved. Raises StorageError
        when the disk failed or no file can be opened.
        """
        start, end, log_end = self._told_start, self.log.high_watermark, self.log.log_end_offset
        error = self._check_epoch(leader_epoch)
        if error is not None:
            return FetchResult(error, None, end, start)
        if not self.group.is_ready and (
            end < offset <= log_end or offset < max(self.log.log_start_offset, self._start.uncommitted)
        ):
            # What an earlier leader committed, records or a later start, this one will know to be so as soon
            # as its first entry is committed.
            return FetchResult(None, None, end, start)
        if offset == end:
            return FetchResult(None, None, end, start)
        if not self.log.log_start_offset <= offset < end:
            return FetchResult(PartitionError.OFFSET_OUT_OF_RANGE, None, end, start)
        try:
            found = self.log.read(Offset(offset), max_bytes)
        except (DamagedLog, FileRefused):
            return FetchResult(PartitionError.STORAGE_FAILED, None, end, start)
        if found is not None:
            self.bytes_out += found.length
        return FetchResult(None, found, end, start)

    def cold(self, offset: int, max_bytes: int) -> Warming | None:
        """What to run in a thread so that `fetch` of the same will not wait for the disk; None when it would
        not anyway."""
        if self.log.damage is not None:
            return None
        try:
            return self.log.cold(Offset(offset), max_bytes)
        except (DamagedLog, FileRefused):
            return None  # `fetch` says so

    def find_offset(self, timestamp: int, *, leader_epoch: int = -1) -> FoundOffset:
        """The first offset whose timestamp is at least `timestamp`, or one of the special ones above."""
        return run(self.find_offset_steps(timestamp, leader_epoch=leader_epoch))

    def find_offset_steps(self, timestamp: int, *, leader_epoch: int = -1) -> Steps[FoundOffset]:
        """`find_offset` in steps that hold nobody up."""
        error = self._check_epoch(leader_epoch)
        if error is not None:
            return FoundOffset(error)
        epoch = self.group.term
        if not self.group.is_ready:
            return FoundOffset(PartitionError.OFFSET_NOT_AVAILABLE)
        match timestamp:
            case -2 | -4:
                return FoundOffset(None, self.log.log_start_offset, -1, epoch)
            case -1:
                return FoundOffset(None, self.log.high_watermark, -1, epoch)
            case -3:
                timestamp = self.log.max_timestamp
        if timestamp < 0:
            return FoundOffset(None)
        try:
            found = yield from self.log.offset_for_timestamp_steps(timestamp)
        except (DamagedLog, FileRefused):
            return FoundOffset(PartitionError.STORAGE_FAILED)
        return FoundOffset(None, *found, epoch) if found is not None else FoundOffset(None)

    def end_of_epoch(self, epoch: int, *, leader_epoch: int = -1) -> tuple[PartitionError | None, int, int]:
        """(error, epoch, end offset) of the largest epoch at or below `epoch` (KIP-101, KIP-279)."""
        error = self._check_epoch(leader_epoch)
        if error is not None:
            return error, -1, -1
        return (None, *self.log.offset_for_term(Term(epoch)))

    def delete_before(self, offset: int, *, now: float, on_done: OnDeleted) -> None:
        """DeleteRecords: move the log's start to `offset`, -1 meaning the high watermark; below the start it
        changes nothing. `on_done` is called once with the start, when a majority of disks has it."""
        group, log = self.group, self.log
        if not group.is_ready or group.is_transferring:
            on_done(PartitionError.NOT_LEADER, -1)
            return
        if log.damage is not None:
            on_done(PartitionError.STORAGE_FAILED, -1)
            return
        target = log.high_watermark if offset == -1 else Offset(offset)
        if not 0 <= target <= log.high_watermark:
            on_done(PartitionError.OFFSET_OUT_OF_RANGE, -1)
            return

        def moved(outcome: Outcome | None) -> None:
            match outcome:
                case Outcome.COMMITTED:
                    on_done(None, self.log.log_start_offset)
                case Outcome.WILL_NOT_HAPPEN:
                    on_done(PartitionError.NOT_LEADER, -1)
                case Outcome.MAY_STILL_HAPPEN:
                    on_done(PartitionError.MAY_STILL_HAPPEN, -1)
                case None:
                    on_done(PartitionError.OVERLOADED, -1)

        if target <= log.log_start_offset:
            group.read_barrier(now, lambda leads: moved(_COMMITTED_IF[leads]))
        else:
            self._start.move_to(target, moved)

    def _check_epoch(self, leader_epoch: int) -> PartitionError | None:
        """Refuse who believes in another leader than this one (KIP-320)."""
        if not self.group.is_leader:
            return PartitionError.NOT_LEADER
        if leader_epoch >= 0 and leader_epoch != self.group.term:
            older = leader_epoch < self.group.term
            return PartitionError.FENCED_LEADER_EPOCH if older else PartitionError.UNKNOWN_LEADER_EPOCH
        return None

    def confirm_leadership(self, now: float, then: Callable[[bool], None]) -> None:
        """Call `then(True)` once a majority has confirmed that this replica still leads, at once in a group
        of one; `then(False)` when it does not. A leader that was paused does not know better by itself."""
        self.group.read_barrier(now, then)

    def add_waiter(self, waiter: Waiter) -> None:
        """Call `waiter` whenever the high watermark or the leadership moves, until `remove_waiter`."""
        self._waiters[waiter] = None

    def remove_waiter(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)

    def tick(self, now_ms: int, *, even_ms: int = FOREVER_MS, retention_due: bool = True) -> None:
        """Once a second or so: rolling by age, forgetting silent producers, and, when it is due
        (log.retention.check.interval.ms), retention. `now_ms` has not jumped for `even_ms`: a producer that
        wrote before may look as if it had been silent for long."""
        self._now_ms = now_ms
        log, settings = self.log, self.settings
        log.roll_if_due(now_ms)
        if even_ms >= settings.producer_expiration_ms:
            self._producers.expire(now_ms - settings.producer_expiration_ms)
        self.save()
        log.drop_deleted(self._applied)
        if self.group.is_ready:
            self._start.tell_followers()
            self._start.propose()
            if retention_due:
                self._retain(now_ms)

    def _retain(self, now_ms: int) -> None:
        """What the leader's log holds decides, and every replica drops the same: else a consumer could find
        the start of the log moved back after a change of leaders."""
        settings = self.settings
        start = self.log.expired_to(now_ms, settings.retention_ms, settings.retention_bytes)
        if start > self.log.log_start_offset:
            self._start.move_to(start, lambda outcome: None)

    def save(self) -> None:
        """Keep the state as of the last applied entry, so that a restart need not apply what is before it."""
        if self._applied > self.log.snapshot_index:
            self.log.save_snapshot(self._producers.to_bytes(), self._applied)

    def close(self) -> None:
        """The replica ends here: whoever waits for a repeat hears that it may still happen elsewhere."""
        self._fail_repeats()
        self._start.fail()
        self._wake()

    @property
    def applied_index(self) -> RaftIndex:
        """The last entry whose effect the producers' state holds."""
        return self._applied

    # raft.machine.StateMachine

    def apply(self, entries: Sequence[Entry], now: float) -> None:
        """Entries are committed and in their segment."""
        for entry in entries:
            if entry.kind is EntryKind.BATCH:
                header = read_header(entry.payload)
                if header.producer_id != NO_PRODUCER:
                    self._producers.committed(header, entry.index, self._now_ms)
            elif entry.kind is EntryKind.NOOP and entry.payload:
                self._start.apply(entry)
        self._applied = entries[-1].index
        if self._repeats:
            self._answer_repeats()
        if not self._was_ready and self.group.is_ready:
            self._was_ready, self._ready_at = True, now
            self._on_leadership()
        self._wake()

    def truncated(self, from_index: RaftIndex) -> None:
        """The uncommitted tail from `from_index` on is gone."""
        self._producers.truncated()

    def leadership_changed(self, role: Role, term: Term, leader: BrokerId | None) -> None:
        """Pending views belong to a term: a new leader rebuilds them from its own tail."""
        self._fail_repeats()
        self._producers.truncated()
        tail = self._tail() if role is Role.LEADER else []
        self._start.leadership_changed(tail)
        self._ready_at = float("inf")
        if role is Role.LEADER:
            for entry in tail:
                if entry.kind is EntryKind.BATCH:
                    header = read_header(entry.payload)
                    if header.producer_id != NO_PRODUCER:
                        self._producers.appended(header, entry.base_offset, entry.index)
        self._was_ready = self.group.is_ready
        self._on_leadership()
        self._wake()

    def restore(self, state: bytes, index: RaftIndex) -> None:
        """Take over a snapshot that a leader sent; it ends at `index`."""
        self._applied = index
        self._producers.restore(state)
        self._wake()

    def _tail(self) -> list[Entry]:
        """The entries that are not committed yet."""
        after = RaftIndex(self.log.commit_index + 1)
        if after > self.log.last_index:
            return []
        return self.log.entries(after, max_bytes=2**62, max_count=2**31)

    def _answer_repeats(self) -> None:
        waiting, self._repeats = self._repeats, []
        for repeat in waiting:
            index, base_offset, on_done = repeat
            if index <= self.log.commit_index:
                on_done(ProduceResult(None, base_offset, -1, self._told_start))
            else:
                self._repeats.append(repeat)

    def _fail_repeats(self) -> None:
        """What the repeats wait for belonged to a leadership that is over."""
        waiting, self._repeats = self._repeats, []
        for _, _, on_done in waiting:
            on_done(ProduceResult(PartitionError.MAY_STILL_HAPPEN))

    def _wake(self) -> None:
        for waiter in list(self._waiters):
            waiter()
