"""The records of a benchmark: values that compress or do not, and keys."""

from __future__ import annotations

import json
import random
from typing import Final

_POOL_BYTES: Final = 8 * 1024 * 1024
_POOL_VALUES: Final = 1 << 16
"""Distinct values: more of them than a batch holds, so that repeating them helps no codec."""
_TEXT_LINES: Final = 10_000


def make_values(size: int, payload: str, rng: random.Random) -> list[bytes]:
    """Values of `size` bytes to be sent in turn: "random" does not compress, "text" does as JSON lines do."""
    count = min(_POOL_VALUES, max(16, _POOL_BYTES // max(size, 1)))
    if payload == "random":
        return [rng.randbytes(size) for _ in range(count)]
    lines = [
        json.dumps({"id": rng.randrange(10**9), "user": f"user-{rng.randrange(10**4)}", "text": "order" * 3})
        for _ in range(_TEXT_LINES)
    ]
    text = "\n".join(lines).encode()
    text *= 1 + 2 * size // len(text)
    starts = (rng.randrange(len(text) - size) for _ in range(count))
    return [text[start : start + size] for start in starts]


def make_keys(count: int, rng: random.Random) -> list[bytes | None]:
    """`count` keys in random order, each as often as any other; without keys the client spreads records."""
    if not count:
        return [None]
    keys: list[bytes | None] = [b"key-%d" % number for number in range(count)]
    rng.shuffle(keys)
    return keys
