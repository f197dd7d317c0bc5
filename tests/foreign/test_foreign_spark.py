"""Spark takes over from an app of raftlog.streams at the very offset: no record is lost, or counted twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from chaos.access import Access
from chaos.workloads.workload import create_topics
from tests.foreign.commands import PATIENCE_S, Spark
from tests.waiting import until

PARTITIONS = 4
APP = """
from raftlog import streams as rs

app = rs.App({name!r}, commit_ms=100, guarantee={guarantee!r})
app.stream({topic!r}).count("counts")
"""


def where(bootstrap: str, app: str, topic: str) -> dict[str, int]:
    """What Spark is given as startingOffsets, of a topic; nothing while the app has committed nothing."""
    command = ["group", "describe", app, "--topic", topic, "--format", "spark", "--bootstrap", bootstrap]
    ended = subprocess.run(
        [sys.executable, "-m", "raftlog", *command], capture_output=True, text=True, timeout=PATIENCE_S
    )
    if "there is no group" in ended.stderr:
        return {}
    assert ended.returncode == 0, ended.stderr
    offsets: dict[str, dict[str, int]] = json.loads(ended.stdout)
    return offsets[topic]


@pytest.mark.slow
@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_spark_goes_on_where_an_app_was(
    spark: Spark, bootstrap: str, name: Callable[[str], str], tmp_path: Path, guarantee: str
) -> None:
    topic, app = name("clicks"), name("visits")
    create_topics(Access(bootstrap), {topic: PARTITIONS}, 3, {})
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "enable.idempotence": True})
    sent: Counter[str] = Counter()

    def send(count: int) -> None:
        for _ in range(count):
            key = f"user-{sent.total() % 97}"
            producer.produce(topic, b"click", key)
            sent[key] += 1
            producer.poll(0)

    file = tmp_path / "visits.py"
    file.write_text(APP.format(name=app, topic=topic, guarantee=guarantee))
    send(5_000)
    assert producer.flush(60) == 0
    run = ["streams", "run", f"{file}:app", "-b", bootstrap, "--state", str(tmp_path / "state")]
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen([sys.executable, "-m", "raftlog", *run], stdout=log, stderr=log)
        try:
            until("a commit", lambda: any(at > 0 for at in where(bootstrap, app, topic).values()))
            send(20_000)  # some of them before it stops, some after
        finally:
            worker.terminate()
            worker.wait(PATIENCE_S)
    send(5_000)
    assert producer.flush(60) == 0
    starts = where(bootstrap, app, topic)
    at_stop = sum(starts.values())
    assert 0 < at_stop < sent.total() and set(starts) == {str(number) for number in range(PARTITIONS)}
    found = spark.run(
        "goes_on.py",
        bootstrap,
        topic,
        json.dumps({topic: starts}),
        f"{app}-counts-changelog",
        tmp_path / "spark",
    )
    assert found["counts"] == sent
    for partition, (first, last, distinct, count) in found["read"].items():
        assert first == starts[partition] and distinct == count == last - first + 1
    assert sum(row[3] for row in found["read"].values()) == sent.total() - at_stop
