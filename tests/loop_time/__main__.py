"""`python -m tests.loop_time`: how long three brokers' event loops stand still, and how often they elect.

Scenes follow each other on one cluster, so that what one made is there in the next: many partitions, many
idempotent producers on one of them, many groups with offsets, a broker that dies and one that comes back far
behind. For each scene and broker it prints the stretches of the event loop, their CPU time, the turns of Raft
(without their syncs) and the syncs in the loop, and of all brokers together how often a time-out made a
replica call an election, which no scene but the broker's death excuses, and how often a leader handed over of
its own will. With --strict the exit code says whether all stretches and turns stayed below the limit and no
time-out ended, which only means something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.loop_time.broker import EDGES_MS
from tests.loop_time.cluster import COUNT, MeasuredCluster
from tests.loop_time.scenes import SCENES, Sizes
from tests.loop_time.why import WHY

LIMIT_MS: Final = 50.0
WHAT: Final = ("loop", "cpu", "turns", "syncs")


def play(cluster: MeasuredCluster, name: str, sizes: Sizes) -> bool:
    """One scene; whether it stayed within the limits."""
    cluster.ask_all("times")
    before = cluster.ask_all("state")
    SCENES[name](cluster, sizes)
    times, states = cluster.ask_all("times"), cluster.ask_all("state")

    def happened(what: str) -> int:
        lived = [n for n in states if n in before and before[n]["process"] == states[n]["process"]]
        return sum(state[what] for state in states.values()) - sum(before[n][what] for n in lived)

    elections = happened("elections")
    print(
        f"\n{name}: {SCENES[name].__doc__} {elections} elections, {happened('hand-overs')} hand-overs; "
        f"{states[1]['groups']} groups"
    )
    edges = "".join(f"{f'≤{edge:g}':>8}" for edge in EDGES_MS)
    print(f"{'broker':8}{'':6}{'count':>9}{'p50':>8}{'p99':>8}{'p99.9':>8}{'max ms':>9} {edges}{'more':>8}")
    for number, told in times.items():
        for what in WHAT:
            print(f"{number:<8}{what:6}{_row(told[what])}", flush=True)
    slowest = max(told[what]["max"] for told in times.values() for what in ("loop", "turns"))
    # A broker that was killed led some groups, and they elect when it goes: that is its death, not a stall.
    return slowest <= LIMIT_MS and (elections == 0 or name == "death")


def _row(told: dict[str, Any]) -> str:
    bands = "".join(f"{count:>8}" for count in told["bands"])
    figures = "".join(f"{told[key]:>8.2f}" for key in ("p50", "p99", "p999"))
    return f"{told['count']:>9}{figures}{told['max']:>9.1f} {bands}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.loop_time", description=__doc__.split("\n\n")[0])
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--producers", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--offsets-each", type=int, default=10, help="partitions that each group commits")
    parser.add_argument("--behind-partitions", type=int, default=60)
    parser.add_argument("--behind-mib", type=int, default=18, help="in each of these partitions")
    parser.add_argument("--seconds", type=float, default=20, help="of quiet measuring in each scene")
    parser.add_argument("--strict", action="store_true", help=f"exit with 1 beyond {LIMIT_MS:g} ms")
    parser.add_argument("--scene", action="append", choices=tuple(SCENES), help="these alone, behind idle")
    parser.add_argument("--why", metavar="MS", help="say what stretches of more CPU time did")
    options = parser.parse_args()
    if options.why:
        os.environ[WHY] = options.why
    sizes = Sizes(
        options.partitions,
        options.producers,
        options.groups,
        options.offsets_each,
        options.behind_partitions,
        options.behind_mib,
        options.seconds,
    )
    wanted = {"idle", *(options.scene or SCENES)}
    if "return" in wanted:
        wanted.add("death")
    names = [name for name in SCENES if name in wanted]
    print(f"{COUNT} brokers, each a process; milliseconds; {sizes}")
    with tempfile.TemporaryDirectory() as folder, MeasuredCluster(Path(folder)) as cluster:
        kept = [play(cluster, name, sizes) for name in names]
    return int(options.strict and not all(kept))


if __name__ == "__main__":
    sys.exit(main())
