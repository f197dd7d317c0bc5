"""The disk of an embedded broker: the real one, until a test makes it slow or takes it away.

Taking it away is what makes a kill a kill: the process is still there, so the broker's last breaths have to
meet a disk that takes nothing any more. What was written before stays, as it does in the page cache when a
process dies.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from typing import Final

from raftlog.storage.disk import Bytes, File, RealDisk, RealFile

SYNC_DELAY_MAX_S: Final = 600.0
"""The slowest a disk can be made; a test that hangs should end one day."""


class FaultyDisk(RealDisk):
    """Safe from any thread."""

    def __init__(self) -> None:
        self._gone = ""
        self._sync_delay = 0.0
        self._changed = threading.Event()

    def slow_down(self, seconds: float) -> None:
        """Every sync takes so much longer from now on; 0 ends that, also for those that are waiting."""
        if not 0 <= seconds <= SYNC_DELAY_MAX_S:
            raise ValueError(f"a sync can take 0 to {SYNC_DELAY_MAX_S:g} s longer, not {seconds!r}")
        changed, self._changed = self._changed, threading.Event()
        self._sync_delay = seconds
        changed.set()

    def take_away(self, reason: str = "the disk was taken away") -> None:
        """Nothing is written or synced any more: every try raises OSError."""
        self._gone = reason
        self._changed.set()

    def check(self) -> None:
        """Raise OSError when the disk was taken away."""
        if self._gone:
            raise OSError(errno.EIO, self._gone)

    def wait(self) -> None:
        """As long as a sync takes longer."""
        if self._sync_delay:
            self._changed.wait(self._sync_delay)
        self.check()

    def open(self, path: str, *, create: bool = False) -> File:
        if create:
            self.check()
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return _FaultyFile(os.open(path, flags, 0o644), self)

    def rename(self, source: str, target: str) -> None:
        self.check()
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self.check()
        super().unlink(path)

    def rmtree(self, path: str) -> None:
        self.check()
        super().rmtree(path)

    def sync_dir(self, path: str) -> None:
        self.wait()
        super().sync_dir(path)


class _FaultyFile(RealFile):
    __slots__ = ("_disk",)

    def __init__(self, fd: int, disk: FaultyDisk) -> None:
        super().__init__(fd)
        self._disk = disk

    def pwritev(self, buffers: Sequence[Bytes], position: int) -> None:
        self._disk.check()
        super().pwritev(buffers, position)

    def fdatasync(self) -> None:
        self._disk.wait()
        super().fdatasync()

    def truncate(self, size: int) -> None:
        self._disk.check()
        super().truncate(size)
