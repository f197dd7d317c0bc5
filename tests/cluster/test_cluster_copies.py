"""Replicas that lack what was compacted are given the files, and fold to the same table as the others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from raftlog import TopicPartition
from raftlog.storage.disk import RealDisk
from raftlog.storage.filling import MARK_NAME
from raftlog.storage.inspect import verify
from raftlog.storage.snapshot import SNAPSHOT_NAME
from tests import secured
from tests.cluster.compacted import OPTIONS, TOPIC, Writer, create, folded, is_shrunk, read, until
from tests.http.raw import ask
from tests.secured import BrokerProcess, ClusterProcesses

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("cluster")]


def segments(broker: BrokerProcess) -> set[str]:
    """The names of the files that compaction has written, in the partition's folders."""
    return {path.name for path in Path(broker.data_dir).glob(f"{TOPIC}-0.*/*.[0-9]*.log")}


def is_filled(broker: BrokerProcess) -> bool:
    """The partition's log lies in a folder that was filled with a copy."""
    marks = Path(broker.data_dir).glob(f"{TOPIC}-0.*/{MARK_NAME}")
    return any((mark.parent / SNAPSHOT_NAME).exists() for mark in marks)


def is_whole(cluster: ClusterProcesses, *members: int) -> bool:
    """All of these are members, have what is committed, and vote."""
    running = next(broker for broker in cluster.brokers.values() if broker.is_running)
    group = ask(running, f"/api/v1/raft/{TOPIC}/0", headers=secured.http_headers()).json()
    said = [group["said_by"].get(str(each)) for each in members]
    if group["voters"] != list(members) or not all(each and each["trusted"] for each in said):
        return False
    return len({each["commit_index"] for each in said}) == 1


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProcesses]:
    """Three brokers with a compacted topic, which have none of its first entries in memory."""
    folder = tmp_path_factory.mktemp("copies")
    with ClusterProcesses(folder, options=OPTIONS, http=True) as cluster:
        cluster.start()
        create(cluster.bootstrap, replicas=3)
        writer = Writer(cluster.bootstrap)
        writer.write(4000)
        until(is_shrunk(cluster.bootstrap, writer))
        for broker in cluster.brokers.values():
            until(lambda broker=broker: bool(segments(broker)))  # type: ignore[misc]
        cluster.stop()
        cluster.start()
        yield cluster
        cluster.stop()
        for broker in cluster.brokers.values():
            assert verify(RealDisk(), str(broker.data_dir)).findings == []


def test_a_broker_that_lost_its_disk_is_given_the_compacted_log(cluster: ClusterProcesses) -> None:
    """Once while nothing happens, and once while writers and passes go on."""
    writer = Writer(cluster.bootstrap)
    table = folded(read(cluster.bootstrap))
    for node_id, more in ((2, 0), (3, 4000)):
        lost = cluster.brokers[node_id]
        lost.kill()
        shutil.rmtree(lost.data_dir)
        lost.start()
        writer.write(more)
        until(lambda lost=lost: is_filled(lost))  # type: ignore[misc]
        until(lambda: is_whole(cluster, 1, 2, 3))
    until(is_shrunk(cluster.bootstrap, writer))
    cluster.brokers[1].kill()  # the two that were filled are the majority
    assert folded(read(cluster.bootstrap)) == table | writer.table
    writer.write(500)
    assert folded(read(cluster.bootstrap)) == table | writer.table
    cluster.brokers[1].start()
    until(lambda: is_whole(cluster, 1, 2, 3))


def test_a_replica_that_moves_is_given_the_compacted_log(cluster: ClusterProcesses) -> None:
    """Away from a broker, which forgets the log, and back again while writers and passes go on."""
    writer = Writer(cluster.bootstrap)
    table = folded(read(cluster.bootstrap))
    newcomer, address = cluster.newcomer(4)
    add = [sys.executable, "-m", "raftlog", "cluster", "add", f"4@{address}"]
    add += secured.command_line(cluster.bootstrap, cluster.root)
    subprocess.run(add, check=True, capture_output=True)
    newcomer.start()

    async def move(*brokers: int) -> None:
        async with secured.open_client(cluster.bootstrap) as client:
            await client.admin.operations.move({TopicPartition(TOPIC, 0): brokers})

    for members, more in (((1, 2, 4), 0), ((2, 3, 4), 4000)):
        trio.run(move, *members)
        writer.write(more)
        until(lambda members=members: is_whole(cluster, *members))  # type: ignore[misc]
        assert folded(read(cluster.bootstrap)) == table | writer.table
    assert is_filled(newcomer)
