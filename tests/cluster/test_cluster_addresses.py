"""Brokers that come back at another address, and one that was removed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from raftlog.protocol.api import ApiKey
from raftlog.testing.processes import free_port
from tests import secured
from tests.cluster.raw import RawClient
from tests.secured import BrokerProcess, ClusterProcesses
from tests.waiting import until

pytestmark = pytest.mark.slow


async def write(bootstrap: str, value: bytes) -> int:
    async with secured.open_client(bootstrap) as client:
        await client.admin.create_topic("orders", replication_factor=3, exist_ok=True)
        async with client.producer() as producer:
            return (await producer.send("orders", value)).offset


async def in_sync(bootstrap: str) -> int:
    async with secured.open_client(bootstrap) as client:
        return len((await client.admin.describe_topic("orders")).partitions[0].in_sync)


def moved(broker: BrokerProcess) -> None:
    """Another address for clients, and for brokers; --peers still names the old one."""
    broker.port = free_port()
    arguments = list(broker.arguments)
    arguments[arguments.index("--peer-listen") + 1] = f"127.0.0.1:{free_port()}"
    broker.arguments = tuple(arguments)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(1, id="the lowest id"),
        pytest.param(3, id="the highest id", marks=pytest.mark.long),
    ],
)
def test_a_broker_comes_back_at_another_address(tmp_path: Path, number: int) -> None:
    """The others learn it from itself. The broker with the lowest id dialled nobody: it was never found."""
    with ClusterProcesses(tmp_path, 3).start() as cluster:
        assert trio.run(write, cluster.bootstrap, b"before") == 0
        broker = cluster.brokers[number]
        assert broker.stop() == 0
        moved(broker)
        broker.start()
        assert trio.run(write, broker.bootstrap, b"after") == 1
        until("three replicas in sync", lambda: trio.run(in_sync, broker.bootstrap) == 3)
        other = cluster.brokers[2]
        until(
            "the move in the log",
            lambda: re.search(rf"broker {number} (has moved|is there)", other.log_tail(100)),
        )
        # Who is started again while the address in its --peers is the old one finds it all the same.
        other.stop()
        other.start()
        until("three replicas in sync again", lambda: trio.run(in_sync, other.bootstrap) == 3)


def test_a_removed_broker_that_is_started_again_says_so_and_ends(tmp_path: Path) -> None:
    async def remove(bootstrap: str) -> None:
        async with secured.open_client(bootstrap) as client:
            await client.admin.operations.drain_broker(4)
            await client.admin.operations.remove_broker(4)

    with ClusterProcesses(tmp_path, 3).start() as cluster:
        newcomer, address = cluster.newcomer(4)

        async def add() -> None:
            async with secured.open_client(cluster.bootstrap) as client:
                await client.admin.operations.add_broker(4, address)

        trio.run(add)
        newcomer.start()
        newcomer.stop()
        trio.run(remove, cluster.bootstrap)
        newcomer.launch()
        assert newcomer.wait(40) == 2
        said = newcomer.log_tail()
        assert re.search(r"broker 4 was removed from this cluster, says broker [123]", said)
        assert "raftlog cluster add 4@HOST:PORT" in said and "with an empty folder" in said


@pytest.mark.long
def test_who_still_lists_a_removed_broker_does_not_look_for_it(tmp_path: Path) -> None:
    async def remove(bootstrap: str) -> None:
        async with secured.open_client(bootstrap) as client:
            await client.admin.operations.drain_broker(3)
            await client.admin.operations.remove_broker(3)

    with ClusterProcesses(tmp_path, 3).start() as cluster:
        gone = cluster.brokers[3]
        gone.stop()
        trio.run(remove, cluster.bootstrap)
        cluster.forget(3)
        rest = cluster.brokers[2]
        rest.stop()
        rest.log_path.write_text("")
        rest.start()
        until("a leader", lambda: "leads the metadata" in rest.log_tail(100))
        trio.run(trio.sleep, 5)  # longer than it waits before it dials a broker with a higher id
        assert "no connection to broker 3" not in rest.log_tail(100)


def test_a_broker_whose_process_is_gone_is_named_no_more_to_java_and_to_others_until_it_is_fenced(
    tmp_path: Path,
) -> None:
    """Java's admin client asks for the next leader once the one that it knew is not named any more. In
    librdkafka a transaction hangs whose group's coordinator is not named (scenario 48 of exactly once)."""

    def named(software: str) -> set[int]:
        with RawClient(cluster.brokers[1]) as client:
            says = {"client_software_name": software, "client_software_version": "4.1.1"}
            assert client.ask(ApiKey.API_VERSIONS, 3, says).error_code == 0
            answer = client.ask(ApiKey.METADATA, 4, {"topics": [], "allow_auto_topic_creation": False})
        return {broker.node_id for broker in answer.brokers}

    def named_to_both() -> tuple[set[int], set[int]]:
        return named("apache-kafka-java"), named("librdkafka")

    everyone = {1, 2, 3}
    options = {"broker.session.timeout.ms": 600_000}
    with ClusterProcesses(tmp_path, 3, options=options).start() as cluster:
        until("all are named", lambda: named_to_both() == (everyone, everyone))
        cluster.brokers[3].kill()
        until("who is left is named to Java", lambda: named("apache-kafka-java") == {1, 2})
        assert named("librdkafka") == everyone
        cluster.brokers[3].start()
        until("all are named again", lambda: named_to_both() == (everyone, everyone))
