"""Ids for idempotent producers: each is given once in the life of a cluster (KIP-98)."""

from __future__ import annotations

import trio

from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.proposer import Proposer
from raftlog.metadata.producers import AllocateProducerIds, ProducerIdsAllocated
from raftlog.types import BrokerId


class ProducerIds:
    """The block of ids that this broker has been given, and has not used up."""

    def __init__(self, broker_id: BrokerId, proposer: Proposer) -> None:
        self._broker_id = broker_id
        self._proposer = proposer
        self._left = range(0)
        self._lock = trio.Lock()

    async def allocate(self) -> int | ProposalFailed:
        """A producer id that nobody has had; ids come in blocks, so that most need no proposal."""
        async with self._lock:
            if not self._left:
                result = await self._proposer.propose(AllocateProducerIds(broker_id=self._broker_id))
                if isinstance(result, ProposalFailed):
                    return result
                assert isinstance(result, ProducerIdsAllocated), result
                self._left = range(result.first, result.first + result.count)
            producer_id = self._left[0]
            self._left = self._left[1:]
            return producer_id
