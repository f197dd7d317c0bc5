"""What HTTP sees of a broker: the inside of its share of the cluster, and what the Kafka listener counts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from raftlog.cluster.inside import Inside
from raftlog.protocol.api import ApiKey
from raftlog.types import BrokerId


class Latency(Protocol):
    """How long answers took, in buckets: see `raftlog.broker.latency.Latency`."""

    buckets: list[int]
    count: int
    total_s: float

    def within(self, share: float) -> float: ...


class Traffic(Protocol):
    """What went through one API: see `raftlog.broker.traffic.Traffic`."""

    request_bytes: int
    response_bytes: int
    refused: int
    failed: int

    @property
    def latency(self) -> Latency: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientView:
    """A Kafka client's connection."""

    host: str
    listener: str
    client_id: str
    since: float
    """The event loop's clock."""
    requests: int
    bytes_in: int
    bytes_out: int
    unanswered: int
    last_api: str


class Kafka(Protocol):
    """The Kafka listener, as much of it as is told."""

    @property
    def traffic(self) -> Mapping[ApiKey, Traffic]: ...
    def statistics(self) -> dict[str, int]: ...
    def clients(self) -> list[ClientView]: ...


class Followed(Protocol):
    """A record that is followed on its way: see `raftlog.dev.seen`."""

    def is_whole(self) -> bool: ...
    def steps(self) -> list[dict[str, Any]]: ...


class Faults(Protocol):
    """What can be done to a broker of `raftlog dev`: see `raftlog.dev.inside`."""

    def set(self, cut: frozenset[BrokerId], slow_s: float) -> None: ...
    def follow(self) -> AbstractContextManager[Followed]: ...


@dataclass(slots=True, kw_only=True)
class View:
    """One for a broker. Only to be touched on its event loop."""

    inside: Inside
    kafka: Callable[[], Kafka | None]
    """The Kafka listener, once it serves."""
    versions: Mapping[ApiKey, tuple[int, int]]
    """What is served: the first and the last version of each API."""
    bootstrap: tuple[str, int]
    """Where this broker's own Kafka listener is."""
    faults: Faults | None = None
    """Only with raftlog.dev.faults."""
    started_at: float = field(default_factory=time.monotonic)
    http_requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By route and status."""
    http_connections: Callable[[], int] = lambda: 0
    streams: int = 0
    """Answers that go on until their client leaves."""
    is_serving: bool = False
    """Whether the start is over."""
    stopping: trio.Event = field(default_factory=trio.Event)
    """Set when the broker hands over and is about to end."""
