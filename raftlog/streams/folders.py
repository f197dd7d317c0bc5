"""Where a worker keeps its state: `STATE/APP/WORKER/SUB-PARTITION/store.db`, with a lock beside it.

One process has a task's folder at a time. A file that is damaged is set aside, never removed: its owner may
want to know what it was.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterable
from typing import Final

from raftlog.streams.assign import Place
from raftlog.streams.database import Database
from raftlog.streams.errors import StateDamaged, StateError

log: Final = logging.getLogger("raftlog.streams")

_NAME: Final = re.compile(r"(0|[1-9][0-9]*)-(0|[1-9][0-9]*)")


def folder_of(state: str, place: Place) -> str:
    """A task's folder in that of its worker."""
    return os.path.join(state, f"{place[0]}-{place[1]}")


def place_of(name: str) -> Place | None:
    """The task whose folder has this name; None when it is none that `folder_of` gives."""
    found = _NAME.fullmatch(name)
    return found and (int(found[1]), int(found[2]))


class Folder:
    """A task's folder, locked."""

    def __init__(self, path: str) -> None:
        """Raises StateError when another process has it."""
        self.path = path
        os.makedirs(path, exist_ok=True)
        self._lock = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StateError(
                f"{path} is used by another worker of this machine: give each its own, with --state or --name"
            ) from None

    def open(self, stores: Iterable[str]) -> Database:
        """The task's rows; a damaged file is set aside, and a new one begun."""
        names = list(stores)
        path = os.path.join(self.path, "store.db")
        try:
            return Database(path, names)
        except StateDamaged as error:
            aside = f"{path}.bad-{int(time.time())}"
            for suffix in ("", "-wal", "-shm"):
                if os.path.exists(path + suffix):
                    os.rename(path + suffix, aside + suffix)
            log.error("%s; it is %s now, and the state is made again from the changelogs", error, aside)
            return Database(path, names)

    def close(self) -> None:
        """Let another have it."""
        os.close(self._lock)

    def __repr__(self) -> str:
        return f"<Folder {self.path}>"
