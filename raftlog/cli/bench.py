"""`raftlog bench`: measure a Kafka-protocol broker, this one or another, through librdkafka.

Decides the options and how results are shown; the loads are in bench_load, the figures in bench_figures.
"""

from __future__ import annotations

import json
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Any, Final

import click

from raftlog.cli import bench_load
from raftlog.cli.bench_figures import Run, Spread, spread
from raftlog.cli.bench_load import BrokerUnavailable, Load, Progress, Stop
from raftlog.cli.target import BOOTSTRAP_DEFAULT, BOOTSTRAP_VARIABLE

_PROGRESS_SECONDS: Final = 0.25
_INTERRUPTED_EXIT: Final = 130  # what a shell makes of SIGINT

_LABELS: Final = {
    "mb_per_s": ("MB/s", "{:,.1f}"),
    "records_per_s": ("records/s", "{:,.0f}"),
    "latency_p50_ms": ("latency p50, ms", "{:,.3f}"),
    "latency_p99_ms": ("latency p99, ms", "{:,.3f}"),
    "latency_p999_ms": ("latency p99.9, ms", "{:,.3f}"),
    "latency_max_ms": ("latency max, ms", "{:,.3f}"),
    "client_cpu_s": ("client CPU, s", "{:,.2f}"),
    "client_cpu_ms_per_mb": ("client CPU, ms/MB", "{:,.2f}"),
    "broker_cpu_ms_per_mb": ("brokers' CPU, ms/MB", "{:,.2f}"),
    "others_cpu_percent": ("others' CPU, %", "{:,.1f}"),
}

Action = Callable[[Load, Sequence[int], Stop, Progress], Run]
Command = Callable[..., Any]


@click.group(name="bench")
def bench_group() -> None:
    """Measure a Kafka-protocol broker: throughput, latency, and the CPU that both sides spend.

    The client is librdkafka (confluent-kafka, in the extra `raftlog[bench]`), the same for any broker, so
    that two brokers can be compared. A megabyte is 10^6 bytes of record values.

    \b
    raftlog bench produce --size 1000 --seconds 10
    raftlog bench consume
    raftlog bench latency --rate 1000
    """


command = bench_group


def _options(action: Command) -> Command:
    """The options that all three commands have."""
    for option in reversed(
        (
            click.option(
                "--bootstrap",
                "-b",
                envvar=BOOTSTRAP_VARIABLE,
                show_envvar=True,
                default=BOOTSTRAP_DEFAULT,
                show_default=True,
                metavar="HOST:PORT,…",
            ),
            click.option("--topic", default="raftlog-bench", show_default=True),
            click.option(
                "--count", type=click.IntRange(min=1), help="Records a run; with --seconds, what comes first."
            ),
            click.option("--seconds", type=click.FloatRange(min=0.1), help="Seconds a run."),
            click.option(
                "--runs", default=1, show_default=True, type=click.IntRange(1, 1000), help="Timed runs."
            ),
            click.option(
                "--pause",
                default=0.5,
                show_default=True,
                type=click.FloatRange(min=0),
                help="Seconds before each run, after a sync of the file systems.",
            ),
            click.option(
                "--pids",
                metavar="PID,…",
                help="The brokers' processes, for their CPU. Found by their ports when they run here.",
            ),
            click.option(
                "-X", "properties", multiple=True, metavar="KEY=VALUE", help="Any property of librdkafka."
            ),
            click.option(
                "--format",
                "output",
                type=click.Choice(["text", "json"]),
                default="text",
                show_default=True,
            ),
        )
    ):
        action = option(action)
    return action


def _producer_options(action: Command) -> Command:
    """The options of the two commands that send."""
    for option in reversed(
        (
            click.option("--partitions", "-p", default=1, show_default=True, type=click.IntRange(min=1)),
            click.option(
                "--replication", "-r", default=-1, type=int, help="Of a new topic. [default: the broker's]"
            ),
            click.option(
                "--size", default=1000, show_default=True, type=click.IntRange(0), help="Bytes of a value."
            ),
            click.option("--keys", default=0, type=click.IntRange(0), help="Different keys; 0 for no key."),
            click.option(
                "--payload",
                type=click.Choice(["random", "text"]),
                default="random",
                show_default=True,
                help="Values that do not compress, or JSON lines that do.",
            ),
            click.option("--acks", type=click.Choice(["all", "1", "0"]), default="all", show_default=True),
            click.option(
                "--compression",
                type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]),
                default="none",
                show_default=True,
            ),
            click.option(
                "--warmup",
                "warmup_seconds",
                default=1.0,
                show_default=True,
                type=click.FloatRange(min=0),
                help="Seconds of the same load before each run, not counted.",
            ),
        )
    ):
        action = option(action)
    return action


@bench_group.command()
@_options
@_producer_options
@click.option("--linger-ms", default=5.0, show_default=True, type=click.FloatRange(min=0))
@click.option("--batch-size", default=1_000_000, show_default=True, type=click.IntRange(min=1), help="Bytes.")
@click.option(
    "--latencies", is_flag=True, help="Time every record as well. Costs the client half as much CPU again."
)
def produce(**options: Any) -> None:
    """Send as fast as the client can; every record must be acknowledged.

    \b
    raftlog bench produce --size 100 --count 5000000 -p 3 -r 3
    raftlog bench produce --size 1000 --seconds 10 --runs 5 --compression lz4 --format json
    """
    _bench("produce", bench_load.produce, options, seconds=10.0)


@bench_group.command()
@_options
def consume(**options: Any) -> None:
    """Read a topic from its start to its end; every offset must come once and in order.

    Reads what `raftlog bench produce` or anybody else has left there, or --count records of it.

    \b
    raftlog bench consume --topic raftlog-bench --runs 5
    """
    _bench("consume", bench_load.consume, options, seconds=None)


@bench_group.command()
@_options
@_producer_options
@click.option(
    "--rate",
    type=click.FloatRange(min=0.1),
    help="Records a second, each timed from when it was to be sent. Without it: one at a time.",
)
def latency(**options: Any) -> None:
    """Time single records: one in flight, or a fixed rate.

    \b
    raftlog bench latency --size 100 --seconds 20
    raftlog bench latency --size 1000 --rate 2000 --seconds 30
    """
    _bench("latency", bench_load.latency, options, seconds=10.0)


def _bench(name: str, action: Action, options: dict[str, Any], *, seconds: float | None) -> None:
    runs, pause, pids, output = (options.pop(key) for key in ("runs", "pause", "pids", "output"))
    if options["count"] is None and options["seconds"] is None:
        options["seconds"] = seconds
    load = Load(**options | {"properties": _parse_properties(options["properties"])})
    client_error = _client_error()
    results: list[Run] = []
    try:
        found = bench_load.find_brokers(load)
        processes = _parse_pids(pids) if pids else found
        if name != "consume":
            bench_load.ensure_topic(load)
        with _stopping() as stop:
            while len(results) < runs and not stop.requested:
                bench_load.settle(pause)
                with _progress(f"run {len(results) + 1}/{runs}") as progress:
                    results.append(action(load, processes, stop, progress))
    except BrokerUnavailable as error:
        raise click.ClickException(str(error)) from None
    except client_error as error:
        raise click.ClickException(error.args[0].str()) from None
    _report(name, load, results, output)
    if any(run.failed for run in results):
        sys.exit(1)
    if stop.requested:
        sys.exit(_INTERRUPTED_EXIT)


def _client_error() -> type[Exception]:
    """What confluent-kafka raises; fails with a clear word where it is not installed."""
    try:
        from confluent_kafka import KafkaException
    except ImportError:
        raise click.ClickException(
            "the benchmarks use confluent-kafka, which is not installed: pip install 'raftlog[bench]'"
        ) from None
    return KafkaException


def _parse_properties(pairs: Sequence[str]) -> dict[str, str]:
    properties = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="-X")
        properties[key] = value
    return properties


def _parse_pids(text: str) -> list[int]:
    try:
        return [int(pid) for pid in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of numbers", param_hint="--pids") from None


@contextmanager
def _stopping() -> Iterator[Stop]:
    """While this is entered, Ctrl-C asks for a stop and a report; a second one stops at once."""
    stop = Stop()

    def request(_signal: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    before = signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(title: str) -> Iterator[Progress]:
    """One line on standard error that is written over, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda records, payload_bytes, seconds: None
        return
    due = 0.0

    def show(records: int, payload_bytes: int, seconds: float) -> None:
        nonlocal due
        if (now := time.monotonic()) >= due:
            due = now + _PROGRESS_SECONDS
            rate = payload_bytes / 1e6 / max(seconds, 1e-9)
            click.echo(
                f"\r{title}: {seconds:5.1f} s {records:13,} records {rate:9,.1f} MB/s", nl=False, err=True
            )

    try:
        yield show
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


def _report(name: str, load: Load, runs: Sequence[Run], output: str) -> None:
    whole = [run for run in runs if not run.interrupted] or runs
    if output == "json":
        click.echo(json.dumps(report_json(name, load, runs, spread(whole)), indent=2))
    else:
        click.echo("\n".join(report_lines(name, load, runs, spread(whole))))


def report_json(name: str, load: Load, runs: Sequence[Run], over: dict[str, Spread]) -> dict[str, Any]:
    """Everything there is to know of a benchmark, but the single latencies."""
    import confluent_kafka

    return {
        "benchmark": name,
        "load": {**asdict(load), "properties": dict(load.properties)},
        "client": {
            "librdkafka": confluent_kafka.libversion()[0],
            "confluent_kafka": confluent_kafka.__version__,
            "python": platform.python_version(),
        },
        "runs": [
            {
                "records": run.records,
                "payload_bytes": run.payload_bytes,
                "seconds": run.seconds,
                "interrupted": run.interrupted,
                "errors": {what: times for what, times in run.errors.items() if times},
                "latency_samples": len(run.latencies),
                "broker_cpu_seconds": {str(pid): cpu for pid, cpu in run.broker_cpu_seconds.items()},
                **run.figures(),
            }
            for run in runs
        ],
        "summary": {figure: asdict(value) for figure, value in over.items()},
    }


def report_lines(name: str, load: Load, runs: Sequence[Run], over: dict[str, Spread]) -> Iterator[str]:
    """The same for people: one figure a line, the median of the runs with the lowest and the highest."""
    interrupted = any(run.interrupted for run in runs)
    records = sum(run.records for run in runs)
    yield (
        f"{name} {load.topic} at {load.bootstrap}: {records:,} records in {len(runs)} run"
        f"{'s' if len(runs) != 1 else ''}{', interrupted' if interrupted else ''}"
    )
    for figure, (label, form) in _LABELS.items():
        if figure not in over:
            continue
        value = over[figure]
        line = f"  {label:<22}{form.format(value.median):>14}"
        if len(runs) > 1:
            line += f"   {form.format(value.low)} to {form.format(value.high)}"
        yield line
    for number, run in enumerate(runs, 1):
        for what, times in run.errors.items():
            if times:
                yield f"  run {number} FAILED: {what} {times:,}"
