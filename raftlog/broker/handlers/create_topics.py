"""CreateTopics (19), v2 to v7: create topics.

Behaviour: answered when the new partitions have leaders, so that they can be produced to through any broker
at once. -1 partitions or replicas mean the broker's default (KIP-464). `validate_only` checks and creates
nothing. Each topic succeeds or fails by itself; one that is named twice fails.
Missing on purpose: the new topic's settings in the answer (v5); clients ask DescribeConfigs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.concurrent import for_each_once
from raftlog.broker.creating import TOO_FAST, may_create, may_mutate
from raftlog.broker.errors import admin_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.admin import AdminError, AdminFailure, NewTopic
from raftlog.metadata.catalog import Topic
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.schema import ZERO_UUID, patience_s
from raftlog.rights import Operation, ResourceKind
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from raftlog.protocol.requests import CreatableTopic, CreateTopicsRequest


STRICT_FROM: Final = 6
"""The version from which on who has used up its quota is refused, and not just slowed down (KIP-599)."""


async def handle(call: Call, request: CreateTopicsRequest) -> Answer:
    timeout = patience_s(request.timeout)

    async def create(wanted: CreatableTopic) -> dict[str, object]:
        if not may_create(call, wanted.name):
            text = call.why_not(Operation.CREATE, ResourceKind.TOPIC, wanted.name)
            return _failed(wanted.name, ErrorCode.TOPIC_AUTHORIZATION_FAILED, text)
        if not request.validate_only and not may_mutate(call, _partitions(call, wanted), STRICT_FROM):
            return _failed(wanted.name, ErrorCode.THROTTLING_QUOTA_EXCEEDED, TOO_FAST)
        new = _new_topic(wanted)
        outcome = (
            new
            if isinstance(new, AdminFailure)
            else await call.backend.admin.create_topic(
                new, timeout=timeout, validate_only=request.validate_only
            )
        )
        if isinstance(outcome, AdminFailure) and outcome.error is not AdminError.TOPIC_EXISTS:
            call.refuse(wanted.name, outcome.message)
        return _result(wanted.name, outcome)

    def named_twice(wanted: CreatableTopic) -> dict[str, object]:
        failure = AdminFailure(AdminError.INVALID_REQUEST, f"topic {wanted.name!r} is named more than once")
        call.refuse(wanted.name, failure.message)
        return _result(wanted.name, failure)

    return {"topics": await for_each_once(request.topics, lambda topic: topic.name, create, named_twice)}


def _partitions(call: Call, wanted: CreatableTopic) -> int:
    if wanted.assignments:
        return len(wanted.assignments)
    return max(wanted.num_partitions, 0) or call.backend.config.int("num.partitions")


def _new_topic(wanted: CreatableTopic) -> NewTopic | AdminFailure:
    configs: dict[str, str] = {}
    for config in wanted.configs:
        if config.value is None:
            message = f"{config.name} = null: leave it out for the default"
            return AdminFailure(AdminError.INVALID_CONFIG, message)
        configs[config.name] = config.value
    assignments: dict[int, tuple[BrokerId, ...]] = {
        each.partition_index: tuple(map(BrokerId, each.broker_ids)) for each in wanted.assignments
    }
    if sorted(assignments) != list(range(len(wanted.assignments))):
        return AdminFailure(
            AdminError.INVALID_REPLICA_ASSIGNMENT,
            f"assignments are for partitions {sorted(assignments)}, not for 0 and on without a gap",
        )
    return NewTopic(
        name=wanted.name,
        partitions=wanted.num_partitions,
        replication_factor=wanted.replication_factor,
        assignments=tuple(assignments[index] for index in range(len(assignments))) or None,
        configs=configs,
    )


def _failed(name: str, code: ErrorCode, text: str) -> dict[str, object]:
    return {
        "name": name,
        "topic_id": ZERO_UUID,
        "error_code": code,
        "error_message": text,
        "configs": [],
    }


def _result(name: str, outcome: Topic | AdminFailure) -> dict[str, object]:
    if isinstance(outcome, AdminFailure):
        return _failed(name, admin_error_code(outcome.error), outcome.message)
    return {
        "name": name,
        "topic_id": outcome.topic_id,
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "num_partitions": len(outcome.partitions),
        "replication_factor": outcome.replication_factor,
        "configs": [],
    }
