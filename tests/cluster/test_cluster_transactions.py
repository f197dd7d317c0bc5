"""Transactions over three brokers that are killed. Numbers are those of scenarios."""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path
from typing import Final

import confluent_kafka
import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode
from tests import secured
from tests.cluster.create import create
from tests.cluster.raw import RawClient, coordinator_of
from tests.secured import ClusterProcesses
from tests.waiting import PATIENCE_S, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # the clients' own
]

PARTITIONS: Final = 3
FINISHED = b"finished"


class Writer:
    """Writes a number into every partition in one transaction, over and over, aborting every fourth."""

    def __init__(self, bootstrap: str, topic: str, name: str) -> None:
        self.bootstrap, self.topic, self.name = bootstrap, topic, name
        self.committed: list[bytes] = []
        self.aborted: list[bytes] = []
        self.unknown: list[bytes] = []
        """Those of which the last producer did not learn how they ended."""
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self._thread.join(2 * PATIENCE_S)
        assert not self._thread.is_alive(), f"{self.name} hangs"
        if self.failure is not None:
            raise self.failure

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.failure = error

    def _run(self) -> None:
        producer, number = self._open(), 0
        while not self.stopping.is_set():
            number += 1
            value = b"%s %d" % (self.name.encode(), number)
            producer = self._try(producer, value, commit=number % 4 != 0)
        while FINISHED not in self.committed:
            producer = self._try(producer, FINISHED, commit=True)

    def _try(self, producer: Producer, value: bytes, *, commit: bool) -> Producer:
        """Write a value; the producer to go on with."""
        try:
            self._write(producer, value, commit=commit)
        except KafkaException as error:
            if error.args[0].fatal():
                self.unknown.append(value)
                return self._open()
            if not error.args[0].txn_requires_abort():
                raise
            self._again(producer.abort_transaction)
            self.aborted.append(value)
        return producer

    def _open(self) -> Producer:
        settings = {**secured.librdkafka(self.bootstrap), "transactional.id": self.name, "log_level": 0}
        producer = Producer({**settings, "linger.ms": 0})
        self._again(producer.init_transactions)
        return producer

    def _write(self, producer: Producer, value: bytes, *, commit: bool) -> None:
        producer.begin_transaction()
        for partition in range(PARTITIONS):
            producer.produce(self.topic, value, partition=partition)
        if commit:
            self._again(producer.commit_transaction)
            self.committed.append(value)
        else:
            producer.flush(PATIENCE_S)
            self._again(producer.abort_transaction)
            self.aborted.append(value)

    def _again(self, step: object) -> None:
        """Repeat what librdkafka says may be repeated."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                step(PATIENCE_S)  # type: ignore[operator]
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise


def read_committed(bootstrap: str, topic: str, partition: int, finished: int) -> list[bytes]:
    """All values of a partition up to the one that ends the last of so many writers."""
    consumer = confluent_kafka.Consumer(
        {**secured.librdkafka(bootstrap), "group.id": uuid.uuid4().hex, "isolation.level": "read_committed"}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, 0)])
    values: list[bytes] = []
    deadline = time.monotonic() + PATIENCE_S
    try:
        while values.count(FINISHED) < finished:
            assert time.monotonic() < deadline, values[-5:]
            message = consumer.poll(1)
            if message is not None and message.error() is None:
                values.append(message.value())
    finally:
        consumer.close()
    return values


def check(writers: list[Writer], seen: list[list[bytes]]) -> None:
    """Every transaction is whole or not there at all, once, and as its producer was told."""
    for values in seen:
        of_writers = [value for value in values if value != FINISHED]
        assert len(of_writers) == len(set(of_writers)), "something is there twice"
        assert set(of_writers) == {value for value in seen[0] if value != FINISHED}, "a torn transaction"
    there = set(seen[0])
    for writer in writers:
        assert set(writer.committed) - {FINISHED} <= there, "committed, and not there"
        assert not (set(writer.aborted) - {FINISHED}) & there, "aborted, and there"


@pytest.mark.parametrize("victim", ["coordinator", "leader"])
@pytest.mark.long
def test_scenarios_4_8_25_and_48_brokers_are_killed_amid_transactions(tmp_path: Path, victim: str) -> None:
    with ClusterProcesses(tmp_path).start() as cluster:
        with RawClient(cluster.brokers[1]) as client:
            assert create(client, "t", PARTITIONS, 3) is ErrorCode.NONE
        writers = [Writer(cluster.bootstrap, "t", f"writer-{number}") for number in range(2)]
        for writer in writers:
            writer.start()
        for _ in range(3):
            marks = [len(writer.committed) for writer in writers]
            until(
                "both have committed",
                lambda marks=marks: all(  # type: ignore[misc]
                    len(writer.committed) > mark + 3 or writer.failure is not None
                    for writer, mark in zip(writers, marks, strict=True)
                ),
            )
            with RawClient(next(each for each in cluster.brokers.values() if each.is_running)) as client:
                chosen = coordinator_of(client, "any") if victim == "coordinator" else leader_of(client)
            if chosen in cluster.brokers:
                cluster.brokers[chosen].kill()
                cluster.brokers[chosen].start()
        for writer in writers:
            writer.stop()
        seen = [read_committed(cluster.bootstrap, "t", number, len(writers)) for number in range(PARTITIONS)]
        check(writers, seen)
        assert all(len(writer.committed) > 10 and writer.aborted for writer in writers)


def leader_of(client: RawClient) -> int:
    """Who leads the first partition; -1 for nobody."""
    asked = {
        "topics": [{"name": "t", "topic_id": bytes(16)}],
        "allow_auto_topic_creation": False,
        "include_topic_authorized_operations": False,
    }
    answer = client.ask(ApiKey.METADATA, 12, asked)
    return int(answer.topics[0].partitions[0].leader_id)


def test_the_checker_finds_what_is_wrong() -> None:
    writer = Writer("", "t", "w")
    writer.committed, writer.aborted, writer.unknown = [b"1", FINISHED], [b"2"], [b"3"]
    right = [b"1", FINISHED]
    check([writer], [right, right])
    check([writer], [[b"1", b"3", FINISHED]] * 2)
    for wrong in (
        [right, [b"1", b"1", FINISHED]],
        [right, [b"1", b"3", FINISHED]],
        [[FINISHED], [FINISHED]],
        [[b"1", b"2", FINISHED]] * 2,
    ):
        with pytest.raises(AssertionError):
            check([writer], wrong)


@pytest.mark.long
def test_scenario_80_a_transaction_over_many_partitions(tmp_path: Path) -> None:
    """Only that it completes: how long that takes on a busy machine says nothing."""
    count = 200
    with ClusterProcesses(tmp_path).start() as cluster:
        with RawClient(cluster.brokers[1]) as client:
            assert create(client, "t", count, 3) is ErrorCode.NONE
        settings = {**secured.librdkafka(cluster.bootstrap), "transactional.id": "wide", "log_level": 0}
        producer = Producer(settings)
        producer.init_transactions(PATIENCE_S)
        for value in (b"1", FINISHED):
            producer.begin_transaction()
            for partition in range(count):
                producer.produce("t", value, partition=partition)
            producer.commit_transaction(PATIENCE_S)
        for partition in (0, count - 1):
            assert read_committed(cluster.bootstrap, "t", partition, 1) == [b"1", FINISHED]


def state_of(cluster: ClusterProcesses, transactional_id: str) -> str:
    """What the coordinator says; empty while there is none."""
    running = [broker for broker in cluster.brokers.values() if broker.is_running]
    asked = {"state_filters": [], "producer_id_filters": [], "duration_filter": -1}
    for broker in running:
        with RawClient(broker) as client:
            for one in client.ask(ApiKey.LIST_TRANSACTIONS, 1, asked).transaction_states:
                if one.transactional_id == transactional_id:
                    return str(one.transaction_state)
    return ""


class Lonely:
    """A transaction over a topic that is everywhere, and one that lies on one broker alone, which is not the
    coordinator."""

    def __init__(self, cluster: ClusterProcesses) -> None:
        self.cluster = cluster
        with RawClient(cluster.brokers[1]) as client:
            until("there is a coordinator", lambda: coordinator_of(client, "any") != -1)
            self.coordinator = coordinator_of(client, "any")
        self.host = next(number for number in cluster.brokers if number != self.coordinator)
        self.admin = self.new_admin()
        self.create("everywhere", [1, 2, 3])
        self.create("lonely", [self.host])
        settings = {**secured.librdkafka(cluster.bootstrap), "transactional.id": "tx", "log_level": 0}
        self.producer = Producer(settings)
        self.producer.init_transactions(PATIENCE_S)
        self.producer.begin_transaction()
        for topic in ("everywhere", "lonely"):
            self.producer.produce(topic, FINISHED, partition=0)
        assert self.producer.flush(PATIENCE_S) == 0

    def new_admin(self) -> AdminClient:
        return AdminClient({**secured.librdkafka(self.cluster.bootstrap), "log_level": 0})

    def create(self, topic: str, replicas: list[int]) -> None:
        made = self.admin.create_topics([NewTopic(topic, 1, replica_assignment=[replicas])])
        made[topic].result(PATIENCE_S)

    def read(self, topic: str) -> list[bytes]:
        return read_committed(self.cluster.bootstrap, topic, 0, 1)


def test_scenarios_4_and_8_the_next_coordinator_finishes_what_was_decided(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path).start() as cluster:
        lonely = Lonely(cluster)
        cluster.brokers[lonely.host].kill()
        lonely.producer.commit_transaction(PATIENCE_S)
        assert state_of(cluster, "tx") == "PrepareCommit"
        assert lonely.read("everywhere") == [FINISHED], "one that has no leader holds up no other"
        cluster.brokers[lonely.coordinator].kill()
        cluster.brokers[lonely.coordinator].start()
        until("it is known again", lambda: state_of(cluster, "tx") == "PrepareCommit")
        cluster.brokers[lonely.host].start()
        until("it is complete", lambda: state_of(cluster, "tx") == "CompleteCommit")
        assert lonely.read("lonely") == [FINISHED]


def test_scenario_47_staged_offsets_outlive_their_coordinator(tmp_path: Path) -> None:
    """They are staged, the coordinator dies, the transaction is committed through the next one."""
    with ClusterProcesses(tmp_path).start() as cluster:
        lonely = Lonely(cluster)
        settings = {**secured.librdkafka(cluster.bootstrap), "group.id": "g", "log_level": 0}
        consumer = confluent_kafka.Consumer(settings)
        at = confluent_kafka.TopicPartition("everywhere", 0, 1)
        lonely.producer.send_offsets_to_transaction([at], consumer.consumer_group_metadata(), PATIENCE_S)
        cluster.brokers[lonely.coordinator].kill()
        lonely.producer.commit_transaction(PATIENCE_S)
        (committed,) = consumer.committed([at], PATIENCE_S)
        assert committed.offset == 1
        consumer.close()


def test_scenario_19_a_topic_that_is_deleted_is_not_waited_for(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path).start() as cluster:
        lonely = Lonely(cluster)
        cluster.brokers[lonely.host].kill()
        lonely.producer.commit_transaction(PATIENCE_S)
        assert state_of(cluster, "tx") == "PrepareCommit"
        # librdkafka waits for a dead controller while another connection is up: this client has none yet.
        admin = lonely.new_admin()  # kept until it is answered: its requests end with it
        admin.delete_topics(["lonely"])["lonely"].result(PATIENCE_S)
        until("it is complete", lambda: state_of(cluster, "tx") == "CompleteCommit")


def test_scenario_18_a_topic_that_is_made_again_gets_no_marker(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path).start() as cluster:
        lonely = Lonely(cluster)
        lonely.admin.delete_topics(["lonely"])["lonely"].result(PATIENCE_S)
        lonely.create("lonely", [lonely.host])
        lonely.producer.commit_transaction(PATIENCE_S)
        until("it is complete", lambda: state_of(cluster, "tx") == "CompleteCommit")
        assert lonely.read("everywhere") == [FINISHED]
        at = confluent_kafka.TopicPartition("lonely", 0)
        ends = lonely.admin.list_offsets({at: OffsetSpec.latest()})
        assert ends[at].result(PATIENCE_S).offset == 0
