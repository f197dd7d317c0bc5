"""Faults are real: what a client and the other brokers notice of each."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
import trio

from raftlog.testing import EmbeddedBroker, EmbeddedCluster, embedded_cluster, running_cluster

API_VERSIONS = bytes.fromhex("0000000a 0012 0000 00000001 ffff".replace(" ", ""))


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with running_cluster(3) as cluster:
        cluster.create_topic("orders")
        yield cluster


def answers(broker: EmbeddedBroker, within_s: float = 20.0) -> bool:
    """Whether a broker answers ApiVersions; connecting works also while it is paused."""
    with socket.create_connection(("127.0.0.1", broker.port), timeout=within_s) as sock:
        sock.sendall(API_VERSIONS)
        try:
            return bool(sock.recv(1))
        except TimeoutError:
            return False


def others(cluster: EmbeddedCluster, broker: EmbeddedBroker) -> list[EmbeddedBroker]:
    return [b for b in cluster.brokers if b is not broker]


def until_led_by(cluster: EmbeddedCluster, allowed: list[EmbeddedBroker]) -> EmbeddedBroker:
    deadline = time.monotonic() + 20
    while (leader := cluster.leader("orders")) not in allowed:
        assert time.monotonic() < deadline, f"{leader} still leads"
        time.sleep(0.01)
    return leader


def named_leader(broker: EmbeddedBroker) -> int | None:
    """Whom a broker names to clients as the leader."""

    async def ask() -> int | None:
        backend = broker.backend
        return backend.leaders.leader_of(backend.catalog.topics["orders"], 0)[0]

    return broker.call(ask).result(20)


def test_a_killed_broker_refuses_and_another_leads(cluster: EmbeddedCluster) -> None:
    killed = cluster.faults.kill_leader("orders")
    with pytest.raises(ConnectionRefusedError):
        answers(killed)
    until_led_by(cluster, others(cluster, killed))
    port = killed.port
    cluster.faults.restart(killed)
    cluster.wait_ready()
    assert killed.port == port
    assert answers(killed)


def test_a_paused_broker_accepts_and_says_nothing_until_it_goes_on(cluster: EmbeddedCluster) -> None:
    paused = cluster.faults.pause_leader("orders")
    assert not answers(paused, within_s=0.3)
    until_led_by(cluster, others(cluster, paused))
    cluster.faults.resume(paused)
    assert answers(paused)


def test_a_paused_broker_can_be_killed(cluster: EmbeddedCluster) -> None:
    paused = cluster.faults.pause(2)
    cluster.faults.kill(paused)
    assert not paused.is_running
    cluster.faults.restart(paused)
    cluster.wait_ready()
    assert answers(paused)


def test_an_isolated_leader_stops_leading_and_comes_back(cluster: EmbeddedCluster) -> None:
    isolated = cluster.faults.isolate_leader("orders")
    until_led_by(cluster, others(cluster, isolated))
    assert answers(isolated)
    deadline = time.monotonic() + 20
    while named_leader(isolated) == isolated.id:
        assert time.monotonic() < deadline, "it still sends clients to itself"
        time.sleep(0.01)
    cluster.faults.heal()
    deadline = time.monotonic() + 20
    # Whoever that is by then: on a busy machine it may have moved again, or gone home.
    while (named := named_leader(isolated)) is None or named != cluster.leader("orders").id:
        assert time.monotonic() < deadline, f"it names {named}, and {cluster.leader('orders')} leads"
        time.sleep(0.01)


def test_a_partition_between_two_leaves_the_third_between_them(cluster: EmbeddedCluster) -> None:
    leader = cluster.leader("orders")
    ones = others(cluster, leader)
    cluster.faults.partition(ones[0], ones[1])
    time.sleep(1.5)  # longer than any election time-out
    assert cluster.leader("orders") is leader
    cluster.faults.partition([ones[0], ones[1]], leader)
    time.sleep(1.5)
    assert not any(
        (replica := broker.backend.replicas.partition("orders", 0)) is not None and replica.is_leader
        for broker in cluster.brokers
    ), "nobody can have a majority"
    cluster.faults.heal()
    until_led_by(cluster, cluster.brokers)


async def test_a_slow_disk_delays_the_acknowledgement_and_heals() -> None:
    async with embedded_cluster(1) as cluster, cluster.client() as client, client.producer() as producer:
        cluster.create_topic("orders")
        await producer.send("orders", b"warm")
        cluster.faults.slow_disk(1, 0.4)
        started = trio.current_time()
        await producer.send("orders", b"slow")
        assert trio.current_time() - started >= 0.4
        cluster.faults.slow_disk(1, 60)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(producer.send, "orders", b"slower")
            await trio.sleep(0.2)
            started = trio.current_time()
            cluster.faults.heal()
        assert trio.current_time() - started < 5


async def test_what_was_acknowledged_survives_the_death_of_all() -> None:
    async with embedded_cluster(3) as cluster, cluster.client() as client:
        cluster.create_topic("orders")
        async with client.producer() as producer:
            for number in range(20):
                await producer.send("orders", b"%d" % number)
        for broker in cluster.brokers:
            cluster.faults.kill(broker)
        cluster.faults.restart()
        await cluster.ready()
        async with client.consumer("orders", auto_offset_reset="earliest") as consumer:
            assert [int((await anext(consumer)).value) for _ in range(20)] == list(range(20))


def test_a_planned_stop_hands_the_leadership_over_first(cluster: EmbeddedCluster) -> None:
    leader = cluster.leader("orders")
    stopped = cluster.faults.stop(leader)
    assert not stopped.is_running
    assert cluster.leader("orders", timeout_s=0.5) is not leader


def test_chance_comes_from_the_seed_and_the_seed_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def run(seed: int) -> list[str]:
        with running_cluster(3, seed=seed) as cluster:
            for _ in range(4):
                cluster.faults.slow_disk(seconds=0)
            cluster.faults.isolate()
            return cluster.faults.history

    histories = [run(7), run(7), run(8)]
    assert histories[0] == histories[1] != histories[2]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"raftlog fault (seed=7): {histories[0][0]}"
    assert len(said) == 15


def test_a_seed_is_drawn_when_none_is_given() -> None:
    with running_cluster(1) as one, running_cluster(1) as other:
        assert one.seed != other.seed
        assert f"seed={one.seed}" in repr(one)
