"""Scenarios whose faults are those of processes: killed, paused, restarted."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaException

from chaos.faults.fault import Fault
from chaos.faults.network import CLIENTS, apart
from chaos.faults.processes import Kill, Pause, Restart
from chaos.play import Play
from chaos.scenarios.goals import KILLED_MAX_S, committed_since, elections_since, served_again, served_since
from chaos.scenarios.scenario import scenario
from chaos.stage import Links, Wants
from chaos.workloads.counter import CounterWorkload, KillWorkers, PauseWorkers
from chaos.workloads.counter_app import SESSION_MS

CUTS: Final = Wants(links=Links.NAMESPACES)
PAUSE_MAX_S: Final = 60.0


def struck(play: Play, victim: int) -> Fault:
    """A broker is killed, paused, or cut off from the others, and from clients or not."""
    network, others = play.stage.network, play.others(victim)
    assert network is not None
    return play.rng.choice(
        [
            Kill(play.stage.brokers, [victim]),
            Pause(play.stage.brokers, [victim]),
            apart(network, [victim], others),
            apart(network, [victim], [*others, CLIENTS]),
        ]
    )


@scenario("kill-leader", 5)
def kill_leader(play: Play) -> None:
    """The leader of a partition is killed and comes back, again and again."""
    for number in play.rounds():
        began = play.history.now()
        play.suffer(Kill(play.stage.brokers, [play.leader(number % 3)]), play.rng.uniform(0.5, 3))
        play.await_progress()
        served_since(play, began, KILLED_MAX_S)
        play.calm(play.rng.uniform(0, 1.5))


@scenario("appends", 5, workload="appends", seconds=25.0)
def appends(play: Play) -> None:
    """Several append where they expect to, and the leader of a partition is killed or stands still: of each
    offset one wins, and who has lost its answer learns what came of it."""
    for number in play.rounds():
        victim, began = play.leader(number % 3), play.history.now()
        fault = play.rng.choice([Kill, Pause])(play.stage.brokers, [victim])
        play.suffer(fault, play.rng.uniform(0.5, 4))
        play.await_progress()
        served_since(play, began)
        play.calm(play.rng.uniform(0, 1.5))


@scenario("kill-majority", 5)
def kill_majority(play: Play) -> None:
    """Two brokers of three are killed at once, or all of them, and come back."""
    for _ in play.rounds():
        victims = play.rng.sample(play.ids, play.rng.choice([2, 3]))
        healed = play.suffer(Kill(play.stage.brokers, victims), play.rng.uniform(0, 2))
        play.await_progress()
        served_again(play, healed)


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
            healed = play.history.now()
        play.await_progress()
        served_again(play, healed)
        play.calm(play.rng.choice((0.0, play.rng.uniform(0, 0.3), play.rng.uniform(0.3, 1.5))))


@scenario("pause-leader", 10)
def pause_leader(play: Play) -> None:
    """The leader of a partition stands still for seconds, once for up to a minute, and goes on: it serves
    nothing that has passed, and there is one election."""
    for number in play.rounds():
        began = play.history.now()
        longest = min(PAUSE_MAX_S, play.left_s / 2) if number == 1 else 5.0
        pause = Pause(play.stage.brokers, [play.leader(number % 3)])
        play.suffer(pause, play.rng.uniform(1, max(1.0, longest)))
        play.await_progress()
        served_since(play, began)
        elections_since(play, began, 1)


@scenario("pause-majority", 10)
def pause_majority(play: Play) -> None:
    """Two brokers of three, or all, stand still at once."""
    for _ in play.rounds():
        victims = play.rng.sample(play.ids, play.rng.choice([2, 3]))
        healed = play.suffer(Pause(play.stage.brokers, victims), play.rng.uniform(0.5, 4))
        play.await_progress()
        served_again(play, healed)


@scenario("rolling-restart", 20)
def rolling_restart(play: Play) -> None:
    """One broker after the other is stopped and started again, as an upgrade does."""
    for number in play.rounds():
        began = play.history.now()
        with play.suffers(Restart(play.stage.brokers, play.ids[number % len(play.ids)])):
            pass
        play.await_progress()
        served_since(play, began, KILLED_MAX_S)
        play.await_whole()


@scenario("groups", 15, wants=CUTS, workload="groups")
def groups(play: Play) -> None:
    """The coordinator of a group is killed, paused or cut off while members come and go, read and commit: the
    group is stable again within two session time-outs."""
    for _ in play.rounds():
        began = play.history.now()
        play.suffer(struck(play, play.coordinator()), play.rng.uniform(1, 4))
        play.await_progress()
        play.calm(play.rng.uniform(0, 3))
        served_since(play, began)
        committed_since(play, began)


@scenario("topics", 16, wants=CUTS, workload="topics", seconds=25.0)
def topics(play: Play) -> None:
    """A topic is created, filled, read, deleted and created again while brokers are killed, paused and cut
    off."""
    for _ in play.rounds():
        play.calm(play.rng.uniform(0.5, 3))
        began = play.history.now()
        play.suffer(struck(play, play.rng.choice(play.ids)), play.rng.uniform(0.5, 3))
        play.await_progress()
        served_since(play, began)


@scenario("transactions", 14, workload="transactions", seconds=25.0)
def transactions(play: Play) -> None:
    """The coordinator of transactions, or the leader of a partition, is killed or paused while producers
    commit and abort, and copiers copy: all of a transaction is read, or nothing, and each input once."""
    for number in play.rounds():
        victim = play.rng.choice([play.coordinator(), play.leader(number % 2)])
        fault = play.rng.choice([Kill, Kill, Pause])(play.stage.brokers, [victim])
        began = play.history.now()
        play.suffer(fault, play.rng.uniform(0.5, 3))
        play.await_progress()
        served_since(play, began)
        play.calm(play.rng.uniform(0, 3))


@scenario("counter", 14, workload="counter", seconds=30.0)
def counter(play: Play) -> None:
    """Workers of a stream processing app are killed together with brokers, and come back with their state or
    without: each record is counted once."""
    app = play.workload
    assert isinstance(app, CounterWorkload), f"{app} has no workers to kill"
    for _ in play.rounds():
        workers = play.rng.sample(app.workers, play.rng.choice([1, 1, 2]))
        brokers = play.rng.sample(play.ids, play.rng.choice([0, 1, 1, 2]))
        faults: list[Fault] = [KillWorkers(workers, empty=play.rng.random() < 0.3)]
        faults += [Kill(play.stage.brokers, brokers)] if brokers else []
        play.rng.shuffle(faults)
        ends = []
        for fault in faults:
            ends.append(play.begins(fault))
            play.calm(play.rng.uniform(0, 1))  # a commit may hang that a worker is killed in
        play.calm(play.rng.uniform(0, 2))
        play.rng.shuffle(ends)
        for end in ends:
            end()
        healed = play.history.now()
        play.await_progress()
        served_again(play, healed)
        _await_counts(play, app)
        play.calm(play.rng.uniform(0, 3))


@scenario("pause-worker", 14, workload="counter", seconds=30.0)
def pause_worker(play: Play) -> None:
    """A worker of a stream processing app is paused beyond its session, so that another one counts on, and
    wakes: what it had begun counts no more, and each record is counted once."""
    app = play.workload
    assert isinstance(app, CounterWorkload), f"{app} has no workers to pause"
    for _ in play.rounds():
        for one in app.workers:
            one.revive()
        _await_counts(play, app)
        end = play.begins(PauseWorkers([play.rng.choice(app.workers)]))
        play.calm(SESSION_MS / 1000 + play.rng.uniform(1, 6))
        _await_counts(play, app)  # all of them by the other one
        end()
        _await_counts(play, app)
        play.calm(play.rng.uniform(0, 3))


def _await_counts(play: Play, app: CounterWorkload) -> None:
    """Until each task has counted more, whoever has it."""
    before: list[int] = []

    def has_grown() -> bool:
        nonlocal before
        try:
            now = app.progress()
        except KafkaException:
            return False
        before = before or now
        return all(end > begin for end, begin in zip(now, before, strict=True))

    play.wait_until(has_grown, "the app counts on")
