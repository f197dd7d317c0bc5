"""Scenarios whose faults are those of processes: killed, paused, restarted."""

from __future__ import annotations

from chaos.faults.processes import Kill, Pause, Restart
from chaos.play import Play
from chaos.scenarios.scenario import GAP_MAX_S, scenario
from chaos.stage import Wants


@scenario("kill-leader", 5)
def kill_leader(play: Play) -> None:
    """The leader of a partition is killed and comes back, again and again."""
    for number in play.rounds():
        began = play.history.now()
        play.suffer(Kill(play.stage.brokers, [play.leader(number % 3)]), play.rng.uniform(0.5, 3))
        play.await_progress()
        gap = play.gap(began)
        play.goal(
            f"no partition waits longer than {GAP_MAX_S:.0f} s",
            gap.length <= GAP_MAX_S,
            f"{gap.length:.2f} s",
        )
        play.calm(play.rng.uniform(0, 1.5))


@scenario("kill-majority", 5)
def kill_majority(play: Play) -> None:
    """Two brokers of three are killed at once, or all of them, and come back."""
    for _ in play.rounds():
        victims = play.rng.sample(play.ids, play.rng.choice([2, 3]))
        play.suffer(Kill(play.stage.brokers, victims), play.rng.uniform(0, 2))
        play.await_progress()


@scenario("kill-starting", 5, wants=Wants(brokers=1, options={"log.segment.bytes": 262_144}))
def kill_starting(play: Play) -> None:
    """A broker alone is killed under load, and sometimes again while it starts, on the same data."""
    (broker,) = play.stage.brokers.values()
    for _ in play.rounds():
        with play.suffers(Kill(play.stage.brokers, [1])):
            for _ in range(play.rng.choices((0, 1, 2), (6, 3, 1))[0]):
                broker.launch()
                play.calm(play.rng.uniform(0, 0.8))
                broker.kill()
        play.await_progress()
        play.calm(play.rng.choice((0.0, play.rng.uniform(0, 0.3), play.rng.uniform(0.3, 1.5))))


@scenario("pause-leader", 10)
def pause_leader(play: Play) -> None:
    """The leader of a partition stands still for seconds and goes on: it serves nothing that has passed."""
    for number in play.rounds():
        play.suffer(Pause(play.stage.brokers, [play.leader(number % 3)]), play.rng.uniform(1, 5))
        play.await_progress()


@scenario("pause-majority", 10)
def pause_majority(play: Play) -> None:
    """Two brokers of three, or all, stand still at once."""
    for _ in play.rounds():
        victims = play.rng.sample(play.ids, play.rng.choice([2, 3]))
        play.suffer(Pause(play.stage.brokers, victims), play.rng.uniform(0.5, 4))
        play.await_progress()


@scenario("rolling-restart", 20)
def rolling_restart(play: Play) -> None:
    """One broker after the other is stopped and started again, as an upgrade does."""
    for number in play.rounds():
        began = play.history.now()
        with play.suffers(Restart(play.stage.brokers, play.ids[number % len(play.ids)])):
            pass
        play.await_progress()
        gap = play.gap(began)
        play.goal(
            f"no partition waits longer than {GAP_MAX_S:.0f} s",
            gap.length <= GAP_MAX_S,
            f"{gap.length:.2f} s",
        )
        play.await_whole()


@scenario("groups", 15, workload="groups")
def groups(play: Play) -> None:
    """The coordinator of a group is killed or paused while members come and go, read and commit."""
    for _ in play.rounds():
        victim = [play.coordinator()]
        brokers = play.stage.brokers
        fault = play.rng.choice([Kill, Pause])(brokers, victim)
        play.suffer(fault, play.rng.uniform(1, 4))
        play.await_progress()
        play.calm(play.rng.uniform(0, 3))


@scenario("topics", 16, workload="topics", seconds=25.0)
def topics(play: Play) -> None:
    """A topic is created, filled, read, deleted and created again while brokers are killed and paused."""
    for _ in play.rounds():
        play.calm(play.rng.uniform(0.5, 3))
        fault = play.rng.choice([Kill, Pause])(play.stage.brokers, [play.rng.choice(play.ids)])
        play.suffer(fault, play.rng.uniform(0.5, 3))
        play.await_progress()
