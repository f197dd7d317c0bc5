"""What administrators ask for users: credentials, as commands of the metadata group."""

from __future__ import annotations

import os
from collections.abc import Sequence

from raftlog.cluster.enforcement import Enforcement
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.proposer import Proposer
from raftlog.cluster.visibility import Visibility
from raftlog.metadata.noun import Refused
from raftlog.metadata.users import (
    PHANTOM_KEY_BYTES,
    AlterCredentials,
    CredentialsAltered,
    NewCredential,
)


class UserAdmin:
    """Answers when a change is in force on every broker: one that cannot be reached lets nobody in by then
    (`enforcement.py`). In a cluster without leases it is in force on every broker that is there."""

    def __init__(self, proposer: Proposer, visibility: Visibility, enforcement: Enforcement) -> None:
        self._proposer = proposer
        self._visibility = visibility
        self._enforcement = enforcement

    async def alter(
        self, put: Sequence[NewCredential], drop: Sequence[tuple[str, str]]
    ) -> CredentialsAltered | Refused | ProposalFailed:
        """Set and drop credentials. Brokers end the connections that were made with those that are replaced
        or dropped. Cancelled, it may still happen."""
        command = AlterCredentials(
            phantom_key=os.urandom(PHANTOM_KEY_BYTES), put=tuple(put), drop=tuple(drop)
        )
        result = await self._proposer.propose(command)
        if not isinstance(result, CredentialsAltered):
            assert isinstance(result, Refused | ProposalFailed), result
            return result
        if self._enforcement.is_wanted:
            await self._enforcement.everywhere()
        else:
            await self._visibility.visible_everywhere()
        return result
