"""Whether a replica still holds every entry that it acknowledged. Only then may it vote (Raft §5.4).

A replica may lose its log: the disk is empty, or the log is damaged. It gets its vote back in three steps:

1. The replica tells the leader that it lost its log (`Rejoin`), under a number that it draws for this loss.
2. The leader forgets what this replica had acknowledged, and counts no such acknowledgement that comes late
   (`Progress.counted`). It answers with its commit index (`Welcome`).
3. The leader sends the log again. When the replica has it on disk up to that commit index, it may vote.

Why that is enough: what the old acknowledgements helped leaders of earlier terms to commit is in this
leader's log, before the first entry of its own term, and a leader names no commit index before that entry is
committed (Raft §5.4). What they helped this leader to commit was committed before it forgot them, and a
commit index does not fall. So each `Welcome` of one leader, term and loss names enough, an older one as well
as the newest. One of another leader or term counts on its own: that leader may have counted more of them.

A leader of a later term cannot have counted any of them: this leader has heard, since the loss, enough of
the other voters to know that nobody had replaced it by then (`Leadership.on_rejoin`). Nor will it be
replaced with the vote that this replica has forgotten: a candidate counts votes for a time
(`RaftTiming.vote_life`), and the leader waits until that is over.
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
        self._needed_index = RaftIndex(0)
        """What this replica must have on its disk to vote again: the smallest commit index that this leader
        has named in this term. 0 while it has named none. The leader commits on meanwhile, maybe faster than
        this replica's disk; a newer commit index would never be reached then."""
        self._rng = rng

    @property
    def is_lost(self) -> bool:
        return self.nonce != 0

    @property
    def may_acknowledge(self) -> bool:
        """Whether the leader may count what is in the log. Not before it has forgotten what this replica
        acknowledged, and not while the log is one that will be dropped."""
        return not self.is_lost or (self.is_welcome and not self.must_drop_log)

    def lose(self) -> None:
        self.nonce = self._rng.getrandbits(48) + 1
        self.forget_leader()

    def regain(self) -> None:
        self.nonce = 0

    def forget_leader(self) -> None:
        """The leader or the term is another one. What the last leader said counts no more."""
        self.is_welcome = False
        self._needed_index = RaftIndex(0)

    def welcome(self, welcome: Welcome) -> None:
        if welcome.nonce != self.nonce:
            return
        self.is_welcome = True
        index = welcome.commit_index
        if index > 0 and (self._needed_index == 0 or index < self._needed_index):
            self._needed_index = index

    def has_all(self, durable_match: RaftIndex) -> bool:
        """Whether a replica that lost its log may vote again, now that it has the leader's log on its disk up
        to there."""
        return self.is_lost and not self.must_drop_log and 0 < self._needed_index <= durable_match
