"""What the client raises, by whose fault it is.

`BrokerError` is an answer of the broker's that retries could not turn into success; the errors that users
catch by name are classes under it, every other code is a plain `BrokerError` with its `code`. The rest are
the client's own: no answer in time, nothing to connect to, a call that makes no sense now.

A failure to write is never vague: `DeliveryError.may_be_written` says whether the records can be in the log.
"""

from __future__ import annotations

from typing import Any, Final

from raftlog.client.record import Record
from raftlog.errors import RaftlogError
from raftlog.protocol.errors import ErrorCode


class ClientError(RaftlogError):
    """Everything that the client raises on purpose."""


class Closed(ClientError):
    """The client, producer or consumer was used after its `async with`."""


class Disconnected(ClientError):
    """The connection broke, or could not be made; whether the request was carried out is unknown."""


class AuthenticationFailed(ClientError):
    """A broker does not take this client's login or certificate, or is not who it should be. It is not tried
    again by itself: whoever waits for a broker gets it at once."""


class RequestTimedOut(ClientError):
    """A call took longer than its time-out. `__cause__` is why, as far as that is known: the last error that
    was retried, or what keeps the client from its brokers. The message says it, too."""


class NotOnTrio(ClientError, RuntimeError):
    """A client was opened outside of Trio, under asyncio for instance."""


class UnsupportedVersion(ClientError):
    """The broker does not speak a version of an API that this client speaks."""


class NotAssigned(ClientError, KeyError):
    """A consumer was asked about a partition that it does not read now."""

    __str__ = ClientError.__str__  # a KeyError's would be in quotes


class NoOffset(ClientError):
    """A partition has no committed offset, or an offset out of range, and `auto_offset_reset` is "none"."""

    def __init__(self, message: str, *, topic: str, partition: int) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition


class RebalanceNeeded(ClientError):
    """A commit came too late: the group has given the partitions to another member."""


class NoTransaction(ClientError):
    """A producer with a `transactional_id` was given a record outside of a transaction."""


class TransactionAborted(ClientError):
    """The transaction is aborted, or can only be; `__cause__` says why. The producer goes on: the same work
    may be done again in another transaction. KIP-1050 calls these errors abortable."""


class CommitUnknown(ClientError):
    """A commit was not answered in time: the transaction is committed, or will be, or was aborted.

    `Transaction.settle` finds out, and so does the producer's next transaction before it begins.
    """


class ProducerFailed(ClientError):
    """The producer can do no more transactions; `__cause__` says why. Leave its `async with` and make
    another: the coordinator aborts what was open. KIP-1050 calls these errors application-recoverable."""


class ProducerFenced(ProducerFailed):
    """Another producer has taken the `transactional_id`, or a transaction was open for too long: then
    `timed_out` is True."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class DeserializationError(ClientError):
    """A deserializer raised, which is `__cause__`. `record` is the record as it is in the log, in bytes.

    The records before it have been handed out, and the consumer's position is on it: reading goes on behind
    it after `consumer.seek(error.topic, error.partition, error.offset + 1)`.
    """

    def __init__(self, record: Record, field: str, cause: Exception) -> None:
        topic, partition, offset = record.topic, record.partition, record.offset
        super().__init__(
            f"{topic}-{partition} at offset {offset}: the {field} deserializer raised"
            f" {type(cause).__name__}: {cause}"
            f" (consumer.seek({topic!r}, {partition}, {offset + 1}) goes on behind it)"
        )
        self.__cause__ = cause
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.record = record


class DeliveryError(ClientError):
    """Records were not acknowledged. `__cause__` says why.

    `may_be_written` is False when the records are certainly not in the log, True when nobody knows.
    """

    def __init__(
        self, message: str, *, topic: str, partition: int, records: int, may_be_written: bool
    ) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition
        self.records = records
        self.may_be_written = may_be_written


class NotSupported(UnsupportedVersion, DeliveryError):
    """A record was to be appended in a way that the broker does not know. Nothing was sent."""

    def __init__(self, message: str, *, topic: str, partition: int) -> None:
        DeliveryError.__init__(
            self, message, topic=topic, partition=partition, records=1, may_be_written=False
        )


class BrokerError(ClientError):
    """The broker's answer was an error."""

    def __init__(self, code: int, message: str | None = None) -> None:
        self.code = ErrorCode.of(code)
        name = self.code.name if self.code == code else f"error {code}"
        super().__init__(f"{name}: {message}" if message else name)

    @property
    def retriable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code.retriable


class UnknownTopic(BrokerError):
    """The topic or the partition does not exist."""


class TopicExists(BrokerError):
    """The topic exists already."""


class InvalidTopic(BrokerError):
    """The topic's name is not allowed."""


class RecordTooLarge(BrokerError, DeliveryError):
    """A record is larger than the producer, the topic or the broker takes. It is in no log."""

    def __init__(
        self, code: int, message: str | None = None, *, topic: str = "", partition: int = -1
    ) -> None:
        self.code = ErrorCode.of(code)
        DeliveryError.__init__(
            self,
            message or self.code.name,
            topic=topic,
            partition=partition,
            records=1,
            may_be_written=False,
        )


class OffsetMismatch(BrokerError, DeliveryError):
    """The partition's log does not end at the `expected_offset` that the record was to get: it ends at `end`,
    and another record may be there already. The record was not appended."""

    def __init__(
        self, message: str, *, end: int, expected: int, topic: str, partition: int, may_be_written: bool
    ) -> None:
        self.code = ErrorCode.OFFSET_OUT_OF_RANGE
        DeliveryError.__init__(
            self, message, topic=topic, partition=partition, records=1, may_be_written=may_be_written
        )
        self.end = end
        self.expected = expected


class OffsetOutOfRange(BrokerError):
    """The log does not hold this offset."""


class UnknownGroup(BrokerError):
    """The group does not exist."""


class GroupNotEmpty(BrokerError):
    """The group has members, so this cannot be done to it."""


class NotAuthorized(BrokerError):
    """The broker does not allow this to this user."""


class FencedInstance(BrokerError):
    """Another consumer has joined the group with the same `group_instance_id`."""


_CLASSES: Final[dict[ErrorCode, type[BrokerError]]] = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: UnknownTopic,
    ErrorCode.UNKNOWN_TOPIC_ID: UnknownTopic,
    ErrorCode.TOPIC_ALREADY_EXISTS: TopicExists,
    ErrorCode.INVALID_TOPIC_EXCEPTION: InvalidTopic,
    ErrorCode.MESSAGE_TOO_LARGE: RecordTooLarge,
    ErrorCode.RECORD_LIST_TOO_LARGE: RecordTooLarge,
    ErrorCode.OFFSET_OUT_OF_RANGE: OffsetOutOfRange,
    ErrorCode.GROUP_ID_NOT_FOUND: UnknownGroup,
    ErrorCode.NON_EMPTY_GROUP: GroupNotEmpty,
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: NotAuthorized,
    ErrorCode.GROUP_AUTHORIZATION_FAILED: NotAuthorized,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: NotAuthorized,
    ErrorCode.FENCED_INSTANCE_ID: FencedInstance,
}


def broker_error(code: int, message: str | None = None) -> BrokerError:
    """The exception of an error code that is not NONE."""
    assert code != ErrorCode.NONE
    return _CLASSES.get(ErrorCode.of(code), BrokerError)(code, message)


def timed_out(message: str, reason: ClientError | None) -> RequestTimedOut:
    """The end of a wait: its message says the last reason, which is its cause."""
    error = RequestTimedOut(f"{message}: {reason}" if reason is not None else message)
    error.__cause__ = reason
    return error


def is_retriable(error: Exception) -> bool:
    """Whether a call may be tried again after this: the broker says so, or the connection broke."""
    match error:
        case BrokerError():
            return error.retriable
        case Disconnected() | RequestTimedOut():
            return True
        case _:
            return False


_OF_THE_EPOCH: Final = frozenset(
    {
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode.UNKNOWN_PRODUCER_ID,
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.INVALID_TXN_STATE,
        ErrorCode.TRANSACTION_ABORTABLE,
    }
)
"""The same request fails again. Another transaction, or one with the next epoch, does not."""


def may_pass(error: ClientError) -> bool:
    """Whether the same work may succeed in another try, once this one is over: in the next transaction, say.
    A transaction, or a record, that failed says by its cause what it failed with."""
    cause: BaseException | None = error
    while isinstance(cause, TransactionAborted | NoTransaction | DeliveryError):
        if isinstance(cause, BrokerError):
            break
        cause = cause.__cause__
    return not isinstance(cause, BrokerError) or cause.retriable or cause.code in _OF_THE_EPOCH


def error_in(one: Any, what: str) -> BrokerError | None:
    """The error that a part of an answer names, with the broker's own words; `what` it is about."""
    code = int(one.error_code)
    if code == ErrorCode.NONE:
        return None
    message = getattr(one, "error_message", None)
    return broker_error(code, f"{what}: {message}" if message else what)


def raise_error_in(one: Any, what: str) -> None:
    """Raise the error that a part of an answer names, if any."""
    error = error_in(one, what)
    if error is not None:
        raise error
