"""A group whose members are of three libraries, and one of which leaves and joins again: commits and
rebalances all the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from chaos.workloads.consumers import ConfluentMember, KafkaPythonMember, TrioMember
from chaos.workloads.producers import ConfluentProducer, TrioProducer
from chaos.workloads.worker import Worker
from chaos.workloads.workload import Site, Workload

TOPIC: Final = "work"
GROUP: Final = "workers"
LEAVES_AFTER_S: Final = 6.0


class GroupWorkload(Workload):
    topics: ClassVar = {TOPIC: 4}
    groups: ClassVar = {GROUP: TOPIC}
    producers: ClassVar = {"confluent": True, "trio": True}

    def make_producers(self, site: Site) -> Sequence[Worker]:
        target = site.target(TOPIC)
        return (
            ConfluentProducer("confluent", target, site.rate / 2),
            TrioProducer("trio", target, site.rate / 2),
        )

    def make_others(self, site: Site) -> Sequence[Worker]:
        target = site.target(TOPIC)
        return (
            ConfluentMember("confluent-member", target, GROUP),
            ConfluentMember("coming-and-going", target, GROUP, leaves_after_s=LEAVES_AFTER_S),
            KafkaPythonMember("kafka-python-member", target, GROUP),
            TrioMember("trio-member", target, GROUP),
        )
