"""Offset commits on the coordinator: those that arrive together go out as one metadata entry.

An entry is small, so that no broker is long about applying it: a commit that is larger goes in several, and
is answered when the last of them is applied. Each partition's offset stands for itself, so that of a commit
that fails half-way a part may stay; the client commits again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from raftlog.cluster.metadata_group import MetadataGroup, ProposalFailed
from raftlog.cluster.proposer import Proposer
from raftlog.metadata.noun import Refusal, Refused
from raftlog.metadata.offsets import GroupCommit, OffsetsCommitted, encode_commit, join_commits

ENTRY_BYTES: Final = 64 * 1024
"""Of commits in one entry, and a piece more: 1,500 offsets, which take five milliseconds."""
PIECE_BYTES_MAX: Final = 512 * 1024
"""Of an encoded group with one offset or some; with what is in an entry already it fits a command."""
PIECE_OFFSETS: Final = 1000
"""Offsets of a commit that are encoded as one."""
COMMIT_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one commit. Kafka takes as much as the offsets topic takes in a batch: 1 MiB."""
WAITING_BYTES_MAX: Final = 32 * 1024 * 1024
WAITING_MAX: Final = 10_000
"""Commits that wait for the entry before, and their bytes; beyond either a commit is refused, and the client
tries again."""

CommitResult = OffsetsCommitted | Refused | ProposalFailed
OnCommitted = Callable[[CommitResult], None]


class _Commit:
    """A commit on its way: how many of its pieces are not applied yet, and what they came to so far."""

    __slots__ = ("failure", "left", "on_done", "unknown")

    def __init__(self, pieces: int, on_done: OnCommitted) -> None:
        self.left = pieces
        self.on_done = on_done
        self.unknown: list[tuple[str, str, int]] = []
        self.failure: Refused | ProposalFailed | None = None

    def piece_done(self, result: Refused | ProposalFailed | list[tuple[str, str, int]]) -> None:
        self.left -= 1
        if isinstance(result, list):
            self.unknown += result
        else:
            self.failure = result
        if not self.left:
            self.on_done(self.failure or OffsetsCommitted(tuple(self.unknown)))


class OffsetCommits:
    """Collects commits while the entry before is on its way."""

    def __init__(self, metadata: MetadataGroup, proposer: Proposer) -> None:
        self._metadata = metadata
        self._proposer = proposer
        self._waiting: deque[tuple[_Commit, str, bytes]] = deque()
        self._waiting_bytes = 0
        self._commits = 0
        self._arrived = trio.Event()

    def commit(self, commit: GroupCommit, on_done: OnCommitted) -> None:
        """Commit one group's offsets; `on_done` is called once they are on a majority of disks."""
        problem = self._problem(commit)
        if problem is not None:
            on_done(problem)
            return
        group, at_ms, offsets = commit
        pieces = [
            encode_commit(GroupCommit(group, at_ms, offsets[first : first + count]))
            for first, count in _pieces(commit)
        ]
        size = sum(map(len, pieces))
        if size > COMMIT_BYTES_MAX or max(map(len, pieces)) > PIECE_BYTES_MAX:
            on_done(Refused(Refusal.TOO_LARGE, f"a commit of {size} bytes; {COMMIT_BYTES_MAX} is the most"))
            return
        if self._commits >= WAITING_MAX or self._waiting_bytes + size > WAITING_BYTES_MAX:
            on_done(ProposalFailed("too many offset commits are waiting", may_still_happen=False))
            return

        def done(result: CommitResult) -> None:
            self._commits -= 1
            on_done(result)

        self._commits += 1
        self._waiting_bytes += size
        going = _Commit(len(pieces), done)
        self._waiting += ((going, group, piece) for piece in pieces)
        self._arrived.set()

    def _problem(self, commit: GroupCommit) -> Refused | None:
        if self._metadata.is_full:
            return Refused(Refusal.TOO_LARGE, "the cluster's metadata takes no more offsets")
        if not commit.offsets:
            return Refused(Refusal.INVALID_VALUE, "a commit without offsets")
        return None

    async def run(self) -> None:
        """Propose what has been collected, one entry at a time, until cancelled."""
        while True:
            await self._arrived.wait()
            batch, size = [], 0
            while self._waiting and size < ENTRY_BYTES:
                batch.append(self._waiting.popleft())
                size += len(batch[-1][2])
            self._waiting_bytes -= size
            if not self._waiting:
                self._arrived = trio.Event()
            result = await self._propose(join_commits([piece for _, _, piece in batch]))
            if not isinstance(result, OffsetsCommitted):
                for commit, _, _ in batch:
                    commit.piece_done(result)
                continue
            unknown: dict[str, list[tuple[str, str, int]]] = {}
            for one in result.unknown:
                unknown.setdefault(one[0], []).append(one)
            for commit, group, _ in batch:
                commit.piece_done(unknown.get(group, []))

    async def _propose(self, command: bytes) -> CommitResult:
        """Propose here and nowhere else: the generations were checked by this coordinator."""
        index = await self._proposer.propose_here(command)
        if isinstance(index, ProposalFailed):
            return index
        result = self._metadata.result_at(index)
        assert isinstance(result, OffsetsCommitted | Refused), result
        return result


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
