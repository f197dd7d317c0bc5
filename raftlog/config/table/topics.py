"""Settings of a topic. Type, range and meaning are those of the broker setting that is its default."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from raftlog.config.keys import DAY_MS, HOUR_MS, LONG_MAX, ConfigKey, Value, key
from raftlog.config.table.logs import LOGS, TOPIC_CREATION

_DEFAULTS: Final = {key.name: key for key in (*TOPIC_CREATION, *LOGS)}


def _topic(name: str, default: Value, *synonyms: str | tuple[str, int]) -> ConfigKey:
    """A topic key that takes type, range and meaning from the first of the broker keys that its
    default comes from."""
    pairs = tuple((item, 1) if isinstance(item, str) else item for item in synonyms)
    base = _DEFAULTS[pairs[0][0]]
    return replace(base, name=name, scope="topic", default=default, synonyms=pairs)


def _ignored_topic(name: str, kind: str, default: Value, doc: str) -> ConfigKey:
    return key(name, kind, default, doc, scope="topic", ignored=True)


TOPICS: Final[list[ConfigKey]] = [
    _topic("cleanup.policy", ("delete",), "log.cleanup.policy"),
    _topic("compression.type", "producer", "compression.type"),
    _topic("max.message.bytes", 1_048_588, "message.max.bytes"),
    _topic("message.timestamp.type", "CreateTime", "log.message.timestamp.type"),
    _topic("message.timestamp.before.max.ms", LONG_MAX, "log.message.timestamp.before.max.ms"),
    _topic("message.timestamp.after.max.ms", HOUR_MS, "log.message.timestamp.after.max.ms"),
    _topic("min.insync.replicas", 1, "min.insync.replicas"),
    _topic("retention.bytes", -1, "log.retention.bytes"),
    _topic(
        "retention.ms",
        7 * DAY_MS,
        "log.retention.ms",
        ("log.retention.minutes", 60_000),
        ("log.retention.hours", HOUR_MS),
    ),
    _topic("segment.bytes", 1_073_741_824, "log.segment.bytes"),
    _topic("segment.ms", 7 * DAY_MS, "log.roll.ms", ("log.roll.hours", HOUR_MS)),
    _topic("unclean.leader.election.enable", False, "unclean.leader.election.enable"),
    _topic("delete.retention.ms", DAY_MS, "log.cleaner.delete.retention.ms"),
    _topic("min.cleanable.dirty.ratio", 0.5, "log.cleaner.min.cleanable.ratio"),
    _topic("min.compaction.lag.ms", 0, "log.cleaner.min.compaction.lag.ms"),
    _topic("max.compaction.lag.ms", LONG_MAX, "log.cleaner.max.compaction.lag.ms"),
    _ignored_topic("file.delete.delay.ms", "LONG", 60_000, "Open files outlive their deletion."),
    _ignored_topic("flush.messages", "LONG", LONG_MAX, "Every write is durable before it is acknowledged."),
    _ignored_topic("flush.ms", "LONG", LONG_MAX, "Every write is durable before it is acknowledged."),
    _ignored_topic("index.interval.bytes", "INT", 4096, "The index chooses its own spacing."),
    _ignored_topic("preallocate", "BOOLEAN", False, "The write-ahead log is preallocated, segments are not."),
    _ignored_topic("segment.index.bytes", "INT", 10_485_760, "The index is as large as it needs to be."),
    _ignored_topic("segment.jitter.ms", "LONG", 0, "Closing a segment costs nothing worth spreading."),
]
