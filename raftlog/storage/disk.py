"""The only door to the file system, and what happens when it does not open.

Everything that storage reads or writes goes through `Disk` and `File`, so that the simulator can pass a
disk that loses, tears, flips and fills. This module knows paths and bytes, not what they mean.

Invariants: a failed write or sync is final. `Health` remembers the first one and refuses everything from
then on, since after a failed fsync the page cache may say one thing and the disk another, and a second
fsync would succeed without having written anything (PostgreSQL's fsyncgate, 2018). A name that the system
refuses to open is no failure of the disk: nothing was written, and it can be tried again (`FileRefused`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Protocol, TypeAlias

from raftlog.errors import DataDirBusy, DiskFailed, DiskFull, FileRefused

Bytes: TypeAlias = bytes | bytearray | memoryview

IOV_MAX: Final = 1024
"""Buffers that one pwritev takes (Linux)."""

NO_WAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)
PROBE_STEP: Final = 128 << 10
"""Bytes between two looks at whether they are in the page cache: what Linux reads ahead at once."""

SHORTAGES: Final = frozenset((errno.EMFILE, errno.ENFILE))
"""No descriptor is left, of the process's or of the system's."""
NOT_THE_DISKS: Final = SHORTAGES | {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}
"""Why a name is refused before anything is written. A sync of an open file answers none of them."""


class File(Protocol):
    """An open file. Every method but `close` may raise OSError. `close` is safe while a slice still
    refers to the file only in so far as nobody uses it: let go of the last reference instead."""

    def pread(self, size: int, position: int) -> bytes:
        """Up to `size` bytes from `position`; fewer only at the file's end."""
        ...

    def is_cached(self, size: int, position: int) -> bool:
        """Whether `pread` would not wait for the disk, as far as can be told."""
        ...

    def pwritev(self, buffers: Sequence[Bytes], position: int) -> None:
        """Write all the buffers, one behind the other, from `position` on; all of them or an error."""
        ...

    def fdatasync(self) -> None:
        """Return when everything written before the call is on the disk. Safe in a worker thread."""
        ...

    def truncate(self, size: int) -> None: ...

    def size(self) -> int: ...

    def allocate(self, size: int) -> None:
        """Reserve `size` bytes; the file is at least that long afterwards, zeros where nothing was."""
        ...

    def fileno(self) -> int:
        """The descriptor, for `os.sendfile`."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    """A file system. Methods raise OSError. A new name is durable after `sync_dir` of its folder."""

    def open(self, path: str, *, create: bool = False) -> File:
        """Open for reading and writing; with `create` it is made, empty, when it does not exist."""
        ...

    def exists(self, path: str) -> bool: ...

    def listdir(self, path: str) -> list[str]: ...

    def mkdir(self, path: str) -> None:
        """Make the folder and those above it; fine when it exists."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Atomic; replaces a target that is a file."""
        ...

    def unlink(self, path: str) -> None: ...

    def rmtree(self, path: str) -> None:
        """Remove the folder and everything in it; fine when it does not exist."""
        ...

    def sync_dir(self, path: str) -> None:
        """Make the names in the folder durable."""
        ...

    def lock(self, path: str) -> File:
        """Hold the file's exclusive lock until it is closed; raises DataDirBusy when another holds it."""
        ...


class _Counter:
    """Counts from any thread: a checkpoint's closes files, too."""

    def __init__(self) -> None:
        self.value = 0
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        with self._lock:
            self.value += number


class RealFile:
    """A `File` on a file descriptor that is closed with its last reference."""

    __slots__ = ("_fd",)

    _open: Final = _Counter()

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._open.add(1)

    def pread(self, size: int, position: int) -> bytes:
        data = os.pread(self._fd, size, position)
        if len(data) == size or not data:
            return data
        parts = [data]
        got = len(data)
        while got < size and (data := os.pread(self._fd, size - got, position + got)):
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def is_cached(self, size: int, position: int) -> bool:
        if not NO_WAIT:
            return True
        end = position + size
        try:
            for at in (*range(position, end, PROBE_STEP), end - 1):
                os.preadv(self._fd, (bytearray(1),), at, NO_WAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system that cannot tell; what is wrong with the file, `pread` says
        return True

    def pwritev(self, buffers: Sequence[Bytes], position: int) -> None:
        views = [memoryview(buffer) for buffer in buffers[IOV_MAX:]] if len(buffers) > IOV_MAX else []
        head = buffers[:IOV_MAX] if views else buffers
        written = os.pwritev(self._fd, head, position)
        expected = sum(map(len, head))
        if written == expected and not views:
            return
        self._pwritev_rest([memoryview(buffer) for buffer in head] + views, written, position)

    def _pwritev_rest(self, views: list[memoryview], written: int, position: int) -> None:
        """Go on after a short write, and through more buffers than one call takes."""
        start = 0
        while True:
            position += written
            while start < len(views) and written >= len(views[start]):
                written -= len(views[start])
                start += 1
            if start == len(views):
                return
            views[start] = views[start][written:]
            written = os.pwritev(self._fd, views[start : start + IOV_MAX], position)
            if written == 0:
                raise OSError(errno.EIO, "pwritev wrote nothing")

    def fdatasync(self) -> None:
        os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def allocate(self, size: int) -> None:
        try:
            os.posix_fallocate(self._fd, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            if self.size() < size:
                os.ftruncate(self._fd, size)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            self._open.add(-1)

    @classmethod
    def open_count(cls) -> int:
        """How many are open in this process."""
        return cls._open.value

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RealFile fd={self._fd}>"


FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
"""Records are nobody's business but the broker's own user's."""


class RealDisk:
    """The operating system's file system."""

    def open(self, path: str, *, create: bool = False) -> File:
        return RealFile(os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), FILE_MODE))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def mkdir(self, path: str) -> None:
        os.makedirs(path, FOLDER_MODE, exist_ok=True)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rmtree(self, path: str) -> None:
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            pass

    def sync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: str) -> File:
        file = self.open(path, create=True)
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise DataDirBusy(f"{path}: another process holds the lock of this data folder") from None
        return file


_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def refuse_if_not_the_disks(path: str, error: OSError) -> None:
    """Raise FileRefused where `error` says nothing of what is in the file: taken for damage, a file with the
    wrong owner would cost its log."""
    if error.errno in NOT_THE_DISKS:
        raise FileRefused(f"{path} cannot be opened: {error.strerror}") from error


class Health:
    """Whether the disk has kept its promises so far; one a store, shared by everything in it.

    Used as `with health:` around what writes or syncs: an OSError inside becomes DiskFailed and is
    remembered, and entering raises it again for ever. Only a file that the system does not open becomes
    FileRefused, and is not remembered. Safe from a worker thread.
    """

    __slots__ = ("failure",)

    def __init__(self) -> None:
        self.failure: DiskFailed | None = None

    def check(self) -> None:
        """Raise DiskFailed when a write or sync has failed before."""
        if self.failure is not None:
            raise type(self.failure)(*self.failure.args)

    def __enter__(self) -> None:
        if self.failure is not None:
            raise type(self.failure)(*self.failure.args)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            if self.failure is None:
                if error.errno in NOT_THE_DISKS:
                    raise FileRefused(f"a file could not be opened: {error}") from error
                if error.errno in _NO_ROOM:
                    self.failure = DiskFull(f"the disk is full ({error.strerror}): nothing more is written")
                else:
                    self.failure = DiskFailed(f"the disk failed ({error}): nothing is written any more")
            raise type(self.failure)(*self.failure.args) from error
