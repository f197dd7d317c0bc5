"""Scenarios that take the power from brokers: what was not synced is gone. After Jepsen's choreographies for
NATS, in their form for three brokers."""

from __future__ import annotations

from typing import Final

from chaos.faults.network import apart
from chaos.faults.processes import Kill, Pause
from chaos.play import Play
from chaos.scenarios.goals import served_again, served_since
from chaos.scenarios.scenario import scenario
from chaos.stage import Links, Wants

SLOW_SYNC_S: Final = 0.05
"""Of every disk here, so that there is always something that is written and not synced."""
POWER: Final = Wants(loses_power=True, sync_delay=SLOW_SYNC_S)
POWER_AND_CUTS: Final = Wants(loses_power=True, sync_delay=SLOW_SYNC_S, links=Links.NAMESPACES)
SMALL: Final = {"log.segment.bytes": 262_144, "raftlog.wal.file.bytes": 1_048_576}


@scenario("part-kill", 1, wants=POWER_AND_CUTS)
def part_kill(play: Play) -> None:
    """One broker is cut off while records are acknowledged by the two others; then one of those loses its
    power, the other is cut off instead, and the two that are left are a majority."""
    network = play.stage.network
    assert network is not None
    for _ in play.rounds():
        # The crasher is not the leader in half of the rounds: a follower's fsync counts as much.
        first, crasher, last = play.rng.sample(play.ids, 3)
        with play.suffers(apart(network, [first], [crasher, last])):
            play.await_progress()
            play.calm(play.rng.uniform(0.5, 3))
            give_back = play.begins(play.stage.power_loss([crasher]))
        with play.suffers(apart(network, [last], [first, crasher])):
            give_back()
            play.await_progress()
            play.calm(play.rng.uniform(0.5, 2))
            healed = play.history.now()
        play.await_progress()
        served_again(play, healed)


@scenario("pause-kill", 1, wants=POWER)
def pause_kill(play: Play) -> None:
    """As part-kill, with brokers that stand still instead of cuts."""
    brokers = play.stage.brokers
    for _ in play.rounds():
        first, crasher, last = play.rng.sample(play.ids, 3)
        with play.suffers(Pause(brokers, [first])):
            play.await_progress()
            play.calm(play.rng.uniform(0.5, 2))
            give_back = play.begins(play.stage.power_loss([crasher]))
        with play.suffers(Pause(brokers, [last])):
            give_back()
            play.await_progress()
            play.calm(play.rng.uniform(0.5, 2))
            healed = play.history.now()
        play.await_progress()
        served_again(play, healed)


@scenario("power-loss", 2, wants=POWER)
def power_loss(play: Play) -> None:
    """All brokers lose their power at once, under load."""
    for _ in play.rounds():
        healed = play.suffer(play.stage.power_loss(play.ids), 0.2)
        play.await_progress()
        served_again(play, healed)
        play.calm(play.rng.uniform(0, 1.5))


@scenario("torn-writes", 7, wants=Wants(loses_power=True, sync_delay=SLOW_SYNC_S, options=SMALL))
def torn_writes(play: Play) -> None:
    """One broker after another loses its power while it writes small segments, and starts on what is left,
    sometimes killed again while it recovers."""
    for _ in play.rounds():
        victim, began = play.rng.choice(play.ids), play.history.now()
        with play.suffers(play.stage.power_loss([victim])):
            play.calm(0.1)
        if play.rng.random() < 0.5:
            play.suffer(Kill(play.stage.brokers, [victim]), 0.0)
        play.await_progress()
        served_since(play, began)
        play.calm(play.rng.uniform(0, 1))
