"""`python -m tests.crash --rounds 50`: SIGKILL under load, again and again on the same data, and a verdict.

Exit code 0: nothing acknowledged was lost, nothing of an idempotent producer duplicated, offsets dense,
the broker always started. The seed fixes when the kills come; the load is whatever the machine does.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import warnings
from pathlib import Path

from tests.crash.campaign import Campaign, Round

HEAD = (
    f"{'round':>5} {'load s':>7} {'start kills':>11} {'ready s':>8} {'look s':>7} {'records':>8} {'acked':>8}"
    f" {'unknown':>8} {'dup ok':>7}  verdict"
)


def row(done: Round) -> str:
    verdict = done.verdict
    return (
        f"{done.number:>5} {done.plan.run_s:>7.2f} {len(done.plan.start_kills):>11} {done.ready_s:>8.2f}"
        f" {done.look_s:>7.2f} {verdict.records:>8} {verdict.acknowledged:>8} {verdict.unknown:>8}"
        f" {verdict.allowed_duplicates:>7}  {verdict}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, help="of an earlier run, to kill at the same moments")
    parser.add_argument("--data-dir", type=Path, help="kept afterwards; without it, a temporary folder")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1_000_000)
    warnings.simplefilter("ignore")  # the clients'
    with tempfile.TemporaryDirectory(prefix="raftlog-crash-") as temporary:
        data_dir = arguments.data_dir or Path(temporary) / "data"
        campaign = Campaign(data_dir, seed=seed, rounds=arguments.rounds)
        print(f"seed {seed}, {arguments.rounds} rounds, data in {data_dir}\n{HEAD}", flush=True)
        last = None
        for done in campaign.run():
            print(row(done), flush=True)
            last = done
    if last is None or not campaign.is_good or last.number <= arguments.rounds:
        print(f"FAILED, seed {seed}")
        return 1
    print(
        f"good: {arguments.rounds} kills, {last.verdict.acknowledged} acknowledged, 0 lost,"
        f" 0 duplicated by idempotent producers, offsets dense, seed {seed}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
