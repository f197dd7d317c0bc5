"""Brokers that lead are killed, paused or stopped in turn, under load, and come back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.cluster.gaps import Gaps
from tests.cluster.trial import PARTITIONS, Trial

CALM_S: Final = 2.0
"""Load without a fault before each fault, to know what the machine does by itself."""


class Fault(Enum):
    KILL = "kill"
    """SIGKILL, and a restart."""
    STOP = "stop"
    """SIGSTOP for ten seconds."""
    TERM = "term"
    """SIGTERM, and a restart: a rolling restart does this to one broker after another."""


HOLD_S: Final = {Fault.KILL: 3.0, Fault.STOP: 10.0, Fault.TERM: 0.0}
"""How long a broker stays as it is: at least as long as its successors need, except in a rolling restart."""


@dataclass(frozen=True, slots=True)
class Round:
    """`gaps` from the fault until the cluster is whole again, leaders at home included; `calm` before it.
    `disk_s`, `late_s`: what the machine did meanwhile (probe)."""

    number: int
    broker: int
    led: int
    coordinated: bool
    calm: Gaps
    gaps: Gaps
    commit_gap: float
    whole_s: float
    disk_s: float
    late_s: float


def rounds(trial: Trial, fault: Fault, count: int) -> Iterator[Round]:
    """In round n the leader of partition n (in turn) suffers the fault."""
    trial.await_progress()
    trial.wait_whole()
    for number in range(count):
        trial.await_progress()
        calm = trial.gaps(*trial.run(CALM_S))
        leaders = trial.leaders()
        victim = leaders[number % PARTITIONS]
        coordinated = trial.coordinator() == victim
        begin = time.monotonic()
        suffer(trial, victim, fault, HOLD_S[fault])
        whole_s = trial.wait_whole()
        trial.run(0.2)
        end = time.monotonic()
        led = sum(leader == victim for leader in leaders.values())
        yield Round(
            number + 1,
            victim,
            led,
            coordinated,
            calm,
            trial.gaps(begin, end),
            trial.commit_gap(begin, end),
            whole_s,
            trial.slowest_sync(begin, end),
            trial.latest_wake_up(begin, end),
        )


def suffer(trial: Trial, victim: int, fault: Fault, hold_s: float) -> None:
    """One broker, taken away and given back."""
    broker = trial.broker(victim)
    match fault:
        case Fault.KILL:
            broker.kill()
        case Fault.STOP:
            broker.pause()
        case Fault.TERM:
            code = broker.stop()
            assert code == 0, f"exit code {code}\n{broker.log_tail()}"
    trial.run(hold_s)
    if fault is Fault.STOP:
        broker.resume()
    else:
        broker.start()
