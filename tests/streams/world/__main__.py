"""`python -m tests.streams.world --seeds 1000 --first 1`: many seeds, both guarantees."""

from __future__ import annotations

import argparse
import logging
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict

from tests.streams.world.world import play


def one(seed: int) -> tuple[int, Counter[str], str]:
    """A seed, with both guarantees: what it came to, and what was wrong."""
    logging.disable(logging.CRITICAL)
    total: Counter[str] = Counter()
    for guarantee in ("exactly_once", "at_least_once"):
        try:
            total.update(asdict(play(seed, guarantee)))
        except BaseException:
            return seed, total, f"{guarantee}\n{traceback.format_exc()}"
    return seed, total, ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    started, total, failed = time.monotonic(), Counter[str](), 0
    with ProcessPoolExecutor(given.jobs) as pool:
        for seed, found, wrong in pool.map(one, range(given.first, given.first + given.seeds)):
            total.update(found)
            if wrong:
                failed += 1
                print(f"seed {seed}: {wrong}", flush=True)
    seconds = time.monotonic() - started
    print(f"{given.seeds} seeds from {given.first}, {failed} failed, {seconds:.0f} s: {dict(total)}")


if __name__ == "__main__":
    main()
