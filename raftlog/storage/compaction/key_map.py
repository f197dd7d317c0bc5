"""At which offset each key was written last, in bounded memory."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

ENTRY_BYTES: Final = 162
"""What a key takes in the map: measured, with CPython 3.11. Keys are kept as digests of 16 bytes, so that
long ones cost no more; that two keys of a log share one takes 2⁶⁴ keys."""
_DIGEST_BYTES: Final = 16


class KeyMap:
    """Key → the last offset noted. `bytes_max` bounds it but for the batch that is being noted."""

    def __init__(self, bytes_max: int) -> None:
        self._entries_max = max(1, bytes_max // ENTRY_BYTES)
        self._offsets: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def is_full(self) -> bool:
        return len(self._offsets) >= self._entries_max

    def note(self, key: bytes, offset: int) -> None:
        """`offset` is above all that were noted before."""
        self._offsets[blake2b(key, digest_size=_DIGEST_BYTES).digest()] = offset

    def is_superseded(self, key: bytes, offset: int) -> bool:
        """Whether the key was written again behind `offset`."""
        last = self._offsets.get(blake2b(key, digest_size=_DIGEST_BYTES).digest())
        return last is not None and offset < last
