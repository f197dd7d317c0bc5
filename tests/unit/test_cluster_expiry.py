"""Which committed offsets expire (KIP-211)."""

from __future__ import annotations

from raftlog.cluster.expiry import OffsetExpiry
from raftlog.metadata.catalog import METADATA_LEVEL
from raftlog.metadata.offsets import ExpireOffsets, ExpireTopicOffsets
from tests.groups import Groups
from tests.unit.test_metadata_state import Log, create

HOUR_MS = 3_600_000


class Expiring:
    def __init__(self, groups: Groups, interval_s: float = 60.0, *, level: int = 2) -> None:
        self.log = Log()
        for name in ("orders", "refunds"):
            self.log.apply(create(name, name.encode().ljust(16)))
        self.log.catalog.features[METADATA_LEVEL] = level
        self.expiry = OffsetExpiry(self.log.catalog, groups.coordinator, HOUR_MS, interval_s)
        self.groups = groups

    def tick(self, now_ms: int = 2 * HOUR_MS) -> list[ExpireOffsets | ExpireTopicOffsets]:
        return self.expiry.tick(self.groups.now, now_ms)


def later(groups: Groups) -> None:
    """Long enough after the coordinator took over."""
    groups.advance(7200)


def test_topics_expire_only_when_every_broker_knows_the_command() -> None:
    """A new coordinator among older brokers, of a rolling upgrade, ended them all with it."""
    groups = Groups()
    later(groups)
    groups.stable(1)
    expiring = Expiring(groups, 1.0, level=1)
    for group in ("g", "nobody"):
        expiring.log.commit(group, "refunds", 0, 1, at_ms=0)
    assert expiring.tick() == [ExpireOffsets(groups=("nobody",), before_ms=HOUR_MS)]
    expiring.log.catalog.features[METADATA_LEVEL] = 2
    groups.advance(2)
    assert ExpireTopicOffsets(group="g", topics=("refunds",), before_ms=HOUR_MS) in expiring.tick()


def test_an_active_group_loses_what_it_does_not_read_any_more() -> None:
    groups = Groups()
    later(groups)
    groups.stable(1)
    expiring = Expiring(groups)
    for topic in ("orders", "refunds"):
        expiring.log.commit("g", topic, 0, 1, at_ms=0)
        expiring.log.commit("nobody", topic, 0, 1, at_ms=0)
    expiring.log.commit("g", "refunds", 1, 1, at_ms=2 * HOUR_MS)
    commands = expiring.tick()
    assert commands == [
        ExpireOffsets(groups=("nobody",), before_ms=HOUR_MS),
        ExpireTopicOffsets(group="g", topics=("refunds",), before_ms=HOUR_MS),
    ]
    for command in commands:
        expiring.log.apply(command)
    assert list(expiring.log.catalog.group_offsets.of("g")) == [("orders", 0), ("refunds", 1)]
    assert expiring.tick() == [], "not before the check interval has passed"
    groups.advance(61)
    assert expiring.tick() == []


def test_many_groups_are_looked_at_a_few_at_a_time() -> None:
    groups = Groups()
    later(groups)
    expiring = Expiring(groups, interval_s=0.0)
    for number in range(2500):
        expiring.log.commit(f"g{number}", "orders", 0, 1, at_ms=0)
    named = [
        group
        for _ in range(3)
        for command in expiring.tick()
        if isinstance(command, ExpireOffsets)
        for group in command.groups
    ]
    assert len(named) == len(set(named)) == 2500
