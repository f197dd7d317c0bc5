"""What brokers do when others end: topics are used, partitions led, coordinators found.

`python -m tests.cluster` measures the same with more of everything, and has goals. Here only what must hold
on the busiest machine is asserted.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from raftlog.protocol.errors import ErrorCode
from tests.cluster.create import create, create_and_use, leaders_of
from tests.cluster.many import many
from tests.cluster.raw import RawClient, coordinator_of
from tests.secured import BrokerProcess, ClusterProcesses

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # the clients' own
]


PATIENCE_S = 60.0


def until_logged(broker: BrokerProcess, text: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while text not in broker.log_tail(1000):
        assert time.monotonic() < deadline, broker.log_tail()
        time.sleep(0.05)


def test_a_new_topic_is_there_on_every_broker_at_once(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path) as cluster:
        seen = create_and_use(cluster.start(), 10)
    assert not seen.wrong
    assert seen.answers["to the leader: NONE"] > 0


def test_many_partitions_are_led_again_when_a_broker_is_killed(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path) as cluster:
        found = many(cluster.start(), 60, idle_s=0.1)
    assert found.lost == 20


def test_nobody_is_sent_to_a_coordinator_that_has_ended(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path) as cluster, ExitStack() as stack:
        cluster.start()
        clients = {id: stack.enter_context(RawClient(broker)) for id, broker in cluster.brokers.items()}
        ended = coordinator_of(clients[1], "g")
        cluster.brokers[ended].kill()
        del clients[ended]
        for id, client in clients.items():
            until_logged(cluster.brokers[id], f"lost broker {ended}")
            assert coordinator_of(client, "g") != ended
        deadline = time.monotonic() + PATIENCE_S
        while len(named := {coordinator_of(client, "g") for client in clients.values()}) > 1 or -1 in named:
            assert ended not in named and time.monotonic() < deadline, (named, ended)


def test_a_broker_that_starts_gets_ready_for_the_clients_of_the_others(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path, arguments=("-v",)) as cluster:
        cluster.start()
        with RawClient(cluster.brokers[1]) as client:
            assert create(client, "t", 1, 3) is ErrorCode.NONE
            assert isinstance(leaders_of(client, "t"), dict)
        cluster.brokers[2].kill()
        cluster.brokers[2].start()
        until_logged(cluster.brokers[2], "ready for METADATA v9, which clients use elsewhere")
