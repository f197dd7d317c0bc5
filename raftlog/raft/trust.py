"""Whether a replica still has what it once acknowledged, and so whether its vote may count.

A replica that lost its log, by an empty disk or by damage, says so to the leader with a number of its own
(`Rejoin`); the leader forgets what it acknowledged before and answers (`Welcome`) with what is committed by
then. When it holds that much again on its own disk, it is trusted: every entry that its old acknowledgements
helped to commit is here (Raft §5.4).
"""

from __future__ import annotations

import random

from raftlog.raft.messages import Welcome
from raftlog.types import RaftIndex


class Trust:
    """Of one replica in its own log."""

    def __init__(self, rng: random.Random) -> None:
        self.nonce = 0
        """Names this loss of the log to the leader; 0 when there is nothing to be told."""
        self.is_welcome = False
        """The leader has forgotten what was acknowledged before: entries may be taken and acknowledged."""
        self.must_drop_log = False
        """What is in the log is damaged. It goes when there is a leader to fill it, not before."""
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
