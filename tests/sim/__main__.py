"""Run the simulator.

python -m tests.sim --seed 7 --profile members     one seed, with what it came to
python -m tests.sim --seeds 300 --jobs 2           new seeds, over all profiles
python -m tests.sim --seeds 20000 --first 1        a soak; goes on after failures
python -m tests.sim --planted                      the table of planted faults

What was played says its commit, a hash of the code that was played, and the seed to go on with when it was
interrupted. What was played with the same hash adds up, also over several commits and days.
"""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.sim.cluster import Failure, Report, be_quiet, run_seed
from tests.sim.planted import PLANTS, SEEDS_MAX, find
from tests.sim.played import hash_of_played
from tests.sim.profiles import PROFILES

SEED_BITS = 32
COUNTS = (
    "events",
    "acked",
    "sent",
    "read",
    "elections",
    "starts",
    "commits",
    "topics",
    "moves",
    "transactions",
    "compared",
    "compacted",
)
"""What of a report is summed."""


def code_of(folder: Path) -> str:
    """The commit that is played, and whether files that it knows differ from it."""
    words = "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"
    done = subprocess.run(("git", "-C", folder, *words), capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


class Totals:
    """What many seeds came to."""

    def __init__(self, first: int) -> None:
        self.code = f"{code_of(Path(__file__).parent)}, code {hash_of_played()},"
        self.first = first
        self.counts: Counter[str] = Counter()
        self.profiles: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self.seconds = self.cpu = self.gap = 0.0
        self._started = time.monotonic()

    def add(self, outcome: Report | Failure) -> None:
        self.counts["seeds"] += 1
        self.profiles[outcome.profile] += 1
        if isinstance(outcome, Failure):
            self.failures.append(outcome)
            return
        self.faults += outcome.faults
        self.seconds += outcome.seconds
        self.cpu += outcome.cpu
        self.gap = max(self.gap, outcome.gap)
        for name in COUNTS:
            self.counts[name] += getattr(outcome, name)
        self.counts["stranded"] += outcome.is_stranded

    def __str__(self) -> str:
        counts, seeds = self.counts, max(1, self.counts["seeds"])
        wall = time.monotonic() - self._started

        def mean(name: str) -> str:
            return f"{counts[name] / seeds:.1f}"

        return "\n".join(
            (
                f"{counts['seeds']} seeds from {self.first} on commit {self.code} in {wall:.0f} s, "
                f"{self.cpu:.0f} s of CPU ({self.cpu / seeds:.2f} a seed), "
                f"{self.seconds / 3600:.2f} virtual hours, {counts['events']} events",
                f"a seed: {mean('acked')} records acknowledged of {mean('sent')}, {mean('read')} read, "
                f"{mean('elections')} elections, {mean('starts')} starts, {mean('topics')} topics, "
                f"{mean('moves')} moves, {mean('transactions')} transactions, {mean('compared')} compared, "
                f"{mean('compacted')} compacted; "
                f"longest gap without an acknowledgement {self.gap:.1f} s",
                f"profiles: {dict(sorted(self.profiles.items()))}",
                f"faults: {dict(self.faults.most_common())}",
                f"{counts['stranded']} seeds ended with a group that cannot elect; "
                f"{len(self.failures)} failed; next is --first {self.first + counts['seeds']}",
            )
        )


def outcomes(seeds: list[int], profile: str | None, jobs: int) -> Iterator[Report | Failure]:
    """Every seed's outcome, in the order of the seeds."""
    if jobs == 1:
        for seed in seeds:
            yield run_seed(seed, profile)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=be_quiet) as pool:
        yield from pool.map(run_seed, seeds, [profile] * len(seeds), chunksize=4)


def run(seeds: list[int], profile: str | None, *, jobs: int, seconds: float | None, every: int) -> Totals:
    """Run the seeds, or as many as start within `seconds`."""
    totals, started = Totals(seeds[0]), time.monotonic()
    try:
        for outcome in outcomes(seeds, profile, jobs):
            totals.add(outcome)
            if isinstance(outcome, Failure):
                print(outcome, flush=True)
            if every and totals.counts["seeds"] % every == 0 and totals.counts["seeds"] < len(seeds):
                print(totals, flush=True)
            if seconds is not None and time.monotonic() - started > seconds:
                break
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    return totals


def print_planted(first_seed: int) -> bool:
    """The table of docs/simulation.md; False when a fault was not found."""
    print("| planted fault | seeds until found | profile, seed | invariant that broke |")
    print("|---|---|---|---|")
    complete = True
    for plant in PLANTS:
        found = find(plant, first_seed=first_seed)
        if found is None:
            complete = False
            print(f"| {plant.name} | not in {SEEDS_MAX} | | |", flush=True)
        else:
            print(
                f"| {found.plant} | {found.seeds} | {found.profile}, {found.seed} | {found.invariant} |",
                flush=True,
            )
    return complete


def main() -> int:
    be_quiet()
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="run this seed")
    parser.add_argument("--seeds", type=int, default=100, help="run so many seeds (default 100)")
    parser.add_argument("--first", type=int, help="the first of them (default: a new one each time)")
    parser.add_argument("--profile", choices=sorted(PROFILES), help="default: drawn by the seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--seconds", type=float, help="stop after so many seconds")
    parser.add_argument("--every", type=int, default=500, help="print the totals every so many seeds (500)")
    parser.add_argument(
        "--planted", action="store_true", help="find every planted fault, and print the table"
    )
    options = parser.parse_args()
    if options.planted:
        return 0 if print_planted(options.first or 0) else 1
    if options.seed is not None:
        outcome = run_seed(options.seed, options.profile)
        print(outcome)
        return 1 if isinstance(outcome, Failure) else 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was done by then is still printed
    first = options.first if options.first is not None else secrets.randbits(SEED_BITS)
    print(f"seeds from {first}", flush=True)
    seeds = list(range(first, first + options.seeds))
    totals = run(seeds, options.profile, jobs=options.jobs, seconds=options.seconds, every=options.every)
    print(totals)
    for failure in totals.failures:
        print(f"FAILED {failure.replay}: {failure.invariant}")
    return 1 if totals.failures else 0


if __name__ == "__main__":
    sys.exit(main())
