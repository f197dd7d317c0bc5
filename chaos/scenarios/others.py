"""Scenarios of other kinds: clocks, strangers that send rubbish, brokers that come and go, all at once."""

from __future__ import annotations

import time
from typing import Final

from chaos.faults.clock import ClockJump
from chaos.faults.disk import SlowDisk
from chaos.faults.fault import Fault
from chaos.faults.network import apart, one_way
from chaos.faults.processes import Kill, Pause, Restart
from chaos.faults.rubbish import BOMBED, Rubbish
from chaos.play import Play
from chaos.scenarios.goals import elections_since, memory_bounded, served_again, served_since
from chaos.scenarios.scenario import scenario
from chaos.stage import Links, Wants
from chaos.workloads.workload import create_topics

HOUR_S: Final = 3600
ALL: Final = Wants(links=Links.NAMESPACES, clocks=True, strace=True, loses_power=True)
JOINED: Final = 4
SHORT_LIVED: Final = {"log.retention.ms": 600_000, "log.retention.check.interval.ms": 1_000}
"""Ten minutes: a broker that believed a clock that is ahead would delete everything, a segment that is
written to as well."""


@scenario("clock-jumps", 19, wants=Wants(clocks=True, options=SHORT_LIVED))
def clock_jumps(play: Play) -> None:
    """Wall clocks jump by up to an hour either way, of one broker or of all: no election, nothing deleted."""
    for _ in play.rounds():
        began = play.history.now()
        victims = play.rng.sample(play.ids, play.rng.choice([1, 3]))
        seconds = play.rng.choice([-HOUR_S, HOUR_S, -5, 5]) * play.rng.uniform(0.5, 1)
        ends = [play.begins(ClockJump(play.stage.clocks[victim], victim, seconds)) for victim in victims]
        play.calm(play.rng.uniform(1, 3))
        for end in ends:
            end()
        play.await_progress()
        served_since(play, began)
        elections_since(play, began, 0)


@scenario("rubbish", 18)
def rubbish(play: Play) -> None:
    """Strangers send rubbish, bombs, floods, half frames and nothing at all, while the load goes on."""
    create_topics(play.stage.access, {BOMBED: 1}, len(play.ids), {})
    for _ in play.rounds():
        began, before = play.history.now(), play.stage.memory()
        play.suffer(Rubbish(play.stage, play.rng.choice(play.ids), play.rng), play.rng.uniform(0.2, 1))
        play.await_progress(10)
        served_since(play, began)
        memory_bounded(play, before)


@scenario("elastic", 16, seconds=30.0)
def elastic(play: Play) -> None:
    """A fourth broker joins and gets its share, the coordinator is drained, stopped and removed, and another
    is killed, under load."""
    stage, at = play.stage, play.stage.access.command_line()
    newcomer, address = stage.cluster.newcomer(JOINED)
    stage.raftlog("cluster", "add", f"{JOINED}@{address}", *at)
    newcomer.start()
    stage.raftlog("cluster", "rebalance", *at)
    play.await_progress()
    leaving = play.coordinator()
    stage.raftlog("cluster", "drain", str(leaving), *at)
    play.await_progress()
    with play.suffers(Kill(stage.brokers, [play.rng.choice(play.others(leaving))])):
        play.calm(1)
    play.await_progress()
    code = stage.brokers[leaving].stop()
    play.goals.met(f"broker {leaving} stops", code == 0, f"exit code {code}")
    stage.cluster.forget(leaving)
    stage.raftlog("cluster", "remove", str(leaving), *stage.access.command_line())
    play.await_progress()
    play.calm(play.left_s)


@scenario("soak", 13, wants=ALL)
def soak(play: Play) -> None:
    """Faults of every kind as chance has them, one or two at a time, and calm for a quarter of the time."""
    for _ in play.rounds():
        began = time.monotonic()
        ends = [play.begins(fault) for fault in _some_faults(play)]
        play.calm(play.rng.uniform(0.5, 4))
        healed = play.history.now()
        for end in ends:  # the network first: see half-seen-start
            end()
        play.await_progress()
        served_again(play, healed)
        play.calm((time.monotonic() - began) / 3)


def _some_faults(play: Play) -> list[Fault]:
    """Of one broker or of two different ones."""
    stage, rng, brokers = play.stage, play.rng, play.stage.brokers
    assert stage.network is not None
    first, second, third = rng.sample(play.ids, 3)
    one: Fault = rng.choice(
        [
            apart(stage.network, [first], [second, third]),
            one_way(stage.network, [first], [second]),
            one_way(stage.network, [second, third], [first]),
            ClockJump(stage.clocks[first], first, rng.uniform(-HOUR_S, HOUR_S)),
        ]
    )
    other: Fault = rng.choice(
        [
            Kill(brokers, [second]),
            Pause(brokers, [second]),
            Restart(brokers, second),
            stage.power_loss([second]),
            stage.power_loss([first, second, third]),
            SlowDisk(brokers, second, stage.root, 0.1),
        ]
    )
    return rng.choice([[one], [other], [other], [one, other]])


@scenario(
    "compaction",
    9,
    wants=Wants(loses_power=True, options={"log.cleaner.backoff.ms": 500}),
    workload="compacted",
    seconds=25.0,
)
def compaction(play: Play) -> None:
    """Brokers are killed or lose their power while they compact what producers write: the last value of each
    key stays, by a dictionary."""
    for number in play.rounds():
        victim = play.leader(number % 2)
        fault = play.rng.choice([Kill(play.stage.brokers, [victim]), play.stage.power_loss([victim])])
        play.calm(play.rng.uniform(1, 3))
        began = play.history.now()
        play.suffer(fault, play.rng.uniform(0.5, 2))
        play.await_progress()
        served_since(play, began)
