"""Which committed offsets have outlived their retention (KIP-211): what the coordinator proposes to forget.

A group without members loses the offsets that are older than the retention, once it has been empty for as
long; one with members loses those of topics that none of them subscribes to. Synchronous: it looks at a few
groups each time it is asked, and begins again when the check interval has passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from raftlog.cluster.groups import GroupCoordinator
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.offsets import ExpireOffsets, ExpireTopicOffsets

ROWS_AT_ONCE: Final = 2000
"""Offsets that are looked at in one pass: a few milliseconds."""
GROUPS_AT_ONCE: Final = 1000
GROUPS_A_COMMAND: Final = 20
"""Group ids are up to 32 kB long, and a command has a largest size."""


class OffsetExpiry:
    """Where the look over all groups has got to."""

    def __init__(
        self,
        catalog: Catalog,
        groups: GroupCoordinator,
        retention_ms: int,
        interval_s: float,
    ) -> None:
        self._catalog = catalog
        self._groups = groups
        self._retention_ms = retention_ms
        self._interval_s = interval_s
        self._left: list[str] = []
        self._next_round = 0.0

    def tick(self, now: float, now_ms: int) -> list[ExpireOffsets | ExpireTopicOffsets]:
        """The commands for the groups that were looked at; only the coordinator asks."""
        if not self._left:
            if now < self._next_round:
                return []
            self._next_round = now + self._interval_s
            self._left = list(self._catalog.group_offsets)
        before_ms = now_ms - self._retention_ms
        looked_at = list(self._take())
        empty = self._groups.expirable(looked_at, self._retention_ms, now)
        old = [group for group in empty if self._old_topics(group, before_ms)]
        commands: list[ExpireOffsets | ExpireTopicOffsets] = [
            ExpireOffsets(groups=tuple(old[first : first + GROUPS_A_COMMAND]), before_ms=before_ms)
            for first in range(0, len(old), GROUPS_A_COMMAND)
        ]
        if self._catalog.metadata_level < ExpireTopicOffsets.needs_level:
            return commands
        for group in looked_at:
            unread = self._groups.unsubscribed(group, self._catalog.group_offsets.topics(group))
            topics = self._old_topics(group, before_ms, unread) if unread else []
            if topics:
                commands.append(ExpireTopicOffsets(group=group, topics=tuple(topics), before_ms=before_ms))
        return commands

    def _take(self) -> Iterator[str]:
        offsets = self._catalog.group_offsets
        rows = groups = 0
        while self._left and rows < ROWS_AT_ONCE and groups < GROUPS_AT_ONCE:
            group = self._left.pop()
            groups += 1
            rows += sum(len(offsets.rows(group, topic)) for topic in offsets.topics(group))
            yield group

    def _old_topics(self, group: str, before_ms: int, among: list[str] | None = None) -> list[str]:
        offsets = self._catalog.group_offsets
        return [
            topic
            for topic in (offsets.topics(group) if among is None else among)
            if any(at.commit_timestamp_ms < before_ms for at in offsets.rows(group, topic).values())
        ]
