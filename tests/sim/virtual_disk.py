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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from raftlog.errors import DataDirBusy
from raftlog.storage.disk import Bytes

NAME_MAX: Final = 255
"""Bytes that a file's name may take (Linux)."""
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
    size = len(content)
    if size < position:
        content.extend(bytes(position - size))
    if data is None:
        del content[position:]
    elif size == position:
        content += data
    else:
        content[position : position + len(data)] = data


@dataclass(slots=True, eq=False)
class _Folder:
    """A folder's names, as the processes see them and as the disk holds them."""

    seen: dict[str, _Inode | _Folder] = field(default_factory=dict)
    kept: dict[str, _Inode | _Folder] = field(default_factory=dict)
    changes: list[dict[str, _Inode | _Folder | None]] = field(default_factory=list)
    """Names that changed together, and what they stand for since (None: nothing), not synced yet."""

    def change(self, names: dict[str, _Inode | _Folder | None]) -> None:
        self.changes.append(names)
        _rename(self.seen, names)


def _rename(names: dict[str, _Inode | _Folder], changes: dict[str, _Inode | _Folder | None]) -> None:
    for name, node in changes.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


@lru_cache(1000)
def _names(path: str) -> tuple[str, ...]:
    """The names along a path."""
    names = tuple(name for name in path.split("/") if name)
    if any(len(name.encode()) > NAME_MAX for name in names):
        raise OSError(errno.ENAMETOOLONG, "File name too long", path)
    return names


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
        self.on_operation: Callable[[str, str], None] | None = None
        """Called with an operation's name and path before it takes place: to stall, to count, to raise."""
        self._life = 0
        self._root = _Folder()
        self._faults: list[tuple[str, Callable[[str], bool], int]] = []
        self._locks: dict[str, VirtualFile] = {}

    # The Disk protocol.

    def open(self, path: str, *, create: bool = False) -> VirtualFile:
        folder, name = self._folder_of(path)
        if name not in folder.seen:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            self.begin("create", path)
            folder.change({name: _Inode()})
        return VirtualFile(self, path, self._inode(path))

    def exists(self, path: str) -> bool:
        return self._node(path) is not None

    def listdir(self, path: str) -> list[str]:
        return sorted(self._folder(path).seen)

    def mkdir(self, path: str) -> None:
        if self._node(path) is None:
            self.mkdir(os.path.dirname(path))
            self.begin("mkdir", path)
            folder, name = self._folder_of(path)
            folder.change({name: _Folder()})

    def rename(self, source: str, target: str) -> None:
        folder, name = self._folder_of(source)
        to, new_name = self._folder_of(target)
        if name not in folder.seen:
            raise FileNotFoundError(errno.ENOENT, "no such file", source)
        self.begin("rename", target)
        if to is folder:
            folder.change({name: None, new_name: folder.seen[name]})
        else:  # a power loss may take either: the name may be in both folders, or in none
            to.change({new_name: folder.seen[name]})
            folder.change({name: None})

    def unlink(self, path: str) -> None:
        folder, name = self._folder_of(path)
        self._inode(path)
        self.begin("unlink", path)
        folder.change({name: None})

    def rmtree(self, path: str) -> None:
        node = self._node(path)
        if isinstance(node, _Folder):
            for name in sorted(node.seen):
                self.rmtree(f"{path}/{name}")
        if node is not None:
            self.begin("unlink", path)
            folder, name = self._folder_of(path)
            folder.change({name: None})

    def sync_dir(self, path: str) -> None:
        folder = self._folder(path)
        self.begin("sync", path)
        self.syncs += 1
        for change in folder.changes:
            _rename(folder.kept, change)
        folder.changes.clear()

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

    def forget_faults(self) -> None:
        """Faults that were ordered and have not struck will not."""
        self._faults.clear()

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

    def put(self, path: str, content: bytes) -> None:
        """Replace a file's bytes, in the cache and on the disk, as restoring a copy does."""
        inode = self._inode(path)
        inode.changes.clear()
        inode.seen[:] = inode.kept[:] = content

    def content(self, path: str) -> bytes:
        """What a process reads now."""
        return bytes(self._inode(path).seen)

    def files(self, under: str = "/") -> list[str]:
        """The paths of all files in a folder and below."""
        return sorted(path for path, _ in self._walk(under))

    @property
    def used(self) -> int:
        """Bytes of all files that have a name."""
        return sum(len(inode.seen) for _, inode in self._walk("/"))

    def kill(self) -> None:
        """The process dies (kill -9): its handles and locks are gone, the cache stays."""
        self._life += 1
        self._locks.clear()
        self.crash_after = None
        self._faults.clear()

    def power_loss(self) -> None:
        """The machine dies: what was not synced is kept, torn or lost, as the generator says."""
        self.kill()
        self._settle_folder(self._root, self.rng.choice(("none", "all", "some", "some")))

    def _settle_folder(self, folder: _Folder, mood: str) -> None:
        count = {"none": 0, "all": len(folder.changes), "some": self.rng.randint(0, len(folder.changes))}[
            mood
        ]
        for names in folder.changes[:count]:  # names become durable in order, as in a journal
            _rename(folder.kept, names)
        folder.changes.clear()
        folder.seen = dict(folder.kept)
        for node in folder.kept.values():
            if isinstance(node, _Folder):
                self._settle_folder(node, mood)
            else:
                for change in node.changes:
                    self._settle(node.kept, change, mood)
                node.changes.clear()
                node.seen = bytearray(node.kept)

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
        if self.on_operation is not None:
            self.on_operation(operation, path)
        if self._faults:
            self._strike(operation, path)

    def _strike(self, operation: str, path: str) -> None:
        for number, (failing, where, code) in enumerate(self._faults):
            if failing == operation and where(path):
                del self._faults[number]
                raise OSError(code, os.strerror(code), path)

    def wrote(self, path: str, position: int) -> None:
        """A write that began at `position` has come through."""

    @property
    def life(self) -> int:
        """Which process's life this is; handles of an earlier one are dead."""
        return self._life

    def room(self) -> int:
        return 1 << 62 if self.capacity is None else max(0, self.capacity - self.used)

    def _node(self, path: str) -> _Inode | _Folder | None:
        node: _Inode | _Folder | None = self._root
        for name in _names(path):
            if type(node) is not _Folder:
                return None
            node = node.seen.get(name)
        return node

    def _folder(self, path: str) -> _Folder:
        node = self._node(path)
        if not isinstance(node, _Folder):
            raise FileNotFoundError(errno.ENOENT, "no such folder", path)
        return node

    def _folder_of(self, path: str) -> tuple[_Folder, str]:
        """The folder that holds the path's last name, and that name."""
        parent, _, name = path.rpartition("/")
        return self._folder(parent), name

    def _inode(self, path: str) -> _Inode:
        node = self._node(path)
        if not isinstance(node, _Inode):
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return node

    def _walk(self, path: str) -> Iterator[tuple[str, _Inode]]:
        for name, node in self._folder(path).seen.items():
            if isinstance(node, _Inode):
                yield f"{path.rstrip('/')}/{name}", node
            else:
                yield from self._walk(f"{path.rstrip('/')}/{name}")


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
        if self._is_closed or self._life != self._disk._life:
            raise OSError(errno.EBADF, "this handle is closed, or its process is dead", self._path)
        self._disk.begin(operation, self._path)

    def pread(self, size: int, position: int) -> bytes:
        self._begin("read")
        return bytes(self._inode.seen[position : position + size])

    def is_cached(self, size: int, position: int) -> bool:
        return True

    def pwritev(self, buffers: Sequence[Bytes], position: int) -> None:
        data = b"".join(buffers)
        inode, disk = self._inode, self._disk
        try:
            self._begin("write")
        except PowerLost:
            inode.changes.append(_Change(position, data))  # under way: some of it may arrive
            raise
        is_full = False
        if disk.capacity is not None:
            excess = position + len(data) - len(inode.seen) - disk.room()
            if excess > 0:
                is_full, data = True, data[: max(0, len(data) - excess)]
        inode.changes.append(_Change(position, data))
        _apply(inode.seen, position, data)
        disk.wrote(self._path, position)
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device", self._path)

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
            raise OSError(errno.ENOSPC, "No space left on device", self._path)
        self._begin("allocate")
        self._inode.changes.append(_Change(size, None))
        _apply(self._inode.seen, size, None)

    def fileno(self) -> int:
        raise io.UnsupportedOperation("a file in memory has no descriptor")

    def close(self) -> None:
        self._is_closed = True
