"""`python -m tests.side_by_side`: systems under the same loads, in turn, and the ratios of what they did.

A system is `raftlog` (this tree), `raftlog-os` (acknowledged from a majority of page caches), `kafka` (Apache
Kafka from Maven Central as it comes: acks=all waits until all in-sync replicas have a record in memory, where
raftlog waits for a majority's disks), `kafka-fsync` (with `log.flush.interval.messages=1`), or the folder of
another raftlog tree. A round starts each of them, loads it and stops it, one after the other; rounds differ
in who begins. What the rules are for is in docs/numbers.md.

Results are added to a file of JSON lines, so that the rounds of several calls count together: with --rounds 0
only the table is shown.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from raftlog.cli.bench_processes import machine_seconds
from raftlog.testing.processes import free_port

HERE: Final = Path(__file__).parent.parent
LOADS: Final = {
    "produce-100": ("produce", "--size", "100"),
    "produce-1000": ("produce", "--size", "1000"),
    "produce-10000": ("produce", "--size", "10000"),
    "consume-1000": ("consume",),
    "latency-100": ("latency", "--size", "100"),
    "crowd-200": ("crowd", "--producers", "200"),
}
SMALL: Final = ("-X", "linger.ms=0", "-X", "batch.num.messages=20")
WARM_UPS: Final = (
    ("produce", "--size", "100", *SMALL),
    ("produce", "--size", "1000", *SMALL),
    ("latency", "--size", "100"),
    ("latency", "--size", "1000", "--rate", "1000"),
)
"""A quarter of the warm-up each."""
FIGURES: Final = {
    "mb_per_s": "MB/s",
    "broker_cpu_ms_per_mb": "brokers' CPU, ms/MB",
    "latency_p50_ms": "p50, ms",
    "latency_p99_ms": "p99, ms",
}
MEMORY_FREE_MAX_KB: Final = 1_200_000
"""Free memory up to which the page cache is filled before a system starts: fresh pages of a virtual machine
cost several times what used ones do, and whoever writes first would pay."""
DISTURBED_PERCENT_MIN: Final = 8.0
"""Of the machine's CPU time that neither the client nor the brokers used, from which a run does not count.
The kernel's own threads, which write to the disk, take a few."""
TRIES_MAX: Final = 6
IDLE_SECONDS_MAX: Final = 60.0
"""Seconds to wait for the machine to be left alone, before each run."""
_CHUNK: Final = bytes(4 << 20)


def command(system: str, nodes: int) -> tuple[list[str], dict[str, str]]:
    """What starts a system of `nodes` brokers, and its environment. It prints a line `ready bootstrap=…`."""
    if system.startswith("kafka"):
        port = free_port() % 5000 + 15_000  # the other nodes are ten thousand apart
        line = ["-m", "tests.kafka_peer", "start", "--nodes", str(nodes), "--port", str(port), "--heap", "1g"]
        if system == "kafka-fsync":
            line += ["-o", "log.flush.interval.messages=1"]
        return line, {"PYTHONPATH": str(HERE), "JAVA_TOOL_OPTIONS": "-XX:+AlwaysPreTouch"}
    line = ["-m", "raftlog", "dev", "--nodes", str(nodes), "--port", "0"]
    if system == "raftlog-os":
        line += ["-o", "raftlog.durability=os"]
    tree = system if "/" in system else HERE
    return line, {"PYTHONPATH": str(tree)}


@contextlib.contextmanager
def running(system: str, nodes: int) -> Iterator[str]:
    """A system with nothing in it; gives its bootstrap addresses."""
    line, environment = command(system, nodes)
    process = subprocess.Popen(
        [sys.executable, *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | environment,
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        if not ready.startswith("ready bootstrap="):
            raise SystemExit(f"{system} did not start: {ready!r}")
        yield ready.split()[1].removeprefix("bootstrap=")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def bench(bootstrap: str, arguments: list[str]) -> dict[str, Any]:
    """One run of `raftlog bench`, in figures; repeated when somebody else used the machine meanwhile."""
    for _ in range(TRIES_MAX):
        wait_until_idle()
        run = _bench(bootstrap, arguments)
        if run["others_cpu_percent"] < DISTURBED_PERCENT_MIN:
            return run
        print(f"disturbed ({run['others_cpu_percent']:.0f} % of the machine): again", file=sys.stderr)
    raise SystemExit(f"the machine was not left alone in {TRIES_MAX} runs")


def wait_until_idle() -> None:
    """Return when next to nothing runs on the machine, or after a while."""
    deadline = time.monotonic() + IDLE_SECONDS_MAX
    while time.monotonic() < deadline:
        before = machine_seconds()
        time.sleep(1)
        after = machine_seconds()
        assert before is not None and after is not None, "no /proc/stat"
        if 100 * (after[0] - before[0]) < DISTURBED_PERCENT_MIN * (after[1] - before[1]):
            return


def _bench(bootstrap: str, arguments: list[str]) -> dict[str, Any]:
    kind, *rest = arguments
    program = ["tests.crowd"] if kind == "crowd" else ["raftlog", "bench", kind]
    line = [sys.executable, "-m", *program, *rest, "--bootstrap", bootstrap, "--format", "json"]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(HERE)})
    if done.returncode:
        raise SystemExit(f"{' '.join(line)} ended with {done.returncode}:\n{done.stdout}")
    run: dict[str, Any] = json.loads(done.stdout)["runs"][0]
    return run


def measure(system: str, options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """All loads on a fresh system, behind a warm-up that is not counted."""
    with running(system, options.nodes) as bootstrap:
        shape = ["-p", str(options.partitions), "-r", str(min(3, options.nodes))]
        warm_up(bootstrap, options.warm_seconds, shape)
        for load in options.loads:
            kind, *rest = LOADS[load]
            topic = "produce-1000" if kind == "consume" else load
            arguments = [kind, *rest, "--topic", topic]
            if kind != "consume":
                arguments += ["--seconds", str(options.seconds), "--warmup", "2", *shape]
            yield load, bench(bootstrap, arguments)


def warm_up(bootstrap: str, seconds: float, shape: list[str]) -> None:
    """Many small requests, of each kind, until a JVM's second compiler has been through what is measured.

    A load of full batches is a thousand requests, and leaves Kafka at three times the CPU that it takes warm.
    """
    if not seconds:
        return
    each = ["--topic", "warm-up", "--seconds", str(seconds / len(WARM_UPS)), *shape]
    for kind, *rest in WARM_UPS:
        _bench(bootstrap, [kind, *rest, *each])
    _bench(bootstrap, ["consume", "--topic", "warm-up"])


def fill_page_cache(path: Path) -> None:
    """Write a file until memory is in use, as it is on a machine that has been up for a while."""
    path.touch()
    with path.open("r+b") as file:
        while _memory_kb("MemFree") > MEMORY_FREE_MAX_KB and file.tell() < 1024 * _memory_kb("MemTotal"):
            file.write(_CHUNK)
            if file.tell() % (256 << 20) == 0:
                os.fdatasync(file.fileno())
        os.fdatasync(file.fileno())


def _memory_kb(name: str) -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def table(lines: list[dict[str, Any]], systems: list[str]) -> Iterator[str]:
    """Markdown: each system's median, and the median of the first one's ratios to each of the others, round
    by round; with the lowest and the highest."""
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        for figure in _figures(line["load"], line["run"]):
            values[line["load"], figure][line["system"]].append(line["run"][figure])
    first, *others = systems
    heads = ["load", "figure", *systems, *(f"{first} / {other}" for other in others)]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for (load, figure), of in values.items():
        cells = [_spread(of[system]) for system in systems]
        cells += [_spread([x / y for x, y in zip(of[first], of[other], strict=False)]) for other in others]
        yield f"| {load} | {FIGURES[figure]} | {' | '.join(cells)} |"


def _figures(load: str, run: dict[str, Any]) -> list[str]:
    """What of a run is worth showing: one record at a time has no throughput."""
    if load.startswith("crowd"):
        return [figure for figure in FIGURES if figure in run]
    is_latency = load.startswith("latency")
    return [figure for figure in FIGURES if figure in run and figure.startswith("latency") == is_latency]


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    form = "{:,.0f}" if min(values) >= 100 else "{:,.1f}" if min(values) >= 10 else "{:,.2f}"
    median, low, high = (form.format(f(values)) for f in (statistics.median, min, max))
    return f"{median} ({low} to {high})" if len(values) > 1 else median


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.side_by_side", description=__doc__)
    parser.add_argument("systems", nargs="*", default=["raftlog", "kafka", "kafka-fsync"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument(
        "--warm-seconds", type=float, default=40.0, help="of small requests, before the loads"
    )
    parser.add_argument("--loads", nargs="+", choices=list(LOADS), default=list(LOADS), metavar="LOAD")
    parser.add_argument("--results", type=Path, help="JSON lines to add to; else only this call's count")
    parser.add_argument(
        "--ballast", type=Path, help="a file to fill the page cache with, kept; else temporary"
    )
    options = parser.parse_args()
    path, systems = options.results, options.systems
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []
    rounds_before = len({line["round"] for line in lines})
    with tempfile.TemporaryDirectory(prefix="raftlog-ballast-") as folder:
        for number in range(rounds_before, rounds_before + options.rounds):
            begin = number % len(systems)
            done = []
            for system in systems[begin:] + systems[:begin]:
                fill_page_cache(options.ballast or Path(folder) / "ballast")
                for load, run in measure(system, options):
                    done.append({"round": number, "system": system, "load": load, "run": run})
                    figures = [f"{FIGURES[figure]} {run[figure]:.2f}" for figure in _figures(load, run)]
                    print(f"round {number + 1} {system:<12} {load:<14} {', '.join(figures)}", flush=True)
            lines += done  # whole rounds only
            if path:
                with path.open("a") as file:
                    file.writelines(json.dumps(line) + "\n" for line in done)
    print(*table(lines, systems), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
