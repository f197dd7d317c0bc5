"""`python -m tests.exactly_once`: each input has exactly one output, while processes and brokers are killed.

Two workers of each client read a topic and write what they read to another, records and offsets in one
transaction, over three brokers. Every few seconds one worker of each client is killed with SIGKILL and begins
anew; in between brokers are killed, one that coordinates and one that leads in turn. At the end each input
must be in the output once, for a reader of what is committed. What is missing or doubled is counted. Workers
that end by themselves, after an error, are started anew, too.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, Producer, TopicPartition

from raftlog.protocol.errors import ErrorCode
from raftlog.testing.processes import ClusterProcesses
from tests.cluster.create import create
from tests.cluster.raw import RawClient, coordinator_of
from tests.cluster.test_cluster_transactions import leader_of
from tests.exactly_once.workers import CLIENTS
from tests.foreign.commands import JavaTools

PARTITIONS: Final = 4
WORKERS: Final = 2
PAUSE_S: Final = 0.02
"""Between two inputs."""
SETTLE_S: Final = 180.0
"""For what was read and not committed when the last kill came."""
JAVA: Final = "java"


class Workers:
    """The processes of one client, which are started again whenever they end."""

    def __init__(self, client: str, bootstrap: str, folder: Path) -> None:
        self.client = client
        self.kills, self.restarts = 0, 0
        self._bootstrap, self._log = bootstrap, (folder / f"{client}.log").open("ab")
        self._ending = threading.Event()
        self._processes = [self._start(number) for number in range(WORKERS)]
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        named = self._bootstrap, f"in-{self.client}", f"out-{self.client}"
        if self.client == JAVA:
            line = JavaTools().source(
                "Transactions", "transform", *named, f"of-in-{self.client}", f"{self.client}-{number}"
            )
        else:
            module = "tests.exactly_once.workers"
            line = [sys.executable, "-m", module, self.client, *named, f"{self.client}-{number}"]
        return subprocess.Popen(line, stdout=self._log, stderr=self._log)

    def _watch(self) -> None:
        while not self._ending.wait(0.2):
            for number, process in enumerate(self._processes):
                if process.poll() is not None:
                    self.restarts += 1
                    self._processes[number] = self._start(number)

    def kill_one(self, rng: random.Random) -> None:
        self.kills += 1
        rng.choice(self._processes).kill()

    def stop(self) -> None:
        self._ending.set()
        self._watcher.join()
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._log.close()


class Inputs:
    """Numbers, written to the input of every client at a steady rate, in a thread."""

    def __init__(self, bootstrap: str, clients: list[str]) -> None:
        self.count = 0
        self._clients = clients
        self._ending = threading.Event()
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0}
        )
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        while not self._ending.wait(PAUSE_S):
            for client in self._clients:
                value = b"%d" % self.count
                self._producer.produce(f"in-{client}", value, partition=self.count % PARTITIONS)
            self.count += 1
            self._producer.poll(0)

    def end(self) -> int:
        self._ending.set()
        self._thread.join()
        assert self._producer.flush(SETTLE_S) == 0, "inputs were not written"
        return self.count


class Outputs:
    """What a reader of what is committed has found so far."""

    def __init__(self, bootstrap: str, client: str) -> None:
        self.found: Counter[bytes] = Counter()
        settings = {"bootstrap.servers": bootstrap, "group.id": "check", "isolation.level": "read_committed"}
        self._consumer = Consumer({**settings, "enable.auto.commit": False, "log_level": 0})
        topic = f"out-{client}"
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])

    def read(self, wanted: int) -> None:
        """Until so many are there, or nothing came for a while; and then what comes yet."""
        deadline = time.monotonic() + SETTLE_S
        while len(self.found) < wanted and time.monotonic() < deadline:
            self._take(1.0)
        while self._take(3.0):
            pass

    def _take(self, seconds: float) -> bool:
        messages = self._consumer.consume(1000, seconds)
        self.found.update(one.value() for one in messages if one.error() is None)
        return bool(messages)


def kill_broker(cluster: ClusterProcesses, which: str) -> None:
    with RawClient(next(one for one in cluster.brokers.values() if one.is_running)) as client:
        victim = coordinator_of(client, "any") if which == "coordinator" else leader_of(client)
    victim = victim if victim in cluster.brokers else 1
    cluster.brokers[victim].kill()
    cluster.brokers[victim].start()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.exactly_once", description=__doc__)
    parser.add_argument("--clients", nargs="+", default=[*CLIENTS, JAVA], choices=[*CLIENTS, JAVA])
    parser.add_argument("--kills", type=int, default=30, help="of a worker of each client")
    parser.add_argument("--broker-kills", type=int, default=20, help="half of them of coordinators")
    parser.add_argument("--seconds", type=float, default=8.0, help="from one kill to the next")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="exactly-once-"))
    settings = {"group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": 1000}
    with ClusterProcesses(folder, 3, options=settings).start() as cluster:
        with RawClient(cluster.brokers[1]) as client:
            for topic in ("t", *(f"{way}-{name}" for way in ("in", "out") for name in options.clients)):
                assert create(client, topic, PARTITIONS, 3) is ErrorCode.NONE
        inputs = Inputs(cluster.bootstrap, options.clients)
        workers = [Workers(name, cluster.bootstrap, folder) for name in options.clients]
        try:
            time.sleep(options.seconds)
            for number in range(options.kills):
                for each in workers:
                    each.kill_one(rng)
                time.sleep(options.seconds / 2)
                done = number * options.broker_kills // options.kills
                if done < (number + 1) * options.broker_kills // options.kills:
                    kill_broker(cluster, "leader" if done % 2 else "coordinator")
                time.sleep(options.seconds / 2)
                print(f"{number + 1} of {options.kills}: {inputs.count} inputs", file=sys.stderr, flush=True)
            count = inputs.end()
            outputs = [Outputs(cluster.bootstrap, name) for name in options.clients]
            for each in outputs:
                each.read(count)
        finally:
            inputs.end()
            for each_workers in workers:
                each_workers.stop()
    failed = 0
    for each_workers, each in zip(workers, outputs, strict=True):
        missing = sum(b"%d" % number not in each.found for number in range(count))
        doubled = sum(many > 1 for many in each.found.values())
        failed += bool(missing or doubled)
        print(
            f"{each_workers.client}: {count} inputs, {missing} without an output, {doubled} with several;"
            f" {each_workers.kills} kills, {each_workers.restarts} starts after an end"
        )
    print(f"brokers killed {options.broker_kills} times; logs in {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
