"""Offset commits on the coordinator: those that arrive together go out as one metadata entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.metadata.commands import CommitOffsets, GroupCommit
from raftlog.metadata.results import Result

if TYPE_CHECKING:
    from raftlog.cluster.node import Node

MAX_COMMITS: Final = 1000
"""Commits in one entry, so that an entry stays far below the command limit."""
MAX_WAITING: Final = 10_000
"""Commits that wait for the entry before; beyond it a commit is refused, and the client tries again."""


class _Waiting:
    """A commit and, once it is known, what became of it."""

    __slots__ = ("commit", "done", "result")

    def __init__(self, commit: GroupCommit) -> None:
        self.commit = commit
        self.done = trio.Event()
        self.result: Result | ProposalFailed | None = None


class OffsetCommits:
    """Collects commits while the entry before is on its way."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: list[_Waiting] = []
        self._arrived = trio.Event()

    async def commit(self, commit: GroupCommit) -> Result | ProposalFailed:
        """Commit one group's offsets. A caller that is cancelled does not take the commit back."""
        if len(self._waiting) >= MAX_WAITING:
            return ProposalFailed("too many offset commits are waiting", may_still_happen=False)
        waiting = _Waiting(commit)
        self._waiting.append(waiting)
        self._arrived.set()
        await waiting.done.wait()
        assert waiting.result is not None
        return waiting.result

    async def run(self) -> None:
        """Propose what has been collected, one entry at a time, until cancelled."""
        while True:
            await self._arrived.wait()
            batch, self._waiting = self._waiting[:MAX_COMMITS], self._waiting[MAX_COMMITS:]
            if not self._waiting:
                self._arrived = trio.Event()
            command = CommitOffsets(commits=tuple(waiting.commit for waiting in batch))
            result = await self._node.propose(command)
            for waiting in batch:
                waiting.result = result
                waiting.done.set()
