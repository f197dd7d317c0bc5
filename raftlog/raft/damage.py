"""What a replica does when its disk gives back other bytes than it was given.

Found at the start, by the scrub or by a read. There are two cases:

- `LogDamage.rot`: the bytes of an entry are damaged; the log still knows which entries it has. The replica
  goes on voting and acknowledging. It does not lead until another replica has repaired the bytes (`repair`).
- `LogDamage.lost`: the log no longer knows which entries it has. The replica votes for nobody until its
  leader has filled the log anew (`trust`).

A group of one has no other replica to ask. It goes on as it is, and whoever reads the damaged bytes is told.
"""

from __future__ import annotations

import logging
from typing import Protocol

from raftlog.raft.events import Cause
from raftlog.raft.trust import Trust
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId

log = logging.getLogger("raftlog.raft")


class DamageOwner(Protocol):
    """The replica that has the log."""

    @property
    def voters(self) -> frozenset[BrokerId]: ...
    def step_down(self, cause: Cause) -> None: ...


class Damage:
    """Of one replica's log in one group."""

    def __init__(self, owner: DamageOwner, self_id: BrokerId, group_log: GroupLog, trust: Trust) -> None:
        self._owner = owner
        self._self_id = self_id
        self._log = group_log
        self._trust = trust
        self._logged: object = None
        """The damage that the broker's log names already."""

    def look(self) -> None:
        """Do what the damage asks for, if the log has any. Costs nothing when it has none."""
        group_log, trust = self._log, self._trust
        found = group_log.damage.lost or group_log.damage.rot
        if found is None:
            return
        is_alone = self._owner.voters == {self._self_id}
        if found is not self._logged:
            self._logged = found
            self._log_error(is_alone)
        if is_alone:
            return
        if group_log.damage.lost is None:
            self._owner.step_down(Cause.DAMAGED)
        elif not trust.must_drop_log:
            trust.must_drop_log = True
            trust.lose()
            self._owner.step_down(Cause.DAMAGED)

    def _log_error(self, is_alone: bool) -> None:
        if is_alone:
            then = "what is damaged is not served, and there is no replica to repair it from"
        elif self._log.damage.lost is not None:
            then = "the replica is filled anew by its leader, and votes for nobody until then"
        else:
            then = "it is not served, and repaired from another replica; this one does not lead until then"
        log.error("%s is damaged: %s: %s", self._log.dirname, self._log.damage.problem, then)
