"""Random seeds, new ones for each commit; a seed replays; planted faults are found.

Whoever tests a commit plays its seeds, so that what failed elsewhere fails here too; files that differ from
it are played with other ones each time. RAFTLOG_TEST_SIM_SEEDS is how many, RAFTLOG_TEST_SIM_FIRST the first.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from raftlog.testing import running_broker
from tests.sim.__main__ import SEED_BITS, code_of
from tests.sim.cluster import Cluster, Failure
from tests.sim.planted import PLANTS, Plant, find
from tests.sim.profiles import PROFILES

SEEDS = int(os.environ.get("RAFTLOG_TEST_SIM_SEEDS", "9"))


def first_of(code: str) -> int:
    """The first seed of a commit. Another one each time where files differ from it, or no commit is known."""
    try:
        return int(code, 16) % (1 << SEED_BITS)
    except ValueError:
        return secrets.randbits(SEED_BITS)


FIRST = int(os.environ.get("RAFTLOG_TEST_SIM_FIRST", first_of(code_of(Path(__file__).parent))))
BATCH = 3
"""Seeds of one test: few, so that the processes that share the tests are done at the same time."""


def test_a_commit_has_its_seeds_and_changed_files_have_others() -> None:
    assert first_of("15ba999f81ab") == first_of("15ba999f81ab") == 0x999F81AB
    assert first_of("15ba999f81ab-dirty") != first_of("15ba999f81ab-dirty")
    assert first_of("unknown") != first_of("unknown")


@pytest.mark.parametrize("start", range(0, SEEDS, BATCH))
def test_random_seeds(start: int) -> None:
    """All profiles in turn. A failure prints the command that replays it, and stops no other seed."""
    failures: list[Failure] = []
    for number in range(start, min(start + BATCH, SEEDS)):
        try:
            Cluster(FIRST + number, sorted(PROFILES)[number % len(PROFILES)]).run()
        except Failure as failure:
            failures.append(failure)
    assert not failures, "\n\n".join(map(str, failures))


def test_a_replica_that_begins_again_takes_nothing_back() -> None:
    """What is decided is read from the newest catalog: an emptied replica of the metadata has none yet."""
    assert Cluster(200_479, "rot").run().transactions > 0


def test_a_producer_that_crashes_has_one_successor() -> None:
    """A zombie that came back before its successor had started crashed again, and got a second successor.
    The first one's InitProducerId came late and fenced the second. The simulator took that for a fault of the
    brokers."""
    assert Cluster(3_136_008_660, "calm").run().transactions > 0


def test_a_voter_that_lost_its_log_has_the_time_that_its_leader_takes() -> None:
    """Its log had rotted, and it was found a second after healing. The simulator gave it no more time, since
    all was well when healing began."""
    Cluster(7_103_386, "everything").run()


def test_a_log_that_moves_on_while_its_snapshot_is_on_the_way_costs_no_time() -> None:
    """The follower was sent the next snapshot five seconds after the first."""
    Cluster(579_252_914, "everything").run()


def test_a_broker_whose_metadata_were_repaired_knows_again_what_it_leads() -> None:
    """It told the others, and itself no more: as the coordinator it ended no transaction there."""
    Cluster(7_105_649, "rot").run()


def test_a_seed_replays_exactly() -> None:
    first, second = Cluster(4, "everything").run(), Cluster(4, "everything").run()
    assert (first.trace, first.events, first.acked) == (second.trace, second.events, second.acked)
    assert Cluster(5, "everything").run().trace != first.trace


@pytest.mark.parametrize(
    ("seed", "profile"),
    [
        pytest.param(4, "members", marks=pytest.mark.long),
        pytest.param(700_000, None, marks=pytest.mark.long),
        (700_006, None),
    ],
)
def test_a_seed_replays_in_another_process(seed: int, profile: str | None) -> None:
    """Hashes of strings and addresses of objects are others there. The last two have transactions."""
    code = f"from tests.sim.cluster import Cluster; print(Cluster({seed}, {profile!r}).run().trace)"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == Cluster(seed, profile).run().trace, done.stderr


@pytest.mark.long
def test_seeds_run_in_several_processes() -> None:
    command = [sys.executable, "-m", "tests.sim", "--seeds", "4", "--first", "1", "--jobs", "2"]
    done = subprocess.run([*command, "--profile", "calm"], capture_output=True, text=True)
    assert "4 seeds from 1 on" in done.stdout and "0 failed" in done.stdout, done


def test_a_broker_in_another_thread_goes_on() -> None:
    with running_broker() as broker:
        Cluster(1, "calm").run()
        broker.create_topic("orders")


def test_a_failure_says_how_to_see_it_again() -> None:
    plant = next(plant for plant in PLANTS if plant.name == "ack before fsync")
    with plant.planted(), pytest.raises(Failure) as failed:
        Cluster(0, "part-kill").run()
    assert "python -m tests.sim --seed 0 --profile part-kill" in str(failed.value)
    assert failed.value.invariant in str(failed.value)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
@pytest.mark.long
def test_a_planted_fault_is_found(plant: Plant) -> None:
    assert find(plant, seeds_max=100) is not None


def test_clients_get_on_under_faults() -> None:
    """The invariants would hold, too, where nothing happens."""
    report = Cluster(1, "crashes").run()
    assert report.acked > 50 and report.read > 50
    assert report.elections > 3 and report.starts > report.brokers
