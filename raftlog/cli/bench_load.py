"""The loads of a benchmark, put on any Kafka-protocol broker through librdkafka (confluent-kafka).

Decides how records are made, sent, awaited and read back. Knows nothing of options or of how a result is
shown. What a load does for each record is part of what is measured, so it is little: delivery reports of
success are asked for only where latencies are (they cost the client half as much again at 100 B), and
arrays of messages are taken apart by C functions.

confluent-kafka is an extra, so it is imported when a load starts.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle, islice
from typing import Any, Final, TypeAlias

from raftlog.cli.bench_figures import OffsetCheck, Run
from raftlog.cli.bench_processes import (
    cpu_between,
    cpu_seconds,
    is_local,
    machine_seconds,
    pids_listening,
)
from raftlog.cli.bench_records import make_keys, make_values

Progress: TypeAlias = Callable[[int, int, float], None]
"""Called now and then with the records, payload bytes and seconds so far."""

_CHUNK_RECORDS_MAX: Final = 1000
_CHUNK_BYTES: Final = 1_000_000
"""How much is sent between two looks at the clock and at Ctrl-C."""
_CONSUME_RECORDS: Final = 10_000
_WAIT: Final = 0.1
"""Seconds of one blocking call; Ctrl-C is looked at in between."""
_CONNECT_SECONDS: Final = 10.0
_STALL_SECONDS: Final = 30.0
_INTERRUPTED_FLUSH: Final = 0.4


class BrokerUnavailable(Exception):
    """No broker answers, or it does not give what the benchmark needs; the message says which."""


class Stop:
    """Whether the user wants the run to end; set from a signal handler."""

    requested = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to do. One of `count` and `seconds` ends a run; consuming ends where the topic does as well."""

    bootstrap: str
    topic: str
    partitions: int = 1
    replication: int = -1
    size: int = 1000
    count: int | None = None
    seconds: float | None = None
    acks: str = "all"
    compression: str = "none"
    linger_ms: float = 5.0
    batch_size: int = 1_000_000
    keys: int = 0
    payload: str = "random"
    rate: float | None = None
    warmup_seconds: float = 1.0
    latencies: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)

    def ended(self, records: int, seconds: float) -> bool:
        if self.count is not None and records >= self.count:
            return True
        return self.seconds is not None and seconds >= self.seconds

    def producer_config(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.bootstrap,
            "client.id": "raftlog-bench",
            "acks": -1 if self.acks == "all" else int(self.acks),
            "compression.type": self.compression,
            "linger.ms": self.linger_ms,
            "batch.size": self.batch_size,
            "message.max.bytes": max(1_000_000, self.size + 4096),
            # A bounded queue stays in the processor's cache: a fifth of the client's CPU at 10 kB.
            "queue.buffering.max.kbytes": max(32_768, 4 * self.size // 1024),
            "queue.buffering.max.messages": 1_000_000,
            "socket.nagle.disable": True,
            "message.timeout.ms": 60_000,
            **self.properties,
        }

    def consumer_config(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.bootstrap,
            "client.id": "raftlog-bench",
            "group.id": "raftlog-bench",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            # librdkafka waits a second when its queue is full, by default, and measures its own waiting.
            "fetch.queue.backoff.ms": 1,
            "queued.min.messages": 1_000_000,
            "queued.max.messages.kbytes": 262_144,
            **self.properties,
        }


class Meter:
    """Time and CPU between `start` and `run`."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids

    def start(self) -> None:
        self._brokers = cpu_seconds(self._pids)
        self._client = time.process_time()
        self._machine = machine_seconds()
        self._time = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._time

    def run(
        self,
        *,
        records: int,
        payload_bytes: int,
        seconds: float | None = None,
        latencies: Sequence[float] = (),
        errors: Mapping[str, int] | None = None,
        interrupted: bool = False,
    ) -> Run:
        client = time.process_time() - self._client
        brokers = cpu_between(self._brokers, cpu_seconds(self._pids))
        return Run(
            records=records,
            payload_bytes=payload_bytes,
            seconds=self.seconds() if seconds is None else seconds,
            client_cpu_seconds=client,
            broker_cpu_seconds=brokers,
            others_cpu_share=self._others_share(client + sum(brokers.values())) if brokers else None,
            latencies=latencies,
            errors=errors or {},
            interrupted=interrupted,
        )

    def _others_share(self, ours: float) -> float | None:
        before, after = self._machine, machine_seconds()
        if before is None or after is None or after[1] <= before[1]:
            return None
        return max(0.0, (after[0] - before[0] - ours) / (after[1] - before[1]))


def _records(load: Load) -> Iterator[tuple[bytes, bytes | None]]:
    rng = random.Random(1)
    return zip(
        cycle(make_values(load.size, load.payload, rng)), cycle(make_keys(load.keys, rng)), strict=False
    )


def find_brokers(load: Load) -> list[int]:
    """The process ids of the brokers on this machine; waits for one to answer. Raises BrokerUnavailable."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # librdkafka would log every attempt; the last one's error is raised below.
    quiet = {"log_level": 2, "reconnect.backoff.ms": 250}
    admin = AdminClient({"bootstrap.servers": load.bootstrap, **quiet, **load.properties})
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            brokers = admin.list_topics(timeout=5 * _WAIT).brokers.values()
            break
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise BrokerUnavailable(
                    f"no broker answers at {load.bootstrap}: {error.args[0].str()}"
                ) from None
    return pids_listening(broker.port for broker in brokers if broker.host and is_local(broker.host))


def ensure_topic(load: Load) -> None:
    """Create the topic unless it is there, with as many partitions as asked for. Raises BrokerUnavailable."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    admin = AdminClient({"bootstrap.servers": load.bootstrap, **load.properties})
    topic = NewTopic(load.topic, num_partitions=load.partitions, replication_factor=load.replication)
    try:
        admin.create_topics([topic], operation_timeout=_CONNECT_SECONDS)[load.topic].result(_CONNECT_SECONDS)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise BrokerUnavailable(f"topic {load.topic}: {error.args[0].str()}") from None
    # A topic of another shape would be measured under this one's name.
    deadline = time.monotonic() + _CONNECT_SECONDS
    while (found := len(admin.list_topics(load.topic, timeout=5).topics[load.topic].partitions)) == 0:
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"topic {load.topic} does not appear")
        time.sleep(_WAIT)
    if found != load.partitions:
        raise BrokerUnavailable(f"topic {load.topic} has {found} partitions, not {load.partitions}")


def end_offsets(load: Load) -> tuple[dict[int, int], dict[int, int]]:
    """The first and the next offset of each partition of the topic."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    consumer = Consumer(load.consumer_config())
    start, end = {}, {}
    try:
        partitions = consumer.list_topics(load.topic, timeout=5).topics[load.topic].partitions
        for partition in partitions:
            where = TopicPartition(load.topic, partition)
            start[partition], end[partition] = consumer.get_watermark_offsets(where, timeout=5)
    except KafkaException as error:
        raise BrokerUnavailable(f"the offsets of topic {load.topic}: {error.args[0].str()}") from None
    finally:
        consumer.close()
    return start, end


class _Sender:
    """A producer with the records to send, and what became of them."""

    def __init__(self, load: Load, records: Iterator[tuple[bytes, bytes | None]], stop: Stop) -> None:
        from confluent_kafka import Producer

        self.failures: Counter[str] = Counter()
        self.latencies: list[float] = []
        config = load.producer_config() | {"on_delivery": self._delivered}
        if not load.latencies:
            config["delivery.report.only.error"] = True
        self._producer = Producer(config)
        self._topic, self._records, self._stop = load.topic, records, stop
        self._chunk = max(1, min(_CHUNK_RECORDS_MAX, _CHUNK_BYTES // max(load.size, 1)))
        self.sent = 0

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failures[error.name()] += 1
        else:
            self.latencies.append(message.latency())

    def send_chunk(self, most: int | None) -> None:
        """Put some records into the client's queue, waiting for room in it."""
        produce, poll, topic = self._producer.produce, self._producer.poll, self._topic
        for value, key in islice(self._records, self._chunk if most is None else min(self._chunk, most)):
            while True:
                try:
                    produce(topic, value, key)
                    break
                except BufferError:
                    if self._stop.requested:
                        return
                    poll(_WAIT / 10)
            self.sent += 1
        poll(0)

    def forget(self) -> None:
        """Start counting again, with the connections as they are."""
        self.sent = 0
        self.latencies = []

    def finish(self) -> int:
        """Wait until nothing is on its way any more, and say how many records were given up on Ctrl-C."""
        while len(self._producer) and not self._stop.requested:
            self._producer.flush(_WAIT)
        if not self._stop.requested:
            return 0
        left = int(self._producer.flush(_INTERRUPTED_FLUSH))
        if left:
            failures = self.failures.copy()
            self._producer.purge()
            self._producer.poll(0)
            self.failures = failures  # what was purged did not fail
        return left


def produce(load: Load, pids: Sequence[int], stop: Stop, progress: Progress) -> Run:
    """Send as fast as the client can, and wait for every acknowledgement."""
    sender, meter = _Sender(load, _records(load), stop), Meter(pids)
    meter.start()
    while not stop.requested and meter.seconds() < load.warmup_seconds:
        sender.send_chunk(None)
    sender.finish()
    if sender.failures:
        raise BrokerUnavailable(f"records failed in the warm-up: {dict(sender.failures)}")
    sender.forget()
    before = sum(end_offsets(load)[1].values())
    meter.start()
    while not stop.requested and not load.ended(sender.sent, seconds := meter.seconds()):
        sender.send_chunk(None if load.count is None else load.count - sender.sent)
        progress(sender.sent, sender.sent * load.size, seconds)
    given_up = sender.finish()
    delivered = sender.sent - given_up - sum(sender.failures.values())
    run = meter.run(
        records=delivered,
        payload_bytes=delivered * load.size,
        latencies=sender.latencies,
        errors=sender.failures,
        interrupted=stop.requested,
    )
    if load.acks != "all" or stop.requested:
        return run
    # The log must have grown by what was acknowledged, at least: a retry may have added a record twice.
    missing = max(0, before + delivered - sum(end_offsets(load)[1].values()))
    return replace(run, errors={**run.errors, "missing": missing})


def latency(load: Load, pids: Sequence[int], stop: Stop, progress: Progress) -> Run:
    """Send one record at a time, or `rate` a second, and time each from when it was to be sent.

    At a fixed rate a record's time starts at its place in the schedule, not when the client got round to
    it, so that a broker that stalls is charged for all records that waited (coordinated omission).
    """
    from confluent_kafka import Producer

    producer = Producer(load.producer_config() | {"linger.ms": 0})
    records = _records(load)
    send_all = _send_in_turn if load.rate is None else _send_at_rate
    warm_up = _Probe(producer, load, stop)
    send_all(warm_up, records, load.rate, lambda probe, seconds: seconds >= load.warmup_seconds, None)
    probe, meter = _Probe(producer, load, stop), Meter(pids)
    meter.start()
    send_all(probe, records, load.rate, lambda probe, seconds: load.ended(probe.sent, seconds), progress)
    if not stop.requested:
        probe.wait_for_all(_STALL_SECONDS)
        probe.failures["unanswered"] = probe.outstanding
    answered = len(probe.latencies)
    return meter.run(
        records=answered,
        payload_bytes=answered * load.size,
        latencies=probe.latencies,
        errors=probe.failures,
        interrupted=stop.requested,
    )


class _Probe:
    """Records sent one by one, each timed by its own callback."""

    def __init__(self, producer: Any, load: Load, stop: Stop) -> None:
        self._producer, self._topic, self._stop = producer, load.topic, stop
        self.size = load.size
        self.latencies: list[float] = []
        self.failures: Counter[str] = Counter()
        self.sent = 0

    @property
    def outstanding(self) -> int:
        return self.sent - len(self.latencies) - sum(self.failures.values())

    @property
    def stopped(self) -> bool:
        return self._stop.requested

    def send(self, value: bytes, key: bytes | None, intended: float) -> None:
        while True:
            try:
                self._producer.produce(
                    self._topic, value, key, on_delivery=partial(self._delivered, intended)
                )
                break
            except BufferError:
                if self.stopped:
                    return
                time.sleep(_WAIT / 100)
        self.sent += 1

    def _delivered(self, intended: float, error: Any, _message: Any) -> None:
        if error is not None:
            self.failures[error.name()] += 1
        else:
            self.latencies.append(time.perf_counter() - intended)

    def poll(self, seconds: float) -> None:
        self._producer.poll(seconds)

    def wait_for_all(self, seconds: float) -> None:
        deadline = time.perf_counter() + seconds
        while self.outstanding and not self.stopped and time.perf_counter() < deadline:
            self.poll(_WAIT)


_Ended: TypeAlias = Callable[[_Probe, float], bool]


def _send_in_turn(
    probe: _Probe,
    records: Iterator[tuple[bytes, bytes | None]],
    _rate: float | None,
    ended: _Ended,
    progress: Progress | None,
) -> None:
    start = time.perf_counter()
    while not probe.stopped and not ended(probe, seconds := (now := time.perf_counter()) - start):
        value, key = next(records)
        probe.send(value, key, now)
        probe.wait_for_all(_STALL_SECONDS)
        if progress is not None:
            progress(probe.sent, probe.sent * probe.size, seconds)


def _send_at_rate(
    probe: _Probe,
    records: Iterator[tuple[bytes, bytes | None]],
    rate: float | None,
    ended: _Ended,
    progress: Progress | None,
) -> None:
    """Send on schedule, while another thread waits for answers: a poll that blocks has no microseconds."""
    assert rate is not None
    done = threading.Event()

    def answer() -> None:
        while not done.is_set():
            probe.poll(_WAIT)

    answering = threading.Thread(target=answer, name="answers", daemon=True)
    answering.start()
    start = time.perf_counter()
    while not probe.stopped and not ended(probe, seconds := time.perf_counter() - start):
        intended = start + probe.sent / rate
        if (ahead := intended - time.perf_counter()) > 0:
            time.sleep(min(ahead, _WAIT))
            if ahead > _WAIT:
                continue
        value, key = next(records)
        probe.send(value, key, intended)
        if progress is not None:
            progress(probe.sent, probe.sent * probe.size, seconds)
    done.set()
    answering.join()


def consume(load: Load, pids: Sequence[int], stop: Stop, progress: Progress) -> Run:
    """Read the topic from its start to where it ends now, or less of it, checking every offset."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

    start, end = end_offsets(load)
    check = OffsetCheck(start, end)
    wanted = check.expected if load.count is None else load.count
    if check.expected < max(wanted, 1):
        raise BrokerUnavailable(f"topic {load.topic} holds {check.expected} records: produce to it first")
    consumer, meter = Consumer(load.consumer_config()), Meter(pids)
    consumer.list_topics(load.topic, timeout=5)  # so that the connection is there when the time starts
    payload_bytes, seconds, failures = 0, 0.0, Counter[str]()
    partition_of: Callable[[Any], Any] = Message.partition
    offset_of: Callable[[Any], Any] = Message.offset
    error_of: Callable[[Any], Any] = Message.error
    meter.start()
    consumer.assign([TopicPartition(load.topic, partition, OFFSET_BEGINNING) for partition in start])
    while check.records < wanted and not stop.requested:
        messages: list[Any] = consumer.consume(min(_CONSUME_RECORDS, wanted - check.records), timeout=_WAIT)
        now = meter.seconds()
        if messages and any(map(error_of, messages)):
            failures.update(str(message.error().name()) for message in messages if message.error())
            messages = [message for message in messages if not message.error()]
        if messages:
            check.add(list(map(partition_of, messages)), list(map(offset_of, messages)))
            payload_bytes += sum(map(len, messages))
            seconds = now
            progress(check.records, payload_bytes, now)
        elif now - seconds > _STALL_SECONDS:
            failures["never arrived"] = wanted - check.records
            break
        if load.seconds is not None and now >= load.seconds:
            break
    run = meter.run(
        records=check.records,
        payload_bytes=payload_bytes,
        seconds=seconds,
        errors=failures + Counter(check.errors()),
        interrupted=stop.requested,
    )
    consumer.close()
    return run


def settle(seconds: float) -> None:
    """Let the disk finish what earlier runs left to it, so that no run pays for another."""
    os.sync()
    time.sleep(seconds)
