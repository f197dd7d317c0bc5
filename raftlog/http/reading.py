"""What the metrics of a scrape are read of, gathered in steps that are short."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from raftlog.http.probes import Probes
from raftlog.http.view import View
from raftlog.partition.partition import Partition
from raftlog.types import BrokerId

STEP: Final = 50
"""Partitions in a step: some 0.2 ms."""


@dataclass(slots=True)
class TopicSum:
    """Of the partitions that are led here."""

    records_in: int = 0
    batches_in: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    log_bytes: int = 0
    segments: int = 0


@dataclass(slots=True)
class FollowerSum:
    """A broker as the leaders here see it."""

    lag_entries: int = 0
    silent_s: float = 0.0


@dataclass(slots=True)
class ClusterSum:
    """Of all partitions that the catalog has."""

    partitions: int = 0
    without_leader: int = 0
    under_replicated: int = 0
    moving: int = 0


@dataclass(slots=True)
class Reading:
    """One look at everything."""

    view: View
    probes: Probes
    led: list[Partition] = field(default_factory=list)
    topics: dict[str, TopicSum] = field(default_factory=dict)
    followers: dict[BrokerId, FollowerSum] = field(default_factory=dict)
    cluster: ClusterSum = field(default_factory=ClusterSum)
    groups_led: int = 0
    untrusted: int = 0
    pending: int = 0
    store: dict[str, int] = field(default_factory=dict)
    disk: tuple[int, int] = (0, 0)
    """Total and free bytes of the file system."""

    @property
    def leads_metadata(self) -> bool:
        return self.view.inside.metadata.is_ready


def begin(view: View, probes: Probes) -> Iterator[tuple[Reading] | None]:
    """A reading, as the last thing given."""
    reading = Reading(view, probes)
    yield from _of_groups(reading)
    yield from _of_partitions(reading)
    yield from of_cluster(view, reading.cluster)
    reading.store = view.inside.driver.store.statistics()
    yield None
    with suppress(OSError):
        found = shutil.disk_usage(data_folder(view))
        reading.disk = (found.total, found.free)
    yield (reading,)


def data_folder(view: View) -> str:
    return os.path.abspath(view.inside.me.config.str("log.dirs"))


def _of_groups(reading: Reading) -> Iterator[None]:
    now = trio.current_time()
    for number, group in enumerate(list(reading.view.inside.driver.groups.values()), 1):
        reading.untrusted += not group.is_trusted
        if group.is_leader:
            reading.groups_led += 1
            reading.pending += group.pending_proposals
            last = group.log.last_index
            for follower in group.followers(now):
                known = reading.followers.setdefault(follower.broker, FollowerSum())
                known.lag_entries = max(known.lag_entries, last - follower.match_index)
                known.silent_s = max(known.silent_s, follower.silent_s)
        if number % STEP == 0:
            yield None


def _of_partitions(reading: Reading) -> Iterator[None]:
    for number, partition in enumerate(reading.view.inside.replicas.partitions, 1):
        topic = reading.topics.setdefault(partition.topic, TopicSum())
        topic.records_in += partition.counters.records_in
        topic.batches_in += partition.counters.batches_in
        topic.bytes_in += partition.counters.bytes_in
        topic.bytes_out += partition.counters.bytes_out
        if partition.is_leader:
            reading.led.append(partition)
            topic.log_bytes += partition.log.retention.size
            topic.segments += partition.log.retention.segment_count
        if number % STEP == 0:
            yield None


def of_cluster(view: View, cluster: ClusterSum) -> Iterator[None]:
    """Add up the catalog's partitions. What is under-replicated has a replica on a broker that is down."""
    catalog, leaders = view.inside.metadata.catalog, view.inside.leaders
    alive = alive_brokers(view)
    count = 0
    for topic in list(catalog.topics.values()):
        for number, assignment in enumerate(topic.partitions):
            cluster.partitions += 1
            cluster.without_leader += leaders.leader_of(topic, number)[0] is None
            cluster.under_replicated += any(broker not in alive for broker in assignment.replicas)
            cluster.moving += assignment.is_moving
            count += 1
            if count % STEP == 0:
                yield None


def alive_brokers(view: View) -> frozenset[BrokerId]:
    brokers = view.inside.metadata.catalog.brokers.values()
    return frozenset(broker.id for broker in brokers if view.inside.presence.is_alive(broker))
