"""The suite's own test: brokers that are started with a bug (`raftlog.testing.plants`), which it must find.

A suite that finds nothing proves nothing. Each bug is looked for with the scenario that it shows in, seed by
seed, until a property does not hold; docs/chaos.md has the table of how many runs that took. Bugs that real
processes show too seldom are the simulator's (`python -m tests.sim --planted`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaos.checkers import Judgement
from chaos.runner import Options, Result, run
from chaos.scenarios import SCENARIOS
from chaos.workloads.counter_app import HASTY, NAMELESS

RUNS_MAX: Final = 10
SECONDS: Final = 20.0

SHOWN_IN: Final[Mapping[str, tuple[str, ...]]] = {
    "ack before fsync": ("power-loss",),
    "ack by the leader alone": ("isolate-leader",),
    "truncation of matching entries": ("late-copies",),
    "high watermark at the log end": ("isolate-leader",),
    "dedupe off": ("lost-replies",),
    "a stale leader serves": ("isolate-leader",),
    "a marker without its epoch check": ("late-decisions",),
    "LSO from the high watermark": ("transactions",),
    HASTY: ("counter",),
    NAMELESS: ("pause-worker",),
}
"""By the name of a bug: the scenarios that are played in turn."""

OF_WORKLOADS: Final[Mapping[str, tuple[str, str]]] = {
    HASTY: ("chaos.workloads.counter:HastyCounterWorkload", "counted"),
    NAMELESS: ("chaos.workloads.counter:NamelessCounterWorkload", "counted"),
}
"""Bugs of clients, not of brokers: the workload that has one, and the property that has to show it."""

EXCUSES: Final = frozenset({"clients", "goals", "effect"})
"""What does not show a bug by itself: a client that got an error, a time that was missed."""


@dataclass(frozen=True, slots=True)
class Found:
    """How a bug came to light: in which run, and which properties did not hold."""

    plant: str
    runs: int
    scenario: str
    seed: int
    properties: tuple[str, ...]
    result: Result


def find(plant: str, *, runs_max: int = RUNS_MAX, first_seed: int = 0) -> Found | None:
    """Play until a property of the records, the groups or the replicas does not hold; None when all hold."""
    scenarios = SHOWN_IN[plant]
    workload, its_own = OF_WORKLOADS.get(plant, ("", ""))
    for number in range(runs_max):
        scenario = SCENARIOS[scenarios[number % len(scenarios)]]
        options = Options(
            scenario=scenario,
            seed=first_seed + number,
            seconds=SECONDS,
            workload=workload,
            plant="" if workload else plant,
        )
        with tempfile.TemporaryDirectory(prefix="raftlog-chaos-") as folder:
            result = run(options, Path(folder) / "data")
        wrong = [one.name for one in result.verdict.findings if one.judgement is Judgement.WRONG]
        if shown := tuple(name for name in wrong if name not in EXCUSES and its_own in ("", name)):
            return Found(plant, number + 1, scenario.name, options.seed, shown, result)
    return None
