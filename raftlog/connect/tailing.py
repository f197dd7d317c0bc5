"""One file that grows and is rotated, as lines. Blocking, and without a clock: `now` comes in.

A file is known by its beginning, not by its name: its *fingerprint* is a hash of its first kilobyte, or of
as much as there is, and then the inode counts as well. So a rename is followed, also over a restart; a copy
is no new file; another file on a reused inode is one. A position is the offset behind a whole line.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from raftlog.connect.errors import ConnectError, PositionLost, Unavailable

HEAD_BYTES: Final = 1024
CHUNK_BYTES: Final = 256 << 10
BEFORE_MAX: Final = 1000
"""Rotated files that are remembered while patterns find them."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A file by its first `size` bytes."""

    size: int
    sha: str
    inode: int

    @classmethod
    def of(cls, head: bytes, inode: int) -> Fingerprint:
        """Of a file that begins so."""
        return cls(len(head), hashlib.sha256(head).hexdigest()[:24], inode)

    @classmethod
    def read(cls, given: Any) -> Fingerprint:
        """As `told` has written it. Raises PositionLost."""
        match given:
            case [int(size), str(sha), int(inode)]:
                return cls(size, sha, inode)
        raise PositionLost(f"{given!r} is no fingerprint of a file: [bytes, hash, inode]")

    @property
    def told(self) -> list[Any]:
        """As JSON."""
        return [self.size, self.sha, self.inode]

    def begins(self, head: bytes) -> bool:
        """Whether a file begins as this one did."""
        return len(head) >= self.size and Fingerprint.of(head[: self.size], 0).sha == self.sha

    def is_of(self, head: bytes, inode: int) -> bool:
        """Whether this is the file: it begins so, and has the inode."""
        return self.size > 0 and inode == self.inode and self.begins(head)

    def may_be_of(self, head: bytes, inode: int) -> bool:
        """Whether it is as far as bytes tell."""
        return self.size > 0 and self.begins(head)

    def is_copied_by(self, head: bytes, size: int) -> bool:
        """Whether a file is a copy of it: a short one must have not a byte more."""
        return self.size > 0 and self.begins(head) and (self.size >= HEAD_BYTES or size == self.size)


class Lines(NamedTuple):
    """Whole lines without their ends, and the position behind them."""

    lines: list[bytes]
    position: dict[str, Any]


def head_of(path: str) -> tuple[bytes, os.stat_result]:
    """The beginning of a file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, HEAD_BYTES, 0), os.fstat(descriptor)
    finally:
        os.close(descriptor)


class Tail:
    """A path, and the file that is read there."""

    def __init__(
        self,
        path: str,
        position: Any = None,
        *,
        at_end: bool = False,
        rotate_wait_s: float = 2.0,
        line_bytes_max: int = 1_000_000,
        is_known: Callable[[str, bytes, os.stat_result], bool] | None = None,
    ) -> None:
        """`position` is what the last lines came with; a bare `{"position": N}`, as Kafka Connect's file
        source has it, counts for the file that is at the path. `at_end` skips what a file has that was never
        read before. `is_known` says of a file that comes to the path whether another tail reads it, or did.
        Raises PositionLost for a position that is none."""
        self.path = path
        self._is_known = is_known
        self._lock = threading.Lock()
        self.before: list[Fingerprint] = []
        """Files that were read here before, and rotated away."""
        self.truncated = self.gone = 0
        self.is_deleted = False
        """Whether a file was left since it is deleted, and nothing was at the path."""
        self._wait_s = rotate_wait_s
        self._line_bytes_max = line_bytes_max
        self._at_end = at_end
        self._is_skipped = False
        self._offset = 0
        self._print: Fingerprint | None = None
        self._file: int | None = None
        self._left_at: float | None = None
        if position is not None:
            offset = position.get("position")
            if type(offset) is not int or offset < 0:
                raise PositionLost(f"{path}: the position {position} has no offset: it is another's")
            self._at_end = False
            self._offset = offset
            if "fingerprint" in position:
                self._print = Fingerprint.read(position["fingerprint"])
            self.before = [Fingerprint.read(each) for each in position.get("before", ())]

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Of the file that is read."""
        return self._print

    def forget(self, gone: Collection[Fingerprint]) -> None:
        """These are nowhere any more. Called from another thread than the rest."""
        with self._lock:
            self.before = [each for each in self.before if each not in gone]

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read(self, now: float) -> Lines | None:
        """The next lines; None while there are none. Raises Unavailable when the file cannot be read, and
        ConnectError for a line that is too long."""
        try:
            if self._file is None and not self._find():
                return None
            if self._is_skipped:
                self._is_skipped = False
                return self._lines([], 0)
            return self._read_on(now)
        except OSError as error:
            self.close()
            raise Unavailable(f"{self.path}: {error.strerror}") from error

    # -- which file

    def _find(self) -> bool:
        """Open the file that is to be read: the one that was, wherever it is now, or the path's."""
        if self._print is not None:
            beside = self._beside()
            if any(self._open(path, self._print.is_of) for path in (self.path, *beside)):
                return True
            # No file is it for sure: a copy has another inode, and so has what was restored.
            name = os.path.basename(self.path)
            copies = [path for path in beside if os.path.basename(path).startswith(name)]
            if any(self._open(path, self._print.may_be_of) for path in (*copies, self.path)):
                return True
            if not os.path.exists(self.path):
                return False  # between two steps of a rotation, perhaps
            # Cut short in its place, or gone with what was not read.
            if os.stat(self.path).st_ino == self._print.inode:
                self.truncated += 1
            else:
                self.gone += 1
            self._begin_anew()
        return self._open(self.path, None)

    def _beside(self) -> list[str]:
        """Files in the folder that may be the one that is looked for, by their inode, or since their names
        begin with its name; the newest first."""
        assert self._print is not None
        folder, name = os.path.split(self.path)
        try:
            with os.scandir(folder or ".") as entries:
                found = [
                    entry
                    for entry in entries
                    if (entry.name.startswith(name) or entry.inode() == self._print.inode)
                    and entry.name != name
                    and entry.is_file()
                ]
                return [entry.path for entry in sorted(found, key=lambda entry: -entry.stat().st_mtime)]
        except OSError:
            return []

    def _open(self, path: str, is_it: Callable[[bytes, int], bool] | None) -> bool:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            stat = os.fstat(file)
            head = os.pread(file, HEAD_BYTES, 0)
            if is_it is None:
                fits = self._is_known is None or not self._is_known(self.path, head, stat)
            else:
                fits = stat.st_size >= self._offset and is_it(head, stat.st_ino)
            if not fits:
                os.close(file)
                return False
            if is_it is None:
                if self._offset > stat.st_size:
                    raise PositionLost(
                        f"{path} has {stat.st_size} bytes, and reading goes on at {self._offset}: "
                        "it is not the file that was read"
                    )
                if self._at_end:
                    self._offset = self._line_start(file, stat.st_size)
                    self._is_skipped = True  # told at once: what comes from now on is not skipped
                self._print = Fingerprint.of(head, stat.st_ino)
        except BaseException:
            os.close(file)
            raise
        self._at_end = False
        self._file, self._left_at = file, None
        return True

    @staticmethod
    def _line_start(file: int, size: int) -> int:
        """Where the last line begins that is not whole."""
        while size > 0:
            begin = max(0, size - CHUNK_BYTES)
            at = os.pread(file, size - begin, begin).rfind(b"\n")
            if at >= 0:
                return begin + at + 1
            size = begin
        return 0

    def _begin_anew(self) -> None:
        """The next file at the path is read from its start."""
        if self._print is not None and self._print.size:
            with self._lock:
                self.before = [*self.before, self._print][-BEFORE_MAX:]
        self.close()
        self._offset, self._print, self._left_at = 0, None, None

    # -- its lines

    def _read_on(self, now: float) -> Lines | None:
        assert self._file is not None and self._print is not None
        data = os.pread(self._file, CHUNK_BYTES, self._offset)
        if len(data) == CHUNK_BYTES <= self._line_bytes_max and b"\n" not in data:
            data = os.pread(self._file, self._line_bytes_max + 1, self._offset)
        # Looked at after the read: what was read is this file's, or is not used.
        stat, head = os.fstat(self._file), os.pread(self._file, HEAD_BYTES, 0)
        if stat.st_size < self._offset + len(data) or not self._print.begins(head):
            self.close()  # cut short in its place; what was not read may be in a copy
            return None
        if self._print.size < HEAD_BYTES and len(head) > self._print.size:
            self._print = Fingerprint.of(head, stat.st_ino)
        end = data.rfind(b"\n") + 1
        if end:
            self._left_at = None
            lines = data[: end - 1].split(b"\n")
            if max(map(len, lines)) > self._line_bytes_max:
                self._too_long()
            return self._lines(lines, end)
        if len(data) > self._line_bytes_max:
            self._too_long()
        return self._wait_or_leave(data, stat, now)

    def _lines(self, lines: list[bytes], size: int) -> Lines:
        self._offset += size
        return Lines([line.removesuffix(b"\r") for line in lines], self._told())

    def _told(self) -> dict[str, Any]:
        position: dict[str, Any] = {"position": self._offset}
        if self._print is not None:
            position["fingerprint"] = self._print.told
        if self.before:
            position["before"] = [each.told for each in self.before]
        return position

    def _wait_or_leave(self, rest: bytes, stat: os.stat_result, now: float) -> Lines | None:
        """There is no whole line. When the path has another file, or this one is deleted, it is left after a
        while."""
        is_deleted = False
        try:
            is_there = os.stat(self.path).st_ino == stat.st_ino
        except FileNotFoundError:
            if stat.st_nlink:
                return None  # the next file is not there yet; this one may still grow
            is_there, is_deleted = False, True  # open, it would keep its room on the disk
        if is_there:
            self._left_at = None
            return None
        if self._left_at is None:
            self._left_at = now
        if now - self._left_at < self._wait_s:
            return None
        if rest:  # nobody will end this line
            return self._lines([rest], len(rest))
        if is_deleted and self._print is not None:
            self._print = replace(self._print, inode=0)  # the next file may get its inode
        self._begin_anew()
        if is_deleted:
            self.is_deleted = True
            return Lines([], self._told())
        return None

    def _too_long(self) -> None:
        raise ConnectError(
            f"{self.path}: the line at byte {self._offset} or behind it has more than {self._line_bytes_max} "
            "bytes: set line_bytes_max higher, and max.message.bytes of the topic"
        )

    def __repr__(self) -> str:
        return f"<Tail {self.path} at {self._offset}>"
