"""What every client adapter offers, so that one table of scenarios runs against all of them.

Plain and blocking, since that is what the scenarios are. An adapter translates and decides nothing: a
default of the client that a scenario does not name stays as its makers chose it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Final, Protocol

from tests.waiting import PATIENCE_S as PATIENCE_S

Headers = tuple[tuple[str, bytes | None], ...]


class Refused(Exception):
    """The broker answered with an error; `code` is Kafka's number of it."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(f"{code} {text}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Message:
    """What is produced. `timestamp` in ms; None is the client's clock."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp: int | None = None
    partition: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """What is consumed."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def content(self) -> tuple[bytes | None, bytes | None, Headers]:
        return self.key, self.value, self.headers


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """`leaders` by partition number; -1 is no leader."""

    name: str
    leaders: Mapping[int, int]
    replicas: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """A group as DescribeGroups shows it."""

    group: str
    state: str
    protocol_type: str
    members: int


class Can(Flag):
    """What not every client can do; a scenario is a test only for the clients that can."""

    BASICS = auto()
    SET_TIMESTAMPS = auto()
    MIXED_HEADERS = auto()
    NULL_HEADERS = auto()
    IDEMPOTENCE = auto()
    SEEK = auto()
    COMMIT = auto()
    STATIC_MEMBERS = auto()
    TOPICS = auto()
    CONFIGS = auto()
    ALTER_CONFIGS = auto()
    DELETE_RECORDS = auto()
    DELETE_GROUPS = auto()
    CLUSTER = auto()
    GROUPS = auto()
    GROUP_OFFSETS = auto()
    EVERYTHING = (
        BASICS | SET_TIMESTAMPS | MIXED_HEADERS | NULL_HEADERS | IDEMPOTENCE | SEEK | COMMIT | STATIC_MEMBERS
        | TOPICS | CONFIGS | ALTER_CONFIGS | DELETE_RECORDS | DELETE_GROUPS | CLUSTER | GROUPS | GROUP_OFFSETS
    )  # fmt: skip


CAN: Final = {
    "kafka-python": Can.EVERYTHING & ~Can.NULL_HEADERS,
    "confluent-kafka": Can.EVERYTHING,
    "aiokafka": Can.EVERYTHING & ~Can.DELETE_GROUPS,
    "kcat": Can.BASICS | Can.IDEMPOTENCE | Can.SEEK | Can.CLUSTER,
}


class Consumer(Protocol):
    """One consumer, used from one thread; `close` leaves its group."""

    def poll(self, timeout_s: float) -> list[Record]: ...

    def assignment(self) -> frozenset[int]:
        """The partitions (of its one topic) that it has now."""

    def seek(self, partition: int, offset: int) -> None: ...

    def position(self, partition: int) -> int: ...

    def commit(self, offsets: Mapping[int, int] | None = None) -> None:
        """Commit what has been polled, or `offsets` by partition."""

    def close(self) -> None: ...


class Producer(Protocol):
    """One producer; the same connection and settings for all that it sends."""

    def send(self, topic: str, messages: Iterable[Message]) -> list[int]:
        """Send, wait for every delivery, and give the offsets: -1 where the client is not told (acks=0).
        Raises Refused."""

    def close(self) -> None: ...


class Client(Protocol):
    """A client library (or program), used against one broker. Close what it makes."""

    name: str

    def producer(
        self, *, acks: str = "all", codec: str = "none", idempotent: bool | None = None, linger_ms: int = 0
    ) -> Producer: ...

    def consumer(
        self,
        topic: str,
        *,
        group: str | None = None,
        partition: int | None = None,
        start: str = "earliest",
        instance_id: str | None = None,
    ) -> Consumer:
        """A member of `group`; or, with `partition`, a consumer of that one partition with no group.
        `start`, "earliest" or "latest", is where it begins when nothing is committed."""

    def committed(self, group: str, topic: str, partition: int) -> int | None: ...

    def offset_for_time(self, topic: str, partition: int, timestamp: int) -> int | None: ...

    def log_bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset and the one that is next to be written."""

    def topics(self) -> set[str]: ...

    def describe_topic(self, name: str) -> TopicDescription:
        """Raises Refused (3) when there is none."""

    def create_topic(
        self, name: str, *, partitions: int = 1, replicas: int = 1, configs: Mapping[str, str] | None = None
    ) -> None: ...

    def delete_topic(self, name: str) -> None: ...

    def add_partitions(self, name: str, total: int) -> None: ...

    def topic_configs(self, name: str) -> Mapping[str, str]: ...

    def alter_topic_config(self, name: str, key: str, value: str) -> None: ...

    def delete_records(self, topic: str, partition: int, before: int) -> None: ...

    def broker_ids(self) -> tuple[set[int], int]:
        """The brokers, and which of them is the controller."""

    def groups(self) -> set[str]: ...

    def describe_group(self, group: str) -> GroupDescription: ...

    def delete_group(self, group: str) -> None: ...

    def group_offsets(self, group: str, topic: str) -> Mapping[int, int]:
        """Committed offsets by partition, through the admin client."""

    def close(self) -> None: ...


def sent_and_closed(producer: Producer, topic: str, messages: Sequence[Message]) -> list[int]:
    """Send with a producer that is used once."""
    try:
        return producer.send(topic, messages)
    finally:
        producer.close()
