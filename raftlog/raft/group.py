"""This broker's replica of a Raft group, as the rest of the broker sees it: its state, and what it is asked
for. What a driver does with it is in `turning`, its decisions are in the parts that `replica` puts together.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from raftlog.raft.progress import FollowerProgress
from raftlog.raft.replica import Replica
from raftlog.raft.turning import Turning
from raftlog.raft.values import Membership, RaftTiming, Role
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, GroupKey, RaftIndex, Term


class RaftGroup:
    """One replica of one group.

    What its methods change in the log is durable only after the driver's next sync; the driver says so with
    `on_synced`. A replica that may lack what it once acknowledged (`is_trusted`) does not vote: its vote
    would count as if it still held that. When every voter of a group has nothing, the group is new, and they
    may elect; so the first start of a group needs all of its voters.
    """

    def __init__(
        self,
        key: GroupKey,
        self_id: BrokerId,
        log: GroupLog,
        voters: frozenset[BrokerId],
        *,
        timing: RaftTiming,
        rng: random.Random,
        now: float,
        learners: frozenset[BrokerId] = frozenset(),
        preferred: bool = False,
        eager_commit: bool = False,
    ) -> None:
        """`voters` and `learners` are the first membership where the log was made with none; a MEMBERSHIP
        entry in the log overrides them.

        `preferred`: of a group that is new, this replica should lead: it asks for votes at once.
        `eager_commit`: the entries are commands, not data (the metadata group). Followers learn of a commit
        at once instead of with the next message, and one that is far behind gets the newest snapshot of the
        state in place of the entries before it.
        """
        self.key = key
        self.log = log
        self._replica = replica = Replica(
            key,
            self_id,
            log,
            voters,
            timing=timing,
            rng=rng,
            now=now,
            learners=learners,
            eager_commit=eager_commit,
        )
        parts = replica.parts
        self._engine, self._memberships, self._trust = parts.engine, parts.memberships, parts.trust
        self._applying, self._elections = parts.applying, parts.elections
        self.leading = parts.leading
        """What a leader is asked for. The rest of it is for `turning` and the other parts."""
        self.turning = Turning(replica, timing, preferred=preferred)
        """What a driver does with it."""
        self.turning.start(now)

    def __repr__(self) -> str:
        return (
            f"<RaftGroup {self.key.hex()[24:]} {self.role.name.lower()} term={self.term}"
            f" last={self.log.last_index} committed={self.commit_index}>"
        )

    # What it is

    @property
    def role(self) -> Role:
        return self._replica.role

    @property
    def term(self) -> Term:
        return self._engine.term

    @property
    def leader(self) -> BrokerId | None:
        """Who leads in this term, as far as known here."""
        return self._engine.leader

    @property
    def is_leader(self) -> bool:
        return self.leading.leadership is not None

    @property
    def membership(self) -> Membership:
        return self._memberships.current

    @property
    def voters(self) -> frozenset[BrokerId]:
        return self._memberships.current.voters

    @property
    def is_ready(self) -> bool:
        """Leads, and has committed its own term's first entry: all earlier commits are known here."""
        leadership = self.leading.leadership
        return leadership is not None and leadership.has_committed

    @property
    def is_transferring(self) -> bool:
        """Leads, and is handing the leadership over: proposals are refused meanwhile."""
        leadership = self.leading.leadership
        return leadership is not None and leadership.is_transferring

    def may_be_led_in(self, term: Term, now: float) -> bool:
        """Whether who led in `term` may still take something, as far as this replica can tell: not when a
        newer term has begun, nor while leadership is handed over, nor when the leader has gone silent."""
        if term != self.term:
            return term > self.term
        leadership = self.leading.leadership
        if leadership is not None:
            return not leadership.is_transferring
        return not self._elections.is_leader_silent(now)

    @property
    def commit_index(self) -> RaftIndex:
        return self._engine.commit_index

    @property
    def applied_index(self) -> RaftIndex:
        """The last entry that was given out to be applied. The driver sets it back for a state machine
        that has to apply again from earlier on."""
        return self._applying.index

    @applied_index.setter
    def applied_index(self, index: RaftIndex) -> None:
        self._applying.restart(index)

    @property
    def is_membership_committed(self) -> bool:
        """Whether the membership in force can no longer be undone by another leader."""
        return self._memberships.index <= self.commit_index

    @property
    def is_trusted(self) -> bool:
        """False while this replica may lack what it once acknowledged, and therefore does not vote."""
        return not self._trust.is_lost

    def followers(self, now: float) -> tuple[FollowerProgress, ...]:
        """How far the others are, as their leader knows; none where this replica does not lead."""
        leadership = self.leading.leadership
        return () if leadership is None else leadership.followers(now)

    @property
    def pending_proposals(self) -> int:
        return len(self.leading.proposals)

    def statistics(self) -> dict[str, int | str | None]:
        return {
            "role": self.role.name.lower(),
            "term": self.term,
            "leader": self.leader,
            "last_index": self.log.last_index,
            "commit_index": self.commit_index,
            "applied_index": self.applied_index,
            "pending_proposals": self.pending_proposals,
            "trusted": int(self.is_trusted),
        }

    def read_barrier(self, now: float, on_ready: Callable[[bool], None]) -> None:
        """Calls `on_ready(True)` once this replica is known to have led after the call began, and has
        applied what was committed by then: maybe at once. `on_ready(False)` when it does not lead. A
        cancelled caller's `on_ready` is still called."""
        self.leading.read_barrier(now, on_ready, self.applied_index)

    def holds(self, broker: BrokerId, index: RaftIndex) -> bool:
        """Whether this replica leads, and knows that another has everything up to `index` on its disk."""
        leadership = self.leading.leadership
        return leadership is not None and leadership.holds(broker, index)
