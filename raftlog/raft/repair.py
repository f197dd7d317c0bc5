"""How a replica gets back the bytes of an entry that its disk no longer gives as they were written.

What is in a segment is committed, and a committed entry is the same in every log that holds it. So any
replica that has the entry may give it, whether it leads or not, in whatever term. The replica that asks goes
on voting and acknowledging meanwhile: it has promised which entries it has, by term and index, and those it
still knows. It may not lead, since it could not send the entry to its followers and clients.

It may be that no log holds the entry any more: each begins behind it, after a snapshot or after retention.
Then the replica is filled anew like one that lost its log, as soon as its leader can do without it for that
time. The same happens when the damage lies where compaction has been: two replicas that have cleaned the same
part of a log need not hold the same bytes.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

from raftlog.errors import DamagedLog, InvalidInput
from raftlog.raft.engine import Engine
from raftlog.raft.messages import Repair, RepairRequest
from raftlog.raft.outbox import Outbox
from raftlog.raft.progress import APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, ASK_BEATS, let_go_life
from raftlog.raft.values import RaftTiming
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, GroupKey, RaftIndex

NO_ENTRY: Final = RaftIndex(0)
"""Asks for an entry that no log has: may this replica be filled anew?"""

log = logging.getLogger("raftlog.raft")


class RepairOwner(Protocol):
    """The replica that asks and is asked."""

    @property
    def voters(self) -> frozenset[BrokerId]: ...
    def look_for_damage(self) -> None: ...
    def log_was_repaired(self) -> None: ...
    def can_fill_anew(self, asking: BrokerId, now: float) -> bool:
        """Whether this replica leads, and can elect and commit with others while that one's log is filled."""
        ...


class Repairs:
    """Of one replica in one group. One request is under way at a time, which bounds the answers."""

    def __init__(
        self,
        owner: RepairOwner,
        key: GroupKey,
        self_id: BrokerId,
        group_log: GroupLog,
        engine: Engine,
        outbox: Outbox,
        timing: RaftTiming,
    ) -> None:
        self._owner = owner
        self._key = key
        self._self_id = self_id
        self._log = group_log
        self._engine = engine
        self._outbox = outbox
        self._pause = ASK_BEATS * timing.heartbeat
        self._due = float("-inf")
        self._asked: list[BrokerId] = []
        self._asked_for: object = None
        """The damage that those were asked about."""
        self._gone_until = float("-inf")
        """Until then this replica may be filled anew: the leader has no such entry, and can do without it."""
        self._timing = timing

    @property
    def deadline(self) -> float:
        """When somebody is to be asked."""
        return self._due if self._wanted is not None else float("inf")

    @property
    def _wanted(self) -> RaftIndex | None:
        """The entry to ask for; None when there is nothing to ask."""
        rot, group_log = self._log.damage.rot, self._log
        if rot is None or group_log.damage.lost is not None:
            return None
        return rot.index if rot.index > group_log.cleaning.clean_index else NO_ENTRY

    def ask(self, now: float) -> None:
        """Ask the next one: the leader first, who has everything, and then one after the other."""
        rot, wanted = self._log.damage.rot, self._wanted
        others = self._owner.voters - {self._self_id}
        if rot is None or wanted is None or not others:
            return
        if self._asked_for is not rot:
            self._begin()
            self._asked_for = rot
        left = sorted(others - set(self._asked))
        if now <= self._gone_until and (not left or wanted == NO_ENTRY):
            self._begin()
            self._log.damage.give_up(f"{rot.problem}, and the leader has no such entry any more")
            self._owner.look_for_damage()
            return
        if not left:
            self._begin()
            left = sorted(others)
        engine = self._engine
        to = engine.leader if engine.leader in left else left[0]
        assert to is not None
        self._asked.append(to)
        self._due = now + self._pause
        self._outbox.send_after_sync(to, RepairRequest(self._key, engine.term, wanted))

    def _begin(self) -> None:
        self._asked, self._gone_until = [], float("-inf")

    def on_request(self, sender: BrokerId, request: RepairRequest, now: float) -> None:
        """Give what is asked for, and what follows on it, as far as it is committed here and sound."""
        group_log, index = self._log, request.entry_index
        if index < group_log.first_index and self._owner.can_fill_anew(sender, now):
            self._outbox.send_after_sync(sender, Repair(self._key, self._engine.term, index, []))
        if not group_log.entries.has_from(index) or index > group_log.commit_index:
            return
        count = min(APPEND_ENTRIES_MAX, group_log.commit_index - index + 1)
        try:
            entries = group_log.entries.read(index, APPEND_BYTES_MAX, count)
        except DamagedLog:
            return  # it says so itself, and has itself repaired
        self._outbox.send_after_sync(sender, Repair(self._key, self._engine.term, index, entries))

    def on_repair(self, sender: BrokerId, repair: Repair, now: float) -> None:
        rot = self._log.damage.rot
        if rot is None or repair.entry_index != self._wanted:
            return
        if not repair.entries:
            if repair.term == self._engine.term and self._asked_for is rot:
                self._gone_until = now + let_go_life(self._timing, len(self._owner.voters) - 1)
            self._due = now
            self._owner.log_was_repaired()
            return
        try:
            self._log.damage.repair(repair.entries)
        except InvalidInput as error:  # the next one is asked in time
            log.error("broker %d sent a damaged entry of %r: %s", sender, self._log, error)
            return
        except DamagedLog:
            pass  # there is more behind it, and that is asked for next
        if self._log.damage.rot is None or self._log.damage.rot.index != rot.index:
            log.warning("%s: repaired with what broker %d has", rot.problem, sender)
            self._begin()
        self._due = now
        self._owner.log_was_repaired()
