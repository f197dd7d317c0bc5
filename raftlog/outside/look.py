"""What is seen of a cluster from outside, kept up to date while somebody looks.

Each kind of fact has a task of its own, since a broker that is silent makes its question late and must not
hold up the others. Nobody is asked anything while no page is open.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from raftlog.client.health import (
    NO_LEADER,
    DiskState,
    PartitionState,
    broker_problems,
    disk_problems,
    topic_problems,
)
from raftlog.client.metadata import TopicPartition, TopicView
from raftlog.http.api.source import no_topic
from raftlog.http.messages import Refusal
from raftlog.http.own_client import OwnClient

if TYPE_CHECKING:
    from raftlog.client.admin_values import GroupListing
    from raftlog.client.offsets import CommittedOffset
    from raftlog.client.operations import BrokerState, QuorumView

LOOKED_AT_S: Final = 15.0
"""How long after the last question of a page the cluster is still asked."""
CLUSTER_S: Final = 2.0
OFFSETS_S: Final = 2.0
DISKS_S: Final = 10.0
GROUPS_S: Final = 5.0
ANSWER_S: Final = 5.0
"""How long the cluster may take to tell of its brokers and topics before that is a problem."""
ROUND_S: Final = 10.0
"""How long any round of questions may take; it is begun anew then."""
PARTITIONS_MAX: Final = 20_000
"""Beyond so many, records are not counted: their offsets would be asked for all the time."""
GROUPS_MAX: Final = 500
"""Of so many groups is it known what they have read. A page of the list shows a hundred."""
GROUPS_AT_ONCE: Final = 8
GROUP_S: Final = 2.0
"""For what one group has committed: a group whose coordinator is silent must not hold up the others."""
POINTS: Final = 600
EARLIEST: Final = -2
LATEST: Final = -1

T = TypeVar("T")

log = logging.getLogger("raftlog.outside")


class Look:
    """One for a process. `problem` is why the cluster did not answer the last time; None when it did."""

    def __init__(self, client: OwnClient) -> None:
        self._client = client
        self._looked_at = -LOOKED_AT_S
        self._wanted = trio.Event()
        self._seen = trio.Event()
        self.problem: str | None = None
        self.cluster_id: str | None = None
        self.durability: str | None = None
        """raftlog's own setting; None for another cluster."""
        self.has_controller = True
        self.brokers: Sequence[BrokerState] = ()
        self.topics: Mapping[str, TopicView] = {}
        self.quorum: QuorumView | None = None
        self.starts: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}
        self._ends_at = float("-inf")
        self.disks: dict[int, DiskState] = {}
        self.sizes: dict[int, dict[TopicPartition, int]] = {}
        self.groups: Mapping[str, GroupListing] = {}
        self.committed: dict[str, Mapping[TopicPartition, CommittedOffset]] = {}
        self._asked_at: dict[str, float] = {}
        self.points: deque[tuple[int, float | None, float | None]] = deque(maxlen=POINTS)
        """Wall clock in ms, records a second, lag of all groups."""

    def __repr__(self) -> str:
        return f"<Look {len(self.brokers)} brokers {len(self.topics)} topics>"

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for every_s, see in (
                (CLUSTER_S, self._see_cluster),
                (CLUSTER_S, self._see_quorum),
                (OFFSETS_S, self._see_offsets),
                (DISKS_S, self._see_disks),
                (GROUPS_S, self._see_groups),
            ):
                nursery.start_soon(self._again, every_s, see)

    async def look(self) -> None:
        """Somebody looks: until the first answer is there. Raises Refusal when it does not come."""
        self._looked_at = trio.current_time()
        self._wanted.set()
        with trio.move_on_after(2 * ANSWER_S):
            await self._seen.wait()
        if not self._seen.is_set():
            raise Refusal(504, "TIMED_OUT", self.problem or "the cluster does not answer", retriable=True)

    def topic(self, name: str) -> TopicView:
        """Raises Refusal."""
        found = self.topics.get(name)
        if found is None:
            raise no_topic(name)
        return found

    async def _again(self, every_s: float, see: Callable[[], Awaitable[None]]) -> None:
        while True:
            while trio.current_time() - self._looked_at >= LOOKED_AT_S:
                if self._wanted.is_set():  # one for all tasks
                    self._wanted = trio.Event()
                await self._wanted.wait()
            try:
                with trio.move_on_after(ROUND_S):
                    await see()
            except Refusal as refusal:
                log.info("%s: %s", see.__name__, refusal)
            await trio.sleep(every_s)

    async def _see_cluster(self) -> None:
        try:
            with trio.fail_after(ANSWER_S):
                await self._ask_cluster()
        except (Refusal, trio.TooSlowError) as error:
            self.problem = str(error) or f"the cluster did not answer within {ANSWER_S:g} s"
        else:
            self.problem = None
            self._seen.set()

    async def _ask_cluster(self) -> None:
        client = self._client
        self.topics = await client.ask(lambda c: c.admin.describe_topics())
        self.brokers = await client.ask(lambda c: c.admin.operations.brokers())
        self.has_controller = await client.ask(lambda c: c.admin.operations.has_controller())
        if self.cluster_id is None:
            described = await client.ask(lambda c: c.admin.describe_cluster())
            if described.brokers:  # a cluster that starts may know of none
                self.durability = await self._durability(described.brokers[0].id)
                self.cluster_id = described.cluster_id

    async def _durability(self, broker: int) -> str | None:
        """None, too, for a login that may not read the settings of brokers."""
        try:
            configs = await self._client.ask(lambda c: c.admin.describe_configs(broker=broker))
        except Refusal as refusal:
            if refusal.status != 403:
                raise
            return None
        own = configs.get("raftlog.durability")
        return None if own is None else own.value

    async def _see_quorum(self) -> None:
        try:
            self.quorum = await self._client.ask(lambda c: c.admin.operations.quorum())
        except Refusal:  # it has no leader, or does not tell
            self.quorum = None

    async def _see_offsets(self) -> None:
        """Of the partitions that are led: nobody can say it of the others."""
        led = [key for key in self.partitions() if self._leader(key) is not None]
        if len(led) > PARTITIONS_MAX:
            return
        ends, now = await self._places(led, LATEST), trio.current_time()
        if not self.starts.keys() >= ends.keys() or len(self.points) % 5 == 0:  # they seldom move
            self.starts = await self._places(led, EARLIEST)
        came = sum(max(0, ends[key] - self.ends[key]) for key in ends if key in self.ends)
        rate = came / (now - self._ends_at) if now - self._ends_at < LOOKED_AT_S else None
        self.ends, self._ends_at = ends, now
        self.points.append((time.time_ns() // 1_000_000, rate, self.lag()))

    async def _see_disks(self) -> None:
        async def one(broker: int) -> None:
            try:
                with trio.move_on_after(ANSWER_S / 2):
                    keys = [
                        TopicPartition(name, each.partition)
                        for name, topic in self.topics.items()
                        for each in topic.partitions
                        if broker in each.replicas
                    ]
                    disk = await self._client.ask(lambda c: c.admin.operations.disk(broker))
                    sizes = await self._client.ask(lambda c: c.admin.operations.sizes(keys, broker))
                    self.disks[broker], self.sizes[broker] = disk, sizes
            except Refusal as refusal:
                log.info("the disk of broker %d: %s", broker, refusal)

        alive = {broker.id for broker in self.brokers if broker.is_alive}
        for gone in self.disks.keys() - alive:  # what it said last is true no more
            del self.disks[gone], self.sizes[gone]
        async with trio.open_nursery() as nursery:
            for broker in sorted(alive):
                nursery.start_soon(one, broker)

    async def _see_groups(self) -> None:
        found = await self._client.ask(lambda c: c.admin.list_groups())
        self.groups = {one.group: one for one in found}
        for gone in self.committed.keys() - self.groups.keys():
            del self.committed[gone]
        for gone in self._asked_at.keys() - self.groups.keys():
            del self._asked_at[gone]
        limit = trio.CapacityLimiter(GROUPS_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for name in sorted(list(self.groups)[:GROUPS_MAX], key=lambda one: self._asked_at.get(one, 0.0)):
                await limit.acquire_on_behalf_of(name)
                nursery.start_soon(self._see_group, name, limit)

    async def _see_group(self, name: str, limit: trio.CapacityLimiter) -> None:
        self._asked_at[name] = trio.current_time()
        try:
            with trio.move_on_after(GROUP_S):
                self.committed[name] = await self._client.ask(lambda c: c.admin.group_offsets(name))
        except Refusal as refusal:
            log.info("the offsets of group %r: %s", name, refusal)
        finally:
            limit.release_on_behalf_of(name)

    async def _places(self, keys: Iterable[TopicPartition], spec: int) -> dict[TopicPartition, int]:
        wanted = dict.fromkeys(keys, spec)
        if not wanted:
            return {}
        found = await self._client.ask(lambda c: c.admin.list_offsets(wanted))
        return {key: place.offset for key, place in found.items() if place is not None}

    def partitions(self) -> Iterable[TopicPartition]:
        for name, view in self.topics.items():
            for each in view.partitions:
                yield TopicPartition(name, each.partition)

    def _leader(self, key: TopicPartition) -> int | None:
        return self.topics[key.topic].partitions[key.partition].leader

    # What follows from it

    def states_of(self, topic: TopicView) -> list[PartitionState]:
        return [
            PartitionState(each.partition, each.leader, len(each.replicas), len(each.in_sync))
            for each in topic.partitions
        ]

    def lags_of(self, group: str, topic: str | None = None) -> list[int]:
        """Of each partition, of one topic or of all, that a group has committed something of."""
        return [
            max(0, self.ends[key] - at.offset)
            for key, at in self.committed.get(group, {}).items()
            if key in self.ends and topic in (None, key.topic)
        ]

    def lag(self) -> int:
        return sum(sum(self.lags_of(group)) for group in self.committed)

    def problems(self) -> list[str]:
        """As `raftlog cluster health` says them."""
        if self.problem is not None:
            return [self.problem]
        problems = [] if self.has_controller else [NO_LEADER]
        problems += broker_problems((broker.id, broker.is_alive) for broker in self.brokers)
        for name, topic in self.topics.items():
            problems += topic_problems(name, self.states_of(topic))
        return problems + disk_problems(self.disks.values())
