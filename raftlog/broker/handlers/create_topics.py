"""CreateTopics (19), v2 to v7: create topics.

Behaviour: answered when the new partitions have leaders, so that they can be produced to through any broker
at once. -1 partitions or replicas mean the broker's default (KIP-464). `validate_only` checks and creates
nothing. Each topic succeeds or fails by itself; one that is named twice fails.
Missing on purpose: the new topic's settings in the answer (v5); clients ask DescribeConfigs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.concurrent import for_each_once
from raftlog.broker.errors import admin_error_code
from raftlog.broker.registry import Answer
from raftlog.cluster.admin import AdminError, AdminFailure, NewTopic
from raftlog.metadata.catalog import Topic
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.schema import ZERO_UUID, patience_s
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from raftlog.protocol.requests import CreatableTopic, CreateTopicsRequest


async def handle(call: Call, request: CreateTopicsRequest) -> Answer:
    timeout = patience_s(request.timeout)

    async def create(wanted: CreatableTopic) -> dict[str, object]:
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


def _result(name: str, outcome: Topic | AdminFailure) -> dict[str, object]:
    if isinstance(outcome, AdminFailure):
        return {
            "name": name,
            "topic_id": ZERO_UUID,
            "error_code": admin_error_code(outcome.error),
            "error_message": outcome.message,
            "configs": [],
        }
    return {
        "name": name,
        "topic_id": outcome.topic_id,
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "num_partitions": len(outcome.partitions),
        "replication_factor": outcome.replication_factor,
        "configs": [],
    }
