"""What lives through SIGKILLs of brokers: of those that lead partitions, of the one that coordinates."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from raftlog.testing.processes import ClusterProcesses
from tests.cluster.raw import RawClient, coordinator_of
from tests.foreign.commands import Background

ACKED: Final = "producer_send_success"
READ: Final = "record_data"
COORDINATOR_KILLS: Final = 5
STOP_MAX_S: Final = 15.0
"""The longest that an application may stand still because its coordinator was killed. On a quiet machine none
does for two seconds; one that shares its cores with others may need several for an election."""
BETWEEN_S: Final = 3.0
STEP: Final = 200
"""Records that must be acknowledged, and read, between two events."""


def live_through_kills(cluster: ClusterProcesses, producer: Background, consumer: Background) -> None:
    """Kill each broker in turn and start it again, and with them the leaders of three partitions and the
    coordinator of the group: both programs must go on, and all that was acknowledged must be read, where it
    was said to be and nothing twice. They print what Kafka's VerifiableProducer and VerifiableConsumer do."""

    def both_go_on(when: str) -> None:
        acked, read = len(_records(producer, ACKED)), len(_records(consumer, READ))
        producer.until(f"acks {when}", lambda: len(_records(producer, ACKED)) >= acked + STEP)
        consumer.until(f"records {when}", lambda: len(_records(consumer, READ)) >= read + STEP)

    try:
        both_go_on("at first")
        for broker in cluster.brokers.values():
            broker.kill()
            both_go_on(f"without {broker}")
            broker.start()
            both_go_on(f"with {broker} again")
        producer.stop()
        acked = _records(producer, ACKED)
        consumer.until("all is read", lambda: acked.items() <= _records(consumer, READ).items())
    finally:
        producer.stop()
        consumer.stop()
    read = _records(consumer, READ)
    assert len(set(read.values())) == len(read), "an idempotent producer's record is there twice"


def kill_coordinators(cluster: ClusterProcesses, group: str, goes_on: Callable[[str], None]) -> None:
    """Kill the broker that coordinates, five times, and start it again. `goes_on` waits until the application
    has done something since it was called."""
    for number in range(COORDINATOR_KILLS):
        with RawClient(next(iter(cluster.brokers.values()))) as client:
            coordinator = coordinator_of(client, group)
        cluster.brokers[coordinator].kill()
        goes_on(f"without coordinator {coordinator}, kill {number + 1}")
        time.sleep(BETWEEN_S)
        cluster.brokers[coordinator].start()
        goes_on(f"with broker {coordinator} again")
        time.sleep(BETWEEN_S)


def longest_stop(moments: list[float]) -> float:
    """Between two things that an application did, seconds."""
    return max((after - before for before, after in pairwise(moments)), default=0.0)


def _records(program: Background, event: str) -> dict[tuple[int, int], str]:
    """What a program has acknowledged or read so far: partition and offset to value."""
    found: dict[tuple[int, int], str] = {}
    for each in program.said.copy():
        if each["name"] == event:
            place = int(each["partition"]), int(each["offset"])
            assert found.setdefault(place, each["value"]) == each["value"], f"{place} changed: {each}"
    return found
