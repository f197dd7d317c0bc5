"""Settings of topics and their logs; most are the default of a topic setting (`topics`)."""

from __future__ import annotations

from typing import Final

from raftlog.config.keys import DAY_MS, HOUR_MS, LONG_MAX, ConfigKey, Value, key


def _check_compression(value: Value) -> str | None:
    if value in ("uncompressed", "gzip", "snappy", "lz4", "zstd"):
        return "batches are kept as their producer compressed them; only 'producer' is served"
    return None if value == "producer" else "it is producer"


def _check_only_false(value: Value) -> str | None:
    return "a leader always has every acknowledged record; this cannot be switched off" if value else None


def _check_policy(value: Value) -> str | None:
    return None if value else "it is delete, compact or both"


TOPIC_CREATION: Final[list[ConfigKey]] = [
    key(
        "auto.create.topics.enable",
        "BOOLEAN",
        True,
        "Whether a topic that a client asks for and may create is created.",
    ),
    key("delete.topic.enable", "BOOLEAN", True, "Whether topics may be deleted."),
    key(
        "num.partitions",
        "INT",
        1,
        "Partitions of a topic that is created without saying how many.",
        minimum=1,
        maximum=10_000,
    ),
    key(
        "default.replication.factor",
        "INT",
        -1,
        "Replicas of a topic that is created without saying how many. -1: three, or one for each broker"
        " where there are fewer. Kafka's default is 1, which loses acknowledged records with one disk.",
        minimum=-1,
        maximum=15,
        check=lambda value: "it is -1 or at least 1" if value == 0 else None,
    ),
]

LOGS: Final[list[ConfigKey]] = [
    key(
        "log.segment.bytes",
        "INT",
        1_073_741_824,
        "A segment file is closed when it would grow beyond this.",
        minimum=1024,
    ),
    key(
        "log.roll.ms",
        "LONG",
        None,
        "A segment is closed before a record that is this much later than its first, or when it is this old "
        "where its records have no time; wins over log.roll.hours.",
        minimum=1,
    ),
    key("log.roll.hours", "INT", 168, "As log.roll.ms, in hours.", minimum=1),
    key(
        "log.retention.ms",
        "LONG",
        None,
        "Closed segments whose newest record is older are deleted; -1: never. Wins over"
        " log.retention.minutes, which wins over log.retention.hours.",
        minimum=-1,
    ),
    key("log.retention.minutes", "INT", None, "As log.retention.ms, in minutes.", minimum=-1),
    key("log.retention.hours", "INT", 168, "As log.retention.ms, in hours.", minimum=-1),
    key(
        "log.retention.bytes",
        "LONG",
        -1,
        "A partition's oldest closed segments are deleted while it is larger; -1: never.",
        minimum=-1,
    ),
    key(
        "log.retention.check.interval.ms",
        "LONG",
        300_000,
        "How often segments are looked through for what is due to be closed or deleted.",
        minimum=1,
    ),
    key(
        "log.cleanup.policy",
        "LIST",
        ("delete",),
        "What happens to old records: `delete`: they go by time or size; `compact`: the last value of each"
        " key stays; or both.",
        choices=("compact", "delete"),
        check=_check_policy,
    ),
    key("log.cleaner.enable", "BOOLEAN", True, "Whether this broker compacts the logs that are to be."),
    key(
        "log.cleaner.backoff.ms",
        "LONG",
        15_000,
        "How long the cleaner waits when no log is due to be compacted.",
        minimum=1,
    ),
    key(
        "log.cleaner.dedupe.buffer.size",
        "LONG",
        134_217_728,
        "Memory of the cleaner's process for the keys of one pass: 162 bytes a key, so 800,000 of them. With"
        " more keys a pass ends early, and the next goes on.",
        minimum=1 << 20,
    ),
    key(
        "log.cleaner.io.max.bytes.per.second",
        "DOUBLE",
        33_554_432.0,
        "What the cleaner reads and writes at most; 0: no limit, which is Kafka's default.",
        minimum=0,
    ),
    key(
        "log.cleaner.delete.retention.ms",
        "LONG",
        DAY_MS,
        "How long a compacted log keeps a tombstone, and a transaction's marker, after what it ends is gone."
        " The broker's running time counts.",
        minimum=0,
    ),
    key(
        "log.cleaner.min.cleanable.ratio",
        "DOUBLE",
        0.5,
        "A log is compacted when more than this part of its closed segments is new since the last pass.",
        minimum=0,
        maximum=1,
    ),
    key(
        "log.cleaner.min.compaction.lag.ms",
        "LONG",
        0,
        "A segment with a record younger than this is not compacted.",
        minimum=0,
    ),
    key(
        "log.cleaner.max.compaction.lag.ms",
        "LONG",
        LONG_MAX,
        "A log with a record older than this that was never compacted is, whatever the ratio says. A"
        " compacted topic's segments are closed after this time, too.",
        minimum=1,
    ),
    key(
        "log.message.timestamp.type",
        "STRING",
        "CreateTime",
        "Whether a record's time is its producer's or that of its arrival.",
        choices=("CreateTime", "LogAppendTime"),
    ),
    key(
        "log.message.timestamp.before.max.ms",
        "LONG",
        LONG_MAX,
        "How far in the past a producer's timestamp may lie.",
        minimum=0,
    ),
    key(
        "log.message.timestamp.after.max.ms",
        "LONG",
        HOUR_MS,
        "How far in the future a producer's timestamp may lie.",
        minimum=0,
    ),
    key(
        "message.max.bytes",
        "INT",
        1_048_588,
        "The largest record batch that is taken, as compressed by its producer.",
        minimum=0,
    ),
    key(
        "compression.type",
        "STRING",
        "producer",
        "Batches are kept as their producer compressed them; only `producer` is served.",
        check=_check_compression,
    ),
    key(
        "min.insync.replicas",
        "INT",
        1,
        "Every acknowledged record is on a majority of the replicas whatever this says; a value above the"
        " majority does not make it more.",
        minimum=1,
        ignored=True,
    ),
    key(
        "unclean.leader.election.enable",
        "BOOLEAN",
        False,
        "Only false: a replica that lacks an acknowledged record cannot lead.",
        check=_check_only_false,
    ),
]
