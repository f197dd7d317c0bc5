"""A rolling upgrade under load, from one commit's wheel to another's, and the way back.

    python -m tests.upgrade --before HEAD~1 --after HEAD

Both commits are built as wheels and unpacked. Three brokers of the older build serve a producer and a group;
one after the other is stopped as systemd would, and started with the newer build. Then one is started with
the older build again: that is refused, and says why, if the cluster uses by then what the older one does not
know. Exit code 1 unless every record was acknowledged, and read once and in order.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import trio

import raftlog
from raftlog.testing.processes import BrokerDidNotStart, BrokerProcess, ClusterProcesses

ROOT: Final = Path(__file__).parents[1]
TOPIC: Final = "orders"
PARTITIONS: Final = 6
SETTLED_S: Final = 60.0
"""How long all replicas may take to be in sync after a restart; generous, since the machine may be busy."""
BETWEEN_S: Final = 2.0
"""Load between two restarts."""


def built(commit: str, folder: Path) -> tuple[str, ...]:
    """What a broker of a commit's wheel is started with. The packages beside it are this environment's."""
    source, wheels, unpacked = folder / "source", folder / "wheels", folder / "unpacked"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", ROOT, "archive", commit], stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "x", "-C", source], input=archive.stdout, check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, source], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", unpacked, wheel], check=True)
    return ("env", "--chdir", str(folder), f"PYTHONPATH={unpacked}", sys.executable, "-m", "raftlog")


class Load:
    """A producer and a group, and what they were told."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.acknowledged: dict[tuple[int, int], bytes] = {}
        self.failed: list[str] = []
        self.read: list[tuple[int, int, bytes]] = []
        self.is_over = False

    async def run(self) -> None:
        async with raftlog.open_client(self.bootstrap) as client, trio.open_nursery() as nursery:
            nursery.start_soon(self._consume, client)
            async with client.producer() as producer:
                number = 0
                while not self.is_over:
                    await self._send(producer, b"%d" % number)
                    number += 1
            with trio.move_on_after(SETTLED_S):
                while len(self.read) < len(self.acknowledged):  # noqa: ASYNC110
                    await trio.sleep(0.1)
            nursery.cancel_scope.cancel()

    async def _send(self, producer: raftlog.Producer, value: bytes) -> None:
        try:
            told = await producer.send(TOPIC, value, key=value)
        except raftlog.ClientError as error:
            self.failed.append(str(error))
        else:
            self.acknowledged[told.partition, told.offset] = value

    async def _consume(self, client: raftlog.Client) -> None:
        async with client.consumer(TOPIC, group="billing", auto_offset_reset="earliest") as consumer:
            async for record in consumer:
                self.read.append((record.partition, record.offset, record.value or b""))

    def problems(self) -> list[str]:
        """What is not as it should be."""
        wrong = [f"failed: {one}" for one in self.failed[:3]]
        seen = {(partition, offset): value for partition, offset, value in self.read}
        if lost := self.acknowledged.items() - seen.items():
            wrong.append(f"{len(lost)} acknowledged records were not read")
        for number in range(PARTITIONS):
            offsets = [offset for partition, offset, _ in self.read if partition == number]
            if offsets != sorted(offsets):
                wrong.append(f"partition {number} was not read in order, or twice")
        return wrong


async def settled(bootstrap: str) -> None:
    """Until every replica is in sync."""
    async with raftlog.open_client(bootstrap) as client:
        with trio.fail_after(SETTLED_S):
            while True:
                view = await client.admin.describe_topic(TOPIC)
                if all(len(p.in_sync) == 3 and p.leader is not None for p in view.partitions):
                    return
                await trio.sleep(0.2)


async def upgrade(cluster: ClusterProcesses, after: tuple[str, ...], load: Load) -> None:
    async with raftlog.open_client(cluster.bootstrap) as client:
        await client.admin.create_topic(TOPIC, partitions=PARTITIONS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        await trio.sleep(BETWEEN_S)
        for broker in cluster.brokers.values():
            await settled(cluster.bootstrap)
            before = len(load.acknowledged)
            await trio.to_thread.run_sync(broker.stop)
            broker.program = after
            await trio.to_thread.run_sync(broker.start)
            await trio.sleep(BETWEEN_S)
            told = len(load.acknowledged) - before
            print(f"broker {broker.node_id} upgraded, {told} records acknowledged meanwhile", flush=True)
        await settled(cluster.bootstrap)
        load.is_over = True


def downgraded(broker: BrokerProcess, before: tuple[str, ...]) -> str:
    """What becomes of a broker that is started with the older build again."""
    broker.stop()
    broker.program = before
    try:
        broker.start()
    except BrokerDidNotStart:
        said = [line for line in broker.log_tail().splitlines() if "raftlog" in line]
        return f"refused, exit code {broker.exit_code}: {said[-1] if said else 'nothing was said'}"
    return "it serves: nothing that the older build does not know is in use"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", default="HEAD~1", help="the commit to come from")
    parser.add_argument("--after", default="HEAD", help="the commit to go to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raftlog-upgrade-") as name:
        folder = Path(name)
        before, after = built(options.before, folder / "before"), built(options.after, folder / "after")
        with ClusterProcesses(folder / "cluster", 3, programs=dict.fromkeys((1, 2, 3), before)) as cluster:
            cluster.start()
            load = Load(cluster.bootstrap)
            trio.run(upgrade, cluster, after, load)
            wrong = load.problems()
            back = downgraded(cluster.brokers[1], before)
    told = f"{len(load.acknowledged)} acknowledged, {len(load.failed)} failed, {len(load.read)} read"
    print(f"upgrade: {told}; {'; '.join(wrong) or 'none lost, none twice, all in order'}\ndowngrade: {back}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
