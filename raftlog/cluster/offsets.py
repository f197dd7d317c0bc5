"""Offset commits on the coordinator: those that arrive together go out as one metadata entry.

An entry is small, so that no broker is long about applying it: a commit that is larger goes in several, and
is answered when the last of them is applied. Each partition's offset stands for itself, so that of a commit
that fails half-way a part may stay; the client commits again. Small commits, which are nearly all there are,
are encoded together when their entry is made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from raftlog.cluster.metadata_group import MetadataGroup, ProposalFailed
from raftlog.cluster.proposer import Proposer
from raftlog.metadata.noun import Refusal, Refused
from raftlog.metadata.offsets import (
    GroupCommit,
    OffsetsCommitted,
    encode_commit,
    encode_commits,
    join_commits,
)

ENTRY_BYTES: Final = 64 * 1024
"""Of commits in one entry, and a piece more: a thousand offsets, which take some milliseconds."""
PIECE_BYTES_MAX: Final = 512 * 1024
"""Of an encoded group with one offset or some; with what is in an entry already it fits a command."""
PIECE_OFFSETS: Final = 1000
"""Offsets of a commit that are encoded as one."""
SMALL_BYTES_MAX: Final = 4 * 1024
"""Of a commit that is not encoded by itself."""
OFFSET_BYTES: Final = 32
"""Of an offset beside its strings, at most; and of a group."""
ANSWERS_AT_ONCE: Final = 64
"""Commits that are answered before others have a turn: two milliseconds."""
MANY: Final = 8
SIZES_KEPT: Final = 4
GATHER_S: Final = 0.01
"""An entry costs three brokers some milliseconds of work, whatever is in it. So behind entries of MANY
commits and more the next waits until there are as many as the largest of the last SIZES_KEPT had, but no
longer than this since the one before was proposed. Who commits one after the other is back by then."""
COMMIT_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one commit. Kafka takes as much as the offsets topic takes in a batch: 1 MiB."""
WAITING_BYTES_MAX: Final = 32 * 1024 * 1024
WAITING_MAX: Final = 10_000
"""Commits that wait for the entry before, and their bytes; beyond either a commit is refused, and the client
tries again."""

CommitResult = OffsetsCommitted | Refused | ProposalFailed
OnCommitted = Callable[[CommitResult], None]


_ALL_STORED: Final = OffsetsCommitted()


class _Commit:
    """A commit on its way: how many of its pieces are not applied yet, and what they came to so far."""

    __slots__ = ("failure", "group", "left", "on_done", "unknown")

    def __init__(self, group: str, pieces: int, on_done: OnCommitted) -> None:
        self.group = group
        self.left = pieces
        self.on_done = on_done
        self.unknown: tuple[tuple[str, str, int], ...] = ()
        self.failure: Refused | ProposalFailed | None = None

    def piece_done(self, result: CommitResult) -> CommitResult | None:
        """What the commit came to, once this was its last piece."""
        if not isinstance(result, OffsetsCommitted):
            self.failure = result
        self.left -= 1
        if self.left:
            return None
        if self.failure is not None:
            return self.failure
        return OffsetsCommitted(self.unknown) if self.unknown else _ALL_STORED


_Piece = tuple[_Commit, GroupCommit | bytes, int]
"""What goes into one entry of a commit: the whole of a small one, or encoded; and its bytes, about."""


class OffsetCommits:
    """Collects commits while the entry before is on its way, and a little longer where they are many."""

    def __init__(self, metadata: MetadataGroup, proposer: Proposer) -> None:
        self._metadata = metadata
        self._proposer = proposer
        self._waiting: deque[_Piece] = deque()
        self._waiting_bytes = 0
        self._commits = 0
        self._wanted = 1
        self._enough = trio.Event()
        """Set while `_wanted` commits wait, or as many bytes as an entry takes."""

    def commit(self, commit: GroupCommit, on_done: OnCommitted) -> None:
        """Commit one group's offsets; `on_done` is called once they are on a majority of disks."""
        problem = self._problem(commit)
        if problem is not None:
            on_done(problem)
            return
        group, at_ms, offsets = commit
        size = OFFSET_BYTES + len(group)
        for topic, _, _, _, metadata in offsets:
            size += OFFSET_BYTES + len(topic) + len(metadata)
        pieces: list[bytes] = []
        if size > SMALL_BYTES_MAX:
            pieces = [
                encode_commit(GroupCommit(group, at_ms, offsets[first : first + count]))
                for first, count in _pieces(commit)
            ]
            size = sum(map(len, pieces))
            if size > COMMIT_BYTES_MAX or max(map(len, pieces)) > PIECE_BYTES_MAX:
                detail = f"a commit of {size} bytes; {COMMIT_BYTES_MAX} is the most"
                on_done(Refused(Refusal.TOO_LARGE, detail))
                return
        if self._commits >= WAITING_MAX or self._waiting_bytes + size > WAITING_BYTES_MAX:
            on_done(ProposalFailed("too many offset commits are waiting", may_still_happen=False))
            return
        self._commits += 1
        self._waiting_bytes += size
        if pieces:
            going = _Commit(group, len(pieces), on_done)
            self._waiting += ((going, piece, len(piece)) for piece in pieces)
        else:
            self._waiting.append((_Commit(group, 1, on_done), commit, size))
        if len(self._waiting) >= self._wanted or self._waiting_bytes >= ENTRY_BYTES:
            self._enough.set()

    def _problem(self, commit: GroupCommit) -> Refused | None:
        if self._metadata.is_full:
            return Refused(Refusal.TOO_LARGE, "the cluster's metadata takes no more offsets")
        if not commit.offsets:
            return Refused(Refusal.INVALID_VALUE, "a commit without offsets")
        return None

    async def run(self) -> None:
        """Propose what has been collected, one entry at a time, until cancelled."""
        sizes: deque[int] = deque([0], maxlen=SIZES_KEPT)
        until = 0.0
        while True:
            await self._enough.wait()
            if max(sizes) >= MANY and trio.current_time() < until:
                await self._gather(max(sizes), until)
            batch = self._take()
            sizes.append(len(batch))
            until = trio.current_time() + GATHER_S
            result = await self._propose(_command_of(batch))
            if isinstance(result, OffsetsCommitted):
                _note_unknown(batch, result)
            for number, (commit, _, _) in enumerate(batch, 1):
                end = commit.piece_done(result)
                if end is not None:
                    self._commits -= 1
                    commit.on_done(end)
                if number % ANSWERS_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()

    async def _gather(self, wanted: int, until: float) -> None:
        """Wait for as many commits, or until then."""
        if len(self._waiting) < wanted and self._waiting_bytes < ENTRY_BYTES:
            self._wanted, self._enough = wanted, trio.Event()
            with trio.move_on_at(until):
                await self._enough.wait()
            self._wanted = 1

    def _take(self) -> list[_Piece]:
        """The next entry's."""
        batch: list[_Piece] = []
        size = 0
        while self._waiting and size < ENTRY_BYTES:
            batch.append(self._waiting.popleft())
            size += batch[-1][2]
        self._waiting_bytes -= size
        self._enough = trio.Event()
        if self._waiting:
            self._enough.set()
        return batch

    async def _propose(self, command: bytes) -> CommitResult:
        """Propose here and nowhere else: the generations were checked by this coordinator."""
        index = await self._proposer.propose_here(command)
        if isinstance(index, ProposalFailed):
            return index
        result = self._metadata.result_at(index)
        assert isinstance(result, OffsetsCommitted | Refused), result
        return result


def _command_of(batch: list[_Piece]) -> bytes:
    small = [part for _, part, _ in batch if not isinstance(part, bytes)]
    if len(small) == len(batch):
        return encode_commits(small)
    return join_commits([part if isinstance(part, bytes) else encode_commit(part) for _, part, _ in batch])


def _note_unknown(batch: list[_Piece], result: OffsetsCommitted) -> None:
    """Give each commit those of its partitions that there are not."""
    if not result.unknown:
        return
    unknown: dict[str, list[tuple[str, str, int]]] = {}
    for one in result.unknown:
        unknown.setdefault(one[0], []).append(one)
    for commit, _, _ in batch:
        commit.unknown += tuple(unknown.get(commit.group, ()))


def _pieces(commit: GroupCommit) -> list[tuple[int, int]]:
    """(first, count) of the offsets that are encoded together, each a small part of an entry."""
    pieces, first, size = [], 0, 0
    for number, at in enumerate(commit.offsets):
        size += len(at.topic) + 4 * len(at.metadata) + 32
        if size > ENTRY_BYTES // 2 or number + 1 - first >= PIECE_OFFSETS:
            pieces.append((first, number + 1 - first))
            first, size = number + 1, 0
    if first < len(commit.offsets):
        pieces.append((first, len(commit.offsets) - first))
    return pieces
