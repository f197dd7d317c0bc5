"""Wrong histories of transactions, each of which must be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from raftlog.metadata.transaction_table import TransactionalId, TransactionState
from raftlog.partition.markers import Marker
from raftlog.records.batch import BatchHeader, read_header
from raftlog.records.record import NewRecord, encode_batch
from raftlog.types import RaftIndex, group_key
from tests.sim.fates import Decisions, Fates
from tests.sim.world import Violation

TOPIC: Final = bytes(16)
AT: Final = (TOPIC, 0)
ONGOING: Final = TransactionalId(
    producer_id=7,
    epoch=3,
    timeout_ms=1,
    updated_ms=0,
    state=TransactionState.ONGOING,
    partitions={AT: None},
    begun_at=RaftIndex(10),
)
COMMITTED: Final = replace(ONGOING, state=TransactionState.PREPARE_COMMIT, decided_at=RaftIndex(12))
COMPLETE: Final = replace(COMMITTED, state=TransactionState.COMPLETE_COMMIT, partitions={})
MARKER: Final = Marker(7, 3, True, 5, 12)


class History:
    """One transaction on one partition, step by step."""

    def __init__(self) -> None:
        self.decisions, self.fates = Decisions(), Fates("orders-0", AT)
        self.becomes(10, ONGOING)

    def becomes(self, index: int, value: TransactionalId) -> None:
        self.decisions.follow(index, {"mine": value}, {TOPIC: None}, {group_key(*AT): self.fates})

    def batch(self, epoch: int = 3) -> None:
        self.fates.batch(header(epoch), self.decisions)

    def marker(self, marker: Marker = MARKER) -> None:
        self.fates.marker(marker, self.decisions, {5: None, 6: None})


def header(epoch: int) -> BatchHeader:
    batch = encode_batch([NewRecord(0, None, b"v")], producer_id=7, producer_epoch=epoch, transactional=True)
    return read_header(batch)


def decided(history: History) -> None:
    history.batch()
    history.becomes(12, COMMITTED)


def ended(history: History) -> None:
    decided(history)
    history.marker()


def test_a_right_history_passes() -> None:
    history = History()
    ended(history)
    history.becomes(13, COMPLETE)
    assert history.fates.visible == [True, False] and history.fates.first_open == 2


def marked_twice(history: History) -> None:
    ended(history)
    history.marker()


def marked_otherwise(history: History) -> None:
    decided(history)
    history.marker(MARKER._replace(is_commit=False))


def marked_undecided(history: History) -> None:
    history.batch()
    history.marker(MARKER._replace(decided_at=11))


def marked_by_nobody(history: History) -> None:
    decided(history)
    history.marker(MARKER._replace(coordinator_epoch=9))


def marked_by_who_was_replaced(history: History) -> None:
    decided(history)
    history.marker(MARKER._replace(coordinator_epoch=6))
    history.becomes(13, COMPLETE)
    history.becomes(14, ONGOING)
    history.becomes(15, replace(COMMITTED, decided_at=RaftIndex(15)))
    history.marker(MARKER._replace(decided_at=15))


def written_behind_the_marker(history: History) -> None:
    ended(history)
    history.becomes(13, COMPLETE)
    history.batch()


def written_by_a_zombie(history: History) -> None:
    history.batch()
    fenced = replace(COMMITTED, epoch=4, state=TransactionState.PREPARE_ABORT)
    history.becomes(12, fenced)
    history.marker(MARKER._replace(producer_epoch=4, is_commit=False))
    history.batch()


def written_outside(history: History) -> None:
    history.becomes(11, replace(ONGOING, partitions={}))
    history.batch()


def complete_too_early(history: History) -> None:
    decided(history)
    history.becomes(13, COMPLETE)


def turned_about(history: History) -> None:
    decided(history)
    history.becomes(13, replace(COMMITTED, state=TransactionState.PREPARE_ABORT))


def an_epoch_back(history: History) -> None:
    history.becomes(11, replace(ONGOING, epoch=2))


@pytest.mark.parametrize(
    ("wrong", "invariant"),
    [
        (marked_twice, "a decision is written once"),
        (marked_otherwise, "a marker says what was decided"),
        (marked_undecided, "a marker says what was decided"),
        (marked_by_nobody, "markers have the coordinator's epoch"),
        (marked_by_who_was_replaced, "a replaced coordinator is fenced"),
        (written_behind_the_marker, "a batch is in its producer's transaction"),
        (written_by_a_zombie, "who is fenced writes nothing"),
        (written_outside, "a batch is in its producer's transaction"),
        (complete_too_early, "a decision reaches every partition"),
        (turned_about, "what is decided stays decided"),
        (an_epoch_back, "a producer's epoch never goes back"),
    ],
)
def test_a_wrong_one_is_found(wrong: Callable[[History], None], invariant: str) -> None:
    with pytest.raises(Violation) as found:
        wrong(History())
    assert found.value.invariant == invariant
