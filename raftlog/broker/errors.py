"""Kafka's error codes for what the layers below answer: one `match` a source.

None of them is UNKNOWN_SERVER_ERROR: to every client it is fatal, and whatever happened here may be tried
again.
"""

from __future__ import annotations

from typing import Final, assert_never

from raftlog.cluster.admin import AdminError
from raftlog.cluster.groups import GroupError
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.transactions.coordinator import TransactionError
from raftlog.metadata.noun import Refusal, Refused, Result
from raftlog.partition.values import PartitionError
from raftlog.protocol.errors import ErrorCode

NO_AUTHORIZER: Final = "No Authorizer is configured."
"""In Kafka's words: tools look for them."""
NO_TRANSACTIONS: Final = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
"""What a producer with a transactional id is told while a broker of an older build is in the cluster: the one
code that every client takes as final where it looks for its coordinator. librdkafka asks again for ever after
any other, so that `init_transactions` times out and nobody learns why."""


def partition_error_code(error: PartitionError | None) -> ErrorCode:
    """The code for what a partition refused; NONE for None."""
    match error:
        case None:
            return ErrorCode.NONE
        case PartitionError.NOT_LEADER:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        case PartitionError.MAY_STILL_HAPPEN:
            # Not NOT_LEADER_OR_FOLLOWER: librdkafka takes that to mean "surely not written".
            return ErrorCode.REQUEST_TIMED_OUT
        case PartitionError.STORAGE_FAILED:
            return ErrorCode.KAFKA_STORAGE_ERROR
        case PartitionError.CORRUPT_BATCH:
            return ErrorCode.CORRUPT_MESSAGE
        case PartitionError.UNSUPPORTED_BATCH:
            return ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT
        case PartitionError.INVALID_RECORD:
            return ErrorCode.INVALID_RECORD
        case PartitionError.BATCH_TOO_LARGE:
            return ErrorCode.MESSAGE_TOO_LARGE
        case PartitionError.INVALID_TIMESTAMP:
            return ErrorCode.INVALID_TIMESTAMP
        case PartitionError.OUT_OF_SEQUENCE:
            return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        case PartitionError.STALE_PRODUCER_EPOCH:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        case PartitionError.OFFSET_OUT_OF_RANGE:
            return ErrorCode.OFFSET_OUT_OF_RANGE
        case PartitionError.OFFSET_NOT_AVAILABLE:
            return ErrorCode.OFFSET_NOT_AVAILABLE
        case PartitionError.FENCED_LEADER_EPOCH:
            return ErrorCode.FENCED_LEADER_EPOCH
        case PartitionError.UNKNOWN_LEADER_EPOCH:
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        case PartitionError.OVERLOADED:
            return ErrorCode.NOT_ENOUGH_REPLICAS
        case PartitionError.NO_TRANSACTIONAL_ID:
            return ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        case PartitionError.NOT_IN_TRANSACTION:
            return ErrorCode.INVALID_TXN_STATE
        case PartitionError.WRONG_PRODUCER_ID:
            return ErrorCode.INVALID_PRODUCER_ID_MAPPING
        case PartitionError.OFFSET_MISMATCH:
            # No client tries again after it, and Produce has no other use of it.
            return ErrorCode.OFFSET_OUT_OF_RANGE
        case PartitionError.UNVERIFIED:
            # Not a code of coordinators: every client sends the batch again after this one.
            return ErrorCode.NOT_ENOUGH_REPLICAS
        case _:
            assert_never(error)


def group_error_code(error: GroupError) -> ErrorCode:
    """The code for what the group coordinator refused."""
    match error:
        case GroupError.NONE:
            return ErrorCode.NONE
        case GroupError.NOT_COORDINATOR:
            return ErrorCode.NOT_COORDINATOR
        case GroupError.INVALID_GROUP_ID:
            return ErrorCode.INVALID_GROUP_ID
        case GroupError.INVALID_SESSION_TIMEOUT:
            return ErrorCode.INVALID_SESSION_TIMEOUT
        case GroupError.INCONSISTENT_GROUP_PROTOCOL:
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        case GroupError.MEMBER_ID_REQUIRED:
            return ErrorCode.MEMBER_ID_REQUIRED
        case GroupError.UNKNOWN_MEMBER_ID:
            return ErrorCode.UNKNOWN_MEMBER_ID
        case GroupError.FENCED_INSTANCE_ID:
            return ErrorCode.FENCED_INSTANCE_ID
        case GroupError.ILLEGAL_GENERATION:
            return ErrorCode.ILLEGAL_GENERATION
        case GroupError.REBALANCE_IN_PROGRESS:
            return ErrorCode.REBALANCE_IN_PROGRESS
        case GroupError.GROUP_MAX_SIZE_REACHED:
            return ErrorCode.GROUP_MAX_SIZE_REACHED
        case GroupError.GROUP_ID_NOT_FOUND:
            return ErrorCode.GROUP_ID_NOT_FOUND
        case GroupError.NON_EMPTY_GROUP:
            return ErrorCode.NON_EMPTY_GROUP
        case GroupError.GROUP_SUBSCRIBED_TO_TOPIC:
            return ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
        case _:
            assert_never(error)


def transaction_error_code(error: TransactionError, *, fenced: ErrorCode) -> ErrorCode:
    """The code for a step of a transaction that was not taken. `fenced`: what the API and version say to a
    producer that has a successor. What may happen later is never REQUEST_TIMED_OUT, nor is anything
    UNKNOWN_SERVER_ERROR: to aiokafka and Java both are the end of the producer."""
    match error:
        case TransactionError.NOT_COORDINATOR:
            return ErrorCode.NOT_COORDINATOR
        case TransactionError.NOT_AVAILABLE:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        case TransactionError.CONCURRENT:
            return ErrorCode.CONCURRENT_TRANSACTIONS
        case TransactionError.UNKNOWN_ID:
            return ErrorCode.INVALID_PRODUCER_ID_MAPPING
        case TransactionError.FENCED:
            return fenced
        case TransactionError.WRONG_STATE:
            return ErrorCode.INVALID_TXN_STATE
        case TransactionError.INVALID_REQUEST:
            return ErrorCode.INVALID_REQUEST
        case TransactionError.TOO_LARGE:
            return ErrorCode.POLICY_VIOLATION
        case _:
            assert_never(error)


def admin_error_code(error: AdminError) -> ErrorCode:
    """The code for what an administrator was refused."""
    match error:
        case AdminError.TOPIC_EXISTS:
            return ErrorCode.TOPIC_ALREADY_EXISTS
        case AdminError.UNKNOWN_TOPIC:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        case AdminError.UNKNOWN_TOPIC_ID:
            return ErrorCode.UNKNOWN_TOPIC_ID
        case AdminError.INVALID_TOPIC:
            return ErrorCode.INVALID_TOPIC_EXCEPTION
        case AdminError.INVALID_PARTITIONS:
            return ErrorCode.INVALID_PARTITIONS
        case AdminError.INVALID_REPLICATION_FACTOR:
            return ErrorCode.INVALID_REPLICATION_FACTOR
        case AdminError.INVALID_REPLICA_ASSIGNMENT:
            return ErrorCode.INVALID_REPLICA_ASSIGNMENT
        case AdminError.INVALID_CONFIG:
            return ErrorCode.INVALID_CONFIG
        case AdminError.INVALID_REQUEST:
            return ErrorCode.INVALID_REQUEST
        case AdminError.NO_MOVE:
            return ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
        case AdminError.UNKNOWN_BROKER:
            return ErrorCode.BROKER_ID_NOT_REGISTERED
        case AdminError.ELECTION_NOT_NEEDED:
            return ErrorCode.ELECTION_NOT_NEEDED
        case AdminError.PREFERRED_LEADER_NOT_AVAILABLE:
            return ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
        case AdminError.TIMED_OUT:
            return ErrorCode.REQUEST_TIMED_OUT
        case AdminError.UNAVAILABLE:
            # Clients ask for metadata again and retry, which is right: who leads is changing.
            return ErrorCode.NOT_CONTROLLER
        case _:
            assert_never(error)


def refusal_code(result: Result | ProposalFailed) -> ErrorCode:
    """The code for what a command about groups came to; NONE when it was applied."""
    if isinstance(result, ProposalFailed):
        # Doing it again does no harm; clients look for the coordinator first.
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if isinstance(result, Refused) and result.reason is not Refusal.UNKNOWN_GROUP:
        return ErrorCode.INVALID_REQUEST
    return ErrorCode.NONE  # a group without offsets is what was asked for
