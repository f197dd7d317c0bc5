"""Random seeds, new ones every time, for as long as the budget lasts; a seed replays; planted faults are found.

RAFTLOG_SIM_SECONDS (default 60) is the budget of the random seeds, RAFTLOG_SIM_SEEDS a number of seeds instead
(CI's 300), RAFTLOG_SIM_FIRST the first of them, to see a failure again.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time

import pytest

from tests.sim.cluster import Cluster, Failure
from tests.sim.planted import PLANTS, Plant, find
from tests.sim.profiles import PROFILES

SECONDS = float(os.environ.get("RAFTLOG_SIM_SECONDS", "60"))
SEEDS = int(os.environ.get("RAFTLOG_SIM_SEEDS", "0"))
FIRST = int(os.environ.get("RAFTLOG_SIM_FIRST", secrets.randbits(32)))

QUICK = ("ack before fsync", "votes counted twice", "dedupe off", "apply twice")
"""Planted faults that are looked for in every run; `python -m tests.sim --planted` looks for all."""


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_random_seeds(profile: str) -> None:
    """A share of the budget for each profile. A failure prints the command that replays it."""
    number = sorted(PROFILES).index(profile)
    share = SECONDS / len(PROFILES)
    count = -(-SEEDS // len(PROFILES)) if SEEDS else sys.maxsize
    started, done = time.monotonic(), 0
    while done < count and (SEEDS or done == 0 or time.monotonic() - started < share):
        Cluster(FIRST + done * len(PROFILES) + number, profile).run()
        done += 1


def test_a_seed_replays_exactly() -> None:
    first, second = Cluster(4, "everything").run(), Cluster(4, "everything").run()
    assert (first.trace, first.events, first.acked) == (second.trace, second.events, second.acked)
    assert Cluster(5, "everything").run().trace != first.trace


def test_a_seed_replays_in_another_process() -> None:
    """Hashes of strings and addresses of objects are others there."""
    code = "from tests.sim.cluster import Cluster; print(Cluster(4, 'members').run().trace)"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == Cluster(4, "members").run().trace, done.stderr


def test_a_failure_says_how_to_see_it_again() -> None:
    plant = next(plant for plant in PLANTS if plant.name == "ack before fsync")
    with plant.planted(), pytest.raises(Failure) as failed:
        Cluster(0, "part-kill").run()
    assert "python -m tests.sim --seed 0 --profile part-kill" in str(failed.value)
    assert failed.value.invariant in str(failed.value)


@pytest.mark.parametrize("plant", [plant for plant in PLANTS if plant.name in QUICK], ids=lambda p: p.name)
def test_a_planted_fault_is_found(plant: Plant) -> None:
    assert find(plant, seeds_max=100) is not None


def test_clients_get_on_under_faults() -> None:
    """The invariants would hold, too, where nothing happens."""
    report = Cluster(1, "crashes").run()
    assert report.acked > 50 and report.read > 50
    assert report.elections > 3 and report.starts > report.brokers
