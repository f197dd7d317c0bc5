"""Which transactions have been open for too long, and which ids nobody uses any more.

The time counts on the monotonic clock, from when this broker, as the coordinator, first saw the transaction:
another coordinator begins the count again, and a wall clock that jumps aborts nothing. Synchronous.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

from raftlog.metadata.catalog import Catalog
from raftlog.metadata.transaction_ends import AbortTimedOut
from raftlog.metadata.transaction_table import TransactionState
from raftlog.metadata.transactions import ExpireTransactionalIds
from raftlog.types import RaftIndex

ONGOING_AT_ONCE: Final = 5_000
"""Open transactions that are looked at in one pass: three milliseconds. Of more, each is looked at as often
as its turn comes, and so is aborted some seconds later."""
ABORTS_AT_ONCE: Final = 100
"""More than are proposed in one round."""
IDS_AT_ONCE: Final = 2_000
"""Ids that are looked at in one pass for expiry: a millisecond."""
IDS_A_COMMAND: Final = 100
"""A transactional id has up to a kilobyte."""
EXPIRY_INTERVAL_S: Final = 60.0
"""Between two looks over all ids."""


class TransactionTimeouts:
    """What the coordinator proposes once a second."""

    def __init__(self, catalog: Catalog, *, term: Callable[[], int], expiration_ms: int) -> None:
        """`term`: in which this broker leads the metadata. `expiration_ms`: how long an id is kept after its
        last use (transactional.id.expiration.ms)."""
        self._catalog = catalog
        self._current_term = term
        self._expiration_ms = expiration_ms
        self._term = -1
        self._open: dict[str, tuple[RaftIndex, float]] = {}
        """Id → the entry that began its transaction, and since when that is known here."""
        self._open_before: dict[str, tuple[RaftIndex, float]] = {}
        """As of the look over all open transactions before the one that goes on."""
        self._ongoing_left: list[str] = []
        self._left: list[str] = []
        self._next_look = 0.0

    def tick(self, now: float, now_ms: int) -> list[AbortTimedOut | ExpireTransactionalIds]:
        """`now` is monotonic seconds; only the coordinator asks."""
        term = self._current_term()
        if term != self._term:
            self._term = term
            self._open, self._open_before, self._ongoing_left = {}, {}, []
        return [*self._timed_out(now, now_ms), *self._expired(now, now_ms)]

    def _timed_out(self, now: float, now_ms: int) -> list[AbortTimedOut]:
        table, found = self._catalog.transactions, list[AbortTimedOut]()
        if not self._ongoing_left:
            self._ongoing_left = list(table.ongoing)
            self._open, self._open_before = {}, self._open
        looked_at = self._ongoing_left[:ONGOING_AT_ONCE]
        self._ongoing_left = self._ongoing_left[ONGOING_AT_ONCE:]
        for name in looked_at:
            value = table.get(name)
            if value is None or value.state is not TransactionState.ONGOING:
                continue
            known = self._open_before.get(name)
            since = known[1] if known is not None and known[0] == value.begun_at else now
            self._open[name] = value.begun_at, since
            if (now - since) * 1000 >= value.timeout_ms and len(found) < ABORTS_AT_ONCE:
                found.append(AbortTimedOut(transactional_id=name, begun_at=value.begun_at, at_ms=now_ms))
        return found

    def _expired(self, now: float, now_ms: int) -> list[ExpireTransactionalIds]:
        table = self._catalog.transactions
        if not self._left:
            if now < self._next_look:
                return []
            self._next_look = now + EXPIRY_INTERVAL_S
            self._left = list(table)
        before_ms = now_ms - self._expiration_ms
        looked_at, self._left = self._left[:IDS_AT_ONCE], self._left[IDS_AT_ONCE:]
        old = iter([name for name in looked_at if self._is_old(name, before_ms)])
        commands = []
        while some := tuple(islice(old, IDS_A_COMMAND)):
            commands.append(ExpireTransactionalIds(transactional_ids=some, before_ms=before_ms))
        return commands

    def _is_old(self, name: str, before_ms: int) -> bool:
        value = self._catalog.transactions.get(name)
        if value is None or value.state is TransactionState.ONGOING or value.state.is_prepared:
            return False
        return value.updated_ms < before_ms
