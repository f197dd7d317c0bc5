"""What operators ask: which brokers there are, which replicas move, who should lead.

The calls are Kafka's own, so they work against any broker that serves them; admitting and draining a
broker are raftlog's, told as settings of that broker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from raftlog.client.acls import Acls
from raftlog.client.arguments import checked
from raftlog.client.errors import BrokerError, error_in, raise_error_in
from raftlog.client.health import DiskState
from raftlog.client.metadata import TopicPartition
from raftlog.client.transactional_ids import TransactionalIds
from raftlog.client.users import Users
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import Fields
from raftlog.protocol.errors import ErrorCode

T = TypeVar("T")

BROKER_RESOURCE = 4
SET = 0
DRAINING = "raftlog.draining"
BUILD, UPTIME = "raftlog.build", "raftlog.uptime.seconds"
BYTES, BEHIND = "raftlog.bytes", "raftlog.followers.behind"
METADATA_TOPIC = "__cluster_metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerState:
    """A broker and whether the cluster hears of it."""

    id: int
    host: str
    port: int
    rack: str | None
    is_alive: bool
    is_draining: bool
    """Whether it is given no replicas (`raftlog cluster drain`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerReport:
    """What a broker says of itself; None for what a broker of an older build does not say."""

    id: int
    build: str | None
    """Its version and commit."""
    uptime_s: float | None
    bytes: int | None
    """Of the replicas that it keeps."""
    followers_behind: Mapping[int, int] | None
    """Of the replicas that it leads: how many Raft entries each other broker has not acknowledged yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A partition on its way: `replicas` are the old ones and those being added."""

    replicas: tuple[int, ...]
    adding: tuple[int, ...]
    removing: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumMember:
    """A broker or controller that keeps the cluster's metadata."""

    id: int
    is_voter: bool
    log_end_offset: int
    last_fetch_ms: int
    """When the leader heard of it last, in milliseconds since the epoch; -1 for never, and for itself."""
    last_caught_up_ms: int
    """When it had all that the leader has, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumView:
    """Who votes for the leader of the cluster's metadata, and how far each is (KIP-595)."""

    leader: int
    epoch: int
    high_watermark: int
    members: tuple[QuorumMember, ...]


class Asker(Protocol):
    """Asks brokers, and again while an error may pass: `raftlog.client.admin.Admin` does."""

    async def ask_controller(self, api: ApiKey, fields: Fields, what: str) -> Any: ...
    async def ask_broker(self, broker: int, api: ApiKey, fields: Fields, what: str) -> Any: ...
    async def retrying(self, attempt: Callable[[], Awaitable[T]], what: str) -> T: ...


@checked()
class Operations:
    """Made by `Admin.operations`. Errors and cancellation are those of `Admin`: a call that is cancelled may
    have taken effect."""

    def __init__(self, admin: Asker) -> None:
        self._admin = admin

    def __repr__(self) -> str:
        return f"<Operations of {self._admin!r}>"

    @property
    def transactions(self) -> TransactionalIds:
        """Transactional ids, and what is open under them."""
        return TransactionalIds(self._admin, self._live_brokers)

    @property
    def acls(self) -> Acls:
        """Who may do what."""
        return Acls(self._admin)

    @property
    def users(self) -> Users:
        """Who may log in with a password."""
        return Users(self._admin)

    async def _live_brokers(self) -> list[int]:
        return [broker.id for broker in await self.brokers() if broker.is_alive]

    async def has_controller(self) -> bool:
        """Whether the cluster can be changed: False while no majority of its brokers is there for that."""
        return int((await self._describe()).controller_id) >= 0

    async def brokers(self) -> list[BrokerState]:
        """Every broker of the cluster, those that are down included, by id."""
        answer = await self._describe()
        draining = await self._draining([int(broker.broker_id) for broker in answer.brokers])
        return [
            BrokerState(
                id=broker.broker_id,
                host=broker.host,
                port=broker.port,
                rack=broker.rack,
                is_alive=not getattr(broker, "is_fenced", False),
                is_draining=int(broker.broker_id) in draining,
            )
            for broker in sorted(answer.brokers, key=lambda broker: int(broker.broker_id))
        ]

    async def reports(self) -> dict[int, BrokerReport]:
        """What each broker says of itself, those left out that say nothing: Apache Kafka's do not."""
        brokers = (await self._describe()).brokers
        resources = [
            {
                "resource_type": BROKER_RESOURCE,
                "resource_name": str(broker.broker_id),
                "configuration_keys": [BUILD, UPTIME, BYTES, BEHIND],
            }
            for broker in brokers
        ]
        fields = {"resources": resources, "include_synonyms": False, "include_documentation": False}
        answer = await self._ask(ApiKey.DESCRIBE_CONFIGS, fields, "reports")
        found = {}
        for one in answer.results:
            told = {entry.name: entry.value for entry in one.configs}
            if BUILD in told or UPTIME in told:
                found[int(one.resource_name)] = _report(int(one.resource_name), told)
        return found

    async def metadata_leader(self) -> int | None:
        """The broker that leads the metadata; None while nobody does, as far as is known."""
        leader = int((await self._described_quorum()).leader_id)
        return leader if leader >= 0 else None

    async def _described_quorum(self) -> Any:
        topics = [{"topic_name": METADATA_TOPIC, "partitions": [{"partition_index": 0}]}]
        answer = await self._ask(ApiKey.DESCRIBE_QUORUM, {"topics": topics}, "the metadata's quorum")
        raise_error_in(answer, "the metadata's quorum")
        return answer.topics[0].partitions[0]

    async def quorum(self) -> QuorumView:
        """The metadata's quorum, as its leader sees it. Raises a retriable error while it has no leader."""
        found = await self._described_quorum()
        raise_error_in(found, "the metadata's quorum")
        return QuorumView(
            leader=found.leader_id,
            epoch=found.leader_epoch,
            high_watermark=found.high_watermark,
            members=tuple(
                QuorumMember(
                    id=one.replica_id,
                    is_voter=is_voter,
                    log_end_offset=one.log_end_offset,
                    last_fetch_ms=_millis(getattr(one, "last_fetch_timestamp", None)),
                    last_caught_up_ms=_millis(getattr(one, "last_caught_up_timestamp", None)),
                )
                for is_voter, members in ((True, found.current_voters), (False, found.observers))
                for one in members
            ),
        )

    async def _describe(self) -> Any:
        fields = {
            "include_cluster_authorized_operations": False,
            "include_fenced_brokers": True,
            "endpoint_type": 1,
        }
        answer = await self._ask(ApiKey.DESCRIBE_CLUSTER, fields, "brokers")
        raise_error_in(answer, "brokers")
        return answer

    async def _draining(self, brokers: Iterable[int]) -> set[int]:
        """Those that are draining. Apache Kafka, which knows no such thing, says nothing of it: none."""
        resources = [
            {"resource_type": BROKER_RESOURCE, "resource_name": str(broker), "configuration_keys": [DRAINING]}
            for broker in brokers
        ]
        fields = {"resources": resources, "include_synonyms": False, "include_documentation": False}
        answer = await self._ask(ApiKey.DESCRIBE_CONFIGS, fields, "brokers")
        return {
            int(one.resource_name)
            for one in answer.results
            if any(entry.name == DRAINING and entry.value == "true" for entry in one.configs)
        }

    async def disk(self, broker: int) -> DiskState:
        """How a broker's disk is, as it says itself."""
        answer = await self._admin.ask_broker(broker, ApiKey.DESCRIBE_LOG_DIRS, {"topics": []}, "disk")
        total = free = -1
        for folder in answer.results:
            total = max(total, int(getattr(folder, "total_bytes", -1)))
            free = max(free, int(getattr(folder, "usable_bytes", -1)))
        damaged = any(int(folder.error_code) == ErrorCode.KAFKA_STORAGE_ERROR for folder in answer.results)
        return DiskState(broker, damaged, total, free)

    async def move(self, targets: Mapping[TopicPartition, Sequence[int] | None]) -> None:
        """Move partitions to these replicas, the preferred leader first; None calls a move off. Returns when
        the moves are accepted; `moves` tells what is still under way."""
        topics: dict[str, list[dict[str, Any]]] = {}
        for (topic, partition), replicas in targets.items():
            topics.setdefault(topic, []).append({"partition_index": partition, "replicas": replicas})
        fields = {
            "timeout": 30_000,
            "topics": [{"name": name, "partitions": partitions} for name, partitions in topics.items()],
        }
        answer = await self._ask(ApiKey.ALTER_PARTITION_REASSIGNMENTS, fields, "moves")
        raise_error_in(answer, "moves")
        for topic in answer.responses:
            for one in topic.partitions:
                raise_error_in(one, f"move of {topic.name}-{one.partition_index}")

    async def moves(self) -> dict[TopicPartition, Move]:
        """The moves that are under way."""
        answer = await self._ask(
            ApiKey.LIST_PARTITION_REASSIGNMENTS, {"timeout": 30_000, "topics": None}, "moves"
        )
        raise_error_in(answer, "moves")
        return {
            TopicPartition(topic.name, one.partition_index): Move(
                replicas=tuple(one.replicas),
                adding=tuple(one.adding_replicas),
                removing=tuple(one.removing_replicas),
            )
            for topic in answer.topics
            for one in topic.partitions
        }

    async def sizes(self, partitions: Iterable[TopicPartition], broker: int) -> dict[TopicPartition, int]:
        """Bytes on a broker's disk of those of the partitions of which it keeps a replica."""
        chosen: dict[str, list[int]] = {}
        for topic, partition in partitions:
            chosen.setdefault(topic, []).append(partition)
        fields = {"topics": [{"topic": topic, "partitions": numbers} for topic, numbers in chosen.items()]}
        answer = await self._admin.ask_broker(broker, ApiKey.DESCRIBE_LOG_DIRS, fields, "sizes")
        sizes = {}
        for folder in answer.results:
            if (
                int(folder.error_code) != ErrorCode.KAFKA_STORAGE_ERROR
            ):  # with it a broker says what is damaged
                raise_error_in(folder, f"sizes on broker {broker}")
            for topic in folder.topics:
                for one in topic.partitions:
                    sizes[TopicPartition(topic.name, one.partition_index)] = int(one.partition_size)
        return sizes

    async def elect_leaders(
        self, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, BrokerError | None]:
        """Give partitions, or all, back to their preferred leaders; what became of each."""
        chosen: dict[str, list[int]] = {}
        for topic, partition in partitions or ():
            chosen.setdefault(topic, []).append(partition)
        wanted = [{"topic": topic, "partitions": numbers} for topic, numbers in chosen.items()]
        fields = {
            "election_type": 0,
            "timeout": 30_000,
            "topic_partitions": None if partitions is None else wanted,
        }
        answer = await self._ask(ApiKey.ELECT_LEADERS, fields, "elections")
        return {
            TopicPartition(topic.topic, one.partition_id): error_in(one, f"{topic.topic}-{one.partition_id}")
            for topic in answer.replica_election_results
            for one in topic.partition_result
        }

    async def add_broker(self, broker: int, peer_address: str) -> None:
        """Admit a broker that is about to be started with `raftlog serve --join`."""
        await self._set(broker, "raftlog.peer.advertise", peer_address)

    async def drain_broker(self, broker: int, draining: bool = True) -> None:
        """Place nothing new on a broker, or again what others get."""
        await self._set(broker, DRAINING, "true" if draining else "false")

    async def remove_broker(self, broker: int) -> None:
        """Forget a broker that keeps no replica any more."""
        answer = await self._ask(ApiKey.UNREGISTER_BROKER, {"broker_id": broker}, f"broker {broker}")
        raise_error_in(answer, f"broker {broker}")

    async def _set(self, broker: int, key: str, value: str) -> None:
        change = {"name": key, "config_operation": SET, "value": value}
        resource = {"resource_type": BROKER_RESOURCE, "resource_name": str(broker), "configs": [change]}
        fields = {"resources": [resource], "validate_only": False}
        answer = await self._ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, fields, f"broker {broker}")
        for one in answer.responses:
            raise_error_in(one, f"broker {broker}")

    async def _ask(self, api: ApiKey, fields: dict[str, Any], what: str) -> Any:
        return await self._admin.ask_controller(api, fields, what)


def _report(broker: int, told: Mapping[str, str]) -> BrokerReport:
    behind = told.get(BEHIND)
    pairs = [one.partition(":") for one in (behind or "").split(",") if one]
    return BrokerReport(
        id=broker,
        build=told.get(BUILD),
        uptime_s=float(told[UPTIME]) if UPTIME in told else None,
        bytes=int(told[BYTES]) if BYTES in told else None,
        followers_behind=None if behind is None else {int(who): int(entries) for who, _, entries in pairs},
    )


def _millis(time: Any) -> int:
    return -1 if time is None else int(time)
