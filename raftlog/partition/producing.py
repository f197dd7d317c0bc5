"""What a leader may append: sizes, timestamps, sequence numbers (KIP-98), and how a producer is answered.

Invariant: a producer is answered only when its batch is committed, or when it is certain that it never will
be, or with a retriable error when neither is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from raftlog.errors import CorruptBatch, InvalidBatch, InvalidInput, UnsupportedBatch
from raftlog.memory import MemoryBudget
from raftlog.partition.counters import Counters
from raftlog.partition.log_start import LogStart
from raftlog.partition.markers import decode_marker
from raftlog.partition.marking import Marking
from raftlog.partition.producers import (
    NewBatch,
    OutOfSequence,
    Producers,
    RepeatedBatch,
    StaleEpoch,
    UnknownProducer,
)
from raftlog.partition.refused import Refused
from raftlog.partition.saved import join_state, split_state
from raftlog.partition.transactions import Transactions
from raftlog.partition.values import PartitionError, PartitionSettings, ProduceResult
from raftlog.partition.verifying import IS_MEMBER, Membership, Verify, Verifying, Waiting
from raftlog.raft.group import RaftGroup
from raftlog.raft.values import NotLeader, Outcome
from raftlog.records.batch import NO_PRODUCER, BatchHeader, read_header, stamp, stamp_append_time
from raftlog.records.keys import keyless_records
from raftlog.records.produced import check_produced_batch
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.group_log import GroupLog
from raftlog.types import Offset, RaftIndex

SETTLE_S: Final = 2.0
"""How long a new leader waits for the first batch of a producer that it does not know, before it takes a
later one for the first: what was under way to the leader before may come again until then."""
MAX_UNCOMMITTED_BYTES: Final = 64 << 20
"""What a leader without a majority takes before it says "later": it bounds the tail in memory."""

KEYLESS_MAX: Final = 100
"""Records without a key that an answer names."""

FIRST_TERM: Final = 1
COMES_AGAIN: Final = frozenset(
    (
        PartitionError.NOT_LEADER,
        PartitionError.STORAGE_FAILED,
        PartitionError.OVERLOADED,
        PartitionError.UNVERIFIED,
    )
)
"""After these a producer sends the same batch once more."""

OnProduced = Callable[[ProduceResult], None]

_ERROR_OF: Final = {
    Membership.NOT_IN_TRANSACTION: PartitionError.NOT_IN_TRANSACTION,
    Membership.PRODUCER_FENCED: PartitionError.STALE_PRODUCER_EPOCH,
    Membership.WRONG_PRODUCER: PartitionError.WRONG_PRODUCER_ID,
    Membership.UNKNOWN: PartitionError.UNVERIFIED,
}


class _Settling(NamedTuple):
    """An answer that waits until the entry at `rests_on` is committed. `otherwise` it is this error, when the
    leadership ends before."""

    rests_on: RaftIndex
    result: ProduceResult
    otherwise: PartitionError
    on_done: OnProduced


class Producing:
    """The side of one replica that producers ask, and what it remembers of them."""

    def __init__(
        self,
        group: RaftGroup,
        log: GroupLog,
        settings: PartitionSettings,
        start: LogStart,
        counters: Counters,
        memory: MemoryBudget | None,
    ) -> None:
        self.settings = settings
        self._group = group
        self._log = log
        self._start = start
        self._counters = counters
        self._memory = memory
        self.transactions = Transactions(log)
        self._producers = Producers(keeps=self.transactions.keeps, on_forgotten=self.transactions.forget)
        self._verifying = Verifying(self._resume)
        self.marking = Marking(group, log, self._producers, self.transactions, self._verifying)
        self._refused = Refused()
        self._ready_at = float("inf")
        self._settling: list[_Settling] = []
        self.uncommitted_bytes = 0
        self._state_index = RaftIndex(0)
        self.restore(log.saved.state)

    def produce(
        self,
        batch: memoryview,
        *,
        now: float,
        now_ms: int,
        on_done: OnProduced,
        verify: Verify | None = None,
        expected_offset: int | None = None,
    ) -> None:
        """Append one v2 batch; `batch` is writable, and this partition's from here on. `verify` asks the
        coordinator of the transactional id that the request names. With `expected_offset` it is appended only
        where it gets that offset: a repeat of what was appended so succeeds, like any other.

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
        if expected_offset is not None and (header.producer_id == NO_PRODUCER or header.is_transactional):
            message = "only an idempotent producer outside of transactions may say which offset it expects"
            on_done(ProduceResult(PartitionError.INVALID_RECORD, message=message))
            return
        if header.is_transactional and verify is None:
            on_done(ProduceResult(PartitionError.NO_TRANSACTIONAL_ID))
            return
        waiting = Waiting(batch, header, self.settings, now_ms, verify, on_done, expected_offset)
        if header.producer_id == NO_PRODUCER:
            self._append(waiting)
        elif self._verifying.holds_up(header.producer_id):
            self._verifying.wait_behind(waiting)
        else:
            self._judge(waiting, now, membership=None)

    def _judge(self, waiting: Waiting, now: float, *, membership: Membership | None) -> None:
        """Append the batch of a producer, or answer it, or ask its coordinator first: `membership` is what
        that has answered."""
        header, on_done = waiting.header, waiting.on_done
        producer_id = header.producer_id
        verdict = self._producers.check(header)
        if isinstance(verdict, RepeatedBatch):
            self._refused.forget(producer_id)
            self._answer_repeat(verdict.base_offset, verdict.raft_index, on_done)
            return
        if isinstance(verdict, StaleEpoch):
            message = f"producer {producer_id} is at epoch {verdict.current} now"
            on_done(ProduceResult(PartitionError.STALE_PRODUCER_EPOCH, message=message))
            return
        is_open = self.transactions.is_open(producer_id)
        if is_open and not header.is_transactional:
            message = f"producer {producer_id} has a transaction open, and the batch is not of it"
            on_done(ProduceResult(PartitionError.NOT_IN_TRANSACTION, message=message))
            return
        is_known = membership in IS_MEMBER or (
            is_open and header.producer_epoch == self._producers.epoch(producer_id)
        )
        if header.is_transactional and not is_known:
            self._verifying.ask(waiting)
            return
        match verdict:
            case NewBatch():
                pass
            case UnknownProducer(sequence) if membership is Membership.ADDED and sequence > 0:
                gap = f"producer {producer_id}: a transaction begins at sequence 0, not at {sequence}"
                self._answer_gap(gap, now, on_done)
                return
            case UnknownProducer(sequence):
                if not self._may_begin(producer_id, sequence, now):
                    self._refused.note(producer_id, sequence, now)
                    on_done(ProduceResult(PartitionError.NOT_LEADER))
                    return
            case OutOfSequence(expected, got):
                if self._refused.misses(producer_id, now):
                    on_done(ProduceResult(PartitionError.NOT_LEADER))
                    return
                gap = f"producer {producer_id}: expected sequence {expected}, got {got}"
                self._answer_gap(gap, now, on_done)
                return
        self._refused.forget(producer_id)
        if self._fits(waiting.expected_offset):
            self._append(waiting)
        else:
            self._answer_mismatch(waiting, now)

    def _resume(self, waiting: Waiting, now: float, membership: Membership | None) -> None:
        """The coordinator has answered: go on with the batch that asked, or with one behind it."""
        header = waiting.header
        error = _ERROR_OF.get(membership) if membership is not None else None
        if not self._group.is_leader or self._group.is_transferring:
            error = PartitionError.NOT_LEADER
        if error is not None:
            if error in COMES_AGAIN:
                self._refused.note(header.producer_id, header.base_sequence, now)
            waiting.on_done(ProduceResult(error, message=_message(membership, header)))
        elif self._verifying.holds_up(header.producer_id):
            self._verifying.wait_behind(waiting)
        else:
            self._judge(waiting, now, membership=membership)

    def _append(self, waiting: Waiting) -> None:
        batch, header, settings, now_ms, _, on_done, _ = waiting
        base_offset = self._log.log_end_offset
        append_time = -1
        if settings.log_append_time:
            append_time = now_ms
            stamp_append_time(batch, now_ms)
        stamp(batch, base_offset, self._group.term)
        size = len(batch)

        def resolved(outcome: Outcome, entry: Entry) -> None:
            self.uncommitted_bytes -= size
            match outcome:
                case Outcome.COMMITTED:
                    self._counters.records_in += entry.next_offset - base_offset
                    self._counters.batches_in += 1
                    self._counters.bytes_in += size
                    on_done(ProduceResult(None, base_offset, append_time, self._log.retention.start_offset))
                case Outcome.WILL_NOT_HAPPEN:
                    on_done(ProduceResult(PartitionError.NOT_LEADER))
                case Outcome.MAY_STILL_HAPPEN:
                    on_done(ProduceResult(PartitionError.MAY_STILL_HAPPEN))

        entry = self._group.leading.propose(EntryKind.BATCH, batch, header.record_count, resolved)
        if isinstance(entry, NotLeader):
            on_done(ProduceResult(PartitionError.NOT_LEADER))
            return
        self.uncommitted_bytes += size
        if header.producer_id != NO_PRODUCER:
            self._note_appended(header, base_offset, entry.index)

    def _note_appended(self, header: BatchHeader, base_offset: Offset, index: RaftIndex) -> None:
        self._producers.appended(header, base_offset, index)
        if header.is_transactional:
            self.transactions.batch_appended(header.producer_id, index)

    def _admit(self, batch: memoryview, now_ms: int) -> ProduceResult | BatchHeader:
        """The header of a batch that may be appended, or why it may not."""
        settings = self.settings
        if not self._group.is_leader or self._group.is_transferring:
            # Before anything is said of sequences: the batch before this one was refused for the same reason.
            return ProduceResult(PartitionError.NOT_LEADER)
        if self._log.damage.lost is not None:
            return ProduceResult(PartitionError.STORAGE_FAILED, message=self._log.damage.lost)
        if self.uncommitted_bytes + self._verifying.waiting_bytes > MAX_UNCOMMITTED_BYTES:
            return ProduceResult(PartitionError.OVERLOADED, message="no majority has answered for a while")
        if self._memory is not None and self._memory.keeps_too_much:
            return ProduceResult(PartitionError.OVERLOADED, message="too much waits for majorities here")
        if len(batch) > settings.max_message_bytes:
            limit = settings.max_message_bytes
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
        if header.is_transactional and header.producer_id == NO_PRODUCER:
            return ProduceResult(
                PartitionError.INVALID_RECORD, message="a transactional batch without a producer id"
            )
        if settings.compacts and (refusal := _check_keys(header, batch)) is not None:
            return refusal
        if not settings.log_append_time and header.max_timestamp >= 0:
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
        return sequence == 0 or self._group.term == FIRST_TERM or now - self._ready_at >= SETTLE_S

    def _fits(self, expected_offset: int | None) -> bool:
        """Whether what is appended now gets the offset that its producer expects."""
        return expected_offset in (None, self._log.log_end_offset)

    def _answer_repeat(self, base_offset: Offset, index: RaftIndex, on_done: OnProduced) -> None:
        """A repeat succeeds when what it repeats is committed (DUPLICATE_SEQUENCE_NUMBER is success)."""
        result = ProduceResult(None, base_offset)
        self._settle(_Settling(index, result, PartitionError.MAY_STILL_HAPPEN, on_done))

    def _answer_mismatch(self, waiting: Waiting, now: float) -> None:
        """That the log ends elsewhere is final to the producer, so it is said as a read is: by who leads for
        certain (another may have appended since), and when all that makes this the end is committed (a leader
        that is replaced may lose its tail, and with it what is in the way)."""
        end, index, on_done = self._log.log_end_offset, self._log.last_index, waiting.on_done
        message = f"the log ends at {end}, not at {waiting.expected_offset}"
        result = ProduceResult(PartitionError.OFFSET_MISMATCH, end, message=message)

        def confirmed(leads: bool) -> None:
            if leads:
                self._settle(_Settling(index, result, PartitionError.NOT_LEADER, on_done))
            else:
                on_done(ProduceResult(PartitionError.NOT_LEADER))

        self._group.read_barrier(now, confirmed)

    def _settle(self, waiting: _Settling) -> None:
        """Answer when what the answer rests on is committed."""
        if waiting.rests_on <= self._log.commit_index:
            waiting.on_done(waiting.result._replace(log_start_offset=self._start.told))
        else:
            self._settling.append(waiting)

    def _answer_gap(self, gap: str, now: float, on_done: OnProduced) -> None:
        """A gap ends an idempotent producer's sequence, so it is said only by who leads for certain: a leader
        that was replaced without knowing it has not seen the batches before this one."""

        def confirmed(leads: bool) -> None:
            if leads:
                on_done(ProduceResult(PartitionError.OUT_OF_SEQUENCE, message=gap))
            else:
                on_done(ProduceResult(PartitionError.NOT_LEADER))

        self._group.read_barrier(now, confirmed)

    # What the group tells

    def became_ready(self, now: float) -> None:
        """This replica leads, and has committed an entry of its term."""
        self._ready_at = now

    def apply(self, entry: Entry, now_ms: int) -> None:
        """A batch is committed."""
        header = read_header(entry.payload)
        producer_id = header.producer_id
        if producer_id == NO_PRODUCER or entry.index <= self._state_index:
            return
        if header.is_control:
            marker = decode_marker(header, entry.payload)
            self._producers.marker_committed(producer_id, header.producer_epoch, entry.index, now_ms)
            self.transactions.marker_committed(marker, entry.base_offset, entry.index)
            return
        if header.is_transactional:
            self.transactions.batch_committed(producer_id, entry.base_offset, entry.index)
        self._producers.committed(header, entry.index, now_ms)

    def truncated(self) -> None:
        """An uncommitted tail is gone."""
        self._producers.truncated()
        self.transactions.truncated()
        self._stop_waiting()

    def leadership_changed(self, tail: Iterable[Entry]) -> None:
        """Pending views belong to a term: a new leader rebuilds them from its own tail, and a follower has
        none. What a state of later than the commit index holds already is not pending."""
        self.stop()
        self._producers.truncated()
        self.transactions.truncated()
        self._ready_at = float("inf")
        for entry in tail:
            if entry.kind is not EntryKind.BATCH or entry.index <= self._state_index:
                continue
            header = read_header(entry.payload)
            if header.is_control:
                marker = decode_marker(header, entry.payload)
                self._producers.marker_appended(header.producer_id, header.producer_epoch, entry.index)
                self.transactions.marker_appended(marker, entry.index)
            elif header.producer_id != NO_PRODUCER:
                self._note_appended(header, entry.base_offset, entry.index)

    def expire(self, before_ms: int) -> None:
        """Forget producers that have been silent since."""
        self._producers.expire(before_ms)

    def to_bytes(self, applied: RaftIndex) -> bytes:
        """What is known of producers and transactions once `applied` is, for a snapshot."""
        transactions = self.transactions
        return join_state(
            max(applied, self._state_index),
            self._producers.to_bytes(),
            b"" if transactions.is_plain else transactions.to_bytes(),
        )

    def restore(self, state: bytes) -> None:
        self._state_index, producers, transactions = split_state(state)
        self._producers.restore(producers)
        self.transactions.restore(transactions)

    def stop(self) -> None:
        """Whoever waits for something of a leadership that is over is told so."""
        settling, self._settling = self._settling, []
        for waiting in settling:
            waiting.on_done(ProduceResult(waiting.otherwise))
        self.marking.fail_copies()
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        self._verifying.give_up(lambda waiting: waiting.on_done(ProduceResult(PartitionError.NOT_LEADER)))

    def answer_settled(self) -> None:
        """More is committed than before."""
        if not self._settling:
            return
        settling, self._settling = self._settling, []
        for waiting in settling:
            self._settle(waiting)


def _check_keys(header: BatchHeader, batch: memoryview) -> ProduceResult | None:
    """A compacted topic has nowhere to put a record without a key (Kafka refuses its whole batch)."""
    try:
        keyless = keyless_records(header, batch, KEYLESS_MAX)
    except InvalidBatch as error:
        return ProduceResult(PartitionError.INVALID_RECORD, message=str(error))
    if not keyless:
        return None
    message = "the topic is compacted: every record needs a key"
    return ProduceResult(PartitionError.INVALID_RECORD, message=message, keyless=keyless)


def _message(membership: Membership | None, header: BatchHeader) -> str | None:
    producer = f"producer {header.producer_id} at epoch {header.producer_epoch}"
    match membership:
        case Membership.NOT_IN_TRANSACTION:
            return f"the partition is not in an open transaction of {producer}"
        case Membership.PRODUCER_FENCED:
            return f"{producer} has a successor"
        case Membership.WRONG_PRODUCER:
            return f"the transactional id is not that of {producer}"
        case _:
            return None
