"""Offset commits on the coordinator: those that arrive together go out as one metadata entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.metadata.commands import CommitOffsets, GroupCommit, encode_command
from raftlog.metadata.results import OffsetsCommitted, Refused

if TYPE_CHECKING:
    from raftlog.cluster.node import Node

MAX_COMMITS: Final = 1000
"""Commits in one entry, so that an entry stays far below the command limit."""
MAX_WAITING: Final = 10_000
"""Commits that wait for the entry before; beyond it a commit is refused, and the client tries again."""

OnCommitted = Callable[[OffsetsCommitted | Refused | ProposalFailed], None]


class OffsetCommits:
    """Collects commits while the entry before is on its way."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: list[tuple[GroupCommit, OnCommitted]] = []
        self._arrived = trio.Event()

    def commit(self, commit: GroupCommit, on_done: OnCommitted) -> None:
        """Commit one group's offsets; `on_done` is called once they are on a majority of disks."""
        if len(self._waiting) >= MAX_WAITING:
            on_done(ProposalFailed("too many offset commits are waiting", may_still_happen=False))
            return
        self._waiting.append((commit, on_done))
        self._arrived.set()

    async def run(self) -> None:
        """Propose what has been collected, one entry at a time, until cancelled."""
        while True:
            await self._arrived.wait()
            batch, self._waiting = self._waiting[:MAX_COMMITS], self._waiting[MAX_COMMITS:]
            if not self._waiting:
                self._arrived = trio.Event()
            result = await self._commit(CommitOffsets(commits=tuple(commit for commit, _ in batch)))
            for _, on_done in batch:
                on_done(result)

    async def _commit(self, command: CommitOffsets) -> OffsetsCommitted | Refused | ProposalFailed:
        """Propose here and nowhere else: the generations were checked by this coordinator."""
        index = await self._node.propose_here(encode_command(command))
        if isinstance(index, ProposalFailed):
            return index
        result = self._node.metadata.result_at(index)
        assert isinstance(result, OffsetsCommitted | Refused), result
        return result
