"""Links between brokers, or to clients, lose everything for a while, one way or both ways, under load.

Whatever a broker that is cut off tells its clients must be true: what it acknowledged must be in the log, and
what its side of the cut cannot decide it must not acknowledge. The judgement at the end sees to that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.cluster.create import leaderships
from tests.cluster.gaps import Gaps
from tests.cluster.network import CLIENTS, Network
from tests.cluster.raw import RawClient
from tests.cluster.trial import TOPIC, Trial

CUT_S: Final = 10.0
FLAPS: Final = 10


@dataclass(frozen=True, slots=True)
class Cut:
    """`gaps` from the cut until all is whole again. `elections`: by how much the terms of the partitions rose
    meanwhile, those for the leaders' way home included."""

    what: str
    gaps: Gaps
    commit_gap: float
    elections: int
    whole_s: float


def cuts(trial: Trial, network: Network, rounds: int = 1) -> Iterator[Cut]:
    """Every scene once a round, each around another broker."""
    for number in range(rounds):
        for scene in SCENES:
            trial.await_progress()
            leader = trial.leaders()[number % 3]
            one, other = (broker for broker in trial.cluster.brokers if broker != leader)
            before, begin = _terms(trial), time.monotonic()
            what = scene(trial, network, leader, one, other)
            network.heal()
            whole_s = trial.wait_whole()
            trial.run(0.2)
            end = time.monotonic()
            elections = _terms(trial) - before
            yield Cut(what, trial.gaps(begin, end), trial.commit_gap(begin, end), elections, whole_s)


def leader_from_brokers(trial: Trial, network: Network, leader: int, one: int, other: int) -> str:
    network.cut([leader], [one, other])
    trial.run(CUT_S)
    return f"leader {leader} | brokers {one}, {other}; clients reach all"


def leader_from_everyone(trial: Trial, network: Network, leader: int, one: int, other: int) -> str:
    network.cut([leader], [one, other, CLIENTS])
    trial.run(CUT_S)
    return f"leader {leader} | everyone"


def leader_that_is_heard_and_hears_nobody(
    trial: Trial, network: Network, leader: int, one: int, other: int
) -> str:
    network.cut([one, other], [leader], both_ways=False)
    trial.run(CUT_S)
    return f"leader {leader} is heard and hears no broker"


def leader_that_hears_and_is_not_heard(
    trial: Trial, network: Network, leader: int, one: int, other: int
) -> str:
    network.cut([leader], [one, other], both_ways=False)
    trial.run(CUT_S)
    return f"leader {leader} hears and is heard by no broker"


def leader_and_one(trial: Trial, network: Network, leader: int, one: int, other: int) -> str:
    network.cut([leader], [one])
    trial.run(CUT_S)
    return f"leader {leader} | broker {one}; {other} reaches both"


def leader_and_one_one_way(trial: Trial, network: Network, leader: int, one: int, other: int) -> str:
    network.cut([leader], [one], both_ways=False)
    trial.run(CUT_S)
    return f"leader {leader} is not heard by broker {one}"


def flapping(trial: Trial, network: Network, leader: int, one: int, other: int) -> str:
    for _ in range(FLAPS):
        network.cut([leader], [one, other])
        trial.run(CUT_S / FLAPS / 2)
        network.heal()
        trial.run(CUT_S / FLAPS / 2)
    return f"leader {leader} | brokers {one}, {other}, on and off {FLAPS} times in {CUT_S:.0f} s"


def all_from_all(trial: Trial, network: Network, leader: int, one: int, other: int) -> str:
    network.cut([leader], [one, other])
    network.cut([one], [other])
    trial.run(CUT_S / 2)
    return f"every broker alone for {CUT_S / 2:.0f} s"


Scene = Callable[[Trial, Network, int, int, int], str]
SCENES: Final[tuple[Scene, ...]] = (
    leader_from_brokers,
    leader_from_everyone,
    leader_that_is_heard_and_hears_nobody,
    leader_that_hears_and_is_not_heard,
    leader_and_one,
    leader_and_one_one_way,
    flapping,
    all_from_all,
)


def _terms(trial: Trial) -> int:
    """The sum of the partitions' leader epochs, as the broker that knows most says."""
    sums = []
    for broker in trial.cluster.brokers.values():
        with RawClient(broker) as client:
            led = leaderships(client, TOPIC)
            if isinstance(led, dict):
                sums.append(sum(one.epoch for one in led.values()))
    return max(sums)
