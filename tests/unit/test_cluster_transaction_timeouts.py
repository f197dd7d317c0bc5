"""Which transactions are open for too long, and which ids are forgotten. Numbers are those of scenarios."""

from __future__ import annotations

import pytest

from raftlog.cluster.transactions import timeouts
from raftlog.cluster.transactions.timeouts import EXPIRY_INTERVAL_S, TransactionTimeouts
from raftlog.cluster.transactions.verification import membership
from raftlog.metadata.transaction_ends import AbortTimedOut
from raftlog.metadata.transaction_table import TransactionState
from raftlog.metadata.transactions import ExpireTransactionalIds
from raftlog.partition.verifying import Membership
from tests.unit.metadata_examples import ORDERS
from tests.unit.test_metadata_transactions import Ids

TIMEOUT_S = 60.0
HOUR_MS = 3_600_000


class Watched:
    """An id, and the coordinator that counts its time."""

    def __init__(self, state: TransactionState = TransactionState.ONGOING) -> None:
        self.ids = Ids().begin(state)
        self.term = 1
        catalog = self.ids.state.catalog
        self.timeouts = TransactionTimeouts(catalog, term=lambda: self.term, expiration_ms=1000)

    def tick(self, now: float, now_ms: int = 1000) -> list[AbortTimedOut | ExpireTransactionalIds]:
        return self.timeouts.tick(now, now_ms)


def test_a_transaction_is_aborted_when_its_time_is_over_and_not_before() -> None:
    watched = Watched()
    assert watched.tick(5) == []
    assert watched.tick(5 + TIMEOUT_S - 1) == []
    (command,) = watched.tick(5 + TIMEOUT_S)
    assert isinstance(command, AbortTimedOut) and command.begun_at == watched.ids.id.begun_at
    assert watched.tick(5 + TIMEOUT_S + 1) == [command], "until it has happened"
    watched.ids.apply(command)
    assert watched.ids.id.state is TransactionState.PREPARE_ABORT
    assert watched.tick(5 + TIMEOUT_S + 2) == []


def test_scenario_12_a_wall_clock_that_jumps_aborts_nothing_and_saves_nothing() -> None:
    watched = Watched()
    assert watched.tick(0, 1000) == []
    assert watched.tick(1, 1000 + HOUR_MS) == []
    assert watched.tick(2, 1000 - HOUR_MS) == []
    assert len(watched.tick(TIMEOUT_S, 1000 - HOUR_MS)) == 1


def test_the_next_transaction_and_the_next_coordinator_count_anew() -> None:
    watched = Watched()
    watched.tick(0)
    watched.ids.end(commit=True)
    watched.ids.complete()
    watched.ids.add()
    assert watched.tick(TIMEOUT_S - 1) == []
    assert watched.tick(TIMEOUT_S + 1) == []
    watched.term = 2
    assert watched.tick(2 * TIMEOUT_S) == []
    assert len(watched.tick(3 * TIMEOUT_S)) == 1


def test_many_open_transactions_are_looked_at_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """60,000 of them, all at once, would hold the loop for 30 ms a second, and for 110 when they end."""
    monkeypatch.setattr(timeouts, "ONGOING_AT_ONCE", 2)
    monkeypatch.setattr(timeouts, "ABORTS_AT_ONCE", 1)
    watched = Watched()
    table = watched.ids.state.catalog.transactions
    for name in ("u", "v"):
        table.put(name, watched.ids.id)
    assert [watched.tick(second) for second in range(4)] == [[], [], [], []]
    aborted = []
    for second in range(100, 110):
        for command in watched.tick(second):
            assert isinstance(command, AbortTimedOut)
            aborted.append(command.transactional_id)
            table.pop(command.transactional_id)
    assert sorted(aborted) == ["t", "u", "v"], "each once"
    assert watched.tick(110) == watched.tick(111) == []


def test_scenario_29_ids_that_nobody_uses_are_forgotten() -> None:
    for state in TransactionState:
        watched = Watched(state)
        watched.tick(0, 2000)  # used at 1000, and kept for as long
        commands = watched.tick(EXPIRY_INTERVAL_S, 2001)
        expired = [each for each in commands if isinstance(each, ExpireTransactionalIds)]
        is_open = state is TransactionState.ONGOING or state.is_prepared
        wanted = [] if is_open else [ExpireTransactionalIds(transactional_ids=("t",), before_ms=1001)]
        assert expired == wanted, state
        again = watched.tick(EXPIRY_INTERVAL_S + 1, 3000)
        assert not any(isinstance(each, ExpireTransactionalIds) for each in again)


def test_who_asks_is_told_what_the_transaction_says() -> None:
    for state in TransactionState:
        ids = Ids().begin(state)
        producer, at = ids.producer_id, (ORDERS, 0)
        is_in = state is TransactionState.ONGOING
        wanted = Membership.IN_TRANSACTION if is_in else Membership.NOT_IN_TRANSACTION
        assert membership(ids.id, producer, 0, at) is wanted
        assert membership(ids.id, producer, 0, (ORDERS, 2)) is Membership.NOT_IN_TRANSACTION
        assert membership(ids.id, producer, 1, at) is Membership.PRODUCER_FENCED
        assert membership(ids.id, producer + 1, 0, at) is Membership.WRONG_PRODUCER
        assert membership(None, producer, 0, at) is Membership.WRONG_PRODUCER
