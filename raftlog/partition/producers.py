"""Which batches of idempotent producers a partition has seen (KIP-98, KIP-360).

Decides whether a batch is new, a repeat, or out of sequence. Two views make one answer: `committed`, a
function of the committed log alone and so equal on every replica, and `pending`, the batches that the
leader has appended and that may still be truncated. A truncation drops the pending view and nothing else.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import cbor2

from raftlog.records.batch import BatchHeader
from raftlog.types import Offset, RaftIndex

REMEMBERED_BATCHES: Final = 5
"""Batches a producer may have in flight, and so how far back a repeat is recognised (as Kafka does)."""

MAX_PRODUCERS: Final = 100_000
"""Producers remembered a partition; beyond it the one that was silent longest is forgotten."""


class SeenBatch(NamedTuple):
    """A batch of an idempotent producer that is in the log."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    raft_index: int


@dataclass(slots=True)
class _Producer:
    epoch: int
    last_used_ms: int
    batches: deque[SeenBatch] = field(default_factory=lambda: deque(maxlen=REMEMBERED_BATCHES))


class NewBatch(NamedTuple):
    """The batch continues its producer's sequence."""


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


Verdict = NewBatch | RepeatedBatch | StaleEpoch | OutOfSequence

_NEW = NewBatch()


class Producers:
    """The producers of one partition."""

    def __init__(self) -> None:
        self._committed: dict[int, _Producer] = {}
        self._pending: dict[int, list[tuple[int, SeenBatch]]] = {}  # producer id → (epoch, batch)…
        self._has_forgotten = False

    def __repr__(self) -> str:
        return f"<Producers committed={len(self._committed)} pending={len(self._pending)}>"

    def check(self, header: BatchHeader) -> Verdict:
        """What the batch is, given all that is in the log, committed or not."""
        known = self._committed.get(header.producer_id)
        pending = self._pending.get(header.producer_id)
        if known is None and not pending:
            # Unknown and in the middle of its sequence: either it was forgotten here, and any sequence starts
            # it again (KIP-360), or its first batch was lost with a leader and must come before this one.
            if self._has_forgotten or header.base_sequence == 0:
                return _NEW
            return OutOfSequence(0, header.base_sequence)
        epoch = pending[-1][0] if pending else known.epoch  # type: ignore[union-attr]
        if header.producer_epoch < epoch:
            return StaleEpoch(epoch)
        if header.producer_epoch > epoch:
            return _NEW if header.base_sequence == 0 else OutOfSequence(0, header.base_sequence)
        seen = [batch for batch_epoch, batch in pending or () if batch_epoch == epoch]
        if known is not None and known.epoch == epoch:
            seen = [*known.batches, *seen]
        last_sequence = header.last_sequence
        for batch in seen:
            if batch.first_sequence == header.base_sequence and batch.last_sequence == last_sequence:
                return RepeatedBatch(Offset(batch.base_offset), RaftIndex(batch.raft_index))
        expected = (seen[-1].last_sequence + 1) & 0x7FFFFFFF if seen else 0
        if header.base_sequence == expected:
            return _NEW
        return OutOfSequence(expected, header.base_sequence)

    def appended(self, header: BatchHeader, base_offset: Offset, index: RaftIndex) -> None:
        """The leader appended the batch; it is not committed yet."""
        batch = SeenBatch(header.base_sequence, header.last_sequence, base_offset, index)
        self._pending.setdefault(header.producer_id, []).append((header.producer_epoch, batch))

    def committed(self, header: BatchHeader, index: RaftIndex, now_ms: int) -> None:
        """The batch is committed at `index`. `now_ms` is the broker's clock: what producers write as their
        records' time says nothing about how long they have been silent."""
        producer_id = header.producer_id
        pending = self._pending.get(producer_id)
        if pending and pending[0][1].raft_index <= index:
            pending.pop(0)
            if not pending:
                del self._pending[producer_id]
        known = self._committed.get(producer_id)
        if known is not None and known.batches[-1].raft_index >= index:
            return  # a snapshot may hold the state of later than where the log goes on behind it
        self._committed.pop(producer_id, None)  # the dict is in order of last use
        if known is None or known.epoch != header.producer_epoch:
            known = _Producer(header.producer_epoch, now_ms)
        known.last_used_ms = now_ms
        known.batches.append(SeenBatch(header.base_sequence, header.last_sequence, header.base_offset, index))
        self._committed[producer_id] = known
        if len(self._committed) > MAX_PRODUCERS:
            del self._committed[next(iter(self._committed))]
            self._has_forgotten = True

    def truncated(self) -> None:
        """The uncommitted tail is gone, or another leader's: forget what was pending."""
        self._pending.clear()

    def expire(self, before_ms: int) -> None:
        """Forget the producers that were silent since `before_ms` (producer.id.expiration.ms)."""
        for producer_id in [p for p, known in self._committed.items() if known.last_used_ms < before_ms]:
            del self._committed[producer_id]
            self._has_forgotten = True

    def to_bytes(self) -> bytes:
        """The committed view, for a snapshot."""
        return cbor2.dumps(
            [
                self._has_forgotten,
                [
                    [producer_id, known.epoch, known.last_used_ms, [list(b) for b in known.batches]]
                    for producer_id, known in self._committed.items()
                ],
            ]
        )

    def restore(self, state: bytes) -> None:
        """Replace everything by what `to_bytes` gave; empty bytes mean "nobody yet"."""
        self._committed.clear()
        self._pending.clear()
        self._has_forgotten, producers = cbor2.loads(state) if state else (False, [])
        for producer_id, epoch, last_used_ms, batches in producers:
            known = _Producer(epoch, last_used_ms)
            known.batches.extend(SeenBatch(*batch) for batch in batches)
            self._committed[producer_id] = known
