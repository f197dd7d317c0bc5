"""Where replicas go: pure functions of the brokers and of what they keep already.

The same input gives the same plan on every broker. A plan spreads the replicas of a topic within one
of each other, spreads a partition's over racks as far as there are racks, and makes the preferred
leaders even.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from raftlog.metadata.catalog import BrokerInfo
from raftlog.types import BrokerId

Replicas = tuple[BrokerId, ...]


@dataclass(frozen=True, slots=True)
class NotEnoughBrokers:
    """More replicas were asked for than there are brokers to put them on."""

    wanted: int
    usable: int


@dataclass(frozen=True, slots=True)
class Move:
    """Replace a partition's replicas."""

    topic_id: bytes
    partition: int
    replicas: Replicas
    target: Replicas


def place_new_partitions(
    brokers: Sequence[BrokerInfo],
    count: int,
    replication_factor: int,
    *,
    topic: Iterable[Replicas] = (),
    cluster: Iterable[Replicas] = (),
) -> tuple[Replicas, ...] | NotEnoughBrokers:
    """Replicas for `count` new partitions. `topic` are the topic's existing partitions, `cluster` those
    of all topics. Only usable brokers are given any."""
    raise NotImplementedError


def plan_rebalance(
    brokers: Sequence[BrokerInfo], assignments: Mapping[tuple[bytes, int], Replicas], *, moves_max: int
) -> list[Move]:
    """At most `moves_max` moves that bring the usable brokers' replicas within one of each other."""
    raise NotImplementedError


def plan_drain(
    brokers: Sequence[BrokerInfo], assignments: Mapping[tuple[bytes, int], Replicas], leaving: BrokerId
) -> list[Move] | NotEnoughBrokers:
    """The moves that take every replica off `leaving`."""
    raise NotImplementedError
