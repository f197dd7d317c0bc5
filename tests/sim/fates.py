"""What transactions came to: as the metadata decided, and as the log of each partition says.

The decisions are read off the catalog, entry by entry, whoever applies an entry first. A partition's log must
say the same: each decision once, as it was taken, by a coordinator that led in the term which the marker has,
and no batch outside of a transaction that its partition is in.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

from raftlog.metadata.transaction_table import TopicPartition, TransactionalId, TransactionState
from raftlog.partition.markers import Marker
from raftlog.records.batch import BatchHeader
from raftlog.types import GroupKey, group_key
from tests.sim.world import Violation

_COMMITS: Final = (TransactionState.PREPARE_COMMIT, TransactionState.COMPLETE_COMMIT)


class Decision(NamedTuple):
    """A transaction was decided by an entry of the metadata."""

    name: str
    producer_id: int
    epoch: int
    """That of the markers."""
    is_commit: bool
    partitions: frozenset[TopicPartition]


class Fates:
    """The transactions of one partition, as its committed log says."""

    def __init__(self, name: str, partition: TopicPartition) -> None:
        self._name, self._partition = name, partition
        self.visible: list[bool | None] = []
        """By offset: whether a reader of what is committed gets the record; None while it is not decided."""
        self.open: dict[int, list[int]] = {}
        """Producer id to the offsets of its open transaction."""
        self.marked: dict[int, Marker] = {}
        """Producer id to its last marker."""

    @property
    def first_open(self) -> int:
        """Where the first open transaction begins; the end where none is."""
        return min((offsets[0] for offsets in self.open.values()), default=len(self.visible))

    def plain(self, count: int) -> None:
        """Records outside of transactions."""
        self.visible += [True] * count

    def batch(self, header: BatchHeader, decisions: Decisions) -> None:
        """A transactional batch is committed."""
        producer_id, epoch = header.producer_id, header.producer_epoch
        marker = self.marked.get(producer_id)
        if marker is not None and epoch < marker.producer_epoch:
            raise Violation(
                "who is fenced writes nothing",
                f"{self._name}: producer {producer_id} at epoch {epoch}, after {marker}",
            )
        decided_at = marker.decided_at if marker is not None else -1
        if not decisions.is_in_transaction(producer_id, epoch, self._partition, decided_at):
            raise Violation(
                "a batch is in its producer's transaction",
                f"{self._name} at {header.base_offset}: producer {producer_id} at {epoch}, after {marker}",
            )
        offsets = range(len(self.visible), len(self.visible) + header.record_count)
        self.open.setdefault(producer_id, []).extend(offsets)
        self.visible += [None] * header.record_count

    def marker(self, marker: Marker, decisions: Decisions, terms: dict[int, Any]) -> None:
        """A marker is committed. `terms`: those in which somebody led the metadata."""
        before, decision = self.marked.get(marker.producer_id), decisions.at.get(marker.decided_at)
        if before is not None and marker.decided_at <= before.decided_at:
            raise Violation("a decision is written once", f"{self._name}: {marker} after {before}")
        if before is not None and marker.coordinator_epoch < before.coordinator_epoch:
            raise Violation("a replaced coordinator is fenced", f"{self._name}: {marker} after {before}")
        if marker.coordinator_epoch not in terms:
            raise Violation(
                "markers have the coordinator's epoch", f"{self._name}: {marker}, {sorted(terms)}"
            )
        is_as_decided = (
            decision is not None
            and decision.producer_id == marker.producer_id
            and decision.epoch == marker.producer_epoch
            and decision.is_commit == marker.is_commit
            and self._partition in decision.partitions
        )
        if not is_as_decided:
            raise Violation("a marker says what was decided", f"{self._name}: {marker}, {decision}")
        for offset in self.open.pop(marker.producer_id, ()):
            self.visible[offset] = marker.is_commit
        self.visible.append(False)
        self.marked[marker.producer_id] = marker

    def has(self, decided_at: int, producer_id: int) -> bool:
        """Whether the decision, or a later one of the producer, is written here."""
        marker = self.marked.get(producer_id)
        return marker is not None and marker.decided_at >= decided_at


class Decisions:
    """All decisions, by the entry that took them."""

    def __init__(self) -> None:
        self.at: dict[int, Decision] = {}
        self.counts: Counter[str] = Counter()
        self._of: dict[int, list[tuple[int, Decision]]] = {}
        self._now: dict[str, TransactionalId] = {}

    def follow(
        self, index: int, now: dict[str, TransactionalId], topics: Any, fates: dict[GroupKey, Fates]
    ) -> None:
        """The transactions of the catalog after entry `index`, and the ids of its topics."""
        before, self._now = self._now, now
        if now is before:
            return
        for name, value in now.items():
            old = before.get(name)
            if value is old:
                continue
            if old is not None:
                _check_step(name, old, value)
                if old.state.is_prepared and not value.state.is_prepared:
                    _check_complete(name, old, topics, fates)
            if value.decided_at == index:
                partitions = frozenset(old.partitions if old is not None else ())
                is_commit = value.state in _COMMITS
                decision = Decision(name, value.producer_id, value.epoch, is_commit, partitions)
                self.at[index] = decision
                self._of.setdefault(value.producer_id, []).append((index, decision))
                self.counts["committed" if is_commit else "aborted"] += 1

    def is_in_transaction(
        self, producer_id: int, epoch: int, partition: TopicPartition, decided_at: int
    ) -> bool:
        """Whether a batch may be there: of a transaction that was not ended on the partition by the marker of
        `decided_at`. A decision that fences has a higher epoch than the batches."""
        for value in self._now.values():
            is_open = value.state is TransactionState.ONGOING and partition in value.partitions
            if is_open and (value.producer_id, value.epoch) == (producer_id, epoch):
                return True
        return any(
            at > decided_at and decision.epoch in (epoch, epoch + 1) and partition in decision.partitions
            for at, decision in reversed(self._of.get(producer_id, []))
        )


def _check_step(name: str, old: TransactionalId, value: TransactionalId) -> None:
    if old.state.is_prepared and value.state.is_prepared and old.decided_at != value.decided_at:
        raise Violation("what is decided stays decided", f"{name}: {old} becomes {value}")
    is_commit, was_commit = value.state in _COMMITS, old.state in _COMMITS
    if old.state.is_prepared and value.decided_at == old.decided_at and is_commit != was_commit:
        raise Violation("what is decided stays decided", f"{name}: {old} becomes {value}")
    if value.producer_id == old.producer_id and value.epoch < old.epoch:
        raise Violation("a producer's epoch never goes back", f"{name}: {old} becomes {value}")


def _check_complete(name: str, old: TransactionalId, topics: Any, fates: dict[GroupKey, Fates]) -> None:
    """A transaction is complete once every partition that there is has its marker."""
    for topic_id, number in old.partitions:
        known = fates.get(group_key(topic_id, number))
        if topic_id in topics and (known is None or not known.has(old.decided_at, old.producer_id)):
            raise Violation(
                "a decision reaches every partition",
                f"{name}, decided at {old.decided_at}: {topic_id.hex()[:8]}-{number} has "
                f"{known.marked.get(old.producer_id) if known else 'nothing'}",
            )
