"""What an operator asks of a cluster: topics, configurations, groups, offsets.

Each call retries what Kafka's admin clients retry, up to `default_api_timeout_ms`, and raises RequestTimedOut
after that. A call that is cancelled, or that times out, may have been carried out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from raftlog.client.admin_values import (
    ClusterDescription,
    ConfigEntry,
    GroupDescription,
    GroupListing,
    NewTopic,
    config_entry,
    creatable,
    group_member,
)
from raftlog.client.arguments import checked
from raftlog.client.assignment import EARLIEST, LATEST
from raftlog.client.cluster import Cluster
from raftlog.client.errors import BrokerError, broker_error, error_in, raise_error_in
from raftlog.client.group_protocol import by_topic
from raftlog.client.metadata import TopicPartition, TopicView
from raftlog.client.offsets import (
    CommittedOffset,
    OffsetAndTimestamp,
    commit_offsets,
    fetch_committed,
    list_offsets,
)
from raftlog.client.operations import Operations
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import Fields
from raftlog.protocol.errors import ErrorCode

T = TypeVar("T")

TOPIC_RESOURCE: Final = 2
BROKER_RESOURCE: Final = 4
SET: Final = 0
DELETE: Final = 1
MAX_TIMESTAMP: Final = -3
"""A time for `list_offsets`: the record with the largest timestamp (KIP-734)."""


@checked("ask_controller", "ask_broker", "retrying")
class Admin:
    """Administers a cluster: `client.admin`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __repr__(self) -> str:
        return f"<Admin {self._cluster.settings.bootstrap_servers}>"

    # -- topics

    async def create_topic(
        self,
        name: str,
        *,
        partitions: int = -1,
        replication_factor: int = -1,
        configs: Mapping[str, str] | None = None,
        exist_ok: bool = False,
        validate_only: bool = False,
    ) -> None:
        """Make a topic; it can be written to at once. Raises TopicExists unless `exist_ok`."""
        topic = NewTopic(
            name=name, partitions=partitions, replication_factor=replication_factor, configs=configs or {}
        )
        try:
            await self.create_topics([topic], validate_only=validate_only)
        except BrokerError as error:
            if error.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
                raise
            if not exist_ok:
                raise broker_error(error.code, f"{name!r} (exist_ok=True takes it as it is)") from error

    async def create_topics(self, topics: Iterable[NewTopic], *, validate_only: bool = False) -> None:
        """Make topics. What can be made is made; then the first error of the others is raised."""
        pending = {topic.name: topic for topic in topics}
        made = list(pending)

        async def attempt(timeout_ms: int) -> Any:
            wanted = [creatable(topic) for topic in pending.values()]
            fields = {"topics": wanted, "timeout": timeout_ms, "validate_only": validate_only}
            answer = await self._ask_controller(ApiKey.CREATE_TOPICS, fields)
            return [(str(one.name), one) for one in answer.topics]

        await self._for_each(pending, attempt, what=f"creation of {_names(made)}")
        if not validate_only and made:
            await self._until_led(made)

    async def delete_topic(self, name: str) -> None:
        """Delete a topic and its records. Raises UnknownTopic."""
        await self.delete_topics([name])

    async def delete_topics(self, names: Iterable[str]) -> None:
        """Delete topics. What can be deleted is; then the first error of the others is raised."""
        pending = dict.fromkeys(names)

        async def attempt(timeout_ms: int) -> Any:
            fields = {
                "topics": [{"name": name, "topic_id": None} for name in pending],
                "topic_names": list(pending),
                "timeout": timeout_ms,
            }
            answer = await self._ask_controller(ApiKey.DELETE_TOPICS, fields)
            return [(str(one.name), one) for one in answer.responses]

        final = {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        await self._for_each(pending, attempt, what=f"deletion of {_names(pending)}", final=final)
        self._cluster.request_update()

    async def list_topics(self, *, internal: bool = False) -> list[str]:
        """The names of all topics, sorted."""
        await self.retrying(lambda: self._cluster.describe_topics(None), "list of topics")
        views = self._cluster.metadata.topics.values()
        return sorted(view.name for view in views if internal or not view.is_internal)

    async def describe_topic(self, name: str) -> TopicView:
        """A topic's partitions, leaders and replicas. Raises UnknownTopic."""
        return (await self.describe_topics([name]))[name]

    async def describe_topics(self, names: Iterable[str] | None = None) -> dict[str, TopicView]:
        """Topics' partitions, leaders and replicas; without names of all topics, internal ones too. Raises
        UnknownTopic for the first that does not exist."""
        wanted = None if names is None else list(names)

        async def attempt() -> dict[str, TopicView]:
            await self._cluster.describe_topics(wanted)
            metadata = self._cluster.metadata
            if wanted is None:
                return dict(metadata.topics)
            for name in wanted:
                if name not in metadata.topics:
                    raise broker_error(
                        metadata.errors.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), f"topic {name!r}"
                    )
            return {name: metadata.topics[name] for name in wanted}

        final = {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        what = "topics" if wanted is None else _names(wanted)
        return await self.retrying(attempt, f"description of {what}", final=final)

    async def create_partitions(self, topic: str, total: int) -> None:
        """Give a topic more partitions, `total` in all."""
        pending = {topic: total}

        async def attempt(timeout_ms: int) -> Any:
            wanted = [{"name": name, "count": count, "assignments": None} for name, count in pending.items()]
            fields = {"topics": wanted, "timeout": timeout_ms, "validate_only": False}
            answer = await self._ask_controller(ApiKey.CREATE_PARTITIONS, fields)
            return [(str(one.name), one) for one in answer.results]

        final = {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        await self._for_each(pending, attempt, what=f"partitions of {topic!r}", final=final)
        await self._until_led([topic], total)

    async def delete_records(self, before: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Delete the records before an offset of each partition, -1 for all. Gives the new first offsets."""

        async def attempt() -> dict[TopicPartition, int]:
            starts: dict[TopicPartition, int] = {}

            async def ask(leader: int, keys: list[TopicPartition]) -> None:
                fields = {
                    "topics": [
                        {
                            "name": topic,
                            "partitions": [
                                {"partition_index": n, "offset": before[TopicPartition(topic, n)]}
                                for n in numbers
                            ],
                        }
                        for topic, numbers in by_topic(keys).items()
                    ],
                    "timeout": int(self._cluster.settings.request_timeout_ms),
                }
                answer = await self._cluster.ask(leader, ApiKey.DELETE_RECORDS, fields)
                for topic in answer.topics:
                    for one in topic.partitions:
                        key = TopicPartition(str(topic.name), int(one.partition_index))
                        raise_error_in(one, f"records of {key!r}")
                        starts[key] = int(one.low_watermark)

            await self._cluster.ask_leaders(before, ask)
            return starts

        return await self.retrying(attempt, "deletion of records")

    # -- offsets

    async def list_offsets(
        self, wanted: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The offset of each partition at EARLIEST (-2), LATEST (-1), MAX_TIMESTAMP (-3), or of the first
        record at or after a time in milliseconds since the epoch; None where there is no such record."""
        return await self.retrying(lambda: list_offsets(self._cluster, wanted), "offsets")

    async def end_offsets(self, topic: str) -> dict[TopicPartition, int]:
        """The offset behind the last record of every partition of a topic."""
        return await self._every_offset(topic, LATEST)

    async def beginning_offsets(self, topic: str) -> dict[TopicPartition, int]:
        """The offset of the first record of every partition of a topic."""
        return await self._every_offset(topic, EARLIEST)

    async def _every_offset(self, topic: str, spec: int) -> dict[TopicPartition, int]:
        view = await self.describe_topic(topic)
        found = await self.list_offsets({TopicPartition(topic, p.partition): spec for p in view.partitions})
        return {key: place.offset for key, place in found.items() if place is not None}

    # -- configurations

    async def describe_configs(
        self, *, topic: str | None = None, broker: int | None = None
    ) -> dict[str, ConfigEntry]:
        """The settings of a topic or of a broker, by name."""
        kind, name = _resource(topic, broker)
        resource = {"resource_type": kind, "resource_name": name, "configuration_keys": None}
        fields = {"resources": [resource], "include_synonyms": False, "include_documentation": False}

        async def attempt() -> dict[str, ConfigEntry]:
            answer = await self._ask_resource(ApiKey.DESCRIBE_CONFIGS, fields, broker)
            (one,) = answer.results
            raise_error_in(one, f"settings of {name!r}")
            return {config.name: config_entry(config) for config in one.configs}

        final = {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        return await self.retrying(attempt, f"settings of {name!r}", final=final)

    async def alter_configs(
        self, configs: Mapping[str, str | None], *, topic: str | None = None, broker: int | None = None
    ) -> None:
        """Set settings of a topic or of a broker; None goes back to the default. Others stay as they are."""
        kind, name = _resource(topic, broker)
        changes = [
            {"name": key, "config_operation": DELETE if value is None else SET, "value": value}
            for key, value in configs.items()
        ]
        resource = {"resource_type": kind, "resource_name": name, "configs": changes}
        fields = {"resources": [resource], "validate_only": False}

        async def attempt() -> None:
            answer = await self._ask_resource(ApiKey.INCREMENTAL_ALTER_CONFIGS, fields, broker)
            (one,) = answer.responses
            raise_error_in(one, f"settings of {name!r}")

        await self.retrying(attempt, f"settings of {name!r}", final={ErrorCode.UNKNOWN_TOPIC_OR_PARTITION})

    # -- groups

    async def list_groups(self) -> list[GroupListing]:
        """Every broker's groups, sorted by name."""

        async def attempt() -> list[GroupListing]:
            await self._cluster.any_broker()
            found = {}
            for broker in list(self._cluster.metadata.brokers):
                answer = await self._cluster.ask(
                    broker, ApiKey.LIST_GROUPS, {"states_filter": [], "types_filter": []}
                )
                raise_error_in(answer, "list of groups")
                for one in answer.groups:
                    found[str(one.group_id)] = GroupListing(
                        group=str(one.group_id),
                        protocol_type=one.protocol_type,
                        state=getattr(one, "group_state", ""),
                    )
            return [found[name] for name in sorted(found)]

        return await self.retrying(attempt, "list of groups")

    async def describe_group(self, group: str) -> GroupDescription:
        """A group's state and members. A group that does not exist is Dead."""

        async def attempt(coordinator: int) -> GroupDescription:
            fields = {"groups": [group], "include_authorized_operations": False}
            answer = await self._cluster.ask(coordinator, ApiKey.DESCRIBE_GROUPS, fields)
            (one,) = answer.groups
            if int(one.error_code) != ErrorCode.GROUP_ID_NOT_FOUND:
                raise_error_in(one, f"group {group!r}")
            return GroupDescription(
                group=group,
                state=one.group_state or "Dead",
                protocol_type=one.protocol_type,
                protocol=one.protocol_data,
                coordinator=coordinator,
                members=tuple(group_member(member) for member in one.members),
            )

        return await self._at_coordinator(group, attempt)

    async def delete_group(self, group: str) -> None:
        """Delete a group and its offsets. Raises GroupNotEmpty, UnknownGroup."""

        async def attempt(coordinator: int) -> None:
            answer = await self._cluster.ask(coordinator, ApiKey.DELETE_GROUPS, {"groups_names": [group]})
            (one,) = answer.results
            raise_error_in(one, f"group {group!r}")

        await self._at_coordinator(group, attempt)

    async def group_offsets(
        self, group: str, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, CommittedOffset]:
        """Where a group goes on in these partitions, or in all that it has committed."""
        wanted = None if partitions is None else list(partitions)

        async def attempt(coordinator: int) -> dict[TopicPartition, CommittedOffset]:
            found = await fetch_committed(self._cluster, coordinator, group, wanted)
            return {key: place for key, place in found.items() if place is not None}

        return await self._at_coordinator(group, attempt)

    async def alter_group_offsets(
        self, group: str, offsets: Mapping[TopicPartition, int | CommittedOffset]
    ) -> None:
        """Make a group go on elsewhere. The group must have no members, or the broker refuses."""
        wanted = {
            key: place if isinstance(place, CommittedOffset) else CommittedOffset(place)
            for key, place in offsets.items()
        }
        await self._at_coordinator(
            group, lambda coordinator: commit_offsets(self._cluster, coordinator, group, wanted)
        )

    async def delete_group_offsets(self, group: str, partitions: Iterable[TopicPartition]) -> None:
        """Forget a group's offsets in partitions of topics that it does not read now."""
        wanted = list(partitions)
        fields = {
            "group_id": group,
            "topics": [
                {"name": topic, "partitions": [{"partition_index": n} for n in numbers]}
                for topic, numbers in by_topic(wanted).items()
            ],
        }

        async def attempt(coordinator: int) -> None:
            answer = await self._cluster.ask(coordinator, ApiKey.OFFSET_DELETE, fields)
            raise_error_in(answer, f"offsets of group {group!r}")
            for topic in answer.topics:
                for one in topic.partitions:
                    raise_error_in(one, f"offset of {topic.name}-{one.partition_index}")

        await self._at_coordinator(group, attempt)

    # -- the cluster

    async def describe_cluster(self) -> ClusterDescription:
        """The cluster's id, controller and brokers, as they are now."""
        await self.retrying(lambda: self._cluster.describe_topics([]), "description of the cluster")
        metadata = self._cluster.metadata
        return ClusterDescription(
            cluster_id=metadata.cluster_id,
            controller=metadata.controller_id,
            brokers=tuple(metadata.brokers[b] for b in sorted(metadata.brokers)),
        )

    @property
    def operations(self) -> Operations:
        """Brokers that come and go, replicas that move, elections: what operators ask."""
        return Operations(self)

    # -- how calls are made

    async def ask_controller(self, api: ApiKey, fields: Fields, what: str) -> Any:
        """The answer of the broker that takes admin requests, unless it is about the whole request and may
        pass, as that it takes them no longer; `what` is for errors."""

        async def attempt() -> Any:
            answer = await self._ask_controller(api, fields)
            code = ErrorCode.of(int(getattr(answer, "error_code", ErrorCode.NONE)))
            if code.retriable:
                raise_error_in(answer, what)
            return answer

        return await self.retrying(attempt, what)

    async def ask_broker(self, broker: int, api: ApiKey, fields: Fields, what: str) -> Any:
        """The answer of one broker, whatever it says; `what` is for errors."""
        return await self.retrying(lambda: self._cluster.ask(broker, api, fields), what)

    async def _ask_controller(self, api: ApiKey, fields: Fields) -> Any:
        return await self._cluster.ask(await self._cluster.controller(), api, fields)

    async def _ask_resource(self, api: ApiKey, fields: Fields, broker: int | None) -> Any:
        if broker is None:
            return await self._ask_controller(api, fields)
        await self._cluster.any_broker()
        return await self._cluster.ask(broker, api, fields)

    async def retrying(
        self,
        attempt: Callable[[], Awaitable[T]],
        what: str,
        *,
        final: Iterable[ErrorCode] = (),
    ) -> T:
        """Retry an attempt, which may ask several brokers, while its error may pass; `what` is for errors.
        Those of `final` are answers here, whatever other callers make of them."""

        async def guarded() -> T | BrokerError:
            try:
                return await attempt()
            except BrokerError as error:
                if error.code in final:
                    return error
                raise

        result = await self._cluster.retrying(guarded, what=what)
        if isinstance(result, BrokerError):
            raise result
        return result

    async def _for_each(
        self,
        pending: dict[str, Any],
        attempt: Callable[[int], Awaitable[list[tuple[str, Any]]]],
        *,
        what: str,
        final: Iterable[ErrorCode] = (),
    ) -> None:
        """Retry a call about several things for those that failed in a way that may pass."""
        timeout_ms = int(self._cluster.settings.request_timeout_ms)
        failures: list[BrokerError] = []

        async def once() -> None:
            passing: BrokerError | None = None
            for name, one in await attempt(timeout_ms):
                error = error_in(one, f"{name!r}")
                if error is not None and error.retriable and error.code not in final:
                    passing = error
                    continue
                if error is not None:
                    failures.append(error)
                pending.pop(name, None)
            if passing is not None:
                raise passing

        if pending:
            await self._cluster.retrying(once, what=what)
        if failures:
            for other in failures[1:]:
                failures[0].add_note(f"also: {other}")
            raise failures[0]

    async def _at_coordinator(self, group: str, attempt: Callable[[int], Awaitable[T]]) -> T:
        async def once() -> T:
            return await attempt(await self._cluster.coordinator(group))

        return await self._cluster.retrying(once, what=f"group {group!r}")

    async def _until_led(self, names: list[str], partitions: int = 1) -> None:
        """Wait until topics can be written to, as far as the brokers that are asked know."""

        async def attempt() -> None:
            for name, view in (await self.describe_topics(names)).items():
                if len(view.available) < max(partitions, len(view.partitions)):
                    raise broker_error(ErrorCode.LEADER_NOT_AVAILABLE, name)

        await self._cluster.retrying(attempt, what=f"leaders of {_names(names)}")


def _resource(topic: str | None, broker: int | None) -> tuple[int, str]:
    if (topic is None) == (broker is None):
        raise ValueError("settings are a topic's or a broker's: name one of the two")
    return (TOPIC_RESOURCE, topic) if topic is not None else (BROKER_RESOURCE, str(broker))


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
