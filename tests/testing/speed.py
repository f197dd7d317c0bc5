"""How fast embedded brokers start and stop: `python -m tests.testing.speed [rounds]`.

The goals are those of a developer's machine that does nothing else; the median of the rounds counts.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from raftlog.testing import embedded_broker, embedded_cluster

TOPICS = 100
GOALS_S = {
    "a broker is ready": 0.150,
    "a broker has stopped": 0.100,
    "three brokers are ready": 1.0,
    "three brokers have stopped": 0.300,
    f"{TOPICS} tests with a topic each": 5.0,
}


class Watch:
    """Takes times by name."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.taken[name].append(time.perf_counter() - started)


async def start_and_stop(watch: Watch, nodes: int, ready: str, stopped: str) -> None:
    started = time.perf_counter()
    async with embedded_cluster(nodes):
        watch.taken[ready].append(time.perf_counter() - started)
        ending = time.perf_counter()
    watch.taken[stopped].append(time.perf_counter() - ending)


async def use_topics(watch: Watch) -> None:
    """What a test does that gets a topic: create it, write a record, read it."""
    async with embedded_broker() as broker:
        with watch.time(f"{TOPICS} tests with a topic each"):
            for number in range(TOPICS):
                topic = broker.create_topic(f"t{number}")
                async with broker.client() as client:
                    async with client.producer() as producer:
                        await producer.send(topic, b"one apple")
                    async with client.consumer(topic, auto_offset_reset="earliest") as consumer:
                        await anext(consumer)


async def measure(rounds: int) -> Watch:
    async with embedded_broker():
        pass  # the imports
    watch = Watch()
    for _ in range(rounds):
        await start_and_stop(watch, 1, "a broker is ready", "a broker has stopped")
        await start_and_stop(watch, 3, "three brokers are ready", "three brokers have stopped")
    await use_topics(watch)
    return watch


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    watch = trio.run(measure, rounds)
    missed = 0
    for name, goal in GOALS_S.items():
        median, worst = statistics.median(watch.taken[name]), max(watch.taken[name])
        missed += median > goal
        verdict = "missed" if median > goal else "ok"
        print(
            f"{name:30} {median * 1e3:7.0f} ms  worst {worst * 1e3:7.0f}  goal {goal * 1e3:5.0f}  {verdict}"
        )
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
