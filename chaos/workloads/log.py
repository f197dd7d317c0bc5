"""The log: producers of three libraries with unique values, readers that go through all of it, somebody who
asks where it ends, and a group of one member that commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from chaos.workloads.consumers import BoundsAsker, ConfluentMember, ConfluentReader, TrioReader
from chaos.workloads.producers import ConfluentProducer, KafkaPythonProducer, TrioProducer
from chaos.workloads.worker import Worker
from chaos.workloads.workload import Site, Workload

TOPIC: Final = "log"
PLAIN_SHARE: Final = 0.1
"""Of the rate, the producer that is not idempotent has little: its repeats are allowed."""


class LogWorkload(Workload):
    topics: ClassVar = {TOPIC: 3}
    groups: ClassVar = {"watchers": TOPIC}
    producers: ClassVar = {"confluent": True, "kafka-python": True, "trio": True, "plain": False}

    def make_producers(self, site: Site) -> Sequence[Worker]:
        target, share = site.target(TOPIC), site.rate * (1 - PLAIN_SHARE) / 3
        return (
            ConfluentProducer("confluent", target, share),
            KafkaPythonProducer("kafka-python", target, share),
            TrioProducer("trio", target, share),
            ConfluentProducer("plain", target, site.rate * PLAIN_SHARE, idempotent=False),
        )

    def make_others(self, site: Site) -> Sequence[Worker]:
        target = site.target(TOPIC)
        return (
            ConfluentReader("confluent-reader", target),
            TrioReader("trio-reader", target),
            BoundsAsker("asker", target),
            ConfluentMember("member", target, "watchers"),
        )
