"""Rounds of load, SIGKILL, restart and a look, on one data folder."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka.admin import AdminClient, NewTopic

from raftlog.testing.processes import BrokerDidNotStart, BrokerProcess
from tests.crash.checker import Kind, Memory, Verdict, check
from tests.crash.history import History, Outcome
from tests.crash.look import LookFailed, read_commits, read_log
from tests.crash.workload import GROUP, PRODUCERS, Workload

TOPIC: Final = "crashing"
PARTITIONS: Final = 3
PROGRESS_MIN: Final = 20
"""Acknowledgements in a round before its kill: a kill without load shows nothing."""
PROGRESS_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 90.0
OPTIONS: Final = {
    # Small, so that a round crosses segments and recycles files of the write-ahead log.
    "log.segment.bytes": 262_144,
    "raftlog.wal.file.bytes": 1_048_576,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """One round: how long the load runs after its first acknowledgements, and the seconds after which
    starts are killed before the one that may live."""

    run_s: float
    start_kills: tuple[float, ...]


def plans(seed: int, rounds: int) -> list[Plan]:
    """The kill schedule of a seed."""
    rng = random.Random(seed)
    schedule = []
    for _ in range(rounds):
        run_s = rng.choice((0.0, rng.uniform(0, 0.3), rng.uniform(0.3, 1.5)))
        kills = rng.choices((0, 1, 2), (6, 3, 1))[0]
        schedule.append(Plan(run_s, tuple(rng.uniform(0, 0.8) for _ in range(kills))))
    return schedule


@dataclass(frozen=True, slots=True)
class Round:
    """What one round showed."""

    number: int
    plan: Plan
    ready_s: float
    verdict: Verdict
    look_s: float


class Campaign:
    """`run` yields a Round after each restart and a last one after a clean stop; it ends early when the
    broker does not start. `is_good` says whether nothing was found."""

    def __init__(self, data_dir: Path, *, seed: int, rounds: int) -> None:
        self.seed = seed
        self.plans = plans(seed, rounds)
        self.history = History(PRODUCERS)
        self.broker = BrokerProcess(data_dir, options=OPTIONS)
        self.is_good = True
        self._memory = Memory()
        self._workload: Workload | None = None

    def run(self) -> Iterator[Round]:
        self.broker.start()
        try:
            _create_topic(self.broker.bootstrap)
            workload = Workload(self.history, TOPIC, PARTITIONS, self.seed, self.broker.bootstrap)
            self._workload = workload
            workload.start()
            for number, plan in enumerate(self.plans, 1):
                self._await_progress()
                time.sleep(plan.run_s)
                yield self._kill_and_look(number, plan)
                if not self.broker.is_running:
                    return
            workload.stop(STOP_TIMEOUT_S)
            yield self._stop_and_look(len(self.plans) + 1)
        finally:
            if self._workload is not None:
                self._workload.stop(1.0)
            if self.broker.is_running:
                self.broker.kill()

    def _await_progress(self) -> None:
        enough = self.history.acknowledged + PROGRESS_MIN
        deadline = time.monotonic() + PROGRESS_TIMEOUT_S
        while self.history.acknowledged < enough:
            if time.monotonic() > deadline:
                self.history.note(f"not {PROGRESS_MIN} acknowledgements within {PROGRESS_TIMEOUT_S} s")
                return
            time.sleep(0.005)

    def _kill_and_look(self, number: int, plan: Plan) -> Round:
        self.broker.kill()
        for seconds in plan.start_kills:
            self.broker.launch()
            time.sleep(seconds)
            self.broker.kill()
        return self._start_and_look(number, plan)

    def _stop_and_look(self, number: int) -> Round:
        code = self.broker.stop()
        if code != 0:
            self.history.note(f"a clean stop exited with {code}")
        return self._start_and_look(number, Plan(0.0, ()))

    def _start_and_look(self, number: int, plan: Plan) -> Round:
        began = time.monotonic()
        verdict = Verdict()
        try:
            self.broker.start()
            began = time.monotonic()
            verdict = self._look()
        except BrokerDidNotStart as failure:
            verdict.add(Kind.NOTED, f"the broker did not start: {failure}")
        except LookFailed as failure:
            verdict.add(Kind.NOTED, f"the log cannot be read: {failure}\n{self.broker.log_tail()}")
        self.is_good &= verdict.is_good
        return Round(number, plan, self.broker.ready_after_s, verdict, time.monotonic() - began)

    def _look(self) -> Verdict:
        """Read and judge everything. The load pauses, so that the log grows by rounds, not by looks."""
        assert self._workload is not None
        self._workload.pause(True)
        try:
            return self._judge()
        finally:
            self._workload.pause(False)

    def _judge(self) -> Verdict:
        sends, commits, _ = self.history.so_far()
        log = read_log(self.broker.bootstrap, TOPIC, PARTITIONS)
        committed = read_commits(self.broker.bootstrap, GROUP, TOPIC, PARTITIONS)
        later, tried, notes = self.history.so_far()
        sent_meanwhile = later[len(sends) :]
        for send in sent_meanwhile:
            send.outcome = Outcome.UNKNOWN  # it may be in the look; what must be in it was known before
        verdict = check([*sends, *sent_meanwhile], log, PRODUCERS)
        self._memory.check_log(log, verdict)
        self._memory.check_commits(committed, commits, verdict)
        self._memory.check_tried(committed, tried, verdict)
        for note in notes:
            verdict.add(Kind.NOTED, note)
        return verdict


def _create_topic(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(60)
