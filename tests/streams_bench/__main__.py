"""The rounds, and the table."""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition

from chaos.access import Access
from chaos.workloads.workload import create_topics
from tests.side_by_side import running
from tests.streams_bench.workers import KINDS, Kind, Worker

LOADS: Final = ("count", "windows", "words")
PARTITIONS: Final = 4
KEYS: Final = 10_000
VALUE_BYTES: Final = 100
WORDS_A_LINE: Final = 12
LOOK_SECONDS: Final = 0.05
"""Between two looks at what is committed: a commit is seen so late, at the begin and at the end."""
STILL_SECONDS_MAX: Final = 120.0
"""Without a commit for so long a worker is given up."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A commit that was seen: records up to there, CPU seconds of the worker, and seconds by the clock."""

    records: float
    cpu: float
    at: float


# -- the input


def fill(bootstrap: str, records: int) -> dict[str, str]:
    """The input topic of each load. The records of `count` and `windows` are a millisecond apart."""
    topics = {"records": PARTITIONS, "lines": PARTITIONS}
    create_topics(Access(bootstrap), topics, 3, {})
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "queue.buffering.max.kbytes": 65_536,
            "enable.idempotence": True,
        }
    )
    rng, begin = random.Random(1), int(time.time() * 1000) - records
    keys = [b"key-%05d" % number for number in range(KEYS)]
    words = [f"word{number:05d}" for number in range(KEYS)]
    value = bytes(VALUE_BYTES)
    for number in range(records):
        _send(producer, "records", value, rng.choice(keys), begin + number)
    for number in range(records // WORDS_A_LINE):
        line = " ".join(rng.choices(words, k=WORDS_A_LINE)).encode()
        _send(producer, "lines", line, None, begin + number)
    assert producer.flush(300) == 0, "the input was not written"
    return {"count": "records", "windows": "records", "words": "lines"}


def _send(producer: Producer, topic: str, value: bytes, key: bytes | None, timestamp: int) -> None:
    while True:
        try:
            producer.produce(topic, value, key, timestamp=timestamp)
            return
        except BufferError:
            producer.poll(0.1)


# -- one run


class Progress:
    """How far an app is, by what its group has committed. Of `words` half the work is to split lines, half
    to count words."""

    def __init__(self, bootstrap: str, load: str, kind: Kind, app: str, source: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": app, "log_level": 0})
        self._weights = {source: 1.0}
        if load == "words":
            between = kind.repartition.format(app=app, input=source)
            self._weights = {source: WORDS_A_LINE / 2, between: 0.5}

    def records(self) -> float:
        wanted = [TopicPartition(topic, number) for topic in self._weights for number in range(PARTITIONS)]
        found = self._consumer.committed(wanted, timeout=30)
        return sum(max(each.offset, 0) * self._weights[each.topic] for each in found)

    def close(self) -> None:
        self._consumer.close()


def measure(bootstrap: str, name: str, load: str, source: str, records: int, folder: Path) -> dict[str, Any]:
    """Run a worker until it has committed its warm-up, and `records` more."""
    kind = KINDS[name]
    app = f"{name}-{load}-{uuid.uuid4().hex[:6]}"
    target = f"{app}-out"
    create_topics(Access(bootstrap), {target: PARTITIONS}, 3, {})
    progress = Progress(bootstrap, load, kind, app, source)
    until = kind.warm + records * kind.share
    samples = [Sample(0, 0, time.monotonic())]
    with Worker(kind, load, bootstrap, app, source, target, folder) as worker:
        while samples[-1].records < until:
            time.sleep(LOOK_SECONDS)
            seen = progress.records()
            cpu, now = worker.cpu_seconds(), time.monotonic()
            if seen > samples[-1].records:
                samples.append(Sample(seen, cpu, now))
            elif now - samples[-1].at > STILL_SECONDS_MAX:
                raise SystemExit(f"{app} has committed {seen:,.0f} records, and no more")
        memory = worker.memory_mib()
    progress.close()
    return {
        **figures(samples, kind.warm),
        "memory_mib": memory,
        "samples": [asdict(each) for each in samples],
    }


def figures(samples: list[Sample], warm: float) -> dict[str, float]:
    """From the first commit behind the warm-up to the last one: microseconds of CPU a record and records a
    second; and how much more the first half took for a record than the second, which shows a worker that was
    not warm yet."""
    begin = next(number for number, each in enumerate(samples) if each.records >= warm)
    measured = samples[begin:]
    assert len(measured) > 2, "too few commits: more records, please"
    first, last = measured[0], measured[-1]
    middle = min(measured[1:-1], key=lambda each: abs(each.records - (first.records + last.records) / 2))
    return {
        "cpu_us": _cpu_us(first, last),
        "per_second": (last.records - first.records) / (last.at - first.at),
        "first_half": _cpu_us(first, middle) / _cpu_us(middle, last),
        "load_average": os.getloadavg()[0],
    }


def _cpu_us(begin: Sample, end: Sample) -> float:
    return (end.cpu - begin.cpu) / (end.records - begin.records) * 1e6


# -- all of them


def table(lines: list[dict[str, Any]], names: list[str]) -> Iterator[str]:
    """Markdown: medians with the lowest and highest, and the ratios to the first one round by round."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        found[line["load"]][line["name"]].append(line)
    first = names[0]
    yield f"| µs of CPU a record | {' | '.join(names)} | {' | '.join(f'{first} / {o}' for o in names[1:])} |"
    yield "|---" * (2 * len(names)) + "|"
    for load, of in found.items():
        cells = [_spread([line["cpu_us"] for line in of[name]]) for name in names]
        for other in names[1:]:
            pairs = zip(of[first], of[other], strict=False)
            cells.append(_spread([a["cpu_us"] / b["cpu_us"] for a, b in pairs]))
        yield f"| {load} | {' | '.join(cells)} |"


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})" if len(values) > 1 else f"{middle:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.streams_bench", description=__doc__)
    parser.add_argument("names", nargs="*", default=["raftlog", "kafka-streams", "quix"], metavar="WORKER")
    parser.add_argument("--brokers", default="raftlog", help="raftlog, kafka, or another tree's folder")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=2_000_000, help="measured, behind the warm-up")
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS), metavar="LOAD")
    parser.add_argument("--results", type=Path, help="JSON lines to add to; else only this call's count")
    options = parser.parse_args()
    path, names = options.results, options.names
    if unknown := set(names) - set(KINDS):
        parser.error(f"no worker {', '.join(unknown)}: {', '.join(KINDS)}")
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []
    before = max((line["round"] + 1 for line in lines), default=0)
    with (
        tempfile.TemporaryDirectory(prefix="streams-bench-") as folder,
        running(options.brokers, options.nodes) as bootstrap,
    ):
        needed = max(KINDS[name].warm + options.records * KINDS[name].share for name in names)
        sources = fill(bootstrap, int(1.25 * needed))
        for number in range(before, before + options.rounds):
            turn = number % len(names)
            for load in options.loads:
                for name in names[turn:] + names[:turn]:
                    run = measure(bootstrap, name, load, sources[load], options.records, Path(folder))
                    told = f"{run['cpu_us']:6.2f} µs, {run['per_second']:8,.0f}/s"
                    told += f", halves {run['first_half']:.2f}, {run['memory_mib']:.0f} MiB"
                    print(f"round {number + 1} {load:<8} {name:<20} {told}", flush=True)
                    lines.append({"round": number, "load": load, "name": name, **run})
                    if path:
                        with path.open("a") as file:
                            file.write(json.dumps(lines[-1]) + "\n")
    print(*table(lines, names), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
