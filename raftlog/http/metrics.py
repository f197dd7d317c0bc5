"""raftlog's own metrics: one line a metric, in the table at the end. `make docs` writes the reference from it.

Every figure is about this broker, but for those named `cluster_…`, which the metadata leader alone gives, so
that a sum over brokers is right. Most figures are read when somebody asks; what has to be counted is a plain
addition where it happens. prometheus-client is not used: it takes a lock for each observation, and its writer
stops the loop for a third of a second at 80,000 series.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import trio

from raftlog.http.exposition import Family, Histogram, Sample, Value
from raftlog.http.reading import Reading, TopicSum, alive_brokers
from raftlog.http.view import Latency, Traffic
from raftlog.metadata.catalog import Topic
from raftlog.partition.partition import Partition
from raftlog.raft.durations import Durations
from raftlog.raft.events import Kind
from raftlog.version import version

LATENCY_BOUNDS: Final = tuple(0.0001 * (1 << n) for n in range(18))
"""Those of `raftlog.broker.latency`: powers of two of 0.1 ms, up to 13 s."""
DURATION_EDGES_MS: Final = tuple((1 << n) / 1000 for n in range(7, 25))
"""Powers of two of a microsecond: 0.128 ms to 17 s."""

Read = Callable[[Reading], Iterable[Sample]]


# How a figure is read


def _one(figure: Callable[[Reading], Value]) -> Read:
    """A figure without labels."""
    return lambda reading: [((), figure(reading))]


def _each_api(figure: Callable[[Traffic], Any]) -> Read:
    def read(reading: Reading) -> Iterator[Sample]:
        kafka = reading.view.kafka()
        for api, traffic in sorted(kafka.traffic.items()) if kafka is not None else ():
            yield (api.name,), figure(traffic)

    return read


def _each_topic(figure: Callable[[TopicSum], Value]) -> Read:
    return lambda reading: (((name,), figure(topic)) for name, topic in sorted(reading.topics.items()))


def _each_partition(figure: Callable[[Reading, Partition], Value]) -> Read:
    def read(reading: Reading) -> Iterator[Sample]:
        if len(reading.led) > reading.view.inside.me.config.int("raftlog.metrics.partitions.max"):
            return
        for partition in reading.led:
            yield (partition.topic, partition.partition), figure(reading, partition)

    return read


def _each_peer(figure: Callable[[Any], Value]) -> Read:
    return lambda reading: (((link.peer,), figure(link)) for link in reading.view.inside.links.all)


def _each_follower(figure: Callable[[Any], Value]) -> Read:
    return lambda reading: (((broker,), figure(row)) for broker, row in sorted(reading.followers.items()))


def _durations(*named: tuple[tuple[str, ...], Callable[[Reading], Durations]]) -> Read:
    return lambda reading: [(labels, _histogram(of(reading))) for labels, of in named]


def _from_metadata_leader(figure: Callable[[Reading], Value]) -> Read:
    return lambda reading: [((), figure(reading))] if reading.leads_metadata else []


def _kafka(name: str) -> Callable[[Reading], Value]:
    def figure(reading: Reading) -> Value:
        kafka = reading.view.kafka()
        return 0 if kafka is None else kafka.statistics()[name]

    return figure


def _histogram(durations: Durations) -> Histogram:
    bounds, below = [], 0
    for band in durations.bands(DURATION_EDGES_MS)[:-1]:
        below += band.count
        bounds.append((band.below_ms / 1000, below))
    return Histogram(bounds, durations.count, durations.total_s)


def _latency(latency: Latency) -> Histogram:
    bounds, below = [], 0
    for bound, count in zip(LATENCY_BOUNDS, latency.buckets, strict=False):
        below += count
        bounds.append((bound, below))
    return Histogram(bounds, latency.count, latency.total_s)


def _build(reading: Reading) -> Iterable[Sample]:
    return [((version(), platform.python_version()), 1)]


def _elections(reading: Reading) -> Iterable[Sample]:
    counts = reading.view.inside.driver.events.counts
    total = {kind: sum(n for (k, _), n in counts.items() if k is kind) for kind in Kind}
    asked, began, won = (total[kind] for kind in (Kind.ASKED, Kind.CANDIDATE, Kind.LEADER))
    return [(("asked",), asked), (("begun",), began), (("won",), won)]


def _events(kind: Kind) -> Read:
    def read(reading: Reading) -> Iterator[Sample]:
        counts = reading.view.inside.driver.events.counts
        for (happened, cause), count in sorted(counts.items(), key=lambda item: item[0][1].name):
            if happened is kind:
                yield (cause.name.lower(),), count

    return read


def _events_total(kind: Kind) -> Callable[[Reading], Value]:
    return lambda reading: sum(
        count for (happened, _), count in reading.view.inside.driver.events.counts.items() if happened is kind
    )


def _brokers(reading: Reading) -> Iterable[Sample]:
    if not reading.leads_metadata:
        return []
    brokers, alive = reading.view.inside.metadata.catalog.brokers, alive_brokers(reading.view)
    draining = sum(broker.draining for broker in brokers.values() if broker.id in alive)
    states = {"alive": len(alive) - draining, "draining": draining, "down": len(brokers) - len(alive)}
    return [((state,), count) for state, count in states.items()]


def _accounts(reading: Reading) -> Iterable[Sample]:
    memory = reading.view.inside.memory
    return [(("requests",), memory.requests), (("kept",), memory.kept), (("answers",), memory.answers)]


def _groups(reading: Reading) -> Iterable[Sample]:
    if not reading.view.inside.coordination.is_coordinator:
        return []
    states = dict(reading.view.inside.groups.statistics())
    states.pop("members")
    return [((state,), count) for state, count in states.items()]


def _members(reading: Reading) -> Iterable[Sample]:
    inside = reading.view.inside
    return [((), inside.groups.statistics()["members"])] if inside.coordination.is_coordinator else []


def _http(reading: Reading) -> Iterable[Sample]:
    return [((route, status), count) for (route, status), count in sorted(reading.view.http_requests.items())]


def _topic_of(reading: Reading, partition: Partition) -> Topic | None:
    return reading.view.inside.metadata.catalog.topic(partition.topic_id)


def _replicas(reading: Reading, partition: Partition) -> int:
    topic = _topic_of(reading, partition)
    return len(topic.partitions[partition.partition].replicas) if topic else 0


def _in_sync(reading: Reading, partition: Partition) -> int:
    """Those that hold all that is committed, as this leader knows, itself included."""
    committed = partition.group.commit_index
    rows = partition.group.followers(trio.current_time())
    return 1 + sum(row.is_voter and row.state != "silent" and row.match_index >= committed for row in rows)


def _open_files(reading: Reading) -> int:
    return len(os.listdir("/proc/self/fd"))


def _memory(reading: Reading) -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _started(reading: Reading) -> float:
    return time.time() - (time.monotonic() - reading.view.started_at)


def _cpu(reading: Reading) -> float:
    times = os.times()
    return times.user + times.system


# The table

_API, _TOPIC, _PARTITION = ("api",), ("topic",), ("topic", "partition")


def _family(name: str, kind: str, labels: tuple[str, ...], doc: str, read: Read) -> Family:
    return Family(name, kind, labels, doc, read)


_G, _C, _H = "gauge", "counter", "histogram"
_OWN: Final[tuple[tuple[str, str, tuple[str, ...], str, Read], ...]] = (
    # The broker
    ("build_info", _G, ("version", "python"), "1; the labels say which build it is.", _build),
    ("start_time_seconds", _G, (), "When the process started, since the epoch.", _one(_started)),
    ("ready", _G, (), "Whether /readyz says so.", _one(lambda r: r.probes.is_ready)),
    ("event_loop_busy_seconds", _H, (), "How long the event loop ran before it looked at its sockets and timers again: what came meanwhile waited for it.", _durations(((), lambda r: r.view.inside.loop_time.stretches))),
    ("memory_bytes", _G, ("account",), "What clients' bytes take: requests without an answer, what logs keep for want of a majority, answers that are not read.", _accounts),
    ("memory_limit_bytes", _G, (), "What each of these accounts may come to.", _one(lambda r: r.view.inside.memory.share)),
    # Kafka clients
    ("open_connections", _G, (), "Connections of Kafka clients.", _one(_kafka("connections"))),
    ("connections_total", _C, (), "Connections that were accepted.", _one(_kafka("accepted"))),
    ("connections_refused_total", _C, (), "Connections that were closed as they came: too many.", _one(_kafka("refused"))),
    ("requests_total", _C, _API, "Requests that were answered.", _each_api(lambda t: t.latency.count)),
    ("request_latency_seconds", _H, _API, "How long answers took. A Fetch waits for as long as its consumer wants.", _each_api(lambda t: _latency(t.latency))),
    ("request_bytes_total", _C, _API, "Bytes of requests.", _each_api(lambda t: t.request_bytes)),
    ("response_bytes_total", _C, _API, "Bytes of answers.", _each_api(lambda t: t.response_bytes)),
    ("request_refusals_total", _C, _API, "Things that were asked for and refused, such as a batch or a topic.", _each_api(lambda t: t.refused)),
    ("request_failures_total", _C, _API, "Requests that met an error of raftlog's own.", _each_api(lambda t: t.failed)),
    # Topics
    ("records_in_total", _C, _TOPIC, "Records that were committed while this broker led their partition.", _each_topic(lambda t: t.records_in)),
    ("batches_in_total", _C, _TOPIC, "Their batches.", _each_topic(lambda t: t.batches_in)),
    ("bytes_in_total", _C, _TOPIC, "Their bytes, as producers compressed them.", _each_topic(lambda t: t.bytes_in)),
    ("bytes_out_total", _C, _TOPIC, "Bytes that consumers were sent.", _each_topic(lambda t: t.bytes_out)),
    ("log_bytes", _G, _TOPIC, "Bytes of the partitions that are led here.", _each_topic(lambda t: t.log_bytes)),
    ("log_segments", _G, _TOPIC, "Their segment files.", _each_topic(lambda t: t.segments)),
    ("partition_high_watermark", _G, _PARTITION, "The next offset that consumers will be given.", _each_partition(lambda r, p: p.high_watermark)),
    ("partition_start_offset", _G, _PARTITION, "The first offset that is kept.", _each_partition(lambda r, p: p.log_start_offset)),
    ("partition_leader_epoch", _G, _PARTITION, "The term of the leadership.", _each_partition(lambda r, p: p.leader_epoch)),
    ("partition_bytes", _G, _PARTITION, "Bytes of the log.", _each_partition(lambda r, p: p.reading.size)),
    ("partition_replicas", _G, _PARTITION, "Replicas that it should have.", _each_partition(_replicas)),
    ("partition_in_sync", _G, _PARTITION, "Replicas that hold all that is committed, as the leader knows.", _each_partition(_in_sync)),
    # Raft
    ("raft_groups", _G, (), "Replicas here, the metadata's included.", _one(lambda r: len(r.view.inside.driver.groups))),
    ("raft_groups_led", _G, (), "Groups that are led here.", _one(lambda r: r.groups_led)),
    ("raft_untrusted_replicas", _G, (), "Replicas that may lack what they acknowledged once: they vote for nobody until a leader has filled them.", _one(lambda r: r.untrusted)),
    ("raft_pending_proposals", _G, (), "What waits for a majority, in groups that are led here.", _one(lambda r: r.pending)),
    ("raft_elections_total", _C, ("result",), "Elections of replicas here: asked whether others would vote, begun, won.", _elections),
    ("raft_leaderships_begun_total", _C, ("reason",), "Leaderships that began here, by why there was an election.", _events(Kind.LEADER)),
    ("raft_leaderships_ended_total", _C, ("reason",), "Leaderships that ended here.", _events(Kind.STEPPED_DOWN)),
    ("raft_handovers_total", _C, ("reason",), "Leaderships that were handed over on purpose.", _events(Kind.HANDING_OVER)),
    ("raft_truncations_total", _C, (), "Times that the end of a log here was replaced by its leader's.", _one(_events_total(Kind.TRUNCATED))),
    ("raft_snapshots_sent_total", _C, (), "States that were sent to followers that were too far behind.", _one(_events_total(Kind.SNAPSHOT_SENT))),
    ("raft_turns_total", _C, (), "Turns of the driver.", _one(lambda r: r.view.inside.driver.turns)),
    ("raft_turn_seconds", _H, (), "What turns took of the event loop, without the syncs in them.", _durations(((), lambda r: r.view.inside.turn_times.turns))),
    ("raft_messages_dropped_total", _C, (), "Messages for which there was no room; Raft sends them again.", _one(lambda r: r.view.inside.driver.dropped_messages)),
    ("raft_follower_lag_entries", _G, ("follower",), "How many entries a broker lacks, in the group led here that is furthest behind.", _each_follower(lambda f: f.lag_entries)),
    ("raft_follower_silent_seconds", _G, ("follower",), "How long a broker was not heard, in the group led here that waits longest.", _each_follower(lambda f: f.silent_s)),
    ("metadata_leader", _G, (), "Whether this broker leads the metadata.", _one(lambda r: r.view.inside.metadata.is_leader)),
    ("metadata_has_leader", _G, (), "Whether it knows who does.", _one(lambda r: r.view.inside.metadata.leader is not None)),
    ("metadata_term", _G, (), "The metadata group's term, as known here.", _one(lambda r: r.view.inside.metadata.group.term)),
    ("metadata_commit_index", _G, (), "What of the metadata's log is committed, as known here.", _one(lambda r: r.view.inside.metadata.group.commit_index)),
    ("metadata_applied_index", _G, (), "What of it is in the catalog here.", _one(lambda r: r.view.inside.metadata.applied_index)),
    # The disk
    ("disk_sync_seconds", _H, ("where",), "How long syncs of the write-ahead log took: waited for in the event loop, or by a thread while the disk is slow.", _durations((("loop",), lambda r: r.view.inside.turn_times.syncs), (("thread",), lambda r: r.view.inside.turn_times.thread_syncs))),
    ("disk_stalls_total", _C, (), "Syncs that took so long that leaderships were handed over.", _one(lambda r: r.view.inside.turn_times.stalls)),
    ("checkpoint_seconds", _H, (), "How long checkpoints took: syncs of segments and snapshots, in a thread.", _durations(((), lambda r: r.view.inside.turn_times.checkpoints))),
    ("wal_bytes_total", _C, (), "Bytes written to the write-ahead log.", _one(lambda r: r.store["wal_bytes_written"])),
    ("wal_bytes_since_checkpoint", _G, (), "What a start after a crash would replay.", _one(lambda r: r.store["wal_bytes_since_checkpoint"])),
    ("wal_files", _G, (), "Files of the write-ahead log.", _one(lambda r: r.store["wal_files"])),
    ("damaged_logs", _G, (), "Logs here in which damage was found and is not repaired yet.", _one(lambda r: r.store["damaged_logs"])),
    ("disk_total_bytes", _G, (), "Size of the file system that the data is on.", _one(lambda r: r.disk[0])),
    ("disk_free_bytes", _G, (), "What is free of it.", _one(lambda r: r.disk[1])),
    # The other brokers
    ("peer_connected", _G, ("peer",), "Whether there is a connection with a broker.", _each_peer(lambda link: link.is_connected)),
    ("peer_sent_bytes_total", _C, ("peer",), "Bytes that a broker was sent.", _each_peer(lambda link: link.bytes_sent)),
    ("peer_dropped_frames_total", _C, ("peer",), "Frames that were not sent: no connection, or a full queue.", _each_peer(lambda link: link.dropped_frames)),
    ("peer_queued_bytes", _G, ("peer",), "Bytes that a broker has yet to take.", _each_peer(lambda link: link.bytes_queued)),
    # The cluster, by the metadata leader
    ("cluster_brokers", _G, ("state",), "Brokers by state.", _brokers),
    ("cluster_topics", _G, (), "Topics.", _from_metadata_leader(lambda r: len(r.view.inside.metadata.catalog.topics))),
    ("cluster_partitions", _G, (), "Partitions.", _from_metadata_leader(lambda r: r.cluster.partitions)),
    ("cluster_partitions_without_leader", _G, (), "Partitions that nobody leads.", _from_metadata_leader(lambda r: r.cluster.without_leader)),
    ("cluster_partitions_under_replicated", _G, (), "Partitions with replicas on brokers that are down.", _from_metadata_leader(lambda r: r.cluster.under_replicated)),
    ("cluster_partitions_moving", _G, (), "Partitions that are being moved.", _from_metadata_leader(lambda r: r.cluster.moving)),
    ("cluster_groups", _G, ("state",), "Consumer groups by state, by their coordinator.", _groups),
    ("cluster_group_members", _G, (), "Members of all consumer groups.", _members),
    # HTTP
    ("http_requests_total", _C, ("route", "status"), "HTTP requests.", _http),
    ("http_connections", _G, (), "HTTP connections.", _one(lambda r: r.view.http_connections())),
)  # fmt: skip

_PROCESS: Final[tuple[tuple[str, str, tuple[str, ...], str, Read], ...]] = (
    ("process_cpu_seconds_total", _C, (), "User and system time.", _one(_cpu)),
    ("process_resident_memory_bytes", _G, (), "Resident memory.", _one(_memory)),
    ("process_open_fds", _G, (), "Open files and sockets.", _one(_open_files)),
    ("process_start_time_seconds", _G, (), "When the process started, since the epoch.", _one(_started)),
)

FAMILIES: Final = tuple(
    [_family(f"raftlog_{name}", *rest) for name, *rest in _OWN]  # type: ignore[arg-type]
    + [_family(name, *rest) for name, *rest in _PROCESS]  # type: ignore[arg-type]
)
"""Everything that /metrics says."""


def reference() -> str:
    """The metrics as a Markdown table for docs/."""
    rows = [
        f"| `{family.name}` | {family.kind} | {', '.join(f'`{label}`' for label in family.labels)} |"
        f" {family.doc} |"
        for family in FAMILIES
    ]
    return "\n".join(["| Name | Type | Labels | What it says |", "|---|---|---|---|", *rows]) + "\n"
