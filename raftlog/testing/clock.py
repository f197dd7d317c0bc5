"""A wall clock that can be moved from outside while a process runs.

A file holds two floats: how many seconds the clock is away, which whoever moves it writes, and what the
process was last told, which the process writes. The monotonic clock is left alone, as the kernel leaves it
when somebody sets the time.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from typing import Final

AWAY: Final = struct.Struct("<d")
TOLD_AT: Final = 8
SIZE: Final = 16


def follow(path: Path) -> None:
    """Have `time.time` and `time.time_ns` of this process go by the file, for good."""
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), SIZE)
    real = time.time_ns

    def time_ns() -> int:
        now = real() + int(AWAY.unpack_from(memory)[0] * 1e9)
        AWAY.pack_into(memory, TOLD_AT, now / 1e9)
        return now

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


class Clock:
    """The clock of one process, from outside: by a file that is made here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(SIZE))

    def move(self, seconds: float) -> None:
        """So many seconds away from the real time, from the next look at the clock on."""
        with self.path.open("r+b") as file:
            file.write(AWAY.pack(seconds))

    def told(self) -> float:
        """What the process was last told; 0 before it has looked."""
        return float(AWAY.unpack_from(self.path.read_bytes(), TOLD_AT)[0])
