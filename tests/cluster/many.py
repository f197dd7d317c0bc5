"""Many partitions with three replicas: created, idle, and left by a broker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from raftlog.protocol.errors import ErrorCode
from tests.cluster.create import create, leaders_of, produce
from tests.cluster.raw import RawClient
from tests.secured import ClusterProcesses

TOPIC: Final = "many"
CALM_S: Final = 3.0
IDLE_S: Final = 10.0
LEADERS_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Many:
    """Seconds until everything was created, CPU of each idle broker in cores, seconds until after SIGKILL of
    a broker the others named living leaders for all partitions, and until all had taken a record."""

    created_s: float
    idle: dict[int, float]
    led_s: float
    written_s: float
    lost: int


def many(cluster: ClusterProcesses, partitions: int, idle_s: float = IDLE_S) -> Many:
    """On a running cluster. Raises TimeoutError."""
    with RawClient(cluster.brokers[1]) as client:
        began = time.monotonic()
        error = create(client, TOPIC, partitions, 3)
        created_s = time.monotonic() - began
        assert error is ErrorCode.NONE, error
        leaders = leaders_of(client, TOPIC)
        assert isinstance(leaders, dict), leaders
    write_everywhere(cluster, TOPIC, leaders, time.monotonic())
    time.sleep(min(CALM_S, idle_s))
    idle = _idle(cluster, idle_s)
    victim = next(iter(leaders.values()))
    began = time.monotonic()
    cluster.brokers[victim].kill()
    led_s, written_s = _recover(cluster, began)
    return Many(created_s, idle, led_s, written_s, sum(leader == victim for leader in leaders.values()))


def _idle(cluster: ClusterProcesses, seconds: float) -> dict[int, float]:
    before = {node_id: broker.cpu_seconds() for node_id, broker in cluster.brokers.items()}
    began = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    return {id: (broker.cpu_seconds() - before[id]) / passed for id, broker in cluster.brokers.items()}


def _recover(cluster: ClusterProcesses, began: float) -> tuple[float, float]:
    running = [broker for broker in cluster.brokers.values() if broker.is_running]
    alive = {broker.node_id for broker in running}
    leaders: dict[int, int] = {}
    for broker in running:
        with RawClient(broker) as client:
            while True:
                said = leaders_of(client, TOPIC)
                if isinstance(said, dict) and set(said.values()) <= alive:
                    leaders = said
                    break
                if time.monotonic() - began > LEADERS_TIMEOUT_S:
                    raise TimeoutError(f"after {LEADERS_TIMEOUT_S} s broker {broker.node_id} says {said}")
                time.sleep(0.02)
    led_s = time.monotonic() - began
    write_everywhere(cluster, TOPIC, leaders, began)
    return led_s, time.monotonic() - began


def write_everywhere(cluster: ClusterProcesses, topic: str, leaders: dict[int, int], began: float) -> None:
    """A record to every partition. A machine that is too busy for heartbeats elects once more: who leads is
    then asked again, as every client does."""
    left = set(leaders)
    running = {node_id: broker for node_id, broker in cluster.brokers.items() if broker.is_running}
    while True:
        for node_id, broker in running.items():
            led = [partition for partition in left if leaders[partition] == node_id]
            with RawClient(broker) as client:
                errors = produce(client, topic, led) if led else {}
                said = leaders_of(client, topic)
            assert set(errors.values()) <= {ErrorCode.NONE, ErrorCode.NOT_LEADER_OR_FOLLOWER}, errors
            left -= {partition for partition, error in errors.items() if error is ErrorCode.NONE}
        if not left:
            return
        if time.monotonic() - began > LEADERS_TIMEOUT_S:
            raise TimeoutError(f"after {LEADERS_TIMEOUT_S} s no record in {left}, led by {leaders}")
        time.sleep(0.02)
        leaders = said if isinstance(said, dict) else leaders
