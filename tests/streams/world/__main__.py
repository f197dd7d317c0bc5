"""`python -m tests.streams.world --seeds 1000 --first 1`: many seeds, both guarantees."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.streams.world.world import play_both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--every", type=int, default=250, help="say after so many what they came to")
    given = parser.parse_args()
    started, total, failed = time.monotonic(), Counter[str](), 0
    seeds = range(given.first, given.first + given.seeds)
    with ProcessPoolExecutor(given.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for number, (seed, found, wrong) in enumerate(pool.map(play_both, seeds), 1):
            total.update(found)
            if wrong:
                failed += 1
                print(f"seed {seed}: {wrong}", flush=True)
            if number % given.every == 0 or number == given.seeds:
                seconds = time.monotonic() - started
                done = f"{number} seeds from {given.first}, {failed} failed, {seconds:.0f} s"
                print(f"{done}: {dict(total)}", flush=True)


if __name__ == "__main__":
    main()
