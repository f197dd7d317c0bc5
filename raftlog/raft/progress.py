"""What a leader knows of one follower, besides the next and match index, which SyncObj holds.

Bounds what is under way to a follower, in messages and bytes, and to a broker over all groups, so that a slow
one costs no memory. Knows no log and no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from raftlog.raft.values import RaftTiming
from raftlog.types import BrokerId, RaftIndex

WINDOW_MESSAGES_MAX: Final = 64
"""Appends under way to one follower; with a round trip of 80 ms still 800 appends a second."""
WINDOW_BYTES_MAX: Final = 16 << 20
"""Bytes under way to one follower: 80 ms at 200 MB/s. One append may exceed it."""
APPEND_BYTES_MAX: Final = 1 << 20
"""Bytes of one append; a larger entry goes alone and whole."""
PROBE_BYTES_MAX: Final = 64 << 10
"""Bytes of an append that asks whether a log matches. It is sent again with each heartbeat until it is
answered, and would fill a slow link with copies; more is sent when the answer has come."""
APPEND_ENTRIES_MAX: Final = 512
"""Entries of one append."""


PEER_BYTES_MAX: Final = 32 << 20
"""Bytes under way to one broker, over all groups that are led here."""
CATCH_UP_BYTES_MAX: Final = 8 << 20
"""Bytes under way to one broker up to which it is also sent entries that are committed already. A broker that
comes back needs those of all its groups: they must not keep new ones waiting."""
CATCH_UP_TURN_BYTES: Final = 2 << 20
"""Bytes of committed entries that one turn reads, checks and sends to one broker."""
CATCH_UP_COST_MIN: Final = 64 << 10
"""Bytes that an append of committed entries counts for at least: finding a small one takes as long as reading
so much."""


ASK_BEATS: Final = 3
"""Heartbeats until a replica with damaged bytes asks the next one for them."""


def let_go_life(timing: RaftTiming, others: int) -> float:
    """Seconds for which the leader's word holds that a damaged replica may drop its log. The replica asks all
    others for its bytes first, one after the other."""
    return ASK_BEATS * timing.heartbeat * (others + 1)


class FollowerProgress(NamedTuple):
    """A follower as its leader knows it, for people."""

    broker: BrokerId
    is_voter: bool
    match_index: RaftIndex
    """What it holds on its disk for certain."""
    next_index: RaftIndex
    bytes_under_way: int
    silent_s: float
    state: str
    """`streaming`; `probing`: where the logs part is not known; `snapshot`: it is sent the state; `copy`: it
    lacks what compaction has been over, and needs the files; `silent`"""


class PeerWindow:
    """What all groups that this broker leads have under way to one other broker. Followers that catch up take
    turns: each is sent one append, and then waits behind all others that wait."""

    def __init__(self) -> None:
        self.bytes_under_way = 0
        self._turn_left = float("inf")
        """Bytes that are still read in this turn; without bound for who has no turns."""
        self._waiting: dict[Progress, None] = {}
        self._granted: set[Progress] = set()

    def may_send(self, follower: Progress, *, is_committed: bool) -> bool:
        """Whether the follower may be sent an append now. If not, its `on_room` is called when it may.
        `is_committed` says that the append's first entry is committed already: this follower only catches
        up, and no client waits for it."""
        if not is_committed:
            limit = PEER_BYTES_MAX
        elif self._turn_left <= 0 or (self._waiting and follower not in self._granted):
            limit = 0
        else:
            limit = CATCH_UP_BYTES_MAX
        self._granted.discard(follower)
        if self.bytes_under_way < limit:
            return True
        self._waiting[follower] = None
        return False

    @property
    def wants_turn(self) -> bool:
        """Somebody waits for the next turn, and for nothing else."""
        return self._turn_left <= 0 and bool(self._waiting) and self.bytes_under_way < CATCH_UP_BYTES_MAX

    def begin_turn(self) -> None:
        self._turn_left = CATCH_UP_TURN_BYTES
        self._grant()

    def sent(self, size: int) -> None:
        self.bytes_under_way += size
        self._turn_left -= max(size, CATCH_UP_COST_MIN)

    def release(self, size: int) -> None:
        """So many bytes are acknowledged, or lost."""
        self.bytes_under_way -= size
        self._grant()

    def _grant(self) -> None:
        waiting, granted = self._waiting, self._granted
        while waiting:
            promised = len(granted) * APPEND_BYTES_MAX
            if self.bytes_under_way + promised >= CATCH_UP_BYTES_MAX or promised >= self._turn_left:
                return
            follower = next(iter(waiting))
            del waiting[follower]
            granted.add(follower)
            follower.on_room()

    def forget(self, follower: Progress) -> None:
        """It has nothing to be sent."""
        self._waiting.pop(follower, None)
        self._granted.discard(follower)


class Progress:
    """One follower in one term. `probing`: its log is not known to match; one append goes out at a time."""

    def __init__(self, broker: BrokerId) -> None:
        self.broker = broker
        self.window = PeerWindow()
        """Shared by all groups of a broker; see `share`."""
        self.on_room: Callable[[], None] = lambda: None
        self._under_way: deque[tuple[int, int]] = deque()
        self._bytes_under_way = 0
        self.rejoined_at = float("-inf")
        """When it last said that it had lost its log."""
        self.reset()

    def reset(self) -> None:
        """A new term, or a follower that lost its log: nothing is known."""
        self.probing = True
        self.paused = False
        self.acked_round = 0
        self.rejoin_nonce = 0
        self.lost_since = float("inf")
        """When it said first that it had lost its log."""
        self.lost_index = RaftIndex(0)
        """The end of the leader's log then: the follower had acknowledged no more in this term."""
        self.is_welcome = False
        """It lost its log, and this leader leads still: nobody had replaced it by then."""
        self.rejoin_round = 0
        """The first round of heartbeats that began after it had said that it lost its log."""
        self.snapshot_sent_at = float("-inf")
        """When it was sent a snapshot that it has not acknowledged."""
        self.snapshot_index = RaftIndex(0)
        """Where that ends."""
        self.let_go_until = float("-inf")
        """Until then it may drop its log without a word: see `let_go`."""
        self._nothing_under_way()

    def counted(self, match_index: RaftIndex, round_: int = 0) -> RaftIndex:
        """What counts of an acknowledgement; `round_` is the round of heartbeats that it answers, if any. A
        follower that lost its log may have said so before, on a connection that broke. Then nothing counts
        until it answers a heartbeat that is newer than the loss."""
        is_newer = match_index > self.lost_index or round_ >= self.rejoin_round
        return match_index if is_newer else RaftIndex(0)

    def let_go(self, now: float, timing: RaftTiming, *, others: int) -> None:
        """The leader tells this follower that the group can do without it. A follower that drops its log then
        says so within an election time-out."""
        self.let_go_until = now + let_go_life(timing, others) + timing.election_max

    def has_its_log(self, since: float, now: float) -> bool:
        """Whether it has answered this leader, has not said after `since` that it lost its log, and was not
        told that it may drop it."""
        return self.acked_round > 0 and self.rejoined_at < since and self.let_go_until < now

    def share(self, window: PeerWindow, on_room: Callable[[], None]) -> None:
        """Count with the other groups. `on_room` is called when the follower had to wait and need not now."""
        self._nothing_under_way()
        self.window, self.on_room = window, on_room

    def _nothing_under_way(self) -> None:
        self._under_way.clear()
        size, self._bytes_under_way = self._bytes_under_way, 0
        self.window.forget(self)
        self.window.release(size)

    @property
    def bytes_under_way(self) -> int:
        return self._bytes_under_way

    @property
    def may_send(self) -> bool:
        if self.probing:
            return not self.paused
        return len(self._under_way) < WINDOW_MESSAGES_MAX and self._bytes_under_way < WINDOW_BYTES_MAX

    def sent(self, last_index: int, size: int) -> None:
        self._under_way.append((last_index, size))
        self._bytes_under_way += size
        self.window.sent(size)

    def acked(self, match_index: int) -> None:
        """The follower's log matches up to `match_index`: stream to it from here on."""
        self.probing = self.paused = False
        if match_index >= self.snapshot_index:
            self.snapshot_sent_at = float("-inf")
        under_way, size = self._under_way, 0
        while under_way and under_way[0][0] <= match_index:
            size += under_way.popleft()[1]
        self._bytes_under_way -= size
        self.window.release(size)

    def probe(self, *, paused: bool = False) -> None:
        """Its log does not continue where it was thought to: what is under way will be refused. `paused`: the
        follower is sent nothing until it answers a heartbeat."""
        self.probing = True
        self.paused = paused
        self._nothing_under_way()
