"""The write-ahead log: what arrives in one turn goes out in one write and one sync.

It gathers records of all groups by reference, writes them as one block, and recycles its files; which
files may be recycled it is told. It does not know what the records mean.

Invariants: a block is written only after the one before it was synced, so that a sound later block (or a
seal) proves that an earlier one had been acknowledged. A file is reused only after the checkpoint that
makes it needless is itself synced. Files are overwritten where possible: their blocks on the disk exist
already, and syncing an overwrite is the cheapest sync there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from crc32c import crc32c

from raftlog.storage.disk import Bytes, Disk, File, Health
from raftlog.storage.entry import Entry
from raftlog.storage.wal_format import (
    BLOCK_HEADER_SIZE,
    FLAG_CHECKPOINT,
    PAGE,
    RecordKind,
    pack_block_header,
    pack_head,
    pack_seal,
    pages,
)
from raftlog.types import GroupKey

SPARE_FILES_MAX: Final = 3
"""Files kept for reuse; more than a checkpoint's worth would only take space."""

_ZEROS: Final = memoryview(bytes(PAGE))


@dataclass(slots=True)
class WalFile:
    """One file, and the sequence numbers of the blocks in it that count; none: it is free."""

    path: str
    file: File
    size: int
    first_sequence: int = 0
    last_sequence: int = 0


@dataclass(slots=True)
class WalBlock:
    """A block on its way to the disk."""

    file: WalFile
    sequence: int
    position: int
    seal_position: int
    new_name: bool
    buffers: Sequence[Bytes]
    """What is to be written; nothing once it was."""
    must_sync: tuple[WalFile, ...] = field(default=())
    """Files to sync even where the log is not synced every turn: a checkpoint rests on them."""


class Wal:
    """The log's writing end. `put` and `sync` anywhere, all else on the loop's thread."""

    def __init__(
        self, disk: Disk, folder: str, health: Health, wal_id: int, *, file_bytes: int, fsync: bool
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._health = health
        self._wal_id = wal_id
        self._file_bytes = pages(file_bytes)
        self._fsync = fsync
        self._files: list[WalFile] = []  # that hold what counts, oldest first; the last one is written to
        self._free: list[WalFile] = []
        self._surplus: list[WalFile] = []
        self._file_number = 0
        self._position = 0
        self._unsynced: dict[str, WalFile] = {}
        self.next_sequence = 1
        self.bytes_written = 0
        self.replaying = False
        """While true, what is added is dropped: it is in the log already."""
        self._heads = bytearray()
        self._payloads: list[Bytes] = []
        self._payload_bytes = 0
        self._count = 0
        self._flags = 0

    def resume(self, files: list[WalFile], free: list[WalFile], position: int, next_sequence: int) -> None:
        """Go on where recovery found the end: `files` hold what counts, oldest first, and the next block
        goes to `position` of the last of them."""
        self._files = files
        for spare in free:
            self._keep_or_remove(spare)
        self._position, self.next_sequence = position, next_sequence
        numbers = [int(file.path.rpartition("/")[2].partition(".")[0]) for file in files + free]
        self._file_number = max(numbers, default=0)

    @property
    def pending_count(self) -> int:
        """Records that wait for the next `write`."""
        return self._count

    @property
    def pending_bytes(self) -> int:
        return len(self._heads) + self._payload_bytes

    @property
    def file_count(self) -> int:
        return len(self._files) + len(self._free) + len(self._surplus)

    def add_entry(self, key: GroupKey, entry: Entry, commit: int) -> None:
        if self.replaying:
            return
        index, term, kind, payload, base_offset, next_offset = entry
        size = len(payload)
        self._heads += pack_head(
            RecordKind.ENTRY, kind, key, index, term, commit, base_offset, next_offset, size
        )
        if size:
            self._payloads.append(payload)
            self._payload_bytes += size
        self._count += 1

    def add(
        self,
        kind: RecordKind,
        key: GroupKey,
        *,
        index: int = 0,
        term: int = 0,
        commit: int = 0,
        offset: int = 0,
        payload: Bytes = b"",
    ) -> None:
        """Make a record other than an entry pending."""
        if self.replaying:
            return
        if kind is RecordKind.CHECKPOINT:
            self._flags |= FLAG_CHECKPOINT
        size = len(payload)
        self._heads += pack_head(kind, 0, key, index, term, commit, offset, offset, size)
        if size:
            self._payloads.append(payload)
            self._payload_bytes += size
        self._count += 1

    def write(self) -> WalBlock:
        """Make one block of everything pending. `sync` of it writes it, and is to return before the next."""
        heads, payloads = self._heads, self._payloads
        body_size = len(heads) + self._payload_bytes
        crc = crc32c(heads)
        for payload in payloads:
            crc = crc32c(payload, crc)
        sequence, flags = self.next_sequence, self._flags
        header = pack_block_header(self._wal_id, sequence, body_size, self._count, flags, crc)
        size = pages(BLOCK_HEADER_SIZE + body_size)
        padding = size - BLOCK_HEADER_SIZE - body_size
        with self._health:
            new_name = self._make_room(size)
        target, position = self._files[-1], self._position
        self._position += size
        self.bytes_written += size
        if not target.first_sequence:
            target.first_sequence = sequence
        target.last_sequence = sequence
        self.next_sequence += 1
        self._heads, self._payloads = bytearray(), []
        self._payload_bytes = self._count = self._flags = 0
        buffers = [header, heads, *payloads, _ZEROS[:padding]]
        block = WalBlock(target, sequence, position, self._position, new_name, buffers)
        if not self._fsync:
            self._unsynced[target.path] = target
            if flags & FLAG_CHECKPOINT:
                block.must_sync = tuple(self._unsynced.values())
                self._unsynced.clear()
        return block

    def _make_room(self, size: int) -> bool:
        """See that the last file has room for a block and its seal; True when a file was made for it."""
        if self._files and self._position + size + PAGE <= self._files[-1].size:
            return False
        for number, spare in enumerate(self._free):
            if size + PAGE <= spare.size:
                self._files.append(self._free.pop(number))
                self._position = 0
                return False
        path = f"{self._folder}/{self._file_number + 1:08d}.wal"
        file_size = max(self._file_bytes, size + PAGE)
        file = self._disk.open(path, create=True)
        file.allocate(file_size)
        self._file_number += 1
        self._position = 0
        self._files.append(WalFile(path, file, file_size))
        return True

    def put(self, block: WalBlock) -> None:
        """Write the block, if that was not done yet. Blocking, since a busy disk holds up who writes as well
        as who syncs; safe in a worker thread."""
        if block.buffers:
            with self._health:
                block.file.file.pwritev(block.buffers, block.position)
            block.buffers = ()

    def sync(self, block: WalBlock) -> None:
        """Write the block, and return when it is durable. Blocking; safe in a worker thread."""
        self.put(block)
        with self._health:
            if self._fsync:
                block.file.file.fdatasync()
                if block.new_name:
                    self._disk.sync_dir(self._folder)
                # Not synced itself: it is there to tell damage from a torn tail, and may be missing.
                block.file.file.pwritev([pack_seal(self._wal_id, block.sequence)], block.seal_position)
            elif block.must_sync:
                for file in block.must_sync:
                    file.file.fdatasync()
                self._disk.sync_dir(self._folder)

    def release_before(self, sequence: int) -> None:
        """Blocks below `sequence` are not needed any more: reuse or remove the files that hold no other."""
        while len(self._files) > 1 and self._files[0].last_sequence < sequence:
            file = self._files.pop(0)
            file.first_sequence = file.last_sequence = 0
            self._unsynced.pop(file.path, None)
            self._keep_or_remove(file)

    def _keep_or_remove(self, file: WalFile) -> None:
        """A file holds nothing that is needed: reuse it if it is as long as files are."""
        if file.size == self._file_bytes and len(self._free) < SPARE_FILES_MAX:
            self._free.append(file)
        else:
            self._surplus.append(file)

    def take_surplus(self) -> list[WalFile]:
        """Files to be closed and removed, which takes the file system long. The next checkpoint does that, in
        its thread; until then they take no more of the disk than they did."""
        surplus, self._surplus = self._surplus, []
        return surplus

    def close(self) -> None:
        """Blocking. After a failure of the disk nothing is removed; the next start does."""
        for file in self.take_surplus():
            file.file.close()
            if self._health.failure is None:
                with self._health:
                    self._disk.unlink(file.path)
        for file in self._files + self._free:
            file.file.close()
        self._files, self._free = [], []
