"""An app of raftlog.streams that is stopped in the middle of its input, for others to go on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Producer

from chaos.access import Access
from chaos.workloads.workload import create_topics
from tests.foreign.commands import PATIENCE_S
from tests.waiting import until

PARTITIONS: Final = 4
APP: Final = """
from raftlog import streams as rs

app = rs.App({name!r}, commit_ms=100, guarantee={guarantee!r})
app.stream({topic!r}).count("counts")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The app, its input, what was sent there by keys, and where the app is, by partitions."""

    app: str
    topic: str
    sent: Counter[str]
    starts: dict[str, int]

    @property
    def changelog(self) -> str:
        """Where its counts are."""
        return f"{self.app}-counts-changelog"

    def assert_went_on(self, found: Mapping[str, Any]) -> None:
        """Whoever went on read each partition from where the app was to its end, each record once; and with
        what the app had counted each record is counted once."""
        assert found["counts"] == self.sent
        for partition, (first, last, distinct, count) in found["read"].items():
            assert first == self.starts[partition] and distinct == count == last - first + 1
        read = sum(row[3] for row in found["read"].values())
        assert read == self.sent.total() - sum(self.starts.values())


def where(bootstrap: str, app: str, topic: str) -> dict[str, int]:
    """Where an app is in a topic, as Spark is given it; nothing while it has committed nothing."""
    command = ["group", "describe", app, "--topic", topic, "--format", "spark", "--bootstrap", bootstrap]
    ended = subprocess.run(
        [sys.executable, "-m", "raftlog", *command], capture_output=True, text=True, timeout=PATIENCE_S
    )
    if "there is no group" in ended.stderr:
        return {}
    assert ended.returncode == 0, ended.stderr
    offsets: dict[str, dict[str, int]] = json.loads(ended.stdout)
    return offsets[topic]


def stopped(bootstrap: str, name: Callable[[str], str], folder: Path, guarantee: str) -> Stopped:
    """Run the app, and stop it while its input is still being written."""
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

    file = folder / "visits.py"
    file.write_text(APP.format(name=app, topic=topic, guarantee=guarantee))
    send(5_000)
    assert producer.flush(60) == 0
    run = ["streams", "run", f"{file}:app", "-b", bootstrap, "--state", str(folder / "state")]
    with (folder / "worker.log").open("wb") as log:
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
    assert 0 < sum(starts.values()) < sent.total()
    assert set(starts) == {str(number) for number in range(PARTITIONS)}
    return Stopped(app=app, topic=topic, sent=sent, starts=starts)
