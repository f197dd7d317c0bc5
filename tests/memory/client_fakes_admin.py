"""The admin half of the scripted cluster: topics, settings, groups, brokers, as far as a test can tell.

What goes to a partition's leader, to the coordinator or to the controller is refused by other brokers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from tests.memory.client_fakes import FakeLog

Fields = dict[str, Any]

SERVED = frozenset(
    (
        ApiKey.DELETE_TOPICS, ApiKey.CREATE_PARTITIONS, ApiKey.DELETE_RECORDS, ApiKey.DESCRIBE_CONFIGS,
        ApiKey.INCREMENTAL_ALTER_CONFIGS, ApiKey.LIST_GROUPS, ApiKey.DESCRIBE_GROUPS, ApiKey.DELETE_GROUPS,
        ApiKey.OFFSET_DELETE, ApiKey.DESCRIBE_CLUSTER, ApiKey.ALTER_PARTITION_REASSIGNMENTS,
        ApiKey.LIST_PARTITION_REASSIGNMENTS, ApiKey.DESCRIBE_LOG_DIRS, ApiKey.ELECT_LEADERS,
        ApiKey.UNREGISTER_BROKER, ApiKey.DESCRIBE_QUORUM,
    )
)  # fmt: skip


FOR_COORDINATOR = frozenset((ApiKey.DESCRIBE_GROUPS, ApiKey.DELETE_GROUPS, ApiKey.OFFSET_DELETE))
FOR_CONTROLLER = frozenset(
    (
        ApiKey.CREATE_TOPICS, ApiKey.DELETE_TOPICS, ApiKey.CREATE_PARTITIONS, ApiKey.ELECT_LEADERS,
        ApiKey.ALTER_PARTITION_REASSIGNMENTS, ApiKey.LIST_PARTITION_REASSIGNMENTS, ApiKey.UNREGISTER_BROKER,
    )
)  # fmt: skip


class FakeAdmin:
    """What `Admin` and `Operations` ask; `FakeCluster` is one."""

    logs: dict[tuple[str, int], FakeLog]
    topics: dict[str, bytes]
    brokers: set[int]
    committed: dict[tuple[str, int], int]
    groups: set[str]
    configs: dict[str, str | None]
    moved: dict[tuple[str, int], list[int]]
    make_log: Callable[[int], FakeLog]
    coordinator: int
    controller: int
    """Who takes admin requests; 0 for any broker, as raftlog's do."""

    def refusal(self, broker: int, api: ApiKey) -> ErrorCode:
        """How a broker answers a request that another one should have got."""
        if api in FOR_CONTROLLER and self.controller not in (0, broker):
            return ErrorCode.NOT_CONTROLLER
        if api in FOR_COORDINATOR and self.coordinator != broker:
            return ErrorCode.NOT_COORDINATOR
        return ErrorCode.NONE

    async def _delete_topics(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        responses = []
        for topic in message.topics:
            code = error or (
                ErrorCode.NONE if topic.name in self.topics else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            )
            if not code:
                del self.topics[topic.name]
                self.logs = {key: log for key, log in self.logs.items() if key[0] != topic.name}
            responses.append(_result(code, name=topic.name, topic_id=bytes(16)))
        return {"responses": responses}

    async def _create_partitions(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        results = []
        for topic in message.topics:
            have = sum(name == topic.name for name, _ in self.logs)
            if not error:
                for number in range(have, topic.count):
                    self.logs[str(topic.name), number] = self.make_log(broker)
            results.append(_result(error, name=topic.name))
        return {"results": results}

    async def _delete_records(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        topics = []
        for topic in message.topics:
            rows = []
            for one in topic.partitions:
                log = self.logs[str(topic.name), int(one.partition_index)]
                code = error or (ErrorCode.NONE if log.leader == broker else ErrorCode.NOT_LEADER_OR_FOLLOWER)
                if not code:
                    log.start = log.end if one.offset == -1 else int(one.offset)
                rows.append(
                    {"partition_index": one.partition_index, "low_watermark": log.start, "error_code": code}
                )
            topics.append({"name": topic.name, "partitions": rows})
        return {"topics": topics}

    async def _describe_configs(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        configs = [
            {
                "name": name, "value": value, "read_only": False, "config_source": 1, "is_sensitive": False,
                "synonyms": [], "config_type": 2, "documentation": None,
            }
            for name, value in self.configs.items()
        ]  # fmt: skip
        rows = [_result(error, **_named(resource), configs=configs) for resource in message.resources]
        return {"results": rows}

    async def _incremental_alter_configs(
        self, broker: int, message: Any, error: ErrorCode, version: int
    ) -> Fields:
        (resource,) = message.resources
        if not error:
            self.configs |= {config.name: config.value for config in resource.configs}
        return {"responses": [_result(error, **_named(resource))]}

    async def _list_groups(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        groups = [
            {"group_id": name, "protocol_type": "consumer", "group_state": "Empty", "group_type": "classic"}
            for name in sorted(self.groups)
        ]
        return {"error_code": error, "groups": groups}

    async def _describe_groups(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        groups = [
            _result(
                error, group_id=name, group_state="Empty", protocol_type="", protocol_data="", members=[],
                authorized_operations=-1,
            )
            for name in message.groups
        ]  # fmt: skip
        return {"groups": groups}

    async def _delete_groups(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        results = []
        for name in message.groups_names:
            code = error or (ErrorCode.NONE if name in self.groups else ErrorCode.GROUP_ID_NOT_FOUND)
            if not code:
                self.groups.discard(name)
            results.append({"group_id": name, "error_code": code})
        return {"results": results}

    async def _offset_delete(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        topics = []
        for topic in message.topics:
            rows = []
            for one in topic.partitions:
                if not error:
                    self.committed.pop((str(topic.name), int(one.partition_index)), None)
                rows.append({"partition_index": one.partition_index, "error_code": ErrorCode.NONE})
            topics.append({"name": topic.name, "partitions": rows})
        return {"error_code": error, "topics": topics}

    async def _describe_cluster(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        brokers = [
            {"broker_id": b, "host": f"b{b}", "port": 9092, "rack": None, "is_fenced": False}
            for b in sorted(self.brokers)
        ]
        return _result(
            error, endpoint_type=1, cluster_id="fake", controller_id=self.controller or 1, brokers=brokers
        )

    async def _describe_quorum(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        voters = [
            {
                "replica_id": b, "log_end_offset": 1, "last_fetch_timestamp": None,
                "last_caught_up_timestamp": None, "replica_directory_id": None,
            }
            for b in sorted(self.brokers)
        ]  # fmt: skip
        row = {
            "partition_index": 0, "error_code": ErrorCode.NONE, "error_message": None, "leader_epoch": 1,
            "leader_id": self.controller or 1, "high_watermark": 1, "current_voters": voters, "observers": [],
        }  # fmt: skip
        topics = [{"topic_name": topic.topic_name, "partitions": [row]} for topic in message.topics]
        return _result(error, topics=topics, nodes=[])

    async def _alter_partition_reassignments(
        self, broker: int, message: Any, error: ErrorCode, version: int
    ) -> Fields:
        responses = []
        for topic in message.topics:
            rows = []
            for one in topic.partitions:
                if not error:
                    self.moved[str(topic.name), int(one.partition_index)] = list(one.replicas)
                rows.append(_result(ErrorCode.NONE, partition_index=one.partition_index))
            responses.append({"name": topic.name, "partitions": rows})
        return _result(error, responses=responses, allow_replication_factor_change=True)

    async def _list_partition_reassignments(
        self, broker: int, message: Any, error: ErrorCode, version: int
    ) -> Fields:
        topics = [
            {
                "name": topic,
                "partitions": [
                    {
                        "partition_index": number, "replicas": replicas, "adding_replicas": [],
                        "removing_replicas": [],
                    }
                ],
            }
            for (topic, number), replicas in self.moved.items()
        ]  # fmt: skip
        return _result(error, topics=topics)

    async def _describe_log_dirs(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        topics = [
            {
                "name": topic.topic,
                "partitions": [
                    {
                        "partition_index": number, "offset_lag": 0, "is_future_key": False,
                        "partition_size": len(self.logs[str(topic.topic), int(number)].data),
                    }
                    for number in topic.partitions
                ],
            }
            for topic in message.topics
        ]  # fmt: skip
        folder = {"error_code": error, "log_dir": "/", "topics": topics, "total_bytes": 0, "usable_bytes": 0}
        return {"error_code": error, "results": [folder]}

    async def _elect_leaders(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        return {"error_code": error, "replica_election_results": []}

    async def _unregister_broker(self, broker: int, message: Any, error: ErrorCode, version: int) -> Fields:
        if not error:
            self.brokers.discard(message.broker_id)
        return _result(error)


def _result(code: ErrorCode, **fields: Any) -> Fields:
    return {"error_code": code, "error_message": None, **fields}


def _named(resource: Any) -> Fields:
    return {"resource_type": resource.resource_type, "resource_name": resource.resource_name}
