"""Measurements of a cluster of processes: tables, and a verdict.

Exit code 0: nothing was wrong, and nothing took longer than it may. docs/reliability.md says what each shows.
What brokers survive is the chaos suite's (`python -m chaos`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.cluster.compaction_bar import OPTIONS, measure, p99
from tests.cluster.create import create_and_use
from tests.cluster.latency import latency as measure_latency
from tests.cluster.many import many as run_many
from tests.secured import ClusterProcesses

CREATED_MAX_S: Final = 10.0
IDLE_MAX: Final = 0.10
LED_MAX_S: Final = 5.0
LATENCY_RATIO_MAX: Final = 1.3
LEFT_MAX: Final = 0.05
"""Of a log with 1 % live keys."""
ACK_RATIO_MAX: Final = 1.5
ACKS_MIN: Final = 200
"""Of either kind, for a p99 to say something."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--dir", type=Path, help="for data and logs, kept; without it, a temporary folder")
    commands = parser.add_subparsers(required=True, metavar="CAMPAIGN")
    command = commands.add_parser("create", help="topics are used at once through other brokers")
    command.add_argument("--count", type=int, default=500)
    command.set_defaults(run=create)
    command = commands.add_parser("many", help="many partitions: created, idle, and one broker killed")
    command.add_argument("--partitions", type=int, default=300)
    command.set_defaults(run=many)
    command = commands.add_parser("latency", help="one record in flight, alone and beside many partitions")
    command.add_argument("--partitions", type=int, default=1000)
    command.add_argument("--rounds", type=int, default=5)
    command.set_defaults(run=latency)
    command = commands.add_parser(
        "compaction", help="a log that shrinks while it is written to, and acks beside"
    )
    command.add_argument("--bytes", type=int, default=1_000_000_000)
    command.set_defaults(run=compaction)
    arguments = parser.parse_args()
    run: Callable[[argparse.Namespace, Path], list[str]] = arguments.run
    with tempfile.TemporaryDirectory(prefix="raftlog-cluster-") as temporary:
        try:
            failures = run(arguments, arguments.dir or Path(temporary))
        except TimeoutError as error:
            failures = [str(error)]
    for failure in failures:
        print(f"FAILED: {failure}")
    if not failures:
        print("good")
    return 1 if failures else 0


def create(arguments: argparse.Namespace, root: Path) -> list[str]:
    with ClusterProcesses(root) as cluster:
        cluster.start()
        seen = create_and_use(cluster, arguments.count)
    median, most = statistics.median(seen.took), max(seen.took)
    print(f"{arguments.count} topics; CreateTopics took {median:.3f} s in the median, {most:.3f} s at most")
    for answer, count in sorted(seen.answers.items()):
        print(f"{count:>7} {answer}")
    print(f"{seen.moved:>7} times somebody else led before everything had been asked")
    return seen.wrong


def many(arguments: argparse.Namespace, root: Path) -> list[str]:
    with ClusterProcesses(root) as cluster:
        cluster.start()
        found = run_many(cluster, arguments.partitions)
    idle = ", ".join(f"broker {id} {100 * cores:.1f} %" for id, cores in found.idle.items())
    print(f"{arguments.partitions} partitions with 3 replicas created in {found.created_s:.2f} s")
    print(f"idle, of a core: {idle}")
    print(
        f"after SIGKILL of the leader of {found.lost}: all led after {found.led_s:.2f} s,"
        f" all written to after {found.written_s:.2f} s"
    )
    failures = []
    if found.created_s > CREATED_MAX_S:
        failures.append(f"created in {found.created_s:.2f} s")
    if max(found.idle.values()) > IDLE_MAX:
        failures.append(f"idle at {idle}")
    if found.led_s > LED_MAX_S:
        failures.append(f"all led only after {found.led_s:.2f} s")
    return failures


def latency(arguments: argparse.Namespace, root: Path) -> list[str]:
    with ClusterProcesses(root) as cluster:
        cluster.start()
        seen = measure_latency(cluster, arguments.partitions, arguments.rounds)
    print(f"one record in flight, p50 of each of {arguments.rounds} rounds in ms")
    print("alone: " + ", ".join(f"{took:.2f}" for took in seen.alone))
    print(f"beside {arguments.partitions} written: " + ", ".join(f"{took:.2f}" for took in seen.beside))
    print(f"ratio of the medians: {seen.ratio:.2f}")
    return [f"{seen.ratio:.2f} times that alone"] if seen.ratio > LATENCY_RATIO_MAX else []


def compaction(arguments: argparse.Namespace, root: Path) -> list[str]:
    with ClusterProcesses(root, options=OPTIONS) as cluster:
        cluster.start()
        seen = measure(cluster, arguments.bytes, LEFT_MAX)
    print(f"{seen.written_bytes} bytes to each topic in {seen.took_s:.0f} s, 1 % of the records live")
    print(f"compacted: at most {seen.most_bytes} bytes meanwhile, {seen.left_bytes} left: {seen.share:.2%}")
    names = {True: "while a log is compacted", False: "while none is"}
    kinds = {f"to {topic}": acks for topic, acks in seen.acks_ms.items()}
    kinds |= {names[is_passing]: acks for is_passing, acks in seen.beside_ms.items()}
    for kind, acks in kinds.items():
        if len(acks) >= ACKS_MIN:
            print(
                f"ack of one record {kind}: p50 {statistics.median(acks):.2f} ms,"
                f" p99 {p99(acks):.2f} ms, {len(acks)} of them"
            )
    failures = [f"{seen.share:.2%} are left"] if seen.share > LEFT_MAX else []
    few = [kind for kind, acks in kinds.items() if len(acks) < ACKS_MIN]
    if few:
        return [*failures, f"too few acks {', '.join(few)}: write more, by --bytes"]
    print(f"ratio of the p99: compacted to not {seen.topics_ratio:.2f}, while to while not {seen.ratio:.2f}")
    if max(seen.ratio, seen.topics_ratio) > ACK_RATIO_MAX:
        failures.append(f"the p99 of an ack is more than {ACK_RATIO_MAX} times that without")
    return failures


if __name__ == "__main__":
    sys.exit(main())
