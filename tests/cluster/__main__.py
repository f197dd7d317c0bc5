"""Campaigns with real processes, real clients and real faults: tables, and a verdict.

Exit code 0: nothing acknowledged was lost, nothing duplicated, nothing reordered within a key, all replicas
equal in the end, and nothing took longer than it may. docs/reliability.md says what each shows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

from raftlog.testing.processes import ClusterProcesses
from tests.cluster.create import create_and_use
from tests.cluster.cut import cuts
from tests.cluster.elastic import steps
from tests.cluster.failover import Fault, Round, rounds
from tests.cluster.latency import latency as measure_latency
from tests.cluster.load import DEFAULTS, PRODUCERS, RECOMMENDED
from tests.cluster.many import many as run_many
from tests.cluster.network import Network, is_possible
from tests.cluster.trial import NotWhole, Trial
from tests.cluster.wipe import SCENES, Violation
from tests.crash.checker import Verdict

GAP_MAX_S: Final = {Fault.KILL: 2.0, Fault.STOP: 2.0, Fault.TERM: 0.3}
GAP_MEDIAN_S: Final = {Fault.KILL: 1.0, Fault.STOP: 1.0, Fault.TERM: 0.3}
"""Of a pause, only what both clients saw: librdkafka looks once a second which requests have timed out."""
CLIENTS: Final = {"recommended": RECOMMENDED, "defaults": DEFAULTS}
CREATED_MAX_S: Final = 10.0
IDLE_MAX: Final = 0.10
LED_MAX_S: Final = 5.0
LATENCY_RATIO_MAX: Final = 1.3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--dir", type=Path, help="for data and logs, kept; without it, a temporary folder")
    commands = parser.add_subparsers(required=True, metavar="CAMPAIGN")
    command = commands.add_parser("failover", help="leaders are killed, paused or stopped in turn")
    command.add_argument("--rounds", type=int, default=20)
    command.add_argument("--fault", choices=[fault.value for fault in Fault], default="kill")
    command.add_argument(
        "--clients", choices=CLIENTS, default="recommended", help="the settings of the clients"
    )
    command.set_defaults(run=failover)
    command = commands.add_parser("wipe", help="brokers lose their disks")
    command.set_defaults(run=wipe)
    command = commands.add_parser("elastic", help="a broker is added, another drained and removed")
    command.set_defaults(run=elastic)
    command = commands.add_parser("cut", help="networks that lose everything; needs root and iproute2")
    command.add_argument("--rounds", type=int, default=1)
    command.set_defaults(run=cut)
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
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the clients'
    run: Callable[[argparse.Namespace, Path], list[str]] = arguments.run
    with tempfile.TemporaryDirectory(prefix="raftlog-cluster-") as temporary:
        try:
            failures = run(arguments, arguments.dir or Path(temporary))
        except (NotWhole, Violation, TimeoutError) as error:
            failures = [str(error)]
    for failure in failures:
        print(f"FAILED: {failure}")
    if not failures:
        print("good")
    return 1 if failures else 0


def failover(arguments: argparse.Namespace, root: Path) -> list[str]:
    fault = Fault(arguments.fault)
    done: list[Round] = []
    print(
        f"{arguments.rounds} rounds of {fault.name}, clients' settings: {arguments.clients}; gaps in seconds"
    )
    print(
        f"{'round':>5} {'broker':>6} {'led':>4} {'coord':>5} {'calm':>6}"
        + "".join(f" {name:>12}" for name in PRODUCERS)
        + f" {'both':>6} {'after':>6} {'commits':>7} {'whole':>6} {'disk':>6} {'late':>6}",
        flush=True,
    )
    with Trial(root, clients=CLIENTS[arguments.clients]) as trial:
        for one in rounds(trial, fault, arguments.rounds):
            done.append(one)
            gap = one.gaps.cluster
            print(
                f"{one.number:>5} {one.broker:>6} {one.led:>4} {'yes' if one.coordinated else '-':>5}"
                f" {one.calm.cluster.length:>6.3f}"
                + "".join(f" {one.gaps.clients[name].length:>12.3f}" for name in PRODUCERS)
                + f" {gap.length:>6.3f} {gap.after:>6.2f}"
                f" {one.commit_gap:>7.3f} {one.whole_s:>6.1f} {one.disk_s:>6.3f} {one.late_s:>6.3f}",
                flush=True,
            )
        verdict = trial.judge()
    failures = []
    for name, values in {
        **{name: [one.gaps.clients[name].length for one in done] for name in PRODUCERS},
        "both": [one.gaps.cluster.length for one in done],
    }.items():
        median, most = statistics.median(values), max(values)
        print(f"longest gap, {name}: median {median:.3f} s, max {most:.3f} s")
        if arguments.clients == "defaults" and fault is Fault.STOP:
            continue  # by their defaults clients wait for an answer for longer than that
        is_judged = fault is not Fault.STOP or name == "both"
        if most > GAP_MAX_S[fault] or (median > GAP_MEDIAN_S[fault] and is_judged):
            failures.append(f"{name}: a gap of {most:.3f} s, median {median:.3f} s")
    commits = [one.commit_gap for one in done]
    print(f"longest gap, group commits: median {statistics.median(commits):.3f} s, max {max(commits):.3f} s")
    return failures + judged(verdict)


def wipe(arguments: argparse.Namespace, root: Path) -> list[str]:
    with Trial(root) as trial:
        trial.await_progress()
        for scene in SCENES:
            for line in scene(trial):
                print(f"{scene.__name__}: {line}", flush=True)
        return judged(trial.judge())


def elastic(arguments: argparse.Namespace, root: Path) -> list[str]:
    with Trial(root) as trial:
        trial.await_progress()
        print(f"{'seconds':>7} {'gap':>6}  step")
        for what, took_s, gap_s in steps(trial):
            print(f"{took_s:>7.1f} {gap_s:>6.3f}  {what}", flush=True)
        return judged(trial.judge())


def cut(arguments: argparse.Namespace, root: Path) -> list[str]:
    if not is_possible():
        return ["network namespaces need Linux, root, and iproute2's ip"]
    print(f"{'both':>6} {'commits':>7} {'elections':>9} {'whole':>6}  gaps in seconds; what was cut")
    with Network(3) as network, Trial(root, network=network) as trial:
        trial.await_progress()
        trial.wait_whole()
        for one in cuts(trial, network, arguments.rounds):
            gap = one.gaps.cluster.length
            print(
                f"{gap:>6.3f} {one.commit_gap:>7.3f} {one.elections:>9} {one.whole_s:>6.1f}  {one.what}",
                flush=True,
            )
        return judged(trial.judge())


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


def judged(verdict: Verdict) -> list[str]:
    print(
        f"{verdict.acknowledged} acknowledged, {verdict.records} in the log, {verdict.unknown} unknown:"
        f" {verdict}"
    )
    return [] if verdict.is_good else ["the records are not as they should be"]


if __name__ == "__main__":
    sys.exit(main())
