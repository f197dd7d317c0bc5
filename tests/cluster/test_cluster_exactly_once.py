"""Consume, transform, produce, while brokers are killed: each input has one output (scenario 48)."""

from __future__ import annotations

import collections
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition

from raftlog.protocol.errors import ErrorCode
from tests import secured
from tests.cluster.create import create
from tests.cluster.raw import RawClient, coordinator_of
from tests.secured import ClusterProcesses
from tests.waiting import PATIENCE_S

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.filterwarnings("default"),  # the clients' own
]

PARTITIONS: Final = 4
INPUTS: Final = 600
AT_ONCE: Final = 10
LAST = b"last"


class Worker:
    """A member of a group that writes what it reads to another topic, offsets and all in one transaction."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.bootstrap, self.name = bootstrap, name
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self.trouble: list[str] = []
        self._messages: list[Message] = []
        self._thread = threading.Thread(target=self._guarded, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self._thread.join(2 * PATIENCE_S)
        assert not self._thread.is_alive(), f"{self.name} hangs"
        self.check()

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _guarded(self) -> None:
        try:
            while not self.stopping.is_set():
                self._work()
        except BaseException as error:
            self.failure = error

    def _work(self) -> None:
        """As one incarnation, until something happens after which it has to begin anew."""
        consumer = Consumer(
            {
                **secured.librdkafka(self.bootstrap),
                "group.id": "workers",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 10_000,
                "log_level": 0,
            }
        )
        producer = Producer(
            {
                **secured.librdkafka(self.bootstrap),
                "transactional.id": self.name,
                "linger.ms": 0,
                "log_level": 0,
            }
        )
        try:
            self._again(producer.init_transactions)
            # What a member has been given, and not written yet, is another's when it is revoked.
            consumer.subscribe(["in"], on_revoke=self._give_up, on_lost=self._give_up)
            while not self.stopping.is_set():
                self._transform(consumer, producer)
        except KafkaException as error:
            self.trouble.append(error.args[0].str())
        finally:
            consumer.close()

    def _transform(self, consumer: Consumer, producer: Producer) -> None:
        self._messages = []
        for _ in range(AT_ONCE):
            message = consumer.poll(0.05)
            if message is not None and message.error() is None:
                self._messages.append(message)
        if not self._messages:
            return
        producer.begin_transaction()
        try:
            for each in self._messages:
                producer.produce("out", each.value(), partition=each.partition())
            ends = {each.partition(): each.offset() + 1 for each in self._messages}
            places = [TopicPartition("in", partition, end) for partition, end in ends.items()]
            metadata = consumer.consumer_group_metadata()
            self._again(lambda timeout: producer.send_offsets_to_transaction(places, metadata, timeout))
            self._again(producer.commit_transaction)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            self.trouble.append(error.args[0].str())
            self._again(producer.abort_transaction)
            self._rewind(consumer)

    def _give_up(self, consumer: Consumer, partitions: object) -> None:
        self._messages = []

    @staticmethod
    def _rewind(consumer: Consumer) -> None:
        """To where the group is."""
        for at in consumer.committed(consumer.assignment(), timeout=PATIENCE_S):
            consumer.seek(
                TopicPartition(at.topic, at.partition, at.offset if at.offset >= 0 else OFFSET_BEGINNING)
            )

    @staticmethod
    def _again(step: Callable[[float], object]) -> None:
        """Repeat what librdkafka says may be repeated."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                step(PATIENCE_S)
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise


def outputs(bootstrap: str, *, to_last: bool) -> collections.Counter[bytes]:
    """What a read_committed consumer gets: up to `LAST` in every partition, or until nothing comes."""
    consumer = Consumer(
        {
            **secured.librdkafka(bootstrap),
            "group.id": uuid.uuid4().hex,
            "isolation.level": "read_committed",
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition("out", number, 0) for number in range(PARTITIONS)])
    found: collections.Counter[bytes] = collections.Counter()
    deadline = time.monotonic() + PATIENCE_S
    try:
        while found[LAST] < PARTITIONS:
            assert time.monotonic() < deadline, (len(found), found[LAST])
            message = consumer.poll(2)
            if message is not None and message.error() is None:
                found[message.value()] += 1
            elif not to_last:
                break
    finally:
        consumer.close()
    return found


@pytest.mark.parametrize("kills", [3])
def test_scenario_48_each_input_has_one_output(tmp_path: Path, kills: int) -> None:
    options = {"group.initial.rebalance.delay.ms": 0}
    with ClusterProcesses(tmp_path, options=options).start() as cluster:
        with RawClient(cluster.brokers[1]) as client:
            for topic in ("in", "out"):
                assert create(client, topic, PARTITIONS, 3) is ErrorCode.NONE
        settings = {**secured.librdkafka(cluster.bootstrap), "enable.idempotence": True, "log_level": 0}
        source = Producer(settings)
        workers = [Worker(cluster.bootstrap, f"worker-{number}") for number in range(2)]
        for worker in workers:
            worker.start()
        wanted = set()
        for number in range(INPUTS):
            value = b"%d" % number
            wanted.add(value)
            source.produce("in", value, partition=number % PARTITIONS)
            source.poll(0.01)
            if number % (INPUTS // kills) == INPUTS // kills // 2:
                victim = _coordinator(cluster) if number < INPUTS // 2 else 1 + number % 3
                cluster.brokers[victim].kill()
                cluster.brokers[victim].start()
        assert source.flush(PATIENCE_S) == 0

        def are_there() -> bool:
            for worker in workers:
                worker.check()
            return set(outputs(cluster.bootstrap, to_last=False)) >= wanted

        # Each kill may cost a worker one step's patience.
        deadline = time.monotonic() + kills * PATIENCE_S
        while not are_there():
            assert time.monotonic() < deadline, {worker.name: worker.trouble for worker in workers}
        for worker in workers:
            worker.stop()
        for number in range(PARTITIONS):
            source.produce("out", LAST, partition=number)
        assert source.flush(PATIENCE_S) == 0
        found = outputs(cluster.bootstrap, to_last=True)
        assert {value: count for value, count in found.items() if count != 1 and value != LAST} == {}, [
            worker.trouble for worker in workers
        ]
        assert set(found) - {LAST} == wanted


def _coordinator(cluster: ClusterProcesses) -> int:
    for broker in cluster.brokers.values():
        if broker.is_running:
            with RawClient(broker) as client:
                found = coordinator_of(client, "workers")
            if found in cluster.brokers:
                return found
    return 1
