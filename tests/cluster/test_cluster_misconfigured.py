"""Brokers that are started with the wrong folder, the wrong peers, or beside strangers: each says in a line
what is wrong and what to do, and the cluster goes on."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode
from raftlog.testing.processes import BrokerDidNotStart, BrokerProcess, ClusterProcesses, free_port
from tests.cluster.create import create, leaders_of, produce
from tests.cluster.raw import RawClient

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("cluster")]

SAID_S = 60.0
CLOSED = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
"""What a connection says that the other side has closed."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProcesses]:
    """Every test leaves it whole."""
    with ClusterProcesses(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.start()
        with RawClient(cluster.brokers[1]) as client:
            assert create(client, "t", 3, 3) is ErrorCode.NONE
        yield cluster


def peers_of(cluster: ClusterProcesses) -> str:
    arguments = cluster.brokers[1].arguments
    return arguments[arguments.index("--peers") + 1]


def restarted(broker: BrokerProcess, **changed: str) -> BrokerProcess:
    """The same broker with other options on its command line; the old one must not run any more."""
    arguments = list(broker.arguments)
    for option, value in changed.items():
        arguments[arguments.index(f"--{option.replace('_', '-')}") + 1] = value
    return BrokerProcess(
        broker.data_dir,
        port=broker.port,
        node_id=broker.node_id,
        options=broker.options,
        arguments=tuple(arguments),
    )


def refusal(broker: BrokerProcess) -> str:
    """What a broker says that does not start."""
    before = len(broker.log_tail(10_000).splitlines())
    with pytest.raises(BrokerDidNotStart):
        broker.start()
    assert broker.exit_code == 2
    said = broker.log_tail(10_000).splitlines()[before:]
    return "\n".join(line for line in said if " INFO raftlog.life: " not in line)


def until_said(broker: BrokerProcess, text: str) -> None:
    deadline = time.monotonic() + SAID_S
    while text not in broker.log_tail(10_000):
        assert time.monotonic() < deadline, broker.log_tail()
        assert broker.is_running, broker.log_tail()
        time.sleep(0.05)


def writes(cluster: ClusterProcesses) -> None:
    """All three partitions take a record, each through the broker that is said to lead it."""
    running = [broker for broker in cluster.brokers.values() if broker.is_running]
    with RawClient(running[0]) as client:
        leaders = leaders_of(client, "t")
    assert isinstance(leaders, dict), leaders
    for partition, leader in leaders.items():
        with RawClient(cluster.brokers[leader]) as client:
            assert produce(client, "t", [partition]) == {partition: ErrorCode.NONE}


def test_the_broker_that_ended_is_named_not_those_that_wait_for_it(tmp_path: Path) -> None:
    cluster = ClusterProcesses(tmp_path, programs={3: ("/bin/false",), 2: ("/bin/false",)})
    with pytest.raises(BrokerDidNotStart, match=r"broker [23]: exited with 1"):
        cluster.start()
    assert [broker.is_running for broker in cluster.brokers.values()] == [False, False, False]


def test_a_broker_does_not_believe_that_it_is_a_cluster_of_its_own(cluster: ClusterProcesses) -> None:
    broker = cluster.brokers[3]
    assert broker.stop() == 0
    own = next(peer for peer in peers_of(cluster).split(",") if peer.startswith("3@"))
    said = refusal(restarted(broker, peers=own))
    assert said.count("\n") == 0
    assert "names broker 3," in said and "founded by brokers 1, 2, 3" in said and str(broker.data_dir) in said
    alone = BrokerProcess(broker.data_dir, port=broker.port, node_id=3, options=broker.options)
    said = refusal(alone)
    assert "raftlog.peers" in said and "1, 2, 3" in said
    writes(cluster)
    broker.start()
    writes(cluster)


def test_a_single_broker_does_not_become_three_by_saying_so(tmp_path: Path) -> None:
    single = BrokerProcess(tmp_path / "data")
    single.start()
    assert single.stop() == 0
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    peers = ",".join(f"{number}@{address}" for number, address in enumerate(addresses, 1))
    single.arguments = ("--peer-listen", addresses[0], "--peers", peers)
    said = refusal(single)
    assert "names brokers 1, 2, 3" in said and "founded by broker 1" in said and "raftlog cluster add" in said
    single.arguments = ("--peer-listen", addresses[0], "--peers", f"1@{addresses[0]}")
    single.start().kill()


def test_a_cluster_moves_to_other_addresses(cluster: ClusterProcesses) -> None:
    cluster.stop()
    moved = {node_id: f"127.0.0.1:{free_port()}" for node_id in cluster.brokers}
    peers = ",".join(f"{node_id}@{address}" for node_id, address in moved.items())
    for node_id, broker in list(cluster.brokers.items()):
        cluster.brokers[node_id] = restarted(broker, peers=peers, peer_listen=moved[node_id])
    cluster.start()
    writes(cluster)


def test_the_folder_of_another_cluster_is_told_apart(cluster: ClusterProcesses, tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path / "other") as other:
        other.start()
        other.stop()
        assert cluster.brokers[3].stop() == 0
        stranger = restarted(other.brokers[3], peers=peers_of(cluster))
        stranger.launch()
        try:
            until_said(stranger, 'refused us: "cluster')
            until_said(stranger, "not serving after")
            writes(cluster)
        finally:
            stranger.kill()
    cluster.brokers[3].start()


def test_a_broker_that_nobody_answers_says_what_it_waits_for(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path) as cluster:
        cluster.brokers[1].launch()
        until_said(
            cluster.brokers[1],
            "the metadata has no leader: that takes 2 of brokers 1, 2, 3, and brokers 2, 3 are not connected",
        )


def test_a_broker_that_loses_the_majority_says_so_and_when_it_is_back(cluster: ClusterProcesses) -> None:
    left = cluster.brokers[1]
    for gone in (2, 3):
        cluster.brokers[gone].kill()
    try:
        until_said(left, "that takes 2 of brokers 1, 2, 3, and brokers 2, 3 are not connected")
    finally:
        for gone in (2, 3):
            cluster.brokers[gone].launch()
        for gone in (2, 3):
            cluster.brokers[gone].wait_ready()
    until_said(left, "leads the metadata: the cluster goes on")
    writes(cluster)


def test_strangers_at_the_peer_port_hurt_nobody(cluster: ClusterProcesses) -> None:
    host, _, port = peers_of(cluster).split(",")[0].partition("@")[2].rpartition(":")
    for garbage in (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        os.urandom(4096),
        struct.pack(">i", -1),
        struct.pack(">i", 1 << 30) + b"x" * 64,
        struct.pack(">ihhi", 10, 18, 0, 1) + b"\0\0",  # ApiVersions
    ):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            try:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass
            except OSError as error:
                assert error.errno in CLOSED, error  # before all was said
    until_said(cluster.brokers[1], "refused a connection to the peer port from 127.0.0.1:")
    writes(cluster)
    assert all(broker.is_running for broker in cluster.brokers.values())


def test_a_second_process_with_an_id_that_is_there_stays_outside(
    cluster: ClusterProcesses, tmp_path: Path
) -> None:
    first = cluster.brokers[3]
    arguments = _elsewhere(first, peers_of(cluster))
    second = BrokerProcess(tmp_path / "second", node_id=3, options=first.options, arguments=arguments)
    second.launch()
    try:
        until_said(second, "broker 3 is connected already: two processes have its id")
        until_said(second, "not serving after")
        assert first.is_running
        writes(cluster)
    finally:
        second.kill()


def test_the_address_of_a_broker_that_runs_is_not_told(cluster: ClusterProcesses) -> None:
    good, taken = cluster.brokers[3], cluster.brokers[1]
    assert good.stop() == 0
    for option in (
        ("--advertise", f"127.0.0.1:{taken.port}"),
        ("-o", f"raftlog.peer.advertise={peer_of(taken)}"),
    ):
        said = refusal(also(good, *option))
        assert "is where broker 1 is, which is running" in said and "raftlog.peer.advertise" in said
        assert taken.is_running
    good.start()
    writes(cluster)


def test_the_address_of_a_broker_that_is_gone_is_taken_over(cluster: ClusterProcesses) -> None:
    """It may have moved: who has its address now waits until it is sure, and says what it does."""
    gone, heir = cluster.brokers[3], cluster.brokers[2]
    gone.kill()
    assert heir.stop() == 0
    there = also(heir, "--advertise", f"127.0.0.1:{gone.port}")
    there.start()
    try:
        assert (
            f"127.0.0.1:{gone.port} was broker 3's, which is not there any more: taken over"
            in there.log_tail(10_000)
        )
        assert "is where broker 2 is, which is running" in refusal(gone)
    finally:
        there.stop()
    heir.start()
    gone.start()
    writes(cluster)


def also(broker: BrokerProcess, *arguments: str) -> BrokerProcess:
    """The same broker with more options."""
    return BrokerProcess(
        broker.data_dir,
        port=broker.port,
        node_id=broker.node_id,
        options=broker.options,
        arguments=(*broker.arguments, *arguments),
    )


def peer_of(broker: BrokerProcess) -> str:
    return broker.arguments[broker.arguments.index("--peer-listen") + 1]


def _elsewhere(broker: BrokerProcess, peers: str) -> tuple[str, ...]:
    address = f"127.0.0.1:{free_port()}"
    others = [peer for peer in peers.split(",") if not peer.startswith(f"{broker.node_id}@")]
    return ("--peer-listen", address, "--peers", ",".join([*others, f"{broker.node_id}@{address}"]))


def test_a_cluster_has_the_id_that_it_is_founded_with_and_its_folder_is_taken_by_no_other(
    tmp_path: Path,
) -> None:
    def broker(**options: object) -> BrokerProcess:
        return BrokerProcess(tmp_path / "broker", options=options)

    mine = {"raftlog.cluster.id": "4L6g3nShT-eMCtK--X86sw"}
    for options in (mine, {}, mine):  # without one it is whatever the folder says
        running = broker(**options).start()
        with RawClient(running) as client:
            asked = {"include_cluster_authorized_operations": False}
            answer = client.ask(ApiKey.DESCRIBE_CLUSTER, 0, asked)
            assert answer.cluster_id == "4L6g3nShT-eMCtK--X86sw"
        running.stop()
    said = refusal(broker(**{"raftlog.cluster.id": "another"}))
    assert "belongs to cluster 4L6g3nShT-eMCtK--X86sw, not to cluster another" in said
    assert "CLUSTER_ID" in said
