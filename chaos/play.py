"""What a scenario plays with: the stage, the load, and faults that are written down with their effect."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from chaos import history as events
from chaos.faults.fault import Fault, NoEffect
from chaos.faults.processes import start_all
from chaos.gaps import Place
from chaos.goals import Goals
from chaos.history import History, Outcome
from chaos.look import sizes
from chaos.stage import Stage
from chaos.workloads import Workload
from chaos.workloads.producers import CONFLUENT

PATIENCE_S: Final = 90.0
"""For what must come; generous, since the machine may be busy."""
ASK_S: Final = 5.0
POLL_S: Final = 0.1


class NotInTime(Exception):
    """The cluster did not get where it should be; the message says what is missing."""


class Play:
    """One run of a scenario. `seconds` is how long faults are played."""

    def __init__(
        self, stage: Stage, history: History, workload: Workload, rng: random.Random, seconds: float
    ) -> None:
        self.stage = stage
        self.history = history
        self.workload = workload
        self.rng = rng
        self.goals = Goals(history)
        self._until = time.monotonic() + seconds
        self.topic = next(iter(workload.topics))
        """The one that scenarios look at."""

    # Time

    @property
    def left_s(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def calm(self, seconds: float) -> None:
        """Let the load run, with whatever is broken."""
        time.sleep(max(0.0, seconds))

    def rounds(self) -> Iterator[int]:
        """Numbers, until the time is up; one at least."""
        number = 0
        while number == 0 or self.left_s > 0:
            self.history.head.rounds = number + 1
            yield number
            number += 1

    # Faults

    def begins(self, fault: Fault) -> Callable[[], None]:
        """The fault holds until the function that this returns is called, which looks at its effect, too."""
        entered = self.history.begin(
            events.Fault(client="chaos", kind=fault.kind, what=fault.what, brokers=list(fault.brokers))
        )
        try:
            fault.begin()
        except NoEffect as failure:
            self.history.end(entered, Outcome.FAILED, str(failure))
            raise

        def end() -> None:
            try:
                entered.seen = fault.end()
            except NoEffect as failure:
                self.history.end(entered, Outcome.FAILED, str(failure))
            else:
                self.history.end(entered, Outcome.OK)

        return end

    @contextmanager
    def suffers(self, fault: Fault) -> Iterator[Fault]:
        """The fault holds inside. Where that ends with an error, `heal` takes back what is left of it."""
        end = self.begins(fault)
        yield fault
        end()

    def suffer(self, fault: Fault, seconds: float) -> float:
        """The moment of the history from which on it was taken back."""
        with self.suffers(fault):
            self.calm(seconds)
            return self.history.now()

    # Looking

    def admin(self) -> AdminClient:
        return AdminClient({**self.stage.access.librdkafka(), **CONFLUENT})

    @property
    def ids(self) -> list[int]:
        return list(self.stage.brokers)

    def leader(self, partition: int = 0) -> int:
        """Who leads a partition of the topic; waits until somebody does."""
        admin, found = self.admin(), -1

        def is_led() -> bool:
            nonlocal found
            try:
                partitions = admin.list_topics(self.topic, timeout=ASK_S).topics[self.topic].partitions
            except KafkaException:
                return False
            found = partitions[partition].leader if partition in partitions else -1
            return found > 0

        self.wait_until(is_led, f"somebody leads {self.topic}-{partition}")
        return found

    def leader_first(self, partition: int = 0) -> list[int]:
        """All brokers, the leader first, the others as chance has them."""
        leader = self.leader(partition)
        others = [one for one in self.ids if one != leader]
        self.rng.shuffle(others)
        return [leader, *others]

    def coordinator(self) -> int:
        """The broker that coordinates groups, as `raftlog group describe` would ask; any when nobody says."""
        groups = list(self.workload.groups)
        if groups:
            admin = self.admin()  # its futures end with it
            try:
                described = admin.describe_consumer_groups(groups[:1], request_timeout=ASK_S)
                found = described[groups[0]].result(2 * ASK_S).coordinator
            except (KafkaException, TimeoutError):
                found = None
            if found is not None and found.id in self.stage.brokers:
                return int(found.id)
        return self.rng.choice(self.ids)

    def acknowledged(self) -> int:
        """Records, of all producers."""
        return self.history.acknowledged.total()

    def leaders(self) -> dict[Place, int]:
        """Who leads each partition of the topics that stay; -1 for nobody. Raises KafkaException."""
        return {place: partition.leader for place, partition in self._described().items()}

    def replicas(self) -> dict[Place, list[int]]:
        """Which brokers keep each partition of the topics that stay, the preferred leader first. Raises
        KafkaException."""
        return {place: list(partition.replicas) for place, partition in self._described().items()}

    def _described(self) -> dict[Place, Any]:
        described = self.admin().list_topics(timeout=ASK_S).topics
        return {
            (topic, number): partition
            for topic in self.workload.topics
            for number, partition in described[topic].partitions.items()
        }

    # Waiting

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> float:
        """How long it took. Raises NotInTime."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s:
                raise NotInTime(f"not within {timeout_s:.0f} s: {what}")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def await_progress(self, records: int = 30) -> None:
        """Until so many records more of each producer are acknowledged."""
        names = [name for name in self.workload.producers if name != "churn"]
        enough = {name: self.history.acknowledged[name] + records for name in names}

        def is_enough() -> bool:
            return all(self.history.acknowledged[name] >= count for name, count in enough.items())

        self.wait_until(is_enough, f"{records} records of each producer are acknowledged")

    def await_whole(self, timeout_s: float = PATIENCE_S) -> float:
        """Until every replica of each topic that stays has on its disk what any of them had when this began;
        how long that took."""
        goals: dict[tuple[str, int], int] = {}
        for broker in self.stage.brokers.values():
            for topic in self.workload.topics.keys() - set(self.workload.compacted):
                for partition, size in sizes(broker.data_dir, topic).items():
                    goals[topic, partition] = max(size, goals.get((topic, partition), 0))

        def is_whole() -> bool:
            try:
                hosts = self.replicas()
            except KafkaException:
                return False
            return all(
                sizes(self.stage.brokers[host].data_dir, topic).get(partition, 0) >= goal
                for (topic, partition), goal in goals.items()
                for host in hosts[topic, partition]
                if host in self.stage.brokers and self.stage.brokers[host].is_running
            )

        return self.wait_until(is_whole, "all replicas have caught up", timeout_s)

    def heal(self) -> None:
        """Whatever a scenario left behind when it failed: links carry, and every broker runs."""
        if self.stage.network is not None:
            self.stage.network.heal()
        down = []
        for broker in self.stage.brokers.values():
            if broker.is_running:
                broker.resume()
            else:
                down.append(broker)
        start_all(down)

    def others(self, than: int | Sequence[int]) -> list[int]:
        out = {than} if isinstance(than, int) else set(than)
        return [one for one in self.ids if one not in out]
