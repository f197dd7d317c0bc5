"""The transactions of one partition: which are open, how far what is read is decided (KIP-98, KIP-890).

A transaction is open here from its first batch to its marker; the coordinator decides what the marker says.
Two views make one answer, as with `producers`: `committed`, a function of the committed log alone, and
`pending`, what the leader has appended and what may still be truncated.

Invariants: the last stable offset lies at or before the first offset of every open transaction, and it does
not go back while a replica lives. A marker changes something once, however often it comes.
"""

from __future__ import annotations

import struct
from enum import Enum, auto
from typing import Final, NamedTuple

from raftlog.errors import DamagedLog
from raftlog.partition.aborted import Aborted, AbortedTransaction
from raftlog.partition.markers import BY_HAND, Marker
from raftlog.storage.group_log import GroupLog
from raftlog.types import Offset, RaftIndex

_COUNTS: Final = struct.Struct(">III")
"""How many open transactions, markers and aborted transactions follow."""
_OPEN: Final = struct.Struct(">qq")
"""Producer id, first offset."""
_MARKER: Final = struct.Struct(">qiq")
"""Producer id, the coordinator's epoch, the index of the decision."""
_ABORTED_SIZE: Final = 32


class LastMarker(NamedTuple):
    """Who ended a producer's last transaction here."""

    coordinator_epoch: int
    decided_at: int


_NO_MARKER: Final = LastMarker(-1, -1)


class _Pending(NamedTuple):
    """A producer as of the last entry of it that the leader has appended."""

    index: RaftIndex  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    is_open: bool
    last_marker: LastMarker


class MarkerVerdict(Enum):
    """What becomes of a marker."""

    NEEDED = auto()
    DONE = auto()
    """The marker came before, or an administrator ends what is not open."""
    PRODUCER_FENCED = auto()
    """A newer incarnation of the producer is known here."""
    COORDINATOR_FENCED = auto()
    """A newer coordinator has written."""


class Transactions:
    """What one replica knows of transactions."""

    def __init__(self, log: GroupLog) -> None:
        self._log = log
        self._open: dict[int, int] = {}
        """Producer id → first offset, in the order of the offsets."""
        self._markers: dict[int, LastMarker] = {}
        self.aborted = Aborted()
        self._pending: dict[int, _Pending] = {}
        self._applied, self._applied_end = log.saved.index, log.retention.start_offset

    def __repr__(self) -> str:
        return f"<Transactions open={len(self._open)} aborted={len(self.aborted)}>"

    @property
    def is_plain(self) -> bool:
        """Whether nothing is known of any transaction."""
        return not (self._open or self._markers or len(self.aborted))

    # How far what is read is decided

    @property
    def last_stable_offset(self) -> Offset:
        """Everything before is decided. After a start what is applied lags behind what is committed, and what
        was not applied yet may begin a transaction."""
        log = self._log
        end = log.high_watermark if self._applied >= log.commit_index else self._applied_end
        first = next(iter(self._open.values()), end)
        return Offset(max(min(first, end), log.retention.start_offset))

    def applied_to(self, index: RaftIndex, end: Offset) -> None:
        """Everything up to entry `index`, and so before offset `end`, has been applied."""
        self._applied, self._applied_end = index, end

    # What a leader may append

    def is_open(self, producer_id: int) -> bool:
        """Whether a transaction of the producer is open, given all that is in the log, committed or not."""
        pending = self._pending.get(producer_id)
        return pending.is_open if pending is not None else producer_id in self._open

    def check(self, marker: Marker, known_epoch: int) -> MarkerVerdict:
        """What becomes of a marker. `known_epoch` is the producer's here, -1 when it is not known.

        A decision is written also where no batch of the transaction came: a late copy of its marker would
        otherwise end the next transaction.
        """
        last = self._last_marker(marker.producer_id)
        is_by_hand = marker.decided_at == BY_HAND
        if not is_by_hand and marker.decided_at <= last.decided_at:
            return MarkerVerdict.DONE
        if marker.producer_epoch < known_epoch:
            return MarkerVerdict.PRODUCER_FENCED
        if marker.coordinator_epoch < last.coordinator_epoch:
            return MarkerVerdict.COORDINATOR_FENCED
        if is_by_hand and not self.is_open(marker.producer_id):
            return MarkerVerdict.DONE
        return MarkerVerdict.NEEDED

    def pending_index(self, producer_id: int) -> RaftIndex | None:
        """The last entry of a producer that is not committed yet."""
        pending = self._pending.get(producer_id)
        return None if pending is None else pending.index

    def batch_appended(self, producer_id: int, index: RaftIndex) -> None:
        """The leader appended a transactional batch."""
        self._pending[producer_id] = _Pending(index, True, self._last_marker(producer_id))

    def marker_appended(self, marker: Marker, index: RaftIndex) -> None:
        self._pending[marker.producer_id] = _Pending(index, False, self._ended_by(marker))

    def truncated(self) -> None:
        """The uncommitted tail is gone, or another leader's."""
        self._pending.clear()

    # What is committed

    def batch_committed(self, producer_id: int, base_offset: int, index: RaftIndex) -> None:
        """A transactional batch is committed: it begins a transaction, unless one is open."""
        self._open.setdefault(producer_id, base_offset)
        self._settle(producer_id, index)

    def marker_committed(self, marker: Marker, offset: int, index: RaftIndex) -> None:
        """The marker at `offset` is committed."""
        self._markers[marker.producer_id] = self._ended_by(marker)
        first = self._open.pop(marker.producer_id, None)
        if first is not None and not marker.is_commit:
            stable = min(next(iter(self._open.values()), offset + 1), offset + 1)
            self.aborted.add(AbortedTransaction(marker.producer_id, first, offset, stable))
        self._settle(marker.producer_id, index)

    def forget(self, producer_id: int) -> None:
        """The producer has been silent for long."""
        assert producer_id not in self._open, producer_id
        self._markers.pop(producer_id, None)

    def keeps(self, producer_id: int) -> bool:
        """Whether a producer must not be forgotten."""
        return producer_id in self._open

    def first_offset(self, producer_id: int) -> int:
        """Where the producer's open transaction begins; -1 where none is."""
        return self._open.get(producer_id, -1)

    def coordinator_epoch(self, producer_id: int) -> int:
        """Of who ended the producer's last transaction here; -1 where nobody did."""
        return self._markers.get(producer_id, _NO_MARKER).coordinator_epoch

    def _settle(self, producer_id: int, index: RaftIndex) -> None:
        pending = self._pending.get(producer_id)
        if pending is not None and pending.index <= index:
            del self._pending[producer_id]

    def _last_marker(self, producer_id: int) -> LastMarker:
        pending = self._pending.get(producer_id)
        return pending.last_marker if pending is not None else self._markers.get(producer_id, _NO_MARKER)

    def _ended_by(self, marker: Marker) -> LastMarker:
        """A marker by hand leaves what is known of decisions as it is."""
        last = self._last_marker(marker.producer_id)
        return LastMarker(
            max(marker.coordinator_epoch, last.coordinator_epoch), max(marker.decided_at, last.decided_at)
        )

    # Snapshots

    def to_bytes(self) -> bytes:
        """The committed view, for a snapshot."""
        return b"".join(
            (
                _COUNTS.pack(len(self._open), len(self._markers), len(self.aborted)),
                *(_OPEN.pack(*row) for row in self._open.items()),
                *(_MARKER.pack(producer_id, *last) for producer_id, last in self._markers.items()),
                self.aborted.to_bytes(),
            )
        )

    def restore(self, state: bytes) -> None:
        """Replace everything by what `to_bytes` gave; empty bytes mean that there was nothing."""
        self._open, self._markers, self.aborted = {}, {}, Aborted()
        self._pending.clear()
        if not state:
            return
        opened, markers, aborted = _COUNTS.unpack_from(state)
        first_marker = _COUNTS.size + opened * _OPEN.size
        first_aborted = first_marker + markers * _MARKER.size
        if len(state) != first_aborted + aborted * _ABORTED_SIZE:
            raise DamagedLog(f"{len(state)} bytes of transactions do not hold what they say")
        self._open = dict(_OPEN.iter_unpack(state[_COUNTS.size : first_marker]))
        self._markers = {
            producer_id: LastMarker(epoch, decided_at)
            for producer_id, epoch, decided_at in _MARKER.iter_unpack(state[first_marker:first_aborted])
        }
        self.aborted = Aborted.from_bytes(state[first_aborted:])
