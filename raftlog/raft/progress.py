"""What a leader knows of one follower, besides the next and match index, which SyncObj holds.

Bounds what is under way to a follower, in messages and bytes, so that a slow one costs no memory
(n). Knows no log and no clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from raftlog.types import BrokerId

WINDOW_MESSAGES_MAX: Final = 64
"""Appends under way to one follower; with a round trip of 80 ms still 800 appends a second."""
WINDOW_BYTES_MAX: Final = 16 << 20
"""Bytes under way to one follower: 80 ms at 200 MB/s. One append may exceed it."""
APPEND_BYTES_MAX: Final = 1 << 20
"""Bytes of one append; a larger entry goes alone, whole (no chunks: l)."""
PROBE_BYTES_MAX: Final = 64 << 10
"""Bytes of an append that asks whether a log matches. It is sent again with each heartbeat until it is
answered, and would fill a slow link with copies; more is sent when the answer has come."""
APPEND_ENTRIES_MAX: Final = 512
"""Entries of one append."""


class Progress:
    """One follower in one term. `probing`: its log is not known to match; one append goes out at a time."""

    def __init__(self, broker: BrokerId) -> None:
        self.broker = broker
        self.rejoin_nonce = 0
        self.rejoined_at = float("-inf")
        """When it last said that it had lost its log."""
        self.reset()

    def reset(self) -> None:
        """A new term, or a follower that lost its log: nothing is known."""
        self.probing = True
        self.paused = False
        self.acked_round = 0
        self.snapshot_sent_at = float("-inf")
        self._under_way: deque[tuple[int, int]] = deque()
        self._bytes_under_way = 0

    @property
    def may_send(self) -> bool:
        if self.probing:
            return not self.paused
        return len(self._under_way) < WINDOW_MESSAGES_MAX and self._bytes_under_way < WINDOW_BYTES_MAX

    def sent(self, last_index: int, size: int) -> None:
        self._under_way.append((last_index, size))
        self._bytes_under_way += size

    def acked(self, match_index: int) -> None:
        """The follower's log matches up to `match_index`: stream to it from here on."""
        self.probing = self.paused = False
        under_way = self._under_way
        while under_way and under_way[0][0] <= match_index:
            self._bytes_under_way -= under_way.popleft()[1]

    def probe(self) -> None:
        """Its log does not continue where it was thought to: what is under way will be refused."""
        self.probing = True
        self.paused = False
        self._under_way.clear()
        self._bytes_under_way = 0
