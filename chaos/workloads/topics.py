"""A topic that is created, filled, read and deleted, again and again under one name: each time it is another
log, in which nothing of the earlier ones may appear. Beside it runs the log workload's load on a topic that
stays."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from chaos.history import FinalRead, Outcome, Send, TopicChange
from chaos.look import read_to_the_end
from chaos.values import value_of
from chaos.workloads.producers import CONFLUENT, GIVE_UP_MS, ConfluentProducer, TrioProducer
from chaos.workloads.worker import Target, Worker
from chaos.workloads.workload import Site, Workload

TOPIC: Final = "stays"
CHURN: Final = "churn"
PARTITIONS: Final = 2
RECORDS: Final = 40
PATIENCE_S: Final = 60.0
PAUSE_S: Final = 0.2


class Churn(Worker):
    """One thing after the other, each repeated until its outcome is known: what is deleted under a record
    that is still under way would get it once it is created again, which Kafka does not promise to prevent
    for clients that name topics by their names."""

    def __init__(self, site: Site) -> None:
        super().__init__("churn", site.history)
        self._target = Target(site.access, CHURN, PARTITIONS, site.history)
        self._admin = AdminClient({**site.access.librdkafka(), **CONFLUENT})

    def work(self) -> None:
        number = 0
        while not self.stopping.is_set():
            log = f"{CHURN}@{number}"
            if not self._until_known("created", log, self._is_there, self._create):
                return
            if self._fill(log):
                read_to_the_end(self.history, self._target.access, CHURN, PARTITIONS, log)
                self._forget_unfinished(log)
            elif not self.stopping.is_set():
                return  # something is under way for good: no topic of this name can be judged any more
            if not self._until_known("deleted", log, lambda: not self._is_there(), self._delete):
                return
            number += 1

    def _until_known(
        self, action: str, log: str, is_done: Callable[[], object], act: Callable[[], None]
    ) -> bool:
        change = self.history.begin(TopicChange(client=self.name, action=action, log=log))
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                act()
                done = is_done()
            except KafkaException as error:
                change.why = str(error)
                done = False
            if done:
                change.topic_id = done if isinstance(done, str) else ""
                self.history.end(change, Outcome.OK)
                return True
            time.sleep(PAUSE_S)
        self.history.end(change, Outcome.UNKNOWN, change.why or "timed out")
        return False

    def _create(self) -> None:
        future = self._admin.create_topics([NewTopic(CHURN, PARTITIONS, 3)])[CHURN]
        _ignore(future.result, KafkaError.TOPIC_ALREADY_EXISTS)

    def _delete(self) -> None:
        _ignore(self._admin.delete_topics([CHURN])[CHURN].result, KafkaError.UNKNOWN_TOPIC_OR_PART)

    def _is_there(self) -> str:
        """The topic's id, or nothing when brokers do not know it."""
        future = self._admin.describe_topics(TopicCollection([CHURN]))[CHURN]
        try:
            return str(future.result(10).topic_id)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return ""
            raise

    def _fill(self, log: str) -> bool:
        """Whether the outcome of every record is known."""
        producer = Producer(
            {
                **self._target.access.librdkafka(),
                "enable.idempotence": True,
                "message.timeout.ms": GIVE_UP_MS,
                **CONFLUENT,
            }
        )
        sends = []
        for number in range(RECORDS):
            send = Send(
                client=self.name, log=log, partition=number % PARTITIONS, value=f"{self.name}/{log}:{number}"
            )
            sends.append(self.history.begin(send))
            producer.produce(
                CHURN,
                value_of(send.value),
                partition=send.partition,
                on_delivery=functools.partial(self._told, send),
            )
        producer.flush(GIVE_UP_MS / 1000)
        return all(send.outcome is not Outcome.UNKNOWN for send in sends)

    def _told(self, send: Send, error: KafkaError | None, message: Message) -> None:
        if error is None:
            offset = message.offset()
            send.offset = -1 if offset is None else offset
            self.history.end(send, Outcome.OK)
        else:
            self.history.end(send, Outcome.UNKNOWN, str(error))

    def _forget_unfinished(self, log: str) -> None:
        """A read that a fault interrupted is no last look: the topic goes on, and another log is read."""
        for read in list(self.history.of(FinalRead)):
            if read.log == log and read.outcome is Outcome.UNKNOWN:
                self.history.operations.remove(read)


def _ignore(call: Callable[[float], object], code: int) -> None:
    try:
        call(15)
    except KafkaException as error:
        if error.args[0].code() != code:
            raise


class TopicWorkload(Workload):
    topics: ClassVar = {TOPIC: 3}
    producers: ClassVar = {"confluent": True, "trio": True, "churn": True}

    def make_producers(self, site: Site) -> Sequence[Worker]:
        target = site.target(TOPIC)
        return (
            ConfluentProducer("confluent", target, site.rate / 2),
            TrioProducer("trio", target, site.rate / 2),
            Churn(site),
        )
