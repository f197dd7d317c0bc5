"""How the Raft group of the metadata does, as its leader sees it. For people: nothing decides by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.cluster.reports import Report, Reports
from raftlog.types import METADATA_GROUP, BrokerId, RaftIndex, Term

HEARD_NOW: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumMember:
    """A replica, as its leader knows it."""

    broker: BrokerId
    is_voter: bool
    last_index: RaftIndex
    """The last entry that it is known to have on its disk; of the leader, the last in its log."""
    silent_ms: int
    """How long ago the leader heard of it; 0 for the leader itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    leader: BrokerId
    term: Term
    commit_index: RaftIndex
    members: tuple[QuorumMember, ...]
    """The leader is among them."""


class MetadataQuorum:
    """Asks the leader, whoever it is."""

    def __init__(self, metadata: MetadataGroup, reports: Reports) -> None:
        self._metadata = metadata
        self._reports = reports

    async def describe(self) -> Quorum | None:
        """None while nobody leads, as far as is known here, or when the leader does not answer."""
        leader = self._metadata.leader
        if leader is None:
            return None
        report = await self._reports.replica_of(leader, METADATA_GROUP)
        return None if report is None else quorum_of(leader, report)


def quorum_of(leader: BrokerId, report: Report) -> Quorum | None:
    """What a leader's report says; None for one of a broker that does not lead, or that cannot be read."""
    try:
        if report["role"] != "leader":
            return None
        voters = frozenset(report["voters"])
        return Quorum(
            leader=leader,
            term=Term(int(report["term"])),
            commit_index=RaftIndex(int(report["commit_index"])),
            members=(
                _member(leader, voters, report["last_index"], HEARD_NOW),
                *(
                    _member(row["broker"], voters, row["match"], row["heard_ms"])
                    for row in report["followers"]
                ),
            ),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _member(broker: Any, voters: frozenset[int], last_index: Any, silent_ms: Any) -> QuorumMember:
    return QuorumMember(
        broker=BrokerId(int(broker)),
        is_voter=broker in voters,
        last_index=RaftIndex(int(last_index)),
        silent_ms=int(silent_ms),
    )
