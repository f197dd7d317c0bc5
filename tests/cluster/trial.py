"""What every campaign stands on: a cluster of processes, one topic, the load, and the judgement."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from raftlog.testing.processes import BrokerProcess, ClusterProcesses
from tests.cluster.gaps import Gaps, gaps, longest_gap
from tests.cluster.load import GROUP, PRODUCERS, RECOMMENDED, ClientSettings, Load
from tests.cluster.network import Network
from tests.cluster.probe import Probe
from tests.cluster.raw import RawClient, coordinator_of
from tests.cluster.replicas import differences, partition_sizes
from tests.crash.checker import Kind, Log, Memory, Verdict, check
from tests.crash.history import Outcome, Send, who_wrote
from tests.crash.look import LookFailed, read_commits, read_log

TOPIC: Final = "watched"
PARTITIONS: Final = 3
REPLICAS: Final = 3
WHOLE_TIMEOUT_S: Final = 120.0
PROGRESS_TIMEOUT_S: Final = 60.0
NOTES_MAX: Final = 5
POLL_S: Final = 0.05
SETTLE_S: Final = 1.0
"""Between the last record and the end of the brokers: followers hear of the last commit by a heartbeat."""


class NotWhole(Exception):
    """The cluster did not get where it should be in time; the message says what was missing."""


class Trial:
    """A running cluster under load. A context manager that ends all of it."""

    def __init__(
        self,
        root: Path,
        *,
        nodes: int = 3,
        options: dict[str, object] | None = None,
        network: Network | None = None,
        clients: ClientSettings = RECOMMENDED,
    ) -> None:
        self.cluster = ClusterProcesses(
            root,
            nodes,
            options=options,
            arguments=("-v",),
            hosts=network.hosts if network else None,
            programs=network.programs if network else None,
        )
        self._clients = clients
        self._probe = Probe(root / "probe")

    def __enter__(self) -> Trial:
        try:
            self.cluster.start()
            self.admin = AdminClient({"bootstrap.servers": self.cluster.bootstrap, **RECOMMENDED.confluent})
            create_topic(self.cluster.bootstrap, TOPIC, PARTITIONS, REPLICAS)
            self.load = Load(TOPIC, PARTITIONS, self.cluster.bootstrap, self._clients)
            self.load.__enter__()
            self._probe.start()
        except BaseException:
            self.cluster.kill()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._probe.stopping.set()
        self.load.__exit__(*exc)
        self.cluster.kill()

    # What there is to see

    def broker(self, node_id: int) -> BrokerProcess:
        return self.cluster.brokers[node_id]

    def leaders(self) -> dict[int, int]:
        """Who leads each partition, as some broker says; -1 for nobody."""
        described = self.admin.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
        return {number: partition.leader for number, partition in described.items()}

    def replicas(self) -> dict[int, list[int]]:
        """Who keeps each partition, the preferred leader first."""
        described = self.admin.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
        return {number: list(partition.replicas) for number, partition in described.items()}

    def coordinator(self) -> int:
        """The broker that coordinates consumer groups: it leads the metadata."""
        found: set[int] = set()

        def agreed() -> bool:
            found.clear()
            for broker in self.cluster.brokers.values():
                if broker.is_running:
                    with RawClient(broker) as client:
                        found.add(coordinator_of(client, GROUP))
            return len(found - {-1}) == 1

        self.wait_until(agreed, lambda: f"one of {found}")
        return max(found)

    def gaps(self, begin: float, end: float) -> Gaps:
        return gaps(self.load.history.acks, begin, end, PRODUCERS, PARTITIONS)

    def slowest_sync(self, begin: float, end: float) -> float:
        """What the disk itself did meanwhile, in seconds: no broker can acknowledge faster."""
        return max((took for at, took in self._probe.syncs if begin <= at < end), default=0.0)

    def latest_wake_up(self, begin: float, end: float) -> float:
        """By how much a thread of this process was woken up too late meanwhile, in seconds."""
        return max((late for at, late in self._probe.delays if begin <= at < end), default=0.0)

    def commit_gap(self, begin: float, end: float) -> float:
        return longest_gap(self.load.history.commits, begin, end).length

    # Waiting

    def run(self, seconds: float) -> tuple[float, float]:
        """Let the load run; when that began and ended."""
        begin = time.monotonic()
        time.sleep(seconds)
        return begin, time.monotonic()

    def await_progress(self, records: int = 50) -> None:
        """Until so many more records of each producer are acknowledged, and something is committed."""
        history = self.load.history
        enough, commits = Counter(dict.fromkeys(PRODUCERS, records)), len(history.commits) + 1
        enough += Counter(ack.producer for ack in history.acks)

        def missing() -> str:
            left = enough - Counter(ack.producer for ack in history.acks)
            return str(dict(left)) if left else "" if len(history.commits) >= commits else "a commit"

        self.wait_until(lambda: not missing(), missing, PROGRESS_TIMEOUT_S)

    def wait_whole(self, *, at_home: bool = True) -> float:
        """Until every partition is led, by its preferred leader if `at_home`, and every replica has on its
        disk what any of them had when this began; the seconds that took."""
        begin = time.monotonic()
        goal = self._longest()
        self.wait_until(lambda: not self._missing(goal, at_home), lambda: self._missing(goal, at_home))
        return time.monotonic() - begin

    def wait_until(
        self, condition: Callable[[], bool], what: Callable[[], str], timeout_s: float = WHOLE_TIMEOUT_S
    ) -> None:
        """Raises NotWhole with `what` when the time is up."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                notes = self.load.history.so_far()[2]
                raise NotWhole("\n".join([f"not within {timeout_s} s: {what()}", *notes[:NOTES_MAX]]))
            time.sleep(POLL_S)

    def _longest(self) -> dict[int, int]:
        longest: dict[int, int] = {}
        for broker in self.cluster.brokers.values():
            for partition, size in partition_sizes(broker.data_dir, TOPIC).items():
                longest[partition] = max(size, longest.get(partition, 0))
        return longest

    def _missing(self, goal: dict[int, int], at_home: bool) -> str:
        try:
            replicas, leaders = self.replicas(), self.leaders()
        except KafkaException as error:
            return f"metadata: {error}"
        for partition, hosts in replicas.items():
            if leaders[partition] not in (hosts[:1] if at_home else hosts):
                return f"{TOPIC}-{partition} is led by {leaders[partition]}, replicas {hosts}"
            for host in hosts:
                size = partition_sizes(self.broker(host).data_dir, TOPIC).get(partition, 0)
                if size < goal.get(partition, 0):
                    return f"{TOPIC}-{partition} has {size} of {goal[partition]} bytes on broker {host}"
        return ""

    # The end

    def judge(self) -> Verdict:
        """Stop the load, read everything back, stop the brokers and compare their disks."""
        self.load.stop()
        sends, commits, notes = self.load.history.so_far()
        verdict = Verdict()
        try:
            log = read_log(self.cluster.bootstrap, TOPIC, PARTITIONS)
            _locate(sends, log)
            verdict = check(sends, log, PRODUCERS)
            committed = read_commits(self.cluster.bootstrap, GROUP, TOPIC, PARTITIONS)
            Memory().check_commits(committed, commits, verdict)
            Memory().check_tried(committed, commits, verdict)
        except LookFailed as failure:
            verdict.add(Kind.NOTED, f"the log cannot be read: {failure}")
        time.sleep(SETTLE_S)
        self.cluster.stop()
        folders = {id: broker.data_dir for id, broker in self.cluster.brokers.items()}
        notes += differences(folders, TOPIC, PARTITIONS, REPLICAS)
        for note in notes:
            verdict.add(Kind.NOTED, note)
        return verdict


def _locate(sends: list[Send], log: Log) -> None:
    """Where records lie that were acknowledged without an offset: wherever they are found."""
    lost = {(send.producer, send.number): send for send in sends if send.outcome is Outcome.OK}
    lost = {name: send for name, send in lost.items() if send.offset < 0}
    for partition, part in log.items():
        for offset, value in part.records if lost else ():
            send = lost.get(who_wrote(value) or ("", -1))
            if send is not None and send.partition == partition:
                send.offset = offset


def create_topic(bootstrap: str, name: str, partitions: int, replicas: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(name, partitions, replicas)])[name].result(60)
