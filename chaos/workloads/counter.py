"""A stream processing app that counts, exactly once: workers of `raftlog.streams` in processes of their own,
to be killed together with brokers. In the end each key's counts are 1, 2, … up to how many records it has."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from confluent_kafka import KafkaException

from chaos.access import Access
from chaos.faults.fault import Fault, NoEffect
from chaos.faults.processes import wait_state
from chaos.history import Counted, Outcome
from chaos.look import ends_of, read_committed
from chaos.workloads.consumers import ConfluentReader
from chaos.workloads.counter_app import CAN_BE_STOPPED, COUNTS, EVENTS, HASTY, NAMELESS
from chaos.workloads.producers import ConfluentProducer, TrioProducer
from chaos.workloads.worker import Worker
from chaos.workloads.workload import Site, Workload, create_topics
from raftlog.testing.security import client_properties

PARTITIONS: Final = 2
REPLICAS: Final = 3
WORKERS: Final = ("counter-a", "counter-b")
COUNTED_MAX_S: Final = 180.0
"""Until all is counted, once nobody produces any more: a dead worker's session and its transaction, and the
restore."""
STOP_MAX_S: Final = 30.0
LOOK_S: Final = 0.5
WOKEN_S: Final = 5.0
"""How long `wake` waits for the end of a worker that was woken. The worker hears at its next commit that
others have its tasks, and may end. On a slow machine the worker ends later; see `revive`."""
ERROR_LINES: Final = 3


class AppProcess:
    """One worker of the app, with a state folder that it keeps."""

    def __init__(self, access: Access, folder: Path, name: str, plant: str) -> None:
        self.name = name
        self.state = folder / name
        self._log = folder / f"{name}.log"
        self._command = [
            sys.executable,
            "-m",
            "chaos.workloads.counter_app",
            json.dumps(client_properties(access.bootstrap, access.security)),
            str(self.state),
            name,
        ]
        self._command += [plant] if plant else []
        self._log_at = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._has_slept = False

    def start(self) -> None:
        self._has_slept = False
        with self._log.open("ab") as log:
            self._log_at = log.tell()
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL. Raises NoEffect when it had ended before."""
        assert self._process is not None
        self._process.kill()
        if (code := self._process.wait()) != -signal.SIGKILL:
            raise NoEffect(f"{self.name} ended with {code} before it was killed: {self.said()}")

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """SIGSTOP. Raises NoEffect when the process has ended."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        wait_state(self, is_stopped=True)

    def wake(self) -> str:
        """SIGCONT. A worker whose transaction was ended for it meanwhile ends, too: then it is started again.
        Gives which of both it was. Raises NoEffect when the process did not stand still until now."""
        assert self._process is not None
        wait_state(self, is_stopped=True)
        self._process.send_signal(signal.SIGCONT)
        self._has_slept = True
        try:
            self._process.wait(WOKEN_S)
        except subprocess.TimeoutExpired:
            return "woke and went on"
        return f"woke, {self.revive()}"

    def revive(self) -> str:
        """Start the worker's process again if the process slept and has ended since. Gives what the worker
        said at its end; nothing when the process runs, or never slept."""
        assert self._process is not None
        if not self._has_slept or (code := self._process.poll()) is None:
            return ""
        said = self.said()
        self.start()
        return f"ended with {code} ({said}), started again"

    def stop(self) -> str:
        """SIGTERM, once the worker listens to it; what was wrong with how it ended, or nothing."""
        assert self._process is not None
        until = time.monotonic() + STOP_MAX_S
        while CAN_BE_STOPPED not in self._said_since_start() and self._process.poll() is None:
            if time.monotonic() > until:
                break
            time.sleep(LOOK_S)
        self._process.terminate()
        try:
            code = self._process.wait(STOP_MAX_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"does not end within {STOP_MAX_S:.0f} s of SIGTERM"
        return f"ended with {code}: {self.said()}" if code else ""

    def _said_since_start(self) -> str:
        return self._log.read_bytes()[self._log_at :].decode(errors="replace")

    def said(self) -> str:
        return " / ".join(self._log.read_text().splitlines()[-ERROR_LINES:])

    def __str__(self) -> str:
        return self.name


class KillWorkers(Fault):
    """SIGKILL for workers of the app, and a start of each, with its state or without."""

    kind = "kill worker"

    def __init__(self, victims: Sequence[AppProcess], *, empty: bool) -> None:
        names = ", ".join(one.name for one in victims)
        super().__init__(f"kill {names}{' and its state' if empty else ''}", [])
        self._victims, self._empty = victims, empty

    def begin(self) -> None:
        for one in self._victims:
            one.kill()
            if self._empty:
                shutil.rmtree(one.state, ignore_errors=True)

    def end(self) -> str:
        for one in self._victims:
            one.start()
        return "ended by SIGKILL, started again"


class PauseWorkers(Fault):
    """SIGSTOP for workers of the app, which find that their tasks are others' when they wake."""

    kind = "pause worker"

    def __init__(self, victims: Sequence[AppProcess]) -> None:
        super().__init__(f"pause {', '.join(one.name for one in victims)}", [])
        self._victims = victims

    def begin(self) -> None:
        for one in self._victims:
            one.pause()

    def end(self) -> str:
        return ", ".join(f"{one.name} {one.wake()}" for one in self._victims)


class CounterWorkload(Workload):
    topics: ClassVar = {EVENTS: PARTITIONS}
    producers: ClassVar = {"confluent": True, "trio": True}
    plant: ClassVar = ""
    """A bug of `counter_app` that its workers have."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        create_topics(site.access, {COUNTS: PARTITIONS}, REPLICAS, {})
        self._folder = Path(tempfile.mkdtemp(prefix="raftlog-counter-"))
        self.workers = [AppProcess(site.access, self._folder, name, self.plant) for name in WORKERS]

    def make_producers(self, site: Site) -> Sequence[Worker]:
        target = site.target(EVENTS)
        return (
            ConfluentProducer("confluent", target, site.rate / 2),
            TrioProducer("trio", target, site.rate / 2),
        )

    def make_others(self, site: Site) -> Sequence[Worker]:
        return (ConfluentReader("confluent-reader", site.target(EVENTS)),)

    def start(self) -> None:
        super().start()
        for one in self.workers:
            one.start()

    def stop(self) -> None:
        """Once all is counted, or after a while: what was counted is entered."""
        super().stop()
        history = self.site.history
        try:
            self._until_counted()
            for one in self.workers:
                one.revive()
                if wrong := one.stop():
                    history.note(one.name, wrong)
            self._enter()
        except KafkaException as error:
            unknown = history.begin(Counted(client="look", log=EVENTS, key=""))
            history.end(unknown, Outcome.UNKNOWN, str(error))
        finally:
            for one in self.workers:
                one.stop()
            shutil.rmtree(self._folder, ignore_errors=True)

    def progress(self) -> list[int]:
        """For each task that counts, a number that grows as it does. Raises KafkaException."""
        return ends_of(self.site.access, COUNTS, PARTITIONS)

    def _until_counted(self) -> None:
        access, deadline = self.site.access, time.monotonic() + COUNTED_MAX_S
        wanted = sum(ends_of(access, EVENTS, PARTITIONS))
        while len(read_committed(access, COUNTS, PARTITIONS)) < wanted and time.monotonic() < deadline:
            time.sleep(LOOK_S)

    def _enter(self) -> None:
        history = self.site.history
        counts: dict[str, list[int]] = defaultdict(list)
        for name, value in read_committed(self.site.access, COUNTS, PARTITIONS):
            counts[name.decode()].append(int(value))
        for key, each in sorted(counts.items()):
            entered = history.begin(Counted(client="look", log=EVENTS, key=key, counts=each))
            history.end(entered, Outcome.OK)


class HastyCounterWorkload(CounterWorkload):
    """With a bug: changes go to the disk when a commit begins."""

    plant: ClassVar = HASTY


class NamelessCounterWorkload(CounterWorkload):
    """With a bug: offsets are committed by whoever says so, a member of the group or not."""

    plant: ClassVar = NAMELESS
