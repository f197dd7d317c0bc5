"""A compacted topic: producers write many values of few keys, and readers go through what is left of them. In
the end the last value of each key is there, whatever was taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from chaos.workloads.consumers import ConfluentReader, TrioReader
from chaos.workloads.producers import ConfluentProducer, TrioProducer
from chaos.workloads.worker import Worker
from chaos.workloads.workload import Site, Workload

TOPIC: Final = "compacted"
KEYS: Final = 20
"""Of each producer in each partition: few, so that most records are taken away."""


class CompactedWorkload(Workload):
    topics: ClassVar = {TOPIC: 2}
    producers: ClassVar = {"confluent": True, "trio": True}
    sparse: ClassVar = (TOPIC,)
    compacted: ClassVar = (TOPIC,)
    configs: ClassVar[Mapping[str, Mapping[str, str]]] = {
        TOPIC: {
            "cleanup.policy": "compact",
            "segment.bytes": "65536",
            "min.cleanable.dirty.ratio": "0.1",
        }
    }

    def make_producers(self, site: Site) -> Sequence[Worker]:
        target = site.target(TOPIC)
        return (
            ConfluentProducer("confluent", target, site.rate / 2, keys=KEYS),
            TrioProducer("trio", target, site.rate / 2, keys=KEYS),
        )

    def make_others(self, site: Site) -> Sequence[Worker]:
        target = site.target(TOPIC)
        return (ConfluentReader("confluent-reader", target), TrioReader("trio-reader", target))
