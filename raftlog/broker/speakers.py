"""By which connection a transaction's producer spoke last (scenario 30 of the first protocol).

A producer whose request was not answered connects anew and repeats it. What still lies on the old connection
may come much later: a request to end a transaction would then end the next one, which has the same epoch, and
nothing else tells the two apart (Jepsen found that in Kafka's protocol). So what comes by an older connection
than the newest that spoke for the same producer and epoch is dropped, and the connection ended: its client
has given it up. Another coordinator knows none of this, and needs not: what lies on a connection to the one
before is refused there. From EndTxn v5 on each transaction has its own epoch.
"""

from __future__ import annotations

from typing import Final

REMEMBERED_MAX: Final = 10_000
"""Transactional ids; that which was remembered first is forgotten first. About two megabytes."""

ID_CHARACTERS_MAX: Final = 1024
"""No transactional id that exists is longer; who asks may send one of 32 KB."""


class Speakers:
    """The newest connection that spoke for each producer."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[int, int, int]] = {}
        """Transactional id → producer id, epoch, number of the connection."""

    def is_late(self, transactional_id: str, producer_id: int, epoch: int, connection: int) -> bool:
        """Whether a newer connection has spoken for the same producer and epoch; otherwise it is this one."""
        if len(transactional_id) > ID_CHARACTERS_MAX:
            return False
        known = self._newest.get(transactional_id)
        if known is not None and known[:2] == (producer_id, epoch) and known[2] > connection:
            return True
        if known is None and len(self._newest) >= REMEMBERED_MAX:
            del self._newest[next(iter(self._newest))]
        self._newest[transactional_id] = producer_id, epoch, connection
        return False
