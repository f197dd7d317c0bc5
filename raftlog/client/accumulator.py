"""The producer's batches: which records wait where, what may be sent now, what an answer means for them.

Pure: time comes in as `now`, in seconds; leaders and connections come in as functions. The producer does the
I/O: it sends what `drain` returns and tells `complete` and `interrupt` how that ended.

Invariants:
* The batches of a partition are sent in the order of their records, and so are retries: a batch that is sent
  again goes alone, as the oldest of its partition, so what was behind it stays behind it.
* With idempotence a batch keeps its sequence numbers through every retry (KIP-98). They are given anew
  only to a batch that is certainly not in the log, under the next epoch, when nothing of the partition is
  under way (KIP-360): so a retry never writes twice. In transactions nothing is numbered anew: a batch that
  failed ends its transaction, and the coordinator gives the next epoch.
* A batch that expects an offset travels alone: nothing of its partition is under way with it.
* `buffered` counts the bytes of every batch that is not done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from raftlog.client.batches import Batch, Queue
from raftlog.client.errors import (
    ClientError,
    broker_error,
    timed_out,
)
from raftlog.client.metadata import TopicPartition
from raftlog.client.settings import ProducerSettings
from raftlog.client.undelivered import failure_of, mismatch
from raftlog.protocol.errors import ErrorCode
from raftlog.records.batch import Codec
from raftlog.records.record import Headers, decode_batch

SEQUENCE_MASK: Final = 0x7FFFFFFF
EPOCH_MAX: Final = 0x7FFF
FOREVER: Final = float("inf")
FATE_S: Final = 1.0
"""How long after a refusal a batch is sent again under its numbers, before it is taken to be in no log. An
earlier copy may lie in the buffer of a connection that has ended; a broker that answers reads it soon."""
UNSEEN_MAX: Final = 64
"""Failed batches that are kept to be raised at the end; the first few say what happened."""


@dataclass(slots=True)
class ProducerStatistics:
    """What a producer has done so far; `buffered_bytes` and `requests_under_way` are as of now."""

    records: int = 0
    records_acknowledged: int = 0
    records_failed: int = 0
    batches: int = 0
    bytes_sent: int = 0
    requests: int = 0
    retries: int = 0
    buffered_bytes: int = 0
    requests_under_way: int = 0


class Accumulator:
    """Every partition's queue of a producer."""

    def __init__(
        self,
        settings: ProducerSettings,
        *,
        retry_backoff: Callable[[int], float],
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.buffered = 0
        self.queues: dict[TopicPartition, Queue] = {}
        self.producer_id = -1
        self.base_epoch = -1
        self.flushing = 0
        self.unseen: deque[Batch] = deque(maxlen=UNSEEN_MAX)
        self.statistics = ProducerStatistics()
        self.admits: Callable[[TopicPartition], bool] = lambda key: True
        """Whether a partition may be written to: transactions add it first."""
        self.on_failure: Callable[[Batch], None] = lambda batch: None
        """Told of each batch that failed."""
        self.on_worn_out: Callable[[], None] = lambda: None
        """A partition has had all epochs of the producer id: `identify` it with another one."""
        self.why_not: Callable[[str, int], ClientError | None] = lambda topic, partition: None
        """What keeps records from a partition now, as far as that is known."""
        self._active: dict[TopicPartition, Queue] = {}
        self._next_expiry = FOREVER
        self._retry_backoff = retry_backoff
        self._on_room = on_room
        self._transactional = settings.transactional_id is not None
        self._linger = settings.linger_ms / 1000
        self._codec: Codec = settings.codec

    def __repr__(self) -> str:
        return f"<Accumulator partitions={len(self._active)} buffered={self.buffered}>"

    @property
    def ready(self) -> bool:
        """Whether batches may be numbered: an idempotent producer needs its id first."""
        return self.producer_id >= 0 or not self.settings.enable_idempotence

    def identify(self, producer_id: int, epoch: int) -> None:
        """The id that InitProducerId gave. A partition keeps an older one until that is worn out."""
        self.producer_id, self.base_epoch = producer_id, epoch

    def renew(self, producer_id: int, epoch: int) -> None:
        """The same with another epoch: every partition begins anew. Nothing may be unfinished."""
        self.identify(producer_id, epoch)
        for queue in self.queues.values():
            queue.epoch, queue.next_sequence = -1, 0
            queue.known = queue.gap = False

    # -- filling

    def queue(self, topic: str, partition: int) -> Queue:
        """The queue of a partition."""
        key = TopicPartition(topic, partition)
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = Queue(topic, partition)
        return queue

    def append(
        self, queue: Queue, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers
    ) -> Batch | None:
        """Put a record into the open batch of a queue, which is returned: it is the batch's last record.

        None when there is no open batch or it is full: `open` the next and try again.
        """
        batch = queue.open
        if batch is None:
            return None
        builder = batch.builder
        before = builder.size
        if not builder.append(timestamp, key, value, headers):
            return None
        self.buffered += builder.size - before
        return batch

    def open(self, queue: Queue, now: float) -> None:
        """Seal the open batch of a queue and open the next."""
        if queue.open is not None:
            queue.open.sealed = True
        settings = self.settings
        deadline = now + settings.delivery_timeout_ms / 1000
        queue.opened += 1
        batch = Batch(queue, (queue.opened,), settings.batch_size, now, deadline)
        queue.open = batch
        queue.waiting.append(batch)
        self._active[TopicPartition(queue.topic, queue.partition)] = queue
        self._next_expiry = min(self._next_expiry, deadline)
        self.buffered += batch.builder.size
        self.statistics.batches += 1

    def close_alone(self, queue: Queue, expected_offset: int) -> None:
        """The open batch, of one record, takes no other, and must get this offset."""
        assert queue.open is not None
        queue.open.expected_offset, queue.open.sealed, queue.open = expected_offset, True, None

    # -- what to send

    def drain(
        self,
        now: float,
        leader_of: Callable[[str, int], int | None],
        room: Callable[[int], int],
    ) -> tuple[list[tuple[int, list[Batch]]], float, bool]:
        """What to send now: ([(broker, batches of one request)…], when to ask again, leader unknown).

        `room(broker)` says how many requests a broker's connection takes; 0 while it is not ready. Batches
        that are returned are under way until `complete` or `interrupt` is told about each of them.
        """
        again = self._expire(now)
        requests: list[tuple[int, list[Batch]]] = []
        lost = False
        rooms: dict[int, int] = {}
        found = self.ready
        while found:  # a request holds one batch of a partition: as many rounds as there are full ones
            found, due, leaderless = self._fill(now, leader_of, room, rooms, requests)
            again = min(again, due)
            lost = lost or leaderless
        return requests, again, lost

    def _fill(
        self,
        now: float,
        leader_of: Callable[[str, int], int | None],
        room: Callable[[int], int],
        rooms: dict[int, int],
        requests: list[tuple[int, list[Batch]]],
    ) -> tuple[bool, float, bool]:
        """One round of `drain`: (whether it found something, when to ask again, leader unknown)."""
        again, lost, found = FOREVER, False, False
        filling: dict[int, tuple[list[Batch], int]] = {}
        for key, queue in list(self._active.items()):
            batch, due = self._sendable(queue, now)
            if batch is None:
                again = min(again, due)
                continue
            if not self.admits(key):
                continue
            leader = leader_of(queue.topic, queue.partition)
            if leader is None:
                lost = True
                continue
            if leader not in rooms:
                rooms[leader] = room(leader)
            is_alone = batch.expected_offset is not None
            batches, size = ([], 0) if is_alone else filling.get(leader, ([], 0))
            if not batches or size + batch.builder.size > self.settings.max_request_size:
                if rooms[leader] <= 0:
                    continue
                rooms[leader] -= 1
                batches, size = [], 0
                requests.append((leader, batches))
            self._launch(queue, batch)
            batches.append(batch)
            if not is_alone:
                filling[leader] = (batches, size + batch.builder.size)
            found = True
            # Who was served goes to the end, so that one full request does not starve the rest.
            self._active[key] = self._active.pop(key)
        return found, again, lost

    def _sendable(self, queue: Queue, now: float) -> tuple[Batch | None, float]:
        """The batch of a queue that may go now, or None and when that may change by itself."""
        if not queue.waiting:
            return None, FOREVER
        batch = queue.waiting[0]
        if batch.not_before > now:
            return None, batch.not_before
        under_way = queue.under_way
        if under_way and (batch.attempts or queue.gap or under_way[0].attempts > 1):
            return None, FOREVER
        if under_way and any(one.expected_offset is not None for one in (batch, under_way[0])):
            return None, FOREVER
        if queue.gap and self._is_worn_out(queue) and not (batch.uncertain and batch.base_sequence >= 0):
            self.on_worn_out()
            return None, FOREVER
        if under_way and self.settings.enable_idempotence and not queue.known:
            # A broker that does not know the producer takes any number for the first: should the first batch
            # be refused (the leader is not ready) and the second be taken, the first could not follow.
            return None, FOREVER
        if batch.sealed or batch.attempts or self.flushing or self.buffered >= self.settings.buffer_memory:
            return batch, now
        if self._linger == 0:
            return (None, FOREVER) if under_way else (batch, now)
        due = batch.created + self._linger
        return (batch, now) if due <= now else (None, due)

    def _launch(self, queue: Queue, batch: Batch) -> None:
        queue.waiting.popleft()
        batch.sealed = True
        if queue.open is batch:
            queue.open = None
        if self.settings.enable_idempotence:
            self._number(queue, batch)
        if batch.wire is None:
            batch.wire = batch.builder.build(
                codec=self._codec,
                producer_id=batch.identity[0],
                producer_epoch=batch.identity[1],
                base_sequence=batch.base_sequence,
                transactional=self._transactional,
            )
        if batch.attempts:
            self.statistics.retries += 1
        batch.attempts += 1
        self.statistics.bytes_sent += len(batch.wire)
        queue.under_way.append(batch)

    def _number(self, queue: Queue, batch: Batch) -> None:
        if batch.uncertain and batch.base_sequence >= 0:
            return  # it may be in the log under these numbers
        if queue.gap:
            assert not queue.under_way, "renumbering while batches are under way"
            queue.gap = False
            queue.epoch = queue.epoch + 1 if queue.epoch < EPOCH_MAX else -1
            queue.next_sequence = 0
        if queue.epoch < 0:
            queue.producer_id, queue.epoch, queue.known = self.producer_id, self.base_epoch, False
        if batch.identity == queue.identity and batch.base_sequence >= 0:
            return
        batch.identity = queue.identity
        batch.base_sequence = queue.next_sequence
        batch.wire = None
        queue.next_sequence = (queue.next_sequence + batch.builder.record_count) & SEQUENCE_MASK

    def _is_worn_out(self, queue: Queue) -> bool:
        """There is no epoch behind the partition's, and no other producer id yet."""
        return queue.epoch >= EPOCH_MAX and queue.producer_id == self.producer_id

    def _expire(self, now: float) -> float:
        """Fail the batches whose delivery time is over; when the next one's is."""
        if now < self._next_expiry:
            return self._next_expiry
        self._next_expiry = FOREVER
        for queue in list(self._active.values()):
            for batch in [*queue.under_way, *queue.waiting]:
                if batch.deadline > now:
                    self._next_expiry = min(self._next_expiry, batch.deadline)
                elif not batch.done:
                    self._expire_batch(queue, batch)
            self._settle(queue)
        return self._next_expiry

    def _expire_batch(self, queue: Queue, batch: Batch) -> None:
        if batch in queue.waiting:
            queue.waiting.remove(batch)
            if queue.open is batch:
                queue.open = None
        else:
            batch.uncertain = True  # it stays under way until its request ends, for the order's sake
        queue.gap = queue.gap or batch.base_sequence >= 0
        limit = self.settings.delivery_timeout_ms / 1000
        reason = self.why_not(batch.topic, batch.partition) or batch.reason
        self._fail(batch, timed_out(f"not acknowledged within {limit:g} s", reason))

    # -- what came of it

    def complete(
        self, batch: Batch, code: int, base_offset: int, log_append_time: int, message: str | None, now: float
    ) -> bool:
        """The broker's answer for a batch. True when the metadata should be asked for again."""
        queue = self._landed(batch)
        error = ErrorCode.of(code)
        if error in (ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER):
            queue.known = queue.known or batch.identity == queue.identity
            if not batch.done:
                self._succeed(batch, base_offset, log_append_time)
            self._settle(queue)
            return False
        if batch.done:  # it expired; nobody waits, and its numbers are lost
            self._settle(queue)
            return error.retriable
        match error:
            case ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER | ErrorCode.UNKNOWN_PRODUCER_ID:
                self._out_of_order(queue, batch, error, message, now)
            case ErrorCode.MESSAGE_TOO_LARGE | ErrorCode.RECORD_LIST_TOO_LARGE if (
                batch.builder.record_count > 1
            ):
                self._split(queue, batch)
            case ErrorCode.OFFSET_OUT_OF_RANGE if batch.expected_offset is not None:
                self._give_up(queue, batch, mismatch(batch, base_offset))
            case _ if error.retriable and batch.attempts <= self.settings.retries:
                batch.uncertain = True
                batch.reason = broker_error(code, message)
                self._retry(queue, batch, now)
            case _:
                self._give_up(queue, batch, broker_error(code, message))
        self._settle(queue)
        return error.retriable

    def interrupt(self, batch: Batch, error: ClientError, now: float) -> None:
        """The request of a batch ended without an answer."""
        queue = self._landed(batch)
        batch.uncertain = True
        batch.reason = error
        if not batch.done:
            if batch.attempts <= self.settings.retries:
                self._retry(queue, batch, now)
            else:
                self._give_up(queue, batch, error)
        self._settle(queue)

    def refuse(self, batch: Batch, error: ClientError) -> None:
        """A batch was not sent, and will not be."""
        queue = self._landed(batch)
        if not batch.done:
            self._give_up(queue, batch, error)
        self._settle(queue)

    def abandon(self, error: ClientError) -> None:
        """Fail everything that is not done: the producer is going away, or its transaction."""
        for queue in list(self._active.values()):
            for batch in queue.under_way:
                batch.uncertain = True
            for batch in [*queue.under_way, *queue.waiting]:
                if not batch.done:
                    self._fail(batch, error)
            queue.waiting.clear()
            queue.under_way.clear()
            queue.open = None
        self._active.clear()

    def unfinished(self) -> list[Batch]:
        """The batches that are not done."""
        return [b for q in self._active.values() for b in (*q.under_way, *q.waiting) if not b.done]

    def _landed(self, batch: Batch) -> Queue:
        queue = self.queues[TopicPartition(batch.topic, batch.partition)]
        if batch in queue.under_way:
            queue.under_way.remove(batch)
        return queue

    def _settle(self, queue: Queue) -> None:
        if queue.idle:
            self._active.pop(TopicPartition(queue.topic, queue.partition), None)

    def _out_of_order(
        self, queue: Queue, batch: Batch, error: ErrorCode, message: str | None, now: float
    ) -> None:
        """The broker has not what comes before this batch. Either that is still being retried, or it will
        never come, or the broker has forgotten this producer.

        A batch that was sent before, behind one that was given up, is refused because neither is in the log
        (KIP-360): it and those that were sent behind it may be numbered anew."""
        if any(not b.done for b in queue.under_way) or self._older_waits(queue, batch):
            self._retry(queue, batch, now)
        elif self._transactional or (batch.uncertain and error is ErrorCode.UNKNOWN_PRODUCER_ID):
            self._give_up(queue, batch, broker_error(error, message))
        elif batch.uncertain and now < batch.refused_at + FATE_S:
            batch.refused_at = min(batch.refused_at, now)
            self._retry(queue, batch, now)
            batch.not_before = batch.refused_at + FATE_S
        else:
            for one in (batch, *queue.waiting):
                if one.identity == batch.identity:
                    one.uncertain = False
            queue.gap = True
            self._retry(queue, batch, now)

    @staticmethod
    def _older_waits(queue: Queue, batch: Batch) -> bool:
        return any(b.order < batch.order and b.identity == batch.identity for b in queue.waiting)

    def _retry(self, queue: Queue, batch: Batch, now: float) -> None:
        batch.not_before = now + self._retry_backoff(batch.attempts - 1)
        self._put_back(queue, [batch])

    def _put_back(self, queue: Queue, batches: Iterable[Batch]) -> None:
        """Before everything that was sent after it, or never."""
        for batch in batches:
            place = sum(1 for other in queue.waiting if other.order < batch.order)
            queue.waiting.insert(place, batch)
        self._active[TopicPartition(queue.topic, queue.partition)] = queue

    def _split(self, queue: Queue, batch: Batch) -> None:
        """Two halves instead of a batch that the broker finds too large; they keep its numbers."""
        assert batch.wire is not None
        records = decode_batch(batch.wire)
        middle = len(records) // 2
        self.buffered -= batch.builder.size
        position = 0
        halves = []
        for part in (records[:middle], records[middle:]):
            order = (*batch.order, position)
            half = Batch(queue, order, batch.builder.size, batch.created, batch.deadline)
            for record in part:
                half.builder.append(record.timestamp, record.key, record.value, record.headers)
            half.sealed = True
            half.attempts = 1  # so that it goes as a retry does
            half.identity = batch.identity
            if batch.base_sequence >= 0:
                half.base_sequence = (batch.base_sequence + position) & SEQUENCE_MASK
            half.parent = batch
            position += len(part)
            self.buffered += half.builder.size
            halves.append(half)
        batch.halves = (halves[0], halves[1])
        self._put_back(queue, halves)

    def _succeed(self, batch: Batch, base_offset: int, log_append_time: int) -> None:
        batch.base_offset = base_offset
        batch.log_append_time = log_append_time
        self.statistics.records_acknowledged += batch.builder.record_count
        self._finish(batch)

    def _give_up(self, queue: Queue, batch: Batch, error: ClientError) -> None:
        queue.gap = queue.gap or batch.base_sequence >= 0
        self._fail(batch, error)

    def _fail(self, batch: Batch, error: ClientError) -> None:
        count = batch.builder.record_count
        batch.error = failure_of(batch, error)
        self.statistics.records_failed += count
        self.unseen.append(batch)
        self._finish(batch)
        self.on_failure(batch)

    def _finish(self, batch: Batch) -> None:
        batch.done = True
        batch.wire = None
        self.buffered -= batch.builder.size
        if batch.event is not None:
            batch.event.set()
        parent = batch.parent
        while parent is not None and parent.halves and all(half.done for half in parent.halves):
            parent.done = True
            if parent.event is not None:
                parent.event.set()
            parent = parent.parent
        self._on_room()
