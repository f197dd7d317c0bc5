"""`python -m tests.transaction_rates`: one-record transactions, back to back, on raftlog and on Apache Kafka.

Both run at the same time, three brokers each, and are loaded in turn, a few seconds each: what the machine
does beside meets both alike. The client is confluent-kafka, which waits for each commit. The ratio is of the
medians over the turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import ExitStack
from typing import Final

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.side_by_side import running

PATIENCE_S: Final = 60.0
TOPIC: Final = "one-record"


class Load:
    """Transactions on one system."""

    def __init__(self, system: str, bootstrap: str) -> None:
        self.system = system
        self.rates: list[float] = []
        self.waits: list[float] = []
        """Seconds from the begin of a transaction to the end of its commit."""
        settings = {"bootstrap.servers": bootstrap, "log_level": 0}
        admin = AdminClient(settings)
        made = admin.create_topics([NewTopic(TOPIC, 1, 3)])
        made[TOPIC].result(PATIENCE_S)
        self._producer = Producer({**settings, "transactional.id": "rate", "linger.ms": 0})
        self._producer.init_transactions(PATIENCE_S)

    def run(self, seconds: float, *, counts: bool) -> None:
        begun, count, waits = time.monotonic(), 0, list[float]()
        while (at := time.monotonic()) < begun + seconds:
            self._producer.begin_transaction()
            self._producer.produce(TOPIC, b"x" * 100)
            self._producer.commit_transaction(PATIENCE_S)
            waits.append(time.monotonic() - at)
            count += 1
        if counts:
            self.rates.append(count / (time.monotonic() - begun))
            self.waits += waits

    def __str__(self) -> str:
        cuts = statistics.quantiles(self.waits, n=100)
        turns = " ".join(f"{rate:.0f}" for rate in self.rates)
        return (
            f"{self.system:8} {statistics.median(self.rates):5.0f}/s (turns: {turns}),"
            f" p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.transaction_rates", description=__doc__)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with ExitStack() as stack:
        loads = [Load(system, stack.enter_context(running(system, 3))) for system in ("raftlog", "kafka")]
        for load in loads:
            load.run(options.seconds, counts=False)
        for turn in range(options.turns):
            for load in loads if turn % 2 else reversed(loads):
                load.run(options.seconds, counts=True)
    ours, theirs = loads
    for load in loads:
        print(load)
    print(f"ratio {statistics.median(ours.rates) / statistics.median(theirs.rates):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
