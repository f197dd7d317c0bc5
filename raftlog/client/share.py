"""The partitions that a consumer reads: which its user wants, and how they come and go.

Without a group they are all of the topics; with one the membership says which, and this is its `Owner`. The
user's code stands still while it waits for records: only then are partitions taken away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Protocol

import trio

from raftlog.client.cluster import Cluster
from raftlog.client.commits import Commits
from raftlog.client.fetcher import Fetcher
from raftlog.client.group import Membership
from raftlog.client.metadata import TopicPartition
from raftlog.client.missing import Missing
from raftlog.client.reading import Reading
from raftlog.client.settings import ConsumerSettings
from raftlog.errors import ConfigError

ONE_OF_THREE: Final = "a consumer takes topics, or a pattern, or partitions: one of the three"

Pattern = str | re.Pattern[str]
Partition = TopicPartition | tuple[str, int]


class Listener(Protocol):
    """Who is told what comes and goes."""

    async def assigned(self, partitions: frozenset[TopicPartition]) -> None: ...
    async def revoked(self, partitions: frozenset[TopicPartition]) -> None: ...
    async def lost(self, partitions: frozenset[TopicPartition]) -> None: ...


class Share:
    """One consumer's partitions."""

    def __init__(
        self,
        cluster: Cluster,
        settings: ConsumerSettings,
        fetcher: Fetcher,
        reading: Reading,
        *,
        group: Membership | None,
        commits: Commits | None,
        listener: Listener,
    ) -> None:
        self.is_polling = False
        """The user waits for records."""
        self._cluster = cluster
        self._settings = settings
        self._fetcher = fetcher
        self._reading = reading
        self._group = group
        self._commits = commits
        self._listener = listener
        self.missing = Missing(
            cluster.metadata,
            cluster.trouble,
            patience_s=cluster.settings.default_api_timeout_ms / 1000,
            fail=fetcher.fail,
        )
        self._topics: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self._manual: frozenset[TopicPartition] = frozenset()
        self._matched: tuple[str, ...] = ()
        self._polled = trio.Event()
        self._left_seen = 0
        self._progress_at = 0.0

    def __repr__(self) -> str:
        return f"<Share {sorted(self.owned())}>"

    # -- what the user wants

    def want(
        self, topics: Iterable[str] = (), pattern: Pattern | None = None, partitions: Iterable[Partition] = ()
    ) -> None:
        """Read topics, or those that match a pattern, or certain partitions. Raises ConfigError."""
        self._topics = frozenset(topics)
        self._pattern = re.compile(pattern) if pattern is not None else None
        self._manual = frozenset(TopicPartition(*one) for one in partitions)
        if sum(map(bool, (self._topics, self._pattern, self._manual))) > 1:
            raise ConfigError(ONE_OF_THREE)
        if self._commits is not None:
            self._commits.must_be_member = not self._manual

    def subscribe(self, topics: tuple[str, ...], pattern: Pattern | None) -> None:
        """Read other topics from now on."""
        if bool(topics) == (pattern is not None) or self._manual:
            raise ConfigError(ONE_OF_THREE)
        self.want(topics, pattern)
        self.begin()
        if self._group is not None:
            self._group.request_rejoin()

    def assign(self, partitions: tuple[Partition, ...]) -> None:
        """Read exactly these partitions from now on, whatever the group does."""
        if self._topics or self._pattern is not None:
            raise ConfigError(ONE_OF_THREE)
        self.want(partitions=partitions)
        self._let_go(self.owned() - self._manual)
        self.begin()

    def begin(self) -> None:
        """Have metadata of what is wanted, and read what needs no group."""
        named = self._topics | {key.topic for key in self._manual}
        self._cluster.watch(self, None if self._pattern is not None else named)
        self.metadata_changed()

    @property
    def wants_nothing(self) -> bool:
        """The user has named nothing to read."""
        return not (self._topics or self._manual or self._pattern is not None)

    @property
    def is_settled(self) -> bool:
        """The partitions are known that are read now, and where reading begins in each."""
        if self.wants_nothing or any(p.position is None for p in self._fetcher.partitions.values()):
            return False
        if self._group is not None and not self._manual:
            return self._group.rebalances > 0
        return not (self._topics - self._cluster.metadata.topics.keys()) and bool(self.owned())

    @property
    def is_grouped(self) -> bool:
        """The group says which partitions are read."""
        return self._group is not None and not self._manual

    def metadata_changed(self) -> None:
        """There may be other topics, or more partitions."""
        self.missing.look(self._topics, self._manual, trio.current_time())
        wanted = self.wanted_topics()
        if self._group is None or self._manual:
            self._read_all(wanted)
        elif wanted != self._matched:
            self._matched = wanted
            self._group.request_rejoin()
        else:
            self._group.topics_changed()
        self._fetcher.wake()

    def _read_all(self, wanted: Iterable[str]) -> None:
        topics = self._cluster.metadata.topics
        keys = {TopicPartition(t, p) for t in wanted if t in topics for p in range(len(topics[t].partitions))}
        gone = frozenset(key for key in self.owned() - keys - self._manual if key.topic not in wanted)
        self._let_go(gone)
        self._fetcher.add(sorted((keys | self._manual) - self.owned()))

    def _let_go(self, partitions: frozenset[TopicPartition]) -> None:
        for key in partitions:
            self._reading.drop(key)
        if self._commits is not None:
            self._commits.forget(partitions)
        self._fetcher.remove(partitions)

    # -- whether the user works or waits

    def user_waits(self) -> None:
        """The user's code stands still, waiting for records."""
        self.is_polling = True
        self._polled.set()

    def user_works(self) -> None:
        """It goes on."""
        self.is_polling = False
        self._polled = trio.Event()
        self._left_seen, self._progress_at = -1, trio.current_time()

    # -- what the membership asks (group.Owner)

    def wanted_topics(self) -> tuple[str, ...]:
        """The topics that the subscription names or matches now."""
        if self._pattern is None:
            return tuple(sorted(self._topics))
        views = self._cluster.metadata.topics.values()
        internal = not self._settings.exclude_internal_topics
        return tuple(
            sorted(
                v.name for v in views if self._pattern.fullmatch(v.name) and (internal or not v.is_internal)
            )
        )

    def owned(self) -> frozenset[TopicPartition]:
        """The partitions that are read now."""
        return frozenset(self._fetcher.partitions)

    def poll_overdue(self, now: float) -> bool:
        """Whether the user's code holds a record for longer than max.poll.interval.ms."""
        left = self._reading.left
        if self.is_polling or left != self._left_seen:
            self._left_seen, self._progress_at = left, now
        return now - self._progress_at > self._settings.max_poll_interval_ms / 1000

    async def until_polling(self) -> None:
        """Wait until the user's code is between two records."""
        while not self.is_polling:
            await self._polled.wait()

    async def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """Let partitions go, once the user's code is between two records."""
        going = frozenset(partitions) & self.owned()
        if not going:
            return
        self._reading.cut()
        await self.until_polling()
        self._reading.is_held = True
        try:
            if self._commits is not None and self._settings.enable_auto_commit:
                positions = self._reading.positions()
                await self._commits.commit_changed({key: positions[key] for key in going & positions.keys()})
            await self._listener.revoked(going)
        finally:
            self._let_go(going)
            self._reading.is_held = False
            self._fetcher.announce()

    async def assign_more(self, partitions: Iterable[TopicPartition]) -> None:
        """Take partitions."""
        coming = frozenset(partitions)
        self._fetcher.add(sorted(coming))
        await self._listener.assigned(coming)
        self._fetcher.announce()

    async def lose(self, partitions: Iterable[TopicPartition]) -> None:
        """Others have these partitions already."""
        going = frozenset(partitions) & self.owned()
        if going:
            self._let_go(going)
            await self._listener.lost(going)

    def close(self) -> None:
        """Ask for metadata no longer."""
        self._cluster.unwatch(self)
