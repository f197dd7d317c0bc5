"""The transactional producer's states: what is taken when, what an error means, and what is never done."""

from __future__ import annotations

import pytest

from raftlog.client.errors import (
    ClientError,
    Disconnected,
    NoTransaction,
    ProducerFailed,
    ProducerFenced,
    RequestTimedOut,
    TransactionAborted,
    UnsupportedVersion,
    broker_error,
)
from raftlog.client.metadata import TopicPartition
from raftlog.client.transactions import Phase, Reaction, Transactions, reaction
from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode

A, B = TopicPartition("a", 0), TopicPartition("b", 1)
INIT, ADD, PRODUCE = ApiKey.INIT_PRODUCER_ID, ApiKey.ADD_PARTITIONS_TO_TXN, ApiKey.PRODUCE
GROUP, OFFSETS, END = ApiKey.ADD_OFFSETS_TO_TXN, ApiKey.TXN_OFFSET_COMMIT, ApiKey.END_TXN
ALL = (INIT, ADD, PRODUCE, GROUP, OFFSETS, END)


def opened(now: float = 0.0) -> Transactions:
    state = Transactions("tx", 60_000)
    state.identified(7, 0)
    state.begin(now)
    return state


def add(state: Transactions) -> None:
    """The coordinator adds what is wanted."""
    state.additions.partitions.update(state.additions.ask())


def committing() -> Transactions:
    state = opened()
    state.admits(A)
    add(state)
    state.close()
    state.commit()
    return state


def test_nothing_is_taken_outside_of_a_transaction() -> None:
    state = Transactions("tx", 60_000)
    for _ in range(2):
        with pytest.raises(NoTransaction, match="'tx': use it inside of"):
            state.check_open()
        state.identified(7, 0)
    state.begin(0)
    state.check_open()
    state.close()
    with pytest.raises(NoTransaction):
        state.check_open()


def test_a_partition_is_written_to_when_it_is_added_and_asked_for_once() -> None:
    state = opened()
    assert not state.additions.were_asked_for
    assert not state.admits(A) and not state.admits(B) and not state.admits(A)
    assert state.additions.wants_more
    assert state.additions.ask() == [A, B]
    assert state.additions.were_asked_for, "asked is enough: the coordinator may have done it"
    assert not state.admits(A) and not state.additions.wants_more
    state.additions.partitions.add(A)
    assert state.admits(A) and not state.admits(B)
    state.close()
    assert state.admits(A), "what was taken before the end is sent"
    state.commit()
    assert not state.admits(A)


def test_the_next_transaction_adds_its_partitions_anew() -> None:
    state = committing()
    state.ended()
    state.begin(0)
    assert not state.admits(A)
    assert state.additions.ask() == [A]


def test_what_an_earlier_transaction_asked_for_is_not_added_to_this_one() -> None:
    state = opened()
    state.admits(A)
    before = state.additions
    keys = before.ask()
    state.abort()
    assert state.is_stale, "the request may come late, so the next transaction has another epoch"
    before.partitions.update(keys)
    state.ended()
    state.identified(7, 1)
    state.begin(0)
    assert not state.admits(A)


def test_what_was_not_asked_for_before_the_abort_is_asked_for_no_more() -> None:
    """The task that asks may wake up when the next transaction has another epoch, and be fenced."""
    state = opened()
    state.admits(A)
    before = state.additions
    state.abort()
    assert not state.is_stale and not before.wants_more and before.ask() == []
    assert not before.were_asked_for, "there is nothing for the coordinator to end"


def test_a_doomed_transaction_takes_nothing_and_sends_nothing() -> None:
    state = opened()
    state.admits(A)
    add(state)
    cause = RequestTimedOut("lost")
    state.abort_only(cause)
    assert not state.admits(A)
    with pytest.raises(TransactionAborted, match="lost") as caught:
        state.check_open()
    assert caught.value.__cause__ is cause
    state.close()
    with pytest.raises(TransactionAborted):
        state.check_sound()
    state.abort()
    state.ended()
    state.begin(0)
    state.check_open()


def test_an_abort_is_clean_when_all_that_was_asked_is_answered() -> None:
    state = opened()
    state.admits(A)
    add(state)
    state.additions.ask_group("g")
    state.additions.groups.add("g")
    state.abort()
    assert not state.is_stale
    assert not state.was_never_begun(ErrorCode.INVALID_TXN_STATE)


def test_invalid_txn_state_for_an_abort_of_nothing_is_its_end() -> None:
    state = opened()
    state.admits(A)
    state.additions.ask()
    state.abort()
    assert state.was_never_begun(ErrorCode.INVALID_TXN_STATE)
    assert not state.was_never_begun(ErrorCode.PRODUCER_FENCED)
    assert not committing().was_never_begun(ErrorCode.INVALID_TXN_STATE)


RETRIED = {
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS: Reaction.RETRY,
    ErrorCode.CONCURRENT_TRANSACTIONS: Reaction.RETRY,
    ErrorCode.REQUEST_TIMED_OUT: Reaction.RETRY,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: Reaction.RETRY,
    ErrorCode.COORDINATOR_NOT_AVAILABLE: Reaction.FIND,
    ErrorCode.NOT_COORDINATOR: Reaction.FIND,
}


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize("code", RETRIED)
def test_what_may_pass_is_retried_by_every_api(api: ApiKey, code: ErrorCode) -> None:
    assert reaction(api, broker_error(code)) is RETRIED[code]


FINAL = {
    (INIT, ErrorCode.PRODUCER_FENCED): Reaction.FAIL,
    (INIT, ErrorCode.INVALID_TRANSACTION_TIMEOUT): Reaction.FAIL,
    (INIT, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED): Reaction.FAIL,
    (INIT, ErrorCode.UNKNOWN_SERVER_ERROR): Reaction.FAIL,
    (ADD, ErrorCode.PRODUCER_FENCED): Reaction.FAIL,
    (ADD, ErrorCode.INVALID_PRODUCER_EPOCH): Reaction.FAIL,
    (ADD, ErrorCode.INVALID_TXN_STATE): Reaction.FAIL,
    (ADD, ErrorCode.INVALID_PRODUCER_ID_MAPPING): Reaction.FAIL,
    (ADD, ErrorCode.TOPIC_AUTHORIZATION_FAILED): Reaction.ABORT,
    (ADD, ErrorCode.UNKNOWN_SERVER_ERROR): Reaction.ABORT,
    (ADD, ErrorCode.TRANSACTION_ABORTABLE): Reaction.ABORT,
    (PRODUCE, ErrorCode.INVALID_PRODUCER_EPOCH): Reaction.ABORT,
    (PRODUCE, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER): Reaction.ABORT,
    (PRODUCE, ErrorCode.UNKNOWN_PRODUCER_ID): Reaction.ABORT,
    (PRODUCE, ErrorCode.INVALID_TXN_STATE): Reaction.ABORT,
    (PRODUCE, ErrorCode.TRANSACTION_ABORTABLE): Reaction.ABORT,
    (PRODUCE, ErrorCode.INVALID_RECORD): Reaction.ABORT,
    (PRODUCE, ErrorCode.INVALID_PRODUCER_ID_MAPPING): Reaction.FAIL,
    (GROUP, ErrorCode.GROUP_AUTHORIZATION_FAILED): Reaction.ABORT,
    (GROUP, ErrorCode.TRANSACTION_ABORTABLE): Reaction.ABORT,
    (GROUP, ErrorCode.PRODUCER_FENCED): Reaction.FAIL,
    (OFFSETS, ErrorCode.ILLEGAL_GENERATION): Reaction.ABORT,
    (OFFSETS, ErrorCode.UNKNOWN_MEMBER_ID): Reaction.ABORT,
    (OFFSETS, ErrorCode.FENCED_INSTANCE_ID): Reaction.ABORT,
    (OFFSETS, ErrorCode.REBALANCE_IN_PROGRESS): Reaction.ABORT,
    (OFFSETS, ErrorCode.STALE_MEMBER_EPOCH): Reaction.ABORT,
    (OFFSETS, ErrorCode.INVALID_PRODUCER_EPOCH): Reaction.ABORT,
    (OFFSETS, ErrorCode.TRANSACTION_ABORTABLE): Reaction.ABORT,
    (OFFSETS, ErrorCode.PRODUCER_FENCED): Reaction.FAIL,
    (END, ErrorCode.PRODUCER_FENCED): Reaction.FAIL,
    (END, ErrorCode.INVALID_TXN_STATE): Reaction.FAIL,
    (END, ErrorCode.UNKNOWN_SERVER_ERROR): Reaction.FAIL,
}


@pytest.mark.parametrize(("api", "code"), FINAL)
def test_what_does_not_pass_ends_the_transaction_or_the_producer(api: ApiKey, code: ErrorCode) -> None:
    assert reaction(api, broker_error(code)) is FINAL[api, code]


def test_errors_of_the_connection_look_for_the_coordinator_and_others_are_final() -> None:
    assert reaction(END, Disconnected("cut")) is Reaction.FIND
    assert reaction(END, RequestTimedOut("silence")) is Reaction.FIND
    assert reaction(INIT, UnsupportedVersion("old")) is Reaction.FAIL


def test_a_failure_stays_and_is_raised_at_every_call() -> None:
    state = opened()
    error = broker_error(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    assert state.react(ADD, error, 0) is Reaction.FAIL
    failure = state.failure
    assert type(failure) is ProducerFailed and failure.__cause__ is error
    assert state.fail(RequestTimedOut("later"), 0) is failure
    for check in (state.check_open, state.check_sound):
        with pytest.raises(ProducerFailed, match="make another"):
            check()


def fence(state: Transactions, now: float) -> str:
    state.react(END, broker_error(ErrorCode.PRODUCER_FENCED), now)
    assert isinstance(state.failure, ProducerFenced)
    assert state.failure.timed_out == ("was open for" in str(state.failure))
    return str(state.failure)


def test_a_fence_says_who_and_what_to_do() -> None:
    text = fence(opened(100), 103)
    assert "another producer with this id has begun" in text and "give each an id of its own" in text
    text = fence(opened(100), 161)
    assert "open for 61.0 s, and transaction_timeout_ms allows 60 s" in text and "make another" in text
    idle = Transactions("tx", 60_000)
    idle.identified(7, 0)
    assert "another producer" in fence(idle, 1e6), "no transaction was open"


def test_whether_a_fenced_commit_can_have_been_carried_out() -> None:
    state = committing()
    fence(state, 1)
    assert state.was_fenced_before_its_end
    doubtful = committing()
    doubtful.may_be_late(END)
    fence(doubtful, 1)
    assert not doubtful.was_fenced_before_its_end, "the request without an answer may have committed it"


@pytest.mark.parametrize(
    ("api", "is_stale"),
    [(END, True), (OFFSETS, True), (ADD, False), (GROUP, False), (INIT, False)],
)
def test_a_request_that_would_do_harm_late_takes_the_epoch_with_it(api: ApiKey, is_stale: bool) -> None:
    state = opened()
    state.may_be_late(api)
    assert state.is_stale is is_stale
    state.identified(7, 1)
    assert not state.is_stale


@pytest.mark.parametrize("error", [RequestTimedOut("x"), broker_error(ErrorCode.TRANSACTION_ABORTABLE)])
def test_only_an_open_transaction_can_be_doomed(error: ClientError) -> None:
    state = committing()
    state.abort_only(error)
    assert state.doom is None and state.phase is Phase.COMMITTING
