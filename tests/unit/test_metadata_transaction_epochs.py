"""The second protocol of transactions (KIP-890): each ends with its epoch. Numbers are those of scenarios."""

from __future__ import annotations

import pytest

from raftlog.metadata import transaction_steps
from raftlog.metadata.catalog import METADATA_LEVEL
from raftlog.metadata.commands import refused_before
from raftlog.metadata.features import (
    TRANSACTION_EPOCHS_LEVEL,
    TRANSACTION_VERSION,
    ChooseFeatureLevel,
    FeatureSet,
    features_epoch,
    transaction_version,
)
from raftlog.metadata.noun import Refused
from raftlog.metadata.state import MetadataState
from raftlog.metadata.transaction_ends import AbortTimedOut, EndTransactionAndEpoch
from raftlog.metadata.transaction_steps import Stepped, Verdict
from raftlog.metadata.transaction_table import TransactionState
from tests.unit.test_metadata_transactions import (
    COMPLETE_ABORT,
    COMPLETE_COMMIT,
    EMPTY,
    ONGOING,
    PREPARE_ABORT,
    PREPARE_COMMIT,
    Ids,
)

LAST: int = 2
"""The last epoch, where a test reaches it."""


class Epochs(Ids):
    """A producer whose transactions have an epoch each."""

    def __init__(self) -> None:
        super().__init__()
        self.state.catalog.features[METADATA_LEVEL] = TRANSACTION_EPOCHS_LEVEL
        self.answer = Stepped(Verdict.DONE)
        """To its last end."""

    def end(self, *, commit: bool, **changed: object) -> Verdict:
        said: dict[str, object] = {"commit": commit, "at_ms": self.at_ms}
        command = EndTransactionAndEpoch(**(self._producer() | said | changed))  # type: ignore[arg-type]
        result = self.apply(command)
        assert isinstance(result, Stepped), result
        self.answer = result
        return result.verdict

    def time_out(self) -> Verdict:
        begun_at = self.id.begun_at
        return self.step(AbortTimedOut(transactional_id="t", begun_at=begun_at, at_ms=self.at_ms))

    def go_on(self) -> None:
        """With what the last answer named."""
        self.producer_id, self.epoch = self.answer.producer_id, self.answer.epoch


def begun(state: TransactionState) -> Epochs:
    """In a state; what is prepared or complete came there from epoch 0."""
    epochs = Epochs()
    epochs.begin(state)
    return epochs


@pytest.mark.parametrize(
    ("state", "abort_again", "abort", "commit_again", "commit"),
    [
        (EMPTY, Verdict.FENCED, Verdict.DONE, Verdict.FENCED, Verdict.WRONG_STATE),
        (ONGOING, Verdict.FENCED, Verdict.DONE, Verdict.FENCED, Verdict.DONE),
        (PREPARE_ABORT, Verdict.DONE, Verdict.MUST_WAIT, Verdict.WRONG_STATE, Verdict.MUST_WAIT),
        (PREPARE_COMMIT, Verdict.WRONG_STATE, Verdict.MUST_WAIT, Verdict.DONE, Verdict.MUST_WAIT),
        (COMPLETE_ABORT, Verdict.DONE, Verdict.DONE, Verdict.WRONG_STATE, Verdict.WRONG_STATE),
        (COMPLETE_COMMIT, Verdict.WRONG_STATE, Verdict.DONE, Verdict.DONE, Verdict.WRONG_STATE),
    ],
)
def test_scenario_5_every_end_in_every_state(
    state: TransactionState, abort_again: Verdict, abort: Verdict, commit_again: Verdict, commit: Verdict
) -> None:
    """An epoch below is a repetition, the epoch that holds is the next transaction's."""
    for is_commit, is_again, verdict in (
        (False, True, abort_again),
        (False, False, abort),
        (True, True, commit_again),
        (True, False, commit),
    ):
        epochs = begun(state)
        before = epochs.id
        if state in (EMPTY, ONGOING):
            epochs.init(), epochs.complete(), epochs.init()  # so that there is an epoch below
            if state is ONGOING:
                epochs.epoch = epochs.id.epoch
                epochs.add()
            before = epochs.id
        now = before.producer[1]
        answered = epochs.end(commit=is_commit, epoch=now - 1 if is_again else now)
        assert answered is verdict, (is_commit, is_again)
        if is_again or verdict is not Verdict.DONE:
            assert epochs.id == before
        if is_again and verdict is Verdict.DONE:
            assert (epochs.answer.producer_id, epochs.answer.epoch) == before.producer
        if not is_again and verdict is Verdict.DONE:
            assert epochs.answer.epoch == now + 1 == epochs.id.epoch, "the markers carry it, too"


def test_a_late_step_of_the_transaction_before_does_nothing() -> None:
    """What the first protocol cannot tell apart (Jepsen's late EndTxn)."""
    epochs = begun(ONGOING)
    epochs.stage(5)
    assert epochs.end(commit=True) is Verdict.DONE
    epochs.complete()
    epochs.go_on()
    assert epochs.add() is Verdict.DONE
    before = epochs.id
    assert epochs.add(epoch=0) is Verdict.FENCED
    assert epochs.end(commit=False, epoch=0) is Verdict.FENCED
    assert epochs.end(commit=True, epoch=0) is Verdict.FENCED
    assert epochs.id == before and epochs.offset() == 5


def test_scenario_13_after_a_time_out_the_abort_tells_the_next_epoch() -> None:
    epochs = begun(ONGOING)
    assert epochs.time_out() is Verdict.ABORTING
    assert epochs.id.state is PREPARE_ABORT and epochs.id.epoch == 1
    for _ in range(2):
        assert epochs.end(commit=False) is Verdict.DONE
        assert (epochs.answer.producer_id, epochs.answer.epoch) == (epochs.producer_id, 1)
        assert epochs.end(commit=True) is Verdict.WRONG_STATE, "it was not committed"
        if epochs.id.state.is_prepared:
            epochs.complete()
    epochs.epoch = 1
    assert epochs.add() is Verdict.DONE


def test_somebody_else_has_the_id_since() -> None:
    """A producer that was fenced is told no epoch, though it lies one below: it is another's."""
    epochs = begun(COMPLETE_COMMIT)
    other = epochs.init()
    assert other.verdict is Verdict.DONE
    epochs.epoch = other.epoch - 1
    assert epochs.end(commit=True) is Verdict.FENCED and epochs.end(commit=False) is Verdict.FENCED
    epochs.epoch = other.epoch
    epochs.add(), Ids.end(epochs, commit=True), epochs.complete()  # the other speaks the first protocol
    epochs.epoch = other.epoch - 1
    assert epochs.end(commit=True) is Verdict.FENCED, "that was the other's commit"


@pytest.mark.parametrize("way", ["commit", "abort", "time out", "init"])
def test_scenario_14_the_last_epoch_ends_with_another_producer_id(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(transaction_steps, "EPOCH_MAX", LAST)
    epochs = begun(EMPTY)
    old = epochs.producer_id
    for epoch in range(LAST):
        epochs.epoch = epoch
        epochs.add(), epochs.end(commit=True), epochs.complete()
    epochs.go_on()
    assert (epochs.producer_id, epochs.epoch) == (old, LAST)
    assert epochs.add() is Verdict.DONE
    match way:
        case "init":
            assert epochs.init(old, LAST).verdict is Verdict.ABORTING
        case "time out":
            assert epochs.time_out() is Verdict.ABORTING
        case _:
            assert epochs.end(commit=way == "commit") is Verdict.DONE
    prepared = epochs.id
    assert (prepared.producer_id, prepared.epoch) == (old, LAST + 1), "as the markers: it fences everywhere"
    new, _ = prepared.producer
    assert prepared.producer == (new, 0) and new > old
    again = MetadataState()
    again.restore(epochs.state.to_bytes())
    assert again.catalog == epochs.state.catalog
    assert epochs.add(producer_id=new, epoch=0) is Verdict.MUST_WAIT
    assert epochs.add() is Verdict.FENCED, "the last epoch is over"
    for _ in range(2):
        match way:
            case "init":
                expected = Verdict.MUST_WAIT if epochs.id.state.is_prepared else Verdict.DONE
                assert epochs.init(old, LAST).verdict is expected
            case _:
                assert epochs.end(commit=way == "commit") is Verdict.DONE, "the answer was lost"
                assert (epochs.answer.producer_id, epochs.answer.epoch) == (new, 0)
        if epochs.id.state.is_prepared:
            assert epochs.complete() is Verdict.DONE
    assert (epochs.id.producer_id, epochs.id.epoch) == (new, 0)
    epochs.producer_id, epochs.epoch = new, 0
    assert epochs.add() is Verdict.DONE and epochs.end(commit=True) is Verdict.DONE
    epochs.complete()
    assert epochs.id.producer == (new, 1)
    assert epochs.end(commit=True, producer_id=old, epoch=LAST) is Verdict.UNKNOWN_ID


def test_a_producer_may_change_its_protocol_in_the_middle() -> None:
    """An administrator changes what is finalized while a transaction is open."""
    epochs = begun(ONGOING)
    assert Ids.end(epochs, commit=True) is Verdict.DONE and epochs.id.epoch == 0
    epochs.complete()
    epochs.add()
    assert epochs.end(commit=True) is Verdict.DONE and epochs.answer.epoch == 1
    epochs.complete()
    epochs.go_on()
    epochs.add()
    assert Ids.end(epochs, commit=False) is Verdict.DONE and epochs.id.epoch == 1


def test_the_feature_goes_down_and_up_once_every_broker_knows_it() -> None:
    ids = Ids()
    catalog = ids.state.catalog
    down, up = (ChooseFeatureLevel(name=TRANSACTION_VERSION, level=level) for level in (1, 2))
    assert transaction_version(catalog) == 1
    assert refused_before(up, 50, catalog, is_full=False) is not None, "an older broker is there"
    catalog.features[METADATA_LEVEL] = TRANSACTION_EPOCHS_LEVEL
    assert transaction_version(catalog) == 2
    seen = [features_epoch(catalog)]
    for command, level in ((down, 1), (up, 2)):
        assert refused_before(command, 50, catalog, is_full=False) is None
        assert ids.apply(command) == FeatureSet(TRANSACTION_VERSION, level)
        assert transaction_version(catalog) == level
        seen.append(features_epoch(catalog))
    assert seen == sorted(set(seen)), "clients believe the highest that they have seen"
    for name, level in ((TRANSACTION_VERSION, 0), (TRANSACTION_VERSION, 3), (METADATA_LEVEL, 1), ("f", 1)):
        assert isinstance(ids.apply(ChooseFeatureLevel(name=name, level=level)), Refused)
    again = MetadataState()
    again.restore(ids.state.to_bytes())
    assert again.catalog == ids.state.catalog and again.digest() == ids.state.digest()
