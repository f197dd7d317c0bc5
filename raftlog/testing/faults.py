"""What can be done to an embedded cluster, by name.

Every fault is real in its effect and happens before the call returns; each is said on stderr with the seed
that its random choices came from, so that a failing test shows what was done and how to do it again.
A broker is named by its id or as the object; where none is named, chance chooses one that runs.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Sequence
from typing import Protocol

from raftlog.testing.broker import EmbeddedBroker
from raftlog.types import BrokerId

Target = int | EmbeddedBroker
Side = Target | Iterable[Target]


class Cluster(Protocol):
    """What faults are done to: `raftlog.testing.cluster.EmbeddedCluster`."""

    @property
    def seed(self) -> int: ...
    @property
    def brokers(self) -> Sequence[EmbeddedBroker]: ...
    def broker(self, broker: Target) -> EmbeddedBroker: ...
    def leader(self, topic: str, partition: int = 0) -> EmbeddedBroker: ...
    def start(self, broker: EmbeddedBroker) -> None: ...


class Faults:
    """The faults of one cluster, `cluster.faults`. Blocking and short; for one thread at a time."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.rng = rng
        """For a test's own choices, to have them come from the seed, too."""
        self.history: list[str] = []
        """What was done, in order."""
        self._cluster = cluster
        self._cuts: set[frozenset[int]] = set()

    def __repr__(self) -> str:
        return f"<Faults seed={self._cluster.seed} {self.history}>"

    # The network between brokers; clients reach every broker that runs

    def partition(self, a: Side, b: Side) -> None:
        """Nothing passes between `a` and `b` any more, each a broker or several."""
        ones, others = self._side(a), self._side(b)
        self._say(f"partition {_ids(ones)} from {_ids(others)}")
        self._cuts |= {frozenset((one.id, other.id)) for one in ones for other in others if one is not other}
        self._cut_links()

    def isolate(self, broker: Target | None = None) -> EmbeddedBroker:
        """Cut a broker off from all others; clients still reach it. Returns it."""
        chosen = self._choose(broker)
        self._say(f"isolate {chosen.id}")
        self._cuts |= {frozenset((chosen.id, b.id)) for b in self._cluster.brokers if b is not chosen}
        self._cut_links()
        return chosen

    def isolate_leader(self, topic: str, partition: int = 0) -> EmbeddedBroker:
        """Cut off the broker that leads a partition. Returns it."""
        return self.isolate(self._cluster.leader(topic, partition))

    def heal(self) -> None:
        """Undo everything but kills: links carry, disks are fast, paused brokers go on."""
        self._say("heal")
        self._cuts.clear()
        for broker in self._cluster.brokers:
            broker.disk.slow_down(0)
            broker.resume()
        self._cut_links()

    # Processes

    def kill(self, broker: Target | None = None) -> EmbeddedBroker:
        """As SIGKILL: the broker ends without a word; what it had not written is lost. Returns it."""
        chosen = self._choose(broker)
        self._say(f"kill {chosen.id}")
        chosen.kill()
        return chosen

    def kill_leader(self, topic: str, partition: int = 0) -> EmbeddedBroker:
        """Kill the broker that leads a partition. Returns it."""
        return self.kill(self._cluster.leader(topic, partition))

    def stop(self, broker: Target | None = None) -> EmbeddedBroker:
        """As SIGTERM: the broker hands its leaderships over, syncs and ends, which takes a moment. Returns
        it."""
        chosen = self._choose(broker)
        self._say(f"stop {chosen.id}")
        chosen.stop()
        return chosen

    def restart(self, broker: Target | None = None) -> EmbeddedBroker:
        """Start a broker again on its folder and its port; one that runs is killed first. Without a broker:
        all that are down, else one that chance chooses. Returns it, or the last one.

        It serves a moment later: `cluster.ready()` or `cluster.wait_ready()` waits for that."""
        down = [b for b in self._cluster.brokers if not b.is_running]
        for chosen in down if broker is None and down else [self._choose(broker)]:
            self._say(f"restart {chosen.id}")
            chosen.kill()
            self._cluster.start(chosen)
            self._cut_links()
        return chosen

    def pause(self, broker: Target | None = None) -> EmbeddedBroker:
        """As SIGSTOP: the broker keeps its connections and answers nothing. Returns it."""
        chosen = self._choose(broker)
        self._say(f"pause {chosen.id}")
        chosen.pause()
        return chosen

    def pause_leader(self, topic: str, partition: int = 0) -> EmbeddedBroker:
        """Pause the broker that leads a partition. Returns it."""
        return self.pause(self._cluster.leader(topic, partition))

    def resume(self, broker: Target | None = None) -> None:
        """As SIGCONT; without a broker, all of them."""
        for chosen in self._cluster.brokers if broker is None else [self._cluster.broker(broker)]:
            if chosen.is_paused:
                self._say(f"resume {chosen.id}")
                chosen.resume()

    # Disks

    def slow_disk(self, broker: Target | None = None, seconds: float = 0.5) -> EmbeddedBroker:
        """Every sync of the broker's disk takes `seconds` longer; 0 ends that. Returns it."""
        chosen = self._choose(broker)
        self._say(f"slow disk of {chosen.id}: {seconds:g} s")
        chosen.disk.slow_down(seconds)
        return chosen

    # How

    def _choose(self, broker: Target | None) -> EmbeddedBroker:
        if broker is not None:
            return self._cluster.broker(broker)
        running = [b for b in self._cluster.brokers if b.is_running and not b.is_paused]
        if not running:
            raise ValueError("no broker is running")
        return self.rng.choice(running)

    def _side(self, side: Side) -> list[EmbeddedBroker]:
        targets = side if isinstance(side, Iterable) else [side]
        return [self._cluster.broker(target) for target in targets]

    def _cut_links(self) -> None:
        for broker in self._cluster.brokers:
            if broker.is_running:
                broker.cut(
                    frozenset(
                        BrokerId(other)
                        for cut in self._cuts
                        if broker.id in cut
                        for other in cut - {broker.id}
                    )
                )

    def _say(self, what: str) -> None:
        self.history.append(what)
        print(f"raftlog fault (seed={self._cluster.seed}): {what}", file=sys.stderr)


def _ids(brokers: list[EmbeddedBroker]) -> str:
    return "+".join(str(broker.id) for broker in brokers)
