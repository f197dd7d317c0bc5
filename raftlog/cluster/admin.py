"""What administrators ask for: topics and their settings, as commands of the metadata group.

Refuses before proposing what can be refused, places replicas, and answers when the change is visible: the
entry is applied and the new partitions have leaders (read your writes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, TypeVar

import trio

from raftlog.cluster.changes import Changes
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.presence import Presence
from raftlog.cluster.proposer import Proposer
from raftlog.cluster.this_broker import ThisBroker
from raftlog.cluster.visibility import Visibility
from raftlog.config import TopicConfig, config_error
from raftlog.metadata.catalog import BrokerInfo, Catalog, PartitionAssignment, Topic
from raftlog.metadata.features import known_to_all
from raftlog.metadata.names import INTERNAL_TOPICS, topic_collision, topic_name_problem
from raftlog.metadata.noun import Command, Refusal, Refused, Result
from raftlog.metadata.placement import NotEnoughBrokers, place_new_partitions
from raftlog.metadata.topics import (
    AlterTopicConfig,
    CreatePartitions,
    CreateTopic,
    DeleteTopic,
    PartitionsCreated,
    TopicConfigAltered,
    TopicCreated,
    TopicDeleted,
)
from raftlog.types import BrokerId

Plan = TypeVar("Plan")

PARTITIONS_MAX: Final = 10_000
"""Partitions of one topic; a typing error of a few zeros should not make a million Raft groups."""


MESSAGE_MAX: Final = 1000
"""Characters of a refusal. A string of the Kafka protocol has at most 32,767 bytes."""


class AdminError(Enum):
    """Why an administrator was refused. The broker maps each to one Kafka error code."""

    TOPIC_EXISTS = auto()
    UNKNOWN_TOPIC = auto()
    UNKNOWN_TOPIC_ID = auto()
    INVALID_TOPIC = auto()
    INVALID_PARTITIONS = auto()
    INVALID_REPLICATION_FACTOR = auto()
    INVALID_REPLICA_ASSIGNMENT = auto()
    INVALID_CONFIG = auto()
    INVALID_REQUEST = auto()
    NO_MOVE = auto()
    UNKNOWN_BROKER = auto()
    ELECTION_NOT_NEEDED = auto()
    PREFERRED_LEADER_NOT_AVAILABLE = auto()
    TIMED_OUT = auto()
    UNAVAILABLE = auto()
    """The metadata group has no leader for now, or changed it: try again."""


@dataclass(frozen=True, slots=True)
class AdminFailure:
    """`message` names what the client asked for, which may be a lot of it: it is cut."""

    error: AdminError
    message: str

    def __post_init__(self) -> None:
        if len(self.message) > MESSAGE_MAX:
            object.__setattr__(self, "message", f"{self.message[:MESSAGE_MAX]}…")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTopic:
    """A topic to be created. -1 partitions or replicas mean the broker's default; `assignments` gives the
    replicas of each partition instead of both."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    assignments: tuple[tuple[BrokerId, ...], ...] | None = None
    configs: Mapping[str, str] = field(default_factory=dict)


class Admin:
    """Changes topics. Every call takes a time-out in seconds for the whole of it; a call that is cancelled
    may have changed the catalog, as one that timed out may have."""

    def __init__(
        self,
        me: ThisBroker,
        catalog: Catalog,
        proposer: Proposer,
        presence: Presence,
        visibility: Visibility,
        changes: Changes,
    ) -> None:
        self._me = me
        self._catalog = catalog
        self._proposer = proposer
        self._presence = presence
        self._visibility = visibility
        self._changes = changes

    async def create_topic(
        self, new: NewTopic, *, timeout: float, validate_only: bool = False
    ) -> Topic | AdminFailure:
        """Create a topic and wait until its partitions have leaders."""
        deadline = trio.current_time() + timeout
        command = await self._planned(lambda: self._plan_topic(new), deadline)
        if isinstance(command, AdminFailure):
            return command
        if validate_only:
            return self._preview(command)
        with trio.move_on_at(deadline) as scope:
            await self._level_of(command)
            result = await self._proposer.propose(command)
            match result:
                case TopicCreated(topic):
                    await self._visibility.visible_everywhere(topic)
                    return topic
                case _:
                    return admin_failure(result)
        assert scope.cancelled_caught
        return AdminFailure(AdminError.TIMED_OUT, f"topic {new.name!r} was not ready within {timeout:g} s")

    async def delete_topic(self, name_or_id: str | bytes, *, timeout: float) -> Topic | AdminFailure:
        """Delete a topic, its records and the groups' offsets in it."""
        topic = self._catalog.topic(name_or_id)
        if topic is None:
            by_id = isinstance(name_or_id, bytes)
            error = AdminError.UNKNOWN_TOPIC_ID if by_id else AdminError.UNKNOWN_TOPIC
            return AdminFailure(error, f"there is no topic {name_or_id!r}")
        with trio.move_on_after(timeout):
            result = await self._proposer.propose(DeleteTopic(topic_id=topic.topic_id))
            if not isinstance(result, TopicDeleted):
                return admin_failure(result)
            await self._visibility.visible_everywhere()
            return result.topic
        return AdminFailure(AdminError.TIMED_OUT, f"topic {topic.name!r} may still be deleted")

    async def create_partitions(
        self,
        name: str,
        count: int,
        assignments: Sequence[Sequence[BrokerId]] | None = None,
        *,
        timeout: float,
        validate_only: bool = False,
    ) -> Topic | AdminFailure:
        """Grow a topic to `count` partitions; `assignments` are the replicas of the new ones."""
        topic = self._catalog.topic(name)
        if topic is None:
            return AdminFailure(AdminError.UNKNOWN_TOPIC, f"there is no topic {name!r}")
        deadline = trio.current_time() + timeout
        existing = len(topic.partitions)
        if not existing < count <= PARTITIONS_MAX:
            return AdminFailure(
                AdminError.INVALID_PARTITIONS,
                f"topic {name!r} has {existing} partitions: the new count must be above that and at most "
                f"{PARTITIONS_MAX}, and is {count}",
            )
        if assignments is not None:
            chosen = self._checked(tuple(tuple(BrokerId(b) for b in one) for one in assignments))
            if isinstance(chosen, AdminFailure):
                return chosen
            replicas = chosen
            if len(replicas) != count - existing:
                return AdminFailure(
                    AdminError.INVALID_REPLICA_ASSIGNMENT,
                    f"{count - existing} new partitions, but {len(replicas)} assignments",
                )
        else:
            placed = await self._planned(
                lambda: self._place(
                    count - existing, topic.replication_factor, [a.replicas for a in topic.partitions]
                ),
                deadline,
            )
            if isinstance(placed, AdminFailure):
                return placed
            replicas = placed
        if validate_only:
            return topic
        command = CreatePartitions(topic_id=topic.topic_id, existing=existing, partitions=replicas)
        with trio.move_on_at(deadline):
            result = await self._proposer.propose(command)
            if not isinstance(result, PartitionsCreated):
                return admin_failure(result)
            await self._visibility.visible_everywhere(result.topic)
            return result.topic
        return AdminFailure(AdminError.TIMED_OUT, f"the new partitions of {name!r} have no leaders yet")

    async def alter_topic_config(
        self,
        name: str,
        set_: Mapping[str, str],
        remove: Sequence[str] = (),
        *,
        timeout: float,
        validate_only: bool = False,
    ) -> Topic | AdminFailure:
        """Set and remove settings of a topic; what is removed falls back to the broker's default."""
        topic = self._catalog.topic(name)
        if topic is None:
            return AdminFailure(AdminError.UNKNOWN_TOPIC, f"there is no topic {name!r}")
        kept = {key: value for key, value in topic.configs.items() if key not in remove}
        problem = self._config_problem(set_, kept)
        if problem is not None:
            return problem
        if validate_only:
            return topic
        command = AlterTopicConfig(topic_id=topic.topic_id, set=dict(set_), remove=tuple(remove))
        with trio.move_on_after(timeout):
            await self._level_of(command)
            result = await self._proposer.propose(command)
            if not isinstance(result, TopicConfigAltered):
                return admin_failure(result)
            await self._visibility.visible_everywhere()
            return result.topic
        return AdminFailure(AdminError.TIMED_OUT, f"the settings of {name!r} may still change")

    async def _level_of(self, command: Command) -> None:
        """Wait for the metadata level that the command takes, when every broker knows it: in a cluster that
        has just been founded or upgraded, the leader raises the level within a second. Else the proposal says
        what is lacking."""
        catalog = self._catalog
        while catalog.metadata_level < command.takes_level <= known_to_all(catalog.brokers.values()):
            await self._changes.wait()

    # Planning: decides, proposes nothing

    async def _planned(self, plan: Callable[[], Plan | AdminFailure], deadline: float) -> Plan | AdminFailure:
        """What `plan` comes to. While it lacks brokers that are only late, it is tried again whenever
        something changes; TIMED_OUT says at the deadline that they still are."""
        planned = plan()
        with trio.move_on_at(deadline):
            while isinstance(planned, AdminFailure) and planned.error is AdminError.TIMED_OUT:
                await self._changes.wait()
                planned = plan()
        return planned

    def _plan_topic(self, new: NewTopic) -> CreateTopic | AdminFailure:
        catalog = self._catalog
        problem = topic_name_problem(new.name)
        if problem is not None:
            return AdminFailure(AdminError.INVALID_TOPIC, problem)
        if new.name in INTERNAL_TOPICS:
            return AdminFailure(AdminError.INVALID_TOPIC, f"{new.name!r} is a topic of the cluster's own")
        if new.name in catalog.topics:
            return AdminFailure(AdminError.TOPIC_EXISTS, f"topic {new.name!r} exists already")
        other = topic_collision(new.name, catalog.topics)
        if other is not None:
            return AdminFailure(
                AdminError.INVALID_TOPIC, f"{new.name!r} differs from {other!r} only in '.' and '_'"
            )
        failure = self._config_problem(new.configs)
        if failure is not None:
            return failure
        replicas = self._replicas_of(new)
        if isinstance(replicas, AdminFailure):
            return replicas
        return CreateTopic(
            name=new.name, topic_id=self._me.new_topic_id(), partitions=replicas, configs=dict(new.configs)
        )

    def _replicas_of(self, new: NewTopic) -> tuple[tuple[BrokerId, ...], ...] | AdminFailure:
        config, catalog = self._me.config, self._catalog
        if new.assignments is not None:
            if new.partitions != -1 or new.replication_factor != -1:
                return AdminFailure(AdminError.INVALID_REQUEST, "give either assignments or counts, not both")
            if len(new.assignments) > PARTITIONS_MAX:
                return _too_many(len(new.assignments))
            return self._checked(new.assignments)
        count = config.int("num.partitions") if new.partitions == -1 else new.partitions
        if not 0 < count <= PARTITIONS_MAX:
            return _too_many(count)
        factor = new.replication_factor
        if factor == -1:
            factor = config.replication_factor(len(catalog.usable_brokers()) + len(self._late_brokers()))
        if factor < 1:
            return AdminFailure(
                AdminError.INVALID_REPLICATION_FACTOR, f"a partition has at least 1 replica, not {factor}"
            )
        return self._place(count, factor)

    def _checked(
        self, assignments: tuple[tuple[BrokerId, ...], ...]
    ) -> tuple[tuple[BrokerId, ...], ...] | AdminFailure:
        """Replicas that a client chose. Said before they are proposed, and with `validate_only`."""
        brokers = self._catalog.brokers
        for replicas in assignments:
            if not replicas or len(set(replicas)) < len(replicas) or any(b not in brokers for b in replicas):
                return AdminFailure(
                    AdminError.INVALID_REPLICA_ASSIGNMENT,
                    f"{list(replicas)} are not different, registered brokers",
                )
        return assignments

    def _place(
        self, count: int, factor: int, topic: Sequence[tuple[BrokerId, ...]] = ()
    ) -> tuple[tuple[BrokerId, ...], ...] | AdminFailure:
        catalog, usable = self._catalog, self._catalog.usable_brokers()
        heard = [broker for broker in usable if self._presence.hears(broker.id)]
        placed = place_new_partitions(
            heard if len(heard) >= factor else usable,  # who is not heard may be dead, and not fenced yet
            count,
            factor,
            topic=topic,
            cluster=(a.replicas for topic in catalog.topics.values() for a in topic.partitions),
        )
        if not isinstance(placed, NotEnoughBrokers):
            return placed
        reason = f"{placed.wanted} replicas were asked for, {placed.usable} brokers are alive"
        late = self._late_brokers()
        if placed.usable + len(late) < placed.wanted:
            return AdminFailure(AdminError.INVALID_REPLICATION_FACTOR, reason)
        names = ", ".join(str(broker.id) for broker in late)
        who = f"are brokers {names}" if len(late) > 1 else f"is broker {names}"
        return AdminFailure(AdminError.TIMED_OUT, f"{reason}, and not heard of {who}")

    def _late_brokers(self) -> list[BrokerInfo]:
        """Those that would get replicas if they were heard of, which may be any moment."""
        brokers = self._catalog.brokers.values()
        return [broker for broker in brokers if not broker.draining and self._presence.is_late(broker)]

    def _preview(self, command: CreateTopic) -> Topic:
        return Topic(
            command.name,
            command.topic_id,
            tuple(PartitionAssignment(replicas) for replicas in command.partitions),
            command.configs,
        )

    def _config_problem(
        self, settings: Mapping[str, str], others: Mapping[str, str] | None = None
    ) -> AdminFailure | None:
        """What is wrong with these topic settings, naming the key, the value and the nearest good key; or
        with them beside the topic's `others`."""
        for name, text in settings.items():
            problem = config_error(name, text)
            if problem is not None:
                return AdminFailure(AdminError.INVALID_CONFIG, problem)
        conflict = TopicConfig({**(others or {}), **settings}, self._me.config).conflict
        return None if conflict is None else AdminFailure(AdminError.INVALID_CONFIG, conflict)


def _too_many(count: int) -> AdminFailure:
    return AdminFailure(
        AdminError.INVALID_PARTITIONS, f"a topic has 1 to {PARTITIONS_MAX} partitions, not {count}"
    )


def admin_failure(result: Result | ProposalFailed) -> AdminFailure:
    """A refusal of the state machine in an administrator's terms."""
    match result:
        case ProposalFailed():
            return AdminFailure(AdminError.UNAVAILABLE, str(result))
        case Refused(reason, detail):
            return AdminFailure(_ERRORS.get(reason, AdminError.INVALID_REQUEST), detail)
        case _:
            raise AssertionError(f"unexpected answer to an administrator: {result}")


_ERRORS: Final = {
    Refusal.TOPIC_EXISTS: AdminError.TOPIC_EXISTS,
    Refusal.UNKNOWN_TOPIC: AdminError.UNKNOWN_TOPIC,
    Refusal.INVALID_TOPIC: AdminError.INVALID_TOPIC,
    Refusal.INVALID_PARTITIONS: AdminError.INVALID_PARTITIONS,
    Refusal.INVALID_REPLICAS: AdminError.INVALID_REPLICA_ASSIGNMENT,
    Refusal.NO_MOVE: AdminError.NO_MOVE,
    Refusal.UNKNOWN_BROKER: AdminError.UNKNOWN_BROKER,
    Refusal.TOO_LARGE: AdminError.INVALID_REQUEST,
}
