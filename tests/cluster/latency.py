"""One record in flight: what it takes alone, and beside many partitions that have been written to."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Final

from raftlog.protocol.errors import ErrorCode
from tests.cluster.create import create, leaders_of, produce
from tests.cluster.many import write_everywhere
from tests.cluster.raw import RawClient
from tests.secured import ClusterProcesses

WARM_UP: Final = 200
ROUND: Final = 300
"""Records of a round: one in flight, to one partition."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from request to answer, the median of each round: of a partition that is all there is, and
    of the same one once many others have been written to."""

    alone: list[float]
    beside: list[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.beside) / statistics.median(self.alone)


def latency(cluster: ClusterProcesses, partitions: int, rounds: int) -> Latency:
    """On a running cluster. Raises TimeoutError."""
    with RawClient(cluster.brokers[1]) as client:
        assert create(client, "one", 1, 3) is ErrorCode.NONE
        alone = _rounds(cluster, rounds)
        assert create(client, "many", partitions, 3) is ErrorCode.NONE
        leaders = leaders_of(client, "many")
        assert isinstance(leaders, dict), leaders
    write_everywhere(cluster, "many", leaders, time.monotonic())
    return Latency(alone, _rounds(cluster, rounds))


def _rounds(cluster: ClusterProcesses, rounds: int) -> list[float]:
    """The median of each round."""
    with RawClient(cluster.brokers[1]) as client:
        leaders = leaders_of(client, "one")
    assert isinstance(leaders, dict), leaders
    with RawClient(cluster.brokers[leaders[0]]) as client:
        _took(client, WARM_UP)
        return [statistics.median(_took(client, ROUND)) for _ in range(rounds)]


def _took(client: RawClient, records: int) -> list[float]:
    took = []
    for _ in range(records):
        began = time.perf_counter()
        errors = produce(client, "one", [0])
        took.append(1000 * (time.perf_counter() - began))
        assert errors == {0: ErrorCode.NONE}, errors
    return took
