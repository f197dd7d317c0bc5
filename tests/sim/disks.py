"""The disks of a simulation: how long they take, and what of the write-ahead log is durable on them."""

from __future__ import annotations

import random
from typing import Final

from tests.sim.virtual_disk import VirtualDisk

ROOT: Final = "/data"
WAL: Final = f"{ROOT}/wal/"


class SimDisk(VirtualDisk):
    """A virtual disk that remembers which writes of the write-ahead log a sync has covered.

    That is what the invariants about durability rest on: not on what the store believes.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.is_observed = False
        """The simulation itself reads: no fault strikes, nothing is counted."""
        self.was_spotted = False
        """Whether bits of records have been turned over, ever."""
        self._spots: list[tuple[str, int, int]] = []
        """Where bits have been turned over in segments, and the byte that was there."""
        self.wal_writes: dict[str, int] = {}
        self.wal_synced: dict[str, int] = {}
        self.last_wal_write = ""
        self.last_wal_position = 0
        self._last_synced = ("", 0)

    def begin(self, operation: str, path: str) -> None:
        if self.is_observed:
            return
        super().begin(operation, path)  # may raise: then it is not counted
        if operation == "read" or not path.startswith(WAL):
            return
        if operation == "write":
            self.wal_writes[path] = self.wal_writes.get(path, 0) + 1
            self.last_wal_write = path
        elif operation == "sync":
            self.wal_synced[path] = self.wal_writes.get(path, 0)
            if path == self.last_wal_write:
                self._last_synced = path, self.last_wal_position

    def wrote(self, path: str, position: int) -> None:
        if path.startswith(WAL):
            self.last_wal_position = position

    def spot(self, path: str, bit: int) -> None:
        """Turn over a bit of a segment, which the broker is to find and to repair."""
        self.was_spotted = True
        self._spots.append((path, bit // 8, self.content(path)[bit // 8]))
        self.flip_bit(path, bit)

    @property
    def is_spotted(self) -> bool:
        """Whether such bits are still as they should not be, or would be after a power loss: a repair that
        was not synced is lost with the power."""
        self._spots = [spot for spot in self._spots if self._is_spot(*spot)]
        return bool(self._spots)

    def _is_spot(self, path: str, position: int, byte: int) -> bool:
        if not self.exists(path):
            return False
        sound = b"", bytes([byte])
        inode = self._inode(path)
        return any(content[position : position + 1] not in sound for content in (inode.seen, inode.kept))

    def next_write(self, path: str) -> tuple[str, int]:
        """Names the write of a file of the log that comes next, for `is_durable`."""
        return path, self.wal_writes.get(path, 0) + 1

    def may_look_torn(self, path: str, position: int) -> bool:
        """Whether the byte lies in what the log wrote last, or in what it synced last: what was written since
        may be lost with the power. Nothing that came later proves then that it had been synced, so what is
        wrong there looks like a torn write and cannot be told from one."""
        ends = (self.last_wal_write, self.last_wal_position), self._last_synced
        return any(path == last and position >= start for last, start in ends)

    def is_durable(self, mark: tuple[str, int]) -> bool:
        """Whether a sync of the file has come after the write, and the file's name is durable too."""
        path, writes = mark
        if self.wal_synced.get(path, 0) < writes:
            return False
        folder, name = self._folder_of(path)
        return name in folder.kept
