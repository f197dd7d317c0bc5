"""Producer ids: which have been given away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from raftlog.metadata.catalog import Catalog
from raftlog.metadata.noun import Command, Noun, Refusal, Refused, Result, attribute
from raftlog.types import BrokerId, RaftIndex

PRODUCER_ID_MAX: Final = 2**63 - 1
PRODUCER_ID_BLOCK_MAX: Final = 1_000_000
"""Ids in one block: what a broker that asks for too many may waste."""


@dataclass(frozen=True, slots=True)
class ProducerIdsAllocated(Result):
    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocateProducerIds(Command):
    """Takes the next `count` producer ids for a broker to hand out; ids of a block that is lost are lost."""

    kind: ClassVar[str] = "allocate_producer_ids"
    changes_topology: ClassVar[bool] = False
    broker_id: BrokerId
    count: int = 1000

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        first = catalog.next_producer_id
        if not 0 < self.count <= PRODUCER_ID_BLOCK_MAX or first + self.count > PRODUCER_ID_MAX:
            return Refused(Refusal.INVALID_VALUE, f"{self.count} producer ids from {first} cannot be given")
        catalog.next_producer_id = first + self.count
        return ProducerIdsAllocated(first, self.count)


PRODUCERS: Final = Noun(commands=(AllocateProducerIds,), fields=(attribute("next_producer_id", int),))
