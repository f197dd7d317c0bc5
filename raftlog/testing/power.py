"""A disk that can lose its power: what was not synced can be taken back after a SIGKILL.

SIGKILL leaves the page cache alone, a power cut does not. So the disk of a broker process writes down, before
each change, what was there before, in a journal beside the data folder. A sync strikes out what it makes
durable. When the process is gone, `lose_power` undoes what is left, all of it or as chance has it: bytes
written, sizes, names that were made, moved or removed.

The journal is lines of JSON in the page cache, and needs no sync: the machine that runs the test stays on. A
sync counts from when it returned, for what was written before it began, as fdatasync(2) says.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from raftlog.storage.disk import FILE_MODE, Bytes, File, RealDisk, RealFile

JOURNAL: Final = "journal"
SECTOR: Final = 512
"""Bytes that a disk writes as one: a write that was under way may end between two of them."""


class PowerDisk(RealDisk):
    """Of one broker. `journal` is a folder on the file system of the data folder, and not in it. Every sync
    of a file takes `sync_delay` seconds longer, so that there is always something to lose."""

    def __init__(self, journal: Path, *, sync_delay: float = 0.0) -> None:
        journal.mkdir(parents=True, exist_ok=True)
        self.sync_delay = sync_delay
        self._folder = journal
        self._file = os.open(journal / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
        self._number = 0
        self._kept = 0
        self._pending: dict[int, int | str] = {}
        """By the number of each change that is not durable: the file or folder whose sync makes it so."""
        self._lock = threading.Lock()

    def note(self, **change: object) -> int:
        """Write a line before the change is made; its number."""
        with self._lock:
            self._number += 1
            self._pending[self._number] = change.get("file") or change["folder"]  # type: ignore[assignment]
            self._write({"n": self._number, **change})
            return self._number

    def note_synced(self, name: int | str, number: int) -> None:
        """A file or a folder is durable as it was when change `number` had been noted."""
        with self._lock:
            for durable in [n for n, owner in self._pending.items() if owner == name and n <= number]:
                del self._pending[durable]
            if self._pending:
                self._write({"synced": name, "to": number})
            else:
                os.ftruncate(self._file, 0)

    def _write(self, line: dict[str, object]) -> None:
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def open(self, path: str, *, create: bool = False) -> File:
        if create and not os.path.exists(path):
            self.note(did="made", path=path, folder=os.path.dirname(path))
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return _PowerFile(os.open(path, flags, FILE_MODE), self)

    def mkdir(self, path: str) -> None:
        missing = []
        while path and not os.path.exists(path):
            missing.append(path)
            path = os.path.dirname(path)
        for one in reversed(missing):
            self.note(did="made", path=one, folder=os.path.dirname(one))
            super().mkdir(one)

    def rename(self, source: str, target: str) -> None:
        kept = self._keep(target) if os.path.exists(target) else ""
        self.note(did="moved", path=target, source=source, kept=kept, folder=os.path.dirname(target))
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self.note(did="removed", path=path, kept=self._keep(path), folder=os.path.dirname(path))
        super().unlink(path)

    def rmtree(self, path: str) -> None:
        if os.path.exists(path):
            kept = self._place()
            self.note(did="removed", path=path, kept=kept, folder=os.path.dirname(path))
            os.rename(path, kept)

    def sync_dir(self, path: str) -> None:
        number = self._number
        super().sync_dir(path)
        self.note_synced(path, number)

    def _keep(self, path: str) -> str:
        """Another name for what is about to lose this one."""
        kept = self._place()
        os.link(path, kept)
        return kept

    def _place(self) -> str:
        with self._lock:
            self._kept += 1
            return str(self._folder / f"kept-{os.getpid()}-{self._kept}")


class _PowerFile(RealFile):
    __slots__ = ("_disk", "_id")

    def __init__(self, fd: int, disk: PowerDisk) -> None:
        super().__init__(fd)
        self._disk = disk
        self._id = os.fstat(fd).st_ino

    def pwritev(self, buffers: Sequence[Bytes], position: int) -> None:
        length = sum(map(len, buffers))
        before, size = _text(self.pread(length, position)), self.size()
        self._disk.note(did="wrote", file=self._id, at=position, before=before, size=size, bytes=length)
        super().pwritev(buffers, position)

    def truncate(self, size: int) -> None:
        before = _text(self.pread(max(0, self.size() - size), size))
        self._disk.note(did="cut", file=self._id, at=size, before=before, size=self.size())
        super().truncate(size)

    def allocate(self, size: int) -> None:
        self._disk.note(did="cut", file=self._id, at=self.size(), before="", size=self.size())
        super().allocate(size)

    def fdatasync(self) -> None:
        number = self._disk._number
        if self._disk.sync_delay:
            time.sleep(self._disk.sync_delay)
        super().fdatasync()
        self._disk.note_synced(self._id, number)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def lose_power(journal: Path, data_dir: Path, rng: random.Random | None = None) -> list[str]:
    """Undo what a process that has ended did not sync, and say what; the journal is empty afterwards.

    With `rng` a disk that had written some of it when the power went: of each write, any of its sectors may
    be there; of names, those that were changed first.
    """
    changes = _unsynced(journal / JOURNAL)
    names = [change for change in changes if change["did"] in ("made", "moved", "removed")]
    stays = rng.randint(0, len(names)) if rng is not None else 0
    kept = {change["n"] for change in names[:stays]}
    undone = [_undo(change, data_dir, rng) for change in reversed(changes) if change["n"] not in kept]
    for path in journal.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [one for one in undone if one]


def _unsynced(path: Path) -> list[dict[str, Any]]:
    """The changes that no sync covers, in order."""
    changes: dict[int, dict[str, Any]] = {}
    if not path.exists():
        return []
    for line in path.read_bytes().splitlines():
        try:
            change = json.loads(line)
        except ValueError:
            continue  # the process was killed while it wrote it, and before it made the change
        if "did" in change:
            changes[change["n"]] = change
            continue
        name = change["synced"]
        for number in [n for n, one in changes.items() if name in (one.get("file"), one.get("folder"))]:
            if number <= change["to"]:
                del changes[number]
    return [changes[number] for number in sorted(changes)]


def _undo(change: dict[str, Any], data_dir: Path, rng: random.Random | None) -> str:
    match change["did"]:
        case "made":
            path = Path(change["path"])
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            return f"{path.name} was not made"
        case "moved":
            target = Path(change["path"])
            if target.exists():
                os.rename(target, change["source"])
            if change["kept"]:
                os.link(change["kept"], target)
            return f"{target.name} was not replaced"
        case "removed":
            with contextlib.suppress(FileNotFoundError):
                os.rename(change["kept"], change["path"])
            return f"{Path(change['path']).name} was not removed"
        case _:
            return _undo_bytes(change, data_dir, rng)


def _undo_bytes(change: dict[str, Any], data_dir: Path, rng: random.Random | None) -> str:
    found = [path for path in data_dir.rglob("*") if path.is_file() and path.stat().st_ino == change["file"]]
    if not found:
        return ""  # the file itself is gone
    before, at = base64.b64decode(change["before"]), change["at"]
    with found[0].open("r+b") as file:
        if rng is None or change["did"] == "cut":
            file.seek(at)
            file.write(before)
            file.truncate(change["size"])
            return f"{change.get('bytes', 0)} bytes of {found[0].name} at {at}"
        lost, old = 0, before.ljust(change["bytes"], b"\0")
        for start in range(0, len(old), SECTOR):
            if rng.random() < 0.5:
                file.seek(at + start)
                lost += file.write(old[start : start + SECTOR])
        return f"{lost} of {change['bytes']} bytes of {found[0].name} at {at}"
