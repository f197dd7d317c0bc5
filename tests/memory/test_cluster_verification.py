"""What a partition's leader hears of a transaction, whoever coordinates, and while nobody does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from raftlog.cluster.calls import Unreachable
from raftlog.cluster.transactions import verification as verification_module
from raftlog.cluster.transactions.coordinator import TransactionError
from raftlog.cluster.transactions.verification import PATIENCE_S, Verification
from raftlog.errors import InvalidInput
from raftlog.metadata.transaction_steps import Stepped, Verdict
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
        self.methods: list[str] = []
        self.handlers: dict[str, Callable[..., None]] = {}
        self.answers: list[Any] = []
        """What another broker says to one question after the other; an exception is raised."""
        self.heard: list[Membership] = []
        self.heard_more = trio.Event()
        itself = cast(Any, self)
        self.added: list[tuple[str, int, int, object]] = []
        self.adding: Stepped | TransactionError = Stepped(Verdict.DONE)
        self.verification = Verification(itself, itself, itself, itself)

    def serve(self, method: str, handler: object) -> None:
        self.handlers[method] = cast(Callable[..., None], handler)

    async def add(
        self, transactional_id: str, producer_id: int, epoch: int, *, partitions: object
    ) -> Stepped | TransactionError:
        """As the coordinator."""
        await trio.lowlevel.checkpoint()
        self.added.append((transactional_id, producer_id, epoch, partitions))
        return self.adding

    def read_barrier(self, now: float, then: Callable[[bool], None]) -> None:
        then(self.leads)

    async def ask(self, peer: BrokerId, method: str, body: Any, *, timeout: float) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append(body)
        self.methods.append(method)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def verify(self, *partitions: tuple[bytes, int], epoch: int = 0, adds: bool = False) -> None:
        for partition in partitions:
            self.verification.verify("t", self.ids.producer_id, epoch, partition, self.hear, adds=adds)

    def hear(self, found: Membership, now: float) -> None:
        self.heard.append(found)
        self.heard_more.set()
        self.heard_more = trio.Event()


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0)


@pytest.fixture
async def fake(nursery: trio.Nursery) -> Fake:
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


async def test_another_is_asked_once_for_all_partitions_and_again_when_it_cannot_tell(
    clock: MockClock, fake: Fake
) -> None:
    fake.leader = OTHER
    fake.answers = [Unreachable("away"), [], "nonsense", ["IN_TRANSACTION", "NOT_IN_TRANSACTION"]]
    fake.verify(AT, (ORDERS, 7), AT)
    await settle(fake, 3)
    assert fake.heard == [Membership.IN_TRANSACTION] * 2 + [Membership.NOT_IN_TRANSACTION]
    assert fake.asked == [["t", fake.ids.producer_id, 0, [[ORDERS, 0], [ORDERS, 7]]]] * 4


async def test_who_was_replaced_does_not_say_yes(clock: MockClock, fake: Fake) -> None:
    fake.leads = False
    before = trio.current_time()
    fake.verify(AT)
    await settle(fake, 1)
    assert fake.heard == [Membership.UNKNOWN]
    assert trio.current_time() - before == pytest.approx(PATIENCE_S, abs=0.2)


async def test_without_a_leader_nobody_knows(clock: MockClock, fake: Fake) -> None:
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
    fake.handlers["verify_transaction"](OTHER, asked, replies.append)
    fake.leads = False
    fake.handlers["verify_transaction"](OTHER, asked, replies.append)
    assert replies == [["IN_TRANSACTION", "NOT_IN_TRANSACTION"], []]
    for wrong in (None, ["t"], ["t", 1, 0, [[ORDERS]]], ["t", "1", 0, []]):
        with pytest.raises(InvalidInput):
            fake.handlers["verify_transaction"](OTHER, wrong, replies.append)


async def test_the_coordinator_adds_partitions_all_of_a_request_at_once(fake: Fake) -> None:
    fake.verify(AT, (ORDERS, 7), adds=True)
    await settle(fake, 2)
    assert fake.heard == [Membership.ADDED] * 2
    assert fake.added == [("t", fake.ids.producer_id, 0, (AT, (ORDERS, 7)))]


@pytest.mark.parametrize(
    ("error", "membership"),
    [
        (TransactionError.FENCED, Membership.PRODUCER_FENCED),
        (TransactionError.UNKNOWN_ID, Membership.WRONG_PRODUCER),
        (TransactionError.TOO_LARGE, Membership.NOT_IN_TRANSACTION),
        (TransactionError.CONCURRENT, Membership.UNKNOWN),
        (TransactionError.NOT_AVAILABLE, Membership.UNKNOWN),
    ],
)
async def test_a_partition_that_is_not_added(
    clock: MockClock, fake: Fake, error: TransactionError, membership: Membership
) -> None:
    """What may change is asked again, for as long as there is patience."""
    fake.adding = error
    fake.verify(AT, adds=True)
    await settle(fake, 1)
    assert fake.heard == [membership]
    assert (len(fake.added) > 1) is (membership is Membership.UNKNOWN)


async def test_another_coordinator_adds_partitions(clock: MockClock, fake: Fake) -> None:
    fake.leader = OTHER
    fake.answers = [Unreachable("gone"), ["ADDED"]]
    fake.verify(AT, adds=True)
    await settle(fake, 1)
    assert fake.heard == [Membership.ADDED] and fake.methods == ["add_to_transaction"] * 2
    replies: list[list[str]] = []
    answered = trio.Event()

    def reply(answer: list[str]) -> None:
        replies.append(answer)
        answered.set()

    body = ["t", fake.ids.producer_id, 0, [list(AT)]]
    fake.handlers["add_to_transaction"](OTHER, body, reply)
    with trio.fail_after(60):
        await answered.wait()
    assert replies == [["ADDED"]]
    with pytest.raises(InvalidInput):
        fake.handlers["add_to_transaction"](OTHER, ["t", 1], reply)
