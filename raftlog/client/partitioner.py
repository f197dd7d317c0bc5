"""Which partition a record goes to.

Pure: chance comes in as `rng`. A keyed record goes where the Java client would put it (murmur2 of the
key, by all partitions, whether they have a leader or not); a record without a key sticks to one partition
until a batch's worth of bytes went there, then to another that has a leader (KIP-480, KIP-794).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

Partitioner = Callable[[str, bytes | None, bytes | None, int], int]
"""A partitioner of the user's: `(topic, key, value, partition_count) -> partition`, a plain function."""

KEYS_CACHED_MAX: Final = 4096
"""Hashing is Python; keys repeat. 4096 short keys are about half a megabyte."""

_MASK: Final = 0xFFFFFFFF
_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash that Kafka's Java client uses, unsigned
    (org.apache.kafka.common.utils.Utils.murmur2)."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if length & 3:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


@lru_cache(maxsize=KEYS_CACHED_MAX)
def murmur2_partition(key: bytes, partitions: int) -> int:
    """Where the Java client's default partitioner puts a key among so many partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class Sticky:
    """The choice for one topic's records without a key."""

    __slots__ = ("_left", "_rng", "_stick_bytes", "partition")

    def __init__(self, stick_bytes: int, rng: random.Random) -> None:
        self._stick_bytes = stick_bytes
        self._rng = rng
        self._left = 0
        self.partition = -1

    def choose(self, available: Sequence[int], size: int) -> int:
        """The partition for a record of `size` bytes; `available` are those with a leader, never empty."""
        if self._left <= 0 or self.partition < 0:
            self.switch(available)
        self._left -= size
        return self.partition

    def switch(self, available: Sequence[int]) -> None:
        """Stick to another partition from now on, to the same when there is only one."""
        others = [p for p in available if p != self.partition] or available
        self.partition = self._rng.choice(others)
        self._left = self._stick_bytes

    def __repr__(self) -> str:
        return f"<Sticky partition={self.partition} bytes_left={self._left}>"
