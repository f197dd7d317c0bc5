"""Which batches of idempotent producers a partition has seen (KIP-98, KIP-360).

Decides whether a batch is new, a repeat, out of sequence, or of a producer that is not known here. Two views
make one answer: `committed`, a function of the committed log alone and so equal on every replica but for when
silent producers are forgotten, and `pending`, the batches that the leader has appended and that may still be
truncated. A truncation drops the pending view and nothing else.

What is known of a producer is kept as the bytes that a snapshot says of it, so that a snapshot only joins
them: 20,000 producers take a millisecond, however many have written since the last one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, NamedTuple

import cbor2

from raftlog.errors import DamagedLog
from raftlog.records.batch import BatchHeader
from raftlog.types import Offset, RaftIndex

REMEMBERED_BATCHES: Final = 5
"""Batches a producer may have in flight, and so how far back a repeat is recognised (as Kafka does)."""

MAX_PRODUCERS: Final = 20_000
"""Producers remembered a partition; beyond it the one that was silent longest is forgotten. It takes that
many others to have written since; they cost 5 MB of memory."""

EXPIRED_MAX: Final = 1_000
"""Producers forgotten in one go."""

FORMAT_VERSION: Final = 1
"""The first byte of the state. The format before it was CBOR, which begins with 0x82."""
_CBOR_PAIR: Final = 0x82

_PRODUCER: Final = struct.Struct(">qhqB")
"""Producer id, epoch, when it last wrote, how many batches follow."""
_BATCH: Final = struct.Struct(">iiqq")
"""First and last sequence number, base offset, Raft index; the newest batch comes last."""


class SeenBatch(NamedTuple):
    """A batch of an idempotent producer that is in the log."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    raft_index: int


class ProducerState(NamedTuple):
    """What is told of a producer. The sequence number is its last one, -1 where its epoch has none yet."""

    producer_id: int
    epoch: int
    last_sequence: int
    last_used_ms: int


class NewBatch(NamedTuple):
    """The batch continues its producer's sequence."""


class UnknownProducer(NamedTuple):
    """Nothing is remembered of the producer: any sequence may be the one it goes on with (KIP-360)."""

    sequence: int


class RepeatedBatch(NamedTuple):
    """The batch is in the log already, at `base_offset`; acknowledge it when `raft_index` is committed."""

    base_offset: Offset
    raft_index: RaftIndex


class StaleEpoch(NamedTuple):
    """A newer incarnation of the producer has written since."""

    current: int


class OutOfSequence(NamedTuple):
    """Records are missing between the last batch and this one, or it is older than can be recognised."""

    expected: int
    got: int


Verdict = NewBatch | UnknownProducer | RepeatedBatch | StaleEpoch | OutOfSequence

_NEW = NewBatch()


class Producers:
    """The producers of one partition."""

    def __init__(
        self,
        *,
        keeps: Callable[[int], bool] = lambda producer_id: False,
        on_forgotten: Callable[[int], None] = lambda producer_id: None,
    ) -> None:
        """`keeps` says whether a producer must not be forgotten: it has an open transaction. `on_forgotten`
        is called with each that is."""
        self._keeps = keeps
        self._on_forgotten = on_forgotten
        self._committed: dict[int, bytes] = {}
        """In order of last use."""
        self._joined: bytes | None = None
        """What `to_bytes` gave, while it is true."""
        self._pending: dict[int, list[tuple[int, SeenBatch]]] = {}  # producer id → (epoch, batch)…

    def __len__(self) -> int:
        return len(self._committed)

    def __repr__(self) -> str:
        return f"<Producers committed={len(self._committed)} pending={len(self._pending)}>"

    def check(self, header: BatchHeader) -> Verdict:
        """What the batch is, given all that is in the log, committed or not."""
        known = self._committed.get(header.producer_id)
        pending = self._pending.get(header.producer_id)
        if known is None and not pending:
            return UnknownProducer(header.base_sequence)
        known_epoch = -1 if known is None else _PRODUCER.unpack_from(known)[1]
        epoch = pending[-1][0] if pending else known_epoch
        if header.producer_epoch < epoch:
            return StaleEpoch(epoch)
        if header.producer_epoch > epoch:
            return _NEW if header.base_sequence == 0 else OutOfSequence(0, header.base_sequence)
        seen = [batch for batch_epoch, batch in pending or () if batch_epoch == epoch]
        if seen:
            expected = _after(seen[-1].last_sequence)
        else:
            assert known is not None
            last = _last_batch(known)
            expected = 0 if last is None else _after(last.last_sequence)
        if header.base_sequence == expected:
            return _NEW
        if known is not None and known_epoch == epoch:
            seen = [*_batches(known), *seen]
        last_sequence = header.last_sequence
        for batch in seen:
            if batch.first_sequence == header.base_sequence and batch.last_sequence == last_sequence:
                return RepeatedBatch(Offset(batch.base_offset), RaftIndex(batch.raft_index))
        return OutOfSequence(expected, header.base_sequence)

    def epoch(self, producer_id: int) -> int:
        """The producer's epoch as of all that is in the log, committed or not; -1 when it is not known."""
        pending = self._pending.get(producer_id)
        if pending:
            return pending[-1][0]
        return self._committed_epoch(producer_id)

    def _committed_epoch(self, producer_id: int) -> int:
        known = self._committed.get(producer_id)
        return -1 if known is None else _PRODUCER.unpack_from(known)[1]

    def appended(self, header: BatchHeader, base_offset: Offset, index: RaftIndex) -> None:
        """The leader appended the batch; it is not committed yet."""
        batch = SeenBatch(header.base_sequence, header.last_sequence, base_offset, index)
        self._pending.setdefault(header.producer_id, []).append((header.producer_epoch, batch))

    def marker_appended(self, producer_id: int, epoch: int, index: RaftIndex) -> None:
        """The leader appended a transaction's marker. One of a higher epoch begins a sequence; one of the
        same lets it go on: the next transaction continues it, and a late repeat must be recognised."""
        if epoch > self.epoch(producer_id):
            self._pending.setdefault(producer_id, []).append((epoch, SeenBatch(-1, -1, -1, index)))

    def marker_committed(self, producer_id: int, epoch: int, index: RaftIndex, now_ms: int) -> None:
        """As `committed`, for a marker."""
        self._settle(producer_id, index)
        known = self._committed.pop(producer_id, None)
        self._joined = None
        if known is None or epoch > _PRODUCER.unpack_from(known)[1]:
            self._committed[producer_id] = _PRODUCER.pack(producer_id, epoch, now_ms, 0)
        else:
            _, known_epoch, _, count = _PRODUCER.unpack_from(known)
            row = _PRODUCER.pack(producer_id, known_epoch, now_ms, count) + known[_PRODUCER.size :]
            self._committed[producer_id] = row
        self._make_room()

    def committed(self, header: BatchHeader, index: RaftIndex, now_ms: int) -> None:
        """The batch is committed at `index`. `now_ms` is the broker's clock: what producers write as their
        records' time says nothing about how long they have been silent."""
        producer_id = header.producer_id
        self._settle(producer_id, index)
        known = self._committed.get(producer_id)
        before = b""
        if known is not None:
            last = _last_batch(known)
            if last is not None and last.raft_index >= index:
                return  # a snapshot may hold the state of later than where the log goes on behind it
            if _PRODUCER.unpack_from(known)[1] == header.producer_epoch:
                kept = (REMEMBERED_BATCHES - 1) * _BATCH.size
                before = known[max(_PRODUCER.size, len(known) - kept) :]
            del self._committed[producer_id]
        self._joined = None
        self._committed[producer_id] = b"".join(
            (
                _PRODUCER.pack(producer_id, header.producer_epoch, now_ms, len(before) // _BATCH.size + 1),
                before,
                _BATCH.pack(header.base_sequence, header.last_sequence, header.base_offset, index),
            )
        )
        self._make_room()

    def _settle(self, producer_id: int, index: RaftIndex) -> None:
        pending = self._pending.get(producer_id)
        if pending and pending[0][1].raft_index <= index:
            pending.pop(0)
            if not pending:
                del self._pending[producer_id]

    def _make_room(self) -> None:
        """Forget the producer that was silent longest, when there are too many. One with an open transaction
        is passed over."""
        for _ in range(min(EXPIRED_MAX, len(self._committed) - MAX_PRODUCERS)):
            producer_id = next(iter(self._committed))
            known = self._committed.pop(producer_id)
            if not self._keeps(producer_id):
                self._on_forgotten(producer_id)
                return
            self._committed[producer_id] = known

    def truncated(self) -> None:
        """The uncommitted tail is gone, or another leader's: forget what was pending."""
        self._pending.clear()

    def expire(self, before_ms: int) -> bool:
        """Forget producers that were silent since `before_ms` (producer.id.expiration.ms); whether there
        were any. Those that were silent longest come first, a bounded number."""
        silent = []
        for producer_id, known in islice(self._committed.items(), EXPIRED_MAX):
            if _PRODUCER.unpack_from(known)[2] >= before_ms:
                break
            if not self._keeps(producer_id):
                silent.append(producer_id)
        if silent:
            self._joined = None
        for producer_id in silent:
            del self._committed[producer_id]
            self._on_forgotten(producer_id)
        return bool(silent)

    def describe(self) -> list[ProducerState]:
        """Every producer that is remembered, as of what is committed."""
        states = []
        for known in self._committed.values():
            producer_id, epoch, last_used_ms, _ = _PRODUCER.unpack_from(known)
            last = _last_batch(known)
            sequence = -1 if last is None else last.last_sequence
            states.append(ProducerState(producer_id, epoch, sequence, last_used_ms))
        return states

    def to_bytes(self) -> bytes:
        """The committed view, for a snapshot."""
        if self._joined is None:
            self._joined = b"".join((bytes((FORMAT_VERSION,)), *self._committed.values()))
        return self._joined

    def restore(self, state: bytes) -> None:
        """Replace everything by what `to_bytes` gave; empty bytes mean "nobody yet". Raises DamagedLog for
        what no build up to this one has written."""
        self._committed.clear()
        self._pending.clear()
        self._joined = None
        if not state:
            return
        if state[0] == _CBOR_PAIR:
            self._restore_cbor(cbor2.loads(state)[1])
            return
        if state[0] != FORMAT_VERSION:
            raise DamagedLog(f"producers' state of format {state[0]}; {FORMAT_VERSION} is known")
        position = 1
        while position < len(state):
            producer_id, _, _, count = _PRODUCER.unpack_from(state, position)
            end = position + _PRODUCER.size + count * _BATCH.size
            self._committed[producer_id] = state[position:end]
            position = end

    def _restore_cbor(self, producers: list[Any]) -> None:
        """The state as it was written before it had a version."""
        for producer_id, epoch, last_used_ms, batches in producers[-MAX_PRODUCERS:]:
            packed = [_PRODUCER.pack(producer_id, epoch, last_used_ms, len(batches))]
            packed += [_BATCH.pack(*batch) for batch in batches]
            self._committed[producer_id] = b"".join(packed)


def _last_batch(known: bytes) -> SeenBatch | None:
    """None for a producer whose epoch a marker has raised, and who has written nothing since."""
    if len(known) == _PRODUCER.size:
        return None
    return SeenBatch._make(_BATCH.unpack_from(known, len(known) - _BATCH.size))


def _batches(known: bytes) -> list[SeenBatch]:
    return [SeenBatch._make(batch) for batch in _BATCH.iter_unpack(memoryview(known)[_PRODUCER.size :])]


def _after(sequence: int) -> int:
    """The next one; 0 follows on 2³¹-1 (KIP-98)."""
    return (sequence + 1) & 0x7FFFFFFF
