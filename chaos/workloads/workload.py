"""What a workload is: topics, and clients that work on them until they are told to stop."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from chaos.access import Access
from chaos.history import History
from chaos.workloads.producers import CONFLUENT
from chaos.workloads.worker import Target, Worker

if TYPE_CHECKING:
    from chaos.checkers import Finding, View

JOIN_TIMEOUT_S: Final = 100.0
"""For clients to end: longer than they wait for the last answer."""
CREATE_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Site:
    """Where a workload runs."""

    access: Access
    history: History
    topics: Mapping[str, int]
    rate: float
    """Records a second of all producers together."""

    def target(self, topic: str) -> Target:
        return Target(self.access, topic, self.topics[topic], self.history)


class Workload(ABC):
    """Clients of a kind. A subclass says which topics they need and what they are."""

    topics: ClassVar[Mapping[str, int]] = {}
    """Created before anything starts, with so many partitions and three replicas; read to the end at last."""
    groups: ClassVar[Mapping[str, str]] = {}
    """Consumer groups that should have committed everything in the end, and the topic of each."""
    producers: ClassVar[Mapping[str, bool]] = {}
    """The names of the clients that send, and whether each is idempotent."""
    sparse: ClassVar[Sequence[str]] = ()
    """Topics in whose offsets there are holes, as markers of transactions and compaction leave them."""
    compacted: ClassVar[Sequence[str]] = ()
    """Topics of which only the last value of each key has to stay."""
    configs: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """What is set on topics when they are created."""
    checkers: ClassVar[Sequence[Callable[[View], Finding]]] = ()
    """What is checked besides what always is."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._producing = list(self.make_producers(site))
        self._others = list(self.make_others(site))

    @abstractmethod
    def make_producers(self, site: Site) -> Sequence[Worker]:
        """Those that send, and end first."""

    def make_others(self, site: Site) -> Sequence[Worker]:
        """Those that read, and end last."""
        return ()

    def start(self) -> None:
        for worker in (*self._producing, *self._others):
            worker.start()

    def stop_producing(self) -> None:
        """Returns when everything under way was answered, or those that were not are noted."""
        _stop(self._producing)

    def stop(self) -> None:
        """As `stop_producing`, for all others."""
        _stop(self._others)


def _stop(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.stopping.set()
    deadline = time.monotonic() + JOIN_TIMEOUT_S
    for worker in workers:
        worker.join(max(0.1, deadline - time.monotonic()))


def create_topics(
    access: Access, topics: Mapping[str, int], replicas: int, configs: Mapping[str, Mapping[str, str]]
) -> None:
    """Raises KafkaException."""
    admin = AdminClient({**access.librdkafka(), **CONFLUENT, "socket.timeout.ms": 10_000})
    wanted = [
        NewTopic(name, partitions, replicas, config=dict(configs.get(name, {})))
        for name, partitions in topics.items()
    ]
    for created in admin.create_topics(wanted, operation_timeout=CREATE_TIMEOUT_S).values():
        created.result(CREATE_TIMEOUT_S)
