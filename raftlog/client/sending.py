"""The producer's sending: batches to leaders, and their answers back to the accumulator.

Synchronous: an answer's callback sends what has become ready, so a record costs no task switch and a request
none but its reader's. What is sent when is decided by the accumulator.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio

from raftlog.client.accumulator import FOREVER, Accumulator
from raftlog.client.batches import Batch
from raftlog.client.cluster import LEADER_PATIENCE_S, Cluster
from raftlog.client.errors import ClientError, Closed, NotSupported, RequestTimedOut
from raftlog.client.settings import ProducerSettings
from raftlog.protocol import expected_offset
from raftlog.protocol.api import ApiKey
from raftlog.protocol.schema import timestamp_ms

PRODUCE_VERSION_MAX: Final = 12
"""Version 13 names topics by id; until then names do."""
TRANSACTIONAL_VERSION_MAX: Final = 11
"""From version 12 on the broker adds partitions to transactions by itself (KIP-890, part 2)."""


class Sender:
    """One producer's requests."""

    def __init__(
        self,
        cluster: Cluster,
        settings: ProducerSettings,
        accumulator: Accumulator,
    ) -> None:
        self.before: Callable[[], None] = lambda: None
        """Called before anything is sent."""
        self.lane = cluster.connections.new_lane("producer")
        self._cluster = cluster
        self._settings = settings
        self._accumulator = accumulator
        self._most = PRODUCE_VERSION_MAX if settings.transactional_id is None else TRANSACTIONAL_VERSION_MAX
        self._wake = trio.Event()
        self._closed = False
        self._pumping = False
        self._timer = trio.CancelScope()
        self._looked_at = float("-inf")
        self._under_way: dict[int, deque[tuple[float, list[Batch]]]] = {}
        self._landed = trio.Event()

    @property
    def requests_under_way(self) -> int:
        """Requests that are not answered yet."""
        return sum(map(len, self._under_way.values()))

    def __repr__(self) -> str:
        return f"<Sender {self.lane} requests_under_way={self.requests_under_way}>"

    async def until_landed(self) -> None:
        """Wait until no request is under way."""
        while self.requests_under_way:
            await self._landed.wait()

    def close(self) -> None:
        """Close the connections; nothing more is sent."""
        self._closed = True
        self._cluster.connections.close_lane(self.lane)

    def pump(self) -> None:
        """Send whatever may be sent now."""
        if self._pumping or self._closed:
            self._wake.set()
            return
        self._pumping = True
        try:
            self.before()
            requests, again, lost = self._accumulator.drain(
                trio.current_time(), self._cluster.metadata.leader, self._room_at
            )
            for leader, batches in requests:
                self._submit(leader, batches)
        finally:
            self._pumping = False
        self._timer.deadline = min(again, self._leave_silent_leaders())
        if lost:
            self._cluster.request_update()

    def _leave_silent_leaders(self) -> float:
        """When to look at the leaders that have not answered yet. Those that are overdue and lead no more are
        left: what was under way to them is sent again, which its numbers make safe."""
        look, now = FOREVER, trio.current_time()
        for leader, requests in list(self._under_way.items()):
            if not requests:
                continue
            sent_at, batches = requests[0]
            if sent_at + LEADER_PATIENCE_S > now:
                look = min(look, sent_at + LEADER_PATIENCE_S)
                continue
            leaders = {self._cluster.metadata.leader(batch.topic, batch.partition) for batch in batches}
            if leaders - {leader, None}:
                self._cluster.connections.drop(leader, self.lane)
                continue
            if self._looked_at + LEADER_PATIENCE_S <= now:
                self._looked_at = now
                self._cluster.request_update()
            look = min(look, self._looked_at + LEADER_PATIENCE_S)
        return look

    def _room_at(self, broker_id: int) -> int:
        connection = self._cluster.connections.maybe(broker_id, self.lane, self.wake)
        if connection is None:
            return 0
        return self._settings.max_in_flight_requests_per_connection - connection.in_flight

    def wake(self) -> None:
        """Look again what to send."""
        self._wake.set()

    def _submit(self, leader: int, batches: list[Batch]) -> None:
        connection = self._cluster.connections.maybe(leader, self.lane, self.wake)
        knows = connection is None or expected_offset.FEATURE in connection.features
        if batches[0].expected_offset is not None and not knows:
            self._refuse_to_compare(batches[0], leader)
            return
        topics: dict[str, list[dict[str, Any]]] = {}
        for batch in batches:
            data = {"index": batch.partition, "records": batch.wire}
            if batch.expected_offset is not None:
                data[expected_offset.FIELD] = batch.expected_offset
            topics.setdefault(batch.topic, []).append(data)
        acks = self._settings.acks_number
        fields = {
            "transactional_id": self._settings.transactional_id,
            "acks": acks,
            "timeout": int(self._cluster.settings.request_timeout_ms),
            "topic_data": [{"name": name, "partition_data": data} for name, data in topics.items()],
        }
        statistics = self._accumulator.statistics
        statistics.requests += 1
        under_way = self._under_way.setdefault(leader, deque())
        if acks:
            under_way.append((trio.current_time(), batches))
        try:
            if connection is None:
                raise Closed("the connection closed")
            version = connection.version_of(ApiKey.PRODUCE, most=self._most)
            connection.submit(
                ApiKey.PRODUCE,
                version,
                fields,
                deadline=self._cluster.request_deadline(),
                on_answer=partial(self._answered, leader, batches) if acks else None,
            )
        except ClientError as error:
            if acks:
                under_way.pop()
            self._interrupt(batches, error)
            return
        if not acks:
            for batch in batches:
                self._accumulator.complete(batch, 0, -1, -1, None, trio.current_time())

    def _refuse_to_compare(self, batch: Batch, leader: int) -> None:
        """A broker that does not know the field would pass over it, and append."""
        self._accumulator.refuse(
            batch,
            NotSupported(
                f"expected_offset: broker {leader} does not compare offsets (it announces no feature"
                f" {expected_offset.FEATURE}, as Apache Kafka does not): nothing was sent",
                topic=batch.topic,
                partition=batch.partition,
            ),
        )
        self._wake.set()

    def _answered(self, leader: int, batches: list[Batch], answer: Any) -> None:
        self._under_way[leader].popleft()
        landed, self._landed = self._landed, trio.Event()
        landed.set()
        if isinstance(answer, ClientError):
            self._interrupt(batches, answer)
        else:
            self._take(batches, answer)
        self.pump()

    def _interrupt(self, batches: list[Batch], error: ClientError) -> None:
        now = trio.current_time()
        for batch in batches:
            self._accumulator.interrupt(batch, error, now)
        self._cluster.request_update()
        self._wake.set()

    def _take(self, batches: list[Batch], answer: Any) -> None:
        results = {
            (str(topic.name), int(one.index)): one
            for topic in answer.responses
            for one in topic.partition_responses
        }
        now = trio.current_time()
        stale = False
        for batch in batches:
            one = results.get((batch.topic, batch.partition))
            if one is None:
                missing = RequestTimedOut("the broker's answer does not mention the partition")
                self._accumulator.interrupt(batch, missing, now)
                continue
            leader = getattr(one, "current_leader", None)
            hinted = leader is not None and self._cluster.metadata.learn_leader(
                batch.topic, batch.partition, int(leader.leader_id), int(leader.leader_epoch)
            )
            wants_update = self._accumulator.complete(
                batch,
                int(one.error_code),
                int(one.base_offset),
                timestamp_ms(one.log_append_time),
                getattr(one, "error_message", None),
                now,
            )
            stale = stale or (wants_update and not hinted)
        if stale:
            self._cluster.request_update()

    async def keep_sending(self) -> None:
        """The task that pumps when something has changed."""
        while True:
            with self._timer:
                await self._wake.wait()
            self._wake = trio.Event()
            self._timer = trio.CancelScope()
            self.pump()
