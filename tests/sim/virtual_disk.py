"""A disk in memory that fails the way disks do, deterministically.

It keeps what was written apart from what was synced. A power loss takes away of the rest what the random
generator says: whole writes, sectors of a write, the end of a file, names that no `sync_dir` made durable.
A dead process (`kill`) loses nothing. A sync that fails leaves its pages in the cache, where they are read
back for as long as the power stays on, and never reaches the disk with them (PostgreSQL's fsyncgate).

Faults are ordered with `fail_next`, `capacity`, `flip_bit`, `cut`, `on_operation`. `crash_after` stops the
world at the n-th operation, which is how crash points are enumerated. It implements
`raftlog.storage.disk.Disk` and knows nothing of what the bytes mean.
"""

from __future__ import annotations

import errno
import io
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from raftlog.errors import DataDirBusy
from raftlog.storage.disk import Bytes

SECTOR: Final = 512
"""Bytes that a disk writes as a whole or not at all."""


class PowerLost(BaseException):
    """The machine died in the middle of an operation. Nobody handles it, as nobody would."""


@dataclass(slots=True)
class _Change:
    """A write, or with `data` None a change of size, that is not synced yet."""

    position: int
    data: bytes | None


@dataclass(slots=True, eq=False)
class _Inode:
    """A file's bytes, as the processes see them and as the disk holds them."""

    seen: bytearray = field(default_factory=bytearray)
    kept: bytearray = field(default_factory=bytearray)
    changes: list[_Change] = field(default_factory=list)


def _apply(content: bytearray, position: int, data: bytes | None) -> None:
    """Write `data` at `position`, zeros before it where nothing was; None: set the size."""
    if len(content) < position:
        content.extend(bytes(position - len(content)))
    if data is None:
        del content[position:]
    else:
        content[position : position + len(data)] = data


_Names = dict[str, "_Inode | None"]
"""Path to file; None is a folder."""

_NameChange = list[tuple[str, "_Inode | str | None"]]
"""Names that change together, and what they name then; a string: nothing any more."""


class VirtualDisk:
    """See the module. `rng` decides what a power loss takes; `capacity` is in bytes."""

    def __init__(self, rng: random.Random, *, capacity: int | None = None) -> None:
        self.rng = rng
        self.capacity = capacity
        self.operations = 0
        """Everything that changes something or syncs, counted."""
        self.syncs = 0
        self.crash_after: int | None = None
        """Raise PowerLost when so many operations are done."""
        self.on_operation: Callable[[str, str], None] = lambda operation, path: None
        """Called with an operation's name and path before it takes place: to stall, to count, to raise."""
        self._life = 0
        self._seen: _Names = {"/": None}
        self._kept: _Names = {"/": None}
        self._unsynced_names: dict[str, list[_NameChange]] = {}
        self._faults: list[tuple[str, Callable[[str], bool], int]] = []
        self._locks: dict[str, VirtualFile] = {}

    # The Disk protocol.

    def open(self, path: str, *, create: bool = False) -> VirtualFile:
        if path not in self._seen:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            self._require_folder(path)
            self.begin("create", path)
            self._name(path, _Inode())
        inode = self._seen[path]
        if inode is None:
            raise IsADirectoryError(errno.EISDIR, "a folder", path)
        return VirtualFile(self, path, inode)

    def exists(self, path: str) -> bool:
        return path in self._seen

    def listdir(self, path: str) -> list[str]:
        if self._seen.get(path, path) is not None:
            raise FileNotFoundError(errno.ENOENT, "no such folder", path)
        return sorted(os.path.basename(name) for name in self._seen if _folder(name) == path and name != "/")

    def mkdir(self, path: str) -> None:
        missing = []
        while path not in self._seen:
            missing.append(path)
            path = _folder(path)
        for folder in reversed(missing):
            self.begin("mkdir", folder)
            self._name(folder, None)

    def rename(self, source: str, target: str) -> None:
        assert _folder(source) == _folder(target), "within a folder only"
        if source not in self._seen:
            raise FileNotFoundError(errno.ENOENT, "no such file", source)
        self.begin("rename", target)
        inode = self._seen.pop(source)
        self._seen[target] = inode
        self._log_names(target, [(source, "gone"), (target, inode)])

    def unlink(self, path: str) -> None:
        if self._seen.get(path) is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        self.begin("unlink", path)
        del self._seen[path]
        self._log_names(path, [(path, "gone")])

    def rmtree(self, path: str) -> None:
        for name in sorted((name for name in self._seen if _is_in(name, path)), reverse=True):
            self.begin("unlink", name)
            del self._seen[name]
            self._log_names(name, [(name, "gone")])

    def sync_dir(self, path: str) -> None:
        if self._seen.get(path, path) is not None:
            raise FileNotFoundError(errno.ENOENT, "no such folder", path)
        self.begin("sync", path)
        self.syncs += 1
        for change in self._unsynced_names.pop(path, []):
            self._keep_names(change)

    def lock(self, path: str) -> VirtualFile:
        held = self._locks.get(path)
        if held is not None and held.is_open:
            raise DataDirBusy(f"{path}: another process holds the lock of this data folder")
        file = self._locks[path] = self.open(path, create=True)
        return file

    # Faults.

    def fail_next(
        self, operation: str, *, where: Callable[[str], bool] = lambda path: True, code: int = errno.EIO
    ) -> None:
        """The next `operation` (write, sync, read, create, rename, …) on a path that `where` accepts raises
        OSError(code), once."""
        self._faults.append((operation, where, code))

    def flip_bit(self, path: str, bit: int) -> None:
        """Bit rot: turn bit number `bit` of the file over, in the cache and on the disk."""
        inode = self._inode(path)
        for content in (inode.seen, inode.kept):
            if bit // 8 < len(content):
                content[bit // 8] ^= 1 << bit % 8

    def cut(self, path: str, size: int) -> None:
        """Lose the end of a file, in the cache and on the disk."""
        inode = self._inode(path)
        inode.changes.clear()
        del inode.seen[size:], inode.kept[size:]

    def content(self, path: str) -> bytes:
        """What a process reads now."""
        return bytes(self._inode(path).seen)

    def files(self, under: str = "/") -> list[str]:
        """The paths of all files in a folder and below."""
        return sorted(name for name, inode in self._seen.items() if inode is not None and _is_in(name, under))

    @property
    def used(self) -> int:
        """Bytes of all files that have a name."""
        return sum(len(inode.seen) for inode in self._seen.values() if inode is not None)

    def kill(self) -> None:
        """The process dies (kill -9): its handles and locks are gone, the cache stays."""
        self._life += 1
        self._locks.clear()
        self.crash_after = None
        self._faults.clear()

    def power_loss(self) -> None:
        """The machine dies: what was not synced is kept, torn or lost, as the generator says."""
        self.kill()
        mood = self.rng.choice(("none", "all", "some", "some"))
        for folder in list(self._unsynced_names):
            names = self._unsynced_names.pop(folder)
            count = {"none": 0, "all": len(names), "some": self.rng.randint(0, len(names))}[mood]
            for name_change in names[:count]:  # names become durable in order, as in a journal
                self._keep_names(name_change)
        inodes = {id(inode): inode for inode in (*self._seen.values(), *self._kept.values()) if inode}
        for inode in inodes.values():
            for change in inode.changes:
                self._settle(inode.kept, change, mood)
            inode.changes.clear()
            inode.seen = bytearray(inode.kept)
        self._kept = {name: inode for name, inode in self._kept.items() if self._is_reachable(name)}
        self._seen = dict(self._kept)

    def _settle(self, kept: bytearray, change: _Change, mood: str) -> None:
        """Let the disk keep of one change what the mood allows."""
        fate = self.rng.choice(("kept", "lost", "sectors", "beginning")) if mood == "some" else mood
        if fate in ("kept", "all"):
            _apply(kept, change.position, change.data)
        elif fate == "sectors" and change.data is not None:
            at = 0
            while at < len(change.data):
                size = min(SECTOR - (change.position + at) % SECTOR, len(change.data) - at)
                if self.rng.random() < 0.5:
                    _apply(kept, change.position + at, change.data[at : at + size])
                at += size
        elif fate == "beginning" and change.data is not None:
            _apply(kept, change.position, change.data[: self.rng.randint(0, len(change.data))])

    # What files and the methods above share.

    def begin(self, operation: str, path: str) -> None:
        """An operation begins: count it, and let it fail if it is to."""
        if self.crash_after is not None and self.operations >= self.crash_after:
            raise PowerLost(f"at operation {self.operations}: {operation} {path}")
        if operation != "read":
            self.operations += 1
        self.on_operation(operation, path)
        for number, (failing, where, code) in enumerate(self._faults):
            if failing == operation and where(path):
                del self._faults[number]
                raise OSError(code, os.strerror(code), path)

    @property
    def life(self) -> int:
        """Which process's life this is; handles of an earlier one are dead."""
        return self._life

    def room(self) -> int:
        return 1 << 62 if self.capacity is None else max(0, self.capacity - self.used)

    def _inode(self, path: str) -> _Inode:
        inode = self._seen[path]
        assert inode is not None, f"{path} is a folder"
        return inode

    def _require_folder(self, path: str) -> None:
        if self._seen.get(_folder(path), path) is not None:
            raise FileNotFoundError(errno.ENOENT, "no such folder", _folder(path))

    def _name(self, path: str, inode: _Inode | None) -> None:
        self._seen[path] = inode
        self._log_names(path, [(path, inode)])

    def _log_names(self, path: str, change: _NameChange) -> None:
        self._unsynced_names.setdefault(_folder(path), []).append(change)

    def _keep_names(self, change: _NameChange) -> None:
        for name, inode in change:
            if isinstance(inode, str):
                self._kept.pop(name, None)
            else:
                self._kept[name] = inode

    def _is_reachable(self, name: str) -> bool:
        """Whether all folders above are on the disk, too."""
        while name != "/":
            name = _folder(name)
            if name not in self._kept:
                return False
        return True


class VirtualFile:
    """An open file of a VirtualDisk; see raftlog.storage.disk.File."""

    def __init__(self, disk: VirtualDisk, path: str, inode: _Inode) -> None:
        self._disk, self._path, self._inode = disk, path, inode
        self._life = disk.life
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<VirtualFile {self._path} size={len(self._inode.seen)} unsynced={len(self._inode.changes)}>"

    @property
    def is_open(self) -> bool:
        return not self._is_closed and self._life == self._disk.life

    def _begin(self, operation: str) -> None:
        if not self.is_open:
            raise OSError(errno.EBADF, "this handle is closed, or its process is dead", self._path)
        self._disk.begin(operation, self._path)

    def pread(self, size: int, position: int) -> bytes:
        self._begin("read")
        return bytes(self._inode.seen[position : position + size])

    def pwritev(self, buffers: Sequence[Bytes], position: int) -> None:
        data = b"".join(buffers)
        inode, disk = self._inode, self._disk
        try:
            self._begin("write")
        except PowerLost:
            inode.changes.append(_Change(position, data))  # under way: some of it may arrive
            raise
        growth = position + len(data) - len(inode.seen)
        room = disk.room()
        if growth > room:
            data = data[: max(0, len(data) - (growth - room))]
        inode.changes.append(_Change(position, data))
        _apply(inode.seen, position, data)
        if growth > room:
            raise OSError(errno.ENOSPC, "no space left on device", self._path)

    def fdatasync(self) -> None:
        inode = self._inode
        try:
            self._begin("sync")
        except OSError:
            inode.changes.clear()  # the cache calls them clean now, and the disk never saw them
            raise
        self._disk.syncs += 1
        for change in inode.changes:
            _apply(inode.kept, change.position, change.data)
        inode.changes.clear()

    def truncate(self, size: int) -> None:
        self._begin("truncate")
        self._inode.changes.append(_Change(size, None))
        _apply(self._inode.seen, size, None)

    def size(self) -> int:
        return len(self._inode.seen)

    def allocate(self, size: int) -> None:
        if size <= len(self._inode.seen):
            return
        if size - len(self._inode.seen) > self._disk.room():
            raise OSError(errno.ENOSPC, "no space left on device", self._path)
        self._begin("allocate")
        self._inode.changes.append(_Change(size, None))
        _apply(self._inode.seen, size, None)

    def fileno(self) -> int:
        raise io.UnsupportedOperation("a file in memory has no descriptor")

    def close(self) -> None:
        self._is_closed = True


def _folder(path: str) -> str:
    return os.path.dirname(path) or "/"


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
