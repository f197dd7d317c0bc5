"""Whether the machine went on: what a slow machine makes late is not the cluster's doing.

Three things are watched all along a run, each by what it says itself. The clock: a thread that sleeps for a
moment, and wakes up late. The disk: a small sync of one's own, beside the brokers' data. The processors: how
long the loop of a broker could run and did not (Linux counts that, in /proc/PID/schedstat). Each standstill
is entered into the history as a Stall, and `chaos.goals` says what it is for.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from chaos.history import History, Stall

STEP_S: Final = 0.02
"""Between two looks at the clock."""
LATE_S: Final = 0.05
"""A thread that wakes up so late, or a broker that waits so long for a processor in WINDOW_S, is noted."""
WINDOW_S: Final = 0.2
SYNC_EVERY_S: Final = 0.25
SYNC_MAX_S: Final = 0.1
"""What a sync of a few bytes may take on a disk that is only busy."""
JOIN_S: Final = 10.0


class MachineWatch:
    """Two threads that enter when the machine stood still. `pids`: the brokers' processes, by id, as they are
    now. A context manager."""

    def __init__(self, history: History, folder: Path, pids: Callable[[], Mapping[int, int]]) -> None:
        self._history, self._pids = history, pids
        self._probe = folder / "machine-probe"
        self._delays: dict[int, float] = {}
        self._over = threading.Event()
        works = (self._watch_clock, self._watch_disk)
        self._threads = [threading.Thread(target=work, name="machine", daemon=True) for work in works]

    def __enter__(self) -> MachineWatch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(JOIN_S)

    def _watch_clock(self) -> None:
        looked = due = time.monotonic()
        while not self._over.is_set():
            due += STEP_S
            time.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            if now - due >= LATE_S:
                self._enter("clock", now - due)
                due = now
            if now - looked >= WINDOW_S:
                looked = now
                if (waited := self._waited()) >= LATE_S:
                    self._enter("processors", min(waited, WINDOW_S))

    def _waited(self) -> float:
        """For how long that broker waited for a processor that waited longest, since the last call."""
        delays = {pid: run_delay_s(pid) for pid in self._pids().values()}
        waited = [delay - self._delays[pid] for pid, delay in delays.items() if pid in self._delays]
        self._delays = delays
        return max(waited, default=0.0)

    def _watch_disk(self) -> None:
        with self._probe.open("wb", buffering=0) as file:
            while not self._over.wait(SYNC_EVERY_S):
                began = time.monotonic()
                os.pwrite(file.fileno(), b"probe", 0)
                os.fdatasync(file.fileno())
                took = time.monotonic() - began
                if took >= SYNC_MAX_S:
                    self._enter("disk", took)

    def _enter(self, what: str, seconds: float) -> None:
        """It stood still for so long, until now."""
        self._history.enter(Stall(client="machine", what=what), self._history.now() - seconds)


def run_delay_s(pid: int) -> float:
    """For how long the first thread of a process, which is a broker's loop, could run and had no processor; 0
    for a process that is gone, and where the system does not count that."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
