"""Finding the end of the write-ahead log, and telling a torn tail from damage.

A block that is not sound is one of two things. Nothing proves that it was synced: then the crash tore it,
nobody was told that it is durable, and the log ends before it. Or something that is only written after
its sync lies on the disk, a seal or a block with a higher sequence number: then it was acknowledged, and
the bytes are damaged (RELIABILITY.md §4, 24: a torn tail must not be mistaken for the end of the log).

Reads only; `resume` is what cuts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import cbor2
from crc32c import crc32c

from raftlog.errors import DamagedLog
from raftlog.storage.disk import Disk, File, Health
from raftlog.storage.wal import Wal, WalFile
from raftlog.storage.wal_format import (
    BLOCK_HEADER_SIZE,
    FLAG_CHECKPOINT,
    PAGE,
    BlockHeader,
    RecordHead,
    RecordKind,
    iter_records,
    pack_seal,
    read_block_header,
    read_seal,
)

REMEDY: Final = (
    "Restore it from a copy, or remove this broker's whole data folder and let it fetch its replicas anew "
    "under a new node id; `raftlog log verify` says what can be read"
)

_CHUNK: Final = 64 * PAGE


class BlockAt(NamedTuple):
    """A sound block header and where it was found."""

    header: BlockHeader
    file: File
    path: str
    position: int

    def body(self) -> memoryview | None:
        """The block's body, or None when it is not what was written."""
        data = self.file.pread(self.header.body_size, self.position + BLOCK_HEADER_SIZE)
        if len(data) != self.header.body_size or crc32c(data) != self.header.body_crc:
            return None
        return memoryview(data)


@dataclass(slots=True)
class WalScan:
    """What recovery found: the blocks to replay, oldest first, and the checkpoint they start from."""

    blocks: list[BlockAt]
    checkpoint: dict[str, object]
    files: list[WalFile]
    free: list[WalFile]

    def records(self) -> Iterator[tuple[int, RecordHead, memoryview]]:
        """(block's sequence number, head, payload) of every record to replay, in order."""
        for block in self.blocks:
            body = block.body()
            if body is None:  # it was sound a moment ago
                raise DamagedLog(f"{block.path}: block {block.header.sequence} reads differently now")
            for head, payload in iter_records(body, block.header.records):
                yield block.header.sequence, head, payload


def scan_headers(file: File, size: int, wal_id: int | None) -> Iterator[tuple[int, BlockHeader | None, int]]:
    """(position, block header, 0) or (position, None, seal's sequence number) of all sound ones of a file.

    Looks at every page but for the insides of sound blocks. That skips nothing: a file is overwritten from
    its beginning, so behind a block's header lie only its own bytes or newer blocks' garbage.
    """
    position = 0
    while position + BLOCK_HEADER_SIZE <= size:
        chunk = file.pread(min(_CHUNK, size - position), position)
        if not chunk:
            return
        at = 0
        while at < len(chunk):
            if chunk[at : at + 3] == b"rlw":
                header = read_block_header(chunk, at, wal_id)
                if header is not None:
                    yield position + at, header, 0
                    at += header.size
                    continue
                seal = read_seal(chunk, at, wal_id)
                if seal is not None:
                    yield position + at, None, seal
            at += PAGE
        position += at


def scan(disk: Disk, folder: str, wal_id: int) -> WalScan | None:
    """Read the whole log. None when it holds no block at all.

    Raises DamagedLog where acknowledged blocks are missing or not what was written.
    """
    blocks: dict[int, list[BlockAt]] = {}
    sealed = 0
    files: list[WalFile] = []
    for name in disk.listdir(folder):
        if not name.endswith(".wal"):
            continue
        path = f"{folder}/{name}"
        file = disk.open(path)
        wal_file = WalFile(path, file, file.size())
        files.append(wal_file)
        for position, header, seal in scan_headers(file, wal_file.size, wal_id):
            if header is None:
                sealed = max(sealed, seal)
            else:
                blocks.setdefault(header.sequence, []).append(BlockAt(header, file, path, position))
    if not blocks:
        if sealed:
            raise DamagedLog(f"{folder}: no block is left, although block {sealed} had been synced")
        return None
    proven = max(sealed, max(blocks) - 1)
    start, checkpoint = _latest_checkpoint(folder, blocks, proven)
    chain = _chain(folder, blocks, start, proven)
    if chain[-1].header.sequence < checkpoint.header.sequence:
        raise DamagedLog(f"{folder}: the blocks before checkpoint {checkpoint.header.sequence} are missing")
    return _arrange(chain, _checkpoint_of(checkpoint), files)


def _sound(candidates: list[BlockAt] | None) -> BlockAt | None:
    """The candidate whose body is what was written. There are two when one was torn at the beginning of a
    new file, and its number was used again in the file before."""
    return next((block for block in candidates or () if block.body() is not None), None)


def _checkpoint_of(block: BlockAt) -> dict[str, object]:
    body = block.body()
    assert body is not None
    for head, payload in iter_records(body, block.header.records):
        if head.kind == RecordKind.CHECKPOINT:
            checkpoint = cbor2.loads(payload)
            assert isinstance(checkpoint, dict)
            return checkpoint
    raise DamagedLog(f"{block.path}: block {block.header.sequence} does not hold its checkpoint")


def _latest_checkpoint(folder: str, blocks: dict[int, list[BlockAt]], proven: int) -> tuple[int, BlockAt]:
    """(sequence number that replay starts at, block of the checkpoint)."""
    flagged = [
        number for number, found in blocks.items() if any(at.header.flags & FLAG_CHECKPOINT for at in found)
    ]
    for number in sorted(flagged, reverse=True):
        block = _sound(blocks[number])
        if block is not None:
            start = _checkpoint_of(block)["start"]
            assert isinstance(start, int)
            return start, block
        if number <= proven:
            raise _damaged(folder, blocks, number, proven)
    raise DamagedLog(
        f"{folder}: no checkpoint is left in the write-ahead log, so its beginning is lost. {REMEDY}"
    )


def _chain(folder: str, blocks: dict[int, list[BlockAt]], start: int, proven: int) -> list[BlockAt]:
    """The sound blocks from `start` on without a gap; damage if something proves that there were more."""
    chain: list[BlockAt] = []
    number = start
    while (block := _sound(blocks.get(number))) is not None:
        chain.append(block)
        number += 1
    if number <= proven:
        raise _damaged(folder, blocks, number, proven)
    return chain


def _damaged(folder: str, blocks: dict[int, list[BlockAt]], number: int, proven: int) -> DamagedLog:
    where = ", ".join(f"{at.path} byte {at.position}" for at in blocks.get(number, ())) or folder
    return DamagedLog(
        f"{where}: block {number} of the write-ahead log is damaged or missing although it had been synced "
        f"(block {proven} proves it). What it holds was acknowledged, so it is not cut. {REMEDY}"
    )


def _arrange(chain: list[BlockAt], checkpoint: dict[str, object], files: list[WalFile]) -> WalScan:
    by_path = {file.path: file for file in files}
    used: list[WalFile] = []
    for block in chain:
        file = by_path[block.path]
        if not file.first_sequence:
            file.first_sequence = block.header.sequence
            used.append(file)
        file.last_sequence = block.header.sequence
    return WalScan(chain, checkpoint, used, [file for file in files if not file.first_sequence])


def resume(wal: Wal, scan: WalScan, disk: Disk, folder: str, health: Health, wal_id: int) -> None:
    """Cut the torn tail and let `wal` go on behind the last sound block. Blocking (syncs).

    What was read may be in the page cache only: the process that wrote it may have died before its sync, or
    on a failed one, after which the kernel takes the page for clean. So the last block is written once
    more; all others were synced before it was begun. The same goes for the name of a new file.
    """
    last = scan.blocks[-1]
    end = last.position + last.header.size
    body = last.body()
    if body is None:
        raise DamagedLog(f"{last.path}: block {last.header.sequence} reads differently now")
    header = last.file.pread(BLOCK_HEADER_SIZE, last.position)
    with health:
        last.file.pwritev([header, body], last.position)
        for file in scan.files:
            file.file.fdatasync()
        disk.sync_dir(folder)
        seal = pack_seal(wal_id, last.header.sequence)
        last.file.pwritev([seal, bytes(PAGE - len(seal))], end)
        last.file.fdatasync()
    wal.resume(scan.files, scan.free, end, last.header.sequence + 1)
