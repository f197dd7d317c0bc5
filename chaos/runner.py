"""One run: the stage is set, clients work, a scenario is played, all is read in the end, and judged."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import random
import shutil
import subprocess
import time
import traceback
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException

from chaos.checkers import Verdict, judge
from chaos.compose import ComposeStage
from chaos.faults.fault import NoEffect
from chaos.history import Head, History
from chaos.look import ends_of, look_at_disks, read_commits, read_to_the_end
from chaos.machine import MachineWatch
from chaos.play import PATIENCE_S, NotInTime, Play
from chaos.scenarios import Scenario
from chaos.scenarios.goals import whole_soon
from chaos.stage import CommandFailed, Stage
from chaos.workloads import Site, Workload, find_workload
from chaos.workloads.watch import LeaderWatch
from chaos.workloads.workload import create_topics
from raftlog.testing.processes import BrokerDidNotStart

RATE: Final = 360.0
"""Records a second of all producers together."""
DRAINED_MAX_S: Final = 30.0
"""Until groups have committed everything, once producers have ended."""
LOG_LINES: Final = 200
SETTLE_S: Final = 1.0
"""Between the last record and the end of the brokers: followers hear of the last commit by a heartbeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Of one run."""

    scenario: Scenario
    seed: int
    seconds: float
    workload: str = ""
    plant: str = ""
    secured: bool = False
    rate: float = RATE
    compose: Path | None = None
    """The file whose containers are played with, instead of processes."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one run came to. `logs`: the last lines of each broker."""

    history: History
    verdict: Verdict
    logs: dict[int, str]


def run(options: Options, folder: Path) -> Result:
    """Play a scenario in a folder, which is left with the data and logs of the brokers. Raises CannotRun when
    this machine lacks something; whatever else goes wrong is in the history."""
    kind = find_workload(options.workload or options.scenario.workload)
    history = History(_head(options, kind))
    rng = random.Random(f"{options.scenario.name} {options.seed}")
    logs: dict[int, str] = {}
    with (
        warnings.catch_warnings(),
        _stage(options, folder, rng) as stage,
    ):
        warnings.simplefilter("ignore")  # the clients'
        try:
            with MachineWatch(history, folder, stage.pids):
                _play(options, stage, history, kind, rng)
        except (
            NotInTime,
            NoEffect,
            CommandFailed,
            BrokerDidNotStart,
            KafkaException,
            AssertionError,
        ) as error:
            history.note("runner", f"{type(error).__name__}: {error}")
        except Exception:
            history.note("runner", traceback.format_exc())
        finally:
            logs = {broker.node_id: broker.log_tail(LOG_LINES) for broker in stage.brokers.values()}
    return Result(history, judge(history, kind.checkers), logs)


def _stage(options: Options, folder: Path, rng: random.Random) -> Stage:
    if options.compose is not None:
        return ComposeStage(options.compose, folder, options.scenario.wants, rng=rng)
    return Stage(folder, options.scenario.wants, plant=options.plant, secured=options.secured, rng=rng)


def _play(options: Options, stage: Stage, history: History, kind: type[Workload], rng: random.Random) -> None:
    create_topics(stage.access, kind.topics, min(3, stage.wants.brokers), kind.configs)
    workload = kind(Site(stage.access, history, kind.topics, options.rate))
    watch = LeaderWatch(history, stage.access, list(kind.topics))
    watch.start()
    workload.start()
    play = Play(stage, history, workload, rng, options.seconds)
    try:
        play.await_progress()
        play.calm(1)  # what the machine does by itself is on the page, too
        options.scenario.play(play)
        history.head.rounds = max(1, history.head.rounds)
        play.calm(play.left_s)
        play.await_progress()
        is_played = True
    except BaseException:
        is_played = False
        with contextlib.suppress(Exception):
            play.heal()
        raise
    finally:
        workload.stop_producing()
        if is_played:
            _drain(play)
        workload.stop()
        watch.stopping.set()
        watch.join(10)
        _look(play)
    history.head.is_whole = is_played


def _drain(play: Play) -> None:
    """Groups commit everything, and replicas catch up."""
    for group, topic in play.workload.groups.items():
        lag: list[str] = []
        is_drained = functools.partial(_is_drained, play, group, topic, lag)
        try:
            took = play.wait_until(is_drained, f"{group} has committed everything")
        except NotInTime:
            play.goals.met(f"{group} commits everything", False, f"{', '.join(lag)} after {PATIENCE_S:.0f} s")
        else:
            play.goals.within(
                "a group commits everything in the end", DRAINED_MAX_S, took, play.history.now() - took
            )
    try:
        whole_soon(play)
    except NotInTime as error:
        play.goals.met("all replicas catch up", False, error)


def _is_drained(play: Play, group: str, topic: str, lag: list[str]) -> bool:
    """Whether a group has committed all there is; `lag` says what it has not."""
    partitions = play.workload.topics[topic]
    try:
        ends = ends_of(play.stage.access, topic, partitions)
    except KafkaException as error:
        lag[:] = [str(error)]
        return False
    committed = read_commits(play.history, play.stage.access, group, topic, partitions)
    lag[:] = [f"{at} of {end}" for at, end in zip(committed, ends, strict=True) if at < end and end > 0]
    return not lag


def _look(play: Play) -> None:
    """Everything is read by a fresh client, the brokers stop, and their disks are compared."""
    for topic, partitions in play.workload.topics.items():
        read_to_the_end(play.history, play.stage.access, topic, partitions)
    for group, topic in play.workload.groups.items():
        partitions = play.workload.topics[topic]
        read_commits(play.history, play.stage.access, group, topic, partitions)
    time.sleep(SETTLE_S)
    play.stage.cluster.stop()
    look_at_disks(play.history, play.stage, list(play.workload.topics))


def _head(options: Options, kind: type[Workload]) -> Head:
    return Head(
        scenario=options.scenario.name,
        workload=options.workload or options.scenario.workload,
        seed=options.seed,
        seconds=options.seconds,
        brokers=options.scenario.wants.brokers,
        commit=_commit(),
        machine=f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
        + (", containers" if options.compose else ""),
        at=datetime.now(UTC).strftime("%d %b %Y %H:%M UTC"),
        plant=options.plant,
        secured=options.secured,
        producers=dict(kind.producers),
        sparse=list(kind.sparse),
        compacted=list(kind.compacted),
    )


def _commit() -> str:
    """What is checked out, or nothing where that cannot be told."""
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run(
        [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
