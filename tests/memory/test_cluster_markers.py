"""How the coordinator has markers written, where partitions are slow to take them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from raftlog.cluster.changes import Changes
from raftlog.cluster.transactions import markers as markers_module
from raftlog.cluster.transactions.markers import Markers
from raftlog.metadata.commands import decode_command
from raftlog.metadata.noun import Command
from raftlog.metadata.state import MetadataState
from raftlog.metadata.transaction_ends import EndTransaction
from raftlog.metadata.transaction_steps import Stepped
from raftlog.metadata.transaction_table import TransactionState
from raftlog.metadata.transactions import AddToTransaction, InitProducer
from raftlog.partition.markers import Marker
from raftlog.partition.marking import Marked
from raftlog.types import BrokerId, RaftIndex
from tests.unit.metadata_examples import ORDERS, create, register

ME = BrokerId(1)
STUCK = 0
"""The partition that has no majority."""


class Office:
    """A broker alone, which leads everything: it is all that markers ask."""

    def __init__(self) -> None:
        self.id = ME
        self.state = MetadataState()
        self.index = 0
        for command in (register(1), register(2), register(3), create("orders", ORDERS)):
            self._apply(command)
        self.is_coordinator = True
        self.group = SimpleNamespace(term=1)
        self.has_majority = False
        self.changes = Changes()
        itself = cast(Any, self)
        peers = cast(Any, SimpleNamespace(calls=SimpleNamespace(serve=lambda method, handler: None)))
        self.markers = Markers(itself, itself, itself, peers, itself, itself, itself, self.changes)

    @property
    def catalog(self) -> Any:
        return self.state.catalog

    def now_ms(self) -> int:
        return 1000

    def _apply(self, command: Command) -> object:
        self.index += 1
        return self.state.apply(command, RaftIndex(self.index))

    def commit(self, name: str, partition: int) -> None:
        begun = self._apply(InitProducer(transactional_id=name, timeout_ms=60_000, at_ms=1000))
        assert isinstance(begun, Stepped)
        own: Any = {"transactional_id": name, "producer_id": begun.producer_id, "epoch": begun.epoch}
        self._apply(AddToTransaction(**own, partitions=((ORDERS, partition),), at_ms=1000))
        self._apply(EndTransaction(**own, commit=True, at_ms=1000))
        self.changes.tell()

    def is_complete(self, name: str) -> bool:
        return bool(self.catalog.transactions.get(name).state is TransactionState.COMPLETE_COMMIT)

    async def until_complete(self, name: str) -> None:
        with trio.fail_after(60):
            while not self.is_complete(name):
                await self.changes.wait()

    # What markers ask

    def leader_of(self, topic: object, partition: int) -> tuple[BrokerId, int]:
        return ME, 1

    def partition_by_id(self, topic_id: bytes, partition: int) -> Any:
        def write(marker: Marker, *, now: float, now_ms: int, on_done: Any) -> None:
            on_done(Marked.DONE if partition != STUCK or self.has_majority else Marked.NOT_NOW)

        return SimpleNamespace(marking=SimpleNamespace(write=write))

    async def propose_here(self, command: bytes) -> RaftIndex:
        await trio.lowlevel.checkpoint()
        self._apply(decode_command(command))
        self.changes.tell()
        return RaftIndex(self.index)


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0)


async def test_a_partition_without_a_majority_holds_up_no_transaction_but_its_own(
    clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr(markers_module, "UNDER_WAY_MAX", 2)
    office = Office()
    for name in ("a", "b", "c"):
        office.commit(name, STUCK)
    office.commit("free", 1)
    nursery.start_soon(office.markers.run)
    await office.until_complete("free")
    assert not any(map(office.is_complete, ("a", "b", "c")))
    office.has_majority = True
    for name in ("a", "b", "c"):
        await office.until_complete(name)
    nursery.cancel_scope.cancel()
