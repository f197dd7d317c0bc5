"""What compaction may do to one replica, and how far every replica has the log (KIP-58).

Entries that were cleaned cannot be sent to a member that lacks them; it is given the files of another replica
(`storage.filling`), which is dear. So the leader says by an entry how far the members have the log, and every
replica cleans up to there, when it likes. A member that is away stops the cleaning for AWAY_S. A
member that is being given the files stops the cleaning, too: the files must still be of use when the last one
has arrived. What a replica was told is soft state: after a start the replica waits to be told again.

It knows no disk and no process. Invariants: nothing is cleaned that is not decided, applied and saved; what
was aborted is forgotten together with its marker.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from raftlog.partition.transactions import Transactions
from raftlog.partition.values import PartitionSettings
from raftlog.raft.group import RaftGroup
from raftlog.raft.progress import FollowerProgress
from raftlog.storage.cleaning import Cleanable, CleaningLimits
from raftlog.storage.compaction.job import AbortedRange, CleaningJob, CleaningResult
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, Offset, RaftIndex

ELAPSED_MAX_MS: Final = 10_000
"""What one tick counts at most: a clock that jumps ages no tombstone."""

AWAY_S: Final = 600.0
"""A member that was not heard for so long stops nothing any more."""

_COMMAND: Final = struct.Struct(">BBq")
_VERSION: Final = 1
_ALL_HAVE: Final = 2
"""Beside the commands of `log_start`."""
FOREVER_S: Final = float("inf")
_FAR_FUTURE_MS: Final = 1 << 62


def encode_all_have(index: RaftIndex) -> bytes:
    """The payload of the entry that says that every member has the log up to `index`."""
    return _COMMAND.pack(_VERSION, _ALL_HAVE, index)


class Compacting:
    """The side of one replica that compaction asks."""

    def __init__(
        self, group: RaftGroup, log: GroupLog, transactions: Transactions, save: Callable[[], None]
    ) -> None:
        """`save` keeps the state as of the last applied entry, whatever was kept before."""
        self._save = save
        self._group = group
        self._log = log
        self._transactions = transactions
        self.on_lacking: Callable[[BrokerId], None] = lambda broker: None
        """Called, now and then, with a member that lacks entries that were cleaned here."""
        self.may_copy: Callable[[], bool] = lambda: True
        """Whether every broker can take a copy of what was cleaned. If not, who is away stops the cleaning
        for as long as that takes."""
        self.all_have = RaftIndex(0)
        """The members have the log up to here, or had when the leader looked."""
        self._told = RaftIndex(0)

    def tick(self, settings: PartitionSettings, now: float, elapsed_ms: int) -> None:
        """Once a second or so."""
        self._log.cleaning.advance(min(max(elapsed_ms, 0), ELAPSED_MAX_MS))
        if self._group.is_ready and (settings.compacts or self._log.cleaning.clean_index):
            followers = self._group.followers(now)
            for follower in followers:
                if follower.state == "copy":
                    self.on_lacking(follower.broker)
            if settings.compacts:
                self._tell(followers)

    def _tell(self, followers: Sequence[FollowerProgress]) -> None:
        """Say how far all have the log, when a segment more can be cleaned by that."""
        away_s = AWAY_S if self.may_copy() else FOREVER_S
        heard = [each.match_index for each in followers if each.silent_s < away_s]
        match_index = min(heard, default=self._log.commit_index)
        index = self._log.cleaning.last_index_below(RaftIndex(min(match_index, self._log.commit_index)))
        if index <= max(self._told, self._log.cleaning.clean_index):
            return
        if followers and self._group.is_transferring:
            return  # nothing is taken meanwhile, and the hand-over may come to nothing
        self._told = index
        if followers:
            self._group.leading.propose(
                EntryKind.NOOP, encode_all_have(index), 0, lambda outcome, entry: None
            )
        else:
            self.all_have = max(self.all_have, index)

    def apply(self, entry: Entry) -> None:
        """The entry is committed."""
        if entry.kind is EntryKind.NOOP and len(entry.payload) == _COMMAND.size:
            version, command, index = _COMMAND.unpack(entry.payload)
            if (version, command) == (_VERSION, _ALL_HAVE):
                self.all_have = max(self.all_have, RaftIndex(index))

    def leadership_changed(self) -> None:
        """A leader that begins tells it once more, for those that have started since."""
        self._told = RaftIndex(0)

    def restarted(self) -> None:
        """The log was begun anew."""
        self.all_have = self._told = RaftIndex(0)

    def find(self, settings: PartitionSettings, now_ms: int) -> Cleanable | None:
        """What a pass should read now; None when none is due."""
        log = self._log
        if not settings.compacts or log.damage.lost is not None or not self._group.is_trusted:
            return None
        lag_ms = settings.min_compaction_lag_ms
        limits = CleaningLimits(
            offset=self._transactions.last_stable_offset,
            index=min(self.all_have, log.saved.index),
            newest_ms=now_ms - lag_ms if lag_ms else _FAR_FUTURE_MS,
        )
        found = log.cleaning.find(limits)
        is_late = 0 <= found.oldest_dirty_ms < now_ms - settings.max_compaction_lag_ms
        is_due = found.dirty_ratio > settings.min_dirty_ratio or is_late
        return found if found.dirty_bytes and is_due else None

    def job(self, found: Cleanable, settings: PartitionSettings, **rest: Any) -> CleaningJob:
        """A pass over `found`; `rest` are those of the job's fields that the partition does not know."""
        cleaning = self._log.cleaning
        return cleaning.job(
            found,
            purge_to=cleaning.passes.purge_to(settings.delete_retention_ms),
            aborted=[AbortedRange(*each) for each in self._transactions.aborted.ranges()],
            **rest,
        )

    def has_still(self, found: Cleanable) -> bool:
        """Whether the log still has what a pass was to read; retention, or another log in its place, takes
        files from it that are no damage."""
        return self._log.cleaning.has_still(found)

    def take(self, found: Cleanable, job: CleaningJob, result: CleaningResult) -> bool:
        """Go on with what the pass has written, and save the state in the same step; False where the log has
        changed too much. Raises DiskFailed, FileRefused."""
        if not self._log.cleaning.take(found, result):
            return False
        self._transactions.aborted.drop_before(Offset(job.purge_to))
        self._save()
        self._group.turning.wake()
        return True
