"""The transaction coordinator: what it waits for, and what it answers meanwhile. Numbers are scenarios'."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from raftlog.cluster.changes import Changes
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.transactions.coordinator import PATIENCE_S, TransactionCoordinator, TransactionError
from raftlog.metadata import transaction_steps, transactions
from raftlog.metadata.catalog import METADATA_LEVEL
from raftlog.metadata.commands import LEVEL_KNOWN, decode_command
from raftlog.metadata.noun import Result
from raftlog.metadata.offsets import OffsetCommit
from raftlog.metadata.transaction_steps import Stepped, Verdict
from raftlog.metadata.transaction_table import TransactionState
from raftlog.types import RaftIndex
from tests.unit.metadata_examples import ORDERS
from tests.unit.test_metadata_transactions import PARTITIONS, Ids

Step = Callable[[], Awaitable[Stepped | TransactionError]]


class Office:
    """A coordinator whose proposals are applied at once; it is metadata, coordination and proposer in one."""

    def __init__(self, state: TransactionState) -> None:
        self.ids = Ids().begin(state)
        self.catalog = self.ids.state.catalog
        self.catalog.features[METADATA_LEVEL] = LEVEL_KNOWN
        self.is_coordinator, self.is_full = True, False
        self.is_confirmed = True
        self.fails = False
        self.changes = Changes()
        self.proposed = 0
        self._results: dict[RaftIndex, Result] = {}
        itself = cast(Any, self)
        self.coordinator = TransactionCoordinator(itself, itself, itself, itself, self.changes)

    def now_ms(self) -> int:
        return 1000

    async def confirm_coordinator(self) -> bool:
        await trio.lowlevel.checkpoint()
        return self.is_confirmed

    async def propose_here(self, command: bytes) -> RaftIndex | ProposalFailed:
        await trio.lowlevel.checkpoint()
        if self.fails:
            return ProposalFailed("as the test wants it", may_still_happen=True)
        self.proposed += 1
        result = self.ids.apply(decode_command(command))
        index = RaftIndex(self.ids.index)
        self._results[index] = cast(Result, result)
        self.changes.tell()
        return index

    def result_at(self, index: RaftIndex) -> Result | None:
        return self._results.get(index)

    def complete(self) -> None:
        """The markers are written."""
        assert self.ids.complete() is Verdict.DONE
        self.changes.tell()

    def add(self, **changed: object) -> Awaitable[Stepped | TransactionError]:
        said: dict[str, Any] = {"partitions": PARTITIONS, "group": "g"}
        return self.coordinator.add("t", self.ids.producer_id, self.ids.epoch, **said | changed)

    def init(self) -> Awaitable[Stepped | TransactionError]:
        return self.coordinator.init_producer("t", 60_000)

    def end(self, *, commit: bool) -> Awaitable[Stepped | TransactionError]:
        return self.coordinator.end("t", self.ids.producer_id, self.ids.epoch, commit=commit)


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0)


async def after(step: Awaitable[Stepped | TransactionError], event: Callable[[], None]) -> object:
    """What a step comes to that is under way, and waiting, when something happens."""
    found: list[object] = []

    async def run() -> None:
        found.append(await step)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        assert not found, "it did not wait"
        event()
    return found[0]


async def test_scenario_1_the_next_producer_waits_for_the_abort_of_what_was_open(clock: MockClock) -> None:
    office = Office(TransactionState.ONGOING)
    found = await after(office.init(), office.complete)
    assert found == Stepped(Verdict.DONE, office.ids.producer_id, 2)


@pytest.mark.parametrize("state", [TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT])
async def test_the_next_transaction_waits_for_the_markers(clock: MockClock, state: TransactionState) -> None:
    office = Office(state)
    before = trio.current_time()
    found = await after(office.add(), office.complete)
    assert isinstance(found, Stepped) and office.ids.id.state is TransactionState.ONGOING
    assert trio.current_time() == before, "and no longer"


async def test_who_has_waited_for_long_is_told_to_ask_again(clock: MockClock) -> None:
    office = Office(TransactionState.PREPARE_COMMIT)
    before = trio.current_time()
    assert await office.add() is TransactionError.CONCURRENT
    assert trio.current_time() - before == pytest.approx(PATIENCE_S)
    assert office.proposed == 0, "nothing is proposed that has to wait"


async def test_scenario_4_a_repeated_end_does_not_wait(clock: MockClock) -> None:
    office = Office(TransactionState.PREPARE_COMMIT)
    before = trio.current_time()
    assert isinstance(await office.end(commit=True), Stepped)
    assert await office.end(commit=False) is TransactionError.WRONG_STATE
    assert trio.current_time() == before


async def test_what_is_in_the_transaction_already_takes_no_entry(clock: MockClock) -> None:
    office = Office(TransactionState.ONGOING)
    assert isinstance(await office.add(), Stepped)
    assert office.proposed == 0
    office.is_confirmed = False
    assert isinstance(await office.add(), Stepped)
    assert office.proposed == 1, "who is not sure to be in office proposes"
    assert isinstance(await office.add(partitions=((ORDERS, 2),)), Stepped)
    assert office.proposed == 2


async def test_who_is_not_in_office_takes_no_step(clock: MockClock) -> None:
    office = Office(TransactionState.PREPARE_COMMIT)

    def leave() -> None:
        office.is_coordinator = False
        office.changes.tell()

    assert await after(office.add(), leave) is TransactionError.NOT_COORDINATOR
    assert await office.init() is TransactionError.NOT_COORDINATOR


async def test_what_may_have_happened_is_asked_again(clock: MockClock) -> None:
    office = Office(TransactionState.ONGOING)
    office.fails = True
    assert await office.end(commit=True) is TransactionError.NOT_AVAILABLE
    assert await office.init() is TransactionError.NOT_AVAILABLE


async def test_a_fresh_cluster_is_waited_for_until_it_knows_transactions(clock: MockClock) -> None:
    office = Office(TransactionState.EMPTY)
    del office.catalog.features[METADATA_LEVEL]

    def finalize() -> None:
        office.catalog.features[METADATA_LEVEL] = LEVEL_KNOWN
        office.changes.tell()

    assert isinstance(await after(office.init(), finalize), Stepped)
    del office.catalog.features[METADATA_LEVEL]
    assert await office.init() is TransactionError.NOT_AVAILABLE


async def test_what_there_is_no_room_for_is_refused(
    clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(TransactionState.ONGOING)
    monkeypatch.setattr(transaction_steps, "TRANSACTIONS_BYTES_MAX", 1)
    monkeypatch.setattr(transactions, "NEW_IDS_BYTES_MAX", 1)
    assert await office.coordinator.init_producer("another", 60_000) is TransactionError.TOO_LARGE
    staged = office.coordinator.stage_offsets(
        "t", office.ids.producer_id, 0, "g", (OffsetCommit("orders", 0, 1),)
    )
    assert await staged is TransactionError.TOO_LARGE
    assert isinstance(await office.end(commit=False), Stepped), "what is open can be ended"
