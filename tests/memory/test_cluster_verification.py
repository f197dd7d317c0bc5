"""What a partition's leader hears of a transaction, whoever coordinates, and while nobody does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from raftlog.cluster.calls import Unreachable
from raftlog.cluster.transactions import verification as verification_module
from raftlog.cluster.transactions.verification import PATIENCE_S, Verification
from raftlog.errors import InvalidInput
from raftlog.partition.verifying import Membership
from raftlog.types import BrokerId
from tests.unit.metadata_examples import ORDERS
from tests.unit.test_metadata_transactions import Ids

ME, OTHER = BrokerId(1), BrokerId(2)
AT = (ORDERS, 0)


class Fake:
    """Everything that a Verification takes: the metadata, whose leader a test names, and the calls."""

    def __init__(self) -> None:
        self.ids = Ids().begin()
        self.catalog = self.ids.state.catalog
        self.id = ME
        self.leader: BrokerId | None = ME
        self.leads = True
        self.group = self.calls = self
        self.asked: list[Any] = []
        self.answers: list[Any] = []
        """What another broker says to one question after the other; an exception is raised."""
        self.heard: list[Membership] = []
        self.heard_more = trio.Event()
        itself = cast(Any, self)
        self.verification = Verification(itself, itself, itself)

    def serve(self, method: str, handler: object) -> None:
        assert method == "verify_transaction"
        self.handler = cast(Callable[..., None], handler)

    def read_barrier(self, now: float, then: Callable[[bool], None]) -> None:
        then(self.leads)

    async def ask(self, peer: BrokerId, method: str, body: Any, *, timeout: float) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append(body)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def verify(self, *partitions: tuple[bytes, int], epoch: int = 0) -> None:
        for partition in partitions:
            self.verification.verify("t", self.ids.producer_id, epoch, partition, self.hear)

    def hear(self, found: Membership, now: float) -> None:
        self.heard.append(found)
        self.heard_more.set()
        self.heard_more = trio.Event()


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0)


@pytest.fixture
async def fake(clock: MockClock, nursery: trio.Nursery) -> Fake:
    fake = Fake()
    nursery.start_soon(fake.verification.run)
    await trio.testing.wait_all_tasks_blocked()
    return fake


async def settle(fake: Fake, count: int) -> None:
    with trio.fail_after(60):
        while len(fake.heard) < count:
            await fake.heard_more.wait()


async def test_the_coordinator_itself_knows(fake: Fake) -> None:
    fake.verify(AT, (ORDERS, 7))
    await settle(fake, 2)
    assert fake.heard == [Membership.IN_TRANSACTION, Membership.NOT_IN_TRANSACTION]
    assert fake.asked == []


async def test_another_is_asked_once_for_all_partitions_and_again_when_it_cannot_tell(fake: Fake) -> None:
    fake.leader = OTHER
    fake.answers = [Unreachable("away"), [], "nonsense", ["IN_TRANSACTION", "NOT_IN_TRANSACTION"]]
    fake.verify(AT, (ORDERS, 7), AT)
    await settle(fake, 3)
    assert fake.heard == [Membership.IN_TRANSACTION] * 2 + [Membership.NOT_IN_TRANSACTION]
    assert fake.asked == [["t", fake.ids.producer_id, 0, [[ORDERS, 0], [ORDERS, 7]]]] * 4


async def test_who_was_replaced_does_not_say_yes(fake: Fake) -> None:
    fake.leads = False
    before = trio.current_time()
    fake.verify(AT)
    await settle(fake, 1)
    assert fake.heard == [Membership.UNKNOWN]
    assert trio.current_time() - before == pytest.approx(PATIENCE_S, abs=0.2)


async def test_without_a_leader_nobody_knows(fake: Fake) -> None:
    fake.leader = None
    fake.verify(AT)
    await settle(fake, 1)
    assert fake.heard == [Membership.UNKNOWN]


async def test_too_many_at_once_are_told_to_come_again(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification_module, "WAITING_MAX", 2)
    fake.verify(AT, AT, AT)
    assert fake.heard == [Membership.UNKNOWN]
    await settle(fake, 3)
    fake.verify(AT)
    await settle(fake, 4)
    assert fake.heard.count(Membership.IN_TRANSACTION) == 3


async def test_others_are_answered_or_refused(fake: Fake) -> None:
    replies: list[Any] = []
    asked = ["t", fake.ids.producer_id, 0, [[ORDERS, 0], [ORDERS, 7]]]
    fake.handler(OTHER, asked, replies.append)
    fake.leads = False
    fake.handler(OTHER, asked, replies.append)
    assert replies == [["IN_TRANSACTION", "NOT_IN_TRANSACTION"], []]
    for wrong in (None, ["t"], ["t", 1, 0, [[ORDERS]]], ["t", "1", 0, []]):
        with pytest.raises(InvalidInput):
            fake.handler(OTHER, wrong, replies.append)
