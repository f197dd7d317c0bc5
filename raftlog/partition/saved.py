"""What a partition knows of producers and transactions, as one blob in the log's snapshot.

A replica may be given a state that is newer than the point where its log begins, and then applies entries
that the state holds already. So the blob says which entry it stands at. Without transactions it is what older
builds write and read, the producers' part alone, in which every batch says where it lies.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from raftlog.errors import DamagedLog
from raftlog.types import RaftIndex

WITH_TRANSACTIONS: Final = 2
"""The first byte of a blob that has more than the producers' part."""

_HEAD: Final = struct.Struct(">BqI")
"""The format, the entry that the state stands at, the size of the producers' part, which comes next."""


class Saved(NamedTuple):
    """A blob, taken apart."""

    index: RaftIndex  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    """The entry that the state stands at; 0 where the blob does not say."""
    producers: bytes
    transactions: bytes


def join_state(index: RaftIndex, producers: bytes, transactions: bytes) -> bytes:
    """The blob; `transactions` is empty where nothing is known of any."""
    if not transactions:
        return producers
    return b"".join((_HEAD.pack(WITH_TRANSACTIONS, index, len(producers)), producers, transactions))


def split_state(state: bytes) -> Saved:
    """What `join_state` was given. Raises DamagedLog for a blob that is cut off."""
    if not state or state[0] != WITH_TRANSACTIONS:
        return Saved(RaftIndex(0), state, b"")
    if len(state) < _HEAD.size:
        raise DamagedLog(f"{len(state)} bytes are no saved state")
    _, index, size = _HEAD.unpack_from(state)
    end = _HEAD.size + size
    if len(state) <= end:
        raise DamagedLog(f"a saved state of {len(state)} bytes, {size} of them of producers")
    return Saved(RaftIndex(index), state[_HEAD.size : end], state[end:])
