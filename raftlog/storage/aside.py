"""What is written beside the logs, and is of no account until a log takes it over: the files of a pass of
compaction, and the folder of a log that is filled from another broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftlog.storage.disk import Disk, Health
from raftlog.storage.filling import Filling
from raftlog.storage.group_log import GroupLog
from raftlog.storage.meta import SCRATCH_NAME

TARGET: Final = "pass"


class Aside:
    """Of one store."""

    def __init__(
        self,
        disk: Disk,
        root: str,
        health: Health,
        index_interval_bytes: int,
        new_dirname: Callable[[str], str],
        remove_later: Callable[[str], None],
    ) -> None:
        self._disk = disk
        self._root = root
        self._health = health
        self._interval = index_interval_bytes
        self._new_dirname = new_dirname
        self._remove_later = remove_later

    def begin_pass(self, name: str) -> str:
        """What the paths of a pass begin with. `name` must be one that no pass had before, be it in an
        earlier life of the broker: the process of that one may still write. Blocking. Raises FileRefused,
        DiskFailed."""
        folder = f"{self._root}/{SCRATCH_NAME}/{name}"
        with self._health:
            self._disk.mkdir(folder)
        return f"{folder}/{TARGET}"

    def end_pass(self, name: str) -> None:
        """Remove what the pass has left. Blocking. Raises FileRefused, DiskFailed."""
        with self._health:
            self._disk.rmtree(f"{self._root}/{SCRATCH_NAME}/{name}")

    def new_folder(self, log: GroupLog) -> str:
        """The name of a folder for a log that is to take the place of `log`. Nothing is there yet."""
        return self._new_dirname(log.dirname)

    def fill(self, dirname: str, description: bytes) -> Filling:
        """Begin to. Blocking. Raises DamagedLog, OSError: a disk that is full here fails nothing else."""
        return Filling(self._disk, f"{self._root}/{dirname}", description, self._interval)

    def abandon(self, dirname: str) -> None:
        """What was filled there is of no use. It is removed later."""
        self._remove_later(dirname)
