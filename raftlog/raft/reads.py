"""Reads that wait for their leader to know that it still leads (Raft §8).

A leader that was cut off may have a successor that it has not heard of. So before it answers a read it asks
its followers, with a round of heartbeats that begins after the read came. A majority that answers such a
round had elected nobody else before. Many reads share a round.

Under a lease the leader need not ask: who has answered a round refuses its vote to others for a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from raftlog.raft.progress import Progress
from raftlog.raft.values import RaftTiming
from raftlog.types import RaftIndex

PENDING_READS_MAX: Final = 10_000
"""Reads that wait for a majority at once; beyond it a read is answered "no"."""
ROUNDS_MAX: Final = 64
"""Heartbeat rounds whose time of sending is remembered, for the lease."""


class Reads:
    """Of one leadership, with its rounds of heartbeats and its lease."""

    def __init__(self, timing: RaftTiming, first_index: RaftIndex) -> None:
        """`first_index`: that of the leader's no-op, which must be applied before any read is answered."""
        self.round = 0
        """The last round that was begun."""
        self.is_round_wanted = False
        """A read waits for a round that has not begun yet."""
        self._timing = timing
        self._first_index = first_index
        self._voters: Sequence[Progress] = ()
        self._waiting: deque[tuple[int, RaftIndex, Callable[[bool], None]]] = deque()
        """With the round that must be confirmed, and the index that must be applied."""
        self._times: deque[tuple[int, float]] = deque(maxlen=ROUNDS_MAX)
        self._lease_until = float("-inf")
        self._has_lease = timing.lease > 0

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def set_voters(self, voters: Sequence[Progress]) -> None:
        """The voters but for the leader itself."""
        self._voters = voters

    # Rounds

    def begin_round(self, now: float) -> None:
        self.round += 1
        if self._has_lease:
            self._times.append((self.round, now))
        self.is_round_wanted = False
        if not self._voters:
            self._count(now)

    def answered(self, peer: Progress, round_: int, now: float) -> None:
        """A follower has answered a round."""
        if round_ > peer.acked_round:
            peer.acked_round = round_
            self._count(now)

    @property
    def confirmed_round(self) -> int:
        """The last round that a majority has answered, the leader included."""
        rounds = sorted([peer.acked_round for peer in self._voters] + [self.round])
        return rounds[(len(rounds) - 1) // 2]

    def _count(self, now: float) -> None:
        times = self._times
        if times:
            confirmed = self.confirmed_round
            while times and times[0][0] <= confirmed:
                _, sent_at = times.popleft()
                self._lease_until = max(self._lease_until, sent_at + self._timing.lease)

    def end_lease(self) -> None:
        """No lease of this leadership holds from here on."""
        self._has_lease, self._lease_until = False, float("-inf")
        self._times.clear()

    # Reads

    def add(self, now: float, commit_index: RaftIndex, on_ready: Callable[[bool], None]) -> None:
        """Queue a read of what is committed by now."""
        if len(self._waiting) >= PENDING_READS_MAX:
            on_ready(False)
            return
        need_not_ask = now < self._lease_until or not self._voters
        if not need_not_ask:
            self.is_round_wanted = True
        self._waiting.append((0 if need_not_ask else self.round + 1, commit_index, on_ready))

    def take(self, applied_index: RaftIndex) -> list[Callable[[bool], None]]:
        """Those whose round is confirmed and whose index is applied, in the order of arrival."""
        waiting = self._waiting
        ready: list[Callable[[bool], None]] = []
        if waiting:
            confirmed = self.confirmed_round
            while waiting and waiting[0][0] <= confirmed:
                if max(waiting[0][1], self._first_index) > applied_index:
                    break
                ready.append(waiting.popleft()[2])
        return ready

    def drop(self) -> list[Callable[[bool], None]]:
        """All that wait: the leadership is over."""
        dropped = [on_ready for _, _, on_ready in self._waiting]
        self._waiting.clear()
        return dropped
