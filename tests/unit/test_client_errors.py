"""What another attempt may mend, and what is said when none can."""

from __future__ import annotations

import pytest

from raftlog.client.errors import (
    BrokerError,
    ClientError,
    DeliveryError,
    NoTransaction,
    ProducerFailed,
    ProducerFenced,
    RecordTooLarge,
    RequestTimedOut,
    TransactionAborted,
    may_pass,
)
from raftlog.connect import sourcing
from raftlog.protocol.errors import ErrorCode
from raftlog.streams.errors import commits_no_more


def delivery() -> DeliveryError:
    return DeliveryError("not acknowledged", topic="t", partition=0, records=1, may_be_written=True)


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        (ErrorCode.INVALID_PRODUCER_EPOCH, True),
        (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, True),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, True),
        (ErrorCode.MESSAGE_TOO_LARGE, False),
        (ErrorCode.TOPIC_AUTHORIZATION_FAILED, False),
    ],
)
def test_what_failed_may_pass_by_its_first_cause(code: ErrorCode, passes: bool) -> None:
    for outer in (TransactionAborted("aborted"), NoTransaction("aborted"), delivery()):
        outer.__cause__ = BrokerError(code)
        assert may_pass(outer) is passes, outer
        again = TransactionAborted("aborted")
        again.__cause__ = outer
        assert may_pass(again) is passes, outer
    assert may_pass(BrokerError(code)) is passes


@pytest.mark.parametrize(
    "error", [TransactionAborted("aborted"), NoTransaction("aborted"), delivery(), RequestTimedOut("late")]
)
def test_what_no_broker_has_refused_may_pass(error: ClientError) -> None:
    assert may_pass(error)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ProducerFenced("another"), "another worker"),
        (ProducerFenced("open for 12 s", timed_out=True), "took so long"),
        (ProducerFailed("TRANSACTIONAL_ID_AUTHORIZATION_FAILED"), "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"),
    ],
)
def test_who_uses_a_producer_says_why_it_does_no_more_transactions(error: ProducerFailed, told: str) -> None:
    """A worker that had slept, or had lost its rights, was told that another one had taken over."""
    for text in (str(commits_no_more("w", error)), str(sourcing._commits_no_more(error))):
        assert told in text and ("another worker" in text) == (told == "another worker")


def test_a_record_that_is_too_large_stays_so() -> None:
    assert not may_pass(RecordTooLarge(ErrorCode.MESSAGE_TOO_LARGE))
