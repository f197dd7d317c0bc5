"""A distributed worker of Kafka Connect on three brokers, whose coordinator is killed five times.

Its configurations, offsets and states are in three topics of the cluster, and its source writes exactly once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from raftlog.testing.processes import ClusterProcesses
from tests.foreign.commands import JavaTools
from tests.foreign.kills import STOP_MAX_S, kill_coordinators, longest_stop
from tests.foreign.worker import GROUP, Worker

PAUSE_S: Final = 0.02


class File:
    """A file that grows by numbered lines, in a thread."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._path = path
        path.touch()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join()

    def _write(self) -> None:
        with self._path.open("a") as file:
            while not self._ending.is_set():
                file.write(f"line {self.count}\n")
                file.flush()
                self.count += 1
                time.sleep(PAUSE_S)


class Arrivals:
    """When another file has grown, in a thread."""

    def __init__(self, path: Path) -> None:
        self.moments: list[float] = []
        self._path = path
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        known = 0
        while not self._ending.wait(0.05):
            size = self._path.stat().st_size if self._path.exists() else 0
            if size > known:
                known = size
                self.moments.append(time.monotonic())


@pytest.fixture
def worker(apps: JavaTools, mortal: ClusterProcesses, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(apps, mortal.bootstrap, tmp_path)
    yield worker
    worker.program.stop()


@pytest.mark.slow
def test_each_line_arrives_once(
    worker: Worker, java: JavaTools, mortal: ClusterProcesses, tmp_path: Path
) -> None:
    source, sink = tmp_path / "source", tmp_path / "sink"
    connector = "org.apache.kafka.connect.file.FileStream"
    written, arrivals = File(source), Arrivals(sink)
    try:
        worker.configure(
            "source",
            {
                "connector.class": f"{connector}SourceConnector",
                "tasks.max": "1",
                "file": str(source),
                "topic": "lines",
                "topic.creation.default.partitions": "1",
                "topic.creation.default.replication.factor": "3",
            },
        )
        worker.configure(
            "sink",
            {
                "connector.class": f"{connector}SinkConnector",
                "tasks.max": "1",
                "file": str(sink),
                "topics": "lines",
                "consumer.override.isolation.level": "read_committed",
            },
        )
        worker.program.until("the first line", lambda: arrivals.moments)

        def goes_on(when: str) -> None:
            moment = time.monotonic()
            worker.program.until(f"lines {when}", lambda: arrivals.moments[-1] > moment)

        begun = len(arrivals.moments)
        kill_coordinators(mortal, GROUP, goes_on)
        moments = arrivals.moments[begun:]
        written.end()
        last = f"line {written.count - 1}\n"
        worker.program.until("the last line", lambda: sink.read_text().endswith(last))
        for name in ("source", "sink"):
            worker.must_run(name)
    finally:
        written.end()
        arrivals.end()
    lines = [f"line {number}" for number in range(written.count)]
    read = java(
        *("console-consumer", "--bootstrap-server", mortal.bootstrap, "--topic", "lines"),
        *("--isolation-level", "read_committed", "--from-beginning", "--timeout-ms", 5000),
        code=None,
    )
    assert [line for line in read.splitlines() if line.startswith("line ")] == lines, "each once, in order"
    assert set(sink.read_text().splitlines()) == set(lines), "a sink may write what it repeats twice"
    assert longest_stop(moments) < STOP_MAX_S
