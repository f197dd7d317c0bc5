"""Settings of consumer groups and of producers."""

from __future__ import annotations

from typing import Final

from raftlog.config.keys import DAY_MS, INT_MAX, ConfigKey, key

GROUPS_AND_PRODUCERS: Final[list[ConfigKey]] = [
    key(
        "group.min.session.timeout.ms", "INT", 6_000, "The shortest session time-out of a member.", minimum=1
    ),
    key(
        "group.max.session.timeout.ms",
        "INT",
        1_800_000,
        "The longest session time-out of a member.",
        minimum=1,
    ),
    key(
        "group.initial.rebalance.delay.ms",
        "INT",
        0,
        "How long the first rebalance of an empty group waits for more members. Kafka waits 3000, which"
        " saves rebalances when many members start together and costs every test and tutorial three"
        " seconds; 0 starts at once.",
        minimum=0,
    ),
    key("group.max.size", "INT", INT_MAX, "Members that a group may have.", minimum=1),
    key(
        "offsets.retention.minutes",
        "INT",
        10_080,
        "A group's offsets are forgotten when it has had no members for this long.",
        minimum=1,
    ),
    key(
        "offsets.retention.check.interval.ms",
        "LONG",
        600_000,
        "How often offsets are looked through for what is due to be forgotten.",
        minimum=1,
    ),
    key(
        "offset.metadata.max.bytes",
        "INT",
        4096,
        "The longest text that may be committed with an offset.",
        minimum=0,
    ),
    key(
        "producer.id.expiration.ms",
        "INT",
        DAY_MS,
        "A partition forgets an idempotent producer that has been silent for longer, and those silent "
        "longest beyond 20,000.",
        minimum=1,
    ),
    key(
        "transaction.max.timeout.ms",
        "INT",
        900_000,
        "The longest time-out that a transactional producer may ask for: its transaction is aborted when it "
        "has been open for longer than its time-out.",
        minimum=1,
    ),
    key(
        "transactional.id.expiration.ms",
        "INT",
        7 * DAY_MS,
        "A transactional id is forgotten when it has not been used for this long, outside of a transaction.",
        minimum=1,
    ),
]
