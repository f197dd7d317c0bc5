"""Whether a replica still holds every entry that it acknowledged. Only then may it vote (Raft §5.4).

A replica may lose its log: the disk is empty, or the log is damaged. It gets its vote back in three steps:

1. The replica tells the leader that it lost its log (`Rejoin`), under a number that it draws for this loss.
2. The leader forgets what this replica had acknowledged. It answers with its commit index (`Welcome`).
3. The leader sends the log again. When the replica has it on disk up to that commit index, it may vote: every
   entry that its old acknowledgements helped to commit is here again.
"""

from __future__ import annotations

import random

from raftlog.raft.messages import Welcome
from raftlog.types import RaftIndex


class Trust:
    """Of one replica in its own log."""

    def __init__(self, rng: random.Random) -> None:
        self.nonce = 0
        """The number of the loss that the leader is told; 0 when nothing is lost."""
        self.is_welcome = False
        """The leader has forgotten the old acknowledgements: this replica may take and acknowledge
        entries."""
        self.must_drop_log = False
        """The log is damaged. It is dropped when a leader is there to fill it, not before."""
        self._rng = rng

    @property
    def is_lost(self) -> bool:
        return self.nonce != 0

    def lose(self) -> None:
        self.nonce = self._rng.getrandbits(48) + 1
        self.is_welcome = False

    def regain(self) -> None:
        self.nonce = 0

    def welcome(self, welcome: Welcome, durable_match: RaftIndex) -> None:
        if welcome.nonce != self.nonce:
            return
        self.is_welcome = True
        if 0 < welcome.commit_index <= durable_match and not self.must_drop_log:
            self.regain()
