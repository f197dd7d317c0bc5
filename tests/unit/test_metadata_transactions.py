"""The states of a transactional id: every request in every state. Numbers are those of scenarios."""

from __future__ import annotations

import time

import pytest

from raftlog.cluster.metadata_group import SNAPSHOT_STEP
from raftlog.metadata import transaction_steps, transactions
from raftlog.metadata.catalog import METADATA_LEVEL
from raftlog.metadata.commands import refused_before
from raftlog.metadata.features import SetFeature
from raftlog.metadata.image import Imaging, decode_catalog
from raftlog.metadata.noun import Command, Refusal, Refused
from raftlog.metadata.offset_table import CommittedOffset
from raftlog.metadata.offsets import CommitOffsets, DeleteGroup, DeleteOffsets, ExpireOffsets, OffsetCommit
from raftlog.metadata.state import MetadataState
from raftlog.metadata.topics import DeleteTopic
from raftlog.metadata.transaction_ends import (
    AbortTimedOut,
    CompleteTransaction,
    EndTransaction,
)
from raftlog.metadata.transaction_steps import Stepped, Verdict
from raftlog.metadata.transaction_table import TransactionalId, TransactionState
from raftlog.metadata.transactions import (
    AddToTransaction,
    ExpireTransactionalIds,
    InitProducer,
    StageOffsets,
)
from raftlog.types import RaftIndex
from tests.unit.metadata_examples import ORDERS, commit, create, register

PARTITIONS = ((ORDERS, 0), (ORDERS, 1))


class Ids:
    """A catalog with one topic and, after `begin`, one transactional id in a state of choice."""

    def __init__(self) -> None:
        self.state = MetadataState()
        self.index = 0
        self.at_ms = 1000
        for command in (register(1), register(2), register(3), create("orders", ORDERS)):
            self.apply(command)
        self.producer_id, self.epoch = -1, -1

    def apply(self, command: Command) -> object:
        self.index += 1
        return self.state.apply(command, RaftIndex(self.index))

    def step(self, command: Command) -> Verdict:
        result = self.apply(command)
        assert isinstance(result, Stepped), result
        return result.verdict

    def init(self, producer_id: int = -1, epoch: int = -1) -> Stepped:
        result = self.apply(
            InitProducer(
                transactional_id="t",
                timeout_ms=60_000,
                producer_id=producer_id,
                epoch=epoch,
                at_ms=self.at_ms,
            )
        )
        assert isinstance(result, Stepped), result
        return result

    def begin(self, state: TransactionState = TransactionState.ONGOING) -> Ids:
        """Bring the id into a state, at epoch 0."""
        started = self.init()
        self.producer_id, self.epoch = started.producer_id, started.epoch
        if state is not TransactionState.EMPTY:
            assert self.add() is Verdict.DONE
        if state.is_prepared or state.name.startswith("COMPLETE"):
            assert self.end(commit=state.name.endswith("COMMIT")) is Verdict.DONE
        if state.name.startswith("COMPLETE"):
            assert self.complete() is Verdict.DONE
        assert self.id.state is state
        return self

    @property
    def id(self) -> TransactionalId:
        value = self.state.catalog.transactions.get("t")
        assert value is not None
        return value

    def add(self, **changed: object) -> Verdict:
        said: dict[str, object] = {"partitions": PARTITIONS, "groups": ("g",), "at_ms": self.at_ms}
        return self.step(AddToTransaction(**(self._producer() | said | changed)))  # type: ignore[arg-type]

    def stage(self, offset: int, *, group: str = "g", partition: int = 0) -> Verdict:
        return self.step(
            StageOffsets(
                **self._producer(),  # type: ignore[arg-type]
                group=group,
                offsets=(OffsetCommit("orders", partition, offset),),
                at_ms=self.at_ms,
            )
        )

    def end(self, *, commit: bool, **changed: object) -> Verdict:
        said: dict[str, object] = {"commit": commit, "at_ms": self.at_ms}
        return self.step(EndTransaction(**(self._producer() | said | changed)))  # type: ignore[arg-type]

    def complete(self, decided_at: int | None = None) -> Verdict:
        at = RaftIndex(self.id.decided_at if decided_at is None else decided_at)
        return self.step(CompleteTransaction(transactional_id="t", decided_at=at, at_ms=self.at_ms))

    def offset(self, partition: int = 0) -> int | None:
        row = self.state.catalog.committed_offset("g", "orders", partition)
        return None if row is None else row.offset

    def _producer(self) -> dict[str, object]:
        return {"transactional_id": "t", "producer_id": self.producer_id, "epoch": self.epoch}


EMPTY, ONGOING = TransactionState.EMPTY, TransactionState.ONGOING
PREPARE_COMMIT, PREPARE_ABORT = TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT
COMPLETE_COMMIT, COMPLETE_ABORT = TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT


@pytest.mark.parametrize(
    ("state", "init", "add", "commit", "abort"),
    [
        (EMPTY, Verdict.DONE, Verdict.DONE, Verdict.WRONG_STATE, Verdict.DONE),
        (ONGOING, Verdict.ABORTING, Verdict.DONE, Verdict.DONE, Verdict.DONE),
        (PREPARE_COMMIT, Verdict.MUST_WAIT, Verdict.MUST_WAIT, Verdict.DONE, Verdict.WRONG_STATE),
        (PREPARE_ABORT, Verdict.MUST_WAIT, Verdict.MUST_WAIT, Verdict.WRONG_STATE, Verdict.DONE),
        (COMPLETE_COMMIT, Verdict.DONE, Verdict.DONE, Verdict.DONE, Verdict.WRONG_STATE),
        (COMPLETE_ABORT, Verdict.DONE, Verdict.DONE, Verdict.WRONG_STATE, Verdict.DONE),
    ],
)
def test_every_request_in_every_state(
    state: TransactionState, init: Verdict, add: Verdict, commit: Verdict, abort: Verdict
) -> None:
    """Scenarios 4, 5 and 6 among them: what is asked again is answered again, and never turned."""
    assert Ids().begin(state).init().verdict is init
    assert Ids().begin(state).add() is add
    assert Ids().begin(state).end(commit=True) is commit
    assert Ids().begin(state).end(commit=False) is abort


@pytest.mark.parametrize("state", list(TransactionState))
def test_scenario_16_another_producer_and_another_epoch(state: TransactionState) -> None:
    ids = Ids().begin(state)
    before = ids.id
    for changed, verdict in (
        ({"epoch": 1}, Verdict.FENCED),
        ({"producer_id": 99}, Verdict.UNKNOWN_ID),
        ({"transactional_id": "other"}, Verdict.UNKNOWN_ID),
    ):
        assert ids.add(**changed) is verdict
        assert ids.end(commit=True, **changed) is verdict
        assert ids.end(commit=False, **changed) is verdict
    assert ids.id == before


def test_a_transaction_from_its_begin_to_its_end() -> None:
    ids = Ids().begin()
    begun_at = ids.id.begun_at
    assert begun_at == ids.index and ids.id.started_ms == 1000
    assert ids.add(partitions=((ORDERS, 1), (ORDERS, 2)), groups=("g", "h")) is Verdict.DONE
    assert list(ids.id.partitions) == [(ORDERS, 0), (ORDERS, 1), (ORDERS, 2)]
    assert (ids.id.groups, ids.id.begun_at) == (("g", "h"), begun_at)
    ids.end(commit=True)
    assert ids.id.state is PREPARE_COMMIT and ids.id.decided_at == ids.index
    assert list(ids.state.catalog.transactions.prepared) == ["t"]
    ids.complete()
    assert (ids.id.state, dict(ids.id.partitions), ids.id.groups) == (COMPLETE_COMMIT, {}, ())
    assert ids.id.epoch == 0 and ids.id.started_ms == -1
    ids.add()
    assert ids.id.state is ONGOING and ids.id.begun_at == ids.index


def test_scenario_1_the_next_producer_of_an_id_aborts_what_was_open_and_gets_the_second_epoch() -> None:
    ids = Ids().begin()
    assert ids.init() == Stepped(Verdict.ABORTING, ids.producer_id, 1)
    assert ids.id.state is PREPARE_ABORT and ids.id.epoch == 1, "the markers fence"
    assert ids.end(commit=True) is Verdict.FENCED
    assert ids.init().verdict is Verdict.MUST_WAIT
    ids.complete()
    assert ids.init() == Stepped(Verdict.DONE, ids.producer_id, 2)


def test_scenario_2_a_zombie_that_commits_first_has_committed() -> None:
    ids = Ids().begin()
    assert ids.end(commit=True) is Verdict.DONE
    assert ids.init().verdict is Verdict.MUST_WAIT
    ids.complete()
    assert ids.init() == Stepped(Verdict.DONE, ids.producer_id, 1)


def test_scenario_8_a_completion_of_another_decision_changes_nothing() -> None:
    ids = Ids().begin(PREPARE_COMMIT)
    decided = ids.id.decided_at
    assert ids.complete(decided - 1) is Verdict.WRONG_STATE
    assert ids.complete() is Verdict.DONE and ids.complete(decided) is Verdict.WRONG_STATE
    ids.add()
    ids.end(commit=False)
    assert ids.complete(decided) is Verdict.WRONG_STATE
    assert ids.id.state is PREPARE_ABORT


def test_scenario_11_the_entry_that_comes_first_decides() -> None:
    def time_out(ids: Ids, begun_at: int) -> Verdict:
        return ids.step(AbortTimedOut(transactional_id="t", begun_at=RaftIndex(begun_at), at_ms=5))

    ids = Ids().begin()
    begun_at = ids.id.begun_at
    assert time_out(ids, begun_at) is Verdict.ABORTING
    assert ids.end(commit=True) is Verdict.FENCED
    assert (ids.id.state, ids.id.epoch) == (PREPARE_ABORT, 1)

    ids = Ids().begin()
    begun_at = ids.id.begun_at
    ids.end(commit=True)
    assert time_out(ids, begun_at) is Verdict.WRONG_STATE
    ids.complete()
    ids.add()
    assert time_out(ids, begun_at) is Verdict.WRONG_STATE, "that was the one before"
    assert (ids.id.state, ids.id.epoch) == (ONGOING, 0)


def test_scenario_14_after_the_last_epoch_comes_another_producer_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction_steps, "EPOCH_MAX", 2)
    ids = Ids().begin(COMPLETE_COMMIT)
    first = ids.producer_id
    assert [(s.producer_id, s.epoch) for s in (ids.init(), ids.init())] == [(first, 1), (first, 2)]
    moved = ids.init(first, 2)
    assert moved.verdict is Verdict.DONE and moved.producer_id > first and moved.epoch == 0
    assert ids.init(first, 2) == moved, "the answer was lost"
    assert ids.init(first, 1).verdict is Verdict.FENCED

    ids = Ids().begin(COMPLETE_COMMIT)
    first = ids.producer_id
    ids.init(), ids.init()
    ids.epoch = 2
    ids.add()
    assert ids.init(first, 2) == Stepped(Verdict.ABORTING, first, 3), "the epoch that is for fencing"
    ids.complete()
    moved = ids.init(first, 2)
    assert moved.producer_id > first and moved.epoch == 0
    assert ids.init(first, 2) == moved


@pytest.mark.parametrize("state", [EMPTY, ONGOING, COMPLETE_COMMIT, COMPLETE_ABORT])
def test_scenario_15_a_producer_that_goes_on_may_ask_again(state: TransactionState) -> None:
    ids = Ids().begin(state)
    first = ids.init(ids.producer_id, 0)
    if first.verdict is Verdict.ABORTING:
        ids.complete()
        first = ids.init(ids.producer_id, 0)
    assert (first.verdict, first.epoch) == (Verdict.DONE, 1)
    assert ids.init(ids.producer_id, 0) == first
    assert ids.init(ids.producer_id, 1).epoch == 2
    assert ids.init(ids.producer_id, 0).verdict is Verdict.FENCED
    ids.init()
    assert ids.init(ids.producer_id, 1).verdict is Verdict.FENCED, "somebody else has it"


def test_scenario_29_an_id_expires_outside_of_transactions_only() -> None:
    for state in TransactionState:
        ids = Ids().begin(state)
        ids.apply(ExpireTransactionalIds(transactional_ids=("t", "other"), before_ms=1000))
        assert len(ids.state.catalog.transactions) == 1, "not older than that"
        ids.apply(ExpireTransactionalIds(transactional_ids=("t", "other"), before_ms=1001))
        is_open = state is ONGOING or state.is_prepared
        assert len(ids.state.catalog.transactions) == is_open
        if not is_open:
            assert ids.add() is ids.end(commit=True) is Verdict.UNKNOWN_ID
            assert ids.init().producer_id > ids.producer_id


@pytest.mark.parametrize("is_commit", [True, False])
def test_scenario_41_staged_offsets_count_from_the_commit_on(is_commit: bool) -> None:
    ids = Ids().begin()
    ids.apply(CommitOffsets(commits=(commit("g", "orders", 0, 5),)))
    assert ids.stage(9) is Verdict.DONE
    assert ids.offset() == 5
    assert ids.state.catalog.transactions.unstable("g") == {("orders", 0)}
    ids.end(commit=is_commit)
    assert ids.offset() == (9 if is_commit else 5)
    assert ids.state.catalog.transactions.unstable("g") == set()
    row = ids.state.catalog.committed_offset("g", "orders", 0)
    assert not is_commit or row == CommittedOffset(9, -1, "", 1000)


def test_offsets_are_staged_in_a_transaction_that_has_the_group() -> None:
    assert Ids().begin(COMPLETE_COMMIT).stage(1) is Verdict.WRONG_STATE
    ids = Ids().begin()
    assert ids.stage(1, group="h") is Verdict.WRONG_STATE
    ids.epoch = 1
    assert ids.stage(1) is Verdict.FENCED
    ids.producer_id = 99
    assert ids.stage(1) is Verdict.UNKNOWN_ID


def test_offsets_of_partitions_that_there_are_not_are_told() -> None:
    ids = Ids().begin()
    result = ids.apply(
        StageOffsets(
            transactional_id="t",
            producer_id=ids.producer_id,
            epoch=0,
            group="g",
            offsets=(OffsetCommit("orders", 0, 1), OffsetCommit("orders", 7, 1), OffsetCommit("no", 0, 1)),
            at_ms=1,
        )
    )
    assert isinstance(result, Stepped) and result.unknown == (("orders", 7), ("no", 0))
    assert list(ids.id.staged) == [("g", "orders", 0)]


def test_scenario_42_a_plain_commit_that_comes_later_stays() -> None:
    ids = Ids().begin()
    ids.stage(9), ids.stage(3, partition=1)
    ids.apply(CommitOffsets(commits=(commit("g", "orders", 0, 20),)))
    ids.end(commit=True)
    assert (ids.offset(0), ids.offset(1)) == (20, 3)


@pytest.mark.parametrize(
    "removal",
    [
        DeleteGroup(group="g"),
        DeleteOffsets(group="g", partitions=(("orders", 0),)),
        DeleteTopic(topic_id=ORDERS),
    ],
)
@pytest.mark.parametrize("has_committed", [True, False])
def test_scenario_46_what_is_deleted_is_not_brought_back(removal: Command, has_committed: bool) -> None:
    ids = Ids().begin()
    if has_committed:
        ids.apply(CommitOffsets(commits=(commit("g", "orders", 0, 5),)))
    ids.stage(9)
    ids.apply(removal)
    ids.apply(create("orders", b"again".ljust(16)))
    assert ids.end(commit=True) is Verdict.DONE
    assert ids.offset() is None


def test_an_offset_that_a_transaction_is_about_to_replace_does_not_expire() -> None:
    ids = Ids().begin()
    ids.apply(CommitOffsets(commits=(commit("g", "orders", 0, 5), commit("g", "orders", 1, 5))))
    ids.stage(9)
    ids.apply(ExpireOffsets(groups=("g",), before_ms=2**50))
    assert (ids.offset(0), ids.offset(1)) == (5, None)


def test_a_transaction_without_partitions_is_complete_at_once() -> None:
    ids = Ids().begin(EMPTY)
    assert ids.add(partitions=()) is Verdict.DONE
    ids.stage(4)
    assert ids.end(commit=True) is Verdict.DONE
    assert ids.id.state is COMPLETE_COMMIT and ids.offset() == 4


def test_limits_stand_before_the_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = Ids().begin()
    catalog = ids.state.catalog
    init = InitProducer(transactional_id="u", timeout_ms=1, at_ms=1)
    refused = refused_before(init, 50, catalog, is_full=False)
    assert refused is not None and refused.reason is Refusal.INVALID_VALUE, "an older broker is there"
    catalog.features[METADATA_LEVEL] = init.needs_level
    assert refused_before(init, 50, catalog, is_full=False) is None
    monkeypatch.setattr(transactions, "NEW_IDS_BYTES_MAX", catalog.transactions.bytes)
    assert refused_before(init, 50, catalog, is_full=False) is not None
    again = InitProducer(transactional_id="t", timeout_ms=1, at_ms=1)
    assert refused_before(again, 50, catalog, is_full=True) is None, "an application starts again"
    add = AddToTransaction(transactional_id="t", producer_id=0, epoch=0, groups=("h",), at_ms=1)
    assert refused_before(add, 50, catalog, is_full=True) is None, "it is bounded by itself"
    row = OffsetCommit("orders", 0, 1, -1, "")
    stage = StageOffsets(transactional_id="t", producer_id=0, epoch=0, group="g", offsets=(row,), at_ms=1)
    assert refused_before(stage, 50, catalog, is_full=False) is None
    assert refused_before(stage, 50, catalog, is_full=True) is not None, "a commit makes them the group's"
    monkeypatch.setattr(transaction_steps, "TRANSACTIONS_BYTES_MAX", catalog.transactions.bytes)
    assert refused_before(add, 50, catalog, is_full=False) is not None
    monkeypatch.setattr(transaction_steps, "ID_BYTES_MAX", 60)
    assert refused_before(add, 50, catalog, is_full=False) is not None
    end = EndTransaction(transactional_id="t", producer_id=0, epoch=0, commit=True, at_ms=1)
    assert refused_before(end, 50, catalog, is_full=True) is None, "what is open can be ended"


@pytest.mark.parametrize("name", ["", "x" * 2000])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    result = Ids().apply(InitProducer(transactional_id=name, timeout_ms=1, at_ms=1))
    assert isinstance(result, Refused)


@pytest.mark.parametrize("state", list(TransactionState))
def test_an_image_holds_every_state(state: TransactionState) -> None:
    ids = Ids().begin(state)
    if state is ONGOING:
        ids.stage(7)
    again = MetadataState()
    again.restore(ids.state.to_bytes())
    assert again.catalog == ids.state.catalog and again.digest() == ids.state.digest()
    ids.apply(SetFeature(name="f", level=1))
    assert ids.state.catalog.transactions == again.catalog.transactions


def test_scenario_79_an_image_with_many_open_transactions_is_made_in_short_steps() -> None:
    """10,000 ids with a transaction each: a step takes about as long as with none, by its cost."""
    ids = Ids()
    for number in range(10_000):
        value = TransactionalId(
            producer_id=number,
            epoch=0,
            timeout_ms=60_000,
            state=ONGOING,
            partitions=dict.fromkeys(PARTITIONS * 5),
            updated_ms=0,
        )
        ids.state.catalog.transactions.put(f"tx-{number}", value)
    imaging = Imaging(ids.state.catalog)
    imaging.begin()
    steps, image = list[float](), None
    while image is None:
        begun = time.process_time()
        image = imaging.step(SNAPSHOT_STEP)
        steps.append(time.process_time() - begun)
    assert len(steps) > 10, "in many steps"
    assert sorted(steps)[len(steps) // 2] < 0.025, (
        "half of what a turn may take; beside other work 10 ms were seen"
    )
    assert decode_catalog(image) == ids.state.catalog
