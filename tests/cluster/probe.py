"""What the machine does by itself while brokers are measured on it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Final

INTERVAL_S: Final = 0.1
BLOCK_BYTES: Final = 4096
FILE_BYTES: Final = 64 << 20
"""Written once from end to end, as the first files of a write-ahead log are."""


class Probe:
    """A thread that writes and syncs a block now and then. `syncs`: when each began, and how long it took.
    `delays`: when it should have been woken up, and how much later it was."""

    def __init__(self, path: Path) -> None:
        self.syncs: list[tuple[float, float]] = []
        self.delays: list[tuple[float, float]] = []
        self.stopping = threading.Event()
        self._path = path
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        os.posix_fallocate(file, 0, FILE_BYTES)
        position = 0
        try:
            due = time.monotonic() + INTERVAL_S
            while not self.stopping.wait(INTERVAL_S):
                began = time.monotonic()
                self.delays.append((due, began - due))
                os.pwrite(file, os.urandom(BLOCK_BYTES), position)
                position = (position + BLOCK_BYTES) % FILE_BYTES
                os.fdatasync(file)
                self.syncs.append((began, time.monotonic() - began))
                due = time.monotonic() + INTERVAL_S
        finally:
            os.close(file)
